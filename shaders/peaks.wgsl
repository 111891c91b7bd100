// What `src/peaks` measures an adapter by: chains of multiply-adds, a copy, reads of workgroup memory, and nothing at all.
// No op.
//
// A chain multiplies by -1 and adds 1, which the compiler does not know: x becomes 1 - x and then x again, so that nothing
// grows, vanishes or can be left out. Chains are independent, so that one hides the latency of another. How many, and
// whether of vectors, suits one adapter or another; the host tries all of them. Each invocation stores a sum of all that it
// computed.

// What multiply-adds are measured of.
alias S = f32;

struct Params {
    loops: u32,
    factor: f32,
    summand: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>; // [invocations]
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>; // [n]
@group(0) @binding(2) var<storage, read_write> copied: array<vec4<f32>>; // [n]
@group(0) @binding(2) var<storage, read_write> sums_of_source: array<f32>; // [invocations]

const SIZE: u32 = 256u;

// A start that differs between chains, exact in f16 as 1 minus it is.
fn start(id: u32, chain: u32) -> S {
    return S(f32((id + chain) % 8u) * 0.125);
}

fn start4(id: u32, chain: u32) -> vec4<S> {
    return vec4<S>(start(id, chain), start(id, chain + 1u), start(id, chain + 2u), start(id, chain + 3u));
}

// 8 chains of scalars, 4 steps a loop: 64 FLOP.
@compute @workgroup_size(SIZE)
fn scalars(@builtin(global_invocation_id) id: vec3<u32>) {
    let a = S(p.factor);
    let b = S(p.summand);
    var x0 = start(id.x, 0u);
    var x1 = start(id.x, 1u);
    var x2 = start(id.x, 2u);
    var x3 = start(id.x, 3u);
    var x4 = start(id.x, 4u);
    var x5 = start(id.x, 5u);
    var x6 = start(id.x, 6u);
    var x7 = start(id.x, 7u);
    for (var i = 0u; i < p.loops; i++) {
        x0 = fma(fma(fma(fma(x0, a, b), a, b), a, b), a, b);
        x1 = fma(fma(fma(fma(x1, a, b), a, b), a, b), a, b);
        x2 = fma(fma(fma(fma(x2, a, b), a, b), a, b), a, b);
        x3 = fma(fma(fma(fma(x3, a, b), a, b), a, b), a, b);
        x4 = fma(fma(fma(fma(x4, a, b), a, b), a, b), a, b);
        x5 = fma(fma(fma(fma(x5, a, b), a, b), a, b), a, b);
        x6 = fma(fma(fma(fma(x6, a, b), a, b), a, b), a, b);
        x7 = fma(fma(fma(fma(x7, a, b), a, b), a, b), a, b);
    }
    sums[id.x] = f32(x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7);
}

// 2 chains of vectors, 4 steps a loop: 64 FLOP.
@compute @workgroup_size(SIZE)
fn vectors(@builtin(global_invocation_id) id: vec3<u32>) {
    let a = vec4<S>(S(p.factor));
    let b = vec4<S>(S(p.summand));
    var x0 = start4(id.x, 0u);
    var x1 = start4(id.x, 4u);
    for (var i = 0u; i < p.loops; i++) {
        x0 = fma(fma(fma(fma(x0, a, b), a, b), a, b), a, b);
        x1 = fma(fma(fma(fma(x1, a, b), a, b), a, b), a, b);
    }
    let x = x0 + x1;
    sums[id.x] = f32(x.x + x.y + x.z + x.w);
}

// 4 chains of vectors, 4 steps a loop: 128 FLOP.
@compute @workgroup_size(SIZE)
fn more_vectors(@builtin(global_invocation_id) id: vec3<u32>) {
    let a = vec4<S>(S(p.factor));
    let b = vec4<S>(S(p.summand));
    var x0 = start4(id.x, 0u);
    var x1 = start4(id.x, 1u);
    var x2 = start4(id.x, 2u);
    var x3 = start4(id.x, 3u);
    for (var i = 0u; i < p.loops; i++) {
        x0 = fma(fma(fma(fma(x0, a, b), a, b), a, b), a, b);
        x1 = fma(fma(fma(fma(x1, a, b), a, b), a, b), a, b);
        x2 = fma(fma(fma(fma(x2, a, b), a, b), a, b), a, b);
        x3 = fma(fma(fma(fma(x3, a, b), a, b), a, b), a, b);
    }
    let x = x0 + x1 + x2 + x3;
    sums[id.x] = f32(x.x + x.y + x.z + x.w);
}

// Four vectors an invocation; neighbours copy neighbours.
@compute @workgroup_size(SIZE)
fn copy(@builtin(workgroup_id) workgroup_id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = workgroup_id.x * 4u * SIZE + local;
    copied[first] = source[first];
    copied[first + SIZE] = source[first + SIZE];
    copied[first + 2u * SIZE] = source[first + 2u * SIZE];
    copied[first + 3u * SIZE] = source[first + 3u * SIZE];
}

// 4 reads of a vector a loop, from what caches hold: 64 bytes. Neighbours read neighbours, and workgroups the same.
@compute @workgroup_size(SIZE)
fn cached(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let end = arrayLength(&source);
    var x0 = vec4<f32>();
    var x1 = vec4<f32>();
    var at = local;
    for (var i = 0u; i < p.loops; i++) {
        x0 += source[at % end] + source[(at + SIZE) % end];
        x1 += source[(at + 2u * SIZE) % end] + source[(at + 3u * SIZE) % end];
        at = (at + 4u * SIZE) % end;
    }
    let x = x0 + x1;
    sums_of_source[id.x] = x.x + x.y + x.z + x.w;
}

var<workgroup> words: array<f32, 2u * SIZE>;
var<workgroup> quads: array<vec4<f32>, 2u * SIZE>;

// 8 reads of a scalar a loop, at one address and at fixed distances from it, where it moves with the loop: 32 bytes.
@compute @workgroup_size(SIZE)
fn shared_scalars(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    words[local] = f32(local) * 0x1p-8f;
    words[local + SIZE] = f32(local) * 0x1p-8f;
    workgroupBarrier();
    var x0 = 0.0;
    var x1 = 0.0;
    var at = local;
    for (var i = 0u; i < p.loops; i++) {
        x0 += words[at] + words[at + 64u] + words[at + 128u] + words[at + 192u];
        x1 += words[at + 32u] + words[at + 96u] + words[at + 160u] + words[at + 224u];
        at = (at + 1u) % SIZE;
    }
    sums[id.x] = x0 + x1;
}

// The same of vectors: 128 bytes.
@compute @workgroup_size(SIZE)
fn shared_vectors(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    quads[local] = vec4<f32>(f32(local) * 0x1p-8f);
    quads[local + SIZE] = vec4<f32>(f32(local) * 0x1p-8f);
    workgroupBarrier();
    var x0 = vec4<f32>();
    var x1 = vec4<f32>();
    var at = local;
    for (var i = 0u; i < p.loops; i++) {
        x0 += quads[at] + quads[at + 64u] + quads[at + 128u] + quads[at + 192u];
        x1 += quads[at + 32u] + quads[at + 96u] + quads[at + 160u] + quads[at + 224u];
        at = (at + 1u) % SIZE;
    }
    let x = x0 + x1;
    sums[id.x] = x.x + x.y + x.z + x.w;
}

// One invocation; each dispatch needs what the one before left.
@compute @workgroup_size(1)
fn nothing() {
    sums[0] += 1.0;
}
