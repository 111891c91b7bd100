// LSTM over a sequence, forward and backward (src/ops/lstm.rs): the recurrent products with the gates' functions and
// derivatives behind them. Three ways each, of the same bindings:
//
// *_block: one dispatch a step, no workgroup memory. A lane makes ROWS x UNITS cells in registers. With 1 x 1 this is the
// plain text of the op; with large blocks it serves drivers that run on a CPU, where a load costs as much as many
// multiply-adds.
//
// *_tiled: one dispatch a step, for GPUs. A workgroup is a product of TILE rows and TILE units whose factors pass through
// workgroup memory; a lane makes 4 rows of one unit. Loads from both memories are contiguous over lanes, and 16
// multiply-adds cost 2 (forward) or 5 (backward) loads of a vec4 from workgroup memory.
//
// *_sequence: one dispatch for many steps, where rows are many and a dispatch is dear. A workgroup owns 4 x QUADS rows for
// all steps of the dispatch: what they carry from step to step stands in workgroup memory, and R is streamed from the
// cache for each step. Rows are independent, so no workgroup waits for another. A lane makes all rows of some units.
//
// Gates stand in the order i, f, g, o, and a vec4 of gates has one of each.

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
@group(0) @binding(1) var<storage, read> recurrent: array<f32>; // [H, 4H]
@group(0) @binding(2) var<storage, read_write> gates: array<f32>; // [steps, rows, 4H]
@group(0) @binding(3) var<storage, read_write> h: array<f32>; // [steps + 1, pitch, H]
@group(0) @binding(4) var<storage, read_write> c: array<f32>; // [steps + 1, pitch, H]

// R[k, unit] of the four gates.
fn weights(k: u32, unit: u32) -> vec4<f32> {
    let at = p.recurrent_offset + k * 4u * p.units + unit;
    return vec4<f32>(recurrent[at], recurrent[at + p.units], recurrent[at + 2u * p.units], recurrent[at + 3u * p.units]);
}

// Where h and c of a step have this row: of rows past the end, the last.
fn state_at(step: u32, row: u32) -> u32 {
    return (step * p.pitch + min(row, p.rows - 1u)) * p.units;
}

// Adds recurrent products to the gates of one cell.
fn add(step: u32, row: u32, unit: u32, product: vec4<f32>) {
    if row < p.rows && unit < p.units {
        let gate = p.gates_offset + (step * p.rows + row) * 4u * p.units + unit;
        gates[gate] += product.x;
        gates[gate + p.units] += product.y;
        gates[gate + 2u * p.units] += product.z;
        gates[gate + 3u * p.units] += product.w;
    }
}

// One step of one cell whose gates are complete.
fn cell(step: u32, row: u32, unit: u32) {
    if row >= p.rows || unit >= p.units {
        return;
    }
    let gate = p.gates_offset + (step * p.rows + row) * 4u * p.units + unit;
    let i = sigmoid_(gates[gate]);
    let f = sigmoid_(gates[gate + p.units]);
    let g = tanh_(gates[gate + 2u * p.units]);
    let o = sigmoid_(gates[gate + 3u * p.units]);
    let before = state_at(step, row) + unit;
    let after = state_at(step + 1u, row) + unit;
    let s = f * c[p.c_offset + before] + i * g;
    gates[gate] = i;
    gates[gate + p.units] = f;
    gates[gate + 2u * p.units] = g;
    gates[gate + 3u * p.units] = o;
    c[p.c_offset + after] = s;
    h[p.h_offset + after] = o * tanh_(s);
}

// Rows and units of a lane.
const ROWS: u32 = 1u;
const UNITS: u32 = 1u;

@compute @workgroup_size(64)
fn forward_block(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (p.units + 64u * UNITS - 1u) / (64u * UNITS);
    let row = group / unit_blocks * ROWS;
    let unit = group % unit_blocks * 64u * UNITS + lane;

    var sums: array<vec4<f32>, ROWS * UNITS>;
    for (var k = 0u; k < p.units; k++) {
        var hidden: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            hidden[r] = h[p.h_offset + state_at(0u, row + r) + k];
        }
        for (var u = 0u; u < UNITS; u++) {
            let w = weights(k, min(unit + 64u * u, p.units - 1u));
            for (var r = 0u; r < ROWS; r++) {
                sums[u * ROWS + r] += hidden[r] * w;
            }
        }
    }
    for (var u = 0u; u < UNITS; u++) {
        for (var r = 0u; r < ROWS; r++) {
            add(0u, row + r, unit + 64u * u, sums[u * ROWS + r]);
        }
    }
    for (var u = 0u; u < UNITS; u++) {
        for (var r = 0u; r < ROWS; r++) {
            cell(0u, row + r, unit + 64u * u);
        }
    }
}

