// Functions that every shader may use. The preprocessor (src/gpu/kernel.rs) puts this text behind each shader's own, so
// line numbers in compiler messages are those of the shader's file.

// The 16 words that the host rewrites before each run of a program. A shader that wants them declares
// `@group(1) @binding(0) var<uniform> uniforms: Uniforms;`.
struct Uniforms {
    seed: u32,
    update: u32,
    lr: f32,
    // Factors of the optimiser's schedule.
    factor0: f32,
    factor1: f32,
    factor2: f32,
    // Largest global norm of the gradient; 0 leaves gradients as they are.
    clip_norm: f32,
    temperature: f32,
    forced: f32,
    silence: f32,
    // What gradients are multiplied with before the update.
    unscale: f32,
    // The batch slots that this process computes: number of the first, how many, and how many the whole batch has.
    first_slot: u32,
    slots: u32,
    all_slots: u32,
    unused: u32,
    unused_too: u32,
}

// The number of a workgroup where the host folded a line of groups into x and y (`Building::groups`). The last row may be
// longer than the line, so what a group does is guarded by its number.
fn group_number(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>) -> u32 {
    return workgroup_id.y * num_workgroups.x + workgroup_id.x;
}

// x mod n, from 0 up also where x is negative; drivers' own signed % may be wrong there.
fn floor_mod(x: i32, n: u32) -> u32 {
    if x < 0 {
        return n - 1u - u32(-1 - x) % n;
    }
    return u32(x) % n;
}

// Arguments of exp stay within +-80, where exp is finite and normal in f32: WGSL leaves infinities to the driver.

fn sigmoid_(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-clamp(x, -80.0, 80.0)));
}

// Through exp(-2|x|), which never overflows; drivers' own tanh differ, and some give NaN for large arguments. Below 1/2
// it is x + x^3 p(x^2) instead, since 1 - exp(-2|x|) has the fewer right digits the smaller x is. p was fitted by Remez's
// algorithm, so that the largest error relative to tanh(x) is as small as degree 3 allows: 1.6e-8 with coefficients rounded to
// f32, about a quarter of what rounding a result once may be off by.
fn tanh_(x: f32) -> f32 {
    let t = exp(max(-2.0 * abs(x), -80.0));
    let far = sign(x) * (1.0 - t) / (1.0 + t);
    let n = clamp(x, -0.5, 0.5);
    let z = n * n;
    let p = -0.33333144 + z * (0.13325879 + z * (-0.0530455 + z * 0.017241498));
    return select(far, n + n * z * p, abs(x) < 0.5);
}

// log(1 + exp(x)). Binary cross-entropy of logit x and target y is softplus(x) - x y.
fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log(1.0 + exp(max(-abs(x), -80.0)));
}

// Hash of four words: pcg4d of Jarzynski & Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020. The same bits as
// src/ops/random.rs.
fn pcg4d(key: vec4<u32>) -> vec4<u32> {
    var v = key * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v ^= v >> vec4<u32>(16u);
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v;
}

// A multiple of 2^-24 in [0, 1), exact in f32.
fn uniform01(hash: u32) -> f32 {
    return f32(hash >> 8u) * 0x1p-24f;
}

// The number that element `index` of a tensor [outer, B, inner] of this process' batch slots has in the tensor of the whole
// batch, so that masks do not depend on who computes a slot. The same numbers as in src/ops/random.rs.
fn in_whole_batch(index: u32, inner: u32, first_slot: u32, slots: u32, all_slots: u32) -> u32 {
    if slots == all_slots {
        return index;
    }
    let row = index / (slots * inner);
    return index + (row * (all_slots - slots) + first_slot) * inner;
}

// Inverted dropout's factor for element `index` of dropout site `site`: 0 with probability `rate`, else `kept`, which is
// 1 / (1 - rate) as the host divides, since WGSL's division may be off by some units in the last place. A function of its
// arguments alone, so the backward pass recomputes the forward pass's mask. 0 <= rate < 1.
fn keep_mask(index: u32, site: u32, rate: f32, kept: f32, seed: u32, update: u32) -> f32 {
    let u = uniform01(pcg4d(vec4<u32>(index, site, update, seed)).x);
    return select(kept, 0.0, u < rate);
}

// Drivers may compile as if there were neither infinities nor NaN, so the bits are asked: an exponent of all ones.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// What an update multiplies the gradients with, whose squared norm, loss scale included, this is: it takes away the loss scale,
// and shortens them to `clip_norm` where that is set and they are longer.
fn gradient_scale(squared_norm: f32, unscale: f32, clip_norm: f32) -> f32 {
    let norm = sqrt(squared_norm) * unscale;
    if clip_norm > 0.0 && norm > clip_norm {
        return unscale * (clip_norm / norm);
    }
    return unscale;
}
