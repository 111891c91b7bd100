//! Runs a kernel on a device, its operands between guard bands, and holds what it wrote against the oracle.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::gpu::{Access, Buffer, Capabilities, Checks, Dispatch, Format, Gpu, Shader};
use crate::ops::{Arg, Recorded, Recorder, TensorId, View};

use super::adapters::Adapter;
use super::case::Case;
use super::comparison::{UNWRITTEN, compare, held};
use super::matrices;

use super::comparison::Margin;

/// Elements of a guard band. Bindings start on multiples of 64, so a kernel can reach up to 63 before its operand.
const GUARD: usize = 128;

/// What guard bands hold. Around operands that are only read it is a NaN, which reaches the result of a kernel that reads
/// there. Around written ones it is a number, since arithmetic on a NaN would leave its bits as they were.
fn guard(access: Access, format: Format) -> f32 {
    let bits = match access {
        Access::Read => UNWRITTEN,
        Access::ReadWrite => 0x4529_dead,
    };
    held(f32::from_bits(bits), format)
}

/// Numbers as words of a buffer.
fn encode(values: &[f32], format: Format) -> Vec<f32> {
    match format {
        Format::F32 => values.to_vec(),
        Format::F16 => {
            let bits = |&x: &f32| half::f16::from_f32(x).to_bits();
            let pair = |pair: &[f32]| u32::from(bits(&pair[0])) | u32::from(pair.get(1).map_or(0, bits)) << 16;
            values.chunks(2).map(|values| f32::from_bits(pair(values))).collect()
        }
    }
}

/// The numbers in words of a buffer.
fn decode(words: Vec<f32>, format: Format) -> Vec<f32> {
    match format {
        Format::F32 => words,
        Format::F16 => {
            let halves = |word: f32| [word.to_bits() as u16, (word.to_bits() >> 16) as u16];
            words.into_iter().flat_map(halves).map(|bits| half::f16::from_bits(bits).to_f32()).collect()
        }
    }
}

/// Where the case's operands stand, each in a buffer of its own: at the start of a binding, or at places that no alignment
/// favours beyond what the op asks for.
pub fn views(case: &Case, aligned: bool) -> Vec<View> {
    let place = |(i, arg): (usize, &Arg)| View {
        tensor: TensorId(i as u32),
        start: GUARD + if aligned { 0 } else { (37 * i + 5) % 64 / case.alignment() * case.alignment() },
        len: arg.len,
        format: arg.format,
    };
    case.op.args().iter().enumerate().map(place).collect()
}

/// Runs `variant` of the case and compares. It runs twice: with checked shaders, whose invocations are numbered from the
/// last to the first, on operands without alignment; then with trusted ones, as the program runs it, on aligned operands,
/// where bindings that end with their operand reach into the guard band. So a kernel that reads or writes past its operand
/// meets the guards instead of the driver's bounds check, and one that lacks a barrier meets another order.
/// Two runs must give the same bits: on software adapters these two; a GPU's compiler may fuse multiply-adds in one text and
/// not in the other, so there the second is run once more. With WebGPU's limits it runs once, checked, as it would in a
/// browser.
///
/// # Errors
/// What went wrong: an error of the device, a result beyond its tolerance, a guard band written, bits that differ.
pub async fn run(case: &Case, variant: &str, adapter: &Adapter) -> Result<Margin, String> {
    run_changed(case, variant, adapter, &|_| ()).await
}

