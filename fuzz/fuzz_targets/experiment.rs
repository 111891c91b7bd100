//! Files of experiments: what is accepted has runs, each with a configuration and a seed of the file, and is the same when it is read
//! again; what is not has an error that names the file and a remedy.

#![no_main]

use std::path::Path;

use deepj::experiment::Experiment;
use deepj_fuzz::within;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    within(1024 * text.len() + (1 << 20), || {
        let parse = || Experiment::parse(Path::new("folder/experiment.toml"), text.into());
        match parse() {
            Ok(experiment) => {
                let runs = experiment.runs();
                assert_eq!(runs.len(), experiment.seeds.len() * experiment.configurations.len());
                for &run in &runs {
                    let options = experiment.options(run, None);
                    assert!(options.seed.is_some_and(|seed| experiment.seeds.contains(&seed)));
                }
                assert!(experiment.find(&experiment.baseline).is_some());
                let again = parse().unwrap();
                assert_eq!((again.configurations, again.claims), (experiment.configurations, experiment.claims));
            }
            Err(e) => assert!(e.what.starts_with("folder/experiment.toml") && !e.remedy.is_empty(), "{e}"),
        }
    });
});
