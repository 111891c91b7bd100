//! GLSL, as wgpu's GL backend asks naga for it (wgpu-hal 30, `src/gles/device.rs`), compiled by Khronos' glslang.

use std::process::Command;

use naga::ShaderStage;
use naga::back::glsl::{Options, PipelineOptions, Version, Writer, WriterFlags};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use crate::compilers;
use crate::shaders::{Bound, Variant};
use crate::target::{Compiler, Target, Unit, Verdict};

pub struct Glsl;

const PROGRAM: &str = "glslangValidator";

/// What drivers of OpenGL ES call their language, and the least that OpenGL on desktops has for naga.
const VERSIONS: [(&str, Version); 3] = [
    ("310 es", Version::Embedded { version: 310, is_webgl: false }),
    ("320 es", Version::Embedded { version: 320, is_webgl: false }),
    ("430", Version::Desktop(430)),
];

impl Target for Glsl {
    fn name(&self) -> &'static str {
        "GLSL"
    }

    fn compiler(&self) -> Compiler {
        Compiler { name: "glslang", install: "Debian: apt-get install glslang-tools" }
    }

    fn version(&self) -> Option<String> {
        compilers::version(PROGRAM)
    }

    fn inapplicable(&self, variant: &Variant) -> Option<&'static str> {
        match variant.features {
            features if features.cooperative => Some("GL has no cooperative matrices"),
            features if features.f16 => Some("wgpu's GL backend has no f16"),
            features if features.subgroup => Some("wgpu's GL backend has no subgroups"),
            _ => None,
        }
    }

    fn translate(&self, variant: &Variant) -> Result<Vec<Unit>, String> {
        VERSIONS.iter().map(|&(setting, version)| translate(variant, setting, version)).collect()
    }

    fn compile(&self, units: &[Unit]) -> Result<Vec<Verdict>, String> {
        let folder = compilers::files(units, "comp")?;
        let names: Vec<String> = (0..units.len()).map(|i| format!("{i}.comp")).collect();
        let output = compilers::run(Command::new(PROGRAM).args(&names).current_dir(folder.path()), &[])?;
        let text = compilers::text(&output);
        // The program prints each file's name on a line, and its messages below.
        let mut messages: Vec<(&str, String)> = vec![];
        for line in text.lines() {
            match (names.get(messages.len()), messages.last_mut()) {
                (Some(name), _) if name == line => messages.push((line, String::new())),
                (_, Some((_, message))) => *message += &format!("{line}\n"),
                _ => return Err(format!("{PROGRAM} says: {text}")),
            }
        }
        if messages.len() != units.len() {
            return Err(format!("{PROGRAM} read {} of {} files: {text}", messages.len(), units.len()));
        }
        let verdict = |(_, message): (&str, String)| match message.trim() {
            "" => Verdict::Accepted,
            message => Verdict::Refused(message.into()),
        };
        Ok(messages.into_iter().map(verdict).collect())
    }

    fn broken(&self) -> Result<Vec<(Unit, &'static str)>, String> {
        let main = |body: &str| format!("#version 310 es\nlayout(local_size_x = 1) in;\nvoid main() {{ {body} }}\n");
        Ok(vec![
            (Unit::text("a float in an int", &main("int x = 1.0;"), "310 es"), "cannot convert"),
            (Unit::text("a name without a declaration", &main("x = 1;"), "310 es"), "undeclared identifier"),
        ])
    }
}

fn translate(variant: &Variant, setting: &'static str, version: Version) -> Result<Unit, String> {
    let name = format!("{}, GLSL {setting}", variant.name);
    // Numbers of uniform and of storage buffers, each kind counted by itself.
    let mut counts = [0; 2];
    let number = |(place, bound)| {
        let count = &mut counts[usize::from(bound != Bound::Uniform)];
        *count += 1;
        (place, *count - 1)
    };
    let options = Options {
        version,
        writer_flags: WriterFlags::ADJUST_COORDINATE_SPACE | WriterFlags::FORCE_POINT_SIZE,
        binding_map: variant.bound().into_iter().map(number).collect(),
        zero_initialize_workgroup_memory: false,
    };
    let pipeline =
        PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: variant.entry.into(), multiview: None };
    // For checked and trusted shaders the same: GL has no checks.
    let unchecked = BoundsCheckPolicy::Unchecked;
    let policies =
        BoundsCheckPolicies { index: unchecked, buffer: unchecked, image_load: unchecked, binding_array: unchecked };
    let mut source = String::new();
    Writer::new(&mut source, &variant.module, &variant.info, &options, &pipeline, policies)
        .and_then(|mut writer| writer.write())
        .map_err(|error| format!("{name}: {error}"))?;
    Ok(Unit { name, source: source.into(), entry: "main".into(), setting })
}
