// The heads with their losses, and their gradients (src/ops/heads.rs).
//
// A workgroup makes one part: a run of up to RUN rows of one note, whose features stand one after the other in memory.
// The work is reading them, so it is done once and its result, two or three numbers a cell, goes straight into the losses.
//
// forward_naive: an invocation makes a cell.
// forward_workgroup: 16 invocations make 4 cells; neighbours read neighbouring features, and workgroup memory joins them.
// input_grad_naive, weight_grad_naive: an invocation makes a feature, of all cells or summed over them.
// input_grad_workgroup, weight_grad_workgroup: the logits' gradients of the part stand in workgroup memory, COLS
// invocations make features side by side and INVOCATIONS / COLS such rows of invocations take turns at the cells.

// Of the features and their gradients.
alias S = f32;

// 1 where there are two heads, 0 where there are three.
const TWO: u32 = 0u;
// Heads of a cell. Vectors have a number for each; the last is 0 where there are two.
const C: u32 = 3u - TWO;
// Values of a cell of the target, of which the heads predict the first C.
const CHANNELS: u32 = 3u;
// Rows of a part.
const RUN: u32 = 128u;
const H: u32 = 1u;
// 1 where features are dropped.
const DROPS: u32 = 0u;
// The heads, a bit each, that count only where the target plays, and those whose loss is a squared error.
const MASKED: u32 = 6u;
const SQUARED: u32 = 4u;
const NAIVE_INVOCATIONS: u32 = 64u;
const INVOCATIONS: u32 = 256u;
// Invocations that share a cell, and cells of a workgroup at a time.
const SPLIT: u32 = 16u;
const CELLS: u32 = 64u;
// A power of two from 16 to INVOCATIONS.
const COLS: u32 = 16u;
// One more than a row of partial sums, so that neighbours write to different banks.
const PITCH: u32 = CELLS * C + 1u;

struct Forward {
    x_offset: u32,
    w_offset: u32,
    bias_offset: u32,
    target_offset: u32,
    weight_offset: u32,
    losses_offset: u32,
    logit_grads_offset: u32,
    // The block that this dispatch makes: runs and notes, from the first cell of which `x` and `logit_grads` are bound, and from
    // the first row of which `wanted` and `weight` are.
    first_run: u32,
    runs: u32,
    first_note: u32,
    note_count: u32,
    // All rows and notes.
    rows: u32,
    notes: u32,
    // Elements of a batch slot, and arguments of `keep_mask`.
    inner: u32,
    site: u32,
    rate: f32,
    kept: f32,
}
@group(0) @binding(0) var<uniform> p: Forward;
@group(0) @binding(1) var<storage, read> x: array<S>; // [note_count, rows, H]
@group(0) @binding(2) var<storage, read> w: array<f32>; // [H, C]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [C]
@group(0) @binding(4) var<storage, read> wanted: array<f32>; // [row_count, N, CHANNELS]
@group(0) @binding(5) var<storage, read> weight: array<f32>; // [row_count, CHANNELS]
@group(0) @binding(6) var<storage, read_write> losses: array<f32>; // [parts, C]
@group(0) @binding(7) var<storage, read_write> logit_grads: array<f32>; // [note_count, rows, C]

@group(1) @binding(0) var<uniform> uniforms: Uniforms;

// The factor of a feature, by its place behind the first cell that is bound and that cell's number.
fn mask(first: u32, place: u32, inner: u32, site: u32, rate: f32, kept: f32) -> f32 {
    let index = in_whole_batch(first * H + place, inner, uniforms.first_slot, uniforms.slots, uniforms.all_slots);
    return keep_mask(index, site, rate, kept, uniforms.seed, uniforms.update);
}

fn feature(place: u32) -> f32 {
    var value = f32(x[p.x_offset + place]);
    value *= mask(p.first_note * p.rows + p.first_run * RUN, place, p.inner, p.site, p.rate, p.kept); // if DROPS
    return value;
}

fn w_of(at: u32) -> vec3<f32> {
    return vec3<f32>(w[at], w[at + 1u], w[at + 2u]); // unless TWO
    return vec3<f32>(w[at], w[at + 1u], 0.0); // if TWO
}

fn bias_of(at: u32) -> vec3<f32> {
    return vec3<f32>(bias[at], bias[at + 1u], bias[at + 2u]); // unless TWO
    return vec3<f32>(bias[at], bias[at + 1u], 0.0); // if TWO
}

