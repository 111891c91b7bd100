//! A profile as a trace: spans of time on a track for the GPU and one for the CPU.
//!
//! The format is Chrome's (*Trace Event Format*, N. Duca and D. Sinclair, 2016, JSON object format), which Perfetto reads
//! too: complete events (`X`) with microseconds since the run began, and metadata events (`M`) that name the tracks. On one
//! track, viewers take what begins within a span for a part of it, so that no two spans may overlap otherwise.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::table::{clock, digits, times};
use super::{Kernel, Profile, Span, Track};

/// The one process of the trace. No track has its number: viewers take such a one for the process's main thread.
const PROCESS: u32 = 1;

/// The document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    display_time_unit: &'static str,
    other_data: BTreeMap<&'static str, String>,
    trace_events: Vec<Event<'a>>,
}

/// An event.
#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    ph: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u32,
    tid: u32,
    args: Value,
}

/// The spans of the profile as JSON in Chrome's trace-event format, to be opened in <https://ui.perfetto.dev> or in
/// `chrome://tracing`.
///
/// Arguments of a kernel's span bear the names that they have in the profile's file; rates and times among them are those of
/// the median call. Spans that overlap without one being part of the other, as dispatches of some GPUs do, stand on further
/// tracks.
pub fn trace(profile: &Profile) -> String {
    let mut events = vec![metadata("process_name", 0, json!({"name": format!("deepj {}", profile.header.plan)}))];
    let mut spans = vec![];
    let mut tracks = PROCESS;
    for (track, title) in [(Track::Gpu, "GPU"), (Track::Cpu, "CPU")] {
        for (i, lane) in lanes(profile.spans.iter().filter(|span| span.track == track)).into_iter().enumerate() {
            tracks += 1;
            let name = if i == 0 { title.into() } else { format!("{title}, overlapping {i}") };
            events.push(metadata("thread_name", tracks, json!({"name": name})));
            events.push(metadata("thread_sort_index", tracks, json!({"sort_index": tracks})));
            spans.extend(lane.into_iter().map(|placed| (tracks, placed)));
        }
    }
    events.extend(spans.into_iter().map(|(tid, Placed { span, begin, end })| {
        let kernel = span.kernel.and_then(|kernel| profile.kernels.get(kernel));
        Event {
            name: &span.name,
            cat: Some(if kernel.is_some() { "kernel" } else { "host" }),
            ph: "X",
            ts: Some(begin as f64 / 1e3),
            dur: Some(end.saturating_sub(begin) as f64 / 1e3),
            pid: PROCESS,
            tid,
            args: kernel.map_or_else(|| json!({}), arguments),
        }
    }));
    let header = &profile.header;
    let other_data = BTreeMap::from([
        ("format", header.format.clone()),
        ("version", header.version.to_string()),
        ("what", header.what.clone()),
        ("plan", header.plan.clone()),
        ("preset", header.preset.clone()),
        ("precision", header.precision.clone()),
        ("machine", header.machine.to_string()),
        ("deepj", header.machine.deepj.clone()),
        ("clock", clock(header).into()),
        ("runs", header.runs.to_string()),
        ("step_ms", digits(profile.summary.step_ms)),
    ]);
    // Nanoseconds are the unit of what viewers display; times of events are microseconds in any case.
    let document = Document { display_time_unit: "ns", other_data, trace_events: events };
    // Keys are strings and numbers are finite: nothing here can fail.
    serde_json::to_string(&document).unwrap_or_default()
}

fn metadata(name: &'static str, tid: u32, args: Value) -> Event<'static> {
    Event { name, cat: None, ph: "M", ts: None, dur: None, pid: PROCESS, tid, args }
}

fn arguments(kernel: &Kernel) -> Value {
    json!({
        "kernel": kernel.kernel,
        "variant": kernel.variant,
        "shape": kernel.shape,
        "flops": kernel.flops,
        "bytes": kernel.bytes,
        "intensity": kernel.intensity,
        "p50_us": kernel.p50_us,
        "gflops": kernel.gflops,
        "gbs": kernel.gbs,
        "flop_share": kernel.flop_share,
        "bandwidth_share": kernel.bandwidth_share,
        "bound": kernel.bound,
        "workgroups": times(kernel.workgroups),
        "workgroup_size": times(kernel.workgroup_size),
        "workgroup_bytes": kernel.workgroup_bytes,
    })
}

/// A span in whole nanoseconds, so that rounding cannot make neighbours overlap.
struct Placed<'a> {
    span: &'a Span,
    begin: i64,
    end: i64,
}

