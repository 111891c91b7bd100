// LSTM over a sequence, forward and backward (src/ops/lstm.rs): the recurrent products with the gates' functions and
// derivatives behind them. Five ways each, of the same bindings:
//
// *_naive: one dispatch a step, a cell an invocation. The reference.
//
// *_block: one dispatch a step, no workgroup memory. An invocation makes 12 x 2 cells (forward) or 8 x 4 (backward) in registers,
// for drivers that run on a CPU, where a load costs as much as many multiply-adds.
//
// *_tiled: one dispatch a step, for GPUs. A workgroup is a product of a tile of rows and one of units whose factors pass
// through workgroup memory. Storage is read in runs of DEPTH elements or X units, so that loads of neighbouring invocations make
// whole cache lines, and what neighbouring invocations read from workgroup memory at one time is the same or in different banks.
// Vectors are put together on the way: the four gates of a unit stand H apart, four rows further.
//
// *_split: one dispatch a step, for GPUs: as *_tiled, but with storage read four elements at a time where sizes allow it, the next
// tiles read while these are multiplied, and the sums' length cut into PARTS, one for each X * Y invocations of a workgroup.
// So there are waves enough to hide what memory takes where rows and units are few.
//
// *_sequence: one dispatch for many steps, where rows are many or a dispatch is dear. A workgroup owns 4 x QUADS rows for
// all steps of the dispatch: h or the gates' gradients stand in workgroup memory, c or its gradient in registers, and R is
// streamed from the cache for each step, backward from a transposed copy, so that invocations read neighbours either way. Rows
// are independent, so no workgroup waits for another.
//
// Gates stand in the order i, f, g, o, and a vec4 of gates has one of each. Sums are kept in named matrices, not in arrays:
// drivers that do not unroll every loop over an array keep it in memory.

// What the recurrent matrix is stored as, and what gates, h and dh are; c and dc are always f32.
alias W = f32;
alias S = f32;
// What is kept of the next tile where storage is read by vectors: f16 where both are stored so, which become f32 when they are put
// down. What converted them where they are read would wait for them.
alias Ahead = f32;

struct Forward {
    recurrent_offset: u32,
    gates_offset: u32,
    h_offset: u32,
    c_offset: u32,
    steps: u32,
    rows: u32,
    // Rows from one step to the next of h and c, which may be more than are made here.
    pitch: u32,
    units: u32,
}
@group(0) @binding(0) var<uniform> p: Forward;
@group(0) @binding(1) var<storage, read> recurrent: array<W>; // [H, 4H]
@group(0) @binding(2) var<storage, read_write> gates: array<S>; // [steps, rows, 4H]
@group(0) @binding(3) var<storage, read_write> h: array<S>; // [steps + 1, pitch, H]
@group(0) @binding(4) var<storage, read_write> c: array<f32>; // [steps + 1, pitch, H]

// R[k, unit] of the four gates; of units past the end, the last one's.
fn weights(k: u32, unit: u32) -> vec4<f32> {
    let at = p.recurrent_offset + k * 4u * p.units + min(unit, p.units - 1u);
    return vec4<f32>(
        f32(recurrent[at]),
        f32(recurrent[at + p.units]),
        f32(recurrent[at + 2u * p.units]),
        f32(recurrent[at + 3u * p.units]),
    );
}

// Where h and c of a step have this row: of rows past the end, the last.
fn state_at(step: u32, row: u32) -> u32 {
    return (step * p.pitch + min(row, p.rows - 1u)) * p.units;
}

// The same of four rows.
fn states_at(step: u32, row: u32) -> vec4<u32> {
    return vec4<u32>(state_at(step, row), state_at(step, row + 1u), state_at(step, row + 2u), state_at(step, row + 3u));
}

fn load_h(places: vec4<u32>) -> vec4<f32> {
    let at = p.h_offset + places;
    return vec4<f32>(f32(h[at.x]), f32(h[at.y]), f32(h[at.z]), f32(h[at.w]));
}

fn load_c(places: vec4<u32>) -> vec4<f32> {
    let at = p.c_offset + places;
    return vec4<f32>(c[at.x], c[at.y], c[at.z], c[at.w]);
}

// The products of `left` and each of four rows, a column a row.
fn outer(left: vec4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(left * rows.x, left * rows.y, left * rows.z, left * rows.w);
}

// One step of one cell, to whose gates the recurrent products come. Returns its c and h, zero outside.
fn cell(step: u32, row: u32, unit: u32, product: vec4<f32>, c_before: f32) -> vec2<f32> {
    if row >= p.rows || unit >= p.units {
        return vec2<f32>();
    }
    let gate = p.gates_offset + (step * p.rows + row) * 4u * p.units + unit;
    let i = sigmoid_(f32(gates[gate]) + product.x);
    let f = sigmoid_(f32(gates[gate + p.units]) + product.y);
    let g = tanh_(f32(gates[gate + 2u * p.units]) + product.z);
    let o = sigmoid_(f32(gates[gate + 3u * p.units]) + product.w);
    let s = f * c_before + i * g;
    let y = o * tanh_(s);
    gates[gate] = S(i);
    gates[gate + p.units] = S(f);
    gates[gate + 2u * p.units] = S(g);
    gates[gate + 3u * p.units] = S(o);
    let after = state_at(step + 1u, row) + unit;
    c[p.c_offset + after] = s;
    h[p.h_offset + after] = S(y);
    return vec2<f32>(s, y);
}

// The same of four rows, a column of products a row.
struct State {
    c: vec4<f32>,
    h: vec4<f32>,
}
fn cells(step: u32, row: u32, unit: u32, products: mat4x4<f32>, c_before: vec4<f32>) -> State {
    let r0 = cell(step, row, unit, products[0], c_before.x);
    let r1 = cell(step, row + 1u, unit, products[1], c_before.y);
    let r2 = cell(step, row + 2u, unit, products[2], c_before.z);
    let r3 = cell(step, row + 3u, unit, products[3], c_before.w);
    return State(vec4<f32>(r0.x, r1.x, r2.x, r3.x), vec4<f32>(r0.y, r1.y, r2.y, r3.y));
}

// The only step of a dispatch.
fn step_of(row: u32, unit: u32, product: vec4<f32>) {
    _ = cell(0u, row, unit, product, c[p.c_offset + state_at(0u, row) + min(unit, p.units - 1u)]);
}

