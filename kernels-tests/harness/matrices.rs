//! Matrix units for adapters that have none: the same text with an invocation's share of each matrix instead, so that all of a
//! kernel but the instructions themselves is held against the reference: tiles, edges, places, barriers.

use super::kernel::kept;

const EXTENSION: &str = "enable wgpu_cooperative_matrix;";
const SUMS: &str = "coop_mat16x16<f32, C>()";

/// What stands behind the text. A factor is where it begins in workgroup memory and the steps from row to row and from column to
/// column; sums are a number among those of the invocation, which has every INVOCATIONS-th element of the 256 from its own number in
/// its subgroup on. Ends of loops are hidden from compilers, which would unroll them all.
const STAND_IN: &str = "
struct Factor {
    at: u32,
    down: u32,
    across: u32,
}

const SHARE: u32 = 256u / INVOCATIONS;

var<private> sums: array<f32, 8u * SHARE>;

fn multiply_add(a: Factor, b: Factor, which: u32, lane: u32) -> u32 {
    let end = min(16u, 16u * p.m);
    for (var i = 0u; i < SHARE * end / 16u; i++) {
        let element = lane + i * INVOCATIONS;
        var sum = sums[which * SHARE + i];
        for (var k = 0u; k < end; k++) {
            let x = f32(a_halves[a.at + element / 16u * a.down + k * a.across]);
            sum += x * f32(b_halves[b.at + k * b.down + element % 16u * b.across]);
        }
        sums[which * SHARE + i] = sum;
    }
    return which;
}

fn put_sums(which: u32, at: u32, lane: u32) {
    for (var i = 0u; i < SHARE * min(16u, 16u * p.m) / 16u; i++) {
        c_matrices[at + lane + i * INVOCATIONS] = sums[which * SHARE + i];
    }
}
";

/// A shader's text without matrix units; the text itself where it uses none.
///
/// # Errors
/// A use that is not written as expected.
pub fn emulated(source: &'static str) -> Result<&'static str, String> {
    if !source.contains(EXTENSION) {
        return Ok(source);
    }
    kept((source, "emulated"), || rewritten(source))
}

fn rewritten(source: &str) -> Result<String, String> {
    let mut text = source.replace(EXTENSION, "");
    for none in ["coop_mat16x16<StoredA, A>()", "coop_mat16x16<StoredB, B>()"] {
        text = text.replace(none, "Factor()");
    }
    let mut sums = 0;
    while text.contains(SUMS) {
        text = text.replacen(SUMS, &format!("{sums}u"), 1);
        sums += 1;
    }
    let number = "    @builtin(subgroup_id) subgroup: u32,\n) {\n";
    let by_index = ") {\n    let subgroup = local / INVOCATIONS;\n    let lane = local % INVOCATIONS;\n";
    text = text.replacen(number, by_index, 1);
    let mut lines: Vec<String> = vec![];
    for line in text.lines() {
        let changed = match line {
            _ if line.contains("= coopLoad") => factor(line),
            _ if line.contains("coopMultiplyAdd(") => line
                .split_once(");")
                .map(|(call, rest)| format!("{}, lane);{rest}", call.replace("coopMultiplyAdd", "multiply_add"))),
            _ if line.contains("coopStoreT(") => stored(line),
            _ => Some(line.to_string()),
        };
        lines.push(changed.ok_or_else(|| format!("`{}` is not written as expected", line.trim()))?);
    }
    text = lines.join("\n") + "\n" + STAND_IN;
    match ["coop_mat", "coopLoad", "coopMultiply", "coopStore"].iter().find(|word| text.contains(**word)) {
        Some(word) => Err(format!("`{word}` is used in a way that is not written as expected")),
        None => Ok(text),
    }
}

/// `let m = coopLoadT<…>(&halves[PLACE], PITCH);`, along rows, or `coopLoad` along columns.
fn factor(line: &str) -> Option<String> {
    let (name, call) = line.split_once(" = coopLoad")?;
    let (_, arguments) = call.split_once("(&")?;
    let (place, rest) = arguments.split_once('[')?.1.rsplit_once("], ")?;
    let (pitch, rest) = rest.split_once(");")?;
    let steps = if call.starts_with('T') { format!("{pitch}, 1u") } else { format!("1u, {pitch}") };
    Some(format!("{name} = Factor({place}, {steps});{rest}"))
}

/// `coopStoreT(SUMS, &matrices[PLACE], 16u);`
fn stored(line: &str) -> Option<String> {
    let (before, call) = line.split_once("coopStoreT(")?;
    let (sums, rest) = call.split_once(", &")?;
    let (place, rest) = rest.split_once('[')?.1.split_once("], 16u);")?;
    Some(format!("{before}put_sums({sums}, {place}, lane);{rest}"))
}
