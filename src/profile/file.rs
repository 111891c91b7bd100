//! Profiles as files: [`Record`]s as lines of JSON, written and read back.

use std::path::Path;

use serde::Deserialize;

use super::report::{FORMAT, Header, Kernel, Profile, Record, Summary, VERSION};
use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::peaks::RooflineLimits;

/// The largest file that is read: hundreds of times a profile of many runs.
const MAX_BYTES: u64 = 1 << 30;
/// What to do about a file that is no whole profile.
const AGAIN: &str = "profile again, for example with `deepj profile train --format jsonl -o FILE`";

/// What every first record says, whatever its version.
#[derive(Deserialize)]
struct Beginning {
    record: String,
    format: Option<String>,
    version: Option<u64>,
}

impl Profile {
    /// The profile as lines of JSON: the header, kernels, gaps, last the summary. Spans are left out.
    pub fn to_jsonl(&self) -> String {
        let header = Record::Header(self.header.clone());
        let kernels = self.kernels.iter().cloned().map(Record::Kernel);
        let gaps = self.gaps.iter().cloned().map(Record::Gap);
        let records = std::iter::once(header).chain(kernels).chain(gaps);
        let line = |record| format!("{}\n", serde_json::to_string(&record).expect("numbers and text are JSON"));
        records.chain([Record::Summary(self.summary.clone())]).map(line).collect()
    }

    /// Reads a profile that was written by this version's [`Profile::to_jsonl`].
    ///
    /// # Errors
    /// A file that cannot be read; one that is no profile, of another version, or not whole: names the line.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_jsonl(path, &read_bounded(path, MAX_BYTES, "give the path of a profile")?)
    }

    /// The profile in `bytes`; errors call it `name`.
    ///
    /// # Errors
    /// What is no profile, of another version, or not whole: names the line.
    pub fn from_jsonl(name: &Path, bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
            Error::file(name, format!("line {line}: is not text (UTF-8)"), "give a profile in JSON lines")
        })?;
        let mut lines = text.lines().zip(1..).map(|(line, number)| Line { name, number, text: line });
        let Some(first) = lines.next() else {
            return Err(Error::file(name, "is empty", AGAIN));
        };
        let header = first.header()?;
        let (mut kernels, mut gaps, mut summary): (Vec<Kernel>, _, Option<Summary>) = (vec![], vec![], None);
        for line in lines {
            let record = line.record()?;
            if summary.is_some() {
                return Err(line.broken("a record after the summary, which is the last of a profile"));
            }
            match record {
                Record::Header(_) => {
                    return Err(line.refused("a second header: two profiles in one file", "keep each in its own file"));
                }
                Record::Kernel(_) if !gaps.is_empty() => {
                    return Err(line.broken("a kernel after a gap: the records are not in order"));
                }
                Record::Kernel(kernel) => kernels.push(kernel),
                Record::Gap(gap) => gaps.push(gap),
                Record::Summary(the) => summary = Some(the),
            }
        }
        let Some(summary) = summary else {
            let what = format!("line {}: ends without a summary, profiling was interrupted", text.lines().count());
            return Err(Error::file(name, what, AGAIN));
        };
        Ok(Self { header, kernels, gaps, summary, spans: vec![] })
    }
}

/// A line of the file `name`.
struct Line<'a> {
    name: &'a Path,
    number: usize,
    text: &'a str,
}