// The same of four rows.
fn steps_of(row: u32, unit: u32, products: mat4x4<f32>) {
    // Indexed by a loop, and so a copy: the sums themselves are to stay in registers.
    var rows = products;
    for (var r = 0u; r < 4u; r++) {
        step_of(row + r, unit, rows[r]);
    }
}

@compute @workgroup_size(64)
fn forward_naive(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (p.units + 63u) / 64u;
    let row = group / unit_blocks;
    let unit = group % unit_blocks * 64u + invocation;
    let before = state_at(0u, row);
    var sum = vec4<f32>();
    for (var k = 0u; k < p.units; k++) {
        sum += f32(h[p.h_offset + before + k]) * weights(k, unit);
    }
    step_of(row, unit, sum);
}

@compute @workgroup_size(64)
fn forward_block(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (p.units + 127u) / 128u;
    let row = group / unit_blocks * 12u;
    let unit = group % unit_blocks * 128u + invocation;
    let at0 = states_at(0u, row);
    let at1 = states_at(0u, row + 4u);
    let at2 = states_at(0u, row + 8u);
    let units = p.units;
    var s00 = mat4x4<f32>();
    var s01 = mat4x4<f32>();
    var s02 = mat4x4<f32>();
    var s10 = mat4x4<f32>();
    var s11 = mat4x4<f32>();
    var s12 = mat4x4<f32>();
    for (var k = 0u; k < units; k++) {
        let h0 = load_h(at0 + k);
        let h1 = load_h(at1 + k);
        let h2 = load_h(at2 + k);
        let w0 = weights(k, unit);
        s00 += outer(w0, h0);
        s01 += outer(w0, h1);
        s02 += outer(w0, h2);
        let w1 = weights(k, unit + 64u);
        s10 += outer(w1, h0);
        s11 += outer(w1, h1);
        s12 += outer(w1, h2);
    }
    var sums = array<mat4x4<f32>, 6>(s00, s01, s02, s10, s11, s12);
    for (var i = 0u; i < 24u; i++) {
        step_of(row + i % 12u, unit + i / 12u * 64u, sums[i / 4u][i % 4u]);
    }
}

// Invocations of a tile along units and along rows, quadruples of rows of an invocation, which stand Y quadruples apart, and how much
// of the sums' length is in workgroup memory at a time. Forward an invocation has one unit, backward four, X apart.
const X: u32 = 32u;
const Y: u32 = 8u;
const QUADS: u32 = 1u;
const DEPTH: u32 = 16u;
// Rows of the tiles in workgroup memory are longer than DEPTH by this where invocations of different rows read at one time, so
// that they meet different banks.
const PAD: u32 = 0u;
const TILE_PITCH: u32 = DEPTH + PAD;
const TILE_QUADS: u32 = QUADS * Y;

var<workgroup> tile_rows: array<vec4<f32>, TILE_QUADS * TILE_PITCH>; // [TILE_QUADS, TILE_PITCH] of 4 rows
var<workgroup> tile_weights: array<vec4<f32>, DEPTH * X>; // [DEPTH, X] of 4 gates

@compute @workgroup_size(X * Y)
fn forward_tiled(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (p.units + X - 1u) / X;
    let first_row = group / unit_blocks * 4u * TILE_QUADS;
    let first_unit = group % unit_blocks * X;
    let x = invocation % X;
    let y = invocation / X;
    let units = p.units;
    var s0 = mat4x4<f32>();
    var s1 = mat4x4<f32>();
    var s2 = mat4x4<f32>();
    var s3 = mat4x4<f32>();
    for (var first = 0u; first < units; first += DEPTH) {
        for (var i = invocation; i < TILE_QUADS * DEPTH; i += X * Y) {
            let k = first + i % DEPTH;
            let hidden = load_h(states_at(0u, first_row + i / DEPTH * 4u) + min(k, units - 1u));
            tile_rows[i / DEPTH * TILE_PITCH + i % DEPTH] = select(vec4<f32>(), hidden, k < units);
        }
        for (var i = invocation; i < DEPTH * X; i += X * Y) {
            tile_weights[i] = weights(min(first + i / X, units - 1u), first_unit + i % X);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let w = tile_weights[k * X + x];
            s0 += outer(w, tile_rows[y * TILE_PITCH + k]);
            if QUADS > 1u {
                s1 += outer(w, tile_rows[(y + Y) * TILE_PITCH + k]);
            }
            if QUADS > 2u {
                s2 += outer(w, tile_rows[(y + 2u * Y) * TILE_PITCH + k]);
                s3 += outer(w, tile_rows[(y + 3u * Y) * TILE_PITCH + k]);
            }
        }
        workgroupBarrier();
    }
    let row = first_row + 4u * y;
    steps_of(row, first_unit + x, s0);
    if QUADS > 1u {
        steps_of(row + 4u * Y, first_unit + x, s1);
    }
    if QUADS > 2u {
        steps_of(row + 8u * Y, first_unit + x, s2);
        steps_of(row + 12u * Y, first_unit + x, s3);
    }
}

// Parts of the sums' length, each made by X * Y invocations and added up at the end.
const PARTS: u32 = 1u;
// 1 where storage is read and written four elements at a time: all operands begin at a multiple of four elements, and each part's
// share of the sums' length is a multiple of DEPTH.
const VECTOR: u32 = 0u;
const LANES: u32 = X * Y;

@group(0) @binding(1) var<storage, read> recurrent4: array<vec4<W>>; // the same as `recurrent`, and so on
@group(0) @binding(2) var<storage, read_write> gates4: array<vec4<S>>;
@group(0) @binding(3) var<storage, read_write> h4: array<vec4<S>>;
@group(0) @binding(4) var<storage, read_write> cells4: array<vec4<f32>>; // the same as `c`

// For each part [DEPTH, JOINT_PITCH]: Y vectors of four rows, then X of what they are multiplied with. Then the parts' sums.
const JOINT_PITCH: u32 = X + Y + PAD;
const JOINT: u32 = max(DEPTH * JOINT_PITCH, 4u * LANES);
var<workgroup> joint: array<vec4<f32>, PARTS * JOINT>;

