//! Whether ranks are about to train one and the same network, on the same pieces, in the same way: found out before the first update.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Prepared;
use crate::distributed::{Ranks, Wire};
use crate::files::path_text;
use crate::{Error, Result};

/// The cargo features that change what is computed or how ranks speak to each other.
const FEATURES: &str = if cfg!(feature = "mpi") { "mpi" } else { "none" };

/// What must be the same on all ranks, by what people call it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Passport {
    version: String,
    /// The processor's kind, and a checksum of the program on it.
    build: (String, u32),
    features: String,
    corpus: String,
    /// Settings and configuration, by name.
    configuration: Map<String, Value>,
    /// Of parameters, moments and states.
    state: u32,
}

impl Passport {
    fn of(prepared: &Prepared, wire: Wire) -> Result<Self> {
        let state = &prepared.state;
        let unwritable = |e: serde_json::Error| Error::run(format!("settings as JSON: {e}"), "");
        let mut configuration = Map::new();
        configuration.insert("model".into(), state.model.architecture().into());
        configuration.insert("allreduce".into(), wire.name().into());
        configuration.insert("save_every".into(), prepared.save_every.into());
        let config: Value = serde_json::from_str(&state.model.config()).map_err(unwritable)?;
        let settings = serde_json::to_value(&state.settings).map_err(unwritable)?;
        for fields in [config, settings] {
            configuration.extend(fields.as_object().cloned().unwrap_or_default());
        }
        configuration.insert("split_seed".into(), state.split.seed.into());
        configuration.insert("styles".into(), json!(state.styles));
        configuration.insert("cursor".into(), serde_json::to_value(&state.progress.cursor).map_err(unwritable)?);
        let resume = state.resume.iter().flat_map(|resume| resume.moments.iter().chain(&resume.states));
        let all = [&state.params].into_iter().chain(&state.mean).chain(resume);
        let sum = all.fold(0, |sum, values| crc32c::crc32c_append(sum, bytemuck::cast_slice(values)));
        // What cannot be read is not compared.
        let program = std::env::current_exe().and_then(std::fs::read).unwrap_or_default();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            build: (std::env::consts::ARCH.into(), crc32c::crc32c(&program)),
            features: FEATURES.into(),
            corpus: format!(
                "{:08x}, {} and {} pieces",
                state.corpus.fingerprint,
                prepared.train_files,
                prepared.validation.len()
            ),
            configuration,
            state: sum,
        })
    }

    /// What differs from rank 0's, for people; empty where nothing does.
    fn differences(&self, first: &Self) -> Vec<String> {
        let mut found = vec![];
        let mut differ = |what: &str, own: &dyn std::fmt::Display, other: &dyn std::fmt::Display| {
            let (own, other) = (own.to_string(), other.to_string());
            if own != other {
                found.push(format!("{what} {own}, not {other}"));
            }
        };
        differ("version", &self.version, &first.version);
        differ("the feature set", &self.features, &first.features);
        differ("a corpus of fingerprint", &self.corpus, &first.corpus);
        if self.build.0 == first.build.0 && self.version == first.version {
            let build = |of: &Self| format!("{:08x}", of.build.1);
            differ("a build of checksum", &build(self), &build(first));
        }
        let flat = |of: &Self| {
            let mut fields = Map::new();
            of.configuration.iter().for_each(|(name, value)| flatten(name, value, &mut fields));
            fields
        };
        let (own, first_fields) = (flat(self), flat(first));
        let none = Value::Null;
        let more = own.keys().filter(|name| !first_fields.contains_key(*name));
        let names = first_fields.keys().chain(more);
        for name in names {
            differ(name, own.get(name).unwrap_or(&none), first_fields.get(name).unwrap_or(&none));
        }
        // All else follows from what was named.
        if found.is_empty() && self.state != first.state {
            found.push("other parameters".into());
        }
        found
    }
}

/// The fields of `value`, those within others by the names of both.
fn flatten(name: &str, value: &Value, fields: &mut Map<String, Value>) {
    match value {
        Value::Object(inner) => inner.iter().for_each(|(own, value)| flatten(&format!("{name}.{own}"), value, fields)),
        value => drop(fields.insert(name.into(), value.clone())),
    }
}

