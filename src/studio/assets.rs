//! The page's files, within the program.

use std::sync::OnceLock;

/// The bytes of a file, and of what kind they are.
pub fn find(path: &str) -> Option<(&'static str, &'static [u8])> {
    let bytes = match path {
        "index.html" => index(),
        // The worker loads these before it calls anything; here they are within the program.
        "deepj_web_bg.wasm" | "weights.safetensors" | "corpus.bin" => &[],
        _ => FILES.iter().find(|(name, _)| *name == path)?.1,
    };
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("webmanifest") => "application/manifest+json",
        Some("txt") => "text/plain; charset=utf-8",
        Some("mid") => "audio/midi",
        _ => "application/octet-stream",
    };
    Some((kind, bytes))
}

/// The page that composes, with a way to the runs in place of the pages that need WebAssembly.
fn index() -> &'static [u8] {
    static PAGE: OnceLock<String> = OnceLock::new();
    let page = || {
        let page = include_str!("../../web/page/index.html");
        let pages = ["<a href=\"./verify.html\">Verify this device</a>", "<a href=\"./train.html\">Train</a>"];
        page.replace(pages[0], "<a href=\"./runs.html\">Runs</a>")
            .replace(pages[1], "")
            .replace("<html lang=\"en\">", "<html lang=\"en\" data-where=\"studio\">")
            .replace("    <link rel=\"manifest\" href=\"./manifest.webmanifest\">\n", "")
    };
    PAGE.get_or_init(page).as_bytes()
}

macro_rules! files {
    ($($name:literal $path:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../", $path)))),*]
    };
}

/// By the names by which the pages refer to them.
static FILES: &[(&str, &[u8])] = files![
    "runs.html" "web/studio/runs.html",
    "runs.js" "web/studio/runs.js",
    "deepj_web.js" "web/studio/deepj_web.js",
    "app.css" "web/page/app.css",
    "client.js" "web/page/client.js",
    "common.js" "web/page/common.js",
    "compose.js" "web/page/compose.js",
    "conductor.js" "web/page/conductor.js",
    "curve.js" "web/page/curve.js",
    "gpu.js" "web/page/gpu.js",
    "held.js" "web/page/held.js",
    "icon.svg" "web/page/icon.svg",
    "licence.txt" "data/weights/LICENSE",
    "mixture.js" "web/page/mixture.js",
    "player.js" "web/page/player.js",
    "roll.js" "web/page/roll.js",
    "trainer.js" "web/page/trainer.js",
    "verifier.js" "web/page/verifier.js",
    "worker.js" "web/page/worker.js",
    "pieces/baroque-1.mid" "docs/listen/baroque-1.mid",
    "pieces/baroque-2.mid" "docs/listen/baroque-2.mid",
    "pieces/baroque-3.mid" "docs/listen/baroque-3.mid",
    "pieces/classical-1.mid" "docs/listen/classical-1.mid",
    "pieces/classical-2.mid" "docs/listen/classical-2.mid",
    "pieces/classical-3.mid" "docs/listen/classical-3.mid",
    "pieces/romantic-1.mid" "docs/listen/romantic-1.mid",
    "pieces/romantic-2.mid" "docs/listen/romantic-2.mid",
    "pieces/romantic-3.mid" "docs/listen/romantic-3.mid",
];
