// C = activation(start + A B), computed in f32 whatever the matrices' formats, where `start` is nothing, a bias row by row, or C itself. A is [m, k], or [k, m] with
// A_TRANSPOSED; B is [k, n], or [n, k] with B_TRANSPOSED; all are stored row by row. Every kernel adds up each element of C
// in the order of k, and adds `start` last.
//
// A workgroup owns a tile of C; tiles are numbered along n first, so that neighbouring groups share rows of A. Where a tile
// hangs over C's edge, indices are clamped to valid elements, and what comes of them is not stored.
//
// naive: an element an invocation, operands from storage each time. The reference.
// tiled: an element an invocation; 16 x 16 tiles of A and B pass through workgroup memory, so storage is read 1/16 as often.
// registers: 8 x 8 elements an invocation; workgroup memory holds K_TILE steps of A and B as vectors along m and n, so that
//   4 vector loads serve 64 multiply-adds. Each step is padded by one vector, against bank conflicts while it is filled.
//   An invocation's vectors lie a workgroup's width apart, so that neighbours read neighbouring vectors.
// vector: the same blocks in larger workgroups. Storage is read and written by vectors where alignment allows; 4 x 4
//   blocks that lie the wrong way are transposed in registers. There are two tiles, so that the next K_TILE steps come
//   from storage while the present ones are multiplied, and one barrier is enough. 32 neighbours share 8 vectors of B and
//   4 of A, which is the least that they can read from workgroup memory. k may be cut into slices, one a workgroup, whose
//   products go to a matrix of their own each and are then added by sum_slices, in the order of k.
// direct: 16 x 8 elements an invocation, operands from storage and its caches: neither barriers nor workgroup memory, whose
//   loads cost software adapters as much as those of storage, that is much more than arithmetic. Neighbouring invocations
//   own neighbouring columns.
// More kernels are in gemm_subgroup.wgsl and gemm_cooperative.wgsl, since a device must have a feature to accept even the text.
// The last three accumulate in named matrices, not in an array: drivers that do not unroll every loop over an array keep it in
// memory.

struct Params {
    c_offset: u32,
    bias_offset: u32,
    a_offset: u32,
    b_offset: u32,
    // Extent of this dispatch's part of the product.
    m: u32,
    n: u32,
    k: u32,
    // Elements from one stored row to the next; the bias has C's.
    a_stride: u32,
    b_stride: u32,
    c_stride: u32,
    // Row r of this dispatch takes row ((first_row + r) / inner) % sequences of the bias.
    first_row: u32,
    inner: u32,
    sequences: u32,
    // Steps of k in a slice; one slice has them all.
    slice: u32,
    // Columns of C with the padding of its rows.
    all_n: u32,
}

alias StoredA = f32;
alias StoredB = f32;
alias StoredC = f32;
alias StoredBias = f32;
// What `vector` keeps of the next tile: f16 where both factors are stored so, which become f32 when they are put down. What converted
// them where they are read would wait for them.
alias Ahead = f32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> c: array<StoredC>; // [m, n], of each slice
@group(0) @binding(2) var<storage, read> bias: array<StoredBias>; // [sequences, n]
@group(0) @binding(3) var<storage, read> a: array<StoredA>; // [m, k] or [k, m]
@group(0) @binding(4) var<storage, read> b: array<StoredB>; // [k, n] or [n, k]
// The same by vectors, for `vector`.
@group(0) @binding(1) var<storage, read_write> c4: array<vec4<StoredC>>;
@group(0) @binding(2) var<storage, read> bias4: array<vec4<StoredBias>>;
@group(0) @binding(3) var<storage, read> a4: array<vec4<StoredA>>;
@group(0) @binding(4) var<storage, read> b4: array<vec4<StoredB>>;

const A_TRANSPOSED: u32 = 0u;
const B_TRANSPOSED: u32 = 0u;
// 0: nothing, 1: the bias, 2: C.
const START: u32 = 0u;
// 1 applies tanh.
const TANH: u32 = 0u;
// 1 where offset, stride and length of stored rows are multiples of 4. C_VECTOR: those of C and of the bias.
const A_VECTOR: u32 = 0u;
const B_VECTOR: u32 = 0u;
const C_VECTOR: u32 = 0u;
// 1 where A_VECTOR and B_VECTOR are and the steps of each slice a multiple of K_TILE, if need be with the padding of A's rows.
const EVEN: u32 = 0u;
// 1 where it needs that padding, whose zeros meet any elements of B.
const PAST_END: u32 = 0u;
// 1 where rows of C have padding, which gets zeros.
const C_PADDED: u32 = 0u;

