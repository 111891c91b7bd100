// C = activation(start + A B), where `start` is nothing, a bias row by row, or C itself. A is [m, k], or [k, m] with
// A_TRANSPOSED; B is [k, n], or [n, k] with B_TRANSPOSED; all are stored row by row. Every kernel adds up each element of C
// in the order of k, and then `start`.
//
// A workgroup owns a tile of C; tiles are numbered along n first, so that neighbouring groups share rows of A. Where a tile
// hangs over C's edge, indices are clamped to valid elements and what comes of them is not stored.
//
// naive: an element an invocation, operands from storage each time. The reference.
// tiled: an element an invocation; 16 x 16 tiles of A and B pass through workgroup memory, so storage is read 1/16 as often.
// register: 8 x 8 elements an invocation in registers; workgroup memory holds K_TILE steps of A and B as vectors along m and
//   n, so that 4 vector loads serve 64 multiply-adds. Each vector row is padded by one vector, against bank conflicts while
//   it is filled.
// direct: ROWS x COLS elements an invocation in registers, operands from storage and its caches: no barrier and no workgroup
//   memory, whose loads cost software adapters as much as any other. Neighbouring invocations own neighbouring columns.

struct Params {
    a_offset: u32,
    b_offset: u32,
    bias_offset: u32,
    c_offset: u32,
    // Extent of this dispatch's part of the product.
    m: u32,
    n: u32,
    k: u32,
    // Elements from one stored row to the next. That of the bias is C's.
    a_stride: u32,
    b_stride: u32,
    c_stride: u32,
    // 0: nothing, 1: the bias row of C's row, 2: C.
    start: u32,
    // Row r of C, counted from first_row, takes bias row (r / inner) % sequences.
    first_row: u32,
    inner: u32,
    sequences: u32,
    // 0: identity, 1: tanh.
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>; // [m, k] or [k, m]
@group(0) @binding(2) var<storage, read> b: array<f32>; // [k, n] or [n, k]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [sequences, n]
@group(0) @binding(4) var<storage, read_write> c: array<f32>; // [m, n]

const A_TRANSPOSED: u32 = 0u;
const B_TRANSPOSED: u32 = 0u;

fn a_at(row: u32, i: u32) -> u32 {
    if A_TRANSPOSED == 1u {
        return p.a_offset + i * p.a_stride + row;
    }
    return p.a_offset + row * p.a_stride + i;
}

fn b_at(i: u32, col: u32) -> u32 {
    if B_TRANSPOSED == 1u {
        return p.b_offset + col * p.b_stride + i;
    }
    return p.b_offset + i * p.b_stride + col;
}

// Row and column of the first element of group `group`'s tile.
fn tile_origin(group: u32, rows: u32, cols: u32) -> vec2<u32> {
    let across = (p.n + cols - 1u) / cols;
    return vec2<u32>(group / across * rows, group % across * cols);
}

fn store(row: u32, col: u32, product: f32) {
    if row >= p.m || col >= p.n {
        return;
    }
    let at = p.c_offset + row * p.c_stride + col;
    var value = product;
    if p.start == 1u {
        let sequence = ((p.first_row + row) / p.inner) % p.sequences;
        value += bias[p.bias_offset + sequence * p.c_stride + col];
    } else if p.start == 2u {
        value += c[at];
    }
    if p.activation == 1u {
        value = tanh_(value);
    }
    c[at] = value;
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
    if row >= p.m || col >= p.n {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < p.k; i++) {
        sum += a[a_at(row, i)] * b[b_at(i, col)];
    }
    store(row, col, sum);
}

var<workgroup> small_a: array<f32, 272>; // [16, 17]: k, m
var<workgroup> small_b: array<f32, 272>; // [16, 17]: k, n

@compute @workgroup_size(256)
fn tiled(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let origin = tile_origin(group_number(workgroup_id, num_workgroups), 16u, 16u);
    let slow = local / 16u;
    let fast = local % 16u;
    // Which element of each tile this invocation brings: neighbours bring neighbours in storage.
    let a_place = select(vec2<u32>(slow, fast), vec2<u32>(fast, slow), A_TRANSPOSED == 1u); // m, k
    let b_place = select(vec2<u32>(slow, fast), vec2<u32>(fast, slow), B_TRANSPOSED == 1u); // k, n
    let a_row = min(origin.x + a_place.x, p.m - 1u);
    let b_col = min(origin.y + b_place.y, p.n - 1u);
    var sum = 0.0;
    for (var first = 0u; first < p.k; first += 16u) {
        let a_value = a[a_at(a_row, min(first + a_place.y, p.k - 1u))];
        let b_value = b[b_at(min(first + b_place.x, p.k - 1u), b_col)];
        small_a[a_place.y * 17u + a_place.x] = select(0.0, a_value, first + a_place.y < p.k);
        small_b[b_place.x * 17u + b_place.y] = select(0.0, b_value, first + b_place.x < p.k);
        workgroupBarrier();
        for (var i = 0u; i < 16u; i++) {
            sum += small_a[i * 17u + slow] * small_b[i * 17u + fast];
        }
        workgroupBarrier();
    }
    store(origin.x + slow, origin.y + fast, sum);
}

// Invocations along m and n; each has 4 * A_VECTORS rows and 4 * B_VECTORS columns.
const REGISTER_X: u32 = 8u;
const REGISTER_Y: u32 = 8u;
const A_VECTORS: u32 = 2u;
const B_VECTORS: u32 = 2u;
const K_TILE: u32 = 16u;
const REGISTER_SIZE: u32 = REGISTER_X * REGISTER_Y;
const A_WIDTH: u32 = REGISTER_Y * A_VECTORS;
const B_WIDTH: u32 = REGISTER_X * B_VECTORS;

var<workgroup> a_tile: array<vec4<f32>, K_TILE * (A_WIDTH + 1u)>; // [K_TILE, A_WIDTH + 1]
var<workgroup> b_tile: array<vec4<f32>, K_TILE * (B_WIDTH + 1u)>; // [K_TILE, B_WIDTH + 1]

// Elements (row .. row + 4, i) of A, zero beyond k.
fn a_vector(row: u32, i: u32) -> vec4<f32> {
    let inside = min(i, p.k - 1u);
    let last = p.m - 1u;
    let value = vec4<f32>(
        a[a_at(min(row, last), inside)],
        a[a_at(min(row + 1u, last), inside)],
        a[a_at(min(row + 2u, last), inside)],
        a[a_at(min(row + 3u, last), inside)],
    );
    return select(vec4<f32>(), value, i < p.k);
}

// Elements (i, col .. col + 4) of B, zero beyond k.
fn b_vector(i: u32, col: u32) -> vec4<f32> {
    let inside = min(i, p.k - 1u);
    let last = p.n - 1u;
    let value = vec4<f32>(
        b[b_at(inside, min(col, last))],
        b[b_at(inside, min(col + 1u, last))],
        b[b_at(inside, min(col + 2u, last))],
        b[b_at(inside, min(col + 3u, last))],
    );
    return select(vec4<f32>(), value, i < p.k);
}

@compute @workgroup_size(REGISTER_SIZE)
fn registers(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let origin = tile_origin(group_number(workgroup_id, num_workgroups), 4u * A_WIDTH, 4u * B_WIDTH);
    let x = local % REGISTER_X;
    let y = local / REGISTER_X;
    var sums: array<vec4<f32>, 4u * A_VECTORS * B_VECTORS>; // [4 A_VECTORS, B_VECTORS]
    for (var first = 0u; first < p.k; first += K_TILE) {
        // Neighbours bring neighbours in storage: along m or n if those are stored together, else along k.
        for (var j = local; j < K_TILE * A_WIDTH; j += REGISTER_SIZE) {
            var place = vec2<u32>(j % K_TILE, j / K_TILE);
            if A_TRANSPOSED == 1u {
                place = vec2<u32>(j / A_WIDTH, j % A_WIDTH);
            }
            a_tile[place.x * (A_WIDTH + 1u) + place.y] = a_vector(origin.x + 4u * place.y, first + place.x);
        }
        for (var j = local; j < K_TILE * B_WIDTH; j += REGISTER_SIZE) {
            var place = vec2<u32>(j / B_WIDTH, j % B_WIDTH);
            if B_TRANSPOSED == 1u {
                place = vec2<u32>(j % K_TILE, j / K_TILE);
            }
            b_tile[place.x * (B_WIDTH + 1u) + place.y] = b_vector(first + place.x, origin.y + 4u * place.y);
        }
        workgroupBarrier();
        for (var i = 0u; i < K_TILE; i++) {
            var columns: array<vec4<f32>, B_VECTORS>;
            for (var v = 0u; v < B_VECTORS; v++) {
                columns[v] = b_tile[i * (B_WIDTH + 1u) + v * REGISTER_X + x];
            }
            for (var u = 0u; u < A_VECTORS; u++) {
                let rows = a_tile[i * (A_WIDTH + 1u) + u * REGISTER_Y + y];
                for (var v = 0u; v < B_VECTORS; v++) {
                    sums[(4u * u + 0u) * B_VECTORS + v] += rows.x * columns[v];
                    sums[(4u * u + 1u) * B_VECTORS + v] += rows.y * columns[v];
                    sums[(4u * u + 2u) * B_VECTORS + v] += rows.z * columns[v];
                    sums[(4u * u + 3u) * B_VECTORS + v] += rows.w * columns[v];
                }
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u * A_VECTORS; r++) {
        let row = origin.x + 4u * (r / 4u * REGISTER_Y + y) + r % 4u;
        for (var v = 0u; v < B_VECTORS; v++) {
            let col = origin.y + 4u * (v * REGISTER_X + x);
            let sum = sums[r * B_VECTORS + v];
            store(row, col, sum.x);
            store(row, col + 1u, sum.y);
            store(row, col + 2u, sum.z);
            store(row, col + 3u, sum.w);
        }
    }
}

// Invocations along n and m of a group, elements of each.
const DIRECT_X: u32 = 32u;
const DIRECT_Y: u32 = 2u;
const DIRECT_SIZE: u32 = DIRECT_X * DIRECT_Y;
const ROWS: u32 = 8u;
const COLS: u32 = 8u;

@compute @workgroup_size(DIRECT_SIZE)
fn direct(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let origin = tile_origin(group_number(workgroup_id, num_workgroups), DIRECT_Y * ROWS, DIRECT_X * COLS);
    let first_row = origin.x + local / DIRECT_X * ROWS;
    let first_col = origin.y + local % DIRECT_X;
    var a_starts: array<u32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        a_starts[r] = a_at(min(first_row + r, p.m - 1u), 0u);
    }
    var b_starts: array<u32, COLS>;
    for (var s = 0u; s < COLS; s++) {
        b_starts[s] = b_at(0u, min(first_col + s * DIRECT_X, p.n - 1u));
    }
    let a_step = select(1u, p.a_stride, A_TRANSPOSED == 1u);
    let b_step = select(p.b_stride, 1u, B_TRANSPOSED == 1u);
    var sums: array<f32, ROWS * COLS>; // [ROWS, COLS]
    for (var i = 0u; i < p.k; i++) {
        var columns: array<f32, COLS>;
        for (var s = 0u; s < COLS; s++) {
            columns[s] = b[b_starts[s] + i * b_step];
        }
        for (var r = 0u; r < ROWS; r++) {
            let value = a[a_starts[r] + i * a_step];
            for (var s = 0u; s < COLS; s++) {
                sums[r * COLS + s] += value * columns[s];
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        for (var s = 0u; s < COLS; s++) {
            store(first_row + r, first_col + s * DIRECT_X, sums[r * COLS + s]);
        }
    }
}
