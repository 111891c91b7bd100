// Two LSTM layers, one above the other, in one dispatch (src/ops/lstm_pair.rs); compiled with the text of lstm.wgsl behind it, whose
// declarations it uses.
//
// The upper layer is a step behind the lower one forward, and a step ahead of it backward. Workgroups make tiles as `forward_split`
// and `backward_split` do where these read vectors; those of the lower layer come first forward, those of the upper one backward. The
// layers' units are multiples of what tiles have.

struct PairForward {
    weights_offset: u32,
    bias_offset: u32,
    gates_offset: u32,
    h_offset: u32,
    x_offset: u32,
    upper_gates_offset: u32,
    upper_h_offset: u32,
    cells_offset: u32,
    // Where R of the lower layer stands in the weights, what is between the layers, and R of the upper layer.
    recurrent: u32,
    input: u32,
    upper_recurrent: u32,
    // Workgroups of the lower layer: none where it has made its last step.
    lower_groups: u32,
    // The lower layer's step, and by how many it is ahead of the first that is bound of `x` and `cells`: 1, or 0 at both ends.
    step: u32,
    ahead: u32,
    rows: u32,
    units: u32,
    upper_units: u32,
    // Rows of a sequence that follow each other, and sequences that the bias tells apart.
    bias_inner: u32,
    bias_sequences: u32,
    inner: u32,
    site: u32,
    rate: f32,
    kept: f32,
}
@group(0) @binding(0) var<uniform> pair: PairForward;
// `recurrent4` at binding 1 holds the weights of both layers, forward and backward.
@group(0) @binding(2) var<storage, read> pair_bias: array<vec4<f32>>; // [sequences, 4G], of the upper layer
@group(0) @binding(3) var<storage, read_write> pair_gates: array<vec4<S>>; // [rows, 4H]
@group(0) @binding(4) var<storage, read_write> pair_h: array<vec4<S>>; // [2, rows, H]
@group(0) @binding(5) var<storage, read_write> pair_x: array<vec4<S>>; // [2, rows, H], h of the lower layer after dropout
@group(0) @binding(6) var<storage, read_write> pair_upper_gates: array<vec4<S>>; // [rows, 4G]
@group(0) @binding(7) var<storage, read_write> pair_upper_h: array<vec4<S>>; // [2, rows, G]
@group(0) @binding(8) var<storage, read_write> pair_cells: array<vec4<f32>>; // [3, rows H + rows G]
@group(1) @binding(0) var<uniform> uniforms: Uniforms;

// The factors of a product: h of the lower layer, x, or h of the upper layer, with the weights of each.
const LOWER: u32 = 0u;
const BETWEEN: u32 = 1u;
const UPPER: u32 = 2u;

// A product of [rows, terms] with [terms, 4 units] forward, of [rows, terms] with [units, terms] transposed backward. `rows` and
// `weights` are where they begin, in vectors.
struct Product {
    rows: u32,
    weights: u32,
    terms: u32,
    units: u32,
}

// As `lines_forward`.
fn pair_lines(product: Product, mine: Brings, first_row: u32, first_unit: u32, first: u32) -> vec4<u32> {
    let row = min(first_row + mine.block / (DEPTH / 4u) * 4u + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(pair.rows - 1u));
    let rows = product.rows + (row * product.terms + first + mine.block % (DEPTH / 4u) * 4u) / 4u;
    let gates = (first + mine.block / (X / 4u)) * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let weights = product.weights + (gates * product.units + first_unit + mine.block % (X / 4u) * 4u) / 4u;
    return select(weights, rows, mine.rows);
}

// `factors` is known where this is called, so that one of the cases is left.
fn pair_rows(factors: u32, at: vec4<u32>) -> mat4x4<Ahead> {
    switch factors {
        case LOWER: {
            return mat4x4<Ahead>(
                vec4<Ahead>(pair_h[at.x]),
                vec4<Ahead>(pair_h[at.y]),
                vec4<Ahead>(pair_h[at.z]),
                vec4<Ahead>(pair_h[at.w]),
            );
        }
        case BETWEEN: {
            return mat4x4<Ahead>(
                vec4<Ahead>(pair_x[at.x]),
                vec4<Ahead>(pair_x[at.y]),
                vec4<Ahead>(pair_x[at.z]),
                vec4<Ahead>(pair_x[at.w]),
            );
        }
        default: {
            return mat4x4<Ahead>(
                vec4<Ahead>(pair_upper_h[at.x]),
                vec4<Ahead>(pair_upper_h[at.y]),
                vec4<Ahead>(pair_upper_h[at.z]),
                vec4<Ahead>(pair_upper_h[at.w]),
            );
        }
    }
}

