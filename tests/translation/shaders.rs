//! Every shader that a plan can run, as WGSL.

use std::collections::{BTreeSet, HashSet};

use deepj::gpu::{self, Access, Binding, Capabilities, Dispatch, Shader};
use deepj::ops::{Op, Recorder, View};
use deepj::peaks;
use deepj::verify::kernels::cases;
use deepj::verify::kernels::harness::adapters::everything;
use deepj::verify::kernels::harness::kernel;
use deepj::verify::kernels::networks::plans;
use naga::back::pipeline_constants::process_overrides;
use naga::valid::{self, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Handle, Module, ResourceBinding, ShaderStage, StorageAccess};

/// The optional features that an adapter must have to take a shader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub f16: bool,
    pub subgroup: bool,
    pub cooperative: bool,
}

impl Features {
    pub fn of(capabilities: &Capabilities) -> Self {
        let Capabilities { shader_f16, subgroup, ref cooperative_matrix, .. } = *capabilities;
        Self { f16: shader_f16, subgroup, cooperative: !cooperative_matrix.is_empty() }
    }

    /// What wgpu lets naga accept on a device with these.
    fn accepted(self) -> valid::Capabilities {
        let mut accepted = valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        accepted.set(valid::Capabilities::SHADER_FLOAT16, self.f16);
        accepted.set(valid::Capabilities::SUBGROUP, self.subgroup);
        accepted.set(valid::Capabilities::COOPERATIVE_MATRIX, self.cooperative);
        accepted
    }
}

/// A bound buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Uniform,
    Storage { writable: bool },
}

/// An entry point of a shader's text, as a device compiles it.
pub struct Variant {
    /// File, entry point, constants and types.
    pub name: String,
    pub wgsl: String,
    pub entry: &'static str,
    pub features: Features,
    /// The entry point alone, as naga understands it.
    pub module: Module,
    pub info: ModuleInfo,
}

/// A shader with the bindings, counted from 1, that are made writable because another writes to the same buffer.
pub type Recorded = (Shader, BTreeSet<usize>);

/// All of them: of every op's cases and of all plans in every variant that is supported anywhere, and of the measuring of peaks.
///
/// # Errors
/// What naga finds wrong, on the least adapter that takes the shader.
pub fn all() -> Result<Vec<Variant>, String> {
    let mut variants = vec![];
    let mut seen = HashSet::new();
    for capabilities in adapters() {
        let of_peaks = peaks::shaders(&capabilities).into_iter().map(|shader| (shader, BTreeSet::new()));
        for recorded in of_ops(&capabilities)?.into_iter().chain(of_peaks) {
            if seen.insert(recorded.clone()) {
                variants.push(Variant::new(&recorded, Features::of(&capabilities))?);
            }
        }
    }
    Ok(variants)
}

/// Kinds of adapters, those with less first: a shader is held against the first that takes it.
fn adapters() -> Vec<Capabilities> {
    let everything = everything();
    let limits = Capabilities { shader_f16: false, subgroup: false, cooperative_matrix: vec![], ..everything.clone() };
    vec![
        Capabilities::portable(),
        Capabilities { shader_f16: true, ..Capabilities::portable() },
        limits.clone(),
        Capabilities { shader_f16: true, ..limits.clone() },
        Capabilities { subgroup: true, ..limits.clone() },
        Capabilities { shader_f16: true, subgroup: true, ..limits },
        Capabilities { subgroup_min_size: 64, subgroup_max_size: 64, ..everything.clone() },
        everything,
    ]
}

/// The shaders of all cases, with operands at any place and at aligned ones, and of all plans on such an adapter.
fn of_ops(capabilities: &Capabilities) -> Result<HashSet<Recorded>, String> {
    let mut shaders = HashSet::new();
    let mut record = |op: &dyn Op, capabilities: &Capabilities, views: &[View]| {
        for variant in op.supported(capabilities) {
            let recorded = Recorder::record(op, variant, capabilities, views);
            let recorded = recorded.map_err(|error| format!("{}, `{variant}`: {error}", op.label()))?;
            shaders
                .extend(recorded.dispatches.into_iter().map(|dispatch| (writable(&dispatch, views), dispatch.shader)));
        }
        Ok::<_, String>(())
    };
    for case in cases() {
        for aligned in [false, true] {
            record(case.op.as_ref(), &case.limited(capabilities), &kernel::views(&case, aligned))?;
        }
    }
    for node in plans().iter().flat_map(|plan| &plan.nodes) {
        record(node.op.as_ref(), capabilities, &node.operands)?;
    }
    Ok(shaders.into_iter().map(|(writable, shader)| (shader, writable)).collect())
}

