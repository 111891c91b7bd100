//! deepj in a browser: what the pages' worker calls. Thin: what computes is the library, and what shows it is in `page/`.
//!
//! Everything runs in one thread, the worker's. An error is a JavaScript `Error` with the library's sentence as its message and the
//! remedy beside it as `remedy`.
#![cfg(target_arch = "wasm32")]

mod compose;
mod device;
mod sound;
mod train;
mod verify;

use wasm_bindgen::prelude::*;

/// What a call returns.
type Result<T> = std::result::Result<T, JsValue>;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// To be called before everything else.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| console_error(&info.to_string())));
    // Compiled in by the target's features, but not chosen by itself.
    gemm::set_wasm_simd128(cfg!(target_feature = "simd128"));
}

/// The library's version.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}

fn thrown(e: deepj::Error) -> JsValue {
    let error = js_sys::Error::new(&e.what);
    let kind = format!("{:?}", e.kind).to_lowercase();
    for (name, value) in [("remedy", e.remedy), ("kind", kind)] {
        // Setting a field of a fresh object cannot fail.
        let _ = js_sys::Reflect::set(&error, &name.into(), &value.into());
    }
    error.into()
}

fn wrong(what: impl Into<String>, remedy: &str) -> JsValue {
    thrown(deepj::Error::usage(what, remedy))
}

/// JSON of what JavaScript is to read.
fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| wrong(format!("a result that is no JSON: {e}"), ""))
}

/// What JavaScript has said in JSON.
fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| wrong(format!("a request that cannot be read: {e}"), "reload the page"))
}