// Blocks of four vectors that stand in a part: of rows, four terms of the sum along each ...
const ROW_BLOCKS: u32 = Y * DEPTH / 4u;
// ... and of the weights forward, four units of each gate.
const WEIGHT_BLOCKS: u32 = DEPTH * X / 4u;

// Which block of which part an invocation brings, at most one. Weights come first, in the order of the parts, so that the
// invocations of a wave bring one kind: where they bring two, the second waits until the first is there.
struct Brings {
    part: u32,
    block: u32,
    rows: bool,
    any: bool,
}
fn brings(invocation: u32, weights: u32) -> Brings {
    if invocation < PARTS * weights {
        return Brings(invocation / weights, invocation % weights, false, true);
    }
    let rest = invocation - PARTS * weights;
    return Brings(min(rest / ROW_BLOCKS, PARTS - 1u), rest % ROW_BLOCKS, true, rest < PARTS * ROW_BLOCKS);
}

// Four terms of h of the step before, from k on: of rows past the end, the last; zeros from `end` on.
fn four_h(row: u32, k: u32, end: u32) -> vec4<f32> {
    let terms = k + vec4<u32>(0u, 1u, 2u, 3u);
    let value = load_h(state_at(0u, row) + min(terms, vec4<u32>(p.units - 1u)));
    return select(vec4<f32>(), value, terms < vec4<u32>(end));
}

// R of a gate for four units from `unit` on; past the end, the last ones'.
fn four_weights(k: u32, gate: u32, unit: u32) -> vec4<f32> {
    let row = p.recurrent_offset + (min(k, p.units - 1u) * 4u + gate) * p.units;
    let at = row + min(unit + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.units - 1u));
    return vec4<f32>(f32(recurrent[at.x]), f32(recurrent[at.y]), f32(recurrent[at.z]), f32(recurrent[at.w]));
}

// Where the vectors stand that an invocation reads for the first tile of a part, whose terms begin at `first`.
fn lines_forward(mine: Brings, first_row: u32, first_unit: u32, first: u32) -> vec4<u32> {
    let row = first_row + mine.block / (DEPTH / 4u) * 4u;
    let rows = (p.h_offset + states_at(0u, row) + first + mine.block % (DEPTH / 4u) * 4u) / 4u;
    let gates = (first + mine.block / (X / 4u)) * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let unit = min(first_unit + mine.block % (X / 4u) * 4u, p.units - 4u);
    return select((p.recurrent_offset + gates * p.units + unit) / 4u, rows, mine.rows);
}

// Four vectors of the weights as they are stored.
fn weights_at(at: vec4<u32>) -> mat4x4<Ahead> {
    return mat4x4<Ahead>(
        vec4<Ahead>(recurrent4[at.x]),
        vec4<Ahead>(recurrent4[at.y]),
        vec4<Ahead>(recurrent4[at.z]),
        vec4<Ahead>(recurrent4[at.w]),
    );
}

// Four vectors of storage as they stand in `joint`.
fn turned(lines: mat4x4<Ahead>) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(vec4<f32>(lines[0]), vec4<f32>(lines[1]), vec4<f32>(lines[2]), vec4<f32>(lines[3])));
}

// The block that an invocation brings for tile number `tile` of its part.
fn bring_forward(mine: Brings, lines: vec4<u32>, tile: u32) -> mat4x4<Ahead> {
    let at = lines + tile * select(DEPTH * p.units, DEPTH / 4u, mine.rows);
    var block: mat4x4<Ahead>;
    if mine.rows {
        block = mat4x4<Ahead>(vec4<Ahead>(h4[at.x]), vec4<Ahead>(h4[at.y]), vec4<Ahead>(h4[at.z]), vec4<Ahead>(h4[at.w]));
    } else {
        block = weights_at(at);
    }
    return block;
}

// The same of any sizes, for the terms from `first` on.
fn gather_forward(mine: Brings, first_row: u32, first_unit: u32, first: u32, end: u32) -> mat4x4<f32> {
    if mine.rows {
        let row = first_row + mine.block / (DEPTH / 4u) * 4u;
        let k = first + mine.block % (DEPTH / 4u) * 4u;
        return transpose(
            mat4x4<f32>(four_h(row, k, end), four_h(row + 1u, k, end), four_h(row + 2u, k, end), four_h(row + 3u, k, end)),
        );
    }
    let unit = first_unit + mine.block % (X / 4u) * 4u;
    let k = first + mine.block / (X / 4u);
    return transpose(
        mat4x4<f32>(four_weights(k, 0u, unit), four_weights(k, 1u, unit), four_weights(k, 2u, unit), four_weights(k, 3u, unit)),
    );
}

// Where the first of them stands in its part, and how far apart they are.
fn place_forward(mine: Brings) -> vec2<u32> {
    return select(
        vec2<u32>(mine.block / (X / 4u) * JOINT_PITCH + Y + mine.block % (X / 4u) * 4u, 1u),
        vec2<u32>(mine.block % (DEPTH / 4u) * 4u * JOINT_PITCH + mine.block / (DEPTH / 4u), JOINT_PITCH),
        mine.rows,
    );
}

fn put(part: u32, place: vec2<u32>, block: mat4x4<f32>) {
    let at = part * JOINT + place.x;
    joint[at] = block[0];
    joint[at + place.y] = block[1];
    joint[at + 2u * place.y] = block[2];
    joint[at + 3u * place.y] = block[3];
}

// The products of an invocation's tiles, a column a row.
fn multiplied(part: u32, lane: u32, sums: mat4x4<f32>) -> mat4x4<f32> {
    var s = sums;
    let rows = part * JOINT + lane / X;
    let columns = part * JOINT + Y + lane % X;
    for (var k = 0u; k < DEPTH; k++) {
        s += outer(joint[columns + k * JOINT_PITCH], joint[rows + k * JOINT_PITCH]);
    }
    return s;
}

// The sum over all parts of what each has at `i`.
fn added_up(i: u32) -> vec4<f32> {
    var sum = joint[i];
    for (var part = 1u; part < PARTS; part++) {
        sum += joint[part * JOINT + i];
    }
    return sum;
}

