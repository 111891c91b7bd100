// Octave convolution: a 1-D convolution over pitch with tanh, and its gradients (src/ops/octave_conv.rs).
//
// Forward: a workgroup is one row, NOTES neighbouring notes and 64 filters, one an invocation. An invocation keeps a window of NOTES
// inputs in registers and moves it along the pitch axis tap by tap, so a tap and channel cost one weight (neighbouring
// invocations, neighbouring filters) and one input (the same for all invocations) for NOTES multiply-adds.
//
// Weight gradient: a workgroup is one channel, TAPS neighbouring taps and FILTERS filters; its 256 invocations are FILTERS
// filters x SLICES, and slice s takes blocks s, s + SLICES, .. of the blocks of NOTES notes of all rows. An invocation keeps
// TAPS sums in registers and loads NOTES gradients and NOTES + TAPS - 1 inputs for NOTES x TAPS multiply-adds; in the end
// the slices' sums are added in the order of the slices. Few taps to a workgroup give more workgroups.
//
// Input gradient: one invocation makes one element. The model's input wants no gradient, so this is left as it reads.

// Notes that an invocation keeps in registers.
const NOTES: u32 = 8u;

struct Forward {
    x_offset: u32,
    w_offset: u32,
    bias_offset: u32,
    y_offset: u32,
    rows: u32,
    notes: u32,
    channels: u32,
    taps: u32,
    filters: u32,
}
@group(0) @binding(0) var<uniform> p: Forward;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, N, channels]
@group(0) @binding(2) var<storage, read> w: array<f32>; // [taps, channels, filters]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [filters]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [rows, N, filters]

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let g = group_number(workgroup_id, num_workgroups);
    let filter_blocks = (p.filters + 63u) / 64u;
    let note_blocks = (p.notes + NOTES - 1u) / NOTES;
    let f = g % filter_blocks * 64u + invocation;
    let first = g / filter_blocks % note_blocks * NOTES;
    let row = g / filter_blocks / note_blocks;
    if row >= p.rows || f >= p.filters {
        return;
    }
    var sums: array<f32, NOTES>;
    for (var i = 0u; i < NOTES; i++) {
        sums[i] = bias[p.bias_offset + f];
    }
    for (var c = 0u; c < p.channels; c++) {
        let axis = Axis(p.x_offset + row * p.notes * p.channels + c, p.notes, p.channels, p.taps / 2u);
        // Before tap k, window[i] is the input that tap k - 1 takes to note first + i.
        var window: array<f32, NOTES>;
        for (var i = 1u; i < NOTES; i++) {
            window[i] = input(axis, first + i - 1u);
        }
        for (var k = 0u; k < p.taps; k++) {
            for (var i = 1u; i < NOTES; i++) {
                window[i - 1u] = window[i];
            }
            window[NOTES - 1u] = input(axis, first + NOTES - 1u + k);
            let weight = w[p.w_offset + (k * p.channels + c) * p.filters + f];
            for (var i = 0u; i < NOTES; i++) {
                sums[i] += window[i] * weight;
            }
        }
    }
    for (var i = 0u; i < NOTES; i++) {
        if first + i < p.notes {
            y[p.y_offset + (row * p.notes + first + i) * p.filters + f] = tanh_(sums[i]);
        }
    }
}

// The pitch axis of one row and channel of `x`: where its first element stands, its length and step, and how many taps
// lie below a note.
struct Axis {
    at: u32,
    notes: u32,
    step: u32,
    half: u32,
}

// The input at note m - half, 0 outside the pitch axis.
fn input(axis: Axis, m: u32) -> f32 {
    if m < axis.half || m - axis.half >= axis.notes {
        return 0.0;
    }
    return x[axis.at + (m - axis.half) * axis.step];
}

// Taps that an invocation keeps sums of.
const TAPS: u32 = 5u;
// Filters of a workgroup, and how many invocations share the rows of one.
const FILTERS: u32 = 8u;
const SLICES: u32 = 256u / FILTERS;

