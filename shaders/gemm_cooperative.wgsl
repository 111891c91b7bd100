// The product where the hardware multiplies matrices that a subgroup holds together, factors in f16 and sums in f32; compiled
// with the text of gemm.wgsl behind it, whose declarations it uses. The extension is naga's own.
//
// A workgroup of eight subgroups owns 128 x 128 elements of C, each subgroup 32 x 64 of them, 2 x 4 matrices. Tiles of A and B
// lie in workgroup memory as they do in storage, row by row, and matrices are loaded along rows or along columns; rows are padded,
// against bank conflicts, and start at multiples of 16 bytes, as loads of matrices must. There are two tiles of each, so that the
// next 16 steps come from storage, by vectors where alignment allows, while the present ones are multiplied, and one barrier is
// enough. What hangs over an edge is clamped or zero, so that any shape, offset and stride will do. k may be cut into slices, as
// for `vector`. What the subgroups made goes through workgroup memory too, a matrix of each at a time.

enable wgpu_cooperative_matrix;

// Invocations of a subgroup: 32 or 64.
const INVOCATIONS: u32 = 32u;

const EIGHT_SUBGROUPS: u32 = 8u * INVOCATIONS;
// Steps of k that pass through workgroup memory at a time.
const STEPS: u32 = 16u;
// A stored row of a tile: STEPS, or 128 rows or columns of the product, and its padding.
const A_PITCH: u32 = 24u + 112u * A_TRANSPOSED;
const B_PITCH: u32 = 136u - 112u * B_TRANSPOSED;
// Elements of a tile from one row of the product to the next, and from one column to the next.
const A_ACROSS: u32 = A_TRANSPOSED + (1u - A_TRANSPOSED) * A_PITCH;
const B_ACROSS: u32 = (1u - B_TRANSPOSED) + B_TRANSPOSED * B_PITCH;
// Elements of a tile, padded.
const TILE: u32 = 3072u;
// 1 where an invocation brings two vectors of each tile, 0 where it brings one.
const TWO: u32 = 1u;

var<workgroup> a_halves: array<StoredA, 2u * TILE>; // [2, 128 of m, A_PITCH], STEPS of which are used, or [2, STEPS, A_PITCH]
var<workgroup> b_halves: array<StoredB, 2u * TILE>; // [2, STEPS, B_PITCH], 128 of n of which are used, or [2, 128, B_PITCH]
var<workgroup> c_matrices: array<f32, 2048>; // [8 subgroups, 16, 16]

// Stored row and column of the vector of this number in a tile whose rows are steps, or are not.
fn place_of(vector: u32, by_steps: bool) -> vec2<u32> {
    return select(vec2<u32>(vector / 4u, vector % 4u * 4u), vec2<u32>(vector / 32u, vector % 32u * 4u), by_steps);
}

// A vector of A for the steps from `first` on. Past the end of rows and columns, others.
fn bring_a(vector: u32, origin: u32, first: u32) -> vec4<StoredA> {
    let place = place_of(vector, A_TRANSPOSED == 1u) + select(vec2<u32>(origin, first), vec2<u32>(first, origin), A_TRANSPOSED == 1u);
    let extent = select(vec2<u32>(p.m, p.k), vec2<u32>(p.k, p.m), A_TRANSPOSED == 1u);
    let row = p.a_offset + min(place.x, extent.x - 1u) * p.a_stride;
    let at = row + four(place.y, 1u, extent.y); // unless A_VECTOR
    return vec4<StoredA>(a[at.x], a[at.y], a[at.z], a[at.w]); // unless A_VECTOR
    return a4[(row + min(place.y, last_four(extent.y))) / 4u]; // if A_VECTOR
}

// The same of B.
fn bring_b(vector: u32, origin: u32, first: u32) -> vec4<StoredB> {
    let place = place_of(vector, B_TRANSPOSED == 0u) + select(vec2<u32>(first, origin), vec2<u32>(origin, first), B_TRANSPOSED == 1u);
    let extent = select(vec2<u32>(p.k, p.n), vec2<u32>(p.n, p.k), B_TRANSPOSED == 1u);
    let row = p.b_offset + min(place.x, extent.x - 1u) * p.b_stride;
    let at = row + four(place.y, 1u, extent.y); // unless B_VECTOR
    return vec4<StoredB>(b[at.x], b[at.y], b[at.z], b[at.w]); // unless B_VECTOR
    return b4[(row + min(place.y, last_four(extent.y))) / 4u]; // if B_VECTOR
}