// The only step of a dispatch for four neighbouring units of a row, a column of products a unit.
fn step_of_four(row: u32, unit: u32, products: mat4x4<f32>) {
    step_of_vector(row, unit, transpose(products)); // if VECTOR
    step_of(row, unit, products[0]); // unless VECTOR
    step_of(row, unit + 1u, products[1]); // unless VECTOR
    step_of(row, unit + 2u, products[2]); // unless VECTOR
    step_of(row, unit + 3u, products[3]); // unless VECTOR
}

fn sigmoids(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(sigmoid_(x.x), sigmoid_(x.y), sigmoid_(x.z), sigmoid_(x.w));
}

fn tanhs(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(tanh_(x.x), tanh_(x.y), tanh_(x.z), tanh_(x.w));
}

// Four units of a row after a step: activated gates, a column each, and their states.
struct FourCells {
    gates: mat4x4<f32>,
    c: vec4<f32>,
    h: vec4<f32>,
}
fn four_cells(sums: mat4x4<f32>, before: vec4<f32>) -> FourCells {
    let i = sigmoids(sums[0]);
    let f = sigmoids(sums[1]);
    let g = tanhs(sums[2]);
    let o = sigmoids(sums[3]);
    let c = f * before + i * g;
    return FourCells(mat4x4<f32>(i, f, g, o), c, o * tanhs(c));
}

// The same, a column of products a gate.
fn step_of_vector(row: u32, unit: u32, products: mat4x4<f32>) {
    if row >= p.rows || unit >= p.units {
        return;
    }
    let apart = p.units / 4u;
    let gate = (p.gates_offset + 4u * row * p.units + unit) / 4u;
    let sums = mat4x4<f32>(
        vec4<f32>(gates4[gate]) + products[0],
        vec4<f32>(gates4[gate + apart]) + products[1],
        vec4<f32>(gates4[gate + 2u * apart]) + products[2],
        vec4<f32>(gates4[gate + 3u * apart]) + products[3],
    );
    let before = row * p.units + unit;
    let after = before + p.pitch * p.units;
    let made = four_cells(sums, cells4[(p.c_offset + before) / 4u]);
    gates4[gate] = vec4<S>(made.gates[0]);
    gates4[gate + apart] = vec4<S>(made.gates[1]);
    gates4[gate + 2u * apart] = vec4<S>(made.gates[2]);
    gates4[gate + 3u * apart] = vec4<S>(made.gates[3]);
    cells4[(p.c_offset + after) / 4u] = made.c;
    h4[(p.h_offset + after) / 4u] = vec4<S>(made.h);
}

@compute @workgroup_size(X * Y * PARTS)
fn forward_split(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (p.units + X - 1u) / X;
    let first_row = group / unit_blocks * 4u * Y;
    let first_unit = group % unit_blocks * X;
    let part = invocation / LANES;
    let lane = invocation % LANES;
    let share = (p.units + 4u * PARTS - 1u) / (4u * PARTS) * 4u;
    let tiles = (share + DEPTH - 1u) / DEPTH;
    let mine = brings(invocation, WEIGHT_BLOCKS);
    let begin = mine.part * share;
    let place = place_forward(mine);
    var sums = mat4x4<f32>();
    var next: mat4x4<f32>; // unless VECTOR
    var ahead: mat4x4<Ahead>; // if VECTOR
    let lines = lines_forward(mine, first_row, first_unit, begin); // if VECTOR
    ahead = bring_forward(mine, lines, 0u); // if VECTOR
    let end = min(begin + share, p.units); // unless VECTOR
    next = gather_forward(mine, first_row, first_unit, begin, end); // unless VECTOR
    for (var tile = 0u; tile < tiles; tile++) {
        if mine.any {
            put(mine.part, place, turned(ahead)); // if VECTOR
            put(mine.part, place, next); // unless VECTOR
        }
        workgroupBarrier();
        // After the last tile once more the last one: a condition would have the compiler wait here.
        ahead = bring_forward(mine, lines, min(tile + 1u, tiles - 1u)); // if VECTOR
        next = gather_forward(mine, first_row, first_unit, begin + (tile + 1u) * DEPTH, end); // unless VECTOR
        sums = multiplied(part, lane, sums);
        workgroupBarrier();
    }
    put(part, vec2<u32>(lane, LANES), sums);
    workgroupBarrier();
    if invocation < LANES {
        let row = invocation / (X / 4u);
        let unit = invocation % (X / 4u) * 4u;
        let at = row % 4u * LANES + row / 4u * X + unit;
        let products = mat4x4<f32>(added_up(at), added_up(at + 1u), added_up(at + 2u), added_up(at + 3u));
        step_of_four(first_row + row, first_unit + unit, products);
    }
}

// H, the invocations of a workgroup, and the units of an invocation, which stand INVOCATIONS apart.
const H: u32 = 1u;
const INVOCATIONS: u32 = 64u;
const OWN: u32 = (H + INVOCATIONS - 1u) / INVOCATIONS;

var<workgroup> rows_h: array<vec4<S>, H * QUADS>; // [H, QUADS] of 4 rows

@compute @workgroup_size(INVOCATIONS)
fn forward_sequence(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let row = group_number(workgroup_id, num_workgroups) * 4u * QUADS;
    var carried: array<vec4<f32>, OWN * QUADS>;
    var fresh: array<vec4<f32>, OWN * QUADS>;
    for (var j = 0u; j < OWN; j++) {
        let unit = min(invocation + j * INVOCATIONS, H - 1u);
        for (var q = 0u; q < QUADS; q++) {
            let at = states_at(0u, row + 4u * q) + unit;
            carried[j * QUADS + q] = load_c(at);
            fresh[j * QUADS + q] = load_h(at);
        }
    }
    for (var step = 0u; step < p.steps; step++) {
        for (var j = 0u; j < OWN; j++) {
            let unit = invocation + j * INVOCATIONS;
            if unit < H {
                for (var q = 0u; q < QUADS; q++) {
                    rows_h[unit * QUADS + q] = vec4<S>(fresh[j * QUADS + q]);
                }
            }
        }
        workgroupBarrier();
        for (var j = 0u; j < OWN; j++) {
            let unit = invocation + j * INVOCATIONS;
            var s0 = mat4x4<f32>();
            var s1 = mat4x4<f32>();
            var s2 = mat4x4<f32>();
            var s3 = mat4x4<f32>();
            for (var k = 0u; k < H; k++) {
                let w = weights(k, unit);
                s0 += outer(w, vec4<f32>(rows_h[k * QUADS]));
                if QUADS > 1u {
                    s1 += outer(w, vec4<f32>(rows_h[k * QUADS + 1u]));
                }
                if QUADS > 2u {
                    s2 += outer(w, vec4<f32>(rows_h[k * QUADS + 2u]));
                    s3 += outer(w, vec4<f32>(rows_h[k * QUADS + 3u]));
                }
            }
            var sums = array<mat4x4<f32>, 4>(s0, s1, s2, s3);
            for (var q = 0u; q < QUADS; q++) {
                let after = cells(step, row + 4u * q, unit, sums[q], carried[j * QUADS + q]);
                carried[j * QUADS + q] = after.c;
                fresh[j * QUADS + q] = after.h;
            }
        }
        workgroupBarrier();
    }
}