impl Line<'_> {
    fn refused(&self, what: &str, remedy: &str) -> Error {
        Error::file(self.name, format!("line {}: {what}", self.number), remedy)
    }

    fn broken(&self, what: &str) -> Error {
        self.refused(what, AGAIN)
    }

    /// The first record.
    fn header(&self) -> Result<Header> {
        let not = |what: &str| self.refused(what, "give a file written by `deepj profile --format jsonl`");
        let beginning: Beginning = serde_json::from_str(self.text)
            .map_err(|e| not(&format!("is no record of a profile ({})", without_line(&e))))?;
        match (beginning.record.as_str(), beginning.format.as_deref(), beginning.version) {
            ("header", Some(FORMAT), Some(version)) if version != u64::from(VERSION) => Err(self.refused(
                &format!("a profile of version {version}, where this program reads version {VERSION}"),
                "profile again with this program, or compare with the one that wrote it",
            )),
            ("header", Some(FORMAT), Some(_)) => match self.record()? {
                Record::Header(header) => Ok(header),
                _ => Err(not("is no header")),
            },
            ("header", format, _) => {
                Err(not(&format!("is a header of `{}`, not of `{FORMAT}`", format.unwrap_or_default())))
            }
            (record, ..) => Err(not(&format!("is a record `{record}` where a profile has its header"))),
        }
    }

    /// The record, its figures checked.
    fn record(&self) -> Result<Record> {
        let record: Record = serde_json::from_str(self.text)
            .map_err(|e| self.broken(&format!("is no record of a profile ({})", without_line(&e))))?;
        let wrong = match &record {
            Record::Header(Header { peaks, .. }) => wrong_peak(peaks),
            Record::Kernel(kernel) if kernel.samples_us.is_empty() => {
                return Err(self.broken(&format!("the kernel `{}` has no samples", kernel.shape)));
            }
            // A clock too coarse for it, or one that stands still: no ratio can be made of that.
            Record::Kernel(kernel) if kernel.samples_us.iter().all(|time| *time == 0.0) => {
                return Err(self.broken(&format!("all samples of the kernel `{}` are 0 us", kernel.shape)));
            }
            Record::Kernel(k) => negative(&[
                ("total_ms", &[k.total_ms]),
                ("share", &[k.share]),
                ("min_us", &[k.min_us]),
                ("p50_us", &[k.p50_us]),
                ("p95_us", &[k.p95_us]),
                ("compile_ms", k.compile_ms.as_slice()),
                ("encode_us", k.encode_us.as_slice()),
                ("samples_us", &k.samples_us),
            ]),
            // What is unaccounted may be negative, and JSON has no other number to refuse.
            Record::Gap(_) => None,
            Record::Summary(summary) if summary.samples_ms.is_empty() => {
                return Err(self.broken("the summary has no samples"));
            }
            Record::Summary(summary) if summary.samples_ms.contains(&0.0) || summary.step_ms == 0.0 => {
                return Err(self.broken("the summary has a time of 0 ms"));
            }
            Record::Summary(s) => {
                negative(&[("step_ms", &[s.step_ms]), ("profiled_ms", &[s.profiled_ms]), ("samples_ms", &s.samples_ms)])
            }
        };
        match wrong {
            Some((field, value)) => {
                Err(self.broken(&format!("`{field}` is {value}, where only finite numbers from 0 make sense")))
            }
            None => Ok(record),
        }
    }
}

/// The first of these figures that is no time.
fn negative<'a>(fields: &[(&'a str, &[f64])]) -> Option<(&'a str, f64)> {
    let bad = |x: &&f64| !(x.is_finite() && **x >= 0.0);
    fields.iter().find_map(|(name, values)| values.iter().find(bad).map(|&value| (*name, value)))
}

fn wrong_peak(p: &RooflineLimits) -> Option<(&'static str, f64)> {
    negative(&[
        ("f32_gflops", &[p.f32_gflops]),
        ("f16_gflops", p.f16_gflops.as_slice()),
        ("matrix_gflops", p.matrix_gflops.as_slice()),
        ("bandwidth_gbs", &[p.bandwidth_gbs]),
        ("workgroup_gbs", p.workgroup_gbs.as_slice()),
        ("cache_gbs", p.cache_gbs.as_slice()),
        ("launch_us", &[p.launch_us]),
        ("readback_us", &[p.readback_us]),
    ])
}

