// The three heads with their losses, and their gradients (src/ops/heads.rs).
//
// A workgroup makes one part: a run of up to RUN rows of one note, whose features stand one after the other in memory.
// The work is reading them, so it is done once and its result, three numbers a cell, goes straight into the losses.
//
// forward_naive: an invocation makes a cell.
// forward_workgroup: 16 invocations make 4 cells; neighbours read neighbouring features, and workgroup memory joins them.
// input_grad_naive, weight_grad_naive: an invocation makes a feature, of all cells or summed over them.
// input_grad_workgroup, weight_grad_workgroup: the logits' gradients of the part stand in workgroup memory, COLS lanes
// make features side by side and LANES / COLS such rows of lanes take turns at the cells.

// Of the features and their gradients.
alias S = f32;

const CHANNELS: u32 = 3u;
// Rows of a part.
const RUN: u32 = 128u;
const H: u32 = 1u;
// 1 where replay and dynamics count only where the target plays.
const MASKED: u32 = 1u;
const NAIVE_LANES: u32 = 64u;
const LANES: u32 = 256u;
// Invocations that share a cell, and cells of a workgroup at a time.
const SPLIT: u32 = 16u;
const CELLS: u32 = 64u;
// A power of two from 16 to LANES.
const COLS: u32 = 16u;
// One more than a row of partial sums, so that neighbours write to different banks.
const PITCH: u32 = CELLS * CHANNELS + 1u;

struct Forward {
    x_offset: u32,
    w_offset: u32,
    bias_offset: u32,
    target_offset: u32,
    weight_offset: u32,
    losses_offset: u32,
    slopes_offset: u32,
    // The block that this dispatch makes: runs and notes, from the first cell of which `x` and `slopes` are bound, and from
    // the first row of which `wanted` and `weight` are.
    first_run: u32,
    runs: u32,
    first_note: u32,
    note_count: u32,
    // All rows.
    rows: u32,
    notes: u32,
}
@group(0) @binding(0) var<uniform> p: Forward;
@group(0) @binding(1) var<storage, read> x: array<S>; // [note_count, rows, H]
@group(0) @binding(2) var<storage, read> w: array<f32>; // [H, 3]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [3]
@group(0) @binding(4) var<storage, read> wanted: array<f32>; // [row_count, N, 3]
@group(0) @binding(5) var<storage, read> weight: array<f32>; // [row_count]
@group(0) @binding(6) var<storage, read_write> losses: array<f32>; // [parts, 3]
@group(0) @binding(7) var<storage, read_write> slopes: array<f32>; // [note_count, rows, 3]

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
var<workgroup> sums: array<f32, RUN * CHANNELS>;

// Adds up the triples of `sums` of so many cells, a power of two; the total is the first. In uniform control flow.
fn join(lane: u32, lanes: u32, cells: u32) {
    for (var half = cells / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        for (var i = lane; i < half * CHANNELS; i += lanes) {
            sums[i] += sums[i + half * CHANNELS];
        }
    }
    workgroupBarrier();
}

// The weighted loss of one head in one cell of the part, whose slope it writes.
fn loss(part: Part, cell: u32, head: u32, logit: f32) -> f32 {
    let row = part.row + cell;
    let triple = p.target_offset + (row * p.notes + part.note) * CHANNELS;
    let y = wanted[triple + head];
    var scale = weight[p.weight_offset + row];
    if MASKED == 1u && head > 0u {
        scale *= wanted[triple];
    }
    let error = logit - y;
    let dynamics = head == 2u;
    let slope = select(sigmoid_(logit) - y, 2.0 * error, dynamics);
    slopes[p.slopes_offset + (part.first + cell) * CHANNELS + head] = scale * slope;
    return scale * select(softplus(logit) - y * logit, error * error, dynamics);
}

@compute @workgroup_size(RUN)
fn forward_naive(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, p.first_run, p.runs, p.first_note, p.note_count, p.rows);
    if part.cells == 0u {
        return;
    }
    var mine = vec3<f32>();
    if lane < part.cells {
        var logit = vec3<f32>(bias[p.bias_offset], bias[p.bias_offset + 1u], bias[p.bias_offset + 2u]);
        let first = p.x_offset + (part.first + lane) * H;
        for (var k = 0u; k < H; k++) {
            let at = p.w_offset + k * CHANNELS;
            logit += f32(x[first + k]) * vec3<f32>(w[at], w[at + 1u], w[at + 2u]);
        }
        mine = vec3<f32>(loss(part, lane, 0u, logit.x), loss(part, lane, 1u, logit.y), loss(part, lane, 2u, logit.z));
    }
    sums[lane * CHANNELS] = mine.x;
    sums[lane * CHANNELS + 1u] = mine.y;
    sums[lane * CHANNELS + 2u] = mine.z;
    join(lane, RUN, RUN);
    if lane < CHANNELS {
        losses[p.losses_offset + part.number * CHANNELS + lane] = sums[lane];
    }
}

