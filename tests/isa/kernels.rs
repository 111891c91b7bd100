//! Which kernels are compiled: every variant that `tests/translation` has, and those of the paper's plans with where they run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use deepj::gpu::{Capabilities, DeviceType};
use deepj::graph::Plan;
use deepj::graph::session::KernelSelection;
use deepj::models::deepj::{Config, DeepJ, Preset};
use deepj::models::{Model, PlanOptions, Precision};
use deepj::nn::optimizer::nadam::Nadam;
use deepj::ops::Recorder;
use deepj::profile::training_plan;
use deepj::verify::kernels::harness::adapters::everything;

use crate::shaders::{self, Features, Recorded, Variant};

/// Styles of the paper's corpus, and the time steps of a window.
const STYLES: usize = 23;
const STEPS: usize = 128;

/// A kernel that a plan of the paper's sizes can run on hardware.
pub struct Placed {
    /// The plan.
    pub plan: &'static str,
    /// The op with its shape.
    pub label: String,
    /// The kernel, and its variant.
    pub kernel: &'static str,
    pub variant: &'static str,
    /// Whether it runs unless another variant was measured to be faster.
    pub default: bool,
    /// Its shader, by name.
    pub shader: String,
    /// The largest number of workgroups of one dispatch.
    pub groups: u64,
    /// FLOPs of a dispatch.
    pub flops: u64,
    /// How often a run of the plan dispatches it.
    pub dispatches: usize,
    /// Invocations of a workgroup.
    pub workgroup: u32,
}

/// A discrete GPU without matrix units.
fn hardware() -> Capabilities {
    Capabilities {
        device_type: DeviceType::Discrete,
        max_storage_buffer_binding_size: 0xffff_fffc,
        max_buffer_size: 1 << 34,
        subgroup_min_size: 32,
        subgroup_max_size: 64,
        cooperative_matrix: vec![],
        budget: None,
        ..everything()
    }
}

fn plans() -> Result<Vec<(&'static str, Plan)>, String> {
    let capabilities = hardware();
    let error = |error: deepj::Error| error.to_string();
    let model = DeepJ::new(Config::preset(Preset::Paper, STYLES)).map_err(error)?;
    let train = |precision, batch, recompute| {
        let options = PlanOptions { precision, recompute, ..PlanOptions::default() };
        let options = KernelSelection::default().plan_options(options, Some(&capabilities));
        training_plan(&model, &Nadam::default(), options, (batch, STEPS), Some(&capabilities))
            .map(|(plan, _)| plan)
            .map_err(error)
    };
    let generate = |pieces| model.generation(pieces, 16).map(|built| built.compile().0).map_err(error);
    Ok(vec![
        ("train B=16", train(Precision::F32, 16, false)?),
        ("train B=1", train(Precision::F32, 1, false)?),
        ("train B=16 mixed", train(Precision::Mixed, 16, false)?),
        // Its layers run one after the other.
        ("train B=16 recompute", train(Precision::F32, 16, true)?),
        ("generate", generate(1)?),
        ("generate 16", generate(16)?),
    ])
}

/// All of them by name, and where they run in the paper's plans. Those that need matrix units are left out.
///
/// # Errors
/// What naga finds wrong.
pub fn all() -> Result<(Vec<Variant>, Vec<Placed>), String> {
    let capabilities = hardware();
    let features = Features::of(&capabilities);
    let mut variants: BTreeMap<String, Variant> = BTreeMap::new();
    for variant in shaders::all()?.into_iter().filter(|variant| !variant.features.cooperative) {
        variants.entry(variant.name.clone()).or_insert(variant);
    }
    let mut names: HashMap<Recorded, String> = HashMap::new();
    let mut placed: BTreeMap<(&str, String, &str, String), Placed> = BTreeMap::new();
    for (plan, built) in plans()? {
        for node in &built.nodes {
            for (i, chosen) in node.op.supported(&capabilities).into_iter().enumerate() {
                let recorded = Recorder::record(node.op.as_ref(), chosen, &capabilities, &node.operands);
                let recorded = recorded.map_err(|error| format!("{}, `{chosen}`: {error}", node.op.label()))?;
                for dispatch in recorded.dispatches {
                    let key: (_, BTreeSet<usize>) =
                        (dispatch.shader.clone(), shaders::writable(&dispatch, &node.operands));
                    if !names.contains_key(&key) {
                        let variant = Variant::new(&key, features)?;
                        names.insert(key.clone(), variant.name.clone());
                        variants.entry(variant.name.clone()).or_insert(variant);
                    }
                    let (label, shader) = (node.op.label(), names[&key].clone());
                    let size = variants[&shader].module.entry_points[0].workgroup_size;
                    let workgroup = size.iter().product();
                    let (groups, flops) = (dispatch.groups(), dispatch.cost.flops);
                    let (kernel, default) = (node.op.kernel(), i == 0);
                    let key = (plan, label.clone(), chosen, shader.clone());
                    let new = Placed {
                        plan,
                        label,
                        kernel,
                        variant: chosen,
                        default,
                        shader,
                        groups: 0,
                        flops: 0,
                        dispatches: 0,
                        workgroup,
                    };
                    let of = placed.entry(key).or_insert(new);
                    of.groups = of.groups.max(groups);
                    of.flops = of.flops.max(flops);
                    of.dispatches += 1;
                }
            }
        }
    }
    Ok((variants.into_values().collect(), placed.into_values().collect()))
}
