//! `deepj verify` in a browser: the tasks of one device, and reports of what was told of them.

use std::cell::RefCell;
use std::sync::Arc;

use deepj::gpu::{Capabilities, Machine};
use deepj::verify::{Collected, DeviceReport, Event, Extent, Report, Target, Tell, summary};
use js_sys::{Function, Promise};
use serde::Deserialize;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::{Result, json, parsed, thrown};

thread_local! {
    /// Who is told. The library may tell from any thread, and a JavaScript function stays in its own, which is the only one here.
    static LISTENER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Awaits what `pause` returns, which is a promise.
pub async fn paused(pause: Function) {
    if let Ok(promise) = pause.call0(&JsValue::NULL) {
        // It is not rejected, and if it were, that would be no reason to wait.
        let _ = JsFuture::from(Promise::resolve(&promise)).await;
    }
}

/// Does the tasks of the browser's adapter, or with `cpu` of the CPU backend, from number `from` on, and calls `tell` with each event
/// as JSON. Between two tasks it awaits `pause()`.
///
/// # Errors
/// A device that is not there or cannot be opened.
#[wasm_bindgen]
pub async fn verify(
    cpu: bool,
    from: usize,
    only: Option<String>,
    quick: bool,
    tell: Function,
    pause: Function,
) -> Result<()> {
    LISTENER.set(Some(tell));
    let tell: Tell = Arc::new(|event: Event| {
        let Ok(text) = serde_json::to_string(&event) else { return };
        // What the page makes of it is the page's concern.
        LISTENER.with_borrow(|listener| {
            listener.as_ref().map(|listener| listener.call1(&JsValue::NULL, &JsValue::from_str(&text)))
        });
    });
    let target = if cpu { Target::Cpu } else { Target::Adapter(0) };
    let extent = Extent { from, only: only.as_deref(), quick };
    let pause = move || -> std::pin::Pin<Box<dyn Future<Output = ()>>> { Box::pin(paused(pause.clone())) };
    deepj::verify::work(target, extent, &tell, &pause).await.map_err(thrown)
}

/// What was told of one device.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Told {
    /// `null` of the CPU backend.
    capabilities: Option<Capabilities>,
    told: Vec<Step>,
    seconds: f64,
    /// Whether it came to its end.
    ended: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    /// The worker came to a bad end, and why.
    Crash {
        crash: String,
    },
    /// The device cannot be opened.
    Closed {
        closed: String,
    },
    Event(Event),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Whole {
    devices: Vec<Told>,
    /// The browser and its system, as the browser names them.
    browser: String,
    complete: bool,
    notes: Vec<String>,
}

/// A report with its summary.
#[derive(serde::Serialize)]
struct Made {
    /// The file of `deepj verify --report`.
    report: String,
    /// Of each device: in words, and what is wrong.
    devices: Vec<(String, Vec<String>)>,
}

/// The report of what was told, as JSON.
///
/// # Errors
/// None that is known of.
#[wasm_bindgen]
pub fn report(whole: &str) -> Result<String> {
    let Whole { devices, browser, complete, notes } = parsed(whole)?;
    let mut report = Report { complete, system: format!("web, {browser}"), ..Report::new() };
    notes.iter().for_each(|note| report.note(note));
    for Told { capabilities, told, seconds, ended } in devices {
        let machine = capabilities.as_ref().map_or_else(Machine::cpu, Machine::of);
        let mut collected = Collected::new(DeviceReport::new(machine, capabilities));
        for step in told {
            match step {
                Step::Event(event) => collected.enter(event),
                Step::Crash { crash } => collected.crash(&crash),
                Step::Closed { closed } => collected.fail("opening the device", &closed),
            }
        }
        if ended {
            collected.fail_lost();
            if collected.left() > 0 {
                collected.fail("verify", &format!("{} tasks told nothing", collected.left()));
            }
            collected.report.running = None;
        } else if collected.left() > 0 || collected.total == 0 {
            collected.fail("verify", &format!("was stopped with {} tasks left", collected.left()));
            collected.report.running = None;
        }
        collected.report.seconds = seconds;
        report.devices.push(collected.report);
    }
    let devices = report.devices.iter().map(|device| (summary(device), device.defects())).collect();
    json(&Made { report: report.to_json().map_err(thrown)?, devices })
}