struct WeightGrad {
    x_offset: u32,
    dz_offset: u32,
    dw_offset: u32,
    rows: u32,
    notes: u32,
    channels: u32,
    taps: u32,
    filters: u32,
    // 1 to add to `dw`: the rows before were another dispatch's.
    accumulate: u32,
}
@group(0) @binding(0) var<uniform> q: WeightGrad;
@group(0) @binding(2) var<storage, read> dz: array<f32>; // [rows, N, filters]
@group(0) @binding(3) var<storage, read_write> dw: array<f32>; // [taps, channels, filters]

var<workgroup> partial: array<f32, TAPS * 256u>; // [TAPS, SLICES, FILTERS]

@compute @workgroup_size(256)
fn weight_grad(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let g = group_number(workgroup_id, num_workgroups);
    let filter_blocks = (q.filters + FILTERS - 1u) / FILTERS;
    let first_filter = g % filter_blocks * FILTERS;
    let c = g / filter_blocks % q.channels;
    let first_tap = g / filter_blocks / q.channels * TAPS;
    let note_blocks = (q.notes + NOTES - 1u) / NOTES;
    // An invocation without a filter works for another's and its sums are left.
    let f = min(first_filter + invocation % FILTERS, q.filters - 1u);

    var sums: array<f32, TAPS>;
    for (var block = invocation / FILTERS; block < q.rows * note_blocks; block += SLICES) {
        let row = block / note_blocks;
        let first = block % note_blocks * NOTES;
        let axis = Axis(q.x_offset + row * q.notes * q.channels + c, q.notes, q.channels, q.taps / 2u);
        var window: array<f32, NOTES + TAPS - 1u>;
        for (var i = 0u; i < NOTES + TAPS - 1u; i++) {
            window[i] = input(axis, first + first_tap + i);
        }
        for (var n = 0u; n < NOTES; n++) {
            var gradient = 0.0;
            if first + n < q.notes {
                gradient = dz[q.dz_offset + (row * q.notes + first + n) * q.filters + f];
            }
            for (var k = 0u; k < TAPS; k++) {
                sums[k] += window[n + k] * gradient;
            }
        }
    }
    for (var k = 0u; k < TAPS; k++) {
        partial[k * 256u + invocation] = sums[k];
    }
    workgroupBarrier();

    let k = first_tap + invocation / FILTERS;
    if invocation >= TAPS * FILTERS || k >= q.taps || first_filter + invocation % FILTERS >= q.filters {
        return;
    }
    let at = q.dw_offset + (k * q.channels + c) * q.filters + f;
    var sum = 0.0;
    if q.accumulate == 1u {
        sum = dw[at];
    }
    for (var s = 0u; s < SLICES; s++) {
        sum += partial[invocation / FILTERS * 256u + s * FILTERS + invocation % FILTERS];
    }
    dw[at] = sum;
}

struct InputGrad {
    w_offset: u32,
    dz_offset: u32,
    dx_offset: u32,
    rows: u32,
    notes: u32,
    channels: u32,
    taps: u32,
    filters: u32,
}
@group(0) @binding(0) var<uniform> r: InputGrad;
@group(0) @binding(1) var<storage, read> weights: array<f32>; // [taps, channels, filters]
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // [rows, N, channels]

@compute @workgroup_size(64)
fn input_grad(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 64u + invocation;
    let c = i % r.channels;
    let m = i / r.channels % r.notes;
    let row = i / r.channels / r.notes;
    if row >= r.rows {
        return;
    }
    var sum = 0.0;
    for (var k = 0u; k < r.taps; k++) {
        // Tap k takes the input at m to note n; below 0, n wraps to a number past the end.
        let n = m + r.taps / 2u - k;
        if n < r.notes {
            let gradient = r.dz_offset + (row * r.notes + n) * r.filters;
            let weight = r.w_offset + (k * r.channels + c) * r.filters;
            for (var f = 0u; f < r.filters; f++) {
                sum += dz[gradient + f] * weights[weight + f];
            }
        }
    }
    dx[r.dx_offset + i] = sum;
}