// What a workgroup makes.
struct Part {
    // Its number among all parts.
    number: u32,
    // Its first row among those that are bound.
    row: u32,
    // Its note among all notes.
    note: u32,
    // Its first cell among those that are bound, and how many it has: none where the group is surplus.
    first: u32,
    cells: u32,
}

fn part_of(group: u32, first_run: u32, runs: u32, first_note: u32, note_count: u32, rows: u32) -> Part {
    let run = group % runs;
    let note = group / runs;
    let row = (first_run + run) * RUN;
    let number = (first_note + note) * ((rows + RUN - 1u) / RUN) + first_run + run;
    let cells = select(0u, min(RUN, rows - row), note < note_count);
    return Part(number, run * RUN, first_note + note, note * rows + run * RUN, cells);
}

// Sums of a cell or of many, head by head.
var<workgroup> sums: array<f32, RUN * C>;

// Adds up the C numbers of `sums` of so many cells, a power of two; the total is the first. In uniform control flow.
fn join(invocation: u32, invocations: u32, cells: u32) {
    for (var half = cells / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        for (var i = invocation; i < half * C; i += invocations) {
            sums[i] += sums[i + half * C];
        }
    }
    workgroupBarrier();
}

// The weighted loss of one head in one cell of the part, whose logit's gradient it writes.
fn loss(part: Part, cell: u32, head: u32, logit: f32) -> f32 {
    let row = part.row + cell;
    let play = p.target_offset + (row * p.notes + part.note) * CHANNELS;
    let y = wanted[play + head];
    var scale = weight[p.weight_offset + row * CHANNELS + head];
    if ((MASKED >> head) & 1u) == 1u {
        scale *= wanted[play];
    }
    let error = logit - y;
    let squared = ((SQUARED >> head) & 1u) == 1u;
    let grad = select(sigmoid_(logit) - y, 2.0 * error, squared);
    logit_grads[p.logit_grads_offset + (part.first + cell) * C + head] = scale * grad;
    return scale * select(softplus(logit) - y * logit, error * error, squared);
}

@compute @workgroup_size(RUN)
fn forward_naive(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, p.first_run, p.runs, p.first_note, p.note_count, p.rows);
    if part.cells == 0u {
        return;
    }
    var mine = vec3<f32>();
    if invocation < part.cells {
        var logit = bias_of(p.bias_offset);
        let first = (part.first + invocation) * H;
        for (var k = 0u; k < H; k++) {
            logit += feature(first + k) * w_of(p.w_offset + k * C);
        }
        mine.x = loss(part, invocation, 0u, logit.x);
        mine.y = loss(part, invocation, 1u, logit.y);
        mine.z = loss(part, invocation, 2u, logit.z); // unless TWO
    }
    sums[invocation * C] = mine.x;
    sums[invocation * C + 1u] = mine.y;
    sums[invocation * C + 2u] = mine.z; // unless TWO
    join(invocation, RUN, RUN);
    if invocation < C {
        losses[p.losses_offset + part.number * C + invocation] = sums[invocation];
    }
}

// Partial sums of the logits of CELLS cells.
var<workgroup> partial: array<f32, SPLIT * PITCH>; // [SPLIT, CELLS, C]

@compute @workgroup_size(INVOCATIONS)
fn forward_workgroup(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, p.first_run, p.runs, p.first_note, p.note_count, p.rows);
    if part.cells == 0u {
        return;
    }
    let head = invocation % C;
    var mine = 0.0;
    for (var chunk = 0u; chunk < part.cells; chunk += CELLS) {
        // Four cells an invocation, a quarter of the chunk apart; past the part's last cell, that one again.
        let cell = invocation / SPLIT;
        let last = part.cells - 1u;
        let apart = CELLS / 4u;
        let first0 = (part.first + min(chunk + cell, last)) * H;
        let first1 = (part.first + min(chunk + cell + apart, last)) * H;
        let first2 = (part.first + min(chunk + cell + 2u * apart, last)) * H;
        let first3 = (part.first + min(chunk + cell + 3u * apart, last)) * H;
        var sum0 = vec3<f32>();
        var sum1 = vec3<f32>();
        var sum2 = vec3<f32>();
        var sum3 = vec3<f32>();
        for (var k = invocation % SPLIT; k < H; k += SPLIT) {
            let column = w_of(p.w_offset + k * C);
            sum0 += feature(first0 + k) * column;
            sum1 += feature(first1 + k) * column;
            sum2 += feature(first2 + k) * column;
            sum3 += feature(first3 + k) * column;
        }
        let to = (invocation % SPLIT) * PITCH + cell * C;
        put(to, sum0);
        put(to + apart * C, sum1);
        put(to + 2u * apart * C, sum2);
        put(to + 3u * apart * C, sum3);
        workgroupBarrier();
        let summed = chunk + invocation / C;
        if invocation < CELLS * C && summed < part.cells {
            var logit = bias[p.bias_offset + head];
            for (var i = 0u; i < SPLIT; i++) {
                logit += partial[i * PITCH + invocation];
            }
            mine += loss(part, summed, head, logit);
        }
        workgroupBarrier();
    }
    if invocation < CELLS * C {
        sums[invocation] = mine;
    }
    join(invocation, INVOCATIONS, CELLS);
    if invocation < C {
        losses[p.losses_offset + part.number * C + invocation] = sums[invocation];
    }
}

