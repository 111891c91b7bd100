//! What a verification says, and its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kernels::harness::comparison::Margin;
use super::kernels::networks::OtherDraw;
use super::kernels::{Pass, Verdict};
use crate::files::refused;
use crate::gpu::{Capabilities, Machine};
use crate::peaks::RooflineLimits;
use crate::{Error, Result};

/// What [`Report::format`] is.
pub const FORMAT: &str = "deepj verify";
/// The version of the schema. It grows with every change after which an older program would misread a report.
pub const VERSION: u32 = 1;
/// The largest file that is read: a thousand times a report.
const MAX_BYTES: u64 = 1 << 28;
/// Characters of an error that are kept: compilers print whole shaders.
const ERROR_CHARS: usize = 600;

/// Whether everything works, and how fast, on the devices of one machine. Names neither the machine nor its user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of this crate.
    pub deepj: String,
    /// The build's [`fingerprint`](super::fingerprint()). Reports have always called it `shaders`.
    pub shaders: String,
    /// Day (UTC), year first.
    pub date: String,
    /// Operating system and processor architecture.
    pub system: String,
    /// Whether all was done that was to be done.
    pub complete: bool,
    /// What the tester should know.
    pub notes: Vec<String>,
    /// The CPU backend first, then adapters.
    pub devices: Vec<DeviceReport>,
}

/// What came of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Name and driver.
    pub machine: Machine,
    /// Limits and features; `None` for the CPU backend.
    pub capabilities: Option<Capabilities>,
    /// Nanoseconds of a tick of the device's clock, where it has one that shaders' times can be taken by.
    pub timestamp_period_ns: Option<f64>,
    /// What was measured of it.
    pub peaks: Option<RooflineLimits>,
    /// By op, kind and variant, in the order in which they ran.
    pub checks: Vec<Row>,
    /// A short training.
    pub training: Option<Training>,
    /// A short piece.
    pub generation: Option<Generation>,
    /// How long things take.
    pub timings: Vec<Timing>,
    /// What went wrong beside checks: a device that cannot be opened, a crash of the driver, an interruption.
    pub failures: Vec<Failure>,
    /// What ran when this was saved, if anything did: what to look at where a machine stood still.
    pub running: Option<String>,
    /// Seconds it took.
    pub seconds: f64,
}

/// All cases of an op in one variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Op and kind, ` / `, variant.
    pub name: String,
    /// Where in training it runs.
    pub pass: Pass,
    /// Cases that ran.
    pub cases: usize,
    /// Cases that are as they must be.
    pub passed: usize,
    /// The largest error as a share of its tolerance, of the cases that passed.
    pub worst: Margin,
    /// Random draws of a generation with another result than the f64 reference's.
    #[serde(rename = "flips")]
    pub other_draws: Vec<OtherDraw>,
    /// The others.
    pub failures: Vec<Failure>,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Which case.
    pub name: String,
    /// What is wrong.
    pub error: String,
    /// Why it is no defect of this program, with a link, where that is known.
    pub known: Option<String>,
}

/// A short training: the small network on the program's own corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The sum of the three losses of each update.
    pub losses: Vec<f64>,
    /// The same on the CPU backend. Reports have always called it `mirror`.
    #[serde(rename = "mirror")]
    pub cpu: Vec<f64>,
    /// The largest difference between the two, relative.
    pub off_by: f64,
    /// How much it may be.
    pub tolerance: f64,
    /// Why it did not end.
    pub error: Option<String>,
    /// Seconds it took.
    pub seconds: f64,
}

/// A short generation by the network that the CPU backend has trained, compared with the f64 reference's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Time steps composed.
    pub steps: usize,
    /// Pieces, one in each style.
    pub pieces: usize,
    /// How far apart probabilities were, as a share of what they may be.
    pub margin: Option<Margin>,
    /// The first random draw of each piece with another result. The others have the same notes to the end.
    #[serde(rename = "flips")]
    pub other_draws: Vec<OtherDraw>,
    /// Why it did not end, or where it is other music without a draw at its probability.
    pub error: Option<String>,
}

/// How long something takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// What.
    pub name: String,
    /// Milliseconds, median.
    pub ms: f64,
    /// 10^9 FLOP a second.
    pub gflops: f64,
    /// In words: updates or time steps a second.
    pub rate: String,
}

impl Training {
    /// Whether the curve is the CPU backend's.
    pub fn works(&self) -> bool {
        self.error.is_none() && self.losses.len() == self.cpu.len() && self.off_by <= self.tolerance
    }
}

impl Row {
    /// A row without cases.
    pub fn new(name: &str, pass: Pass) -> Self {
        let (name, worst) = (name.into(), Margin::none());
        Self { name, pass, cases: 0, passed: 0, worst, other_draws: vec![], failures: vec![] }
    }

