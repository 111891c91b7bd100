// The running mean of all parameters (src/ops/ema.rs): mean = decay mean + (1 - decay) p, left alone where the squared norm of the
// gradient, by which the update before was stopped too, is not finite.

struct Params {
    squared_norm_offset: u32,
    p_offset: u32,
    mean_offset: u32,
    len: u32,
    decay: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> squared_norm: array<f32>; // [1]
@group(0) @binding(2) var<storage, read> p: array<f32>; // [len]
@group(0) @binding(3) var<storage, read_write> mean: array<f32>; // [len]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + local;
    if i >= params.len || !is_finite(squared_norm[params.squared_norm_offset]) {
        return;
    }
    let before = mean[params.mean_offset + i];
    mean[params.mean_offset + i] = params.decay * before + (1.0 - params.decay) * p[params.p_offset + i];
}