// Elements from one row of A [m, k] to the next, and from one column to the next.
fn a_steps() -> vec2<u32> {
    if A_TRANSPOSED == 1u {
        return vec2<u32>(1u, p.a_stride);
    }
    return vec2<u32>(p.a_stride, 1u);
}

// Elements from one row of B [k, n] to the next, and from one column to the next.
fn b_steps() -> vec2<u32> {
    if B_TRANSPOSED == 1u {
        return vec2<u32>(1u, p.b_stride);
    }
    return vec2<u32>(p.b_stride, 1u);
}

fn load_a(places: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(f32(a[places.x]), f32(a[places.y]), f32(a[places.z]), f32(a[places.w]));
}

fn load_b(places: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(f32(b[places.x]), f32(b[places.y]), f32(b[places.z]), f32(b[places.w]));
}

// Row and column of the first element of a group's tile.
fn tile_origin(group: u32, rows: u32, cols: u32) -> vec2<u32> {
    let across = (p.n + cols - 1u) / cols;
    return vec2<u32>(group / across * rows, group % across * cols);
}

// Four indices from `first` on, `step` apart, clamped to below `end`.
fn four(first: u32, step: u32, end: u32) -> vec4<u32> {
    return min(first + step * vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(end - 1u));
}

// The matrix of all products of these rows and columns.
fn outer(rows: vec4<f32>, columns: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(rows * columns.x, rows * columns.y, rows * columns.z, rows * columns.w);
}

fn store(row: u32, col: u32, product: f32) {
    if row >= p.m || col >= p.all_n {
        return;
    }
    var value = product;
    value = select(0.0, product, col < p.n); // if C_PADDED
    finish(p.c_offset + row * p.c_stride + col, row, col, value);
}

// Where the bias of a row begins.
fn bias_row(row: u32) -> u32 {
    return p.bias_offset + ((p.first_row + row) / p.inner) % p.sequences * p.c_stride;
}

fn bias_at(row: u32, col: u32) -> f32 {
    return f32(bias[bias_row(row) + col]);
}

// Makes of the sum for a row and a column what stands in C at `at`.
fn finish(at: u32, row: u32, col: u32, product: f32) {
    var value = product;
    if START == 1u {
        value += bias_at(row, col);
    }
    if START == 2u {
        value += f32(c[at]);
    }
    if TANH == 1u {
        value = tanh_(value);
    }
    c[at] = StoredC(value);
}

// Stores four rows from `row` on of four columns, `step` apart, from `col` on.
fn store_block(row: u32, col: u32, step: u32, products: mat4x4<f32>) {
    // Indexed by loops, and so a copy: the accumulators themselves are to stay in registers.
    var block = products;
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            store(row + i, col + j * step, block[j][i]);
        }
    }
}

@compute @workgroup_size(256)
fn naive(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let origin = tile_origin(group_number(workgroup_id, num_workgroups), 16u, 16u);
    let row = origin.x + local / 16u;
    let col = origin.y + local % 16u;
    if row >= p.m || col >= p.all_n {
        return;
    }
    let b_col = min(col, p.n - 1u);
    let a_step = a_steps();
    let b_step = b_steps();
    var sum = 0.0;
    for (var i = 0u; i < p.k; i++) {
        sum += f32(a[p.a_offset + row * a_step.x + i * a_step.y]) * f32(b[p.b_offset + i * b_step.x + b_col * b_step.y]);
    }
    store(row, col, sum);
}

var<workgroup> small_a: array<f32, 272>; // [16 of k, 16 of m + 1]
var<workgroup> small_b: array<f32, 272>; // [16 of k, 16 of n + 1]

