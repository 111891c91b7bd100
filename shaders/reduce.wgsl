// Sums over rows, their gradient, and sums of squares, each in one fixed order.
//
// sum_rows: a workgroup owns COLS columns of one sequence. Its 256 invocations are 256 / COLS invocations of COLS columns each;
// an invocation takes every (256 / COLS)th row of the sequence, and a tree in workgroup memory joins the invocations. Neighbouring
// invocations read neighbouring columns.
// broadcast_rows: one element an invocation.
// squared_norm: a workgroup owns BLOCK consecutive elements and writes their sum of squares.

alias S = f32;

struct Params {
    src_offset: u32,
    dst_offset: u32,
    // Rows of this dispatch, and the number of the first of them among all rows.
    first_row: u32,
    rows: u32,
    cols: u32,
    // Row r is of sequence (r / inner) % sequences.
    inner: u32,
    sequences: u32,
}

struct NormParams {
    src_offset: u32,
    dst_offset: u32,
    // Elements of `src`.
    len: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(0) var<uniform> norm_p: NormParams;
// sum_rows: [rows, cols]; broadcast_rows: [sequences, cols]; squared_norm: [len]
@group(0) @binding(1) var<storage, read> src: array<S>;
// sum_rows: [sequences, cols]; broadcast_rows: [rows, cols]; squared_norm: [ceil(len / BLOCK)]
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;

// A power of two, at most SIZE.
const COLS: u32 = 16u;
// 1 adds to `dst` instead of overwriting it.
const ACCUMULATE: u32 = 0u;
const BLOCK: u32 = 1024u;
const SIZE: u32 = 256u;
// Rows that an invocation adds up before it adds to its sum: keeps the rounding error of long sums low.
const RUN: u32 = 64u;

var<workgroup> invocations: array<f32, SIZE>; // [SIZE / COLS, COLS]

// The sum of all invocations' values, in every column; `invocations[0 .. cols]` holds it. To be called in uniform control flow.
fn join_lanes(value: f32, local: u32, cols: u32) {
    invocations[local] = value;
    for (var half = SIZE / 2u; half >= cols; half /= 2u) {
        workgroupBarrier();
        if local < half {
            invocations[local] += invocations[local + half];
        }
    }
}

// How many of the first `rows` rows are of sequence `s`.
fn rows_of(s: u32, rows: u32) -> u32 {
    let period = p.inner * p.sequences;
    let rest = rows % period;
    return rows / period * p.inner + min(max(rest, s * p.inner) - s * p.inner, p.inner);
}

@compute @workgroup_size(SIZE)
fn sum_rows(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let blocks = (p.cols + COLS - 1u) / COLS;
    let group = group_number(workgroup_id, num_workgroups);
    let s = group / blocks;
    let col = group % blocks * COLS + local % COLS;
    let mine = s < p.sequences && col < p.cols;

    var sum = 0.0;
    if mine {
        // The rows of this dispatch are those of the sequence from its `j`th to before its `end`th.
        var j = rows_of(s, p.first_row) + local / COLS;
        let end = rows_of(s, p.first_row + p.rows);
        while j < end {
            var run = 0.0;
            for (var i = 0u; i < RUN && j < end; i++) {
                var row = j;
                if p.sequences > 1u {
                    row = (j / p.inner * p.sequences + s) * p.inner + j % p.inner;
                }
                run += f32(src[p.src_offset + (row - p.first_row) * p.cols + col]);
                j += SIZE / COLS;
            }
            sum += run;
        }
    }
    join_lanes(sum, local, COLS);
    if mine && local < COLS {
        let at = p.dst_offset + s * p.cols + col;
        if ACCUMULATE == 1u {
            dst[at] += invocations[local];
        } else {
            dst[at] = invocations[local];
        }
    }
}

@compute @workgroup_size(SIZE)
fn broadcast_rows(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * SIZE + local;
    if i < p.rows * p.cols {
        let s = ((p.first_row + i / p.cols) / p.inner) % p.sequences;
        dst[p.dst_offset + i] = f32(src[p.src_offset + s * p.cols + i % p.cols]);
    }
}

@compute @workgroup_size(SIZE)
fn squared_norm(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    var sum = 0.0;
    for (var i = local; i < BLOCK; i += SIZE) {
        let at = group * BLOCK + i;
        if at < norm_p.len {
            let value = f32(src[norm_p.src_offset + at]);
            sum += value * value;
        }
    }
    join_lanes(sum, local, 1u);
    if local == 0u && group * BLOCK < norm_p.len {
        dst[norm_p.dst_offset + group] = invocations[0];
    }
}
