//! `deepj profile ab`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use deepj::profile::Profile;
use deepj::profile::ab::{MOST, PILOT, Pairs, Ratio, Verdict};
use deepj::profile::compare::comparable;
use deepj::{Error, Result};
use serde::Serialize;

use crate::cli::{say, say_json, tell};

/// Time two variants, settings or programs in turn, and say which is faster
#[derive(clap::Args)]
#[command(after_help = "\
Each pair is two processes, one of each side, A before B and B before A in turn. After four pairs it says how many the
precision takes, and makes as many, 60 at most.

Examples:
  deepj profile ab --a=\"--variant gemm=tiled\" --b=\"--variant gemm=direct\" -- train
  deepj profile ab --a=\"--batch 1\" --b=\"--batch 1 --recompute\" --precision 5 -- train --device cpu
  deepj profile ab --program-a ../before/target/release/deepj -- generate --device cpu")]
pub struct Ab {
    /// What A alone has: arguments of `deepj profile`
    #[arg(long, value_name = "ARGUMENTS", default_value = "", allow_hyphen_values = true)]
    a: String,
    /// What B alone has
    #[arg(long, value_name = "ARGUMENTS", default_value = "", allow_hyphen_values = true)]
    b: String,
    /// The program that runs A [default: this one]
    #[arg(long, value_name = "FILE")]
    program_a: Option<PathBuf>,
    /// The program that runs B [default: this one]
    #[arg(long, value_name = "FILE")]
    program_b: Option<PathBuf>,
    /// A difference in percent that does not matter, to which the ratio is to be known
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = super::compare::percent)]
    precision: f64,
    /// Make so many pairs instead of as many as the precision takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=1000))]
    pairs: Option<u16>,
    /// Profiled runs of each process
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// What both do, with what both have: train, generate, or op NAME
    #[arg(last = true, value_name = "WHAT", default_value = "train")]
    what: Vec<String>,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    a: &'a str,
    b: &'a str,
    what: &'a [String],
    precision: f64,
    /// Milliseconds of a step, pair by pair.
    #[serde(flatten)]
    pairs: &'a Pairs,
    #[serde(flatten)]
    ratio: Ratio,
}

impl Ab {
    pub fn run(self) -> Result<()> {
        let programs = [&self.program_a, &self.program_b].map(|program| match program {
            Some(program) => Ok(program.clone()),
            None => std::env::current_exe().map_err(|e| {
                Error::run(format!("the path of this program: {e}"), "name it with --program-a and --program-b")
            }),
        });
        let [first, second] = programs;
        let programs = [first?, second?];
        if programs[0] == programs[1] && self.a == self.b {
            return Err(Error::usage(
                "A and B are the same",
                "tell them apart with --a, --b, --program-a or --program-b",
            ));
        }
        let folder = tempfile::tempdir()
            .map_err(|e| Error::run(format!("a folder for profiles: {e}"), "see to the disk, or set TMPDIR"))?;
        let file = folder.path().join("profile.jsonl");
        let precision = self.precision / 100.0;
        let (mut pairs, began) = (Pairs::default(), Instant::now());
        // What each side's first process ran.
        let mut firsts: [Option<Profile>; 2] = [None, None];
        let mut wanted = self.pairs.map_or(PILOT, usize::from);
        while pairs.times.len() < wanted {
            let mut times = [0.0; 2];
            let order = if pairs.times.len().is_multiple_of(2) { [0, 1] } else { [1, 0] };
            for side in order {
                let profile = self.profiled(side, &programs[side], &file)?;
                times[side] = profile.summary.step_ms;
                match &firsts[side] {
                    Some(first) if shapes(first) != shapes(&profile) => {
                        return Err(Error::run(
                            format!("{} did not run the same in all its processes", ["A", "B"][side]),
                            "give sizes that do not depend on what is measured of the device (--shape, --batch, --seq)",
                        ));
                    }
                    Some(_) => {}
                    None => firsts[side] = Some(profile),
                }
            }
            if let (0, [Some(a), Some(b)]) = (pairs.times.len(), &firsts) {
                differences(a, b).iter().for_each(|note| tell(format_args!("note: {note}")));
            }
            pairs.times.push(times);
            let (n, [a, b]) = (pairs.times.len(), times);
            let seconds = began.elapsed().as_secs_f64() / n as f64;
            let [a, b] = [a, b].map(milliseconds);
            tell(format_args!("pair {n} of {wanted}: A {a}, B {b} a step; {seconds:.1} s a pair"));
            if n == PILOT && self.pairs.is_none() {
                let needed = pairs.needed(precision);
                wanted = needed.clamp(PILOT, MOST);
                let minutes = seconds * wanted.saturating_sub(n) as f64 / 60.0;
                tell(format_args!(
                    "a precision of {} % takes {needed} pairs by these; {wanted} are made, {minutes:.1} minutes more",
                    self.precision
                ));
            }
        }
        let ratio = pairs.ratio(precision);
        match self.json {
            true => say_json(&Report {
                a: &self.a,
                b: &self.b,
                what: &self.what,
                precision: self.precision,
                pairs: &pairs,
                ratio,
            }),
            false => {
                self.say_ratio(&pairs, ratio);
                Ok(())
            }
        }
    }

