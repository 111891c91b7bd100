// y = x in the format of y. One element an invocation: neighbours touch neighbouring elements, and nothing is used twice.

alias X = f32;
alias Y = f32;

struct Params {
    x_offset: u32,
    y_offset: u32,
    len: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<X>; // [len]
@group(0) @binding(2) var<storage, read_write> y: array<Y>; // [len]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + local;
    if i < p.len {
        y[p.y_offset + i] = Y(x[p.x_offset + i]);
    }
}
