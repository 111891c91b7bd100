//! What shaders need of a device, as their text says, and not the ops' own tables: no variant that an op offers on a device
//! may need what the device lacks. Needs no driver.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use deepj::gpu::{Capabilities, Shader};
use deepj::graph::Plan;
use deepj::graph::session::KernelSelection;
use deepj::ops::{Op, Recorder, View};
use deepj::verify::kernels::harness::adapters::everything;
use naga::valid::{Capabilities as Language, ValidationFlags, Validator};

use crate::declaration::workgroup_memory;

/// What a shader asks of a device.
#[derive(Debug)]
struct Needs {
    f16: bool,
    subgroup: bool,
    cooperative_matrix: bool,
    /// Bytes of workgroup memory.
    memory: u32,
    invocations: u32,
}

impl Needs {
    fn of(shader: &Shader) -> Result<Self, String> {
        let text = shader.wgsl().map_err(|error| error.to_string())?;
        let module = naga::front::wgsl::parse_str(&text).map_err(|error| error.emit_to_string(&text))?;
        let validate = |language| {
            let outcome = Validator::new(ValidationFlags::all(), language).validate(&module);
            outcome.map_err(|error| error.emit_to_string(&text))
        };
        let info = validate(Language::all())?;
        let needed = |language: Language| validate(Language::all() - language).is_err();
        let at = |what: String| format!("shaders/{}.wgsl, `{}`: {what}", shader.op, shader.entry);
        let entry = module.entry_points.iter().position(|entry| entry.name == shader.entry);
        let entry = entry.ok_or_else(|| at("there is no such entry point".into()))?;
        let needs = Self {
            f16: needed(Language::SHADER_FLOAT16),
            subgroup: needed(Language::SUBGROUP),
            cooperative_matrix: needed(Language::COOPERATIVE_MATRIX),
            memory: workgroup_memory(&module, info.get_entry_point(entry)),
            invocations: module.entry_points[entry].workgroup_size.iter().product(),
        };
        // What naga finds stands in the text, and nothing of it where naga finds none.
        let code: Vec<&str> = text.lines().filter_map(|line| line.split("//").next()).collect();
        let says = |words: &[&str]| words.iter().any(|word| code.iter().any(|line| line.contains(word)));
        for (what, needed, said) in [
            ("f16", needs.f16, says(&["enable f16"])),
            ("subgroups", needs.subgroup, says(&["subgroupShuffle", "@builtin(subgroup_"])),
            ("cooperative matrices", needs.cooperative_matrix, says(&["coop_mat", "coopMultiply"])),
        ] {
            if needed != said {
                return Err(at(format!("{what}: naga says {needed}, the text {said}")));
            }
        }
        Ok(needs)
    }

    /// What the device lacks of it.
    fn lacking(&self, device: &Capabilities) -> Vec<&'static str> {
        let lacks = [
            ("f16", self.f16 && !device.shader_f16),
            ("subgroups", self.subgroup && !device.subgroup),
            ("cooperative matrices", self.cooperative_matrix && device.cooperative_matrix.is_empty()),
            ("workgroup memory", self.memory > device.max_compute_workgroup_storage_size),
            ("invocations", self.invocations > device.max_compute_invocations_per_workgroup),
        ];
        lacks.into_iter().filter(|(_, lacks)| *lacks).map(|(what, _)| what).collect()
    }
}

/// Needs of shaders, each looked into once.
#[derive(Default)]
struct Known(RefCell<HashMap<Shader, Rc<Needs>>>);

impl Known {
    fn of(&self, shader: &Shader) -> Result<Rc<Needs>, String> {
        if let Some(needs) = self.0.borrow().get(shader) {
            return Ok(needs.clone());
        }
        let needs = Rc::new(Needs::of(shader)?);
        self.0.borrow_mut().insert(shader.clone(), needs.clone());
        Ok(needs)
    }
}

/// A device that has all but one thing, and what that is.
fn devices() -> Vec<(&'static str, Capabilities)> {
    let all = everything();
    let portable = Capabilities::portable();
    let fewest = portable.max_compute_invocations_per_workgroup;
    vec![
        ("f16", Capabilities { shader_f16: false, ..all.clone() }),
        ("subgroups", Capabilities { subgroup: false, ..all.clone() }),
        ("cooperative matrices", Capabilities { cooperative_matrix: vec![], ..all.clone() }),
        (
            "workgroup memory",
            Capabilities {
                max_compute_workgroup_storage_size: portable.max_compute_workgroup_storage_size,
                ..all.clone()
            },
        ),
        ("invocations", Capabilities { max_compute_invocations_per_workgroup: fewest, ..all }),
        ("all", portable),
    ]
}

/// Checks that no variant which an op offers on a device needs something the device lacks; and that f16, subgroups and
/// cooperative matrices are each needed by some variant, so that the check is not empty.
///
/// # Errors
/// The op, its variant and what is needed; what no variant needs.
pub fn check(ops: &[(&dyn Op, Vec<View>)]) -> Result<(), String> {
    let known = Known::default();
    let needs = |op: &dyn Op, views: &[View], variant: &str, device: &Capabilities| {
        let at = |what: String| format!("{}, {variant}: {what}", op.label());
        let recorded = Recorder::record(op, variant, device, views).map_err(|error| at(error.to_string()))?;
        recorded.dispatches.iter().map(|dispatch| known.of(&dispatch.shader).map_err(at)).collect::<Result<Vec<_>, _>>()
    };
    let all = everything();
    let mut needed = BTreeSet::new();
    for (op, views) in ops {
        for variant in op.supported(&all) {
            let portable = Capabilities::portable();
            needed.extend(needs(*op, views, variant, &all)?.iter().flat_map(|needs| needs.lacking(&portable)));
        }
        for (lacking, device) in devices() {
            for variant in op.supported(&device) {
                for needs in needs(*op, views, variant, &device)? {
                    let lacks = needs.lacking(&device);
                    if !lacks.is_empty() {
                        return Err(format!("{}, {variant}: needs {lacks:?} where {lacking} is lacking", op.label()));
                    }
                }
            }
        }
    }
    for what in ["f16", "subgroups", "cooperative matrices"] {
        if !needed.contains(what) {
            return Err(format!("no variant needs {what}: nothing is checked"));
        }
    }
    Ok(())
}

/// An override of a variant that needs what a device lacks is refused there, with the variant's name.
///
/// # Errors
/// The override.
pub fn check_overrides(plans: &[Plan]) -> Result<(), String> {
    let all = everything();
    let mut refused = BTreeSet::new();
    for (lacking, device) in devices() {
        for plan in plans {
            let nodes = || plan.nodes.iter().map(|node| node.op.as_ref());
            let variants = |of: &Capabilities| -> BTreeSet<(&str, &str)> {
                nodes().flat_map(|op| op.supported(of).into_iter().map(|variant| (op.kernel(), variant))).collect()
            };
            for (kernel, variant) in variants(&all).difference(&variants(&device)) {
                let overrides = KernelSelection::overriding(vec![(kernel.to_string(), variant.to_string())]);
                match overrides.check(&[plan], Some(&device)) {
                    Err(error) if error.to_string().contains(&format!("no variant `{variant}`")) => {
                        refused.insert(*variant);
                    }
                    other => {
                        return Err(format!("{kernel}={variant} where {lacking} is lacking, {}: {other:?}", plan.name));
                    }
                }
            }
        }
    }
    match ["subgroup", "cooperative"].iter().find(|variant| !refused.contains(*variant)) {
        Some(variant) => Err(format!("`{variant}` is refused nowhere: nothing is checked")),
        None => Ok(()),
    }
}