// Puts a vector of A into one of the two tiles, of whose steps `left` count: zeros for the others, whatever they meet of B.
fn put_a(vector: u32, tile: u32, left: u32, brought: vec4<StoredA>) {
    let place = place_of(vector, A_TRANSPOSED == 1u);
    let steps = select(place.y + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(place.x), A_TRANSPOSED == 1u);
    let value = select(vec4<StoredA>(), brought, steps < vec4<u32>(left));
    let at = tile * TILE + place.x * A_PITCH + place.y;
    a_halves[at] = value.x;
    a_halves[at + 1u] = value.y;
    a_halves[at + 2u] = value.z;
    a_halves[at + 3u] = value.w;
}

// Puts a vector of B into one of the two tiles.
fn put_b(vector: u32, tile: u32, value: vec4<StoredB>) {
    let place = place_of(vector, B_TRANSPOSED == 0u);
    let at = tile * TILE + place.x * B_PITCH + place.y;
    b_halves[at] = value.x;
    b_halves[at + 1u] = value.y;
    b_halves[at + 2u] = value.z;
    b_halves[at + 3u] = value.w;
}

// Stores what the subgroups left in c_matrices: of each one's part of the tile the matrix at this row and column.
fn store_matrices(slice: u32, local: u32, origin: vec2<u32>, row: u32, col: u32) {
    workgroupBarrier();
    let subgroup = local / INVOCATIONS;
    let first = origin + vec2<u32>(subgroup / 2u * 32u + row, subgroup % 2u * 64u + col);
    for (var i = local % INVOCATIONS; i < 64u; i += INVOCATIONS) {
        let at = subgroup * 256u + 4u * i;
        let values = vec4<f32>(c_matrices[at], c_matrices[at + 1u], c_matrices[at + 2u], c_matrices[at + 3u]);
        store_four(slice, first.x + i / 4u, first.y + i % 4u * 4u, values);
    }
    workgroupBarrier();
}

