// The three losses from logits, and their gradient (src/ops/loss.rs).
//
// Forward, one invocation sums one row over its notes in their order: 3 values a cell are little beside the activations,
// so the strided reads of the targets are left as they are. Backward, one invocation makes the three gradients of one
// cell.

const CHANNELS: u32 = 3u;

struct Forward {
    logits_offset: u32,
    target_offset: u32,
    weight_offset: u32,
    losses_offset: u32,
    // The block that this dispatch makes: its rows, of which all but `logits` are bound with all notes, and
    // its notes, from the first of which on `logits` is bound.
    first_row: u32,
    row_count: u32,
    first_note: u32,
    note_count: u32,
    // All rows and notes.
    rows: u32,
    notes: u32,
    // 1 where replay and dynamics count only where the target plays.
    masked: u32,
}
@group(0) @binding(0) var<uniform> p: Forward;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [note_count, rows, 3]
@group(0) @binding(2) var<storage, read> wanted: array<f32>; // [row_count, N, 3]
@group(0) @binding(3) var<storage, read> weight: array<f32>; // [row_count]
@group(0) @binding(4) var<storage, read_write> losses: array<f32>; // [row_count, 3]

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_number(workgroup_id, num_workgroups) * 64u + lane;
    if row >= p.row_count {
        return;
    }
    var sums = vec3<f32>();
    for (var n = 0u; n < p.note_count; n++) {
        let l = p.logits_offset + (n * p.rows + row) * CHANNELS;
        let w = p.target_offset + (row * p.notes + p.first_note + n) * CHANNELS;
        let logit = vec3<f32>(logits[l], logits[l + 1u], logits[l + 2u]);
        let y = vec3<f32>(wanted[w], wanted[w + 1u], wanted[w + 2u]);
        let mask = select(1.0, y.x, p.masked == 1u);
        let error = logit.z - y.z;
        sums.x += softplus(logit.x) - y.x * logit.x;
        sums.y += mask * (softplus(logit.y) - y.y * logit.y);
        sums.z += mask * error * error;
    }
    sums *= weight[p.weight_offset + row];
    let at = p.losses_offset + row * CHANNELS;
    // Another dispatch has summed the notes before.
    if p.first_note > 0u {
        sums += vec3<f32>(losses[at], losses[at + 1u], losses[at + 2u]);
    }
    losses[at] = sums.x;
    losses[at + 1u] = sums.y;
    losses[at + 2u] = sums.z;
}

struct Backward {
    logits_offset: u32,
    target_offset: u32,
    weight_offset: u32,
    dlosses_offset: u32,
    dlogits_offset: u32,
    first_row: u32,
    row_count: u32,
    first_note: u32,
    note_count: u32,
    rows: u32,
    notes: u32,
    masked: u32,
}
@group(0) @binding(0) var<uniform> q: Backward;
@group(0) @binding(4) var<storage, read> dlosses: array<f32>; // [row_count, 3]
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>; // [note_count, rows, 3]

@compute @workgroup_size(64)
fn backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 64u + lane;
    let row = i % q.row_count;
    let n = i / q.row_count;
    if n >= q.note_count {
        return;
    }
    let l = q.logits_offset + (n * q.rows + row) * CHANNELS;
    let w = q.target_offset + (row * q.notes + q.first_note + n) * CHANNELS;
    let s = q.dlosses_offset + row * CHANNELS;
    let logit = vec3<f32>(logits[l], logits[l + 1u], logits[l + 2u]);
    let y = vec3<f32>(wanted[w], wanted[w + 1u], wanted[w + 2u]);
    let scale = vec3<f32>(dlosses[s], dlosses[s + 1u], dlosses[s + 2u]) * weight[q.weight_offset + row];
    let mask = select(1.0, y.x, q.masked == 1u);
    let at = q.dlogits_offset + (n * q.rows + row) * CHANNELS;
    dlogits[at] = scale.x * (sigmoid_(logit.x) - y.x);
    dlogits[at + 1u] = scale.y * mask * (sigmoid_(logit.y) - y.y);
    dlogits[at + 2u] = scale.z * mask * 2.0 * (logit.z - y.z);
}