    fn say_ratio(&self, pairs: &Pairs, ratio: Ratio) {
        let percent = |part: f64| format!("{:+.1} %", 100.0 * part);
        let bounds =
            ratio.interval.map_or("not known".into(), |[low, high]| format!("{} to {}", percent(low), percent(high)));
        say(format_args!(
            "B takes {:.3} times as long as A, {} (95 % interval {bounds}, {} pairs)",
            1.0 + ratio.change,
            percent(ratio.change),
            pairs.times.len()
        ));
        say(match ratio.verdict {
            Verdict::Faster => "verdict: B is faster".to_string(),
            Verdict::Slower => "verdict: B is slower".into(),
            Verdict::Same => format!("verdict: the same to {} %", self.precision),
            Verdict::Undecided => {
                let (precision, needed) = (self.precision, pairs.needed(self.precision / 100.0));
                let enough = if needed > pairs.times.len() && needed < 10_000 {
                    format!(", about {needed} if they vary as these did,")
                } else {
                    String::new()
                };
                format!("verdict: undecided; more pairs (--pairs){enough} or a coarser --precision than {precision} %")
            }
        });
    }

    /// A profile of one side, by a process of its own.
    fn profiled(&self, side: usize, program: &Path, file: &Path) -> Result<Profile> {
        // That of the process before would be taken for this one's.
        if let Err(e) = std::fs::remove_file(file)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::file(file, e.to_string(), "see to the disk, or set TMPDIR"));
        }
        let own = [&self.a, &self.b][side];
        let mut command = Command::new(program);
        command.arg("profile").args(&self.what).args(own.split_whitespace());
        command.args(["--runs", &self.runs.to_string(), "--format", "jsonl", "-o"]).arg(file);
        let name = ["A", "B"][side];
        let ran = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
        let output = ran
            .map_err(|e| Error::run(format!("{name}: {}: {e}", program.display()), "name a program that can be run"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::run(
                format!("{name} failed ({}): {}", output.status, said.trim()),
                format!("try it alone: {command:?}"),
            ));
        }
        if !file.exists() {
            let what = format!("{name}: {} ended well and wrote no profile", program.display());
            return Err(Error::run(what, format!("name a deepj, or what passes all arguments on to one: {command:?}")));
        }
        Profile::read(file)
    }
}

/// The shapes that were profiled, with their kernels.
fn shapes(profile: &Profile) -> BTreeSet<(&str, &str)> {
    profile.kernels.iter().map(|kernel| (kernel.kernel.as_str(), kernel.shape.as_str())).collect()
}

/// In what the work of two sides differs.
fn differences(a: &Profile, b: &Profile) -> Vec<String> {
    let mut notes = vec![];
    if let Err(e) = comparable(&a.header, &b.header) {
        notes.push(e.what);
    }
    let [of_a, of_b] = [a, b].map(shapes);
    let alone: Vec<&str> = of_a.symmetric_difference(&of_b).map(|(_, shape)| *shape).collect();
    match &alone[..] {
        [] => {}
        [one] => notes.push(format!("A and B do other work: one of them alone has {one}")),
        [one, others @ ..] => {
            let others = others.len();
            notes.push(format!("A and B do other work: one of them alone has {one}, and so with {others} more"));
        }
    }
    notes
}

/// A time in words, with digits enough for a short one.
fn milliseconds(ms: f64) -> String {
    if ms < 1.0 { format!("{:.3} us", 1e3 * ms) } else { format!("{ms:.3} ms") }
}