// Partial sums of the logits of CELLS cells.
var<workgroup> partial: array<f32, SPLIT * PITCH>; // [SPLIT, CELLS, 3]

@compute @workgroup_size(LANES)
fn forward_workgroup(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, p.first_run, p.runs, p.first_note, p.note_count, p.rows);
    if part.cells == 0u {
        return;
    }
    let head = lane % CHANNELS;
    var mine = 0.0;
    for (var chunk = 0u; chunk < part.cells; chunk += CELLS) {
        // Four cells a lane, a quarter of the chunk apart; past the part's last cell, that one again.
        let cell = lane / SPLIT;
        let last = part.cells - 1u;
        let apart = CELLS / 4u;
        let first0 = p.x_offset + (part.first + min(chunk + cell, last)) * H;
        let first1 = p.x_offset + (part.first + min(chunk + cell + apart, last)) * H;
        let first2 = p.x_offset + (part.first + min(chunk + cell + 2u * apart, last)) * H;
        let first3 = p.x_offset + (part.first + min(chunk + cell + 3u * apart, last)) * H;
        var sum0 = vec3<f32>();
        var sum1 = vec3<f32>();
        var sum2 = vec3<f32>();
        var sum3 = vec3<f32>();
        for (var k = lane % SPLIT; k < H; k += SPLIT) {
            let at = p.w_offset + k * CHANNELS;
            let column = vec3<f32>(w[at], w[at + 1u], w[at + 2u]);
            sum0 += f32(x[first0 + k]) * column;
            sum1 += f32(x[first1 + k]) * column;
            sum2 += f32(x[first2 + k]) * column;
            sum3 += f32(x[first3 + k]) * column;
        }
        let to = (lane % SPLIT) * PITCH + cell * CHANNELS;
        put(to, sum0);
        put(to + apart * CHANNELS, sum1);
        put(to + 2u * apart * CHANNELS, sum2);
        put(to + 3u * apart * CHANNELS, sum3);
        workgroupBarrier();
        let summed = chunk + lane / CHANNELS;
        if lane < CELLS * CHANNELS && summed < part.cells {
            var logit = bias[p.bias_offset + head];
            for (var i = 0u; i < SPLIT; i++) {
                logit += partial[i * PITCH + lane];
            }
            mine += loss(part, summed, head, logit);
        }
        workgroupBarrier();
    }
    if lane < CELLS * CHANNELS {
        sums[lane] = mine;
    }
    join(lane, LANES, CELLS);
    if lane < CHANNELS {
        losses[p.losses_offset + part.number * CHANNELS + lane] = sums[lane];
    }
}

fn put(at: u32, value: vec3<f32>) {
    partial[at] = value.x;
    partial[at + 1u] = value.y;
    partial[at + 2u] = value.z;
}

struct InputGrad {
    w_offset: u32,
    slopes_offset: u32,
    dlosses_offset: u32,
    dx_offset: u32,
    first_run: u32,
    runs: u32,
    first_note: u32,
    note_count: u32,
    rows: u32,
}
@group(0) @binding(0) var<uniform> q: InputGrad;
@group(0) @binding(1) var<storage, read> q_w: array<f32>; // [H, 3]
@group(0) @binding(2) var<storage, read> q_slopes: array<f32>; // [note_count, rows, 3]
@group(0) @binding(3) var<storage, read> dlosses: array<f32>; // [parts, 3]
@group(0) @binding(4) var<storage, read_write> dx: array<S>; // [note_count, rows, H]

fn triple_of_dlosses(at: u32) -> vec3<f32> {
    return vec3<f32>(dlosses[at], dlosses[at + 1u], dlosses[at + 2u]);
}

fn triple_of_slopes(at: u32) -> vec3<f32> {
    return vec3<f32>(q_slopes[at], q_slopes[at + 1u], q_slopes[at + 2u]);
}

@compute @workgroup_size(NAIVE_LANES)
fn input_grad_naive(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, q.first_run, q.runs, q.first_note, q.note_count, q.rows);
    if part.cells == 0u {
        return;
    }
    let scale = triple_of_dlosses(q.dlosses_offset + part.number * CHANNELS);
    for (var j = lane; j < H; j += NAIVE_LANES) {
        let at = q.w_offset + j * CHANNELS;
        let column = vec3<f32>(q_w[at], q_w[at + 1u], q_w[at + 2u]);
        for (var cell = part.first; cell < part.first + part.cells; cell++) {
            let d = triple_of_slopes(q.slopes_offset + cell * CHANNELS) * scale;
            dx[q.dx_offset + cell * H + j] = S(dot(d, column));
        }
    }
}

// The gradients of the part's logits.
var<workgroup> dlogits: array<f32, RUN * CHANNELS>; // [RUN, 3]

