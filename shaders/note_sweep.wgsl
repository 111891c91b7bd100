// One time step of generation along the note axis (src/ops/note_sweep.rs).
//
// A workgroup is one piece and makes all its notes, since each waits for the draws of the one below: both layers' state
// stands in workgroup memory, and nothing leaves the workgroup between notes. The 4H columns of a layer's gates are spread
// over the invocations, so that the weights, which every note streams from the cache anew, are read by neighbours from
// neighbouring places. Pieces are few, so this is bound by latency, not by arithmetic.

// 1 where a note has two values, play and replay, 0 where it has dynamics too.
const TWO: u32 = 0u;
// Values of a note, and values that are reported of it: these and two probabilities.
const C: u32 = 3u - TWO;
const REPORTED: u32 = C + 2u;
// 1 where dynamics are drawn from a distribution over bins, and 1 where they are a head's own value.
const BINNED: u32 = 0u;
const SCALAR: u32 = 1u;
const BINS: u32 = 2u;
// Heads of one output each: all values, but for dynamics in bins.
const HEADS: u32 = C - BINNED;
// Values of a time step's control behind those of the notes: of notes that are held, of replay, factor and offset of dynamics.
const CONTROLS: u32 = 4u;
const INVOCATIONS: u32 = 256u;
// Units of the two layers.
const H1: u32 = 1u;
const H2: u32 = 1u;
const MAX_H: u32 = max(H1, H2);
// Columns of the gates that an invocation makes, of the wider layer.
const COLUMNS: u32 = (4u * MAX_H + INVOCATIONS - 1u) / INVOCATIONS;
// Parts of each head's sum.
const PARTS: u32 = 8u;

struct Params {
    weights_offset: u32,
    input_offset: u32,
    bias2_offset: u32,
    forced_offset: u32,
    control_offset: u32,
    notes_offset: u32,
    state_offset: u32,
    roll_offset: u32,
    // Pieces of this dispatch.
    first_piece: u32,
    these_pieces: u32,
    pieces: u32,
    notes: u32,
    window: u32,
    // Where matrices stand in `weights`.
    chosen: u32,
    recurrent1: u32,
    input2: u32,
    recurrent2: u32,
    head: u32,
    head_bias: u32,
    bins: u32,
    bins_bias: u32,
    // H1 and H2 once more: compilers make hundreds of steps of code of a loop whose end they know.
    units1: u32,
    units2: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>; // chosen [C, 4H1]; recurrent1 [H1, 4H1]; input2 [H1, 4H2]; recurrent2 [H2, 4H2]; head [H2, HEADS]; head_bias [HEADS]; bins [H2, BINS]; bins_bias [BINS]
@group(0) @binding(2) var<storage, read> input: array<f32>; // [pieces, N, 4H1]
@group(0) @binding(3) var<storage, read> bias2: array<f32>; // [pieces, 4H2]
@group(0) @binding(4) var<storage, read> forced: array<f32>; // [window, pieces, N, C]
@group(0) @binding(5) var<storage, read> control: array<f32>; // [window, pieces, N + CONTROLS]
@group(0) @binding(6) var<storage, read_write> notes: array<f32>; // [pieces, N, C]
@group(0) @binding(7) var<storage, read_write> state: array<f32>; // [2, pieces]: clocks, silent steps
@group(0) @binding(8) var<storage, read_write> roll: array<f32>; // [window, pieces, N, REPORTED]
@group(1) @binding(0) var<uniform> uniforms: Uniforms;

var<workgroup> hidden: array<f32, H1 + H2>; // [H1], then [H2]
var<workgroup> cells: array<f32, H1 + H2>; // [H1], then [H2]
var<workgroup> gates: array<f32, 4u * MAX_H>;
var<workgroup> partial: array<f32, HEADS * PARTS>;
// Logits of the bins, then their weights.
var<workgroup> bins: array<f32, BINS>;
// What was chosen for the note below.
var<workgroup> lower: array<f32, C>;

// Over 80 lines: its barriers must stand in the entry point's uniform control flow.
@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = group_number(workgroup_id, num_workgroups);
    if group >= p.these_pieces {
        return;
    }
    let piece = p.first_piece + group;
    let clock = i32(state[p.state_offset + piece]) + 1;
    let silent = state[p.state_offset + p.pieces + piece];
    // The piece's first notes in `notes`, and in a row of `forced` and `roll`.
    let first = piece * p.notes;
    let row = floor_mod(clock, p.window) * p.pieces + piece;
    let first_in_row = row * p.notes;
    let first_control = p.control_offset + row * (p.notes + CONTROLS);
    // Invocation 0 alone knows.
    var rests = true;