/// The spans, those that begin first first and outer ones before inner ones, on as many lanes as it takes for no two to
/// overlap unless one contains the other.
fn lanes<'a>(spans: impl Iterator<Item = &'a Span>) -> Vec<Vec<Placed<'a>>> {
    // Conversion to integers saturates, and has 0 for what is no number.
    let nanoseconds = |us: f64| (us * 1e3).round() as i64;
    let place = |span: &'a Span| {
        let begin = nanoseconds(span.start_us);
        Placed { span, begin, end: nanoseconds(span.start_us + span.duration_us).max(begin) }
    };
    let mut placed: Vec<Placed> = spans.map(place).collect();
    placed.sort_by_key(|placed| (placed.begin, Reverse(placed.end)));
    let mut lanes: Vec<(Vec<Placed>, Vec<i64>)> = vec![];
    for span in placed {
        let free = lanes.iter_mut().find_map(|(lane, open)| {
            // The ends of spans that have not ended, innermost last.
            while open.last().is_some_and(|&end| end <= span.begin) {
                open.pop();
            }
            open.last().is_none_or(|&end| span.end <= end).then_some((lane, open))
        });
        match free {
            Some((lane, open)) => {
                open.push(span.end);
                lane.push(span);
            }
            None => {
                let open = vec![span.end];
                lanes.push((vec![span], open));
            }
        }
    }
    lanes.into_iter().map(|(lane, _)| lane).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::step;
    use super::*;

    fn events(profile: &Profile) -> Vec<Value> {
        let document: Value = serde_json::from_str(&trace(profile)).expect("valid JSON");
        document["traceEvents"].as_array().expect("events").clone()
    }

    /// The event's begin and end in nanoseconds.
    fn times_of(event: &Value) -> [i64; 2] {
        let nanoseconds = |field: &str| (event[field].as_f64().expect(field) * 1e3).round() as i64;
        [nanoseconds("ts"), nanoseconds("ts") + nanoseconds("dur")]
    }

    /// Checks what the format asks of every event, and gives the names of the tracks.
    fn check(events: &[Value]) -> BTreeMap<u64, String> {
        let mut names = BTreeMap::new();
        let mut open: BTreeMap<u64, (i64, Vec<i64>)> = BTreeMap::new();
        for event in events {
            assert!(event["name"].is_string() && event["args"].is_object(), "{event}");
            assert_eq!(event["pid"], 1);
            let track = event["tid"].as_u64().expect("a track");
            match event["ph"].as_str().expect("a phase") {
                "M" => {
                    if event["name"] == "thread_name" {
                        assert_eq!(names.insert(track, event["args"]["name"].as_str().unwrap().into()), None);
                    }
                }
                "X" => {
                    assert!(names.contains_key(&track), "{event} stands on a track without a name");
                    let [begin, end] = times_of(event);
                    let (before, open) = open.entry(track).or_default();
                    assert!(begin >= *before && end >= begin, "{event} goes back in time");
                    *before = begin;
                    open.retain(|&outer| outer > begin);
                    assert!(open.iter().all(|&outer| end <= outer), "{event} overlaps what is not around it");
                    open.push(end);
                }
                phase => panic!("phase {phase}"),
            }
        }
        names
    }

    #[test]
    fn a_trace_has_named_tracks_and_every_span() {
        let profile = step(12);
        let document: Value = serde_json::from_str(&trace(&profile)).unwrap();
        assert_eq!(document["displayTimeUnit"], "ns");
        let other = &document["otherData"];
        assert_eq!(other["machine"], "Accelerator <X> [vulkan, Driver 1.2.3]");
        assert_eq!([&other["plan"], &other["format"], &other["version"]], ["train B=16 T=128", "deepj profile", "1"]);

        let events = events(&profile);
        let names = check(&events);
        assert_eq!(names.values().collect::<Vec<_>>(), ["GPU", "CPU"]);
        assert_eq!(events[0]["name"], "process_name");
        assert_eq!(events[0]["args"]["name"], "deepj train B=16 T=128");
        let drawn: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(drawn.len(), profile.spans.len());
        for span in &profile.spans {
            let wanted = [span.start_us, span.start_us + span.duration_us].map(|us| (us * 1e3).round() as i64);
            let event = drawn.iter().find(|event| event["name"] == *span.name && times_of(event) == wanted);
            let event = event.unwrap_or_else(|| panic!("no event for {span:?}"));
            let track = if span.track == Track::Gpu { "GPU" } else { "CPU" };
            assert_eq!(names[&event["tid"].as_u64().unwrap()], track);
            let Some(kernel) = span.kernel.map(|kernel| &profile.kernels[kernel]) else {
                assert_eq!((&event["cat"], &event["args"]), (&json!("host"), &json!({})));
                continue;
            };
            let args = &event["args"];
            assert_eq!(event["cat"], "kernel");
            assert_eq!(args["kernel"], kernel.kernel);
            assert_eq!(args["variant"], kernel.variant);
            assert_eq!(args["shape"], kernel.shape);
            assert_eq!(args["flops"], kernel.flops);
            assert_eq!(args["bytes"], kernel.bytes);
            for (name, value) in [("gflops", kernel.gflops), ("gbs", kernel.gbs), ("p50_us", kernel.p50_us)] {
                // Reading is not exact to the last bit, but the same for the same text.
                let read: Value = serde_json::from_str(&format!("{value:?}")).unwrap();
                assert_eq!(args[name], read, "{name}");
            }
            assert_eq!(args["bound"], kernel.bound.to_string());
            assert_eq!(args["workgroups"], "1536x8");
            assert_eq!(args["workgroup_size"], "16x16");
        }
    }

    #[test]
    fn overlapping_spans_stand_on_tracks_of_their_own() {
        let mut profile = step(1);
        let span = |start_us, duration_us| Span { start_us, duration_us, ..profile.spans[3].clone() };
        // The second is within the first, the third begins in the first and ends after it, the fourth follows the third.
        let spans = [span(0.0, 10.0), span(2.0, 3.0), span(9.0, 5.0), span(14.0, 1.0)];
        profile.spans = spans.into_iter().rev().collect();
        let found = events(&profile);
        assert_eq!(check(&found).values().collect::<Vec<_>>(), ["GPU", "GPU, overlapping 1"]);
        let drawn = found.iter().filter(|event| event["ph"] == "X");
        let drawn: Vec<_> =
            drawn.map(|event| (event["ts"].as_f64().unwrap(), event["tid"].as_u64().unwrap())).collect();
        assert_eq!(drawn, [(0.0, 2), (2.0, 2), (14.0, 2), (9.0, 3)]);
    }

    #[test]
    fn rounding_makes_no_overlap() {
        let mut profile = step(1);
        let span = profile.spans[3].clone();
        // Multiples of 0.123 are not exact, so that ends and the beginnings after them differ in their last bits.
        let place = |i: u32| Span { start_us: f64::from(i) * 0.123, duration_us: 0.123, ..span.clone() };
        profile.spans = (0..1000).map(place).collect();
        assert_eq!(check(&events(&profile)).len(), 1);
    }

    #[test]
    fn times_that_are_none_break_nothing() {
        let mut profile = step(1);
        let times = [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, 1.0), (-1e300, 1e300), (5.0, -1.0), (0.0, 0.0)];
        let span = profile.spans[3].clone();
        profile.spans = times.map(|(start_us, duration_us)| Span { start_us, duration_us, ..span.clone() }).into();
        profile.spans[0].kernel = Some(99);
        assert_eq!(events(&profile).iter().filter(|event| event["ph"] == "X").count(), times.len());
        profile.spans.clear();
        assert_eq!(check(&events(&profile)).len(), 0);
    }
}
