//! The program uses no network. It does all its work in a network namespace where there is none, and under strace, which would show
//! a socket that it only tried to use.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output};

use crate::system_calls::can_be_traced;
use crate::{corpus, folder, program, started_by, tiny_arguments};

/// A command before which this stands has no network.
const ALONE: [&str; 3] = ["unshare", "--net", "--map-root-user"];
/// A command before which this stands, with a file, has its system calls that concern networks written there.
const TRACED: [&str; 5] = ["strace", "-f", "-e", "trace=network", "-o"];
const TRACE: &str = "trace.txt";

/// Whether a process here may have a network namespace of its own.
fn can_be_alone() -> bool {
    let made = Command::new(ALONE[0]).args(&ALONE[1..]).arg("true").output();
    made.is_ok_and(|output| output.status.success())
}

/// Runs `command` in the folder `dir` with these others before it; returns what it printed and the sockets that it asked for, but
/// for those that stay within the system.
fn watched(before: &[&str], dir: &Path, command: &Command) -> (Output, Vec<String>) {
    let mut starter = Command::new(before[0]);
    starter.args(&before[1..]).current_dir(dir);
    let output = started_by(starter, command).output().unwrap();
    let trace = std::fs::read_to_string(dir.join(TRACE)).unwrap_or_default();
    (output, trace.lines().filter(|line| line.contains("AF_INET")).map(str::to_owned).collect())
}

/// Makes a test of the socket below ask for one.
const ASKED: &str = "DEEPJ_TEST_SOCKET";

/// Not a test of its own: what must be noticed.
#[test]
fn asks_for_a_socket_if_asked() {
    if std::env::var_os(ASKED).is_some() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let sent = socket.connect("192.0.2.1:9").and_then(|()| socket.send(b"anything"));
        println!("SENT {}", sent.is_ok());
    }
}

#[test]
fn the_program_uses_no_network() {
    let (can_be_alone, can_be_traced) = (can_be_alone(), can_be_traced());
    if !can_be_alone {
        println!("skipped: unshare makes no network namespace here");
    }
    let mut before = vec![];
    before.extend(ALONE.iter().filter(|_| can_be_alone));
    before.extend(TRACED.iter().chain([&TRACE]).filter(|_| can_be_traced));
    if before.is_empty() {
        return;
    }
    let dir = folder();
    let path = dir.path();

    let mut asks = Command::new(std::env::current_exe().unwrap());
    asks.args(["--exact", "network::asks_for_a_socket_if_asked", "--nocapture"]).env(ASKED, "1");
    let (output, sockets) = watched(&before, path, &asks);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("SENT"), "{said}");
    assert!(!(can_be_alone && said.contains("SENT true")), "there is a network after all");
    assert_eq!(sockets.is_empty(), !can_be_traced, "what a program asks for is not seen");

    corpus(&path.join("corpus"), 4, 4, 48);
    let generate = ["generate", "--checkpoint", "run", "--style", "plain", "--bars", "2", "-o", "piece.mid"];
    for arguments in [&tiny_arguments(&["--steps", "2"])[..], &generate, &["adapters"]] {
        let (output, sockets) = watched(&before, path, &program(path, arguments));
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(sockets.is_empty(), "{arguments:?}: {sockets:?}");
    }
    assert!(path.join("piece.mid").exists());
}