fn triple_of_dlogits(cell: u32) -> vec3<f32> {
    return vec3<f32>(dlogits[cell * CHANNELS], dlogits[cell * CHANNELS + 1u], dlogits[cell * CHANNELS + 2u]);
}

@compute @workgroup_size(LANES)
fn input_grad_workgroup(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, q.first_run, q.runs, q.first_note, q.note_count, q.rows);
    if part.cells == 0u {
        return;
    }
    for (var i = lane; i < part.cells * CHANNELS; i += LANES) {
        let scale = dlosses[q.dlosses_offset + part.number * CHANNELS + i % CHANNELS];
        dlogits[i] = q_slopes[q.slopes_offset + part.first * CHANNELS + i] * scale;
    }
    workgroupBarrier();
    for (var j = lane % COLS; j < H; j += COLS) {
        let at = q.w_offset + j * CHANNELS;
        let column = vec3<f32>(q_w[at], q_w[at + 1u], q_w[at + 2u]);
        for (var cell = lane / COLS; cell < part.cells; cell += LANES / COLS) {
            dx[q.dx_offset + (part.first + cell) * H + j] = S(dot(triple_of_dlogits(cell), column));
        }
    }
}

struct WeightGrad {
    x_offset: u32,
    slopes_offset: u32,
    dlosses_offset: u32,
    dw_offset: u32,
    dbias_offset: u32,
    first_run: u32,
    runs: u32,
    first_note: u32,
    note_count: u32,
    rows: u32,
}
// `x`, `q_slopes` and `dlosses` are bound as above.
@group(0) @binding(0) var<uniform> g: WeightGrad;
@group(0) @binding(4) var<storage, read_write> dw: array<f32>; // [parts, H, 3]
@group(0) @binding(5) var<storage, read_write> dbias: array<f32>; // [parts, 3]

@compute @workgroup_size(NAIVE_LANES)
fn weight_grad_naive(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, g.first_run, g.runs, g.first_note, g.note_count, g.rows);
    if part.cells == 0u {
        return;
    }
    let scale = triple_of_dlosses(g.dlosses_offset + part.number * CHANNELS);
    // One past the last feature stands for the bias.
    for (var j = lane; j <= H; j += NAIVE_LANES) {
        var sum = vec3<f32>();
        for (var cell = part.first; cell < part.first + part.cells; cell++) {
            let d = triple_of_slopes(g.slopes_offset + cell * CHANNELS) * scale;
            // Read where there is no such feature, the first.
            let feature = f32(x[g.x_offset + cell * H + j % H]);
            sum += d * select(1.0, feature, j < H);
        }
        write_sum(part.number, j, sum);
    }
}

// Sums of a feature's three gradients over the cells that a lane took.
var<workgroup> lanes: array<vec3<f32>, LANES>; // [LANES / COLS, COLS]

@compute @workgroup_size(LANES)
fn weight_grad_workgroup(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let part = part_of(group, g.first_run, g.runs, g.first_note, g.note_count, g.rows);
    if part.cells == 0u {
        return;
    }
    for (var i = lane; i < RUN * CHANNELS; i += LANES) {
        var d = 0.0;
        if i < part.cells * CHANNELS {
            let scale = dlosses[g.dlosses_offset + part.number * CHANNELS + i % CHANNELS];
            d = q_slopes[g.slopes_offset + part.first * CHANNELS + i] * scale;
        }
        dlogits[i] = d;
        sums[i] = d;
    }
    join(lane, LANES, RUN);
    if lane < CHANNELS {
        dbias[g.dbias_offset + part.number * CHANNELS + lane] = sums[lane];
    }
    for (var first = 0u; first < H; first += COLS) {
        let j = first + lane % COLS;
        var sum = vec3<f32>();
        if j < H {
            for (var cell = lane / COLS; cell < part.cells; cell += LANES / COLS) {
                sum += triple_of_dlogits(cell) * f32(x[g.x_offset + (part.first + cell) * H + j]);
            }
        }
        lanes[lane] = sum;
        for (var half = LANES / 2u; half >= COLS; half /= 2u) {
            workgroupBarrier();
            if lane < half {
                lanes[lane] += lanes[lane + half];
            }
        }
        if lane < COLS && j < H {
            write_sum(part.number, j, lanes[lane]);
        }
        // The next features come when all of these are written.
        workgroupBarrier();
    }
}

fn write_sum(part: u32, feature: u32, sum: vec3<f32>) {
    if feature < H {
        let at = g.dw_offset + (part * H + feature) * CHANNELS;
        dw[at] = sum.x;
        dw[at + 1u] = sum.y;
        dw[at + 2u] = sum.z;
    } else {
        let at = g.dbias_offset + part * CHANNELS;
        dbias[at] = sum.x;
        dbias[at + 1u] = sum.y;
        dbias[at + 2u] = sum.z;
    }
}
