//! `deepj profile` as a user runs it; what its figures say is tested in `tests/profile.rs`.

use deepj::gpu;
use deepj::profile::{Profile, Track};

use crate::{deepj, fails, folder, succeeds};

const TINY: [&str; 14] = [
    "--preset",
    "small",
    "--set",
    "time_units=8",
    "--set",
    "note_units=8",
    "--set",
    "filters=4",
    "--batch",
    "2",
    "--seq",
    "8",
    "--runs",
    "2",
];

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    first.iter().chain(&TINY).chain(more).copied().collect()
}

#[test]
fn every_format_is_printed_or_written() {
    let dir = folder();
    let text = succeeds(dir.path(), &with(&["profile", "train"], &["--roofline", "roofline.svg"]));
    assert!(
        text.contains("lstm_fwd") && text.contains("unaccounted") && text.contains("overhead of profiling"),
        "{text}"
    );
    let svg = std::fs::read_to_string(dir.path().join("roofline.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for (format, what) in [("csv", "kernel,"), ("markdown", "| kernel |"), ("trace", "\"traceEvents\"")] {
        let text = succeeds(dir.path(), &with(&["profile", "generate", "--format", format], &[]));
        assert!(text.contains(what), "{format}: {text}");
    }
    let written = dir.path().join("profile.jsonl");
    let printed =
        succeeds(dir.path(), &with(&["profile", "op", "lstm"], &["--format", "jsonl", "-o", "profile.jsonl"]));
    assert!(printed.is_empty());
    let profile = Profile::read(&written).unwrap();
    assert_eq!(profile.header.what, "op lstm");
    assert!(profile.kernels.iter().any(|kernel| kernel.kernel == "lstm_bwd"));
    assert!(profile.spans.iter().all(|span| span.track == Track::Cpu));
    let last = std::fs::read_to_string(&written).unwrap();
    let last: serde_json::Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert!(last["record"] == "summary" && last["step_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn wrong_use_is_answered() {
    let dir = folder();
    let at = dir.path();
    std::fs::create_dir(at.join("folder")).unwrap();
    for (arguments, code, texts) in [
        (&["profile", "op", "gem"][..], 2, &["no op `gem`", "did you mean `gemm`?"][..]),
        (&["profile", "op", "gemm", "--shape", "rows=3"], 2, &["no field `rows`", "there is a, accumulate"]),
        (&["profile", "op", "gemm", "--shape", "m=0"], 2, &["m=0", "give 1 to"]),
        (&["profile", "op", "octave_conv", "--shape", "taps=24"], 2, &["taps=24", "odd"]),
        (&["profile", "train", "--runs", "0"], 2, &["--runs", "1..=1000"]),
        (&["profile", "generate", "--seq", "5000"], 2, &["--seq 5000", "at most"]),
        (&["profile", "train", "--batch", "0"], 2, &["--batch 0"]),
        (&["profile", "train", "--preset", "paper", "--batch", "4000"], 1, &["MiB more", "would fit"]),
        (&["profile", "train", "--set", "unit=3"], 2, &["--set unit"]),
        (&["profile", "train", "--variant", "gemm=naive"], 2, &["the CPU computes"]),
        (
            &["profile", "train", "--format", "trace", "-o", "no/no/trace.json"],
            1,
            &["no/no/trace.json", "cannot be written"],
        ),
        (&["profile", "train", "--format", "trace", "-o", "folder"], 1, &["folder", "is a folder"]),
        (&["profile", "train", "--roofline", "no/no/roofline.svg"], 1, &["no/no/roofline.svg", "cannot be written"]),
        (&["profile", "compare", "none.jsonl", "none.jsonl"], 1, &["none.jsonl"]),
        (&["profile", "generate", "--pairs", "on"], 2, &["--pairs has no effect here", "plans of training"]),
        (&["profile", "train", "--pairs", "on"], 2, &["--pairs has no effect here", "the CPU computes"]),
        (&["profile", "train", "--tune", "force"], 2, &["--tune force is for a GPU", "the CPU computes"]),
        (&["profile", "train", "--isa", "none.tsv"], 2, &["--isa has no effect here", "the CPU runs no shaders"]),
        (
            &["profile", "op", "gemm", "--shape", "m=8,n=8,k=8", "--batch", "4"],
            2,
            &["--batch has no effect here", "the shape says"],
        ),
        (&["profile", "op", "nadam", "--seq", "4"], 2, &["--seq has no effect here", "no size of this op"]),
    ] {
        fails(at, arguments, code, texts);
    }
    assert!(!at.join("roofline.svg").exists());
}

#[cfg(unix)]
#[test]
fn a_side_that_writes_no_profile_is_not_given_that_of_the_other() {
    let dir = folder();
    let what = ["--pairs", "2", "--runs", "1", "--", "op", "gemm", "--shape", "m=8,n=8,k=8", "--device", "cpu"];
    for (side, name) in [("--program-a", "A"), ("--program-b", "B")] {
        let arguments = [&["profile", "ab", side, "/bin/true"][..], &what].concat();
        fails(dir.path(), &arguments, 1, &[name, "/bin/true ended well and wrote no profile"]);
    }
    // Other work is said.
    let arguments = [&["profile", "ab", "--a=--shape m=8,n=8,k=8", "--b=--shape m=8,n=9,k=8"], &what[..7]].concat();
    let output = deepj(dir.path(), &[&arguments[..], &["--device", "cpu"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("A and B do other work"), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains(" times as long as A, "), "{printed}");
}

#[test]
fn what_an_adapter_cannot_do_is_refused_before_anything_is_measured() {
    let dir = folder();
    let adapters = pollster::block_on(gpu::adapters());
    if adapters.is_empty() {
        println!("skipped: no adapter here");
    }
    for (i, adapter) in adapters.iter().enumerate() {
        println!("{adapter}");
        let device = i.to_string();
        let refused = |arguments: &[&str], code, texts: &[&str]| {
            fails(dir.path(), &with(arguments, &["--device", &device]), code, texts);
        };
        refused(&["profile", "op", "gemm", "--variant", "gemm=tile"], 2, &["no variant `tile`", "`tiled`"]);
        refused(&["profile", "train", "--variant", "gem=tiled"], 2, &["no kernel `gem`", "`gemm`"]);
        if adapter.max_buffer_size < 4 * 65_000 * 65_000 {
            let large = ["profile", "op", "gemm", "--shape", "m=65000,n=65000,k=8", "--device", &device];
            fails(dir.path(), &large, 1, &["MiB more than the largest buffer", "smaller --shape"]);
        }
        refused(&["profile", "op", "gemm", "--tune", "force"], 2, &["--tune force has no effect here"]);
        let trace = ["profile", "train", "--isa", "none.tsv", "--format", "trace"];
        refused(&trace, 2, &["--isa has no effect here", "a trace"]);
        refused(&["profile", "train", "--pairs", "on"], 2, &["--pairs on has no effect here", "units"]);
        let half = &["profile", "train", "--precision", "mixed"];
        if !adapter.shader_f16 {
            refused(half, 2, &["16-bit floats"]);
        }
    }
}
