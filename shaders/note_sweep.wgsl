// One time step of generation along the note axis (src/ops/note_sweep.rs).
//
// A workgroup is one piece and makes all its notes, since each waits for the coins of the one below: both layers' state
// stands in workgroup memory, and nothing leaves the workgroup between notes. The 4H columns of a layer's gates are spread
// over the lanes, so that the weights, which every note streams from the cache anew, are read by neighbours from
// neighbouring places. Pieces are few, so this is bound by latency, not by arithmetic.

const CHANNELS: u32 = 3u;
const REPORTED: u32 = 5u;
const LANES: u32 = 256u;
// H.
const H: u32 = 1u;
// Columns of the gates that a lane makes.
const COLUMNS: u32 = (4u * H + LANES - 1u) / LANES;
// Parts of each head's sum.
const PARTS: u32 = 8u;

struct Params {
    weights_offset: u32,
    input_offset: u32,
    bias2_offset: u32,
    forced_offset: u32,
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
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>; // chosen [3, 4H]; recurrent1, input2, recurrent2 [H, 4H]; head [H, 3]; head_bias [3]
@group(0) @binding(2) var<storage, read> input: array<f32>; // [pieces, N, 4H]
@group(0) @binding(3) var<storage, read> bias2: array<f32>; // [pieces, 4H]
@group(0) @binding(4) var<storage, read> forced: array<f32>; // [window, pieces, N, 3]
@group(0) @binding(5) var<storage, read_write> notes: array<f32>; // [pieces, N, 3]
@group(0) @binding(6) var<storage, read_write> state: array<f32>; // [2, pieces]: clocks, silent steps
@group(0) @binding(7) var<storage, read_write> roll: array<f32>; // [window, pieces, N, 5]
@group(1) @binding(0) var<uniform> step: Step;

var<workgroup> hidden: array<f32, 2u * H>; // [2 layers, H]
var<workgroup> cells: array<f32, 2u * H>; // [2 layers, H]
var<workgroup> gates: array<f32, 4u * H>;
var<workgroup> partial: array<f32, CHANNELS * PARTS>;
// What was chosen for the note below.
var<workgroup> lower: array<f32, CHANNELS>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
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
    let first_in_row = (floor_mod(clock, p.window) * p.pieces + piece) * p.notes;
    // Lane 0 alone knows.
    var rests = true;