struct Gates {
    gates_offset: u32,
    rows: u32,
    units: u32,
}
@group(0) @binding(0) var<uniform> all: Gates;
@group(0) @binding(1) var<storage, read_write> preactivations: array<S>; // [rows, 4H]

// The gates' functions alone, where h is known already; an invocation makes the four gates of one unit.
@compute @workgroup_size(64)
fn activate(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let cell = group_number(workgroup_id, num_workgroups) * 64u + invocation;
    let row = cell / all.units;
    if row >= all.rows {
        return;
    }
    let at = all.gates_offset + row * 4u * all.units + cell % all.units;
    preactivations[at] = S(sigmoid_(f32(preactivations[at])));
    preactivations[at + all.units] = S(sigmoid_(f32(preactivations[at + all.units])));
    preactivations[at + 2u * all.units] = S(tanh_(f32(preactivations[at + 2u * all.units])));
    preactivations[at + 3u * all.units] = S(sigmoid_(f32(preactivations[at + 3u * all.units])));
}

struct Backward {
    recurrent_offset: u32,
    dh_offset: u32,
    c_offset: u32,
    later_offset: u32,
    gates_offset: u32,
    dc_offset: u32,
    steps: u32,
    rows: u32,
    // Rows from one step to the next of c.
    pitch: u32,
    units: u32,
    // 1 where the step after the last of these is made, 0 where the last is the sequence's.
    has_later: u32,
}
@group(0) @binding(0) var<uniform> b: Backward;
@group(0) @binding(1) var<storage, read> transposed: array<W>; // [4H, H], in the place of recurrent
@group(0) @binding(2) var<storage, read> dh: array<S>; // [steps, rows, H]
@group(0) @binding(3) var<storage, read> c_read: array<f32>; // [steps + 1, pitch, H]
@group(0) @binding(4) var<storage, read> later: array<S>; // [rows, 4H], with APART
@group(0) @binding(5) var<storage, read_write> dgates: array<S>; // [steps, rows, 4H], one step more without APART
@group(0) @binding(6) var<storage, read_write> dc: array<f32>; // [rows, H]

// 1 where the gates of the step after the last of these are bound by themselves, since two steps are too large for one
// binding; then `steps` is 1. Else they follow in `dgates`.
const APART: u32 = 0u;

// Whether gradients of a later step reach this one.
fn has_later(step: u32) -> bool {
    return step + 1u < b.steps || b.has_later == 1u;
}

// Gradient k of the gates of the step after `step`; of rows past the end, the last row's.
fn later_gate(step: u32, row: u32, k: u32) -> f32 {
    let at = min(row, b.rows - 1u) * 4u * b.units + k;
    if APART == 1u {
        return f32(later[b.later_offset + at]);
    }
    return f32(dgates[b.gates_offset + (step + 1u) * b.rows * 4u * b.units + at]);
}

// The same of four rows.
fn later_rows(step: u32, row: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(
        later_gate(step, row, k),
        later_gate(step, row + 1u, k),
        later_gate(step, row + 2u, k),
        later_gate(step, row + 3u, k),
    );
}

// Four of one row, from k on.
fn later_gates(step: u32, row: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(
        later_gate(step, row, k),
        later_gate(step, row, k + 1u),
        later_gate(step, row, k + 2u),
        later_gate(step, row, k + 3u),
    );
}

// Weight k of a unit; of units past the end, the last one's.
fn weight(unit: u32, k: u32) -> f32 {
    return f32(recurrent[b.recurrent_offset + min(unit, b.units - 1u) * 4u * b.units + k]);
}

// Four weights of a unit, from k on.
fn weights_along(unit: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(weight(unit, k), weight(unit, k + 1u), weight(unit, k + 2u), weight(unit, k + 3u));
}

// The gradients of a cell's gates and of its c of the step before.
struct CellGrad {
    gates: vec4<f32>,
    dc: f32,
}

// One step of one cell backwards. `product` is what reaches its h through R from the step after, `carried` its c's gradient
// from there. Zero outside.
fn cell_grad(step: u32, row: u32, unit: u32, product: f32, carried: f32) -> CellGrad {
    if row >= b.rows || unit >= b.units {
        return CellGrad();
    }
    let before = b.c_offset + (step * b.pitch + row) * b.units + unit;
    let after = before + b.pitch * b.units;
    let gate = b.gates_offset + (step * b.rows + row) * 4u * b.units + unit;
    let i = f32(dgates[gate]);
    let f = f32(dgates[gate + b.units]);
    let g = f32(dgates[gate + 2u * b.units]);
    let o = f32(dgates[gate + 3u * b.units]);
    let s = tanh_(c_read[after]);
    let total = f32(dh[b.dh_offset + (step * b.rows + row) * b.units + unit]) + product;
    let d = carried + total * o * (1.0 - s * s);
    let gradients = vec4<f32>(
        d * g * i * (1.0 - i),
        d * c_read[before] * f * (1.0 - f),
        d * i * (1.0 - g * g),
        total * s * o * (1.0 - o),
    );
    dgates[gate] = S(gradients.x);
    dgates[gate + b.units] = S(gradients.y);
    dgates[gate + 2u * b.units] = S(gradients.z);
    dgates[gate + 3u * b.units] = S(gradients.w);
    return CellGrad(gradients, d * f);
}

fn carried_at(row: u32, unit: u32) -> u32 {
    return b.dc_offset + min(row, b.rows - 1u) * b.units + min(unit, b.units - 1u);
}

