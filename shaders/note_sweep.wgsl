// One time step of generation along the note axis: from the lowest note to the highest, two LSTM layers, three heads and
// the coin flips, each note seeing what was chosen for the one below (src/ops/note_sweep.rs).
//
// One workgroup a piece, since every note waits for the one below: state, gates and the lower note stay in workgroup
// memory for the whole sweep, weights are streamed. An invocation makes the gates `lane, lane + GROUP, …`, so neighbours
// read neighbouring weights. H = UNITS takes 8 H + 8 words of workgroup memory.

const GROUP: u32 = 256u;
const UNITS: u32 = 128u;
const GATES: u32 = 4 * UNITS;
const CHANNELS: u32 = 3u;
const REPORTED: u32 = 5u;

struct Params {
    weights_offset: u32,
    input_offset: u32,
    bias2_offset: u32,
    forced_offset: u32,
    notes_offset: u32,
    state_offset: u32,
    roll_offset: u32,
    pieces: u32,
    notes: u32,
    window: u32,
    // Where each matrix stands in `weights`.
    chosen: u32, // [3, 4H]
    recurrent1: u32, // [H, 4H]
    input2: u32, // [H, 4H]
    recurrent2: u32, // [H, 4H]
    head: u32, // [H, 3]
    head_bias: u32, // [3]
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> input: array<f32>; // [pieces, N, 4H]
@group(0) @binding(3) var<storage, read> bias2: array<f32>; // [pieces, 4H]
@group(0) @binding(4) var<storage, read> forced: array<f32>; // [window, pieces, N, 3]
@group(0) @binding(5) var<storage, read_write> notes: array<f32>; // [pieces, N, 3]
@group(0) @binding(6) var<storage, read_write> state: array<f32>; // [2, pieces]: clocks, silent steps so far
@group(0) @binding(7) var<storage, read_write> roll: array<f32>; // [window, pieces, N, 5]
@group(1) @binding(0) var<uniform> step: Step;

var<workgroup> gates: array<f32, GATES>;
var<workgroup> h1: array<f32, UNITS>;
var<workgroup> c1: array<f32, UNITS>;
var<workgroup> h2: array<f32, UNITS>;
var<workgroup> c2: array<f32, UNITS>;
var<workgroup> lower: array<f32, CHANNELS>;
var<workgroup> logits: array<f32, CHANNELS>;

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let piece = group_number(workgroup_id, num_workgroups);
    if piece >= p.pieces {
        return;
    }
    let clock = i32(state[p.state_offset + piece]) + 1;
    let silent = state[p.state_offset + p.pieces + piece];
    let window = i32(p.window);
    let row = u32((clock % window + window) % window);
    let first_note = p.notes_offset + piece * p.notes * CHANNELS;
    let first_report = p.roll_offset + (row * p.pieces + piece) * p.notes * REPORTED;

    if step.forced != 0.0 {
        let first_forced = p.forced_offset + (row * p.pieces + piece) * p.notes * CHANNELS;
        for (var i = lane; i < p.notes * CHANNELS; i += GROUP) {
            let value = forced[first_forced + i];
            notes[first_note + i] = value;
            roll[first_report + i / CHANNELS * REPORTED + i % CHANNELS] = value;
        }
        for (var n = lane; n < p.notes; n += GROUP) {
            roll[first_report + n * REPORTED + CHANNELS] = 0.0;
            roll[first_report + n * REPORTED + CHANNELS + 1u] = 0.0;
        }
    } else {
        sweep(lane, piece, u32(clock), silent, first_note, first_report);
    }
    storageBarrier();
    if lane == 0u {
        var plays = 0.0;
        for (var n = 0u; n < p.notes; n++) {
            plays += notes[first_note + n * CHANNELS];
        }
        state[p.state_offset + piece] = f32(clock);
        state[p.state_offset + p.pieces + piece] = select(silent + 1.0, 0.0, plays != 0.0);
    }
}

fn sweep(lane: u32, piece: u32, clock: u32, silent: f32, first_note: u32, first_report: u32) {
    for (var u = lane; u < UNITS; u += GROUP) {
        h1[u] = 0.0;
        c1[u] = 0.0;
        h2[u] = 0.0;
        c2[u] = 0.0;
    }
    if lane < CHANNELS {
        lower[lane] = 0.0;
    }
    workgroupBarrier();
    let temperature = step.temperature + step.silence * silent;
    for (var n = 0u; n < p.notes; n++) {
        for (var j = lane; j < GATES; j += GROUP) {
            var sum = input[p.input_offset + (piece * p.notes + n) * GATES + j];
            for (var c = 0u; c < CHANNELS; c++) {
                sum += lower[c] * weights[p.weights_offset + p.chosen + c * GATES + j];
            }
            let column = p.weights_offset + p.recurrent1 + j;
            for (var k = 0u; k < UNITS; k++) {
                sum += h1[k] * weights[column + k * GATES];
            }
            gates[j] = sum;
        }
        workgroupBarrier();
        for (var u = lane; u < UNITS; u += GROUP) {
            let c = sigmoid_(gates[UNITS + u]) * c1[u] + sigmoid_(gates[u]) * tanh_(gates[2u * UNITS + u]);
            c1[u] = c;
            h1[u] = sigmoid_(gates[3u * UNITS + u]) * tanh_(c);
        }
        workgroupBarrier();
        for (var j = lane; j < GATES; j += GROUP) {
            var sum = bias2[p.bias2_offset + piece * GATES + j];
            let column = p.weights_offset + j;
            for (var k = 0u; k < UNITS; k++) {
                sum += h1[k] * weights[column + p.input2 + k * GATES];
            }
            for (var k = 0u; k < UNITS; k++) {
                sum += h2[k] * weights[column + p.recurrent2 + k * GATES];
            }
            gates[j] = sum;
        }
        workgroupBarrier();
        for (var u = lane; u < UNITS; u += GROUP) {
            let c = sigmoid_(gates[UNITS + u]) * c2[u] + sigmoid_(gates[u]) * tanh_(gates[2u * UNITS + u]);
            c2[u] = c;
            h2[u] = sigmoid_(gates[3u * UNITS + u]) * tanh_(c);
        }
        workgroupBarrier();
        if lane < CHANNELS {
            var sum = weights[p.weights_offset + p.head_bias + lane];
            for (var k = 0u; k < UNITS; k++) {
                sum += h2[k] * weights[p.weights_offset + p.head + k * CHANNELS + lane];
            }
            logits[lane] = sum;
        }
        workgroupBarrier();
        if lane == 0u {
            let coins = pcg4d(vec4<u32>(n, piece, clock, step.seed));
            let p_play = sigmoid_(logits[0] / temperature);
            let p_replay = sigmoid_(logits[1] / temperature);
            let note = first_note + n * CHANNELS;
            let sounded = notes[note] > 0.0;
            var chosen = vec3<f32>();
            if uniform01(coins.x) < p_play {
                let replay = sounded && uniform01(coins.y) < p_replay;
                chosen = vec3<f32>(1.0, select(0.0, 1.0, replay), clamp(logits[2], 0.0, 1.0));
            }
            let report = first_report + n * REPORTED;
            for (var c = 0u; c < CHANNELS; c++) {
                lower[c] = chosen[c];
                notes[note + c] = chosen[c];
                roll[report + c] = chosen[c];
            }
            roll[report + CHANNELS] = p_play;
            roll[report + CHANNELS + 1u] = p_replay;
        }
        workgroupBarrier();
    }
}
