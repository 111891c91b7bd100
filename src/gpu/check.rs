//! Whether a dispatch fits a device, checked before the driver sees it.

use super::{Access, Capabilities, Dispatch};
use crate::{Error, Result};

/// An operand of an op: which buffer holds it, and the buffer's length in bytes.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    /// Equal for operands that are the same buffer.
    pub buffer: u64,
    pub len: u64,
}

/// A workgroup of a pipeline; all zero on the web, where shaders are not parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workgroup {
    /// Invocations in x, y, z.
    pub size: [u32; 3],
    /// Bytes of workgroup memory.
    pub memory: u64,
}

/// Checks bindings, parameters and grid of `dispatch` on `operands` against `capabilities`.
///
/// # Errors
/// Names the op, what does not fit, and the limit.
pub(super) fn check(dispatch: &Dispatch, operands: &[Operand], capabilities: &Capabilities) -> Result<()> {
    let refuse = |what: String, remedy: &str| Err(Error::device(format!("{}: {what}", dispatch.name()), remedy));
    const DEFECT: &str = "the op's declaration is wrong";
    const SMALLER: &str = "lower the batch or the sequence length, or use a device with larger limits";

    let mut ranges = Vec::with_capacity(dispatch.bindings.len());
    for (place, binding) in dispatch.bindings.iter().enumerate() {
        let place = place + 1;
        let Some(operand) = operands.get(binding.arg) else {
            let what = format!("binding {place} is of operand {}, of which there are {}", binding.arg, operands.len());
            return refuse(what, DEFECT);
        };
        let (start, size) = binding.bytes();
        let end = start.saturating_add(size);
        let (alignment, format) = (binding.format.alignment(), binding.format.name());
        if binding.len == 0 || !binding.start.is_multiple_of(alignment) || end > operand.len {
            let what = format!(
                "binding {place} is {format} elements {}..{} of {}; it must not be empty, and start at a multiple of \
                 {alignment}",
                binding.start,
                binding.start.saturating_add(binding.len),
                operand.len / binding.format.bytes()
            );
            return refuse(what, DEFECT);
        }
        let limit = capabilities.max_storage_buffer_binding_size;
        if size > limit {
            let what = format!("binding {place} is of {}, the device binds at most {}", bytes(size), bytes(limit));
            return refuse(what, SMALLER);
        }
        ranges.push((operand.buffer, start..end, binding.access));
    }

    for (i, (buffer, range, access)) in ranges.iter().enumerate() {
        for (j, (other_buffer, other, other_access)) in ranges.iter().enumerate().take(i) {
            let writes = *access == Access::ReadWrite || *other_access == Access::ReadWrite;
            if writes && buffer == other_buffer && range.start < other.end && other.start < range.end {
                let what = format!("bindings {} and {} overlap and one is written", j + 1, i + 1);
                return refuse(what, "give what is written elements of its own");
            }
        }
    }

    let limit = capabilities.max_storage_buffers_per_shader_stage;
    if dispatch.bindings.len() > limit as usize {
        let what = format!("it binds {} storage buffers, the device at most {limit}", dispatch.bindings.len());
        return refuse(what, "use a variant with fewer bindings");
    }
    let limit = capabilities.max_uniform_buffer_binding_size;
    if dispatch.params_size() > limit {
        let what = format!(
            "its parameters are of {}, the device binds at most {}",
            bytes(dispatch.params_size()),
            bytes(limit)
        );
        return refuse(what, DEFECT);
    }
    let limit = capabilities.max_compute_workgroups_per_dimension;
    if dispatch.grid.iter().any(|&groups| groups > limit) {
        let what =
            format!("its grid is {:?} workgroups, the device runs at most {limit} in a dimension", dispatch.grid);
        return refuse(what, SMALLER);
    }
    Ok(())
}

/// What the entry point's workgroups are, checked against the device; wgpu leaves their memory unchecked. Each variable that the
/// entry point uses counts in whole vectors of 16 bytes, as WebGPU wants it and wgpu gives it to Metal; translation adds none,
/// since the memory is not cleared. Text that does not parse passes: compiling it gives the better message.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn workgroup(dispatch: &Dispatch, text: &str, capabilities: &Capabilities) -> Result<Workgroup> {
    let Ok(module) = naga::front::wgsl::parse_str(text) else { return Ok(Workgroup::default()) };
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
    let Ok(info) = validator.validate(&module) else { return Ok(Workgroup::default()) };
    let Some((i, entry)) = module.entry_points.iter().enumerate().find(|(_, e)| e.name == dispatch.shader.entry) else {
        return Ok(Workgroup::default());
    };
    let refuse = |what: String| Err(Error::device(format!("{}: {what}", dispatch.name()), "use a smaller tile"));

    let uses = info.get_entry_point(i);
    let memory: u64 = module
        .global_variables
        .iter()
        .filter(|(handle, variable)| variable.space == naga::AddressSpace::WorkGroup && !uses[*handle].is_empty())
        .filter_map(|(_, variable)| module.types[variable.ty].inner.try_size(module.to_ctx()))
        .map(|size| u64::from(size).next_multiple_of(16))
        .sum();
    let limit = u64::from(capabilities.max_compute_workgroup_storage_size);
    if memory > limit {
        return refuse(format!("a workgroup needs {memory} bytes of memory, the device has {limit}"));
    }

    let size = entry.workgroup_size;
    let invocations = size.iter().map(|&n| u64::from(n)).product::<u64>();
    let limits = [
        capabilities.max_compute_workgroup_size_x,
        capabilities.max_compute_workgroup_size_y,
        capabilities.max_compute_workgroup_size_z,
    ];
    let limit = capabilities.max_compute_invocations_per_workgroup;
    if invocations > u64::from(limit) || size.iter().zip(limits).any(|(&n, limit)| n > limit) {
        return refuse(format!(
            "a workgroup is {size:?} invocations, the device runs at most {limit}, and {limits:?} a side"
        ));
    }
    Ok(Workgroup { size, memory })
}

