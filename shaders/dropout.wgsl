// y = x * mask. One element an invocation; its mask is a hash of its number in the whole operand, so that forward and
// backward pass, and any cut of the operand into dispatches, see the same.

alias S = f32;

struct Params {
    x_offset: u32,
    y_offset: u32,
    // Elements of this dispatch, and the number of the first of them.
    len: u32,
    first: u32,
    // Elements of a batch slot, and arguments of `keep_mask`.
    inner: u32,
    site: u32,
    rate: f32,
    kept: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<S>; // [len]
@group(0) @binding(2) var<storage, read_write> y: array<S>; // [len]
@group(1) @binding(0) var<uniform> uniforms: Uniforms;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + local;
    if i < p.len {
        let index = in_whole_batch(p.first + i, p.inner, uniforms.first_slot, uniforms.slots, uniforms.all_slots);
        let mask = keep_mask(index, p.site, p.rate, p.kept, uniforms.seed, uniforms.update);
        y[p.y_offset + i] = S(f32(x[p.x_offset + i]) * mask);
    }
}
