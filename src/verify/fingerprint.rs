//! What a report says of the program's build.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::kernels;
use crate::gpu::COMMON;
use crate::ops::Recorder;

/// FNV-1a in 64 bits of a file's bytes. Without carriage returns, which a checkout on Windows may add.
const fn sum(file: &[u8]) -> u64 {
    let (mut sum, mut i) = (0xcbf2_9ce4_8422_2325, 0);
    while i < file.len() {
        if file[i] != b'\r' {
            // In 128 bits, since each call, as that of `wrapping_mul` would be, counts as a step of constant evaluation.
            sum = ((sum ^ file[i] as u64) as u128 * 0x100_0000_01b3) as u64;
        }
        i += 1;
    }
    sum
}

/// Sums files of `src/` while the program is compiled, so that it holds none of their text.
macro_rules! sums {
    ($($file:literal),* $(,)?) => {
        #[cfg(test)]
        const FILES: &[&str] = &[$($file),*];
        /// Each a constant of its own: one for all would be longer than the compiler lets pass without a warning.
        const SUMS: &[u64] = &[$(const { sum(include_bytes!(concat!("../", $file))) }),*];
    };
}

// What computes on the CPU, and there the f64 reference: ops, and what runs plans of them.
sums![
    "graph/backend/cpu.rs",
    "graph/cpu.rs",
    "ops/adadelta.rs",
    "ops/add.rs",
    "ops/aligned.rs",
    "ops/biaxial_features.rs",
    "ops/carry.rs",
    "ops/cast.rs",
    "ops/dropout.rs",
    "ops/ema.rs",
    "ops/features.rs",
    "ops/gemm.rs",
    "ops/heads.rs",
    "ops/lstm.rs",
    "ops/lstm_pair.rs",
    "ops/matmul.rs",
    "ops/mod.rs",
    "ops/nadam.rs",
    "ops/neighbours.rs",
    "ops/note_input.rs",
    "ops/note_sweep.rs",
    "ops/octave_conv.rs",
    "ops/order.rs",
    "ops/random.rs",
    "ops/real.rs",
    "ops/recorder.rs",
    "ops/reduce.rs",
    "ops/softmax_loss.rs",
    "ops/tanh_grad.rs",
    "ops/vectorized.rs",
];

/// Checksum of what computes: the version of this crate, the files of all shaders that ops run on any device, and the code of the
/// ops and of the CPU backend. Those of the crates that this code calls are not in it.
pub fn fingerprint() -> &'static str {
    static SUM: OnceLock<String> = OnceLock::new();
    SUM.get_or_init(|| {
        let able = kernels::harness::adapters::everything();
        let mut files = BTreeSet::from([env!("CARGO_PKG_VERSION")]);
        for case in kernels::cases() {
            let views = kernels::harness::kernel::views(&case, true);
            for variant in case.op.supported(&able) {
                if let Ok(recorded) = Recorder::record(case.op.as_ref(), variant, &able, &views) {
                    files.extend(recorded.dispatches.iter().map(|dispatch| dispatch.shader.source));
                }
            }
        }
        let texts = files.into_iter().chain([COMMON]).map(|text| text.replace('\r', "").into_bytes());
        let parts = texts.chain(SUMS.iter().map(|sum| sum.to_le_bytes().into()));
        format!("{:08x}", parts.fold(0, |sum, part| crc32c::crc32c_append(sum, &part)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_the_published_one_and_that_of_any_checkout() {
        // Fowler, Noll & Vo: the test vectors of FNV-1a in 64 bits.
        assert_eq!(sum(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(sum(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(sum(b"a\r\nb\r\n"), sum(b"a\nb\n"));
        assert_ne!(sum(b"a\nb\n"), sum(b"a\nc\n"));
    }

    /// A new op belongs into the list above.
    #[test]
    fn the_code_of_every_op_is_in_the_fingerprint() {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let ops = std::fs::read_dir(source.join("ops")).unwrap();
        let ops = ops.map(|file| format!("ops/{}", file.unwrap().file_name().into_string().unwrap()));
        let wanted: BTreeSet<String> = ops.chain(["graph/cpu.rs", "graph/backend/cpu.rs"].map(String::from)).collect();
        assert_eq!(FILES.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), wanted);
        assert_eq!(FILES.len(), wanted.len(), "a file is in it twice");
        for (file, found) in FILES.iter().zip(SUMS) {
            assert_eq!(sum(&std::fs::read(source.join(file)).unwrap()), *found, "{file}");
        }
    }
}
