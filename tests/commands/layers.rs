//! `deepj inspect --hidden`: the values of layers, and a network in NumPy (`tests/reference/network.py`), written from the
//! documents alone, that computes the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::models::networks;
use crate::{corpus, fails, folder, run_quietly, succeeds, tiny};

/// The arrays of a safetensors file: shape and values.
fn arrays(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap())).collect();
    tensors.iter().map(|(name, of)| (name.to_string(), (of.shape().to_vec(), values(of.data())))).collect()
}

#[test]
fn a_layer_is_written_whole_or_at_one_time_step() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&tiny(path, 2)).unwrap();
    let piece = "corpus/plain/smith/3.mid";
    let inspect = ["inspect", "run", "--piece", piece, "--style", "smith"];
    succeeds(path, &[&inspect[..], &["--hidden", "all", "-o", "all.safetensors"]].concat());
    let all = arrays(&path.join("all.safetensors"));
    // Longer than a window of evaluation.
    let steps = all["notes"].0[0];
    assert!(steps > 64, "{steps} steps");
    for (name, shape) in [
        ("notes", vec![steps, 48, 3]),
        ("target", vec![steps, 48, 3]),
        ("style_vector", vec![2]),
        ("style", vec![4]),
        ("time.0.style", vec![34]),
        ("note.1.style", vec![8]),
        ("octave", vec![steps, 48, 4]),
        ("features", vec![steps, 48, 34]),
        ("time.0", vec![steps, 48, 8]),
        ("time.1", vec![steps, 48, 8]),
        ("note_input", vec![steps, 48, 11]),
        ("note.0", vec![steps, 48, 8]),
        ("note.1", vec![steps, 48, 8]),
        ("heads", vec![steps, 48, 3]),
    ] {
        assert_eq!(all[name].0, shape, "{name}");
    }
    // What is read is what was to be predicted, a time step later.
    let cells = 48 * 3;
    assert!(all["notes"].1[..cells].iter().all(|&value| value == 0.0));
    assert_eq!(all["notes"].1[cells..], all["target"].1[..(steps - 1) * cells]);
    assert!(all["target"].1.iter().any(|&value| value > 0.0));

    // One time step of the second window is that of the whole, as .npy too.
    let at = [&inspect[..], &["--hidden", "time.1", "--at", "66"]].concat();
    succeeds(path, &[&at[..], &["-o", "one.safetensors"]].concat());
    succeeds(path, &[&at[..], &["-o", "one.npy"]].concat());
    let one = &arrays(&path.join("one.safetensors"))["time.1"];
    assert_eq!(one.0, [48, 8]);
    assert_eq!(one.1[..], all["time.1"].1[66 * 48 * 8..67 * 48 * 8]);
    let npy = std::fs::read(path.join("one.npy")).unwrap();
    assert!(npy.starts_with(b"\x93NUMPY") && npy.len() == 128 + 4 * 48 * 8);
    assert_eq!(npy[128..], one.1.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());

    let json = succeeds(path, &[&at[..], &["--hidden", "style", "--json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["layer"], &json[1]["layer"]), (&"time.1".into(), &"style".into()));
    let largest = one.1.iter().copied().fold(f32::MIN, f32::max);
    assert_eq!(json[0]["largest"].as_f64().unwrap() as f32, largest);
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&tiny(path, 2)).unwrap();
    let piece = ["inspect", "run", "--piece", "corpus/plain/smith/0.mid"];
    for (flags, what) in [
        (&["--hidden", "time.3"][..], "did you mean `time.1`?"),
        (&["--hidden", "time.1", "--at", "1000"], "the piece has the time steps 0 to"),
        (&["--hidden", "time.1", "--hidden", "time.1"], "given twice"),
        (&["--hidden", "all", "-o", "all.npy"], "layers in one .npy file"),
        (&["--hidden", "all", "-o", "all.NPY"], "layers in one .npy file"),
        (&["--hidden", "all", "--hidden", "time.1"], "all and other layers"),
        (&["--hidden", "time.1", "--pairs", "on"], "--pairs"),
        (&["--variant", "gemm=tiled"], "--hidden"),
        (&["--hidden", "time.1", "-o", "x.txt"], "x.txt"),
        (&["--hidden", "time.1", "--style", "smith -> jones"], "moves from one style to another"),
        (&["--hidden", "time.1", "--style", "nobody"], "nobody"),
        (&["--hidden", "time.1", "-o", "-", "--json"], "both on standard output"),
    ] {
        fails(path, &[&piece[..], flags].concat(), 2, &[what]);
    }
    let over = [&piece[..], &["--hidden", "time.1", "-o", "run/best.safetensors"]].concat();
    fails(path, &over, 1, &["best.safetensors", "is read by this command"]);
    fails(path, &["inspect", "run", "--hidden", "time.1"], 2, &["--piece"]);
    fails(path, &["inspect", "run", "--at", "3"], 2, &["--hidden"]);
    fails(path, &["inspect", "run", "--hidden", "time.1", "--piece", "none.mid"], 1, &["none.mid"]);
    let left = std::fs::read_dir(path).unwrap().count();
    assert_eq!(left, 2, "nothing is written beside corpus and run");
}

/// Python with NumPy, from `.ci/numpy` or the system's; `None` where there is none.
fn numpy() -> Option<Command> {
    let python = || {
        let mut python = Command::new("python3");
        let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../numpy");
        python.env("PYTHONPATH", packages).env("OPENBLAS_NUM_THREADS", "1");
        python
    };
    let found = python().args(["-c", "import numpy"]).output().is_ok_and(|output| output.status.success());
    assert!(found || std::env::var_os("DEEPJ_REQUIRE_NUMPY").is_none(), "python3 with NumPy is missing (.ci/numpy)");
    if !found {
        eprintln!("skipped: python3 has no NumPy; .ci/numpy installs it");
    }
    found.then(python)
}

#[test]
fn a_network_in_numpy_computes_the_same_layer_by_layer() {
    let Some(mut python) = numpy() else { return };
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let mut files: Vec<PathBuf> = vec![];
    let plain = ["time_units=8", "note_units=8", "filters=4", "style_width=4"].map(|field| ["--set", field]).concat();
    for (name, flags, _) in [("plain", plain, "")].into_iter().chain(networks()) {
        let train = ["train", "--data", "corpus", "--batch", "2", "--seq", "16", "--samples", "0", "--steps", "3"];
        succeeds(path, &[&train[..], &["--out", name], &flags].concat());
        let layers = format!("{name}.safetensors");
        let inspect = ["inspect", name, "--hidden", "all", "--piece", "corpus/fancy/jones/2.mid", "-o", &layers];
        succeeds(path, &inspect);
        files.extend([path.join(name).join("best.safetensors"), path.join(&layers)]);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/network.py");
    let output = python.arg(&script).args(&files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.matches("heads").count() >= files.len() / 2, "{said}");

    // It would say so: one value of one layer is another.
    let changed = path.join("changed.safetensors");
    let mut bytes = std::fs::read(&files[1]).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x40;
    std::fs::write(&changed, bytes).unwrap();
    let output = numpy().unwrap().arg(&script).args([&files[0], &changed]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
}