@compute @workgroup_size(EIGHT_SUBGROUPS)
fn cooperative(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let tiles = (p.m + 127u) / 128u * ((p.n + 127u) / 128u);
    let slice = group / tiles;
    let origin = tile_origin(group % tiles, 128u, 128u);
    let start = slice * p.slice;
    let end = min(start + p.slice, p.k);
    let tiles_along = (max(end, start) - start + STEPS - 1u) / STEPS;
    let row = subgroup / 2u * 32u;
    let col = subgroup % 2u * 64u;
    var c00 = coop_mat16x16<f32, C>();
    var c01 = coop_mat16x16<f32, C>();
    var c02 = coop_mat16x16<f32, C>();
    var c03 = coop_mat16x16<f32, C>();
    var c10 = coop_mat16x16<f32, C>();
    var c11 = coop_mat16x16<f32, C>();
    var c12 = coop_mat16x16<f32, C>();
    var c13 = coop_mat16x16<f32, C>();
    let a0_first = bring_a(local, origin.x, start);
    let a1_first = bring_a(local + EIGHT_SUBGROUPS, origin.x, start); // if TWO
    let b0_first = bring_b(local, origin.y, start);
    let b1_first = bring_b(local + EIGHT_SUBGROUPS, origin.y, start); // if TWO
    put_a(local, 0u, max(end, start) - start, a0_first);
    put_a(local + EIGHT_SUBGROUPS, 0u, max(end, start) - start, a1_first); // if TWO
    put_b(local, 0u, b0_first);
    put_b(local + EIGHT_SUBGROUPS, 0u, b1_first); // if TWO
    workgroupBarrier();
    // Surplus groups have no slice, and none of these tiles.
    for (var i_tile = 0u; i_tile < tiles_along; i_tile++) {
        // After the last tile once more the last one: a condition would have compilers wait for memory here.
        let first = start + min(i_tile + 1u, tiles_along - 1u) * STEPS;
        let a0 = bring_a(local, origin.x, first);
        let a1 = bring_a(local + EIGHT_SUBGROUPS, origin.x, first); // if TWO
        let b0 = bring_b(local, origin.y, first);
        let b1 = bring_b(local + EIGHT_SUBGROUPS, origin.y, first); // if TWO
        let tile = i_tile % 2u * TILE;
        let a_at = tile + row * A_ACROSS;
        let b_at = tile + col * B_ACROSS;
        var m0 = coop_mat16x16<StoredA, A>();
        var m1 = coop_mat16x16<StoredA, A>();
        var n0 = coop_mat16x16<StoredB, B>();
        var n1 = coop_mat16x16<StoredB, B>();
        var n2 = coop_mat16x16<StoredB, B>();
        var n3 = coop_mat16x16<StoredB, B>();
        m0 = coopLoadT<coop_mat16x16<StoredA, A>>(&a_halves[a_at], A_PITCH); // unless A_TRANSPOSED
        m1 = coopLoadT<coop_mat16x16<StoredA, A>>(&a_halves[a_at + 16u * A_ACROSS], A_PITCH); // unless A_TRANSPOSED
        m0 = coopLoad<coop_mat16x16<StoredA, A>>(&a_halves[a_at], A_PITCH); // if A_TRANSPOSED
        m1 = coopLoad<coop_mat16x16<StoredA, A>>(&a_halves[a_at + 16u * A_ACROSS], A_PITCH); // if A_TRANSPOSED
        n0 = coopLoadT<coop_mat16x16<StoredB, B>>(&b_halves[b_at], B_PITCH); // unless B_TRANSPOSED
        n1 = coopLoadT<coop_mat16x16<StoredB, B>>(&b_halves[b_at + 16u * B_ACROSS], B_PITCH); // unless B_TRANSPOSED
        n2 = coopLoadT<coop_mat16x16<StoredB, B>>(&b_halves[b_at + 32u * B_ACROSS], B_PITCH); // unless B_TRANSPOSED
        n3 = coopLoadT<coop_mat16x16<StoredB, B>>(&b_halves[b_at + 48u * B_ACROSS], B_PITCH); // unless B_TRANSPOSED
        n0 = coopLoad<coop_mat16x16<StoredB, B>>(&b_halves[b_at], B_PITCH); // if B_TRANSPOSED
        n1 = coopLoad<coop_mat16x16<StoredB, B>>(&b_halves[b_at + 16u * B_ACROSS], B_PITCH); // if B_TRANSPOSED
        n2 = coopLoad<coop_mat16x16<StoredB, B>>(&b_halves[b_at + 32u * B_ACROSS], B_PITCH); // if B_TRANSPOSED
        n3 = coopLoad<coop_mat16x16<StoredB, B>>(&b_halves[b_at + 48u * B_ACROSS], B_PITCH); // if B_TRANSPOSED
        c00 = coopMultiplyAdd(m0, n0, c00);
        c01 = coopMultiplyAdd(m0, n1, c01);
        c02 = coopMultiplyAdd(m0, n2, c02);
        c03 = coopMultiplyAdd(m0, n3, c03);
        c10 = coopMultiplyAdd(m1, n0, c10);
        c11 = coopMultiplyAdd(m1, n1, c11);
        c12 = coopMultiplyAdd(m1, n2, c12);
        c13 = coopMultiplyAdd(m1, n3, c13);
        let left = end - first;
        let next = 1u - i_tile % 2u;
        put_a(local, next, left, a0);
        put_a(local + EIGHT_SUBGROUPS, next, left, a1); // if TWO
        put_b(local, next, b0);
        put_b(local + EIGHT_SUBGROUPS, next, b1); // if TWO
        workgroupBarrier();
    }
    // Nothing is stored of surplus groups: their rows lie behind the last.
    let to = select(origin, vec2<u32>(p.m, 0u), start >= p.k);
    let own = subgroup * 256u;
    coopStoreT(c00, &c_matrices[own], 16u);
    store_matrices(slice, local, to, 0u, 0u);
    coopStoreT(c01, &c_matrices[own], 16u);
    store_matrices(slice, local, to, 0u, 16u);
    coopStoreT(c02, &c_matrices[own], 16u);
    store_matrices(slice, local, to, 0u, 32u);
    coopStoreT(c03, &c_matrices[own], 16u);
    store_matrices(slice, local, to, 0u, 48u);
    coopStoreT(c10, &c_matrices[own], 16u);
    store_matrices(slice, local, to, 16u, 0u);
    coopStoreT(c11, &c_matrices[own], 16u);
    store_matrices(slice, local, to, 16u, 16u);
    coopStoreT(c12, &c_matrices[own], 16u);
    store_matrices(slice, local, to, 16u, 32u);
    coopStoreT(c13, &c_matrices[own], 16u);
    store_matrices(slice, local, to, 16u, 48u);
}