/// On the web, the browser checks shaders, and the crate is built without naga.
#[cfg(target_arch = "wasm32")]
pub(super) fn workgroup(_: &Dispatch, _: &str, _: &Capabilities) -> Result<Workgroup> {
    Ok(Workgroup::default())
}

/// A size for people.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64),
        _ => format!("{:.2} GiB", bytes as f64 / (1 << 30) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Binding, Cost, Format, Shader};
    use super::*;

    fn dispatch(bindings: &[(usize, Access, u64, u64)], grid: [u32; 3]) -> Dispatch {
        let binding = |&(arg, access, start, len): &_| Binding { arg, access, format: Format::F32, start, len };
        let bindings = bindings.iter().map(binding).collect();
        let shader = Shader { op: "example", source: "", entry: "main", consts: vec![], types: vec![] };
        Dispatch { shader, bindings, params: vec![], grid, uses_uniforms: false, cost: Cost::default() }
    }

    /// Checks against WebGPU's default limits, with two buffers of 1024 elements and one of 40 million.
    fn outcome(bindings: &[(usize, Access, u64, u64)], grid: [u32; 3]) -> std::result::Result<(), String> {
        let operands = [(0, 1024), (1, 1024), (2, 40_000_000)].map(|(buffer, len)| Operand { buffer, len: 4 * len });
        check(&dispatch(bindings, grid), &operands, &Capabilities::portable()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_fits_is_accepted() {
        use Access::{Read, ReadWrite};
        outcome(
            &[(0, Read, 0, 1024), (0, Read, 64, 960), (1, ReadWrite, 0, 64), (1, ReadWrite, 64, 960)],
            [65535, 1, 0],
        )
        .unwrap();
        outcome(&[(2, ReadWrite, 0, 1 << 25)], [1; 3]).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_op_and_the_reason() {
        use Access::{Read, ReadWrite};
        let nine: Vec<_> = (0..9).map(|i| (0, Read, 64 * i, 64)).collect();
        let cases: [(&[_], [u32; 3], &str); 9] = [
            (&[(3, Read, 0, 64)], [1; 3], "operand 3, of which there are 3"),
            (&[(0, Read, 0, 0)], [1; 3], "must not be empty"),
            (&[(0, Read, 32, 64)], [1; 3], "multiple of 64"),
            (&[(0, Read, 64, 961)], [1; 3], "64..1025 of 1024"),
            (&[(0, Read, 64, u64::MAX)], [1; 3], "of 1024"),
            (&[(2, Read, 0, (1 << 25) + 1)], [1; 3], "at most 128.0 MiB"),
            (&[(0, Read, 0, 128), (1, Read, 0, 64), (0, ReadWrite, 64, 64)], [1; 3], "bindings 1 and 3 overlap"),
            (&nine, [1; 3], "9 storage buffers, the device at most 8"),
            (&[(0, Read, 0, 64)], [1, 65536, 1], "at most 65535 in a dimension"),
        ];
        for (bindings, grid, reason) in cases {
            let error = outcome(bindings, grid).unwrap_err();
            assert!(error.contains("shaders/example.wgsl") && error.contains(reason), "{error}, expected {reason}");
        }
    }

    /// One variable is large, one small, and one is of another entry point, which does not count.
    #[test]
    fn workgroups_that_need_too_much_are_refused_before_the_driver_sees_them() {
        let capabilities = Capabilities::portable();
        let looked_into = |elements: u32, format: &str, size: &str| {
            let text = format!(
                "enable f16;
                 var<workgroup> numbers: array<{format}, {elements}>;
                 var<workgroup> one: f32;
                 var<workgroup> another: array<f32, 1000000>;
                 @compute @workgroup_size({size}) fn main() {{ numbers[0] = {format}(1.0); one = 1.0; }}
                 @compute @workgroup_size(1) fn other() {{ another[0] = 1.0; }}"
            );
            let shader = Shader { op: "example", source: "", entry: "main", consts: vec![], types: vec![] };
            let cost = Cost::default();
            let dispatch =
                Dispatch { shader, bindings: vec![], params: vec![], grid: [1; 3], uses_uniforms: false, cost };
            workgroup(&dispatch, &text, &capabilities).map_err(|error| error.to_string())
        };
        let fits = |elements, format| looked_into(elements, format, "8, 8, 4").unwrap();
        assert_eq!(fits(4092, "f32"), Workgroup { size: [8, 8, 4], memory: 16384 });
        assert_eq!(fits(8184, "f16").memory, 16384);
        assert_eq!(fits(1023, "vec3<f32>").memory, 16384, "as far apart as vectors of four");
        let error = looked_into(4093, "f32", "1").unwrap_err();
        for part in ["shaders/example.wgsl", "`main`", "16400 bytes", "has 16384", "smaller tile"] {
            assert!(error.contains(part), "{error}");
        }
        for size in ["257", "16, 17", "1, 1, 65"] {
            let error = looked_into(1, "f32", size).unwrap_err();
            assert!(error.contains("at most 256") && error.contains("64] a side"), "{error}");
        }
    }
}
