// From the time axis to the note axis and back: transposes [row, n] to [n, row], drops out, appends the chosen lower note
// (src/ops/note_input.rs).
//
// One invocation makes one element, and neighbours in a workgroup are neighbours in memory on both sides, since the
// transpose leaves the innermost axis alone. A dispatch covers a block of rows and notes: where the tensors are larger than a
// binding, a block is contiguous in rows on one side and in notes on the other.

alias S = f32;

struct Forward {
    h_offset: u32,
    chosen_offset: u32,
    // Where the block's first note and row stand.
    y_offset: u32,
    // The first row of the block and of `h` and `chosen` as they are bound, and how many there are.
    first_row: u32,
    row_count: u32,
    // The first note of the block, and how many there are.
    first_note: u32,
    note_count: u32,
    // All rows and notes of the tensors, H, values of a chosen note, and elements of a row of `y`, the last of which are padding.
    rows: u32,
    notes: u32,
    units: u32,
    channels: u32,
    width: u32,
    inner: u32,
    site: u32,
    rate: f32,
    kept: f32,
    chosen_inner: u32,
    chosen_site: u32,
    chosen_rate: f32,
    chosen_kept: f32,
}
@group(0) @binding(0) var<uniform> p: Forward;
@group(0) @binding(1) var<storage, read> h: array<S>; // [row_count, N, H]
@group(0) @binding(2) var<storage, read> chosen: array<f32>; // [row_count, N, C]
@group(0) @binding(3) var<storage, read_write> y: array<S>; // [note_count, rows, H + C], padded
@group(1) @binding(0) var<uniform> uniforms: Uniforms;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + invocation;
    let j = i % p.width;
    let row = i / p.width % p.row_count;
    let note = i / p.width / p.row_count;
    if note >= p.note_count {
        return;
    }
    let n = p.first_note + note;
    let cell = row * p.notes + n;
    var value = 0.0;
    if j < p.units {
        let at = cell * p.units + j;
        let index = in_whole_batch(p.first_row * p.notes * p.units + at, p.inner, uniforms.first_slot, uniforms.slots, uniforms.all_slots);
        value = f32(h[p.h_offset + at]) * keep_mask(index, p.site, p.rate, p.kept, uniforms.seed, uniforms.update);
    } else if n > 0u && j < p.units + p.channels {
        let at = (cell - 1u) * p.channels + j - p.units;
        let index = in_whole_batch(p.first_row * p.notes * p.channels + at, p.chosen_inner, uniforms.first_slot, uniforms.slots, uniforms.all_slots);
        let mask = keep_mask(index, p.chosen_site, p.chosen_rate, p.chosen_kept, uniforms.seed, uniforms.update);
        value = chosen[p.chosen_offset + at] * mask;
    }
    y[p.y_offset + (note * p.rows + row) * p.width + j] = S(value);
}

struct Backward {
    // Where the block's first note and row stand.
    dy_offset: u32,
    dh_offset: u32,
    first_row: u32,
    row_count: u32,
    first_note: u32,
    note_count: u32,
    rows: u32,
    notes: u32,
    units: u32,
    width: u32,
    inner: u32,
    site: u32,
    rate: f32,
    kept: f32,
}
@group(0) @binding(0) var<uniform> q: Backward;
@group(0) @binding(1) var<storage, read> dy: array<S>; // [note_count, rows, H + C], padded
@group(0) @binding(2) var<storage, read_write> dh: array<S>; // [row_count, N, H]

@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + invocation;
    let j = i % q.units;
    let note = i / q.units % q.note_count;
    let row = i / q.units / q.note_count;
    if row >= q.row_count {
        return;
    }
    let at = (row * q.notes + q.first_note + note) * q.units + j;
    let index = in_whole_batch(q.first_row * q.notes * q.units + at, q.inner, uniforms.first_slot, uniforms.slots, uniforms.all_slots);
    let value = f32(dy[q.dy_offset + (note * q.rows + row) * q.width + j]);
    dh[q.dh_offset + at] = S(value * keep_mask(index, q.site, q.rate, q.kept, uniforms.seed, uniforms.update));
}
