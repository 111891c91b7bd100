//! WGSL itself, as browsers read it: through Tint, the WGSL compiler of Dawn and Chromium, which also looks for barriers in
//! control flow that is not uniform.

use std::process::Command;

use serde_json::json;

use crate::compilers;
use crate::shaders::Variant;
use crate::target::{Compiler, Target, Unit, Verdict};

pub struct Tint;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/translation/tint.mjs");

impl Target for Tint {
    fn name(&self) -> &'static str {
        "WGSL"
    }

    fn compiler(&self) -> Compiler {
        Compiler { name: "tint", install: ".ci/compilers, or npm: webgpu, with Node.js 18 or later" }
    }

    fn version(&self) -> Option<String> {
        let package = std::fs::read(compilers::installed("node_modules/webgpu/package.json")?).ok()?;
        let package: serde_json::Value = serde_json::from_slice(&package).ok()?;
        let node = compilers::version("node")?;
        Some(format!("Dawn of npm's webgpu {} on Node.js {node}", package["version"].as_str()?))
    }

    fn inapplicable(&self, variant: &Variant) -> Option<&'static str> {
        variant.features.cooperative.then_some("WGSL has no cooperative matrices, naga's are an extension")
    }

    /// The text, with what browsers want declared and naga does not know.
    fn translate(&self, variant: &Variant) -> Result<Vec<Unit>, String> {
        let enable = if variant.features.subgroup { "enable subgroups; " } else { "" };
        let source = format!("{enable}{}", variant.wgsl).into();
        Ok(vec![Unit { name: variant.name.clone(), source, entry: variant.entry.into(), setting: "" }])
    }

    fn compile(&self, units: &[Unit]) -> Result<Vec<Verdict>, String> {
        let modules = compilers::installed("node_modules").ok_or("npm's webgpu is not here")?;
        let shader = |unit: &Unit| json!({ "wgsl": String::from_utf8_lossy(&unit.source), "entry": unit.entry });
        let shaders = json!(units.iter().map(shader).collect::<Vec<_>>()).to_string();
        let output = compilers::run(Command::new("node").arg(SCRIPT).arg(modules), shaders.as_bytes())?;
        let messages: Vec<String> = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("Dawn: {error}: {}", compilers::text(&output)))?;
        let verdict = |message: String| match &*message {
            "" => Verdict::Accepted,
            _ => Verdict::Refused(message),
        };
        Ok(messages.into_iter().map(verdict).collect())
    }

    fn broken(&self) -> Result<Vec<(Unit, &'static str)>, String> {
        let main = |body: &str| {
            let invocation = "@builtin(local_invocation_index) i: u32";
            format!(
                "var<workgroup> x: array<f32, 64>;\n@compute @workgroup_size(64)\nfn main({invocation}) {{ {body} }}\n"
            )
        };
        let of_one = main("if i == 0u { workgroupBarrier(); } x[i] = 1.0;");
        let cases = [
            ("a name without a declaration", main("x[y] = 1.0;"), "unresolved value 'y'"),
            ("a barrier for one invocation alone", of_one, "must only be called from uniform control flow"),
            ("subgroups without a word", main("x[0] = subgroupAdd(1.0);"), "subgroups"),
        ];
        Ok(cases.map(|(name, source, message)| (Unit::text(name, &source, ""), message)).into())
    }
}