    /// The row without its variant.
    pub fn op(&self) -> &str {
        self.name.split(" / ").next().unwrap_or(&self.name)
    }

    /// Enters what came of a case.
    pub fn enter(&mut self, case: &str, verdict: Outcome, other_draws: Vec<OtherDraw>) {
        self.cases += 1;
        self.other_draws.extend(other_draws);
        match verdict {
            Outcome::Passed(margin) => {
                self.passed += 1;
                if margin.share > self.worst.share {
                    self.worst = margin;
                }
            }
            Outcome::Failed { error, known } => self.failures.push(Failure::new(case, &error, known)),
        }
    }
}

/// A [`Verdict`] as one process tells it to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it must be.
    Passed(Margin),
    /// What is wrong, and why where that is known.
    Failed { error: String, known: Option<String> },
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed(margin) => Self::Passed(margin),
            Verdict::Fixed(_, margin) => Self::Passed(margin),
            Verdict::Failed(error) => Self::Failed { error, known: None },
            Verdict::Known(known, error) => {
                Self::Failed { error, known: Some(format!("{} ({})", known.reason, known.link)) }
            }
        }
    }
}

impl Failure {
    /// A failure. The error is cut where it is long; users' folders in it have no names.
    pub fn new(name: &str, error: &str, known: Option<String>) -> Self {
        Self { name: name.into(), error: public(error), known }
    }
}

/// An error as it may be shown to others: what drivers and compilers say may name files, and with them the user.
pub(super) fn public(error: &str) -> String {
    let mut text = error.to_string();
    let folders = ["HOME", "USERPROFILE", "CARGO_HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    // A browser has no files, and its standard library panics over them.
    let temporary = cfg!(not(target_arch = "wasm32")).then(std::env::temp_dir);
    let mut folders: Vec<PathBuf> = folders.chain(std::env::current_dir()).chain(temporary).collect();
    // What is within another goes first.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.as_os_str().len()));
    for folder in folders.iter().filter_map(|folder| folder.to_str()).filter(|folder| folder.len() > 3) {
        text = text.replace(folder, "~").replace(&folder.replace('\\', "\\\\"), "~");
    }
    for parent in ["/home/", "/users/", "\\users\\"] {
        let mut from = 0;
        // Lower case of ASCII alone keeps the places of all bytes.
        while let Some(found) = text.to_ascii_lowercase()[from..].find(parent) {
            let start = from + found + parent.len();
            let start = start + text[start..].len() - text[start..].trim_start_matches('\\').len();
            // A name may hold blanks, so it ends where the folder does.
            let end = text[start..].find(['/', '\\', '\n', '"', '\'', '`']).map_or(text.len(), |len| start + len);
            text.replace_range(start..end, "~");
            from = start;
        }
    }
    match text.char_indices().nth(ERROR_CHARS) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

impl DeviceReport {
    /// Nothing so far.
    pub fn new(machine: Machine, capabilities: Option<Capabilities>) -> Self {
        Self {
            machine,
            capabilities,
            timestamp_period_ns: None,
            peaks: None,
            checks: vec![],
            training: None,
            generation: None,
            timings: vec![],
            failures: vec![],
            running: None,
            seconds: 0.0,
        }
    }

    /// Name and backend.
    pub fn name(&self) -> String {
        self.capabilities.as_ref().map_or_else(|| "CPU backend".into(), ToString::to_string)
    }

    /// Adds what a report of another part has found on the same device. A row that both have is taken from the one with more cases, with
    /// the failures of both.
    pub fn join(&mut self, other: &Self) {
        for row in &other.checks {
            let own = self.row(&row.name, row.pass);
            let mut other = row.clone();
            if other.cases > own.cases {
                std::mem::swap(own, &mut other);
            }
            let new = |failure: &Failure| !own.failures.iter().any(|own| own.name == failure.name);
            let failures: Vec<Failure> = other.failures.into_iter().filter(new).collect();
            own.failures.extend(failures);
            own.passed = own.passed.min(own.cases.saturating_sub(own.failures.len()));
        }
        fn missing<T: Clone>(own: &mut Option<T>, other: &Option<T>) {
            if own.is_none() {
                own.clone_from(other);
            }
        }
        missing(&mut self.peaks, &other.peaks);
        missing(&mut self.training, &other.training);
        missing(&mut self.generation, &other.generation);
        missing(&mut self.timestamp_period_ns, &other.timestamp_period_ns);
        missing(&mut self.running, &other.running);
        let new = |timing: &&Timing| !self.timings.iter().any(|own| own.name == timing.name);
        let timings: Vec<Timing> = other.timings.iter().filter(new).cloned().collect();
        self.timings.extend(timings);
        self.failures.extend(other.failures.iter().cloned());
        self.seconds += other.seconds;
    }

    /// The row of this name, made where it is new.
    pub fn row(&mut self, name: &str, pass: Pass) -> &mut Row {
        let place = self.checks.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.checks.push(Row::new(name, pass));
            self.checks.len() - 1
        });
        &mut self.checks[place]
    }

    /// Cases that ran and cases that passed, by pass.
    pub fn counts(&self) -> BTreeMap<Pass, [usize; 2]> {
        let mut counts = BTreeMap::new();
        for row in &self.checks {
            let [cases, passed] = counts.entry(row.pass).or_insert([0; 2]);
            (*cases, *passed) = (*cases + row.cases, *passed + row.passed);
        }
        counts
    }

    /// Failures that `known.rs` does not list, with those of the short training and the generation.
    pub fn defects(&self) -> Vec<String> {
        let cases: usize = self.checks.iter().map(|row| row.cases).sum();
        let of_checks = self.checks.iter().flat_map(|row| &row.failures);
        let mut defects: Vec<String> = of_checks
            .chain(&self.failures)
            .filter(|failure| failure.known.is_none())
            .map(|Failure { name, error, .. }| format!("{name}: {error}"))
            .collect();
        // A verification that ends, however it ends, leaves nothing running.
        if let Some(running) = &self.running {
            defects.push(format!("{running}: was running when the report was written last, and nothing came after it"));
        }
        if cases == 0 && defects.is_empty() {
            defects.push("no check ran".into());
        }
        if let Some(training) = self.training.as_ref().filter(|training| !training.works()) {
            let Training { off_by, tolerance, error, .. } = training;
            let off = || format!("its losses are off by {off_by:.1e}, {tolerance:.0e} is allowed");
            defects.push(format!("short training: {}", error.clone().unwrap_or_else(off)));
        }
        if let Some(error) = self.generation.as_ref().and_then(|generation| generation.error.as_ref()) {
            defects.push(format!("generation: {error}"));
        }
        defects
    }
}

