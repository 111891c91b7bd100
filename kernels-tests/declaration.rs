//! Holds what an op declares of its dispatches against its shaders, as naga understands them; needs no driver.

use std::collections::HashMap;

use deepj::gpu::{Access, Capabilities, Dispatch, Format, Shader};
use deepj::ops::{Arg, Op, Recorder, TensorId, View};
use naga::valid::{FunctionInfo, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Module, StorageAccess, TypeInner};

/// Checks all dispatches of `variant`, recorded with these capabilities for operands at `views`.
///
/// # Errors
/// The first thing that is not as declared, with the shader's name.
pub fn check(op: &dyn Op, variant: &str, capabilities: &Capabilities, views: &[View]) -> Result<(), String> {
    let recorded = Recorder::record(op, variant, capabilities, views).map_err(|error| error.to_string())?;
    if recorded.dispatches.is_empty() {
        return Err("nothing is recorded".into());
    }
    let mut parsed: HashMap<Shader, (Module, ModuleInfo)> = HashMap::new();
    // The operands, and scratch memory behind them.
    let (mut args, mut views) = (op.args(), views.to_vec());
    let bindings = || recorded.dispatches.iter().flat_map(|dispatch| &dispatch.bindings);
    let format =
        bindings().find(|binding| binding.arg == op.args().len()).map_or(Format::F32, |binding| binding.format);
    let len = recorded.scratch * (Format::F32.bytes() / format.bytes()) as usize;
    args.push(Arg::write("scratch", len).stored(format));
    views.push(View { tensor: TensorId(u32::MAX), start: 0, len, format });
    for dispatch in &recorded.dispatches {
        let Shader { op: file, entry, .. } = dispatch.shader;
        let at = |what: String| format!("shaders/{file}.wgsl, `{entry}`: {what}");
        if !parsed.contains_key(&dispatch.shader) {
            parsed.insert(dispatch.shader.clone(), parse(&dispatch.shader).map_err(at)?);
        }
        let (module, info) = &parsed[&dispatch.shader];
        check_ranges(&args, dispatch, capabilities, &views).map_err(at)?;
        check_interface(&args, dispatch, module, info).map_err(at)?;
        check_workgroup(dispatch, module, info, capabilities).map_err(at)?;
    }
    Ok(())
}

fn parse(shader: &Shader) -> Result<(Module, ModuleInfo), String> {
    let text = shader.wgsl().map_err(|error| error.to_string())?;
    let module = naga::front::wgsl::parse_str(&text).map_err(|error| error.emit_to_string(&text))?;
    let info = Validator::new(ValidationFlags::all(), naga::valid::Capabilities::all())
        .validate(&module)
        .map_err(|error| error.emit_to_string(&text))?;
    // Raw, the file must parse too, so that editors can work with it; it may use what is in the common text.
    let raw = format!("{}\n{}", shader.source, deepj::gpu::COMMON);
    naga::front::wgsl::parse_str(&raw).map_err(|error| error.emit_to_string(&raw))?;
    Ok((module, info))
}

/// Bindings lie inside their operands, on supported starts, and bindings, parameters and grid keep to the limits.
fn check_ranges(args: &[Arg], dispatch: &Dispatch, capabilities: &Capabilities, views: &[View]) -> Result<(), String> {
    for binding in &dispatch.bindings {
        let (arg, view) = (&args[binding.arg], views[binding.arg]);
        let end = binding.start + binding.len;
        let alignment = binding.format.alignment();
        let inside = binding.start + alignment > view.start as u64 && end <= (view.start + view.len) as u64;
        if binding.format != arg.format || binding.start % alignment != 0 || !inside {
            return Err(format!("binds elements {}..{end} for `{}` at {view:?}", binding.start, arg.name));
        }
        if binding.access == Access::ReadWrite && arg.access == Access::Read {
            return Err(format!("writes the operand `{}`, which is declared as read", arg.name));
        }
        let (_, bytes) = binding.bytes();
        if bytes > capabilities.max_storage_buffer_binding_size {
            return Err(format!("binds {bytes} bytes of `{}`", arg.name));
        }
    }
    let bindings = dispatch.bindings.len();
    if bindings as u32 > capabilities.max_storage_buffers_per_shader_stage {
        return Err(format!("binds {bindings} buffers"));
    }
    if 4 * dispatch.params.len() as u64 > capabilities.max_uniform_buffer_binding_size {
        return Err(format!("has {} words of parameters", dispatch.params.len()));
    }
    if dispatch.grid.iter().any(|&groups| groups > capabilities.max_compute_workgroups_per_dimension) {
        return Err(format!("has a grid of {:?}", dispatch.grid));
    }
    Ok(())
}