    if step.forced != 0.0 {
        for (var n = lane; n < p.notes; n += LANES) {
            let given = p.forced_offset + (first_in_row + n) * CHANNELS;
            report(first_in_row + n, vec3<f32>(forced[given], forced[given + 1u], forced[given + 2u]), vec2<f32>());
            keep(first + n, vec3<f32>(forced[given], forced[given + 1u], forced[given + 2u]));
        }
        for (var n = 0u; lane == 0u && n < p.notes; n++) {
            rests = rests && forced[p.forced_offset + (first_in_row + n) * CHANNELS] == 0.0;
        }
    } else {
        for (var i = lane; i < 2u * H; i += LANES) {
            hidden[i] = 0.0;
            cells[i] = 0.0;
        }
        if lane < CHANNELS {
            lower[lane] = 0.0;
        }
        workgroupBarrier();
        let temperature = step.temperature + step.silence * silent;
        for (var n = 0u; n < p.notes; n++) {
            var sums: array<f32, COLUMNS>;
            for (var i = 0u; i < COLUMNS; i++) {
                let column = min(lane + i * LANES, 4u * H - 1u);
                sums[i] = input[p.input_offset + (first + n) * 4u * H + column];
                for (var k = 0u; k < CHANNELS; k++) {
                    sums[i] += lower[k] * weights[p.weights_offset + p.chosen + k * 4u * H + column];
                }
            }
            add_product(&sums, 0u, p.recurrent1, lane);
            activate(&sums, 0u, lane);

            for (var i = 0u; i < COLUMNS; i++) {
                sums[i] = bias2[p.bias2_offset + piece * 4u * H + min(lane + i * LANES, 4u * H - 1u)];
            }
            add_product(&sums, 0u, p.input2, lane);
            add_product(&sums, H, p.recurrent2, lane);
            activate(&sums, H, lane);

            if lane < CHANNELS * PARTS {
                var sum = 0.0;
                for (var unit = lane / CHANNELS; unit < H; unit += PARTS) {
                    let weight = p.weights_offset + p.head + unit * CHANNELS + lane % CHANNELS;
                    sum += hidden[H + unit] * weights[weight];
                }
                partial[lane] = sum;
            }
            workgroupBarrier();
            if lane == 0u {
                let bias = p.weights_offset + p.head_bias;
                var logit = vec3<f32>(weights[bias], weights[bias + 1u], weights[bias + 2u]);
                for (var i = 0u; i < CHANNELS * PARTS; i += CHANNELS) {
                    logit += vec3<f32>(partial[i], partial[i + 1u], partial[i + 2u]);
                }
                let coins = pcg4d(vec4<u32>(n, piece, u32(clock), step.seed));
                let play = sigmoid_(logit.x / temperature);
                let replay = sigmoid_(logit.y / temperature);
                let sounded = notes[p.notes_offset + (first + n) * CHANNELS] > 0.0;
                var note = vec3<f32>();
                if uniform01(coins.x) < play {
                    rests = false;
                    note = vec3<f32>(1.0, 0.0, clamp(logit.z, 0.0, 1.0));
                    if sounded && uniform01(coins.y) < replay {
                        note.y = 1.0;
                    }
                }
                keep(first + n, note);
                report(first_in_row + n, note, vec2<f32>(play, replay));
                lower[0] = note.x;
                lower[1] = note.y;
                lower[2] = note.z;
            }
            workgroupBarrier();
        }
    }

    // All lanes have read the state.
    workgroupBarrier();
    if lane == 0u {
        state[p.state_offset + piece] = f32(clock);
        state[p.state_offset + p.pieces + piece] = select(0.0, silent + 1.0, rests);
    }
}

fn keep(at: u32, note: vec3<f32>) {
    let first = p.notes_offset + at * CHANNELS;
    notes[first] = note.x;
    notes[first + 1u] = note.y;
    notes[first + 2u] = note.z;
}

fn report(at: u32, note: vec3<f32>, probabilities: vec2<f32>) {
    let first = p.roll_offset + at * REPORTED;
    roll[first] = note.x;
    roll[first + 1u] = note.y;
    roll[first + 2u] = note.z;
    roll[first + 3u] = probabilities.x;
    roll[first + 4u] = probabilities.y;
}

// Adds hidden[first .. first + H] times the matrix that stands at `matrix` to the lane's columns.
fn add_product(sums: ptr<function, array<f32, COLUMNS>>, first: u32, matrix: u32, lane: u32) {
    for (var k = 0u; k < H; k++) {
        let x = hidden[first + k];
        let row = p.weights_offset + matrix + k * 4u * H;
        for (var i = 0u; i < COLUMNS; i++) {
            (*sums)[i] += x * weights[row + min(lane + i * LANES, 4u * H - 1u)];
        }
    }
}

// Makes the new state of the layer at `first` from the gates' columns of all lanes.
fn activate(sums: ptr<function, array<f32, COLUMNS>>, first: u32, lane: u32) {
    for (var i = 0u; i < COLUMNS; i++) {
        if lane + i * LANES < 4u * H {
            gates[lane + i * LANES] = (*sums)[i];
        }
    }
    workgroupBarrier();
    for (var unit = lane; unit < H; unit += LANES) {
        let i = sigmoid_(gates[unit]);
        let f = sigmoid_(gates[H + unit]);
        let g = tanh_(gates[2u * H + unit]);
        let o = sigmoid_(gates[3u * H + unit]);
        let s = f * cells[first + unit] + i * g;
        cells[first + unit] = s;
        hidden[first + unit] = o * tanh_(s);
    }
    workgroupBarrier();
}