@compute @workgroup_size(256)
fn tiled(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let origin = tile_origin(group_number(workgroup_id, num_workgroups), 16u, 16u);
    let slow = local / 16u;
    let fast = local % 16u;
    // The element of each tile that this invocation brings, across and along k: neighbours bring neighbours in storage.
    let a_place = select(vec2<u32>(slow, fast), vec2<u32>(fast, slow), A_TRANSPOSED == 1u);
    let b_place = select(vec2<u32>(fast, slow), vec2<u32>(slow, fast), B_TRANSPOSED == 1u);
    let a_step = a_steps();
    let b_step = b_steps();
    let a_first = p.a_offset + min(origin.x + a_place.x, p.m - 1u) * a_step.x;
    let b_first = p.b_offset + min(origin.y + b_place.x, p.n - 1u) * b_step.y;
    let k = p.k;
    var sum = 0.0;
    for (var first = 0u; first < k; first += 16u) {
        let a_value = f32(a[a_first + min(first + a_place.y, k - 1u) * a_step.y]);
        let b_value = f32(b[b_first + min(first + b_place.y, k - 1u) * b_step.x]);
        small_a[a_place.y * 17u + a_place.x] = select(0.0, a_value, first + a_place.y < k);
        small_b[b_place.y * 17u + b_place.x] = select(0.0, b_value, first + b_place.y < k);
        workgroupBarrier();
        for (var i = 0u; i < 16u; i++) {
            sum += small_a[i * 17u + slow] * small_b[i * 17u + fast];
        }
        workgroupBarrier();
    }
    store(origin.x + slow, origin.y + fast, sum);
}

// Invocations of a group along n and m, for all kernels below.
const GROUP_X: u32 = 8u;
const GROUP_Y: u32 = 8u;
const GROUP: u32 = GROUP_X * GROUP_Y;
// Steps of k that pass through workgroup memory at a time.
const K_TILE: u32 = 16u;
// Vectors of a step.
const A_WIDTH: u32 = 2u * GROUP_Y;
const B_WIDTH: u32 = 2u * GROUP_X;

var<workgroup> a_tile: array<vec4<f32>, K_TILE * (A_WIDTH + 1u)>; // [K_TILE, A_WIDTH + 1]
var<workgroup> b_tile: array<vec4<f32>, K_TILE * (B_WIDTH + 1u)>; // [K_TILE, B_WIDTH + 1]

@compute @workgroup_size(GROUP)
fn registers(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let origin = tile_origin(group_number(workgroup_id, num_workgroups), 8u * GROUP_Y, 8u * GROUP_X);
    let x = local % GROUP_X;
    let y = local / GROUP_X;
    let extent = vec3<u32>(p.m, p.n, p.k);
    let a_step = a_steps();
    let b_step = b_steps();
    let a_offset = p.a_offset;
    let b_offset = p.b_offset;
    var c00 = mat4x4<f32>();
    var c01 = mat4x4<f32>();
    var c10 = mat4x4<f32>();
    var c11 = mat4x4<f32>();
    for (var first = 0u; first < extent.z; first += K_TILE) {
        // Neighbours bring neighbours in storage: across k if those are stored together, else along k.
        for (var j = local; j < K_TILE * A_WIDTH; j += GROUP) {
            let place = select(vec2<u32>(j / K_TILE, j % K_TILE), vec2<u32>(j % A_WIDTH, j / A_WIDTH), A_TRANSPOSED == 1u);
            let i = first + place.y;
            let rows = four(origin.x + 4u * place.x, 1u, extent.x);
            let value = load_a(a_offset + rows * a_step.x + min(i, extent.z - 1u) * a_step.y);
            a_tile[place.y * (A_WIDTH + 1u) + place.x] = select(vec4<f32>(), value, i < extent.z);
        }
        for (var j = local; j < K_TILE * B_WIDTH; j += GROUP) {
            let place = select(vec2<u32>(j % B_WIDTH, j / B_WIDTH), vec2<u32>(j / K_TILE, j % K_TILE), B_TRANSPOSED == 1u);
            let i = first + place.y;
            let cols = four(origin.y + 4u * place.x, 1u, extent.y);
            let value = load_b(b_offset + min(i, extent.z - 1u) * b_step.x + cols * b_step.y);
            b_tile[place.y * (B_WIDTH + 1u) + place.x] = select(vec4<f32>(), value, i < extent.z);
        }
        workgroupBarrier();
        for (var i = 0u; i < K_TILE; i++) {
            let a0 = a_tile[i * (A_WIDTH + 1u) + y];
            let a1 = a_tile[i * (A_WIDTH + 1u) + y + GROUP_Y];
            let b0 = b_tile[i * (B_WIDTH + 1u) + x];
            let b1 = b_tile[i * (B_WIDTH + 1u) + x + GROUP_X];
            c00 += outer(a0, b0);
            c01 += outer(a0, b1);
            c10 += outer(a1, b0);
            c11 += outer(a1, b1);
        }
        workgroupBarrier();
    }
    let row = origin.x + 4u * y;
    let col = origin.y + 4u * x;
    store_block(row, col, 1u, c00);
    store_block(row, col + 4u * GROUP_X, 1u, c01);
    store_block(row + 4u * GROUP_Y, col, 1u, c10);
    store_block(row + 4u * GROUP_Y, col + 4u * GROUP_X, 1u, c11);
}

