//! `deepj styles`: what is said of the style embedding, and the map of it.

use std::path::Path;

use deepj::checkpoint::Checkpoint;
use deepj::train::TrainOptions;
use serde_json::Value;

use crate::{corpus, fails, folder, run_quietly, succeeds, tiny};

/// A checkpoint of nine composers, whose styles stand where they are put: three genres of three, each around one place.
fn placed(dir: &Path) {
    for genre in ["baroque", "classical", "romantic"] {
        for (i, composer) in ["one", "two", "three"].iter().enumerate() {
            let of = format!("{composer}-{genre}");
            corpus(&dir.join("parts").join(&of), 1, 2, 48 + i as u8);
            let to = dir.join("corpus").join(genre).join(&of);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::rename(dir.join("parts").join(&of).join("plain/smith"), to).unwrap();
        }
    }
    run_quietly(&tiny(dir, 1)).unwrap();
    let path = dir.join("run/best.safetensors");
    let mut checkpoint = Checkpoint::load(&path).unwrap();
    let param = checkpoint.model.layout().params().iter().find(|param| param.name == "style.embedding.weight").unwrap();
    let (start, width) = (param.view.start, param.view.len / 9);
    for i in 0..9 {
        let row = &mut checkpoint.params[start + i * width..][..width];
        row.fill(0.0);
        row[i / 3] = 10.0;
        row[3] = i as f32 * 0.1;
    }
    checkpoint.save(&path).unwrap();
}

#[test]
fn styles_stand_where_they_were_put() {
    let dir = folder();
    placed(dir.path());
    let json: Value = serde_json::from_str(&succeeds(
        dir.path(),
        &["styles", "--checkpoint", "run", "--map", "map.svg", "--perplexity", "2", "--json"],
    ))
    .unwrap();
    let first = &json["standings"][0];
    assert_eq!((&first["composer"], &first["genre"]), (&"one-baroque".into(), &"baroque".into()));
    assert_eq!(first["neighbours"][0][0], "three-baroque");
    assert!((json["distances"][0][3].as_f64().unwrap() - (200.0_f64 + 0.09).sqrt()).abs() < 1e-6);
    assert_eq!(json["clustering"]["share"], 1.0);
    assert!(json["clustering"]["p"].as_f64().unwrap() < 0.01 && json["tsne"]["perplexity"] == 2.0);
    let svg = std::fs::read_to_string(dir.path().join("map.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
    for name in ["one-baroque", "three-romantic", "t-SNE, perplexity 2.000", "principal components", "classical"] {
        assert!(svg.contains(name), "{name}");
    }
    // The same map each time, and none that is broken off.
    succeeds(dir.path(), &["styles", "--checkpoint", "run", "--map", "again.svg", "--perplexity", "2"]);
    assert_eq!(svg, std::fs::read_to_string(dir.path().join("again.svg")).unwrap());
    let text = succeeds(dir.path(), &["styles", "--checkpoint", "run"]);
    assert!(text.contains("of the same genre for 100 %") && text.contains("  1 one-baroque"), "{text}");
}

#[test]
fn what_cannot_be_mapped_is_said() {
    let dir = folder();
    placed(dir.path());
    fails(dir.path(), &["styles", "--checkpoint", "run", "--perplexity", "0.5"], 2, &["--perplexity 0.5"]);
    fails(
        dir.path(),
        &["styles", "--checkpoint", "run", "--learning-rate", "1e300"],
        2,
        &["does not settle", "lower it"],
    );
    fails(dir.path(), &["styles", "--checkpoint", "run", "--map", "map.png"], 2, &["map.png"]);
    assert!(!dir.path().join("map.png").exists());
    // Two composers: principal components only.
    let small = folder();
    run_quietly(&tiny(small.path(), 1)).unwrap();
    let text = succeeds(small.path(), &["styles", "--checkpoint", "run", "--map", "map.svg"]);
    assert!(text.contains("too few composers"), "{text}");
    assert!(!std::fs::read_to_string(small.path().join("map.svg")).unwrap().contains("t-SNE"));
    let none = folder();
    let set = [tiny(none.path(), 1).set, vec![("style".into(), "none".into())]].concat();
    run_quietly(&TrainOptions { set, ..tiny(none.path(), 1) }).unwrap();
    fails(none.path(), &["styles", "--checkpoint", "run"], 1, &["knows no styles"]);
}