/// What serde_json says, but for its place: to it every line is line 1.
fn without_line(e: &serde_json::Error) -> String {
    let text = e.to_string();
    match text.rsplit_once(" at line 1 ") {
        Some((what, place)) => format!("{what} at {place}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::fixtures;

    fn parse(text: impl AsRef<[u8]>) -> Result<Profile> {
        Profile::from_jsonl(Path::new("a.jsonl"), text.as_ref())
    }

    /// The error of `text`, which names the file and holds `wanted`.
    fn refused(text: impl AsRef<[u8]>, wanted: &[&str]) {
        let e = parse(text).unwrap_err().to_string();
        assert!(e.starts_with("a.jsonl: ") && e.lines().count() == 2, "{e}");
        for text in wanted {
            assert!(e.contains(text), "no '{text}' in: {e}");
        }
    }

    fn text() -> String {
        fixtures::profile(&[("gemm", "gemm NN 2x2x2", &[1.0, 2.5, 2.0]), ("add", "add 4", &[0.1, 0.2, 0.3])]).to_jsonl()
    }

    #[test]
    fn what_is_written_is_read_back_but_for_the_spans() {
        let profile = fixtures::profile(&[("gemm", "gemm NN 2x2x2", &[1.0 / 3.0, 2.5e-7, 1e9])]);
        let text = profile.to_jsonl();
        let records: Vec<_> =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
        let names: Vec<_> = records.iter().map(|record| record["record"].as_str().unwrap()).collect();
        assert_eq!(names, ["header", "kernel", "gap", "summary"]);
        assert_eq!((records[0]["format"].as_str(), records[0]["version"].as_u64()), (Some(FORMAT), Some(1)));
        assert!(records[3]["step_ms"].is_f64());
        assert_eq!(parse(&text).unwrap(), Profile { spans: vec![], ..profile });
        assert!(parse(text.replace('\n', "\r\n")).is_ok());
    }

    #[test]
    fn every_cut_is_refused() {
        let text = text();
        // The last character ends a line, which may be missing.
        for end in 0..text.len() - 1 {
            refused(&text[..end], &[]);
        }
        refused("", &["is empty", "deepj profile train"]);
        let end = text.lines().take(4).map(|line| line.len() + 1).sum();
        refused(&text[..end], &["line 4", "without a summary", "interrupted"]);
        refused(&text[..end - 10], &["line 4", "no record", "column"]);
    }

    #[test]
    fn other_files_and_versions_are_told_apart() {
        let text = text();
        refused("hello\n", &["line 1", "no record of a profile"]);
        refused(r#"{"step":1,"loss":2.0}"#, &["line 1", "missing field `record`", "--format jsonl"]);
        refused("[]", &["line 1"]);
        refused("\n\n", &["line 1"]);
        refused(text.replace("deepj profile", "deepj tuning"), &["line 1", "`deepj tuning`"]);
        refused(text.lines().skip(1).collect::<Vec<_>>().join("\n"), &["line 1", "`kernel` where", "header"]);
        // Whatever else another version says.
        let newer = text.replace("\"version\":1", "\"version\":2").replace("\"runs\"", "\"repetitions\"");
        refused(newer, &["line 1", "version 2", "version 1", "profile again"]);
        refused(text.replace("\"version\":1", "\"version\":-1"), &["line 1"]);
        refused([text.as_bytes(), b"\xff"].concat(), &["line 6", "not text"]);
    }

    #[test]
    fn records_out_of_order_are_refused() {
        let text = text();
        let lines: Vec<_> = text.lines().collect();
        let join = |order: &[usize]| order.iter().map(|&i| format!("{}\n", lines[i])).collect::<String>();
        assert!(parse(join(&[0, 1, 2, 3, 4])).is_ok());
        refused(join(&[0, 1, 3, 2, 4]), &["line 4", "kernel after a gap"]);
        refused(join(&[0, 1, 4, 2]), &["line 4", "after the summary"]);
        refused(join(&[0, 1, 4, 4]), &["line 4", "after the summary"]);
        refused(join(&[0, 1, 0, 1, 4]), &["line 3", "second header"]);
        refused(text.replacen('\n', "\n\n", 1), &["line 2", "no record"]);
    }

    #[test]
    fn figures_that_are_no_times_are_refused() {
        let text = text();
        let times = "\"samples_us\":[1.0,2.5,2.0]";
        assert!(text.contains(times));
        for (bad, wanted) in
            [("-2.5", "`samples_us` is -2.5"), ("NaN", "line 2"), ("null", "line 2"), ("1e999", "line 2")]
        {
            refused(text.replace(times, &format!("\"samples_us\":[1.0,{bad}]")), &["line 2", wanted, "profile again"]);
        }
        refused(text.replace(times, "\"samples_us\":[]"), &["line 2", "`gemm NN 2x2x2` has no samples"]);
        refused(
            text.replace(times, "\"samples_us\":[0.0,0.0]"),
            &["line 2", "all samples of", "are 0 us", "profile again"],
        );
        assert!(parse(text.replace(times, "\"samples_us\":[0.0,1.0]")).is_ok());
        refused(text.replace("\"samples_ms\":[", "\"samples_ms\":[0.0,"), &["line 5", "a time of 0 ms"]);
        refused(text.replace("\"step_ms\":", "\"step_ms\":-"), &["line 5", "`step_ms` is -"]);
        refused(text.replace("\"launch_us\":", "\"launch_us\":-"), &["line 1", "`launch_us` is -"]);
        let unwritable = fixtures::profile(&[("add", "add 4", &[f64::NAN])]).to_jsonl();
        refused(unwritable, &["line 2", "null"]);
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let e = Profile::read(folder.path()).unwrap_err().to_string();
        assert!(e.contains("not an ordinary file"), "{e}");
        let e = Profile::read(&folder.path().join("none.jsonl")).unwrap_err().to_string();
        assert!(e.contains("none.jsonl: cannot be read") && e.contains("check the path"), "{e}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(bytes);
        }

        #[test]
        fn no_change_of_a_profile_makes_it_panic(place in any::<prop::sample::Index>(), bytes in proptest::collection::vec(any::<u8>(), 1..4)) {
            let mut text = text().into_bytes();
            let place = place.index(text.len());
            let end = text.len().min(place + bytes.len());
            text.splice(place..end, bytes);
            let _ = parse(text);
        }
    }
}
