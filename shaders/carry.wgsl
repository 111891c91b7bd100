// A state [rows, width] set to zero, or copied row by row with a factor. One element an invocation: neighbours
// touch neighbouring elements, and nothing is used twice. An entry point for each source, with `y` always the first
// binding.

alias X = f32;
alias Y = f32;

struct ZeroParams {
    y_offset: u32,
    len: u32,
}

struct KeepParams {
    y_offset: u32,
    x_offset: u32,
    keep_offset: u32,
    len: u32,
    width: u32,
    // Number of this dispatch's first row in the whole state.
    first_row: u32,
    // Row r is of sequence (r / inner) % sequences.
    inner: u32,
    sequences: u32,
}

@group(0) @binding(0) var<uniform> zero_p: ZeroParams;
@group(0) @binding(0) var<uniform> keep_p: KeepParams;
@group(0) @binding(1) var<storage, read_write> y: array<Y>; // [rows, width]
@group(0) @binding(2) var<storage, read> x: array<X>; // [rows, width]
@group(0) @binding(3) var<storage, read> keep: array<f32>; // [sequences]

@compute @workgroup_size(256)
fn zero(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + local;
    if i < zero_p.len {
        y[zero_p.y_offset + i] = Y(0.0);
    }
}

@compute @workgroup_size(256)
fn keep_rows(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + local;
    if i < keep_p.len {
        let row = keep_p.first_row + i / keep_p.width;
        let sequence = (row / keep_p.inner) % keep_p.sequences;
        y[keep_p.y_offset + i] = Y(f32(x[keep_p.x_offset + i]) * keep[keep_p.keep_offset + sequence]);
    }
}