/// The same of dispatches that `change` has changed. One that fails with checked shaders is not run with trusted ones.
///
/// # Errors
/// As [`run`]'s.
pub async fn run_changed(
    case: &Case,
    variant: &str,
    adapter: &Adapter,
    change: &dyn Fn(&mut Dispatch),
) -> Result<Margin, String> {
    let oracle = case.oracle()?;
    let software = adapter.is_software();
    let record = |capabilities: &Capabilities, views: &[View]| {
        let recorded = Recorder::record(case.op.as_ref(), variant, capabilities, views);
        let mut recorded = recorded.map_err(|error| error.to_string())?;
        recorded.dispatches.iter_mut().for_each(change);
        for shader in recorded.dispatches.iter_mut().map(|dispatch| &mut dispatch.shader).filter(|_| software) {
            shader.source = matrices::emulated(shader.source)?;
        }
        Ok::<_, String>(recorded)
    };
    let reversed = |mut recorded: Recorded| {
        // A GPU runs invocations side by side, and is held to the text as it is.
        for dispatch in recorded.dispatches.iter_mut().filter(|_| software) {
            dispatch.shader.source = with_reversed_invocations(&dispatch.shader)?;
        }
        Ok::<_, String>(recorded)
    };
    let (gpu, places) = (adapter.gpu(Checks::Checked).await?, views(case, false));
    let offered = |gpu: &Gpu| adapter.with_emulation(&gpu.capabilities);
    let cut = reversed(record(&case.limited(&offered(&gpu)), &places)?)?;
    let first = execute(&gpu, case, &cut, &places, &oracle.inputs).await?;
    let args = case.op.args();
    let held = |results: &[Vec<f32>]| {
        let written = args.iter().zip(results).filter(|(arg, _)| arg.access == Access::ReadWrite);
        compare(&case.written(written.map(|(_, result)| result).collect()), &oracle.wanted)
    };
    let checked = held(&first)?;
    if adapter.is_portable() {
        return Ok(checked);
    }
    // A GPU's compiler may fuse multiply-adds otherwise in text with other constants.
    if case.has_same_bits() && software {
        let whole = reversed(record(&offered(&gpu), &places)?)?;
        let whole = execute(&gpu, case, &whole, &places, &oracle.inputs).await?;
        same(&args, &first, &whole).map_err(|error| format!("cut and whole differ: {error}"))?;
    }
    let (gpu, places) = (adapter.gpu(Checks::Trusted).await?, views(case, true));
    let mut widened = record(&case.limited(&offered(&gpu)), &places)?;
    for binding in widened.dispatches.iter_mut().flat_map(|dispatch| &mut dispatch.bindings) {
        let Some(view) = places.get(binding.arg) else { continue };
        if binding.start + binding.len == (view.start + view.len) as u64 {
            binding.len += GUARD as u64;
        }
    }
    let unchecked = |error: String| format!("the second run, unchecked and with wider bindings: {error}");
    let second = execute(&gpu, case, &widened, &places, &oracle.inputs).await.map_err(unchecked)?;
    let again = match software {
        true => None,
        false => Some(execute(&gpu, case, &widened, &places, &oracle.inputs).await.map_err(unchecked)?),
    };
    same(&args, again.as_ref().unwrap_or(&first), &second).map_err(|error| format!("two runs differ: {error}"))?;
    let trusted = held(&second).map_err(unchecked)?;
    Ok(if trusted.share > checked.share { trusted } else { checked })
}

/// Whether two runs left the same bits in all operands.
fn same(args: &[Arg], one: &[Vec<f32>], other: &[Vec<f32>]) -> Result<(), String> {
    for ((arg, one), other) in args.iter().zip(one).zip(other) {
        if let Some(i) = one.iter().zip(other).position(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(format!("{}[{i}] is {:e} and {:e}", arg.name, one[i], other[i]));
        }
    }
    Ok(())
}

/// The shader's text with the invocations of a workgroup numbered from the last to the first. Drivers that run on a CPU take
/// them in their order, so what one leaves to those after it is there even where a barrier is missing.
///
/// # Errors
/// An entry point that is not written as all are: with a workgroup along x and the number of the invocation in it.
fn with_reversed_invocations(shader: &Shader) -> Result<&'static str, String> {
    const SIZE: &str = "@workgroup_size(";
    const NUMBER: &str = "@builtin(local_invocation_index) ";
    let Shader { source, entry, .. } = *shader;
    let reversed = || {
        let (before, function) = source.split_at(source.find(&format!("fn {entry}("))?);
        let (_, size) = before.rsplit_once(SIZE)?;
        let (size, _) = size.split_once(")\n")?;
        let (parameters, body) = function.split_once(") {\n")?;
        let (first, rest) = parameters.split_once(NUMBER)?;
        let name = rest.split(':').next()?;
        let number = format!("    let {name} = {size} - 1u - {name}_of_driver;\n");
        let rest = rest.replacen(name, &format!("{name}_of_driver"), 1);
        Some(format!("{before}{first}{NUMBER}{rest}) {{\n{number}{body}"))
    };
    kept((source, entry), || {
        reversed().ok_or_else(|| format!("shaders/{}.wgsl: `{entry}` is not written as expected", shader.op))
    })
}

