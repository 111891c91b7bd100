// One Adadelta update of all parameters (src/ops/adadelta.rs):
//   s = rho s + (1 - rho) g^2,  u = g sqrt(d + epsilon) / sqrt(s + epsilon),  d = rho d + (1 - rho) u^2,  p -= lr u.
// As in nadam.wgsl one element an invocation reads and writes everything once, and the squared norm of the gradient, summed
// before, scales it, or stops the update where it is not finite.

struct Params {
    g_offset: u32,
    squared_norm_offset: u32,
    p_offset: u32,
    s_offset: u32,
    d_offset: u32,
    len: u32,
    rho: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>; // [len]
@group(0) @binding(2) var<storage, read> squared_norm: array<f32>; // [1]
@group(0) @binding(3) var<storage, read_write> p: array<f32>; // [len]
@group(0) @binding(4) var<storage, read_write> s: array<f32>; // [len]
@group(0) @binding(5) var<storage, read_write> d: array<f32>; // [len]
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
    let squares = params.rho * s[params.s_offset + i] + (1.0 - params.rho) * gradient * gradient;
    let updates = d[params.d_offset + i];
    let change = gradient * sqrt(updates + params.epsilon) / sqrt(squares + params.epsilon);
    s[params.s_offset + i] = squares;
    d[params.d_offset + i] = params.rho * updates + (1.0 - params.rho) * change * change;
    p[params.p_offset + i] -= uniforms.lr * change;
}
