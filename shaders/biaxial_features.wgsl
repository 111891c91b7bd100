// The time axis' input of the Biaxial LSTM (src/ops/biaxial_features.rs).
//
// One invocation makes one element. Most are a constant or one load; a pitch class' count is N / 12 loads, which neighbours
// share with each other through the cache.

alias S = f32;

// Semitones of an octave, and notes below and above a note that it sees.
const OCTAVE: u32 = 12u;
const REACH: u32 = 12u;
// Values of a cell: play and replay.
const C: u32 = 2u;
// The first columns of what follows note index and pitch class: the neighbourhood, the counts, the beat, the constant.
const AROUND: u32 = 1u + OCTAVE;
const COUNTS: u32 = AROUND + (2u * REACH + 1u) * C;
const BEAT: u32 = COUNTS + OCTAVE;
const CONSTANT: u32 = BEAT + 4u;
const WIDTH: u32 = CONSTANT + 1u;

struct Params {
    notes_offset: u32,
    start_offset: u32,
    y_offset: u32,
    // The first bound row (t, b) of those of the whole tensors, and how many are bound.
    first: u32,
    rows: u32,
    batch: u32,
    notes: u32,
    lowest: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> notes: array<f32>; // [rows, N, C]
@group(0) @binding(2) var<storage, read> start: array<f32>; // [B]
@group(0) @binding(3) var<storage, read_write> y: array<S>; // [rows, N, WIDTH]

// How many notes of a row sound that are a whole number of octaves from note `n`.
fn count(row: u32, n: u32) -> f32 {
    var sum = 0.0;
    for (var m = n % OCTAVE; m < p.notes; m += OCTAVE) {
        sum += notes[p.notes_offset + (row * p.notes + m) * C];
    }
    return sum;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let i = group_number(workgroup_id, num_workgroups) * 256u + invocation;
    let cell = i / WIDTH;
    let j = i % WIDTH;
    let row = cell / p.notes;
    let n = cell % p.notes;
    if row >= p.rows {
        return;
    }
    var value = 1.0;
    if j == 0u {
        value = f32(n);
    } else if j < AROUND {
        value = select(0.0, 1.0, j == 1u + (p.lowest + n) % OCTAVE);
    } else if j < COUNTS {
        // The note, counted from a neighbourhood's reach below the lowest.
        let m = n + (j - AROUND) / C;
        value = 0.0;
        if m >= REACH && m - REACH < p.notes {
            value = notes[p.notes_offset + (row * p.notes + m - REACH) * C + (j - AROUND) % C];
        }
    } else if j < BEAT {
        value = count(row, n + j - COUNTS);
    } else if j < CONSTANT {
        let tb = p.first + row;
        let time = floor_mod(i32(start[p.start_offset + tb % p.batch]) + i32(tb / p.batch), 16u);
        value = select(-1.0, 1.0, ((time >> (j - BEAT)) & 1u) == 1u);
    }
    y[p.y_offset + i] = S(value);
}
