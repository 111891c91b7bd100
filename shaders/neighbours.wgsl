// The raw neighbourhood of each note (src/ops/neighbours.rs). One invocation copies one element: neighbours in a workgroup
// are neighbours in memory, on both sides but at the borders of a note's neighbourhood.

struct Params {
    x_offset: u32,
    y_offset: u32,
    // Elements of `y` that are bound.
    len: u32,
    notes: u32,
    channels: u32,
    taps: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, N, C]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, N, taps, C]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + invocation;
    if i >= p.len {
        return;
    }
    let width = p.taps * p.channels;
    let cell = i / width;
    let j = i % width;
    let n = cell % p.notes;
    // The note, counted from half a neighbourhood below the lowest.
    let above = n + j / p.channels;
    let below = p.taps / 2u;
    var value = 0.0;
    if above >= below && above - below < p.notes {
        value = x[p.x_offset + (cell - n + above - below) * p.channels + j % p.channels];
    }
    y[p.y_offset + i] = value;
}
