// The product for devices with subgroup operations; compiled with the text of gemm.wgsl behind it, whose declarations it
// uses.
//
// An invocation makes 16 rows of 4 columns. Neighbouring invocations own neighbouring columns; of A each holds the elements
// of one step, and hands them to its subgroup when that step's turn comes. So A is loaded once a subgroup, which may be of
// any size up to the workgroup's.

@compute @workgroup_size(64)
fn subgroup(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_invocation_id) invocation: u32,
    @builtin(subgroup_size) invocations: u32,
) {
    let origin = tile_origin(group_number(workgroup_id, num_workgroups), 16u, 256u);
    let row = origin.x;
    let col = origin.y + local;
    let a_step = a_steps();
    let b_step = b_steps();
    let k = p.k;
    let a0_at = p.a_offset + four(row, 1u, p.m) * a_step.x;
    let a1_at = p.a_offset + four(row + 4u, 1u, p.m) * a_step.x;
    let a2_at = p.a_offset + four(row + 8u, 1u, p.m) * a_step.x;
    let a3_at = p.a_offset + four(row + 12u, 1u, p.m) * a_step.x;
    // Where the next step's elements are.
    var b_at = p.b_offset + four(col, 64u, p.n) * b_step.y;
    var c0 = mat4x4<f32>();
    var c1 = mat4x4<f32>();
    var c2 = mat4x4<f32>();
    var c3 = mat4x4<f32>();
    for (var first = 0u; first < k; first += invocations) {
        let at = min(first + invocation, k - 1u) * a_step.y;
        let a0 = load_a(a0_at + at);
        let a1 = load_a(a1_at + at);
        let a2 = load_a(a2_at + at);
        let a3 = load_a(a3_at + at);
        let steps = min(invocations, k - first);
        for (var i = 0u; i < steps; i++) {
            let b_values = load_b(b_at);
            c0 += outer(subgroupShuffle(a0, i), b_values);
            c1 += outer(subgroupShuffle(a1, i), b_values);
            c2 += outer(subgroupShuffle(a2, i), b_values);
            c3 += outer(subgroupShuffle(a3, i), b_values);
            b_at += b_step.x;
        }
    }
    store_block(row, col, 64u, c0);
    store_block(row + 4u, col, 64u, c1);
    store_block(row + 8u, col, 64u, c2);
    store_block(row + 12u, col, 64u, c3);
}
