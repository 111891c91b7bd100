//! Checkpoints. The input is the six JSON texts of the metadata, a line each, for which tensors are made as the configuration has
//! them; or, if it is none of these, the bytes of a file. What loads is the same when it is saved and loaded again, a damaged byte
//! of that is an error, and memory follows the length of the file.

#![no_main]

use std::collections::HashMap;

use deepj::checkpoint::{Checkpoint, FORMAT, Settings, VERSION};
use deepj::models;
use deepj_fuzz::within;
use libfuzzer_sys::fuzz_target;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const FIELDS: [&str; 6] = ["config", "styles", "split", "corpus", "settings", "progress"];
/// Values of the largest tensor that is made.
const MOST_VALUES: usize = 1 << 14;

fuzz_target!(|input: &[u8]| {
    let made = std::str::from_utf8(input).ok().and_then(file);
    let bytes = made.as_deref().unwrap_or(input);
    let most = 8 * bytes.len() + (1 << 20);
    let checkpoint = match within(most, || Checkpoint::from_bytes(bytes)) {
        Ok(checkpoint) => checkpoint,
        Err(e) => return assert!(!e.what.is_empty() && !e.remedy.is_empty(), "{e}"),
    };
    let mut saved = checkpoint.to_bytes().unwrap();
    assert_eq!(Checkpoint::from_bytes(&saved).unwrap(), checkpoint);
    // Another place for every input.
    let place =
        input.iter().fold(7, |hash: usize, byte| hash.wrapping_mul(31) ^ usize::from(*byte)) % (8 * saved.len());
    saved[place / 8] ^= 1 << (place % 8);
    if let Ok(damaged) = Checkpoint::from_bytes(&saved) {
        assert_eq!(damaged, checkpoint, "bit {} of byte {}", place % 8, place / 8);
    }
});

/// The file with these metadata.
fn file(text: &str) -> Option<Vec<u8>> {
    let lines: Vec<&str> = text.lines().collect();
    let lines: [&str; 6] = lines.try_into().ok()?;
    let model = models::architecture(models::DEFAULT).ok()?.model(serde_json::from_str(lines[0]).ok()?).ok()?;
    let settings: Settings = serde_json::from_str(lines[4]).ok()?;
    let mut shapes = vec![];
    for param in model.layout().params() {
        shapes.push((param.name.clone(), param.shape.clone()));
        for buffer in settings.optimizer.0.buffers() {
            shapes.push((format!("optimizer.{buffer}.{}", param.name), param.shape.clone()));
        }
    }
    shapes.extend(model.states(settings.batch).into_iter().map(|state| (state.name, state.shape)));
    let values = |shape: &[usize]| shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let largest = shapes.iter().try_fold(0, |most: usize, (_, shape)| Some(most.max(values(shape)?)))?;
    let data: Vec<u8> = (largest <= MOST_VALUES).then(|| 0.5f32.to_le_bytes().repeat(largest))?;
    let tensors = shapes.into_iter().map(|(name, shape)| {
        let bytes = &data[..4 * shape.iter().product::<usize>()];
        (name, TensorView::new(Dtype::F32, shape, bytes).unwrap())
    });
    let mut metadata = HashMap::from([("format".into(), FORMAT.into()), ("version".into(), VERSION.into())]);
    metadata.extend(FIELDS.iter().zip(lines).map(|(name, value)| (name.to_string(), value.to_string())));
    safetensors::serialize(tensors, Some(metadata)).ok()
}