fn pair_bring(factors: u32, product: Product, mine: Brings, lines: vec4<u32>, tile: u32) -> mat4x4<Ahead> {
    let at = lines + tile * select(DEPTH * product.units, DEPTH / 4u, mine.rows);
    var block: mat4x4<Ahead>;
    if mine.rows {
        block = pair_rows(factors, at);
    } else {
        block = weights_at(at);
    }
    return block;
}

// An invocation's part of a product, added to `sums`.
fn pair_product(
    factors: u32,
    product: Product,
    first_row: u32,
    first_unit: u32,
    invocation: u32,
    before: mat4x4<f32>,
) -> mat4x4<f32> {
    let share = product.terms / PARTS;
    let tiles = share / DEPTH;
    let mine = brings(invocation, WEIGHT_BLOCKS);
    let place = place_forward(mine);
    let lines = pair_lines(product, mine, first_row, first_unit, mine.part * share);
    var sums = before;
    var next = pair_bring(factors, product, mine, lines, 0u);
    for (var tile = 0u; tile < tiles; tile++) {
        if mine.any {
            put(mine.part, place, turned(next));
        }
        workgroupBarrier();
        next = pair_bring(factors, product, mine, lines, min(tile + 1u, tiles - 1u));
        sums = multiplied(invocation / LANES, invocation % LANES, sums);
        workgroupBarrier();
    }
    return sums;
}

// The sums of all parts, for the four units of one row that an invocation of the first LANES finishes; a column a gate.
fn pair_added_up(invocation: u32) -> mat4x4<f32> {
    let row = invocation / (X / 4u);
    let at = row % 4u * LANES + row / 4u * X + invocation % (X / 4u) * 4u;
    return transpose(mat4x4<f32>(added_up(at), added_up(at + 1u), added_up(at + 2u), added_up(at + 3u)));
}

// What dropout between the layers multiplies four elements of a step with, from `element` on.
fn pair_masks(element: u32, inner: u32, site: u32, rate: f32, kept: f32) -> vec4<f32> {
    let first = in_whole_batch(element, inner, uniforms.first_slot, uniforms.slots, uniforms.all_slots);
    return vec4<f32>(
        keep_mask(first, site, rate, kept, uniforms.seed, uniforms.update),
        keep_mask(first + 1u, site, rate, kept, uniforms.seed, uniforms.update),
        keep_mask(first + 2u, site, rate, kept, uniforms.seed, uniforms.update),
        keep_mask(first + 3u, site, rate, kept, uniforms.seed, uniforms.update),
    );
}

fn lower_step(group: u32, invocation: u32) {
    let unit_blocks = pair.units / X;
    let first_row = group / unit_blocks * 4u * Y;
    let first_unit = group % unit_blocks * X;
    let product = Product(pair.h_offset / 4u, (pair.weights_offset + pair.recurrent) / 4u, pair.units, pair.units);
    let parts = pair_product(LOWER, product, first_row, first_unit, invocation, mat4x4<f32>());
    put(invocation / LANES, vec2<u32>(invocation % LANES, LANES), parts);
    workgroupBarrier();
    let row = first_row + invocation / (X / 4u);
    let unit = first_unit + invocation % (X / 4u) * 4u;
    if invocation >= LANES || row >= pair.rows {
        return;
    }
    let z = pair_added_up(invocation);
    let apart = pair.units / 4u;
    let gate = (pair.gates_offset + 4u * row * pair.units + unit) / 4u;
    let sums = mat4x4<f32>(
        vec4<f32>(pair_gates[gate]) + z[0],
        vec4<f32>(pair_gates[gate + apart]) + z[1],
        vec4<f32>(pair_gates[gate + 2u * apart]) + z[2],
        vec4<f32>(pair_gates[gate + 3u * apart]) + z[3],
    );
    let cell = row * pair.units + unit;
    let size = pair.rows * pair.units;
    let cells = pair.rows * (pair.units + pair.upper_units);
    let before = (pair.cells_offset + pair.ahead * cells + cell) / 4u;
    let made = four_cells(sums, pair_cells[before]);
    pair_gates[gate] = vec4<S>(made.gates[0]);
    pair_gates[gate + apart] = vec4<S>(made.gates[1]);
    pair_gates[gate + 2u * apart] = vec4<S>(made.gates[2]);
    pair_gates[gate + 3u * apart] = vec4<S>(made.gates[3]);
    pair_cells[before + cells / 4u] = made.c;
    pair_h[(pair.h_offset + size + cell) / 4u] = vec4<S>(made.h);
    let masks = pair_masks(pair.step * size + cell, pair.inner, pair.site, pair.rate, pair.kept);
    // Of h as it is stored, as a dropout of its own would have it.
    pair_x[(pair.x_offset + pair.ahead * size + cell) / 4u] = vec4<S>(vec4<f32>(vec4<S>(made.h)) * masks);
}