// The only step of a dispatch.
fn step_back(row: u32, unit: u32, product: f32) {
    let at = carried_at(row, unit);
    var carried = 0.0;
    if has_later(0u) {
        carried = dc[at];
    }
    let grad = cell_grad(0u, row, unit, product, carried);
    if row < b.rows && unit < b.units {
        dc[at] = grad.dc;
    }
}

// The same of four rows from `row` on, a column a row, and four units, `apart` from one another.
fn steps_back(row: u32, unit: u32, apart: u32, products: mat4x4<f32>) {
    // Indexed by a loop, and so a copy: the sums themselves are to stay in registers.
    var block = products;
    for (var i = 0u; i < 16u; i++) {
        step_back(row + i / 4u, unit + i % 4u * apart, block[i / 4u][i % 4u]);
    }
}

@compute @workgroup_size(64)
fn backward_naive(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (b.units + 63u) / 64u;
    let row = group / unit_blocks;
    let unit = group % unit_blocks * 64u + invocation;
    var sum = 0.0;
    if has_later(0u) {
        for (var k = 0u; k < 4u * b.units; k++) {
            sum += later_gate(0u, row, k) * weight(unit, k);
        }
    }
    step_back(row, unit, sum);
}

// The products of four rows' gradients and four units' weights along the sum, a column a row.
fn dots(g0: vec4<f32>, g1: vec4<f32>, g2: vec4<f32>, g3: vec4<f32>, weights: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(g0 * weights, g1 * weights, g2 * weights, g3 * weights);
}

@compute @workgroup_size(64)
fn backward_block(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (b.units + 255u) / 256u;
    let row = group / unit_blocks * 8u;
    let unit = group % unit_blocks * 256u + invocation;
    var s0 = mat4x4<f32>();
    var s1 = mat4x4<f32>();
    if has_later(0u) {
        // Four terms at a time, since an invocation's weights are neighbours along the sum and far from other invocations'.
        for (var k = 0u; k < 4u * b.units; k += 4u) {
            let w = mat4x4<f32>(
                weights_along(unit, k),
                weights_along(unit + 64u, k),
                weights_along(unit + 128u, k),
                weights_along(unit + 192u, k),
            );
            s0 += dots(
                later_gates(0u, row, k),
                later_gates(0u, row + 1u, k),
                later_gates(0u, row + 2u, k),
                later_gates(0u, row + 3u, k),
                w,
            );
            s1 += dots(
                later_gates(0u, row + 4u, k),
                later_gates(0u, row + 5u, k),
                later_gates(0u, row + 6u, k),
                later_gates(0u, row + 7u, k),
                w,
            );
        }
    }
    steps_back(row, unit, 64u, s0);
    steps_back(row + 4u, unit, 64u, s1);
}

// A step of the sum is one vector longer than X, so that invocations that fill it along the sum meet different banks.
var<workgroup> tile_transposed: array<vec4<f32>, DEPTH * (X + 1u)>; // [DEPTH, X + 1] of 4 units

@compute @workgroup_size(X * Y)
fn backward_tiled(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (b.units + 4u * X - 1u) / (4u * X);
    let first_row = group / unit_blocks * 4u * TILE_QUADS;
    let first_unit = group % unit_blocks * 4u * X;
    let x = invocation % X;
    let y = invocation / X;
    let terms = 4u * b.units;
    var s0 = mat4x4<f32>();
    var s1 = mat4x4<f32>();
    if has_later(0u) {
        for (var first = 0u; first < terms; first += DEPTH) {
            for (var i = invocation; i < TILE_QUADS * DEPTH; i += X * Y) {
                let k = first + i % DEPTH;
                let gradients = later_rows(0u, first_row + i / DEPTH * 4u, min(k, terms - 1u));
                tile_rows[i / DEPTH * TILE_PITCH + i % DEPTH] = select(vec4<f32>(), gradients, k < terms);
            }
            for (var i = invocation; i < DEPTH * X; i += X * Y) {
                let k = min(first + i % DEPTH, terms - 1u);
                let unit = first_unit + i / DEPTH;
                tile_transposed[i % DEPTH * (X + 1u) + i / DEPTH] =
                    vec4<f32>(weight(unit, k), weight(unit + X, k), weight(unit + 2u * X, k), weight(unit + 3u * X, k));
            }
            workgroupBarrier();
            for (var k = 0u; k < DEPTH; k++) {
                let w = tile_transposed[k * (X + 1u) + x];
                s0 += outer(w, tile_rows[y * TILE_PITCH + k]);
                if QUADS > 1u {
                    s1 += outer(w, tile_rows[(y + Y) * TILE_PITCH + k]);
                }
            }
            workgroupBarrier();
        }
    }
    steps_back(first_row + 4u * y, first_unit + x, X, s0);
    if QUADS > 1u {
        steps_back(first_row + 4u * (y + Y), first_unit + x, X, s1);
    }
}

@group(0) @binding(2) var<storage, read> dh4: array<vec4<S>>; // the same as `dh`, and so on
@group(0) @binding(3) var<storage, read> c4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> later4: array<vec4<S>>;
@group(0) @binding(5) var<storage, read_write> dgates4: array<vec4<S>>;
@group(0) @binding(6) var<storage, read_write> dc4: array<vec4<f32>>;

// Four gradients of the step after the only one, from k on: of rows past the end, the last; zeros from `end` on.
fn four_later(row: u32, k: u32, end: u32) -> vec4<f32> {
    return select(vec4<f32>(), later_gates(0u, row, min(k, 4u * b.units - 4u)), k < end);
}

// Of the weights backward, four terms of the sum of four units.
const TRANSPOSED_BLOCKS: u32 = X * DEPTH / 4u;

// As forward.
fn lines_backward(mine: Brings, first_row: u32, first_unit: u32, first: u32) -> vec4<u32> {
    let four = mine.block / (DEPTH / 4u) * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let rows = min(first_row + four, vec4<u32>(b.rows - 1u));
    let units = min(first_unit + four, vec4<u32>(b.units - 1u));
    var begin = 0u;
    begin = b.gates_offset + b.rows * 4u * b.units; // unless APART
    begin = b.later_offset; // if APART
    begin = select(b.recurrent_offset, begin, mine.rows);
    return (begin + select(units, rows, mine.rows) * 4u * b.units + first + mine.block % (DEPTH / 4u) * 4u) / 4u;
}

