//! The Metal Shading Language, as wgpu's Metal backend asks naga for it (wgpu-hal 30, `src/metal/device.rs`), parsed by
//! clang with a header of ours in the place of Metal's standard library.

use std::path::Path;
use std::process::Command;

use naga::ShaderStage;
use naga::back::msl::{self, BindTarget, EntryPointResources, Options, PipelineOptions};
use rayon::prelude::*;

use crate::compilers;
use crate::shaders::{Bound, Variant};
use crate::target::{Checks, Compiler, Target, Unit, Verdict};

pub struct Msl;

const PROGRAM: &str = "clang++";
/// Where `metal_stdlib` and `simd/simd.h` are.
const HEADERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/translation/metal");

/// The versions of macOS 11, 14 and 26.
const VERSIONS: [(u8, u8); 3] = [(2, 3), (3, 1), (4, 0)];

impl Target for Msl {
    fn name(&self) -> &'static str {
        "MSL"
    }

    fn compiler(&self) -> Compiler {
        Compiler { name: "clang", install: "Debian: apt-get install clang" }
    }

    fn version(&self) -> Option<String> {
        compilers::version(PROGRAM)
    }

    fn inapplicable(&self, variant: &Variant) -> Option<&'static str> {
        variant.features.cooperative.then_some("Metal multiplies matrices of 8 x 8, these are of 16 x 16")
    }

    fn translate(&self, variant: &Variant) -> Result<Vec<Unit>, String> {
        let ways = VERSIONS.into_iter().flat_map(|version| Checks::BOTH.map(|checks| (version, checks)));
        ways.map(|(version, checks)| translate(variant, version, checks)).collect()
    }

    fn compile(&self, units: &[Unit]) -> Result<Vec<Verdict>, String> {
        let folder = compilers::files(units, "metal")?;
        let all: Vec<usize> = (0..units.len()).collect();
        // Together they take a second; one that is refused may trouble others, so then each is asked about by itself.
        if parse(folder.path(), &all)?.is_none() {
            return Ok(vec![Verdict::Accepted; units.len()]);
        }
        let verdict =
            |&i: &usize| parse(folder.path(), &[i]).map(|said| said.map_or(Verdict::Accepted, Verdict::Refused));
        all.par_iter().map(verdict).collect()
    }

    fn broken(&self) -> Result<Vec<(Unit, &'static str)>, String> {
        let kernel = |arguments: &str, body: &str| {
            format!("#include <metal_stdlib>\nusing metal::uint;\nkernel void main_({arguments}) {{\n{body}\n}}\n")
        };
        let buffer = "device float* x [[buffer(0)]]";
        let cases = [
            ("a slot that is none", kernel("device float* x [[bufer(0)]]", ""), "unknown attribute 'bufer'"),
            (
                "a pointer into other memory",
                kernel(buffer, "threadgroup float* y = x;"),
                "cannot initialize a variable of type '__local",
            ),
            (
                "a write to what is constant",
                kernel("constant float& x [[buffer(0)]]", "x = 1.0;"),
                "read-only variable",
            ),
            ("too few elements", kernel(buffer, "metal::float4 y = metal::float4(1.0, 2.0);"), "no matching function"),
            ("bits of another size", kernel(buffer, "uint y = as_type<uint>(half(1.0));"), "no matching function"),
            ("vectors of two types", kernel(buffer, "metal::float4 y = metal::uint4(1u);"), "cannot initialize"),
            ("a function that is none", kernel(buffer, "x[0] = metal::tanhh(1.0);"), "no member named 'tanhh'"),
            (
                "a flag that is none",
                kernel("", "metal::threadgroup_barrier(0);"),
                "cannot initialize a parameter of type 'metal::mem_flags'",
            ),
        ];
        Ok(cases.map(|(name, source, message)| (Unit::text(name, &source, ""), message)).into())
    }
}

/// What clang has against these files of the folder, each in a namespace of its own.
fn parse(folder: &Path, files: &[usize]) -> Result<Option<String>, String> {
    let include = |i: &usize| format!("namespace shader_{i} {{\n#include \"{i}.metal\"\n}}\n");
    let together = format!("#include <metal_stdlib>\n{}", files.iter().map(include).collect::<String>());
    let mut clang = Command::new(PROGRAM);
    clang.current_dir(folder).args(["-I", HEADERS]).args(ARGUMENTS);
    let output = compilers::run(&mut clang, together.as_bytes())?;
    Ok((!output.status.success()).then(|| compilers::text(&output)))
}

/// C++ for OpenCL without OpenCL's functions, on a device with all its extensions. Literals are single, as Metal's.
const ARGUMENTS: [&str; 14] = [
    "-x",
    "clcpp",
    "-cl-std=clc++2021",
    "-cl-no-stdinc",
    "-nostdinc",
    "-cl-single-precision-constant",
    "--target=spir64-unknown-unknown",
    "-Xclang",
    "-cl-ext=+all",
    "-fsyntax-only",
    "-Werror=unknown-attributes",
    "-ferror-limit=5",
    "-iquote.",
    "-",
];

fn translate(variant: &Variant, version: (u8, u8), checks: Checks) -> Result<Unit, String> {
    let name = format!("{}, {}.{}, {checks}", variant.name, version.0, version.1);
    let bound = variant.bound();
    let slot = |(slot, (place, bound)): (u8, (_, Bound))| {
        let mutable = bound == Bound::Storage { writable: true };
        (place, BindTarget { buffer: Some(slot), mutable, ..BindTarget::default() })
    };
    let resources = EntryPointResources {
        sizes_buffer: Some(bound.len() as u8),
        resources: (0..).zip(bound).map(slot).collect(),
        immediates_buffer: None,
    };
    let options = Options {
        lang_version: version,
        per_entry_point_map: [(variant.entry.into(), resources)].into(),
        fake_missing_bindings: false,
        bounds_check_policies: checks.policies(),
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: checks.checked(),
        emit_int_div_checks: checks.checked(),
        ..Options::default()
    };
    let pipeline = PipelineOptions {
        entry_point: Some((ShaderStage::Compute, variant.entry.into())),
        vertex_pulling_transform: true,
        ..PipelineOptions::default()
    };
    let at = |error: &dyn std::fmt::Display| format!("{name}: {error}");
    let (source, info) =
        msl::write_string(&variant.module, &variant.info, &options, &pipeline).map_err(|error| at(&error))?;
    let entry = info.entry_point_names.into_iter().next().ok_or_else(|| at(&"no entry point"))?;
    let entry = entry.map_err(|error| at(&error))?;
    // The first line is a comment with the version.
    let source = source.split_once('\n').map_or("", |(_, source)| source);
    Ok(Unit { name, source: source.into(), entry, setting: "" })
}