fn upper_step(group: u32, invocation: u32) {
    let unit_blocks = pair.upper_units / X;
    let first_row = group / unit_blocks * 4u * Y;
    let first_unit = group % unit_blocks * X;
    let between =
        Product(pair.x_offset / 4u, (pair.weights_offset + pair.input) / 4u, pair.units, pair.upper_units);
    let recurrent = Product(
        pair.upper_h_offset / 4u,
        (pair.weights_offset + pair.upper_recurrent) / 4u,
        pair.upper_units,
        pair.upper_units,
    );
    let first = pair_product(BETWEEN, between, first_row, first_unit, invocation, mat4x4<f32>());
    let parts = pair_product(UPPER, recurrent, first_row, first_unit, invocation, first);
    put(invocation / LANES, vec2<u32>(invocation % LANES, LANES), parts);
    workgroupBarrier();
    let row = first_row + invocation / (X / 4u);
    let unit = first_unit + invocation % (X / 4u) * 4u;
    if invocation >= LANES || row >= pair.rows {
        return;
    }
    let z = pair_added_up(invocation);
    let apart = pair.upper_units / 4u;
    let sequence = row / pair.bias_inner % pair.bias_sequences;
    let bias = (pair.bias_offset + sequence * 4u * pair.upper_units + unit) / 4u;
    let sums = mat4x4<f32>(
        pair_bias[bias] + z[0],
        pair_bias[bias + apart] + z[1],
        pair_bias[bias + 2u * apart] + z[2],
        pair_bias[bias + 3u * apart] + z[3],
    );
    let cell = row * pair.upper_units + unit;
    let size = pair.rows * pair.upper_units;
    let cells = pair.rows * (pair.units + pair.upper_units);
    let before = (pair.cells_offset + pair.rows * pair.units + cell) / 4u;
    let made = four_cells(sums, pair_cells[before]);
    let gate = (pair.upper_gates_offset + 4u * row * pair.upper_units + unit) / 4u;
    pair_upper_gates[gate] = vec4<S>(made.gates[0]);
    pair_upper_gates[gate + apart] = vec4<S>(made.gates[1]);
    pair_upper_gates[gate + 2u * apart] = vec4<S>(made.gates[2]);
    pair_upper_gates[gate + 3u * apart] = vec4<S>(made.gates[3]);
    pair_cells[before + cells / 4u] = made.c;
    pair_upper_h[(pair.upper_h_offset + size + cell) / 4u] = vec4<S>(made.h);
}

@compute @workgroup_size(X * Y * PARTS)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    if group < pair.lower_groups {
        lower_step(group, invocation);
    } else {
        upper_step(group - pair.lower_groups, invocation);
    }
}

struct PairBackward {
    weights_offset: u32,
    dh_offset: u32,
    cells_offset: u32,
    gates_offset: u32,
    upper_gates_offset: u32,
    carried_offset: u32,
    recurrent: u32,
    input: u32,
    upper_recurrent: u32,
    // Workgroups of the upper layer: none where it has made its last step, which is the first.
    upper_groups: u32,
    // The lower layer's step, and by how many it is ahead of the first that is bound of `upper_gates` and `cells`: 1, or 0 at the end.
    step: u32,
    ahead: u32,
    // 1 where gradients of a later step reach this one's.
    has_later: u32,
    upper_has_later: u32,
    rows: u32,
    units: u32,
    upper_units: u32,
    inner: u32,
    site: u32,
    rate: f32,
    kept: f32,
}
@group(0) @binding(0) var<uniform> back: PairBackward;
@group(0) @binding(2) var<storage, read> back_dh: array<vec4<S>>; // [rows, G]
@group(0) @binding(3) var<storage, read> back_cells: array<vec4<f32>>; // [3, rows H + rows G]
@group(0) @binding(4) var<storage, read_write> back_gates: array<vec4<S>>; // [2, rows, 4H]
@group(0) @binding(5) var<storage, read_write> back_upper_gates: array<vec4<S>>; // [2, rows, 4G]
@group(0) @binding(6) var<storage, read_write> back_carried: array<vec4<f32>>; // [rows H + rows G]

