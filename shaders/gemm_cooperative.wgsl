// The product where the hardware multiplies matrices that a subgroup holds together, factors in f16 and sums in f32; compiled
// with the text of gemm.wgsl behind it, whose declarations it uses. The extension is naga's own.
//
// A workgroup of four subgroups owns 64 x 64 elements of C, each subgroup a quarter of 2 x 2 matrices. STEPS of A and B
// pass through workgroup memory, where what hangs over an edge is clamped or zero, so that any shape, offset and stride
// will do. Rows there are padded, against bank conflicts, and start at multiples of 16 bytes, as loads of matrices must.
// What the subgroups made goes through workgroup memory too, a matrix of each at a time.

enable wgpu_cooperative_matrix;

// Invocations of a subgroup.
const INVOCATIONS: u32 = 32u;

const FOUR_SUBGROUPS: u32 = 4u * INVOCATIONS;
const STEPS: u32 = 32u;
const A_PITCH: u32 = 40u;
const B_PITCH: u32 = 72u;

var<workgroup> a_halves: array<StoredA, 64u * A_PITCH>; // [64 of m, A_PITCH], STEPS of which are used
var<workgroup> b_halves: array<StoredB, STEPS * B_PITCH>; // [STEPS, B_PITCH], 64 of n of which are used
var<workgroup> c_matrices: array<f32, 1024>; // [4 subgroups, 16, 16]

// Brings STEPS steps from `first` on.
fn fill(local: u32, origin: vec2<u32>, first: u32) {
    let a_step = a_steps();
    let b_step = b_steps();
    for (var j = local; j < 64u * STEPS; j += FOUR_SUBGROUPS) {
        // Neighbours bring neighbours in storage.
        let across = vec2<u32>(j % 64u, j / 64u);
        let along = vec2<u32>(j / STEPS, j % STEPS);
        let a_place = select(along, across, A_TRANSPOSED == 1u);
        let a_i = first + a_place.y;
        let a_value = a[p.a_offset + min(origin.x + a_place.x, p.m - 1u) * a_step.x + min(a_i, p.k - 1u) * a_step.y];
        a_halves[a_place.x * A_PITCH + a_place.y] = select(StoredA(0.0), a_value, a_i < p.k);
        let b_place = select(across, along, B_TRANSPOSED == 1u);
        let b_i = first + b_place.y;
        let b_value = b[p.b_offset + min(b_i, p.k - 1u) * b_step.x + min(origin.y + b_place.x, p.n - 1u) * b_step.y];
        b_halves[b_place.y * B_PITCH + b_place.x] = select(StoredB(0.0), b_value, b_i < p.k);
    }
}

// Stores what the subgroups left in c_matrices: of each quarter of the tile the matrix at this row and column.
fn store_matrices(local: u32, origin: vec2<u32>, row: u32, col: u32) {
    workgroupBarrier();
    let quarter = local / INVOCATIONS;
    let first = origin + vec2<u32>(quarter / 2u * 32u + row, quarter % 2u * 32u + col);
    for (var i = local % INVOCATIONS; i < 256u; i += INVOCATIONS) {
        store(first.x + i / 16u, first.y + i % 16u, c_matrices[quarter * 256u + i]);
    }
    workgroupBarrier();
}

@compute @workgroup_size(FOUR_SUBGROUPS)
fn cooperative(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let origin = tile_origin(group_number(workgroup_id, num_workgroups), 64u, 64u);
    let row = subgroup / 2u * 32u;
    let col = subgroup % 2u * 32u;
    var c00 = coop_mat16x16<f32, C>();
    var c01 = coop_mat16x16<f32, C>();
    var c10 = coop_mat16x16<f32, C>();
    var c11 = coop_mat16x16<f32, C>();
    for (var first = 0u; first < p.k; first += STEPS) {
        fill(local, origin, first);
        workgroupBarrier();
        for (var i = 0u; i < STEPS; i += 16u) {
            let a0 = coopLoadT<coop_mat16x16<StoredA, A>>(&a_halves[row * A_PITCH + i], A_PITCH);
            let a1 = coopLoadT<coop_mat16x16<StoredA, A>>(&a_halves[(row + 16u) * A_PITCH + i], A_PITCH);
            let b0 = coopLoadT<coop_mat16x16<StoredB, B>>(&b_halves[i * B_PITCH + col], B_PITCH);
            let b1 = coopLoadT<coop_mat16x16<StoredB, B>>(&b_halves[i * B_PITCH + col + 16u], B_PITCH);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
        }
        workgroupBarrier();
    }
    let own = subgroup * 256u;
    coopStoreT(c00, &c_matrices[own], 16u);
    store_matrices(local, origin, 0u, 0u);
    coopStoreT(c01, &c_matrices[own], 16u);
    store_matrices(local, origin, 0u, 16u);
    coopStoreT(c10, &c_matrices[own], 16u);
    store_matrices(local, origin, 16u, 0u);
    coopStoreT(c11, &c_matrices[own], 16u);
    store_matrices(local, origin, 16u, 16u);
}