fn put(at: u32, value: vec3<f32>) {
    partial[at] = value.x;
    partial[at + 1u] = value.y;
    partial[at + 2u] = value.z; // unless TWO
}

struct InputGrad {
    w_offset: u32,
    logit_grads_offset: u32,
    dlosses_offset: u32,
    dx_offset: u32,
    first_run: u32,
    runs: u32,
    first_note: u32,
    note_count: u32,
    rows: u32,
    notes: u32,
    inner: u32,
    site: u32,
    rate: f32,
    kept: f32,
}
@group(0) @binding(0) var<uniform> q: InputGrad;
@group(0) @binding(1) var<storage, read> q_w: array<f32>; // [H, C]
@group(0) @binding(2) var<storage, read> q_logit_grads: array<f32>; // [note_count, rows, C]
@group(0) @binding(3) var<storage, read> dlosses: array<f32>; // [parts, C]
@group(0) @binding(4) var<storage, read_write> dx: array<S>; // [note_count, rows, H]

fn put_grad(place: u32, grad: f32) {
    var value = grad;
    value *= mask(q.first_note * q.rows + q.first_run * RUN, place, q.inner, q.site, q.rate, q.kept); // if DROPS
    dx[q.dx_offset + place] = S(value);
}

fn q_w_of(at: u32) -> vec3<f32> {
    return vec3<f32>(q_w[at], q_w[at + 1u], q_w[at + 2u]); // unless TWO
    return vec3<f32>(q_w[at], q_w[at + 1u], 0.0); // if TWO
}

fn dlosses_of(at: u32) -> vec3<f32> {
    return vec3<f32>(dlosses[at], dlosses[at + 1u], dlosses[at + 2u]); // unless TWO
    return vec3<f32>(dlosses[at], dlosses[at + 1u], 0.0); // if TWO
}

fn logit_grads_of(at: u32) -> vec3<f32> {
    return vec3<f32>(q_logit_grads[at], q_logit_grads[at + 1u], q_logit_grads[at + 2u]); // unless TWO
    return vec3<f32>(q_logit_grads[at], q_logit_grads[at + 1u], 0.0); // if TWO
}

@compute @workgroup_size(NAIVE_INVOCATIONS)
fn input_grad_naive(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, q.first_run, q.runs, q.first_note, q.note_count, q.rows);
    if part.cells == 0u {
        return;
    }
    let scale = dlosses_of(q.dlosses_offset + part.number * C);
    for (var j = invocation; j < H; j += NAIVE_INVOCATIONS) {
        let column = q_w_of(q.w_offset + j * C);
        for (var cell = part.first; cell < part.first + part.cells; cell++) {
            let d = logit_grads_of(q.logit_grads_offset + cell * C) * scale;
            put_grad(cell * H + j, dot(d, column));
        }
    }
}

// The gradients of the part's logits.
var<workgroup> dlogits: array<f32, RUN * C>; // [RUN, C]

fn dlogits_of(cell: u32) -> vec3<f32> {
    let at = cell * C;
    return vec3<f32>(dlogits[at], dlogits[at + 1u], dlogits[at + 2u]); // unless TWO
    return vec3<f32>(dlogits[at], dlogits[at + 1u], 0.0); // if TWO
}

