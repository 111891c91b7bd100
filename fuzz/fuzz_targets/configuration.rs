//! Configurations and the other metadata of checkpoints, one JSON text a line, and single fields as `--set` gives them: what is read
//! is the same when it is written and read again, and memory does not follow the sizes that a configuration asks for.

#![no_main]

use std::fmt::Debug;

use deepj::checkpoint::{CorpusInfo, Progress, Settings};
use deepj::models::{self, CorpusFacts, Model};
use deepj::music::{Split, Styles};
use deepj_fuzz::within;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|text: &str| {
    let most = 1024 * text.len() + (1 << 20);
    within(most, || {
        let mut set = vec![];
        for line in text.lines() {
            if let Ok(config) = serde_json::from_str::<serde_json::Value>(line) {
                for name in ["deepj", "biaxial"] {
                    models::architecture(name)
                        .unwrap()
                        .model(config.clone())
                        .iter()
                        .for_each(|model| same_model(&**model));
                }
            }
            same_again::<Settings>(line);
            same_again::<Progress>(line);
            same_again::<CorpusInfo>(line);
            same_again::<Split>(line);
            same_again::<Styles>(line);
            set.extend(line.split_once('=').map(|(name, value)| (name.to_string(), value.to_string())));
        }
        let corpus = CorpusFacts { lowest: 36, notes: 48, styles: 6 };
        match models::configure(models::architecture(models::DEFAULT).unwrap(), "small", corpus, &set) {
            Ok(model) => same_model(&*model),
            Err(e) => assert!(!e.what.is_empty() && !e.remedy.is_empty(), "{e}"),
        }
    });
});

fn same_model(model: &(dyn Model + 'static)) {
    let config = serde_json::from_str(&model.config()).unwrap();
    let again = models::architecture(model.architecture()).unwrap().model(config).unwrap();
    assert!(*again == *model, "{} became {}", model.config(), again.config());
    assert_eq!(again.layout(), model.layout());
    assert_eq!(again.states(3), model.states(3));
}

fn same_again<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &str) {
    if let Ok(value) = serde_json::from_str::<T>(text) {
        let written = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<T>(&written).unwrap(), value);
    }
}