    if uniforms.forced == 1.0 {
        for (var n = invocation; n < p.notes; n += INVOCATIONS) {
            let given = p.forced_offset + (first_in_row + n) * C;
            var note = vec3<f32>(forced[given], forced[given + 1u], 0.0);
            note.z = forced[given + 2u]; // unless TWO
            report(first_in_row + n, note, vec2<f32>());
            keep(first + n, note);
        }
        for (var n = 0u; invocation == 0u && n < p.notes; n++) {
            rests = rests && forced[p.forced_offset + (first_in_row + n) * C] == 0.0;
        }
    } else {
        for (var i = invocation; i < H1 + H2; i += INVOCATIONS) {
            hidden[i] = 0.0;
            cells[i] = 0.0;
        }
        if invocation < C {
            lower[invocation] = 0.0;
        }
        workgroupBarrier();
        let temperature = uniforms.temperature + uniforms.silence * silent;
        for (var n = 0u; n < p.notes; n++) {
            var sums: array<f32, COLUMNS>;
            for (var i = 0u; i < COLUMNS; i++) {
                let column = min(invocation + i * INVOCATIONS, 4u * H1 - 1u);
                sums[i] = input[p.input_offset + (first + n) * 4u * H1 + column];
                for (var k = 0u; k < C; k++) {
                    sums[i] += lower[k] * weights[p.weights_offset + p.chosen + k * 4u * H1 + column];
                }
            }
            add_product(&sums, 0u, p.units1, p.recurrent1, H1, invocation);
            activate(&sums, 0u, H1, invocation);

            for (var i = 0u; i < COLUMNS; i++) {
                sums[i] = bias2[p.bias2_offset + piece * 4u * H2 + min(invocation + i * INVOCATIONS, 4u * H2 - 1u)];
            }
            add_product(&sums, 0u, p.units1, p.input2, H2, invocation);
            add_product(&sums, H1, p.units2, p.recurrent2, H2, invocation);
            activate(&sums, H1, H2, invocation);

            if invocation < HEADS * PARTS {
                var sum = 0.0;
                for (var unit = invocation / HEADS; unit < H2; unit += PARTS) {
                    let weight = p.weights_offset + p.head + unit * HEADS + invocation % HEADS;
                    sum += hidden[H1 + unit] * weights[weight];
                }
                partial[invocation] = sum;
            }
            make_bins(invocation); // if BINNED
            workgroupBarrier();
            if invocation == 0u {
                let bias = p.weights_offset + p.head_bias;
                var logit = vec3<f32>(weights[bias], weights[bias + 1u], 0.0);
                logit.z = weights[bias + 2u]; // if SCALAR
                for (var i = 0u; i < HEADS * PARTS; i += HEADS) {
                    logit.x += partial[i];
                    logit.y += partial[i + 1u];
                    logit.z += partial[i + 2u]; // if SCALAR
                }
                let draws = pcg4d(vec4<u32>(n, uniforms.first_slot + piece, u32(clock), uniforms.seed));
                let sounded = notes[p.notes_offset + (first + n) * C] > 0.0;
                let behind = first_control + p.notes;
                let play = sigmoid_((logit.x + control[select(first_control + n, behind, sounded)]) / temperature);
                let replay = sigmoid_((logit.y + control[behind + 1u]) / temperature);
                var note = vec3<f32>();
                let given = p.forced_offset + (first_in_row + n) * C;
                if uniforms.forced == 2.0 && forced[given] >= 0.0 {
                    note = vec3<f32>(forced[given], forced[given + 1u], 0.0);
                    note.z = forced[given + 2u]; // unless TWO
                    rests = rests && note.x == 0.0;
                } else if uniform01(draws.x) < play {
                    rests = false;
                    note = vec3<f32>(1.0, 0.0, logit.z);
                    note.z = draw_bin(uniform01(draws.z)); // if BINNED
                    note.z = clamp(note.z + control[behind + 2u] * note.z + control[behind + 3u], 0.0, 1.0); // unless TWO
                    if sounded && uniform01(draws.y) < replay {
                        note.y = 1.0;
                    }
                }
                keep(first + n, note);
                report(first_in_row + n, note, vec2<f32>(play, replay));
                lower[0] = note.x;
                lower[1] = note.y;
                lower[2] = note.z; // unless TWO
            }
            workgroupBarrier();
        }
    }