fn bring_backward(mine: Brings, lines: vec4<u32>, tile: u32) -> mat4x4<Ahead> {
    let at = lines + tile * (DEPTH / 4u);
    var block: mat4x4<Ahead>;
    if mine.rows {
        block = four_lines(at);
    } else {
        block = weights_at(at);
    }
    return block;
}

fn four_lines(at: vec4<u32>) -> mat4x4<Ahead> {
    // Both are named whatever APART says, as both are bound.
    if APART == 1u {
        return mat4x4<Ahead>(
            vec4<Ahead>(later4[at.x]),
            vec4<Ahead>(later4[at.y]),
            vec4<Ahead>(later4[at.z]),
            vec4<Ahead>(later4[at.w]),
        );
    }
    return mat4x4<Ahead>(
        vec4<Ahead>(dgates4[at.x]),
        vec4<Ahead>(dgates4[at.y]),
        vec4<Ahead>(dgates4[at.z]),
        vec4<Ahead>(dgates4[at.w]),
    );
}

fn gather_backward(mine: Brings, first_row: u32, first_unit: u32, first: u32, end: u32) -> mat4x4<f32> {
    let four = mine.block / (DEPTH / 4u) * 4u;
    let k = first + mine.block % (DEPTH / 4u) * 4u;
    if mine.rows {
        let row = first_row + four;
        return transpose(
            mat4x4<f32>(
                four_later(row, k, end),
                four_later(row + 1u, k, end),
                four_later(row + 2u, k, end),
                four_later(row + 3u, k, end),
            ),
        );
    }
    let unit = first_unit + four;
    let within = min(k, 4u * b.units - 4u);
    return transpose(
        mat4x4<f32>(
            weights_along(unit, within),
            weights_along(unit + 1u, within),
            weights_along(unit + 2u, within),
            weights_along(unit + 3u, within),
        ),
    );
}

fn place_backward(mine: Brings) -> vec2<u32> {
    let at = mine.block / (DEPTH / 4u) + select(Y, 0u, mine.rows);
    return vec2<u32>(mine.block % (DEPTH / 4u) * 4u * JOINT_PITCH + at, JOINT_PITCH);
}

// The only step of a dispatch for four neighbouring units of a row.
fn step_back_four(row: u32, unit: u32, product: vec4<f32>) {
    step_back_vector(row, unit, product); // if VECTOR
    step_back(row, unit, product.x); // unless VECTOR
    step_back(row, unit + 1u, product.y); // unless VECTOR
    step_back(row, unit + 2u, product.z); // unless VECTOR
    step_back(row, unit + 3u, product.w); // unless VECTOR
}

// The gradients of the gates of four units, and of c of the step before, which is carried on.
struct FourGrads {
    gates: mat4x4<f32>,
    carried: vec4<f32>,
}
fn four_grads(gates: mat4x4<f32>, before: vec4<f32>, after: vec4<f32>, dh: vec4<f32>, carried: vec4<f32>) -> FourGrads {
    let i = gates[0];
    let f = gates[1];
    let g = gates[2];
    let o = gates[3];
    let s = tanhs(after);
    let d = carried + dh * o * (1.0 - s * s);
    return FourGrads(
        mat4x4<f32>(d * g * i * (1.0 - i), d * before * f * (1.0 - f), d * i * (1.0 - g * g), dh * s * o * (1.0 - o)),
        d * f,
    );
}

fn step_back_vector(row: u32, unit: u32, product: vec4<f32>) {
    if row >= b.rows || unit >= b.units {
        return;
    }
    let apart = b.units / 4u;
    let cell = row * b.units + unit;
    let gate = (b.gates_offset + 4u * row * b.units + unit) / 4u;
    let gates = mat4x4<f32>(
        vec4<f32>(dgates4[gate]),
        vec4<f32>(dgates4[gate + apart]),
        vec4<f32>(dgates4[gate + 2u * apart]),
        vec4<f32>(dgates4[gate + 3u * apart]),
    );
    let before = c4[(b.c_offset + cell) / 4u];
    let after = c4[(b.c_offset + b.pitch * b.units + cell) / 4u];
    let dh = vec4<f32>(dh4[(b.dh_offset + cell) / 4u]) + product;
    let at_dc = (b.dc_offset + cell) / 4u;
    var carried = vec4<f32>();
    if has_later(0u) {
        carried = dc4[at_dc];
    }
    let grads = four_grads(gates, before, after, dh, carried);
    dgates4[gate] = vec4<S>(grads.gates[0]);
    dgates4[gate + apart] = vec4<S>(grads.gates[1]);
    dgates4[gate + 2u * apart] = vec4<S>(grads.gates[2]);
    dgates4[gate + 3u * apart] = vec4<S>(grads.gates[3]);
    dc4[at_dc] = grads.carried;
}

@compute @workgroup_size(X * Y * PARTS)
fn backward_split(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (b.units + 4u * X - 1u) / (4u * X);
    let first_row = group / unit_blocks * 4u * Y;
    let first_unit = group % unit_blocks * 4u * X;
    let part = invocation / LANES;
    let lane = invocation % LANES;
    let share = (b.units + PARTS - 1u) / PARTS * 4u;
    let tiles = (share + DEPTH - 1u) / DEPTH;
    let mine = brings(invocation, TRANSPOSED_BLOCKS);
    let begin = mine.part * share;
    let place = place_backward(mine);
    var sums = mat4x4<f32>();
    if has_later(0u) {
        var next: mat4x4<f32>; // unless VECTOR
        var ahead: mat4x4<Ahead>; // if VECTOR
        let lines = lines_backward(mine, first_row, first_unit, begin); // if VECTOR
        ahead = bring_backward(mine, lines, 0u); // if VECTOR
        let end = min(begin + share, 4u * b.units); // unless VECTOR
        next = gather_backward(mine, first_row, first_unit, begin, end); // unless VECTOR
        for (var tile = 0u; tile < tiles; tile++) {
            if mine.any {
                put(mine.part, place, turned(ahead)); // if VECTOR
                put(mine.part, place, next); // unless VECTOR
            }
            workgroupBarrier();
            ahead = bring_backward(mine, lines, min(tile + 1u, tiles - 1u)); // if VECTOR
            next = gather_backward(mine, first_row, first_unit, begin + (tile + 1u) * DEPTH, end); // unless VECTOR
            sums = multiplied(part, lane, sums);
            workgroupBarrier();
        }
    }
    put(part, vec2<u32>(lane, LANES), sums);
    workgroupBarrier();
    for (var i = invocation; i < 4u * LANES; i += PARTS * LANES) {
        let at = i % LANES;
        step_back_four(first_row + at / X * 4u + i / LANES, first_unit + at % X * 4u, added_up(i));
    }
}