@compute @workgroup_size(INVOCATIONS)
fn input_grad_workgroup(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, q.first_run, q.runs, q.first_note, q.note_count, q.rows);
    if part.cells == 0u {
        return;
    }
    for (var i = invocation; i < part.cells * C; i += INVOCATIONS) {
        let scale = dlosses[q.dlosses_offset + part.number * C + i % C];
        dlogits[i] = q_logit_grads[q.logit_grads_offset + part.first * C + i] * scale;
    }
    workgroupBarrier();
    for (var j = invocation % COLS; j < H; j += COLS) {
        let column = q_w_of(q.w_offset + j * C);
        for (var cell = invocation / COLS; cell < part.cells; cell += INVOCATIONS / COLS) {
            put_grad((part.first + cell) * H + j, dot(dlogits_of(cell), column));
        }
    }
}

struct WeightGrad {
    x_offset: u32,
    logit_grads_offset: u32,
    dlosses_offset: u32,
    dw_offset: u32,
    dbias_offset: u32,
    first_run: u32,
    runs: u32,
    first_note: u32,
    note_count: u32,
    rows: u32,
    notes: u32,
    inner: u32,
    site: u32,
    rate: f32,
    kept: f32,
}
// `x`, `q_logit_grads` and `dlosses` are bound as above.
@group(0) @binding(0) var<uniform> g: WeightGrad;
@group(0) @binding(4) var<storage, read_write> dw: array<f32>; // [parts, H, C]
@group(0) @binding(5) var<storage, read_write> dbias: array<f32>; // [parts, C]

fn g_feature(place: u32) -> f32 {
    var value = f32(x[g.x_offset + place]);
    value *= mask(g.first_note * g.rows + g.first_run * RUN, place, g.inner, g.site, g.rate, g.kept); // if DROPS
    return value;
}

@compute @workgroup_size(NAIVE_INVOCATIONS)
fn weight_grad_naive(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, g.first_run, g.runs, g.first_note, g.note_count, g.rows);
    if part.cells == 0u {
        return;
    }
    let scale = dlosses_of(g.dlosses_offset + part.number * C);
    // One past the last feature stands for the bias.
    for (var j = invocation; j <= H; j += NAIVE_INVOCATIONS) {
        var sum = vec3<f32>();
        for (var cell = part.first; cell < part.first + part.cells; cell++) {
            let d = logit_grads_of(g.logit_grads_offset + cell * C) * scale;
            // Read where there is no such feature, the first.
            sum += d * select(1.0, g_feature(cell * H + j % H), j < H);
        }
        write_sum(part.number, j, sum);
    }
}

// Sums of a feature's gradients, head by head, over the cells that an invocation took.
var<workgroup> invocations: array<vec3<f32>, INVOCATIONS>; // [INVOCATIONS / COLS, COLS]

@compute @workgroup_size(INVOCATIONS)
fn weight_grad_workgroup(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, g.first_run, g.runs, g.first_note, g.note_count, g.rows);
    if part.cells == 0u {
        return;
    }
    for (var i = invocation; i < RUN * C; i += INVOCATIONS) {
        var d = 0.0;
        if i < part.cells * C {
            let scale = dlosses[g.dlosses_offset + part.number * C + i % C];
            d = q_logit_grads[g.logit_grads_offset + part.first * C + i] * scale;
        }
        dlogits[i] = d;
        sums[i] = d;
    }
    join(invocation, INVOCATIONS, RUN);
    if invocation < C {
        dbias[g.dbias_offset + part.number * C + invocation] = sums[invocation];
    }
    for (var first = 0u; first < H; first += COLS) {
        let j = first + invocation % COLS;
        var sum = vec3<f32>();
        if j < H {
            for (var cell = invocation / COLS; cell < part.cells; cell += INVOCATIONS / COLS) {
                sum += dlogits_of(cell) * g_feature((part.first + cell) * H + j);
            }
        }
        invocations[invocation] = sum;
        for (var half = INVOCATIONS / 2u; half >= COLS; half /= 2u) {
            workgroupBarrier();
            if invocation < half {
                invocations[invocation] += invocations[invocation + half];
            }
        }
        if invocation < COLS && j < H {
            write_sum(part.number, j, invocations[invocation]);
        }
        // The next features come when all of these are written.
        workgroupBarrier();
    }
}

fn write_sum(part: u32, feature: u32, sum: vec3<f32>) {
    if feature < H {
        let at = g.dw_offset + (part * H + feature) * C;
        dw[at] = sum.x;
        dw[at + 1u] = sum.y;
        dw[at + 2u] = sum.z; // unless TWO
    } else {
        let at = g.dbias_offset + part * C;
        dbias[at] = sum.x;
        dbias[at + 1u] = sum.y;
        dbias[at + 2u] = sum.z; // unless TWO
    }
}
