//! Keys of surveys and files of answers: a key that is accepted is the same when it is written and read again; answers that are
//! accepted, also with a checksum that was computed for them, are of the survey's pairs and have a score; what is not accepted has
//! an error that names the file and a remedy.

#![no_main]

use std::path::Path;

use deepj::survey::{Answers, Key, score};
use deepj_fuzz::within;
use libfuzzer_sys::fuzz_target;

/// A key of two pairs, `p` with the clips `a` and `b`, and `q` with `c` and `d`.
const KEY: &[u8] = include_bytes!("../seeds/survey/key");

fuzz_target!(|bytes: &[u8]| {
    within(64 * bytes.len() + (1 << 20), || {
        let path = Path::new("folder/file.json");
        let named = |e: deepj::Error| assert!(e.what.starts_with("folder/file.json") && !e.remedy.is_empty(), "{e}");
        match Key::parse(path, bytes) {
            Ok(key) => assert_eq!(Key::parse(path, &key.to_bytes().unwrap()).unwrap(), key),
            Err(e) => named(e),
        }
        let key = Key::parse(path, KEY).unwrap();
        check(Answers::parse(path, bytes, &key).map_err(named), &key);
        if let Ok(answers) = serde_json::from_slice::<Answers>(bytes) {
            let mut value = serde_json::to_value(&answers).unwrap();
            value["crc32c"] = answers.checksum().into();
            check(Answers::parse(path, value.to_string().as_bytes(), &key).map_err(named), &key);
        }
    });
});

fn check(answers: Result<Answers, ()>, key: &Key) {
    let Ok(answers) = answers else { return };
    let scored = score(key, std::slice::from_ref(&answers)).unwrap();
    let all = scored.preference;
    assert_eq!(all.answers, answers.answers.len() as u64);
    assert!(all.chosen <= all.answers && all.answers <= 2 && all.p <= 1.0);
    assert!(
        0.0 <= all.interval[0]
            && all.interval[0] <= all.share
            && all.share <= all.interval[1]
            && all.interval[1] <= 1.0
    );
    let of_pairs: u64 = scored.pairs.iter().filter_map(|pair| pair.preference).map(|one| one.answers).sum();
    assert_eq!(of_pairs, all.answers);
}