// Four rows of a unit: a column of gradients a gate, of the four rows.
struct CellsGrad {
    gates: mat4x4<f32>,
    dc: vec4<f32>,
}
fn cells_grad(step: u32, row: u32, unit: u32, product: vec4<f32>, carried: vec4<f32>) -> CellsGrad {
    let r0 = cell_grad(step, row, unit, product.x, carried.x);
    let r1 = cell_grad(step, row + 1u, unit, product.y, carried.y);
    let r2 = cell_grad(step, row + 2u, unit, product.z, carried.z);
    let r3 = cell_grad(step, row + 3u, unit, product.w, carried.w);
    return CellsGrad(
        transpose(mat4x4<f32>(r0.gates, r1.gates, r2.gates, r3.gates)),
        vec4<f32>(r0.dc, r1.dc, r2.dc, r3.dc),
    );
}

var<workgroup> rows_dgates: array<vec4<S>, 4u * H * QUADS>; // [4H, QUADS] of 4 rows

// Over 80 lines: its barriers must stand in the entry point's uniform control flow.
@compute @workgroup_size(INVOCATIONS)
fn backward_sequence(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let row = group_number(workgroup_id, num_workgroups) * 4u * QUADS;
    var carried: array<vec4<f32>, OWN * QUADS>;
    var sums: array<vec4<f32>, OWN * QUADS>;
    if b.has_later == 1u {
        let last = b.steps - 1u;
        for (var j = 0u; j < OWN; j++) {
            let unit = invocation + j * INVOCATIONS;
            if unit < H {
                for (var q = 0u; q < QUADS; q++) {
                    let r = row + 4u * q;
                    carried[j * QUADS + q] = vec4<f32>(
                        dc[carried_at(r, unit)],
                        dc[carried_at(r + 1u, unit)],
                        dc[carried_at(r + 2u, unit)],
                        dc[carried_at(r + 3u, unit)],
                    );
                    for (var k = unit; k < 4u * H; k += H) {
                        rows_dgates[k * QUADS + q] = vec4<S>(later_rows(last, r, k));
                    }
                }
            }
        }
    }
    workgroupBarrier();
    for (var n = 0u; n < b.steps; n++) {
        let step = b.steps - 1u - n;
        if has_later(step) {
            for (var j = 0u; j < OWN; j++) {
                var s0 = vec4<f32>();
                var s1 = vec4<f32>();
                var s2 = vec4<f32>();
                var s3 = vec4<f32>();
                var at = b.recurrent_offset + min(invocation + j * INVOCATIONS, H - 1u);
                for (var k = 0u; k < 4u * H; k++) {
                    let w = f32(transposed[at]);
                    s0 += w * vec4<f32>(rows_dgates[k * QUADS]);
                    if QUADS > 1u {
                        s1 += w * vec4<f32>(rows_dgates[k * QUADS + 1u]);
                    }
                    if QUADS > 2u {
                        s2 += w * vec4<f32>(rows_dgates[k * QUADS + 2u]);
                        s3 += w * vec4<f32>(rows_dgates[k * QUADS + 3u]);
                    }
                    at += H;
                }
                let own = array<vec4<f32>, 4>(s0, s1, s2, s3);
                for (var q = 0u; q < QUADS; q++) {
                    sums[j * QUADS + q] = own[q];
                }
            }
        }
        workgroupBarrier();
        for (var j = 0u; j < OWN; j++) {
            let unit = invocation + j * INVOCATIONS;
            if unit < H {
                for (var q = 0u; q < QUADS; q++) {
                    let i = j * QUADS + q;
                    let grads = cells_grad(step, row + 4u * q, unit, sums[i], carried[i]);
                    carried[i] = grads.dc;
                    rows_dgates[unit * QUADS + q] = vec4<S>(grads.gates[0]);
                    rows_dgates[(unit + H) * QUADS + q] = vec4<S>(grads.gates[1]);
                    rows_dgates[(unit + 2u * H) * QUADS + q] = vec4<S>(grads.gates[2]);
                    rows_dgates[(unit + 3u * H) * QUADS + q] = vec4<S>(grads.gates[3]);
                }
            }
        }
        workgroupBarrier();
    }
    // For the dispatch of the steps before these.
    for (var j = 0u; j < OWN; j++) {
        let unit = invocation + j * INVOCATIONS;
        for (var r = 0u; r < 4u * QUADS; r++) {
            if unit < H && row + r < b.rows {
                dc[carried_at(row + r, unit)] = carried[j * QUADS + r / 4u][r % 4u];
            }
        }
    }
}

struct Transpose {
    recurrent_offset: u32,
    transposed_offset: u32,
    units: u32,
}
@group(0) @binding(0) var<uniform> t: Transpose;
@group(0) @binding(2) var<storage, read_write> transpose_of: array<W>; // [4H, H]

// Columns are one longer than a square of 16 x 16, so that invocations that read a row of them meet different banks.
var<workgroup> square: array<f32, 272>;

// R transposed for `backward_sequence`, in squares, so that invocations read and write neighbours.
@compute @workgroup_size(256)
fn transpose_recurrent(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let terms = 4u * t.units;
    let across = (terms + 15u) / 16u;
    let unit = group / across * 16u;
    let k = group % across * 16u;
    let slow = invocation / 16u;
    let fast = invocation % 16u;
    if unit + slow < t.units && k + fast < terms {
        square[fast * 17u + slow] = f32(recurrent[t.recurrent_offset + (unit + slow) * terms + k + fast]);
    }
    workgroupBarrier();
    if unit + fast < t.units && k + slow < terms {
        transpose_of[t.transposed_offset + (k + slow) * t.units + unit + fast] = W(square[slow * 17u + fast]);
    }
}
