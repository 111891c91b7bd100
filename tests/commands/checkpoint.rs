//! Checkpoints: whatever happens to a file, loading it is right or an error that says what is wrong.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use deepj::checkpoint::{Checkpoint, newest};
use deepj::files::write_whole;
use deepj::gpu::Format;
use deepj::train::TrainOptions;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::{fails, folder, run_quietly, succeeds, tiny};

/// A tiny run's last checkpoint.
fn trained(dir: &Path) -> Vec<u8> {
    run_quietly(&tiny(dir, 2)).unwrap();
    std::fs::read(dir.join("run/last.safetensors")).unwrap()
}

fn refused(bytes: &[u8], case: &str) -> String {
    match Checkpoint::from_bytes(bytes) {
        Ok(_) => panic!("{case}: loaded"),
        Err(e) => {
            assert!(!e.remedy.is_empty(), "{case}: {e}");
            e.what
        }
    }
}

#[test]
fn bytes_survive_the_round_trip() {
    let dir = folder();
    let bytes = trained(dir.path());
    let checkpoint = Checkpoint::from_bytes(&bytes).unwrap();
    let again = Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap()).unwrap();
    assert_eq!(checkpoint, again);
    let resume = checkpoint.resume.unwrap();
    for (name, values) in [("moments", &resume.moments[..]), ("states", &resume.states[..])] {
        assert!(values.iter().all(|v| v.iter().any(|&x| x != 0.0)), "{name} are stored");
    }
}