// As `lines_backward`.
fn back_lines(product: Product, mine: Brings, first_row: u32, first_unit: u32, first: u32) -> vec4<u32> {
    let four = mine.block / (DEPTH / 4u) * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let row = min(first_row + four, vec4<u32>(back.rows - 1u));
    let begin = select(product.weights, product.rows, mine.rows);
    return begin + (select(first_unit + four, row, mine.rows) * product.terms + first + mine.block % (DEPTH / 4u) * 4u) / 4u;
}

fn back_bring(lower: bool, mine: Brings, lines: vec4<u32>, tile: u32) -> mat4x4<Ahead> {
    let at = lines + tile * (DEPTH / 4u);
    var block: mat4x4<Ahead>;
    if mine.rows {
        block = back_rows(lower, at);
    } else {
        block = weights_at(at);
    }
    return block;
}

// `lower` is known where this is called.
fn back_rows(lower: bool, at: vec4<u32>) -> mat4x4<Ahead> {
    if lower {
        return mat4x4<Ahead>(
            vec4<Ahead>(back_gates[at.x]),
            vec4<Ahead>(back_gates[at.y]),
            vec4<Ahead>(back_gates[at.z]),
            vec4<Ahead>(back_gates[at.w]),
        );
    }
    return mat4x4<Ahead>(
        vec4<Ahead>(back_upper_gates[at.x]),
        vec4<Ahead>(back_upper_gates[at.y]),
        vec4<Ahead>(back_upper_gates[at.z]),
        vec4<Ahead>(back_upper_gates[at.w]),
    );
}

fn back_product(lower: bool, product: Product, first_row: u32, first_unit: u32, invocation: u32) -> mat4x4<f32> {
    let share = product.terms / PARTS;
    let tiles = share / DEPTH;
    let mine = brings(invocation, TRANSPOSED_BLOCKS);
    let place = place_backward(mine);
    let lines = back_lines(product, mine, first_row, first_unit, mine.part * share);
    var sums = mat4x4<f32>();
    var next = back_bring(lower, mine, lines, 0u);
    for (var tile = 0u; tile < tiles; tile++) {
        if mine.any {
            put(mine.part, place, turned(next));
        }
        workgroupBarrier();
        next = back_bring(lower, mine, lines, min(tile + 1u, tiles - 1u));
        sums = multiplied(invocation / LANES, invocation % LANES, sums);
        workgroupBarrier();
    }
    return sums;
}

// The sum of all parts for four units of a row, which an invocation of the first 4 LANES finishes: PARTS is at least 4.
fn back_added_up(sums: mat4x4<f32>, invocation: u32) -> vec4<f32> {
    put(invocation / LANES, vec2<u32>(invocation % LANES, LANES), sums);
    workgroupBarrier();
    return added_up(min(invocation, 4u * LANES - 1u));
}

// The row and the first of the units that it finishes, in the workgroup's tile.
fn back_place(invocation: u32) -> vec2<u32> {
    let at = invocation % LANES;
    return vec2<u32>(at / X * 4u + invocation / LANES, at % X * 4u);
}

