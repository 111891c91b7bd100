// The time axis' input and the gradient of the octave features in it (src/ops/features.rs).
//
// One invocation makes one element: an element is one load and one store (a pitch-class count, one in each note, N / 12
// loads), so there is nothing to share, and neighbours in a workgroup are neighbours in memory.

alias S = f32;

// Semitones of an octave.
const OCTAVE: u32 = 12u;
// Columns before the octave features: pitch position, pitch class, pitch-class count.
const BEFORE: u32 = 14u;

struct Forward {
    notes_offset: u32,
    octave_offset: u32,
    start_offset: u32,
    y_offset: u32,
    // The first bound row (t, b) of those of the whole tensors, and how many are bound.
    first: u32,
    rows: u32,
    batch: u32,
    notes: u32,
    channels: u32,
    lowest: u32,
    filters: u32,
    beats: u32,
    // Elements of a row of y, of which the last ones are padding.
    width: u32,
    octave_inner: u32,
    octave_site: u32,
    octave_rate: f32,
    octave_kept: f32,
    beat_inner: u32,
    beat_site: u32,
    beat_rate: f32,
    beat_kept: f32,
}
@group(0) @binding(0) var<uniform> p: Forward;
@group(0) @binding(1) var<storage, read> notes: array<f32>; // [rows, N, channels], play first
@group(0) @binding(2) var<storage, read> octave: array<f32>; // [rows, N, F]
@group(0) @binding(3) var<storage, read> start: array<f32>; // [B]
@group(0) @binding(4) var<storage, read_write> y: array<S>; // [rows, N, 14 + F + q], padded
@group(1) @binding(0) var<uniform> uniforms: Uniforms;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + invocation;
    let cell = i / p.width;
    let j = i % p.width;
    let row = cell / p.notes;
    let n = cell % p.notes;
    if row >= p.rows {
        return;
    }
    let pitch_class = (p.lowest + n) % OCTAVE;
    var value = 0.0;
    if j == 0u {
        value = f32(n) / f32(p.notes);
    } else if j <= OCTAVE {
        value = select(0.0, 1.0, j == 1u + pitch_class);
    } else if j < BEFORE {
        for (var m = n % OCTAVE; m < p.notes; m += OCTAVE) {
            value += notes[p.notes_offset + (row * p.notes + m) * p.channels];
        }
    } else if j < BEFORE + p.filters {
        let at = cell * p.filters + j - BEFORE;
        let index = in_whole_batch(p.first * p.notes * p.filters + at, p.octave_inner, uniforms.first_slot, uniforms.slots, uniforms.all_slots);
        let mask = keep_mask(index, p.octave_site, p.octave_rate, p.octave_kept, uniforms.seed, uniforms.update);
        value = octave[p.octave_offset + at] * mask;
    } else if j < BEFORE + p.filters + p.beats {
        let tb = p.first + row;
        let time = i32(start[p.start_offset + tb % p.batch]) + i32(tb / p.batch);
        let beat = floor_mod(time, p.beats);
        if beat == j - BEFORE - p.filters {
            let index = in_whole_batch(tb * p.beats + beat, p.beat_inner, uniforms.first_slot, uniforms.slots, uniforms.all_slots);
            value = keep_mask(index, p.beat_site, p.beat_rate, p.beat_kept, uniforms.seed, uniforms.update);
        }
    }
    y[p.y_offset + i] = S(value);
}

struct Backward {
    dy_offset: u32,
    doctave_offset: u32,
    // The first bound cell (t, b, n) of those of the whole tensors, and how many are bound.
    first: u32,
    cells: u32,
    filters: u32,
    width: u32,
    inner: u32,
    site: u32,
    rate: f32,
    kept: f32,
}
@group(0) @binding(0) var<uniform> q: Backward;
@group(0) @binding(1) var<storage, read> dy: array<S>; // [cells, 14 + F + q], padded
@group(0) @binding(2) var<storage, read_write> doctave: array<f32>; // [cells, F]

@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + invocation;
    let cell = i / q.filters;
    if cell >= q.cells {
        return;
    }
    let index = in_whole_batch(q.first * q.filters + i, q.inner, uniforms.first_slot, uniforms.slots, uniforms.all_slots);
    let mask = keep_mask(index, q.site, q.rate, q.kept, uniforms.seed, uniforms.update);
    let value = f32(dy[q.dy_offset + cell * q.width + BEFORE + i % q.filters]);
    doctave[q.doctave_offset + i] = value * mask;
}
