//! What the documents speak of beside the project's own files, each as small as it can be, made by the program itself when a
//! command first needs it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::reader::{Workshop, copy, shorten_experiments};
use crate::soundfont::soundfont;
use crate::words::Word;

/// Files and folders by the names that documents give them. Those in capitals are placeholders.
pub const THINGS: [&str; 32] = [
    "midi",
    "both",
    "bl2012",
    "as-learned",
    "pieces",
    "piece.mid",
    "beginning.mid",
    "baroque-to-romantic.mid",
    "samples",
    "survey.key.json",
    "answers",
    "runs/first",
    "runs/second",
    "runs/weights",
    "runs/weights2",
    "runs/weights3",
    "runs/weights5",
    "runs/paper",
    "experiments/results/paper.json",
    "weights.safetensors",
    "before.jsonl",
    "after.jsonl",
    "report.json",
    "piano.sf2",
    "target/shaders",
    "FILE.mid",
    "FILE.toml",
    "FILES",
    "CHECKPOINT",
    "DIR",
    "CORPUS",
    "many",
];

/// Composers of whom the corpora have pieces, with their genres. The last is in `both` alone.
const COMPOSERS: [(&str, &str); 4] =
    [("baroque", "bach"), ("classical", "beethoven"), ("romantic", "chopin"), ("baroque", "scarlatti")];

/// The things that a line needs, of which it names some.
pub fn needed(named: &[String], line: &[Word]) -> Vec<&'static str> {
    let names = |thing: &str| {
        let within = |name: &String, folder: &str| name.starts_with(&format!("{folder}/"));
        named.iter().any(|name| name == thing || within(name, thing) || within(&thing.to_string(), name))
    };
    let has = |text: &str| line.iter().any(|word| word.text == text);
    let mut found: Vec<&'static str> = THINGS.into_iter().filter(|thing| names(thing)).collect();
    let mut add = |needs: bool, thing| {
        if needs && !found.contains(&thing) {
            found.push(thing);
        }
    };
    // By default losses are those of the newest run, and copies are looked for in what it learned from.
    add(has("evaluate") && !has("--checkpoint"), "runs/first");
    add(has("--score"), "survey.key.json");
    add(has("*.json"), "report.json");
    add(has("--table"), "runs/paper");
    add(names("runs/first") || has("evaluate"), "midi");
    add(["runs/weights", "runs/weights2", "runs/weights3", "runs/weights5"].iter().any(|run| names(run)), "both");
    found
}

/// Makes a thing in the workshop's shared folder.
pub fn make(workshop: &Workshop, thing: &'static str) -> Result<(), String> {
    let shared = workshop.shared();
    let run = |line: &str| workshop.run_in(&shared, line);
    let write = |name: &str, content: &[u8]| written(&shared.join(name), content);
    let copied = |from: &'static str, to: &str| {
        workshop.make(from)?;
        copy(&shared.join(from), &shared.join(to))
    };
    let generate = "deepj generate --checkpoint builtin --seed 1";
    match thing {
        "midi" => COMPOSERS[..3].iter().try_for_each(|composer| compose(workshop, "midi", composer))?,
        "both" => {
            copied("midi", "both")?;
            compose(workshop, "both", &COMPOSERS[3])?;
        }
        "bl2012" => ["JSB_Chorales", "Piano_midi", "Nottingham", "MuseData"]
            .iter()
            .try_for_each(|set| write(&format!("bl2012/{set}.json"), chorales().to_string().as_bytes()))?,
        "pieces" | "as-learned" | "DIR" => {
            for genre in ["baroque", "classical", "romantic"] {
                fs::create_dir_all(shared.join(thing).join(genre)).map_err(|error| error.to_string())?;
                run(&format!("{generate} --style {genre} --bars 2 --count 2 -o {thing}/{genre}/piece.mid"))?;
            }
        }
        "piece.mid" | "FILE.mid" | "baroque-to-romantic.mid" => {
            drop(run(&format!("{generate} --bars 16 --ending none -o {thing}"))?)
        }
        "beginning.mid" => drop(run(&format!("{generate} --bars 1 -o {thing}"))?),
        "samples" => {
            for (system, composer) in [("deepj", COMPOSERS[0]), ("biaxial", COMPOSERS[1])] {
                workshop.make("midi")?;
                let from = shared.join("midi").join(composer.0).join(composer.1);
                copy(&from, &shared.join("samples").join(system))?;
            }
        }
        "survey.key.json" => {
            workshop.make("samples")?;
            run("deepj survey samples/deepj samples/biaxial --pairs 2 --seconds 1")?;
        }
        "answers" | "FILES" => {
            workshop.make("survey.key.json")?;
            let key = fs::read(shared.join("survey.key.json")).map_err(|error| error.to_string())?;
            let key = serde_json::from_slice(&key).map_err(|error| error.to_string())?;
            write(&format!("{thing}/one.json"), answers(&key).to_string().as_bytes())?;
        }
        "runs/first" | "runs/second" => {
            workshop.make("midi")?;
            run(&format!("deepj train --data midi --steps 1 --batch 1 --seq 8 --samples 0 --out {thing}"))?;
        }
        "runs/weights" => {
            workshop.make("both")?;
            run("deepj train --data both --steps 1 --batch 1 --seq 8 --samples 0 --out runs/weights")?;
        }
        "runs/weights2" | "runs/weights3" | "runs/weights5" => copied("runs/weights", thing)?,
        "runs/paper" => {
            workshop.make("midi")?;
            copy(&workshop.root.join("experiments/paper.toml"), &shared.join("experiments/paper.toml"))?;
            shorten_experiments(&shared)?;
            run("deepj experiment experiments/paper.toml --data midi --out runs/paper")?;
        }
        "experiments/results/paper.json" => {
            workshop.make("runs/paper")?;
            copy(&shared.join("runs/paper/results.json"), &shared.join(thing))?;
        }
        // The names of its pieces are those of the real corpora, of which the weights within the program know which they
        // learned from.
        "weights.safetensors" => drop(run("deepj export builtin -o weights.safetensors")?),
        "before.jsonl" => {
            run("deepj profile train --runs 12 --batch 1 --seq 8 --format jsonl -o before.jsonl")?;
        }
        // Two profiles of one program differ where the machine is busy.
        "after.jsonl" => copied("before.jsonl", thing)?,
        "report.json" => {
            copy(&workshop.root.join("benches/runs/2026-11-30-cpu-epyc/verify.json"), &shared.join(thing))?
        }
        "piano.sf2" => write(thing, &soundfont(true))?,
        "target/shaders" => copy(&workshop.root.join("shaders"), &shared.join(thing))?,
        "FILE.toml" => copy(&workshop.root.join("experiments/quick.toml"), &shared.join(thing))?,
        "CHECKPOINT" => copied("weights.safetensors", thing)?,
        "CORPUS" => copied("midi", thing)?,
        "many" => many(workshop)?,
        _ => return Err("nobody knows how".into()),
    }
    Ok(())
}