// Rows and units of a workgroup of 256 lanes, and how much of the sums' length is in workgroup memory at a time.
const TILE: u32 = 32u;
const DEPTH: u32 = 16u;

var<workgroup> tile_hidden: array<vec4<f32>, DEPTH * TILE / 4u>; // [TILE / 4, DEPTH] of 4 rows
var<workgroup> tile_weights: array<vec4<f32>, DEPTH * TILE>; // [DEPTH, TILE] of 4 gates

@compute @workgroup_size(256)
fn forward_tiled(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (p.units + TILE - 1u) / TILE;
    let first_row = group / unit_blocks * TILE;
    let first_unit = group % unit_blocks * TILE;
    let unit = lane % TILE;
    let quad = lane / TILE;

    var sums: array<vec4<f32>, 4>;
    for (var first = 0u; first < p.units; first += DEPTH) {
        for (var i = lane; i < DEPTH * TILE / 4u; i += 256u) {
            let k = first + i % DEPTH;
            var hidden = vec4<f32>();
            if k < p.units {
                let row = first_row + i / DEPTH * 4u;
                hidden.x = h[p.h_offset + state_at(0u, row) + k];
                hidden.y = h[p.h_offset + state_at(0u, row + 1u) + k];
                hidden.z = h[p.h_offset + state_at(0u, row + 2u) + k];
                hidden.w = h[p.h_offset + state_at(0u, row + 3u) + k];
            }
            tile_hidden[i] = hidden;
        }
        for (var i = lane; i < DEPTH * TILE; i += 256u) {
            tile_weights[i] = weights(min(first + i / TILE, p.units - 1u), min(first_unit + i % TILE, p.units - 1u));
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let hidden = tile_hidden[quad * DEPTH + k];
            let w = tile_weights[k * TILE + unit];
            sums[0] += hidden.x * w;
            sums[1] += hidden.y * w;
            sums[2] += hidden.z * w;
            sums[3] += hidden.w * w;
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        add(0u, first_row + quad * 4u + r, first_unit + unit, sums[r]);
        cell(0u, first_row + quad * 4u + r, first_unit + unit);
    }
}

// H, the lanes of a workgroup, and quadruples of rows of a workgroup.
const H: u32 = 1u;
const LANES: u32 = 64u;
const QUADS: u32 = 1u;

var<workgroup> rows_h: array<vec4<f32>, H * QUADS>; // [H, QUADS] of 4 rows

@compute @workgroup_size(LANES)
fn forward_sequence(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = group_number(workgroup_id, num_workgroups) * 4u * QUADS;
    for (var step = 0u; step < p.steps; step++) {
        // A lane reads here what was there before the dispatch or what it has written itself.
        for (var unit = lane; unit < H; unit += LANES) {
            for (var i = 0u; i < QUADS; i++) {
                let row = first_row + 4u * i;
                rows_h[unit * QUADS + i] = vec4<f32>(
                    h[p.h_offset + state_at(step, row) + unit],
                    h[p.h_offset + state_at(step, row + 1u) + unit],
                    h[p.h_offset + state_at(step, row + 2u) + unit],
                    h[p.h_offset + state_at(step, row + 3u) + unit],
                );
            }
        }
        workgroupBarrier();
        for (var unit = lane; unit < H; unit += LANES) {
            var sums: array<vec4<f32>, 4u * QUADS>;
            for (var k = 0u; k < H; k++) {
                let w = weights(k, unit);
                for (var i = 0u; i < QUADS; i++) {
                    let before = rows_h[k * QUADS + i];
                    sums[4u * i] += before.x * w;
                    sums[4u * i + 1u] += before.y * w;
                    sums[4u * i + 2u] += before.z * w;
                    sums[4u * i + 3u] += before.w * w;
                }
            }
            for (var r = 0u; r < 4u * QUADS; r++) {
                add(step, first_row + r, unit, sums[r]);
            }
            for (var r = 0u; r < 4u * QUADS; r++) {
                cell(step, first_row + r, unit);
            }
        }
        workgroupBarrier();
    }
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
@group(0) @binding(2) var<storage, read> dh: array<f32>; // [steps, rows, H]
@group(0) @binding(3) var<storage, read> c_read: array<f32>; // [steps + 1, pitch, H]
@group(0) @binding(4) var<storage, read> later: array<f32>; // [rows, 4H], with APART
@group(0) @binding(5) var<storage, read_write> dgates: array<f32>; // [steps, rows, 4H], one step more without APART
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
        return later[b.later_offset + at];
    }
    return dgates[b.gates_offset + (step + 1u) * b.rows * 4u * b.units + at];
}