/// What is made of a text, by that and a name: made once and kept for as long as the program runs, as shaders' own texts are.
///
/// # Errors
/// Those of `make`.
pub(super) fn kept(
    key: (&'static str, &'static str),
    make: impl FnOnce() -> Result<String, String>,
) -> Result<&'static str, String> {
    static TEXTS: Mutex<BTreeMap<(&str, &str), &str>> = Mutex::new(BTreeMap::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = texts.get(&key) {
        return Ok(text);
    }
    let text: &'static str = make()?.leak();
    texts.insert(key, text);
    Ok(text)
}

/// Uploads the operands, runs the dispatches once, and returns the operands, whose guard bands are intact. Scratch memory
/// holds NaNs before, and has a guard band behind.
async fn execute(
    gpu: &Gpu,
    case: &Case,
    recorded: &Recorded,
    views: &[View],
    inputs: &[Vec<f32>],
) -> Result<Vec<Vec<f32>>, String> {
    let args = case.op.args();
    let outcome: crate::Result<Vec<Vec<f32>>> = async {
        let mut buffers: Vec<Buffer> = vec![];
        for ((arg, view), input) in args.iter().zip(views).zip(inputs) {
            let guard = guard(arg.access, arg.format);
            let mut data = vec![guard; view.start];
            data.extend_from_slice(input);
            data.resize((view.start + view.len + GUARD).next_multiple_of(2), guard);
            let data = encode(&data, arg.format);
            let buffer = gpu.buffer("operand", data.len() as u64).await?;
            gpu.write(&buffer, 0, &data)?;
            buffers.push(buffer);
        }
        let scratch = gpu.buffer("scratch", (recorded.scratch + GUARD) as u64).await?;
        let mut data = vec![f32::from_bits(UNWRITTEN); recorded.scratch];
        data.resize(recorded.scratch + GUARD, guard(Access::ReadWrite, Format::F32));
        gpu.write(&scratch, 0, &data)?;
        buffers.push(scratch);
        let buffers: Vec<&Buffer> = buffers.iter().collect();
        let steps: Vec<_> = recorded.dispatches.iter().map(|dispatch| (dispatch.clone(), &buffers[..])).collect();
        let program = gpu.program(case.op.name(), &steps).await?;
        gpu.submit(&program, 1, &case.uniforms.words())?;
        gpu.read(&buffers.iter().map(|buffer| (*buffer, 0, buffer.len())).collect::<Vec<_>>()).await
    }
    .await;
    let mut operands = outcome.map_err(|error| error.to_string())?;
    let scratch = operands.pop().unwrap_or_default();
    let mut behind = scratch.iter().skip(recorded.scratch);
    if let Some(value) = behind.find(|value| **value != guard(Access::ReadWrite, Format::F32)) {
        return Err(format!("{value:e} was written behind scratch memory, of {} elements", recorded.scratch));
    }
    for (((arg, view), operand), input) in args.iter().zip(views).zip(&mut operands).zip(inputs) {
        let name = arg.name;
        *operand = decode(std::mem::take(operand), arg.format);
        let end = view.start + view.len;
        let guard = guard(arg.access, arg.format).to_bits();
        let is_guard = |i: &usize| !(view.start..end).contains(i);
        if let Some(i) = (0..operand.len()).filter(is_guard).find(|&i| operand[i].to_bits() != guard) {
            let (place, value) = (i as i64 - view.start as i64, operand[i]);
            return Err(format!("{value:e} was written to {name}[{place}], which has {} elements", view.len));
        }
        *operand = operand[view.start..end].to_vec();
        let changed = operand.iter().zip(input).position(|(after, before)| after.to_bits() != before.to_bits());
        if let (Access::Read, Some(i)) = (arg.access, changed) {
            return Err(format!("{name}[{i}], which is only read, was changed to {:e}", operand[i]));
        }
    }
    Ok(operands)
}