fn upper_back(group: u32, invocation: u32) {
    let unit_blocks = back.upper_units / (4u * X);
    let first_row = group / unit_blocks * 4u * Y;
    let first_unit = group % unit_blocks * 4u * X;
    let size = back.rows * back.upper_units;
    var later = vec4<f32>();
    if back.upper_has_later == 1u {
        let product = Product(
            (back.upper_gates_offset + 4u * size) / 4u,
            (back.weights_offset + back.upper_recurrent) / 4u,
            4u * back.upper_units,
            back.upper_units,
        );
        later = back_added_up(back_product(false, product, first_row, first_unit, invocation), invocation);
    }
    let place = back_place(invocation);
    let row = first_row + place.x;
    if invocation >= 4u * LANES || row >= back.rows {
        return;
    }
    let apart = back.upper_units / 4u;
    let cell = row * back.upper_units + first_unit + place.y;
    let gate = (back.upper_gates_offset + 3u * row * back.upper_units + cell) / 4u;
    let gates = mat4x4<f32>(
        vec4<f32>(back_upper_gates[gate]),
        vec4<f32>(back_upper_gates[gate + apart]),
        vec4<f32>(back_upper_gates[gate + 2u * apart]),
        vec4<f32>(back_upper_gates[gate + 3u * apart]),
    );
    let before = (back.cells_offset + back.rows * back.units + cell) / 4u;
    let after = before + back.rows * (back.units + back.upper_units) / 4u;
    let carried_at = (back.carried_offset + back.rows * back.units + cell) / 4u;
    var carried = vec4<f32>();
    if back.upper_has_later == 1u {
        carried = back_carried[carried_at];
    }
    let dh = vec4<f32>(back_dh[(back.dh_offset + cell) / 4u]) + later;
    let grads = four_grads(gates, back_cells[before], back_cells[after], dh, carried);
    back_upper_gates[gate] = vec4<S>(grads.gates[0]);
    back_upper_gates[gate + apart] = vec4<S>(grads.gates[1]);
    back_upper_gates[gate + 2u * apart] = vec4<S>(grads.gates[2]);
    back_upper_gates[gate + 3u * apart] = vec4<S>(grads.gates[3]);
    back_carried[carried_at] = grads.carried;
}

fn lower_back(group: u32, invocation: u32) {
    let unit_blocks = back.units / (4u * X);
    let first_row = group / unit_blocks * 4u * Y;
    let first_unit = group % unit_blocks * 4u * X;
    let size = back.rows * back.units;
    let between = Product(
        (back.upper_gates_offset + back.ahead * 4u * back.rows * back.upper_units) / 4u,
        (back.weights_offset + back.input) / 4u,
        4u * back.upper_units,
        back.units,
    );
    let place = back_place(invocation);
    let row = first_row + place.x;
    let cell = row * back.units + first_unit + place.y;
    // What comes from the upper layer passes through dropout; the rest does not.
    var dh = back_added_up(back_product(false, between, first_row, first_unit, invocation), invocation);
    dh *= pair_masks(back.step * size + cell, back.inner, back.site, back.rate, back.kept);
    if back.has_later == 1u {
        let product = Product(
            (back.gates_offset + 4u * size) / 4u,
            (back.weights_offset + back.recurrent) / 4u,
            4u * back.units,
            back.units,
        );
        // All have read the sums before others take their place.
        workgroupBarrier();
        dh += back_added_up(back_product(true, product, first_row, first_unit, invocation), invocation);
    }
    if invocation >= 4u * LANES || row >= back.rows {
        return;
    }
    let apart = back.units / 4u;
    let gate = (back.gates_offset + 3u * row * back.units + cell) / 4u;
    let gates = mat4x4<f32>(
        vec4<f32>(back_gates[gate]),
        vec4<f32>(back_gates[gate + apart]),
        vec4<f32>(back_gates[gate + 2u * apart]),
        vec4<f32>(back_gates[gate + 3u * apart]),
    );
    let cells = back.rows * (back.units + back.upper_units) / 4u;
    let before = (back.cells_offset + cell) / 4u + back.ahead * cells;
    let carried_at = (back.carried_offset + cell) / 4u;
    var carried = vec4<f32>();
    if back.has_later == 1u {
        carried = back_carried[carried_at];
    }
    let grads = four_grads(gates, back_cells[before], back_cells[before + cells], dh, carried);
    back_gates[gate] = vec4<S>(grads.gates[0]);
    back_gates[gate + apart] = vec4<S>(grads.gates[1]);
    back_gates[gate + 2u * apart] = vec4<S>(grads.gates[2]);
    back_gates[gate + 3u * apart] = vec4<S>(grads.gates[3]);
    back_carried[carried_at] = grads.carried;
}

@compute @workgroup_size(X * Y * PARTS)
fn backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    if group < back.upper_groups {
        upper_back(group, invocation);
    } else {
        lower_back(group - back.upper_groups, invocation);
    }
}