/// The bindings that read a tensor to which the dispatch also writes; memory that tensors share in time no dispatch reads
/// and writes. Scratch memory is behind the operands.
pub fn writable(dispatch: &Dispatch, views: &[View]) -> BTreeSet<usize> {
    let tensor = |binding: &Binding| views.get(binding.arg).map(|view| view.tensor);
    let written = |of: &Binding| {
        let writes = |other: &Binding| other.access == Access::ReadWrite && tensor(other) == tensor(of);
        dispatch.bindings.iter().any(writes)
    };
    let bindings = (1..).zip(&dispatch.bindings);
    bindings.filter(|(_, binding)| binding.access == Access::Read && written(binding)).map(|(i, _)| i).collect()
}

impl Variant {
    /// The entry point that a dispatch was recorded with.
    ///
    /// # Errors
    /// What naga finds wrong.
    pub fn new((shader, writable): &Recorded, features: Features) -> Result<Self, String> {
        let name = name(shader, writable);
        let mut wgsl = shader.wgsl().map_err(|error| format!("{name}: {error}"))?;
        for &binding in writable {
            wgsl = gpu::with_writable(&wgsl, binding).ok_or(format!("{name}: binding {binding} is not declared"))?;
        }
        Self::parse(name, wgsl, shader.entry, features)
    }

    /// An entry point of any text.
    ///
    /// # Errors
    /// What naga finds wrong on a device that has just `features`.
    pub fn parse(name: String, wgsl: String, entry: &'static str, features: Features) -> Result<Self, String> {
        let at = |what: String| format!("{name}: {what}");
        let module = naga::front::wgsl::parse_str(&wgsl).map_err(|error| at(error.emit_to_string(&wgsl)))?;
        let info = Validator::new(ValidationFlags::all(), features.accepted())
            .validate(&module)
            .map_err(|error| at(error.emit_to_string(&wgsl)))?;
        // wgpu compiles entry points one by one, and leaves out first what one does not use.
        let (module, info) =
            process_overrides(&module, &info, Some((ShaderStage::Compute, entry)), &Default::default())
                .map_err(|error| at(error.to_string()))?;
        let (module, info) = (module.into_owned(), info.into_owned());
        match module.entry_points.len() {
            1 => Ok(Self { name, wgsl, entry, features, module, info }),
            _ => Err(at(format!("there is no entry point `{entry}`"))),
        }
    }

    /// The bindings that the entry point uses, in order.
    pub fn bound(&self) -> Vec<(ResourceBinding, Bound)> {
        let of = |(_, variable): (_, &GlobalVariable)| match variable.space {
            AddressSpace::Uniform => variable.binding.map(|place| (place, Bound::Uniform)),
            AddressSpace::Storage { access } => {
                let writable = access.contains(StorageAccess::STORE);
                variable.binding.map(|place| (place, Bound::Storage { writable }))
            }
            _ => None,
        };
        let mut bound: Vec<_> = self.used().filter_map(of).collect();
        bound.sort_by_key(|(place, _)| *place);
        bound
    }

    /// Bytes of workgroup memory.
    pub fn workgroup_memory(&self) -> u32 {
        let shared = self.used().filter(|(_, variable)| variable.space == AddressSpace::WorkGroup);
        let size = |variable: &GlobalVariable| self.module.types[variable.ty].inner.size(self.module.to_ctx());
        shared.map(|(_, variable)| size(variable).next_multiple_of(16)).sum()
    }

    fn used(&self) -> impl Iterator<Item = (Handle<GlobalVariable>, &GlobalVariable)> {
        let uses = self.info.get_entry_point(0);
        self.module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty())
    }
}

fn name(shader: &Shader, writable: &BTreeSet<usize>) -> String {
    let writable = writable.iter().map(|binding| format!(", binding {binding} writable"));
    shader.name() + &writable.collect::<String>()
}
