//! Arrays of f32 as files that other programs read.

use safetensors::tensor::{Dtype, TensorView};

use crate::{Error, Result};

/// The safetensors file of arrays, row-major: of each its name, shape and values.
///
/// # Errors
/// Two arrays of one name, or a shape that does not fit its values.
pub fn safetensors<'a>(arrays: impl IntoIterator<Item = (&'a str, &'a [usize], &'a [f32])>) -> Result<Vec<u8>> {
    let wrong = |e| Error::run(format!("the arrays cannot be written: {e}"), "");
    let view = |(name, shape, values): (&'a str, &'a [usize], &'a [f32])| {
        let tensor = TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values));
        tensor.map(|tensor| (name, tensor))
    };
    let views = arrays.into_iter().map(view).collect::<std::result::Result<Vec<_>, _>>().map_err(wrong)?;
    ::safetensors::serialize(views, None).map_err(wrong)
}

/// The file of one array, row-major, in NumPy's format (NEP 1, version 1.0).
pub fn npy(shape: &[usize], values: &[f32]) -> Vec<u8> {
    // A tuple of one has a comma.
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sizes.trim_end());
    // What comes before the values ends with a newline on a multiple of 64.
    let before = 10;
    let len = (before + header.len() + 1).next_multiple_of(64) - before;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((len as u16).to_le_bytes());
    file.extend(format!("{header:<0$}\n", len - 1).bytes());
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_numpy_writes() {
        let file = npy(&[3], &[1.0, 2.0, 0.5]);
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
        assert_eq!(&file[..8], b"\x93NUMPY\x01\x00");
        assert_eq!(&file[8..10], &118u16.to_le_bytes());
        assert_eq!(std::str::from_utf8(&file[10..128]).unwrap(), format!("{header:<117}\n"));
        assert_eq!(&file[128..], [1.0f32, 2.0, 0.5].map(f32::to_le_bytes).concat());
        assert!(String::from_utf8_lossy(&npy(&[2, 1], &[0.0; 2])).contains("'shape': (2, 1,), }"));
    }
}