@compute @workgroup_size(GROUP)
fn direct(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let origin = tile_origin(group_number(workgroup_id, num_workgroups), 16u * GROUP_Y, 8u * GROUP_X);
    let row = origin.x + local / GROUP_X * 16u;
    let col = origin.y + local % GROUP_X;
    let a_step = a_steps();
    let b_step = b_steps();
    // Where the next elements are.
    var a0_at = p.a_offset + four(row, 1u, p.m) * a_step.x;
    var a1_at = p.a_offset + four(row + 4u, 1u, p.m) * a_step.x;
    var a2_at = p.a_offset + four(row + 8u, 1u, p.m) * a_step.x;
    var a3_at = p.a_offset + four(row + 12u, 1u, p.m) * a_step.x;
    var b0_at = p.b_offset + four(col, GROUP_X, p.n) * b_step.y;
    var b1_at = p.b_offset + four(col + 4u * GROUP_X, GROUP_X, p.n) * b_step.y;
    var c00 = mat4x4<f32>();
    var c01 = mat4x4<f32>();
    var c10 = mat4x4<f32>();
    var c11 = mat4x4<f32>();
    var c20 = mat4x4<f32>();
    var c21 = mat4x4<f32>();
    var c30 = mat4x4<f32>();
    var c31 = mat4x4<f32>();
    let k = p.k;
    for (var i = 0u; i < k; i++) {
        let b0 = load_b(b0_at);
        let b1 = load_b(b1_at);
        let a0 = load_a(a0_at);
        c00 += outer(a0, b0);
        c01 += outer(a0, b1);
        let a1 = load_a(a1_at);
        c10 += outer(a1, b0);
        c11 += outer(a1, b1);
        let a2 = load_a(a2_at);
        c20 += outer(a2, b0);
        c21 += outer(a2, b1);
        let a3 = load_a(a3_at);
        c30 += outer(a3, b0);
        c31 += outer(a3, b1);
        b0_at += b_step.x;
        b1_at += b_step.x;
        a0_at += a_step.y;
        a1_at += a_step.y;
        a2_at += a_step.y;
        a3_at += a_step.y;
    }
    let right = col + 4u * GROUP_X;
    store_block(row, col, GROUP_X, c00);
    store_block(row, right, GROUP_X, c01);
    store_block(row + 4u, col, GROUP_X, c10);
    store_block(row + 4u, right, GROUP_X, c11);
    store_block(row + 8u, col, GROUP_X, c20);
    store_block(row + 8u, right, GROUP_X, c21);
    store_block(row + 12u, col, GROUP_X, c30);
    store_block(row + 12u, right, GROUP_X, c31);
}

// The last vector of a row of so many elements, and of the padding that makes them a multiple of 4.
fn last_four(cols: u32) -> u32 {
    return (cols - 1u) / 4u * 4u;
}

// Four elements of a stored row of A from `col` on, of which there are `cols`; past the end, others.
fn a_four(row: u32, col: u32, cols: u32) -> vec4<f32> {
    let at = p.a_offset + row * p.a_stride;
    var value: vec4<f32>;
    value = vec4<f32>(a4[(at + min(col, last_four(cols))) / 4u]); // if A_VECTOR
    value = load_a(at + four(col, 1u, cols)); // unless A_VECTOR
    return value;
}

// Four elements of a stored row of B, as `a_four`.
fn b_four(row: u32, col: u32, cols: u32) -> vec4<f32> {
    let at = p.b_offset + row * p.b_stride;
    var value: vec4<f32>;
    value = vec4<f32>(b4[(at + min(col, last_four(cols))) / 4u]); // if B_VECTOR
    value = load_b(at + four(col, 1u, cols)); // unless B_VECTOR
    return value;
}

