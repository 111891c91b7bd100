// Softmax cross-entropy of a binned channel, and its gradient (src/ops/softmax_loss.rs).
//
// A workgroup makes one part, a run of up to RUN rows of one note. Few cells count, those where the target plays, so no logit
// of another is read. Forward, one invocation makes a whole cell. Backward, where most of the work is writing zeros, all
// invocations of a workgroup make one cell after the other, side by side.

// Rows of a part, and invocations of a workgroup.
const RUN: u32 = 128u;

struct Forward {
    z_offset: u32,
    target_offset: u32,
    weight_offset: u32,
    losses_offset: u32,
    // The block that this dispatch makes: runs and notes, from the first cell of which `z` is bound, and from the first row of
    // which `wanted` and `weight` are.
    first_run: u32,
    runs: u32,
    first_note: u32,
    note_count: u32,
    // All rows and notes.
    rows: u32,
    notes: u32,
    bins: u32,
    channels: u32,
    channel: u32,
    masked: u32,
}
@group(0) @binding(0) var<uniform> p: Forward;
@group(0) @binding(1) var<storage, read> z: array<f32>; // [note_count, rows, K]
@group(0) @binding(2) var<storage, read> wanted: array<f32>; // [row_count, N, C]
@group(0) @binding(3) var<storage, read> weight: array<f32>; // [row_count, C]
@group(0) @binding(4) var<storage, read_write> losses: array<f32>; // [parts]

// What a cell counts, and its bin.
struct Cell {
    scale: f32,
    bin: u32,
}

fn cell_of(at: u32, weight: f32, bins: u32, channel: u32, masked: u32) -> Cell {
    let scale = select(weight, weight * wanted[at], masked == 1u);
    let bin = max(wanted[at + channel] * f32(bins - 1u) + 0.5, 0.0);
    return Cell(scale, min(u32(bin), bins - 1u));
}

// The largest of a cell's logits.
fn largest(first: u32, bins: u32) -> f32 {
    var value = z[first];
    for (var k = 1u; k < bins; k++) {
        value = max(value, z[first + k]);
    }
    return value;
}

// The sum of e^(z - largest) over a cell's logits.
fn sum_of_exponentials(first: u32, bins: u32, most: f32) -> f32 {
    var sum = 0.0;
    for (var k = 0u; k < bins; k++) {
        sum += exp(max(z[first + k] - most, -80.0));
    }
    return sum;
}

var<workgroup> sums: array<f32, RUN>;

@compute @workgroup_size(RUN)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let note = group / p.runs;
    if note >= p.note_count {
        return;
    }
    let run = group % p.runs;
    let row = run * RUN + invocation;
    var loss = 0.0;
    if (p.first_run + run) * RUN + invocation < p.rows {
        let at = p.target_offset + (row * p.notes + p.first_note + note) * p.channels;
        let cell = cell_of(at, weight[p.weight_offset + row * p.channels + p.channel], p.bins, p.channel, p.masked);
        if cell.scale != 0.0 {
            let first = p.z_offset + (note * p.rows + row) * p.bins;
            let most = largest(first, p.bins);
            loss = cell.scale * (log(sum_of_exponentials(first, p.bins, most)) + most - z[first + cell.bin]);
        }
    }
    sums[invocation] = loss;
    for (var half = RUN / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if invocation < half {
            sums[invocation] += sums[invocation + half];
        }
    }
    if invocation == 0u {
        let part = (p.first_note + note) * ((p.rows + RUN - 1u) / RUN) + p.first_run + run;
        losses[p.losses_offset + part] = sums[0];
    }
}

struct Backward {
    z_offset: u32,
    target_offset: u32,
    weight_offset: u32,
    dlosses_offset: u32,
    dz_offset: u32,
    first_run: u32,
    runs: u32,
    first_note: u32,
    note_count: u32,
    rows: u32,
    notes: u32,
    bins: u32,
    channels: u32,
    channel: u32,
    masked: u32,
}
// `z`, `wanted` and `weight` are bound as above.
@group(0) @binding(0) var<uniform> q: Backward;
@group(0) @binding(4) var<storage, read> dlosses: array<f32>; // [parts]
@group(0) @binding(5) var<storage, read_write> dz: array<f32>; // [note_count, rows, K]

@compute @workgroup_size(RUN)
fn backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let note = group / q.runs;
    if note >= q.note_count {
        return;
    }
    let run = group % q.runs;
    let cells = min(RUN, q.rows - (q.first_run + run) * RUN);
    let part = (q.first_note + note) * ((q.rows + RUN - 1u) / RUN) + q.first_run + run;
    let dloss = dlosses[q.dlosses_offset + part];
    for (var i = 0u; i < cells; i++) {
        let row = run * RUN + i;
        let at = q.target_offset + (row * q.notes + q.first_note + note) * q.channels;
        let cell = cell_of(at, weight[q.weight_offset + row * q.channels + q.channel], q.bins, q.channel, q.masked);
        let scale = cell.scale * dloss;
        let first = (note * q.rows + row) * q.bins;
        var most = 0.0;
        var sum = 1.0;
        // The same for all invocations, which read the same logits at the same time.
        if scale != 0.0 {
            most = largest(q.z_offset + first, q.bins);
            sum = sum_of_exponentials(q.z_offset + first, q.bins, most);
        }
        for (var k = invocation; k < q.bins; k += RUN) {
            var value = 0.0;
            if scale != 0.0 {
                let probability = exp(max(z[q.z_offset + first + k] - most, -80.0)) / sum;
                value = scale * (probability - select(0.0, 1.0, k == cell.bin));
            }
            dz[q.dz_offset + first + k] = value;
        }
    }
}
