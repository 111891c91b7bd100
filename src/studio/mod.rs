//! `deepj studio`: the page that composes, served from inside the program on this machine's own address, with the program's devices
//! behind it in place of WebAssembly; and runs with their curves, those that are under way watched live.
//!
//! The page's worker calls functions of a module; here that module (`web/studio/deepj_web.js`) asks this server ([`calls`]). Only
//! programs of this machine reach it, and of browsers' pages only its own: each request must name this server as its host and, where
//! it names an origin, that too.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path as UrlPath, RawQuery, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use tokio::net::TcpListener;

use crate::graph::session::KernelSelection;
use crate::{Error, Result};

mod assets;
mod calls;
mod runs;

use calls::Calls;
pub use calls::Opening;

/// What to serve.
pub struct Options {
    /// The port; any that is free where it is 0.
    pub port: u16,
    /// The folder of runs.
    pub runs: PathBuf,
    /// Opens what computes where the page asks for the GPU or for the best there is: at the start, and after it was lost.
    pub open: Opening,
    /// How its kernels are chosen.
    pub selection: KernelSelection,
}

/// Most bytes of a request: a checkpoint.
const MAX_REQUEST: usize = 512 << 20;

struct Studio {
    calls: Calls,
    runs: PathBuf,
    port: u16,
}

/// Serves until the process ends. `began` is told the address, once it can be opened.
///
/// # Errors
/// A device that cannot be opened, a port that is taken, or a system that gives none.
pub fn serve(options: Options, began: impl FnOnce(&str)) -> Result<()> {
    let failed = |what: &str, e: std::io::Error| {
        Error::run(format!("{what}: {e}"), "close other programs, or name another --port")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| failed("the server cannot be started", e))?;
    let Options { port, runs, open, selection } = options;
    let calls = Calls::new(open, selection)?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
        let listener = listener.map_err(|e| failed(&format!("port {port} cannot be listened to"), e))?;
        let port = listener.local_addr().map_err(|e| failed("the server has no address", e))?.port();
        let studio = Arc::new(Studio { calls, runs, port });
        began(&format!("http://127.0.0.1:{port}/"));
        axum::serve(listener, router(studio)).await.map_err(|e| failed("the server stopped", e))
    })
}

fn router(studio: Arc<Studio>) -> Router {
    Router::new()
        .route("/", get(|| async { asset("index.html") }))
        .route("/{*path}", get(|UrlPath(path): UrlPath<String>| async move { asset(&path) }))
        .route("/api/call/{method}", post(call))
        .route(
            "/api/runs",
            get(|State(studio): State<Arc<Studio>>| apart(move || answer(runs::list(&studio.runs).map(json)))),
        )
        .route("/api/runs/{run}/curve", get(curve))
        .route("/api/runs/{run}/live", get(live))
        .route("/api/runs/{run}/file/{name}", get(file))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_REQUEST))
        .layer(middleware::from_fn_with_state(studio.clone(), only_our_pages))
        .with_state(studio)
}