// Four rows of A from `row` on at each of four steps from `step` on.
fn a_block(row: u32, step: u32) -> mat4x4<f32> {
    let extent = vec2<u32>(p.m, p.k);
    if A_TRANSPOSED == 1u {
        let steps = four(step, 1u, extent.y);
        return mat4x4<f32>(
            a_four(steps.x, row, extent.x),
            a_four(steps.y, row, extent.x),
            a_four(steps.z, row, extent.x),
            a_four(steps.w, row, extent.x),
        );
    }
    let rows = four(row, 1u, extent.x);
    return transpose(mat4x4<f32>(
        a_four(rows.x, step, extent.y),
        a_four(rows.y, step, extent.y),
        a_four(rows.z, step, extent.y),
        a_four(rows.w, step, extent.y),
    ));
}

// Four columns of B from `col` on at each of four steps from `step` on.
fn b_block(col: u32, step: u32) -> mat4x4<f32> {
    let extent = vec2<u32>(p.n, p.k);
    if B_TRANSPOSED == 0u {
        let steps = four(step, 1u, extent.y);
        return mat4x4<f32>(
            b_four(steps.x, col, extent.x),
            b_four(steps.y, col, extent.x),
            b_four(steps.z, col, extent.x),
            b_four(steps.w, col, extent.x),
        );
    }
    let cols = four(col, 1u, extent.x);
    return transpose(mat4x4<f32>(
        b_four(cols.x, step, extent.y),
        b_four(cols.y, step, extent.y),
        b_four(cols.z, step, extent.y),
        b_four(cols.w, step, extent.y),
    ));
}

// Blocks of a tile: 4 steps of 4 rows or columns.
const A_BLOCKS: u32 = A_WIDTH * K_TILE / 4u;
const B_BLOCKS: u32 = B_WIDTH * K_TILE / 4u;

// Blocks of 8 invocations across a group; the other kernels' groups may be narrower.
const GROUP_EIGHTS: u32 = (GROUP_X + 7u) / 8u;

// Two tiles each, one to be read while the other is filled.
var<workgroup> a_tiles: array<vec4<f32>, 2u * K_TILE * A_WIDTH>; // [2, K_TILE, A_WIDTH]
var<workgroup> b_tiles: array<vec4<f32>, 2u * K_TILE * B_WIDTH>; // [2, K_TILE, B_WIDTH]

// Which vector and which four steps of the tiles an invocation brings. Neighbours bring neighbours in storage.
fn block_place(local: u32) -> vec2<u32> {
    let a_place = select(
        vec2<u32>(local / (K_TILE / 4u), local % (K_TILE / 4u)),
        vec2<u32>(local % A_WIDTH, local / A_WIDTH),
        A_TRANSPOSED == 1u,
    );
    let j = local - A_BLOCKS;
    let b_place = select(
        vec2<u32>(j % B_WIDTH, j / B_WIDTH),
        vec2<u32>(j / (K_TILE / 4u), j % (K_TILE / 4u)),
        B_TRANSPOSED == 1u,
    );
    return select(b_place, a_place, local < A_BLOCKS);
}

// Where the vectors stand that an invocation reads for the first tile of a slice that begins at `first`. Past the end of rows and
// columns, the last ones.
fn lines(local: u32, origin: vec2<u32>, first: u32) -> vec4<u32> {
    let place = block_place(min(local, A_BLOCKS + B_BLOCKS - 1u));
    let is_a = local < A_BLOCKS;
    let extent = select(p.n, p.m, is_a);
    let stride = select(p.b_stride, p.a_stride, is_a);
    let offset = select(p.b_offset, p.a_offset, is_a);
    let along = select(origin.y, origin.x, is_a) + 4u * place.x;
    let step = first + 4u * place.y;
    // Stored rows are steps, or they are the rows or columns of the product.
    let by_steps = offset + (step + vec4<u32>(0u, 1u, 2u, 3u)) * stride + min(along, last_four(extent));
    let by_rows = offset + four(along, 1u, extent) * stride + step;
    return select(by_rows, by_steps, select(B_TRANSPOSED == 0u, A_TRANSPOSED == 1u, is_a)) / 4u;
}

fn block_of(lines: mat4x4<Ahead>) -> mat4x4<f32> {
    return mat4x4<f32>(vec4<f32>(lines[0]), vec4<f32>(lines[1]), vec4<f32>(lines[2]), vec4<f32>(lines[3]));
}

// Where the last vector of B stands.
fn last_of_b() -> u32 {
    let extent = select(vec2<u32>(p.k, p.n), vec2<u32>(p.n, p.k), B_TRANSPOSED == 1u);
    return (p.b_offset + (extent.x - 1u) * p.b_stride + extent.y - 4u) / 4u;
}

