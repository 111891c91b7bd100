//! Changes by rule that change nothing that can be seen. One that a case notices makes the run fail.

use super::drawn::Change;

/// A kernel, the change as its draw names it, and why nothing comes of it.
pub const EQUIVALENT: &[(&str, &str, &str)] = &[
    (
        "gemm/direct",
        "four: `return min(first + step * vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(end - 1u));` becomes `return min(first + step * vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(end + 1u));`",
        "what comes of rows and columns past the end is not stored; that they are not read is seen to by drivers, not by results",
    ),
    (
        "heads/input_grad_naive",
        "dlosses_of: `return vec3<f32>(dlosses[at], dlosses[at + 1u], 0.0); // if TWO` becomes `return vec3<f32>(dlosses[at], dlosses[at + 1u], 1.0); // if TWO`",
        "it multiplies the third of two heads' logit gradient, which is 0",
    ),
    (
        "heads/weight_grad_naive",
        "logit_grads_of: `return vec3<f32>(q_logit_grads[at], q_logit_grads[at + 1u], 0.0); // if TWO` becomes `return vec3<f32>(q_logit_grads[at], q_logit_grads[at + 1u], 1.0); // if TWO`",
        "the third of two heads' sum is not stored",
    ),
    (
        "lstm/backward_block",
        "step_back: `if has_later(0u) {` becomes `if has_later(1u) {`",
        "a dispatch of this kernel has one step",
    ),
    (
        "lstm/backward_sequence",
        "backward_sequence: `for (var j = 0u; j < OWN; j++) {` becomes `for (var j = 0u; j <= OWN; j++) {`",
        "the units of one more round are beyond H, and passed over",
    ),
    (
        "lstm/backward_tiled",
        "backward_tiled: `for (var first = 0u; first < terms; first += DEPTH) {` becomes `for (var first = 0u; first <= terms; first += DEPTH) {`",
        "one more round adds a tile of zeros",
    ),
    (
        "lstm/forward_tiled",
        "state_at: `return (step * p.pitch + min(row, p.rows - 1u)) * p.units;` becomes `return (step * p.pitch + min(row, p.rows + 1u)) * p.units;`",
        "what comes of rows past the end is not stored, as with `four` of gemm",
    ),
    (
        "lstm/transpose_recurrent",
        "transpose_recurrent: `let across = (terms + 15u) / 16u;` becomes `let across = (terms + 14u) / 16u;`",
        "the number of terms is a multiple of 4",
    ),
    (
        "softmax_loss/backward",
        "backward: `if scale != 0.0 {` becomes `if scale != 1.0 {`",
        "it spares the work of cells that do not count; their gradient is multiplied by 0 either way",
    ),
];

/// The reason for a change, if it is listed.
pub fn find(kernel: &str, change: &str) -> Option<&'static str> {
    let listed = EQUIVALENT.iter().find(|(of, name, _)| *of == kernel && *name == change);
    listed.map(|(_, _, why)| *why)
}

/// Checks that what is listed is among the changes that are drawn.
///
/// # Errors
/// What is not.
pub fn unknown(drawn: &[Change]) -> Result<(), String> {
    let is_drawn = |of: &str, name: &str| drawn.iter().any(|change| change.kernel == of && change.name == name);
    let unknown = EQUIVALENT.iter().filter(|(kernel, change, _)| !is_drawn(kernel, change));
    let unknown: Vec<String> = unknown.map(|(kernel, change, _)| format!("{kernel}: {change}")).collect();
    if unknown.is_empty() { Ok(()) } else { Err(unknown.join("\n")) }
}