    // All invocations have read the state.
    workgroupBarrier();
    if invocation == 0u {
        state[p.state_offset + piece] = f32(clock);
        state[p.state_offset + p.pieces + piece] = select(0.0, silent + 1.0, rests);
    }
}

fn keep(at: u32, note: vec3<f32>) {
    let first = p.notes_offset + at * C;
    notes[first] = note.x;
    notes[first + 1u] = note.y;
    notes[first + 2u] = note.z; // unless TWO
}

fn report(at: u32, note: vec3<f32>, probabilities: vec2<f32>) {
    let first = p.roll_offset + at * REPORTED;
    roll[first] = note.x;
    roll[first + 1u] = note.y;
    roll[first + 2u] = note.z; // unless TWO
    roll[first + C] = probabilities.x;
    roll[first + C + 1u] = probabilities.y;
}

// Makes the logits of the bins from the second layer's output. The caller waits for all of them.
fn make_bins(invocation: u32) {
    for (var bin = invocation; bin < BINS; bin += INVOCATIONS) {
        var sum = weights[p.weights_offset + p.bins_bias + bin];
        for (var unit = 0u; unit < H2; unit++) {
            sum += hidden[H1 + unit] * weights[p.weights_offset + p.bins + unit * BINS + bin];
        }
        bins[bin] = sum;
    }
}

// The value, within 0..1, of the bin that a number within 0..1 draws from their distribution.
fn draw_bin(draw: f32) -> f32 {
    var most = bins[0];
    for (var bin = 1u; bin < BINS; bin++) {
        most = max(most, bins[bin]);
    }
    var total = 0.0;
    for (var bin = 0u; bin < BINS; bin++) {
        bins[bin] = exp(max(bins[bin] - most, -80.0));
        total += bins[bin];
    }
    // The first at which the sum passes the draw's share of the total; rounding may leave that to none.
    var drawn = BINS - 1u;
    var sum = 0.0;
    for (var bin = 0u; bin < BINS; bin++) {
        sum += bins[bin];
        if draw * total < sum {
            drawn = bin;
            break;
        }
    }
    return f32(drawn) / f32(BINS - 1u);
}

// Rows of a matrix that are read together, so that an invocation waits for all of them at once.
const TOGETHER: u32 = 16u;

// Adds hidden[first .. first + rows] times the matrix [rows, 4 units] that stands at `matrix` to the invocation's columns.
fn add_product(sums: ptr<function, array<f32, COLUMNS>>, first: u32, rows: u32, matrix: u32, units: u32, invocation: u32) {
    for (var k = 0u; k < rows; k += TOGETHER) {
        for (var j = 0u; j < TOGETHER; j++) {
            // Past the end the last row, of which nothing is taken.
            let at = min(k + j, rows - 1u);
            let x = select(0.0, hidden[first + at], k + j < rows);
            let row = p.weights_offset + matrix + at * 4u * units;
            for (var i = 0u; i < COLUMNS; i++) {
                (*sums)[i] += x * weights[row + min(invocation + i * INVOCATIONS, 4u * units - 1u)];
            }
        }
    }
}

// Makes the new state of the layer of so many units at `first` from the gates' columns of all invocations.
fn activate(sums: ptr<function, array<f32, COLUMNS>>, first: u32, units: u32, invocation: u32) {
    for (var i = 0u; i < COLUMNS; i++) {
        if invocation + i * INVOCATIONS < 4u * units {
            gates[invocation + i * INVOCATIONS] = (*sums)[i];
        }
    }
    workgroupBarrier();
    for (var unit = invocation; unit < units; unit += INVOCATIONS) {
        let i = sigmoid_(gates[unit]);
        let f = sigmoid_(gates[units + unit]);
        let g = tanh_(gates[2u * units + unit]);
        let o = sigmoid_(gates[3u * units + unit]);
        let s = f * cells[first + unit] + i * g;
        cells[first + unit] = s;
        hidden[first + unit] = o * tanh_(s);
    }
    workgroupBarrier();
}
