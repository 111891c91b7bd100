//! Whether a dispatch fits a device, found out before the driver is asked.

use super::{Access, Capabilities, Dispatch};
use crate::{Error, Result};

/// An operand of an op: which buffer holds it, and the buffer's length in bytes.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    /// Equal for operands that are the same buffer.
    pub buffer: u64,
    pub len: u64,
}

/// Checks bindings, parameters and grid of `dispatch` on `operands` against `capabilities`.
///
/// # Errors
/// Names the op, what does not fit, and the limit.
pub(super) fn check(dispatch: &Dispatch, operands: &[Operand], capabilities: &Capabilities) -> Result<()> {
    let refuse = |what: String, remedy: &str| Err(Error::device(format!("{}: {what}", name(dispatch)), remedy));
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
    if params_size(dispatch) > limit {
        let what = format!(
            "its parameters are of {}, the device binds at most {}",
            bytes(params_size(dispatch)),
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

/// The size of a dispatch's uniform block in bytes: its words, padded to 16 bytes.
pub(super) fn params_size(dispatch: &Dispatch) -> u64 {
    (dispatch.params.len() as u64 * 4).next_multiple_of(16).max(16)
}

/// How messages name a dispatch.
pub(super) fn name(dispatch: &Dispatch) -> String {
    format!("shaders/{}.wgsl, `{}`", dispatch.shader.op, dispatch.shader.entry)
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
        Dispatch { shader, bindings, params: vec![], grid, uses_step: false, cost: Cost::default() }
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
}
