// The multiply-adds of matrix units: each subgroup adds four products of 16 x 16 matrices, factors in f16 and sums in f32, to
// as many sums, over and over. The extension is naga's own. No op; see peaks.wgsl.

enable wgpu_cooperative_matrix;

alias S = f32;

// Invocations of a subgroup.
const INVOCATIONS: u32 = 32u;

const FOUR_SUBGROUPS: u32 = 4u * INVOCATIONS;

struct Params {
    loops: u32,
    factor: f32,
    summand: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>; // [invocations]

var<workgroup> factors: array<S, 1024>; // [4, 16, 16]
var<workgroup> products: array<f32, 1024>; // [4 subgroups, 16, 16]

// A quarter of what the invocation's subgroup left in `products`.
fn collect(first: u32, invocation: u32) -> f32 {
    workgroupBarrier();
    var sum = 0.0;
    for (var i = invocation; i < 256u; i += INVOCATIONS) {
        sum += products[first + i];
    }
    workgroupBarrier();
    return sum;
}

// 4 products a loop: 32768 FLOP of a subgroup.
@compute @workgroup_size(FOUR_SUBGROUPS)
fn matrices(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    // Signs that alternate along the sums, so that these stay small: 8 products of one sign and 8 of the other.
    for (var i = local; i < 1024u; i += FOUR_SUBGROUPS) {
        factors[i] = S(select(p.summand, p.factor, i < 512u && i % 2u == 0u));
    }
    workgroupBarrier();
    let a0 = coopLoadT<coop_mat16x16<S, A>>(&factors[0], 16u);
    let a1 = coopLoadT<coop_mat16x16<S, A>>(&factors[256], 16u);
    let b0 = coopLoadT<coop_mat16x16<S, B>>(&factors[512], 16u);
    let b1 = coopLoadT<coop_mat16x16<S, B>>(&factors[768], 16u);
    var c00 = coop_mat16x16<f32, C>();
    var c01 = coop_mat16x16<f32, C>();
    var c10 = coop_mat16x16<f32, C>();
    var c11 = coop_mat16x16<f32, C>();
    for (var i = 0u; i < p.loops; i++) {
        c00 = coopMultiplyAdd(a0, b0, c00);
        c01 = coopMultiplyAdd(a0, b1, c01);
        c10 = coopMultiplyAdd(a1, b0, c10);
        c11 = coopMultiplyAdd(a1, b1, c11);
    }
    let first = subgroup * 256u;
    var sum = 0.0;
    coopStoreT(c00, &products[first], 16u);
    sum += collect(first, local % INVOCATIONS);
    coopStoreT(c01, &products[first], 16u);
    sum += collect(first, local % INVOCATIONS);
    coopStoreT(c10, &products[first], 16u);
    sum += collect(first, local % INVOCATIONS);
    coopStoreT(c11, &products[first], 16u);
    sum += collect(first, local % INVOCATIONS);
    sums[id.x] = sum;
}