/// Refuses what does not name this server as its host, as a page elsewhere does that has a name of its own point here, and what
/// another page sends.
async fn only_our_pages(State(studio): State<Arc<Studio>>, request: HttpRequest, next: Next) -> Response {
    if !is_ours(request.headers(), studio.port) {
        return (StatusCode::FORBIDDEN, "this server answers its own pages alone").into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // The rest stands in the pages, where this has no effect.
        (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// Does what reads files on a thread where that holds up nobody else.
async fn apart(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    let broken = |e| answer(Err(Error::run(format!("the call broke off: {e}"), "report it with what you did")));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(broken)
}

fn is_ours(headers: &HeaderMap, port: u16) -> bool {
    let named = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let hosts = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{port}"));
    let host = named(header::HOST).is_some_and(|host| hosts.iter().any(|ours| ours == host));
    host && named(header::ORIGIN).is_none_or(|origin| hosts.iter().any(|ours| origin == format!("http://{ours}")))
}

fn asset(path: &str) -> Response {
    match assets::find(path) {
        Some((kind, bytes)) => {
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], bytes).into_response()
        }
        None => (StatusCode::NOT_FOUND, "not found").into_response(),
    }
}

/// What a call returns.
enum Answer {
    Json(serde_json::Value),
    Bytes(Vec<u8>),
}

fn json(value: serde_json::Value) -> Answer {
    Answer::Json(value)
}

fn answer(result: Result<Answer>) -> Response {
    match result {
        Ok(Answer::Json(value)) => axum::Json(value).into_response(),
        Ok(Answer::Bytes(bytes)) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Err(e) => {
            let kind = format!("{:?}", e.kind).to_lowercase();
            let said = serde_json::json!({ "message": e.what, "remedy": e.remedy, "kind": kind });
            (StatusCode::BAD_REQUEST, axum::Json(said)).into_response()
        }
    }
}

/// Calls a method: its arguments are JSON in the header `x-arguments`, escaped as in an address, and bytes are the body.
async fn call(
    State(studio): State<Arc<Studio>>,
    UrlPath(method): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let arguments = headers.get("x-arguments").and_then(|value| value.to_str().ok()).unwrap_or("{}").to_string();
    apart(move || answer(studio.calls.call(&method, &arguments, &body))).await
}

async fn curve(State(studio): State<Arc<Studio>>, UrlPath(run): UrlPath<String>) -> Response {
    apart(move || match runs::curve(&studio.runs, &run) {
        Ok((bytes, end)) => ([("x-end", end.to_string())], bytes).into_response(),
        Err(e) => answer(Err(e)),
    })
    .await
}

/// `?from=`: the byte of the curve behind what the page has.
async fn live(
    State(studio): State<Arc<Studio>>,
    UrlPath(run): UrlPath<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    // A browser that connects again says what it got last.
    let got = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let from = query.as_deref().and_then(|query| query.strip_prefix("from=")?.parse().ok());
    match runs::live(&studio.runs, &run, got.or(from).unwrap_or(0)) {
        Ok(events) => events.into_response(),
        Err(e) => answer(Err(e)),
    }
}

async fn file(State(studio): State<Arc<Studio>>, UrlPath((run, name)): UrlPath<(String, String)>) -> Response {
    apart(move || match runs::file(&studio.runs, &run, &name) {
        Ok(bytes) => Body::from(bytes).into_response(),
        Err(e) => answer(Err(e)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc;

    use super::*;
    use crate::gpu::Device;

    /// Starts a server; its port.
    fn started(runs: PathBuf) -> u16 {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let open: Opening = Box::new(|| Ok(Device::Cpu { why: String::new() }));
            serve(Options { port: 0, runs, open, selection: KernelSelection::default() }, |address| {
                let port = address.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
                tell.send(port.unwrap()).unwrap();
            })
            .unwrap();
        });
        told.recv().unwrap()
    }

    fn asked(port: u16, request: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let size = body.len();
        write!(stream, "{request} HTTP/1.1\r\n{headers}content-length: {size}\r\nconnection: close\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
        let mut all = vec![];
        stream.read_to_end(&mut all).unwrap();
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&all[9..12]).parse().unwrap();
        (status, all[end + 4..].to_vec())
    }

    #[test]
    fn only_its_own_pages_are_answered() {
        let folder = tempfile::tempdir().unwrap();
        let port = started(folder.path().into());
        let own = format!("host: 127.0.0.1:{port}\r\n");
        assert_eq!(asked(port, "GET /", &own, b"").0, 200);
        assert_eq!(asked(port, "GET /compose.js", &format!("host: localhost:{port}\r\n"), b"").0, 200);
        assert_eq!(asked(port, "GET /", &format!("{own}origin: http://127.0.0.1:{port}\r\n"), b"").0, 200);
        for headers in [
            "host: evil.example\r\n".to_string(),
            format!("host: evil.example:{port}\r\n"),
            format!("{own}origin: http://evil.example\r\n"),
            format!("{own}origin: null\r\n"),
        ] {
            assert_eq!(asked(port, "GET /", &headers, b"").0, 403, "{headers}");
            assert_eq!(asked(port, "POST /api/call/version", &headers, b"").0, 403, "{headers}");
        }
        assert_eq!(asked(port, "GET /../Cargo.toml", &own, b"").0, 404);
        assert_eq!(asked(port, "GET /api/runs/..%2F/curve", &own, b"").0, 400);
    }

    #[test]
    fn a_curve_and_what_is_added_to_it_have_each_line_once() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("first");
        std::fs::create_dir(&run).unwrap();
        let lines = [1, 2, 3].map(|step| format!("{{\"kind\":\"train\",\"step\":{step},\"loss\":2}}\n"));
        let end = "{\"kind\":\"end\",\"step\":3}\n";
        // The second line is not whole yet.
        std::fs::write(run.join("curve.jsonl"), format!("{}{}", lines[0], &lines[1][..9])).unwrap();
        let port = started(folder.path().into());
        let own = format!("host: 127.0.0.1:{port}\r\n");
        assert_eq!(asked(port, "GET /api/runs/first/curve", &own, b""), (200, lines[0].clone().into_bytes()));
        std::fs::write(run.join("curve.jsonl"), lines.concat() + end).unwrap();
        let steps = |from: usize, headers: &str| -> Vec<bool> {
            let (status, body) = asked(port, &format!("GET /api/runs/first/live?from={from}"), headers, b"");
            let text = String::from_utf8(body).unwrap();
            assert!(status == 200 && text.contains("\"kind\":\"end\""), "{status} {text}");
            lines.iter().map(|line| text.contains(line.trim())).collect()
        };
        let line = lines[0].len();
        assert_eq!(steps(line, &own), [false, true, true]);
        assert_eq!(steps(line, &format!("{own}last-event-id: {}\r\n", 2 * line)), [false, false, true]);
    }

    #[test]
    fn a_piece_is_composed_over_calls_and_bad_calls_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let port = started(folder.path().into());
        let call = |method: &str, arguments: serde_json::Value, body: &[u8]| {
            let headers =
                format!("host: 127.0.0.1:{port}\r\nx-arguments: {}\r\n", calls::escaped(&arguments.to_string()));
            asked(port, &format!("POST /api/call/{method}"), &headers, body)
        };
        let json = |(status, body): (u16, Vec<u8>)| -> serde_json::Value {
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
            serde_json::from_slice(&body).unwrap()
        };
        let weights = json(call("weights.builtin", serde_json::json!({}), b""));
        let device = json(call("device.open", serde_json::json!({ "cpu": true }), b""));
        let wanted = r#"{"style":"bach","bars":3,"seed":1,"temperature":null,"tempo":120,"ending":false}"#;
        let begun =
            serde_json::json!({ "weights": weights["id"], "device": device["id"], "wanted": wanted, "name": "" });
        let piece = json(call("piece.begin", begun.clone(), b""));
        let mut bars = 0;
        while !json(call("piece.nextBar", serde_json::json!({ "id": piece["id"] }), b""))["events"].is_null() {
            bars += 1;
        }
        assert_eq!(bars, 3);
        let (status, midi) = call("piece.midi", serde_json::json!({ "id": piece["id"], "tempo": 120 }), b"");
        assert!(status == 200 && midi.starts_with(b"MThd"));
        let refused = [
            call("piece.begin", begun, b"these are words"),
            call("piece.midi", serde_json::json!({ "id": 99, "tempo": 120 }), b""),
            call("piece.fly", serde_json::json!({}), b""),
            call("weights.read", serde_json::json!({ "name": "words" }), b"words"),
            call("piano.new", serde_json::json!({ "rate": 1 }), b""),
        ];
        for (status, body) in refused {
            let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(status == 400 && !said["message"].as_str().unwrap().is_empty(), "{said}");
        }
    }
}