impl Report {
    /// Of this machine and this build, without a device.
    pub fn new() -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            deepj: env!("CARGO_PKG_VERSION").into(),
            shaders: super::fingerprint().into(),
            date: crate::calendar::today(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            complete: false,
            notes: vec![],
            devices: vec![],
        }
    }

    /// Adds what the tester should know.
    pub fn note(&mut self, note: &str) {
        self.notes.push(public(note));
    }

    /// The devices on which not all is as it must be, by name; that there is none where nothing was verified.
    pub fn failing(&self) -> Vec<String> {
        if self.devices.is_empty() {
            return vec!["no device in it: nothing was verified".into()];
        }
        self.devices.iter().filter(|device| !device.defects().is_empty()).map(DeviceReport::name).collect()
    }

    /// Whether this and another are of one build of the program on one kind of system, so that what they say of a device is of one
    /// thing.
    pub fn is_of_build(&self, other: &Self) -> bool {
        (&self.system, &self.shaders, &self.deepj) == (&other.system, &other.shaders, &other.deepj)
    }

    /// Reads a report of this version.
    ///
    /// # Errors
    /// A file that cannot be read, is no report, or is one of another version.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = |e| refused(path, "read", &e);
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(Error::file(
                path,
                "is not a file of a report's size",
                "give a file of `deepj verify --report`",
            ));
        }
        Self::parse(path, &std::fs::read(path).map_err(unreadable)?)
    }

    /// The report in `bytes`; errors call it `name`.
    ///
    /// # Errors
    /// What is no report, or one of another version: names line and column.
    pub fn parse(name: &Path, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Beginning {
            format: Option<String>,
            version: Option<u32>,
        }
        const GIVE: &str = "give a file that `deepj verify --report FILE` has written";
        let not = |e: serde_json::Error| Error::file(name, format!("is no report of deepj verify ({e})"), GIVE);
        match serde_json::from_slice(bytes).map_err(not)? {
            Beginning { format: Some(format), version: Some(VERSION) } if format == FORMAT => (),
            Beginning { format: Some(format), version: Some(version) } if format == FORMAT => {
                let what = format!("a report of version {version}, where this program reads version {VERSION}");
                return Err(Error::file(
                    name,
                    what,
                    "verify again with this program, or read it with the one that wrote it",
                ));
            }
            Beginning { format, .. } => {
                let what = format!("its format is `{}`, not `{FORMAT}`", format.unwrap_or_default());
                return Err(Error::file(name, what, GIVE));
            }
        }
        serde_json::from_slice(bytes).map_err(not)
    }

    /// As JSON.
    ///
    /// # Errors
    /// None that is known of: all numbers are finite, all keys are text.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map_err(|e| Error::run(format!("the report cannot be written as JSON: {e}"), "")).map(|text| text + "\n")
    }

    /// Writes it as a whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::files::write_whole(path, self.to_json()?.as_bytes())
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}