/// The run of all ranks, if it is one.
///
/// # Errors
/// A batch that the ranks do not divide; ranks that are not as rank 0, each named with what it has.
pub(super) fn together(mut prepared: Prepared, ranks: &Ranks) -> Result<Prepared> {
    let passports = ranks.all(&Passport::of(&prepared, ranks.wire())?)?;
    let first = &passports[0];
    let mut others: Vec<(Vec<String>, Vec<usize>)> = vec![];
    for (rank, passport) in passports.iter().enumerate() {
        let differences = passport.differences(first);
        match others.iter_mut().find(|(known, _)| *known == differences) {
            _ if differences.is_empty() => {}
            Some((_, ranks)) => ranks.push(rank),
            None => others.push((differences, vec![rank])),
        }
    }
    if !others.is_empty() {
        ranks.all_have_it();
        let each = |(differences, numbers): &(Vec<String>, Vec<usize>)| {
            let has = if numbers.len() == 1 { "has" } else { "have" };
            format!("{} {has} {}", ranks.names_of(numbers), differences.join("; "))
        };
        let others: Vec<String> = others.iter().map(each).collect();
        return Err(Error::usage(
            format!("not all ranks train the same as {}: {}", ranks.name_of(0), others.join("; ")),
            "start one program with the same flags on copies of the same files; where CPUs and GPUs train together, give \
             --preset and --steps, whose defaults depend on the device",
        ));
    }
    divide(&prepared, ranks).inspect_err(|_| ranks.all_have_it())?;
    let out = ranks.from_first(path_text(&prepared.out).into_bytes())?;
    if !ranks.is_first() {
        prepared.out = String::from_utf8_lossy(&out).into_owned().into();
    }
    prepared.ranks = Some(ranks.clone());
    Ok(prepared)
}

/// Fails where a batch has no equal parts for all ranks.
fn divide(prepared: &Prepared, ranks: &Ranks) -> Result<()> {
    let settings = &prepared.state.settings;
    let (batch, size) = (settings.batch, ranks.size());
    if size > batch {
        let what = format!("{size} ranks for a batch of {batch}: there are more ranks than slots");
        let remedy = format!("start at most {batch} ranks, or give --batch {size} or a multiple of it");
        return Err(Error::usage(what, remedy));
    }
    if !batch.is_multiple_of(size) {
        let below = batch / size * size;
        let what = format!("a batch of {batch} has no {size} equal parts, one for each rank");
        let fewer = (1..size).rev().find(|fewer| batch.is_multiple_of(*fewer)).unwrap_or(1);
        let remedy = format!("give --batch {below} or {}, or start {fewer} ranks", below + size);
        return Err(Error::usage(what, remedy));
    }
    let own = batch / size;
    match settings.accumulate.filter(|parts| !own.is_multiple_of(*parts)) {
        None => Ok(()),
        Some(parts) => {
            let what = format!("--accumulate {parts} with {own} slots of the batch on each of {size} ranks");
            Err(Error::usage(what, "give a number of equal parts that these slots have"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let one = Passport {
            version: "0.1.0".into(),
            build: ("x86_64".into(), 1),
            features: "mpi".into(),
            corpus: "0000beef, 8 and 2 pieces".into(),
            configuration: json!({ "seq": 16, "seed": 0 }).as_object().unwrap().clone(),
            state: 7,
        };
        assert_eq!(one.differences(&one), Vec::<String>::new());
        let other = Passport { version: "0.2.0".into(), state: 8, ..one.clone() };
        assert_eq!(other.differences(&one), ["version 0.2.0, not 0.1.0"]);
        let other = Passport { build: ("x86_64".into(), 2), ..one.clone() };
        assert_eq!(other.differences(&one), ["a build of checksum 00000002, not 00000001"]);
        let other = Passport { build: ("aarch64".into(), 2), ..one.clone() };
        assert_eq!(other.differences(&one), Vec::<String>::new(), "another machine has another build");
        let other = Passport { features: "mpi, fast".into(), ..one.clone() };
        assert_eq!(other.differences(&one), ["the feature set mpi, fast, not mpi"]);
        let other = Passport { corpus: "0000cafe, 8 and 2 pieces".into(), ..one.clone() };
        assert_eq!(
            other.differences(&one)[0],
            "a corpus of fingerprint 0000cafe, 8 and 2 pieces, not 0000beef, 8 and 2 pieces"
        );
        let configuration = json!({ "seq": 32, "seed": 0, "ema": 0.5 }).as_object().unwrap().clone();
        let other = Passport { configuration, ..one.clone() };
        assert_eq!(other.differences(&one), ["seq 32, not 16", "ema 0.5, not null"]);
        assert_eq!(Passport { state: 8, ..one.clone() }.differences(&one), ["other parameters"]);
    }
}