// Four of them from k on.
fn later_gates(step: u32, row: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(
        later_gate(step, row, k),
        later_gate(step, row, k + 1u),
        later_gate(step, row, k + 2u),
        later_gate(step, row, k + 3u),
    );
}

// One step of one cell backwards, where `product` is what reaches its h through R from the step after.
fn cell_grad(step: u32, row: u32, unit: u32, product: f32) {
    if row >= b.rows || unit >= b.units {
        return;
    }
    let before = b.c_offset + (step * b.pitch + row) * b.units + unit;
    let after = before + b.pitch * b.units;
    let gate = b.gates_offset + (step * b.rows + row) * 4u * b.units + unit;
    let i = dgates[gate];
    let f = dgates[gate + b.units];
    let g = dgates[gate + 2u * b.units];
    let o = dgates[gate + 3u * b.units];
    let s = tanh_(c_read[after]);
    let total = dh[b.dh_offset + (step * b.rows + row) * b.units + unit] + product;
    let carried = b.dc_offset + row * b.units + unit;
    var d = total * o * (1.0 - s * s);
    if has_later(step) {
        d += dc[carried];
    }
    dgates[gate] = d * g * i * (1.0 - i);
    dgates[gate + b.units] = d * c_read[before] * f * (1.0 - f);
    dgates[gate + 2u * b.units] = d * i * (1.0 - g * g);
    dgates[gate + 3u * b.units] = total * s * o * (1.0 - o);
    dc[carried] = d * f;
}

// What a lane leaves for itself. Drivers that keep small loops' arrays in registers may not do so for a loop as large as
// cell_grad.
var<workgroup> products: array<f32, ROWS * UNITS * 64u>;

@compute @workgroup_size(64)
fn backward_block(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (b.units + 64u * UNITS - 1u) / (64u * UNITS);
    let row = group / unit_blocks * ROWS;
    let unit = group % unit_blocks * 64u * UNITS + lane;

    var sums: array<f32, ROWS * UNITS>;
    if has_later(0u) {
        // Four terms at a time, since a lane's weights are neighbours along the sum and far from other lanes'.
        for (var k = 0u; k < 4u * b.units; k += 4u) {
            var gradient: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                gradient[r] = later_gates(0u, row + r, k);
            }
            for (var u = 0u; u < UNITS; u++) {
                let at = b.recurrent_offset + min(unit + 64u * u, b.units - 1u) * 4u * b.units + k;
                let w = vec4<f32>(recurrent[at], recurrent[at + 1u], recurrent[at + 2u], recurrent[at + 3u]);
                for (var r = 0u; r < ROWS; r++) {
                    sums[u * ROWS + r] += dot(gradient[r], w);
                }
            }
        }
    }
    for (var i = 0u; i < ROWS * UNITS; i++) {
        products[i * 64u + lane] = sums[i];
    }
    for (var i = 0u; i < ROWS * UNITS; i++) {
        cell_grad(0u, row + i % ROWS, unit + 64u * (i / ROWS), products[i * 64u + lane]);
    }
}

// Quadruples of the sums' length in workgroup memory at a time; rows of it are one longer, so that lanes that read a
// column of them meet different banks.
const SPAN: u32 = 8u;
const PITCH: u32 = SPAN + 1u;

