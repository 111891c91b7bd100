// dx = dy (1 - y^2). One element an invocation: neighbours touch neighbouring elements, and nothing is used twice.

struct Params {
    y_offset: u32,
    dy_offset: u32,
    dx_offset: u32,
    len: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>; // [len]
@group(0) @binding(2) var<storage, read> dy: array<f32>; // [len]
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // [len]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + local;
    if i < p.len {
        let value = y[p.y_offset + i];
        dx[p.dx_offset + i] = dy[p.dy_offset + i] * (1.0 - value * value);
    }
}