#[test]
fn others_can_read_it_by_the_documented_names() {
    let dir = folder();
    let bytes = trained(dir.path());
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("time.0.recurrent"), [8, 32]);
    assert_eq!(shape("optimizer.m.time.0.recurrent"), [8, 32]);
    assert_eq!(shape("heads.bias"), [3]);
    assert_eq!(shape("state.time.1.c"), [2, 48, 8]);
    // Row-major, gates i, f, g, o: after two small updates the forget gates' biases are still near 1.
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let bias = tensors.tensor("time.0.bias").unwrap();
    let bias: Vec<f32> = bias.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert!(bias.iter().enumerate().all(|(i, b)| (b - if i / 8 == 1 { 1.0 } else { 0.0 }).abs() < 0.1), "{bias:?}");
    let metadata = header.metadata().as_ref().unwrap();
    for key in ["format", "version", "config", "styles", "split", "corpus", "settings", "progress", "crc32c"] {
        assert!(metadata.contains_key(key), "{key}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let dir = folder();
    let bytes = trained(dir.path());
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let ends = metadata.tensors().values().map(|info| header + info.data_offsets.1).collect::<Vec<_>>();
    let borders = ends.iter().chain([&8, &header]).flat_map(|&at| [at - 1, at, at + 1]);
    let sweep = (0..bytes.len()).step_by(997);
    for at in borders.chain(0..300).chain(sweep).filter(|&at| at < bytes.len()) {
        let what = refused(&bytes[..at], &format!("cut off at {at}"));
        assert!(what.contains("cut off"), "at {at}: {what}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(refused(&longer, "longer").contains("bytes too many"));
}

/// A flipped bit is an error, or in a place that means nothing, such as the name of the checksum itself.
fn same_or_refused(bytes: &[u8], as_saved: &Checkpoint, case: &str) {
    if let Ok(read) = Checkpoint::from_bytes(bytes) {
        assert!(read == *as_saved, "{case}: loads with other content");
    }
}

#[test]
fn no_damaged_byte_loads_as_something_else() {
    let dir = folder();
    let intact = trained(dir.path());
    let (mut bytes, as_saved) = (intact.clone(), Checkpoint::from_bytes(&intact).unwrap());
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut damage = |at: usize, other: u8| {
        let before = std::mem::replace(&mut bytes[at], other);
        same_or_refused(&bytes, &as_saved, &format!("{other:#x} for {before:#x} at byte {at}"));
        bytes[at] = before;
    };
    // In all of the header, and at one of 41 bytes of the tensors.
    for (at, byte) in intact.iter().enumerate().filter(|(at, _)| *at < header || at % 41 == 0) {
        damage(at, byte ^ 1 << (at % 8));
        damage(at, b'9');
    }
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    let error = Checkpoint::from_bytes(&bytes).unwrap_err();
    assert!(error.what.contains("is damaged: its content has the checksum"), "{error}");
    assert!(error.remedy.contains("copy it again"), "{error}");
}

#[test]
fn a_checkpoint_from_before_there_was_a_checksum_loads() {
    let dir = folder();
    let bytes = trained(dir.path());
    let old = changed(&bytes, |_, _, _, _| true, |_| {});
    assert!(!SafeTensors::read_metadata(&old).unwrap().1.metadata().as_ref().unwrap().contains_key("crc32c"));
    assert_eq!(Checkpoint::from_bytes(&old).unwrap(), Checkpoint::from_bytes(&bytes).unwrap());
}

/// The file without its checksum, and with tensors and metadata changed.
fn changed(
    bytes: &[u8],
    tensors: impl Fn(&str, &mut Vec<u8>, &mut Vec<usize>, &mut Dtype) -> bool,
    metadata: impl Fn(&mut HashMap<String, String>),
) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut strings = header.metadata().clone().unwrap();
    strings.remove("crc32c").unwrap();
    metadata(&mut strings);
    let parts: Vec<_> = SafeTensors::deserialize(bytes)
        .unwrap()
        .iter()
        .filter_map(|(name, view)| {
            let (mut data, mut shape, mut dtype) = (view.data().to_vec(), view.shape().to_vec(), view.dtype());
            tensors(name, &mut data, &mut shape, &mut dtype).then_some((name.to_string(), data, shape, dtype))
        })
        .collect();
    let views = parts
        .iter()
        .map(|(name, data, shape, dtype)| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, Some(strings)).unwrap()
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = folder();
    let bytes = trained(dir.path());
    let keep = |_: &str, _: &mut Vec<u8>, _: &mut Vec<usize>, _: &mut Dtype| true;
    let same = |_: &mut HashMap<String, String>| {};
    assert!(Checkpoint::from_bytes(&changed(&bytes, keep, same)).is_ok());

    let missing = changed(&bytes, |name, _, _, _| name != "octave.bias", same);
    assert!(refused(&missing, "missing").contains("`octave.bias` is missing"));
    let half = changed(&bytes, |name, _, _, _| name != "optimizer.v.heads.bias", same);
    assert!(refused(&half, "half the moments").contains("`optimizer.v.heads.bias` is missing"));
    let nan = |name: &str, data: &mut Vec<u8>, _: &mut Vec<usize>, _: &mut Dtype| {
        if name == "heads.bias" {
            data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        true
    };
    assert!(refused(&changed(&bytes, nan, same), "NaN").contains("`heads.bias` holds NaN at element 1"));
    let transposed = |name: &str, _: &mut Vec<u8>, shape: &mut Vec<usize>, _: &mut Dtype| {
        if name == "time.0.recurrent" {
            shape.reverse();
        }
        true
    };
    assert!(
        refused(&changed(&bytes, transposed, same), "transposed").contains("`time.0.recurrent` has the shape [32, 8]")
    );
    let typed = |name: &str, _: &mut Vec<u8>, _: &mut Vec<usize>, dtype: &mut Dtype| {
        if name == "heads.bias" {
            *dtype = Dtype::I32;
        }
        true
    };
    assert!(refused(&changed(&bytes, typed, same), "type").contains("is of type"));

    let with = |key: &'static str, value: &'static str| {
        changed(&bytes, keep, move |strings| {
            strings.insert(key.into(), value.into());
        })
    };
    assert!(refused(&with("format", "another"), "format").contains("not one of deepj's"));
    assert!(refused(&with("version", "2"), "version").contains("version 2"));
    assert!(refused(&with("config", "{}"), "config").contains("`config`: missing field"));
    assert!(refused(&with("styles", "[]"), "styles").contains("`styles`"));
    assert!(refused(&with("styles", r#"[{"genre":"a","name":"b"}]"#), "styles").contains("names 1 styles"));
    assert!(refused(&with("progress", "null"), "progress").contains("`progress`"));
    let without = changed(&bytes, keep, |strings| {
        strings.remove("split");
    });
    assert!(refused(&without, "split").contains("`split` is missing"));
    // A configuration with other sizes than the tensors'.
    // The largest that there is would take more memory than any machine has.
    for wider in ["\"time_units\":16", "\"time_units\":65536"] {
        let wide = changed(&bytes, keep, |strings| {
            let config = strings["config"].replace("\"time_units\":8", wider);
            strings.insert("config".into(), config);
        });
        assert!(refused(&wide, wider).contains("the configuration asks for"));
    }
    for absurd in ["\"lowest\":18446744073709551615", "\"lowest\":100"] {
        let high = changed(&bytes, keep, |strings| {
            let config = strings["config"].replace("\"lowest\":36", absurd);
            strings.insert("config".into(), config);
        });
        assert!(refused(&high, absurd).contains("MIDI"));
    }
    let foreign = safetensors::serialize(Vec::<(String, TensorView)>::new(), None).unwrap();
    assert!(refused(&foreign, "foreign").contains("no metadata"));
    assert!(refused(b"MThd\0\0\0\x06\0\0\0\x01\x01\xe0MTrk", "MIDI").contains("no safetensors file"));
}

#[test]
fn loading_names_the_file() {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let error = Checkpoint::load(&path).unwrap_err();
    assert!(error.what.contains("model.safetensors: cannot be read") && error.exit_code() == 1, "{error}");
    std::fs::write(&path, b"short").unwrap();
    assert!(Checkpoint::load(&path).unwrap_err().what.contains("model.safetensors: is cut off: it has 5 bytes"));
    assert!(Checkpoint::load(dir.path()).unwrap_err().what.contains("is no checkpoint file"));
}

#[test]
fn the_newest_run_is_the_one_that_says_so() {
    let dir = folder();
    let error = newest(dir.path(), "best.safetensors").unwrap_err();
    assert!(error.remedy.contains("deepj train"), "{error}");
    // When it was saved, in seconds since 1970, and how many seconds ago its file was written: a copy is younger than what it
    // is a copy of.
    let hour_ago = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() - 3600;
    let bytes = trained(dir.path());
    std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    let checkpoint = |saved: Option<u64>| {
        changed(
            &bytes,
            |_, _, _, _| true,
            |strings| {
                let mut progress: serde_json::Value = serde_json::from_str(&strings["progress"]).unwrap();
                match saved {
                    Some(saved) => progress["saved"] = saved.into(),
                    None => drop(progress.as_object_mut().unwrap().remove("saved")),
                }
                strings.insert("progress".into(), progress.to_string());
            },
        )
    };
    for (name, bytes, age) in [
        ("copied", checkpoint(Some(1000)), 10),
        ("newest", checkpoint(Some(hour_ago)), 30),
        ("from before it was said", checkpoint(None), 4000),
        ("broken", b"broken".to_vec(), 0),
        ("foreign", safetensors::serialize(Vec::<(String, TensorView)>::new(), None).unwrap(), 0),
    ] {
        let run = dir.path().join(name);
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join("best.safetensors"), bytes).unwrap();
        let file = std::fs::File::options().write(true).open(run.join("best.safetensors")).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    assert_eq!(newest(dir.path(), "best.safetensors").unwrap(), dir.path().join("newest/best.safetensors"));
    std::fs::remove_dir_all(dir.path().join("newest")).unwrap();
    let second = newest(dir.path(), "best.safetensors").unwrap();
    assert_eq!(second, dir.path().join("from before it was said/best.safetensors"));
}

/// A folder that cannot be written to. Permission bits do not bind root, so the path leads through a file.
#[test]
fn a_folder_that_refuses_is_named() {
    let dir = folder();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = write_whole(&file.join("last.safetensors"), b"bytes").unwrap_err();
    assert!(error.what.contains("file/last.safetensors: cannot be written"), "{error}");
    assert!(error.remedy.contains("another folder"), "{error}");
    let options = deepj::train::TrainOptions { out: Some(file.join("run")), ..tiny(dir.path(), 2) };
    let error = run_quietly(&options).unwrap_err();
    assert!(error.what.contains("cannot be made") && error.remedy.contains("another folder"), "{error}");
}

/// Where the process to be killed keeps its checkpoint.
const VICTIM: &str = "DEEPJ_TEST_VICTIM";

/// Not a test of its own: saves a checkpoint again and again until it is killed.
#[test]
fn saves_forever_if_asked() {
    let Ok(path) = std::env::var(VICTIM) else { return };
    let mut checkpoint = Checkpoint::load(&path).unwrap();
    loop {
        checkpoint.progress.step += 1;
        checkpoint.save(&path).unwrap();
    }
}

#[test]
fn kill_while_a_checkpoint_is_written_leaves_one_that_loads() {
    let dir = folder();
    let path = dir.path().join("last.safetensors");
    std::fs::write(&path, trained(dir.path())).unwrap();
    let (mut caught, mut step) = (0, 2);
    for round in 0..20 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "checkpoint::saves_forever_if_asked", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let saved = |step: u64| Checkpoint::load(&path).unwrap().progress.step > step;
        while !saved(step) && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_micros(1_700 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let temporary = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".last.safetensors.");
        for entry in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap).filter(|e| temporary(&e.file_name())) {
            caught += 1;
            std::fs::remove_file(entry.path()).unwrap();
        }
        let now = Checkpoint::load(&path).unwrap().progress.step;
        assert!(now > step, "round {round}: nothing was saved");
        step = now;
    }
    assert!(caught > 0, "no kill came while a file was being written");
}

/// What is shared has the weights and nothing to resume from, in f16 in half the bytes, and composes.
#[test]
fn exported_weights_are_those_of_the_run() {
    let dir = folder();
    run_quietly(&TrainOptions { ema: Some(0.9), ..tiny(dir.path(), 4) }).unwrap();
    let run = Checkpoint::load(dir.path().join("run/best.safetensors")).unwrap();
    let export =
        |more: &[&str]| succeeds(dir.path(), &[&["export", "run", "-o", "shared.safetensors"][..], more].concat());
    let shared = || Checkpoint::load(dir.path().join("shared.safetensors")).unwrap();
    export(&[]);
    assert_eq!((shared().params, shared().mean, shared().resume), (run.weights().into_owned(), None, None));
    let whole = std::fs::metadata(dir.path().join("shared.safetensors")).unwrap().len();
    export(&["--half"]);
    let half = shared();
    let weights = run.weights();
    assert!(half.params.iter().zip(weights.iter()).all(|(a, b)| (a - b).abs() <= 0.0005 * b.abs() + 1e-7));
    assert!(half.params.iter().all(|&x| half::f16::from_f32(x).to_f32() == x) && *half.params != *weights);
    // Two bytes a parameter less; the header's numbers may have other lengths.
    let saved = whole - std::fs::metadata(dir.path().join("shared.safetensors")).unwrap().len();
    let parameters = 2 * run.model.layout().elements() as u64;
    assert!((parameters..parameters + 200).contains(&saved), "{saved} {parameters}");
    assert_eq!((&half.styles, &half.split, half.progress.step), (&run.styles, &run.split, run.progress.step));
    let arguments =
        ["generate", "--checkpoint", "shared.safetensors", "--device", "cpu", "--bars", "2", "-o", "piece.mid"];
    succeeds(dir.path(), &arguments);
    succeeds(dir.path(), &["evaluate", "--checkpoint", "shared.safetensors", "--device", "cpu"]);
    fails(dir.path(), &["export", "run", "-o", "shared.bin"], 2, &[".safetensors"]);
    fails(dir.path(), &["export", "run", "-o", "run/best.safetensors"], 1, &["best.safetensors"]);
    let mut large = run.clone();
    large.params[0] = 1e6;
    assert!(large.to_bytes_as(Format::F16).unwrap_err().what.contains("f16 cannot hold"));
}
