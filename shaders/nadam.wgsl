// One Nadam update of all parameters:
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
//   p -= lr (from_g g + from_m m) / (sqrt(from_v v) + epsilon), with from_m, from_g, from_v = factors 0, 1, 2 of the uniforms.
// The parameters lie in one buffer, so one element an invocation reads and writes everything once, coalesced. The squared
// norm of the gradient, summed before, scales it, or stops the update where it is not finite.

struct Params {
    g_offset: u32,
    squared_norm_offset: u32,
    p_offset: u32,
    m_offset: u32,
    v_offset: u32,
    len: u32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>; // [len]
@group(0) @binding(2) var<storage, read> squared_norm: array<f32>; // [1]
@group(0) @binding(3) var<storage, read_write> p: array<f32>; // [len]
@group(0) @binding(4) var<storage, read_write> m: array<f32>; // [len]
@group(0) @binding(5) var<storage, read_write> v: array<f32>; // [len]
@group(1) @binding(0) var<uniform> uniforms: Uniforms;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + local;
    let squared = squared_norm[params.squared_norm_offset];
    if i >= params.len || !is_finite(squared) {
        return;
    }
    let gradient = g[params.g_offset + i] * gradient_scale(squared, uniforms.unscale, uniforms.clip_norm);
    let moment = params.beta1 * m[params.m_offset + i] + (1.0 - params.beta1) * gradient;
    let variance = params.beta2 * v[params.v_offset + i] + (1.0 - params.beta2) * gradient * gradient;
    m[params.m_offset + i] = moment;
    v[params.v_offset + i] = variance;
    let direction = uniforms.factor1 * gradient + uniforms.factor0 * moment;
    p[params.p_offset + i] -= uniforms.lr * direction / (sqrt(uniforms.factor2 * variance) + params.epsilon);
}
