//! HLSL, as wgpu's Direct3D 12 backend asks naga for it (wgpu-hal 30, `src/dx12/device.rs`), compiled to DXIL by DXC with the
//! arguments of `src/dx12/shader_compilation.rs`.

use std::path::PathBuf;
use std::sync::OnceLock;

use naga::ShaderStage;
use naga::back::hlsl::{BindTarget, Options, PipelineOptions, ShaderModel, Writer};
use rayon::prelude::*;

use crate::compilers;
use crate::dxc::{self, Dxc};
use crate::shaders::{Bound, Variant};
use crate::target::{Checks, Compiler, Target, Unit, Verdict};

pub struct Hlsl;

/// DXC, which stays loaded. Its first compilation fills tables that all threads share, without a lock: it is made here, alone, before
/// others begin; else it crashed in one run of four.
fn compiler() -> Result<&'static Dxc, String> {
    static DXC: OnceLock<Result<Dxc, String>> = OnceLock::new();
    let load = || {
        let dxc = Dxc::load(&library().ok_or("DXC is not here")?)?;
        dxc.compiler()?.compile(b"[numthreads(1, 1, 1)] void main() {}", &["-E", "main", "-T", "cs_6_0"])?;
        Ok(dxc)
    };
    DXC.get_or_init(load).as_ref().map_err(Clone::clone)
}

/// What Direct3D 12 gives a workgroup.
const MOST_MEMORY: u32 = 32 << 10;

impl Target for Hlsl {
    fn name(&self) -> &'static str {
        "HLSL"
    }

    fn compiler(&self) -> Compiler {
        Compiler { name: "dxc", install: ".ci/compilers, from PyPI: compushady" }
    }

    fn version(&self) -> Option<String> {
        let (major, minor) = compiler().and_then(Dxc::version).ok()?;
        Some(format!("DXC {major}.{minor}"))
    }

    fn inapplicable(&self, variant: &Variant) -> Option<&'static str> {
        if variant.features.cooperative {
            Some("Direct3D 12 has no cooperative matrices")
        } else if variant.workgroup_memory() > MOST_MEMORY {
            Some("Direct3D 12 has 32 KiB of workgroup memory")
        } else {
            None
        }
    }

    fn translate(&self, variant: &Variant) -> Result<Vec<Unit>, String> {
        let models = if variant.features.f16 { ["cs_6_2", NEWEST] } else { ["cs_6_0", NEWEST] };
        let ways = models.into_iter().flat_map(|model| Checks::BOTH.map(|checks| (model, checks)));
        ways.map(|(model, checks)| translate(variant, model, checks)).collect()
    }

    fn compile(&self, units: &[Unit]) -> Result<Vec<Verdict>, String> {
        let dxc = compiler()?;
        let verdict = |compiler: &mut Result<dxc::Compiler<'_>, String>, unit: &Unit| {
            let compiler = compiler.as_ref().map_err(Clone::clone)?;
            let mut arguments = vec!["-E", &unit.entry, "-T", unit.setting, "-HV", "2018", "-no-warnings", "-Ges"];
            // wgpu says this on a device that has f16, whether a shader uses it or not.
            if unit.setting != "cs_6_0" {
                arguments.push("-enable-16bit-types");
            }
            let (object, said) = compiler.compile(&unit.source, &arguments)?;
            let message: Vec<&str> = said.lines().filter(|line| !line.starts_with(UNSIGNED)).collect();
            let dxil = object.starts_with(b"DXBC");
            Ok(if dxil && message.is_empty() { Verdict::Accepted } else { Verdict::Refused(message.join("\n")) })
        };
        units.par_iter().map_init(|| dxc.compiler(), verdict).collect()
    }

    fn broken(&self) -> Result<Vec<(Unit, &'static str)>, String> {
        let main = |before: &str, body: &str| format!("{before}\n[numthreads(1, 1, 1)]\nvoid main() {{ {body} }}\n");
        let large = "groupshared float x[8193]; RWByteAddressBuffer y : register(u0);";
        let cases = [
            ("a vector without the element", main("", "float x = float2(1.0, 2.0).z;"), "cs_6_0", "out of bounds"),
            ("a name without a declaration", main("", "x = 1;"), NEWEST, "undeclared identifier"),
            (
                "too much workgroup memory",
                main(large, "x[y.Load(0)] = 1.0; y.Store(0, asuint(x[y.Load(4)]));"),
                "cs_6_0",
                "exceed",
            ),
        ];
        Ok(cases.map(|(name, source, model, message)| (Unit::text(name, &source, model), message)).into())
    }
}

fn library() -> Option<PathBuf> {
    compilers::installed("libdxcompiler.so")
}

/// What the library says where there is no other that signs, as on every system but Windows. It validates all the same.
const UNSIGNED: &str = "warning: DXIL.dll not found.";

/// The newest shader model that this DXC has.
const NEWEST: &str = "cs_6_7";

fn translate(variant: &Variant, setting: &'static str, checks: Checks) -> Result<Unit, String> {
    let name = format!("{}, {setting}, {checks}", variant.name);
    let (mut uniforms, mut reads, mut writes) = (BindTarget::default(), BindTarget::default(), BindTarget::default());
    let register = |(place, bound)| {
        let next = match bound {
            Bound::Uniform => &mut uniforms,
            Bound::Storage { writable: false } => &mut reads,
            Bound::Storage { writable: true } => &mut writes,
        };
        let target = *next;
        next.register += 1;
        (place, target)
    };
    let binding_map = variant.bound().into_iter().map(register).collect();
    let options = Options {
        shader_model: match setting {
            "cs_6_0" => ShaderModel::V6_0,
            "cs_6_2" => ShaderModel::V6_2,
            _ => ShaderModel::V6_7,
        },
        binding_map,
        fake_missing_bindings: false,
        special_constants_binding: Some(uniforms),
        zero_initialize_workgroup_memory: false,
        restrict_indexing: checks.checked(),
        force_loop_bounding: checks.checked(),
        ..Options::default()
    };
    let pipeline = PipelineOptions { entry_point: Some((ShaderStage::Compute, variant.entry.into())) };
    let at = |error: &dyn std::fmt::Display| format!("{name}: {error}");
    let mut source = String::new();
    let info = Writer::new(&mut source, &options, &pipeline)
        .write(&variant.module, &variant.info, None)
        .map_err(|error| at(&error))?;
    let entry = info.entry_point_names.into_iter().next().ok_or_else(|| at(&"no entry point"))?;
    let entry = entry.map_err(|error| at(&error))?;
    Ok(Unit { name, source: source.into(), entry, setting })
}