var<workgroup> tile_gradients: array<vec4<f32>, TILE * PITCH>; // [TILE rows, PITCH] of 4 k
var<workgroup> tile_transposed: array<vec4<f32>, TILE * PITCH>; // [TILE units, PITCH] of 4 k

@compute @workgroup_size(256)
fn backward_tiled(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    let unit_blocks = (b.units + TILE - 1u) / TILE;
    let first_row = group / unit_blocks * TILE;
    let first_unit = group % unit_blocks * TILE;
    let unit = lane % TILE;
    let quad = lane / TILE;

    var sums: array<f32, 4>;
    if has_later(0u) {
        // 4H products are H quadruples.
        for (var first = 0u; first < b.units; first += SPAN) {
            for (var i = lane; i < TILE * SPAN; i += 256u) {
                let k = first + i % SPAN;
                var gradient = vec4<f32>();
                var w = vec4<f32>();
                if k < b.units {
                    gradient = later_gates(0u, first_row + i / SPAN, 4u * k);
                    let j = min(first_unit + i / SPAN, b.units - 1u);
                    let weight = b.recurrent_offset + (j * b.units + k) * 4u;
                    w = vec4<f32>(recurrent[weight], recurrent[weight + 1u], recurrent[weight + 2u], recurrent[weight + 3u]);
                }
                tile_gradients[i / SPAN * PITCH + i % SPAN] = gradient;
                tile_transposed[i / SPAN * PITCH + i % SPAN] = w;
            }
            workgroupBarrier();
            for (var k = 0u; k < SPAN; k++) {
                let w = tile_transposed[unit * PITCH + k];
                for (var r = 0u; r < 4u; r++) {
                    sums[r] += dot(tile_gradients[(quad * 4u + r) * PITCH + k], w);
                }
            }
            workgroupBarrier();
        }
    }
    for (var r = 0u; r < 4u; r++) {
        cell_grad(0u, first_row + quad * 4u + r, first_unit + unit, sums[r]);
    }
}

var<workgroup> rows_dgates: array<vec4<f32>, 4u * H * QUADS>; // [4H, QUADS] of 4 rows

@compute @workgroup_size(LANES)
fn backward_sequence(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = group_number(workgroup_id, num_workgroups) * 4u * QUADS;
    for (var n = 0u; n < b.steps; n++) {
        let step = b.steps - 1u - n;
        if has_later(step) {
            // A lane reads here what was there before the dispatch or what it has written itself.
            for (var unit = lane; unit < H; unit += LANES) {
                for (var i = 0u; i < QUADS; i++) {
                    let row = first_row + 4u * i;
                    for (var k = unit; k < 4u * H; k += H) {
                        rows_dgates[k * QUADS + i] = vec4<f32>(
                            later_gate(step, row, k),
                            later_gate(step, row + 1u, k),
                            later_gate(step, row + 2u, k),
                            later_gate(step, row + 3u, k),
                        );
                    }
                }
            }
        }
        workgroupBarrier();
        for (var unit = lane; unit < H; unit += LANES) {
            var sums: array<vec4<f32>, QUADS>;
            if has_later(step) {
                for (var k = 0u; k < 4u * H; k += 4u) {
                    let at = b.recurrent_offset + unit * 4u * H + k;
                    let w = vec4<f32>(recurrent[at], recurrent[at + 1u], recurrent[at + 2u], recurrent[at + 3u]);
                    for (var i = 0u; i < QUADS; i++) {
                        sums[i] += rows_dgates[k * QUADS + i] * w.x;
                        sums[i] += rows_dgates[(k + 1u) * QUADS + i] * w.y;
                        sums[i] += rows_dgates[(k + 2u) * QUADS + i] * w.z;
                        sums[i] += rows_dgates[(k + 3u) * QUADS + i] * w.w;
                    }
                }
            }
            for (var i = 0u; i < QUADS; i++) {
                let row = first_row + 4u * i;
                cell_grad(step, row, unit, sums[i].x);
                cell_grad(step, row + 1u, unit, sums[i].y);
                cell_grad(step, row + 2u, unit, sums[i].z);
                cell_grad(step, row + 3u, unit, sums[i].w);
            }
        }
        workgroupBarrier();
    }
}