fn written(path: &Path, content: &[u8]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    fs::write(path, content).map_err(failed)
}

/// Composes pieces of a composer into a corpus. Their names are those of pieces which the weights within the program learned from,
/// and of some held out, so that these know which is which.
fn compose(workshop: &Workshop, corpus: &str, (genre, composer): &(&str, &str)) -> Result<(), String> {
    let weights = fs::read(workshop.root.join("data/weights/deepj.safetensors")).map_err(|error| error.to_string())?;
    let (length, rest) = weights.split_first_chunk::<8>().ok_or("the weights have no header")?;
    let header = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| rest.get(..length));
    let header: Value = serde_json::from_slice(header.ok_or("the weights end within their header")?)
        .map_err(|error| format!("the header of the weights: {error}"))?;
    let split = header["__metadata__"]["split"].as_str().ok_or("the weights know no split")?;
    let split: Value = serde_json::from_str(split).map_err(|error| error.to_string())?;
    let prefix = format!("{genre}/{composer}/");
    let mut names = vec![];
    for (part, count) in [("train", 4), ("validation", 1), ("test", 1)] {
        let part = split[part].as_array().into_iter().flatten().filter_map(Value::as_str);
        // Neighbours are movements of one work.
        names.extend(part.filter(|name| name.starts_with(&prefix)).step_by(3).take(count).map(String::from));
    }
    let shared = workshop.shared();
    let line = "deepj generate --checkpoint builtin --bars 4 --seed 1";
    workshop.run_in(&shared, &format!("{line} --style {composer} --count {} -o {composer}.mid", names.len()))?;
    for (i, name) in names.iter().enumerate() {
        copy(&shared.join(format!("{composer}-{}.mid", i + 1)), &shared.join(corpus).join(name))?;
    }
    Ok(())
}

/// A corpus of 23 composers, as the paper's has.
fn many(workshop: &Workshop) -> Result<(), String> {
    workshop.make("piece.mid")?;
    let shared = workshop.shared();
    let piece = shared.join("piece.mid");
    (0..23).try_for_each(|i| copy(&piece, &shared.join(format!("many/genre/composer-{i}/piece.mid"))))
}

/// A set of Boulanger-Lewandowski et al., of a few chords.
fn chorales() -> Value {
    let piece = |low: u32| json!([[low, low + 4, low + 7], [low, low + 5], [], [low + 2, low + 7]]);
    json!({"train": [piece(60), piece(62)], "valid": [piece(60)], "test": [piece(61)]})
}

/// What a listener sends back who chose the first clip of each pair.
fn answers(key: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let mut lines = vec!["deepj survey answers".to_string(), "1".into(), text(&key["survey"])];
    lines.extend(["listener".to_string(), "some".into()]);
    let mut answers = vec![];
    for pair in key["pairs"].as_array().into_iter().flatten() {
        let [first, second] = [0, 1].map(|side| text(&pair["clips"][side]["clip"]));
        lines.push(format!("{} {first} {second} {first} 900 900", text(&pair["pair"])));
        answers.push(
            json!({"pair": pair["pair"], "first": first, "second": second, "chosen": first, "heard": [900, 900]}),
        );
    }
    let checksum = format!("{:08x}", crc32c::crc32c((lines.join("\n") + "\n").as_bytes()));
    json!({
        "format": "deepj survey answers", "version": 1, "survey": key["survey"], "listener": "listener",
        "familiarity": "some", "answers": answers, "crc32c": checksum,
    })
}
