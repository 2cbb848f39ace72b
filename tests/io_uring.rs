//! What programs send and receive by io_uring is seen, in each way that it can be asked for.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use support::agent::{Agent, command, trace_ports};
use support::backends::on_each_backend;
use support::machine::{has, skip, target};
use support::otlp::Span;
use support::traffic::{self, Client, Key, Server, directory};

const LIMIT: Duration = Duration::from_secs(120);

/// What tests/traffic/uring/server.c can do.
const MODES: [&str; 12] = [
    "recv",
    "read_write",
    "readv_writev",
    "recvmsg",
    "read_write_fixed",
    "provided",
    "multishot",
    "sqpoll",
    "async",
    "fixed_file",
    "send_zc",
    "defer_taskrun",
];

/// tests/traffic/uring/server.c: `SPANDREL_TEST_URING`, or built once in a test process; `None` without a compiler or liburing.
fn liburing_server() -> Option<&'static Path> {
    static BINARY: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let built = BINARY.get_or_init(|| {
        if let Some(built) = std::env::var_os("SPANDREL_TEST_URING") {
            return Some(built.into());
        }
        if !Path::new("/usr/include/liburing.h").exists() {
            skip("programs on liburing", "no liburing-dev on this machine");
            return None;
        }
        let binary = target().join(format!("traffic/uring-{}", std::process::id()));
        std::fs::create_dir_all(binary.parent().unwrap()).unwrap();
        let compiled = Command::new("cc")
            .args(["-O1", "-o"])
            .arg(&binary)
            .arg(directory().join("uring/server.c"))
            .arg("-luring")
            .status();
        assert!(compiled.is_ok_and(|status| status.success()));
        Some(binary)
    });
    built.as_deref()
}

/// tests/traffic/monoio: `SPANDREL_TEST_MONOIO`, or built by Cargo with its own lock file.
fn monoio_server() -> Command {
    static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
    Command::new(BUILT.get_or_init(|| {
        if let Some(built) = std::env::var_os("SPANDREL_TEST_MONOIO") {
            return built.into();
        }
        let folder = target().join("traffic/monoio");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--manifest-path"])
            .arg(directory().join("monoio/Cargo.toml"))
            .arg("--target-dir")
            .arg(&folder)
            .status();
        assert!(built.is_ok_and(|status| status.success()), "cargo build");
        folder.join("debug/monoio-server")
    }))
}

fn trace(backend: &str, servers: &[&Server]) -> Agent {
    let ports: Vec<u16> = servers.iter().map(|server| server.port).collect();
    trace_ports(backend, &ports)
}

/// Of the spans of one server's port, those of servers: method, path and status, in order.
fn keys(spans: &[Span], port: u16) -> Vec<Key> {
    let mut keys: Vec<Key> = spans
        .iter()
        .filter(|span| span.kind == "server" && span.integer("server.port") == Some(port.into()))
        .map(|span| {
            let status = span.integer("http.response.status_code");
            (
                span.text("http.request.method").to_owned(),
                span.text("url.path").to_owned(),
                status.map(|status| status.try_into().unwrap()),
            )
        })
        .collect();
    keys.sort();
    keys
}

/// Whether this kernel shows what the backend must see of io_uring: `check` says so.
fn is_seen(test: &str, backend: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      backend: {backend}\n"
    );
    std::fs::write(file.path(), text).unwrap();
    let arguments = [
        "check",
        "--output",
        "json",
        "--config",
        file.path().to_str().unwrap(),
    ];
    let output = command(&arguments).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for finding in report["findings"].as_array().unwrap() {
        let what = finding["what"].as_str().unwrap();
        if what.contains("io_uring") && finding["state"] != "ok" {
            skip(
                &format!("{test} on {backend}"),
                &format!("{what}: {}", finding["detail"]),
            );
            return false;
        }
    }
    true
}

const PATHS: [&str; 6] = [
    "--path", "/200/{n}", "--path", "/404/{n}", "--path", "/503/{n}",
];

on_each_backend! {
    fn each_way_to_receive_and_send_is_seen(backend) {
        let Some(binary) = liburing_server() else { return };
        if !is_seen("each_way_to_receive_and_send_is_seen", backend) {
            return;
        }
        let servers: Vec<Server> = MODES
            .iter()
            .map(|mode| Server::start(Command::new(binary).arg(mode)))
            .collect();
        let agent = trace(backend, &servers.iter().collect::<Vec<_>>());
        let mut served = Vec::new();
        for (server, mode) in servers.iter().zip(MODES) {
            let count = [&["--count", "12"][..], &PATHS].concat();
            Client::KeepAlive.run(server.port, &count);
            let post = ["--count", "6", "--method", "POST", "--body", "70000"];
            Client::KeepAlive.run(server.port, &[&post[..], &PATHS].concat());
            served.push((mode, server.wait_for(18)));
        }
        agent.wait_for_spans(2 * 18 * MODES.len(), LIMIT);
        let outcome = agent.stop();
        assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
        let spans = outcome.spans();
        for (server, (mode, served)) in servers.iter().zip(served) {
            assert_eq!(keys(&spans, server.port), traffic::keys(&served), "{backend}: {mode}");
        }
    }

    fn a_server_on_monoio_is_seen_and_told_to_be(backend) {
        const TEST: &str = "a_server_on_monoio_is_seen_and_told_to_be";
        if (std::env::var_os("SPANDREL_TEST_MONOIO").is_none() && !has(TEST, &["cargo"])) || !is_seen(TEST, backend) {
            return;
        }
        let server = Server::start(&mut monoio_server());
        let agent = trace(backend, &[&server]);
        let load = [&["--count", "324", "--connections", "8"][..], &PATHS].concat();
        let requests = Client::KeepAlive.run(server.port, &load);
        let served = server.wait_for(requests.len());
        agent.wait_for_spans(2 * requests.len(), LIMIT);
        let outcome = agent.stop();
        assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
        assert_eq!(keys(&outcome.spans(), server.port), traffic::keys(&served), "{backend}");
        let explained = command(&["explain", &server.pid().to_string()]).output().unwrap();
        let explained = String::from_utf8(explained.stdout).unwrap();
        let line = explained.lines().find(|line| line.trim_start().starts_with("io_uring"));
        assert!(line.is_some_and(|line| line.contains("is used")), "{explained}");
    }
}
