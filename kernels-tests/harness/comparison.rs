//! Holds results against what is wanted, element by element: what stands in operands that nothing has written, and how near
//! a result came to its tolerance.

use serde::{Deserialize, Serialize};

use crate::gpu::Format;

use super::bounded::Bounded;

/// A quiet NaN with a payload of its own: what stands in operands before they are written.
pub const UNWRITTEN: u32 = 0x7fc0_dead;

/// What is left of a value that is stored in this format.
pub fn held(value: f32, format: Format) -> f32 {
    match format {
        Format::F32 => value,
        Format::F16 => half::f16::from_f32(value).to_f32(),
    }
}

/// Whether a value is still what stood there before anything was written.
pub fn is_unwritten(value: f64) -> bool {
    value.is_nan()
}

/// How near a result came to its tolerance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    /// The largest error as a share of its bound.
    pub share: f64,
    /// The element with that error, what it is, must be, and may be off by.
    pub worst: String,
}

impl Margin {
    /// Nothing is off, or nothing is bounded.
    pub fn none() -> Self {
        Self { share: 0.0, worst: "nothing is off".into() }
    }
}

/// Holds written operands, with their names, against what is wanted.
///
/// # Errors
/// Elements beyond their bounds: how many, and the worst.
pub fn compare<T: AsRef<[f32]>>(results: &[(&str, T)], wanted: &[Vec<Bounded>]) -> Result<Margin, String> {
    let unwritten = [Format::F32, Format::F16].map(|format| held(f32::from_bits(UNWRITTEN), format).to_bits());
    let mut margin = Margin::none();
    let (mut beyond, mut elements) = (0, 0);
    for ((name, result), wanted) in results.iter().zip(wanted) {
        for (i, (&result, Bounded { value, error: bound })) in result.as_ref().iter().zip(wanted).enumerate() {
            let share = match (f64::from(result) - value).abs() {
                0.0 => 0.0,
                // Scratch: anything may stand there.
                _ if bound.is_infinite() => 0.0,
                error if error.is_finite() => error / bound,
                _ if is_unwritten(*value) && unwritten.contains(&result.to_bits()) => 0.0,
                _ => f64::INFINITY,
            };
            elements += 1;
            beyond += usize::from(share > 1.0);
            if share > margin.share {
                let worst = format!("{name}[{i}] is {result:e}, must be {value:e} within {bound:.1e}");
                margin = Margin { share, worst };
            }
        }
    }
    match beyond {
        0 => Ok(margin),
        _ => Err(format!(
            "{beyond} of {elements} elements are beyond their tolerance, the worst at {:.3e} times it: {}",
            margin.share, margin.worst
        )),
    }
}