// The block that an invocation brings for tile number `tile` of its slice, as it is stored: what turned it here would wait for it.
fn bring_line(local: u32, begin: vec4<u32>, tile: u32) -> mat4x4<Ahead> {
    let a_step = select(K_TILE / 4u, K_TILE / 4u * p.a_stride, A_TRANSPOSED == 1u);
    let b_step = select(K_TILE / 4u * p.b_stride, K_TILE / 4u, B_TRANSPOSED == 1u);
    var at = begin + tile * select(b_step, a_step, local < A_BLOCKS);
    var lines: mat4x4<Ahead>;
    if local < A_BLOCKS {
        lines = mat4x4<Ahead>(vec4<Ahead>(a4[at.x]), vec4<Ahead>(a4[at.y]), vec4<Ahead>(a4[at.z]), vec4<Ahead>(a4[at.w]));
    } else {
        at = min(at, vec4<u32>(last_of_b())); // if PAST_END
        lines = mat4x4<Ahead>(vec4<Ahead>(b4[at.x]), vec4<Ahead>(b4[at.y]), vec4<Ahead>(b4[at.z]), vec4<Ahead>(b4[at.w]));
    }
    return lines;
}

// The block of any sizes, turned, for the steps from `first` on, with zeros from `end` on.
fn bring(local: u32, origin: vec2<u32>, first: u32, end: u32) -> mat4x4<f32> {
    var block: mat4x4<f32>;
    let place = block_place(min(local, A_BLOCKS + B_BLOCKS - 1u));
    let step = first + 4u * place.y;
    if local < A_BLOCKS {
        block = a_block(origin.x + 4u * place.x, step);
    } else {
        block = b_block(origin.y + 4u * place.x, step);
    }
    if step + 4u > end {
        let none = vec4<f32>();
        return mat4x4<f32>(
            select(none, block[0], step < end),
            select(none, block[1], step + 1u < end),
            select(none, block[2], step + 2u < end),
            none,
        );
    }
    return block;
}

// Puts the block that an invocation brought into one of the two tiles.
fn put(local: u32, tile: u32, block: mat4x4<f32>) {
    if local >= A_BLOCKS + B_BLOCKS {
        return;
    }
    let place = block_place(local);
    let step = tile * K_TILE + 4u * place.y;
    if local < A_BLOCKS {
        var rows = block;
        if EVEN == 1u && A_TRANSPOSED == 0u {
            rows = transpose(block);
        }
        let at = step * A_WIDTH + place.x;
        a_tiles[at] = rows[0];
        a_tiles[at + A_WIDTH] = rows[1];
        a_tiles[at + 2u * A_WIDTH] = rows[2];
        a_tiles[at + 3u * A_WIDTH] = rows[3];
    } else {
        var columns = block;
        if EVEN == 1u && B_TRANSPOSED == 1u {
            columns = transpose(block);
        }
        let at = step * B_WIDTH + place.x;
        b_tiles[at] = columns[0];
        b_tiles[at + B_WIDTH] = columns[1];
        b_tiles[at + 2u * B_WIDTH] = columns[2];
        b_tiles[at + 3u * B_WIDTH] = columns[3];
    }
}

// Stores four neighbouring columns of a row.
fn store_four(slice: u32, row: u32, col: u32, products: vec4<f32>) {
    if row >= p.m || col >= p.all_n {
        return;
    }
    var values = products;
    values = select(vec4<f32>(), products, col + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.n)); // if C_PADDED
    let at = p.c_offset + (slice * p.m + row) * p.c_stride + col;
    store_vector(at, row, col, values); // if C_VECTOR
    store_scalars(at, row, col, values); // unless C_VECTOR
}

fn store_vector(at: u32, row: u32, col: u32, products: vec4<f32>) {
    var value = products;
    if START == 1u {
        value += vec4<f32>(bias4[(bias_row(row) + col) / 4u]);
    }
    if START == 2u {
        value += vec4<f32>(c4[at / 4u]);
    }
    if TANH == 1u {
        value = vec4<f32>(tanh_(value.x), tanh_(value.y), tanh_(value.z), tanh_(value.w));
    }
    c4[at / 4u] = vec4<StoredC>(value);
}