/// What the entry point uses is what the dispatch binds: buffers in order and with their access, as many parameter words,
/// the run's uniforms if and only if they are said to be used.
fn check_interface(args: &[Arg], dispatch: &Dispatch, module: &Module, info: &ModuleInfo) -> Result<(), String> {
    let used = used(dispatch, module, info)?;
    let at = |group: u32, binding: u32| {
        used.iter().copied().find(|variable| {
            variable.binding.as_ref().is_some_and(|place| (place.group, place.binding) == (group, binding))
        })
    };
    let size = |variable: &GlobalVariable| module.types[variable.ty].inner.size(module.to_ctx());
    let words = dispatch.params.len() as u32;
    match at(0, 0) {
        Some(params) if matches!(module.types[params.ty].inner, TypeInner::Struct { .. }) => {
            if size(params) != 4 * words {
                return Err(format!("`Params` has {} words, the dispatch {words}", size(params) / 4));
            }
        }
        Some(_) => return Err("binding 0 is not a struct".into()),
        None => return Err("the parameters are not used".into()),
    }
    for (place, binding) in (1..).zip(&dispatch.bindings) {
        let name = args[binding.arg].name;
        let Some(variable) = at(0, place) else { return Err(format!("binding {place}, `{name}`, is not used")) };
        let access = match variable.space {
            AddressSpace::Storage { access } if access == StorageAccess::LOAD => Access::Read,
            AddressSpace::Storage { access } if access == StorageAccess::LOAD | StorageAccess::STORE => {
                Access::ReadWrite
            }
            space => return Err(format!("binding {place}, `{name}`, is in {space:?}")),
        };
        let element = match module.types[variable.ty].inner {
            TypeInner::Array { base, .. } => module.types[base].inner.scalar(),
            _ => None,
        };
        if element.map(|scalar| u64::from(scalar.width)) != Some(binding.format.bytes()) {
            return Err(format!("binding {place}, `{name}`, is of {element:?}, bound as {}", binding.format.name()));
        }
        if access != binding.access {
            return Err(format!("binding {place}, `{name}`, is {access:?} in WGSL and {:?} bound", binding.access));
        }
    }
    let bound = 1 + dispatch.bindings.len() + usize::from(dispatch.uses_uniforms);
    match at(1, 0) {
        Some(uniforms) if size(uniforms) != 64 => Err(format!("`uniforms` has {} bytes", size(uniforms))),
        uniforms if uniforms.is_some() != dispatch.uses_uniforms => Err(format!(
            "uses_uniforms is {}, in WGSL `uniforms` is used: {}",
            dispatch.uses_uniforms,
            uniforms.is_some()
        )),
        _ if used.len() != bound => Err(format!("uses {} bindings, {bound} are bound", used.len())),
        _ => Ok(()),
    }
}

/// The bound variables that the entry point uses.
fn used<'a>(dispatch: &Dispatch, module: &'a Module, info: &ModuleInfo) -> Result<Vec<&'a GlobalVariable>, String> {
    let place = module.entry_points.iter().position(|entry| entry.name == dispatch.shader.entry);
    let uses = info.get_entry_point(place.ok_or("there is no such entry point")?);
    let variables = module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty());
    Ok(variables.map(|(_, variable)| variable).filter(|variable| variable.binding.is_some()).collect())
}

fn check_workgroup(
    dispatch: &Dispatch,
    module: &Module,
    info: &ModuleInfo,
    capabilities: &Capabilities,
) -> Result<(), String> {
    let Some(i) = module.entry_points.iter().position(|entry| entry.name == dispatch.shader.entry) else {
        return Err("there is no such entry point".into());
    };
    let [x, y, z] = module.entry_points[i].workgroup_size;
    if x * y * z > capabilities.max_compute_invocations_per_workgroup
        || x > capabilities.max_compute_workgroup_size_x
        || y > capabilities.max_compute_workgroup_size_y
        || z > capabilities.max_compute_workgroup_size_z
    {
        return Err(format!("a workgroup has {x} x {y} x {z} invocations"));
    }
    let memory = workgroup_memory(module, info.get_entry_point(i));
    if memory > capabilities.max_compute_workgroup_storage_size {
        return Err(format!("a workgroup needs {memory} bytes of memory"));
    }
    Ok(())
}

/// Bytes of workgroup memory that an entry point uses.
pub fn workgroup_memory(module: &Module, uses: &FunctionInfo) -> u32 {
    let used = module
        .global_variables
        .iter()
        .filter(|(handle, variable)| variable.space == AddressSpace::WorkGroup && !uses[*handle].is_empty());
    used.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx()).next_multiple_of(16)).sum()
}