fn store_scalars(at: u32, row: u32, col: u32, products: vec4<f32>) {
    finish(at, row, col, products.x);
    if col + 1u < p.all_n {
        finish(at + 1u, row, col + 1u, products.y);
    }
    if col + 2u < p.all_n {
        finish(at + 2u, row, col + 2u, products.z);
    }
    if col + 3u < p.all_n {
        finish(at + 3u, row, col + 3u, products.w);
    }
}

// Stores a matrix whose columns are four columns each of four rows from `row` on.
fn store_rows(slice: u32, row: u32, col: u32, rows: mat4x4<f32>) {
    store_four(slice, row, col, rows[0]);
    store_four(slice, row + 1u, col, rows[1]);
    store_four(slice, row + 2u, col, rows[2]);
    store_four(slice, row + 3u, col, rows[3]);
}

@compute @workgroup_size(GROUP)
fn vector(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let rows = 8u * GROUP_Y;
    let cols = 8u * GROUP_X;
    let tiles = (p.m + rows - 1u) / rows * ((p.n + cols - 1u) / cols);
    let slice = group / tiles;
    let origin = tile_origin(group % tiles, rows, cols);
    let start = slice * p.slice;
    let end = min(start + p.slice, p.k);
    // 32 neighbours are 8 x 4.
    let x = local % 8u + local / 32u % GROUP_EIGHTS * 8u;
    let y = local / 8u % 4u + local / (4u * GROUP_X) * 4u;
    // Rows of C, each a column of a matrix.
    var c00 = mat4x4<f32>();
    var c01 = mat4x4<f32>();
    var c10 = mat4x4<f32>();
    var c11 = mat4x4<f32>();
    let tiles_along = (max(end, start) - start + K_TILE - 1u) / K_TILE;
    // Terms of a tile: one that is longer than k has none to add behind it. Compilers do not know that this is K_TILE elsewhere, and
    // keep the loop: unrolled, it takes more registers than Intel's chips have.
    let terms = min(K_TILE, p.k);
    var next: mat4x4<f32>; // unless EVEN
    var ahead: mat4x4<Ahead>; // if EVEN
    // Surplus groups bring the last tile, of which nothing comes.
    let begin = lines(local, origin, min(start, p.k - K_TILE)); // if EVEN
    ahead = bring_line(local, begin, 0u); // if EVEN
    next = bring(local, origin, start, end); // unless EVEN
    put(local, 0u, block_of(ahead)); // if EVEN
    put(local, 0u, next); // unless EVEN
    workgroupBarrier();
    for (var i_tile = 0u; i_tile < tiles_along; i_tile++) {
        let tile = i_tile % 2u;
        // After the last tile once more the last one: a condition would have compilers wait for memory here.
        ahead = bring_line(local, begin, min(i_tile + 1u, tiles_along - 1u)); // if EVEN
        next = bring(local, origin, start + (i_tile + 1u) * K_TILE, end); // unless EVEN
        for (var i = 0u; i < terms; i++) {
            let a_at = (tile * K_TILE + i) * A_WIDTH + y;
            let b_at = (tile * K_TILE + i) * B_WIDTH + x;
            let a0 = a_tiles[a_at];
            let a1 = a_tiles[a_at + GROUP_Y];
            let b0 = b_tiles[b_at];
            let b1 = b_tiles[b_at + GROUP_X];
            c00 += outer(b0, a0);
            c01 += outer(b1, a0);
            c10 += outer(b0, a1);
            c11 += outer(b1, a1);
        }
        put(local, 1u - tile, block_of(ahead)); // if EVEN
        put(local, 1u - tile, next); // unless EVEN
        workgroupBarrier();
    }
    // Surplus groups have no slice.
    if start >= p.k {
        return;
    }
    let row = origin.x + 4u * y;
    let col = origin.y + 4u * x;
    store_rows(slice, row, col, c00);
    store_rows(slice, row, col + 4u * GROUP_X, c01);
    store_rows(slice, row + 4u * GROUP_Y, col, c10);
    store_rows(slice, row + 4u * GROUP_Y, col + 4u * GROUP_X, c11);
}

// C = activation(start + the sum of the slices, which are A: [k, m, n]).
@compute @workgroup_size(256)
fn sum_slices(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let element = group_number(workgroup_id, num_workgroups) * 256u + local;
    if element >= p.m * p.n {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < p.k; i++) {
        sum += f32(a[p.a_offset + i * p.m * p.n + element]);
    }
    store(element / p.n, element % p.n, sum);
}
