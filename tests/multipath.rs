//! MPTCP: what a program says over several paths is seen like what it says over TCP.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::time::Duration;

use spandrel_model::recording::Recording;
use spandrel_model::{ConnectionId, Event, Role};
use support::agent::Agent;
use support::backends::on_each_backend;
use support::machine::{has, skip};
use support::nginx::{Nginx, Options};
use support::otlp::Span;
use support::traffic::{Client, Request, Server};

const LIMIT: Duration = Duration::from_secs(60);
const COUNT: usize = 20;

/// Whether sockets of it can be made and are seen; skips the test otherwise.
fn is_spoken(test: &str, backend: &str) -> bool {
    if backend == "fexit" {
        skip(test, "this backend does not see MPTCP");
        return false;
    }
    let enabled = std::fs::read_to_string("/proc/sys/net/mptcp/enabled").unwrap_or_default();
    if enabled.trim() != "1" {
        skip(
            test,
            "this kernel has no MPTCP, or it is switched off (net.mptcp.enabled)",
        );
    }
    enabled.trim() == "1"
}

/// Traces one port while a client makes its requests; the spans, and what was recorded.
fn observe(
    backend: &str,
    port: u16,
    client: impl FnOnce(u16) -> Vec<Request>,
) -> (Vec<Request>, Vec<Span>, Vec<Event>) {
    let directory = tempfile::tempdir().unwrap();
    let configuration = directory.path().join("spandrel.yaml");
    let text = format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      \
         backend: {backend}\n"
    );
    std::fs::write(&configuration, text).unwrap();
    let recording = directory.path().join("recording.jsonl");
    let agent = Agent::start(&[
        "trace",
        "--output",
        "otlp-json",
        "--port",
        &port.to_string(),
        "--record",
        recording.to_str().unwrap(),
        "--config",
        configuration.to_str().unwrap(),
    ]);
    let requests = client(port);
    agent.wait_for_spans(2 * requests.len(), LIMIT);
    // The closes of such connections are a worker's in the kernel: they come within its next turns.
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let text = std::fs::read(&recording).unwrap();
    let recording = Recording::read(text.as_slice()).unwrap();
    (requests, outcome.spans(), recording.events)
}

/// Kernels that do not know what programs have read of MPTCP: positions are sums of lengths there.
fn is_counted() -> bool {
    let types = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let field = b"\0bytes_consumed\0";
    !types.windows(field.len()).any(|part| part == field)
}

fn assert_both_ends(requests: &[Request], spans: &[Span], events: &[Event], port: u16) {
    assert_eq!(requests.len(), COUNT);
    let mut expected: Vec<_> = requests
        .iter()
        .map(|one| (one.path.clone(), one.status))
        .collect();
    expected.sort();
    for kind in ["client", "server"] {
        let mut found: Vec<_> = spans
            .iter()
            .filter(|span| span.kind == kind)
            .map(|span| {
                let url = span.text("url.full");
                let path = url.splitn(4, '/').nth(3).map(|rest| format!("/{rest}"));
                let status = span.integer("http.response.status_code").unwrap();
                assert_eq!(
                    span.integer("server.port"),
                    Some(i64::from(port)),
                    "{span:?}"
                );
                assert_eq!(span.text("network.peer.address"), "127.0.0.1", "{span:?}");
                assert!(span.attributes.contains_key("spandrel.tcp.rtt"), "{span:?}");
                (
                    path.unwrap_or_else(|| span.text("url.path").to_owned()),
                    Some(status as u16),
                )
            })
            .collect();
        found.sort();
        assert_eq!(found, expected, "{kind}");
    }
    // No connection that nobody has: of subflows, which carry no messages of their own.
    let spoken: Vec<ConnectionId> = events
        .iter()
        .filter_map(|event| match event {
            Event::Message(message) => Some(message.connection),
            _ => None,
        })
        .collect();
    let mut roles = Vec::new();
    for event in events {
        if let Event::ConnectionOpened(opened) = event {
            assert!(spoken.contains(&opened.connection), "{opened:?}");
            roles.push(opened.role);
        }
    }
    assert_eq!(roles.len(), 4, "two connections with two ends each");
    let clients = roles.iter().filter(|role| **role == Some(Role::Client));
    assert_eq!(clients.count(), 2);
    for event in events {
        match event {
            Event::Message(message) => {
                assert_eq!((message.unseen, message.flags.counted), (0, is_counted()));
            }
            Event::ConnectionClosed(closed) => {
                assert!(!closed.reset, "{closed:?}");
                let sent = events.iter().filter_map(|event| match event {
                    Event::Message(message) if message.connection == closed.connection => {
                        Some(u64::from(message.length))
                    }
                    _ => None,
                });
                assert_eq!(
                    sent.sum::<u64>(),
                    closed.ingress_bytes + closed.egress_bytes,
                    "{closed:?}"
                );
            }
            _ => {}
        }
    }
}

const KEEP_ALIVE: [&str; 8] = [
    "--count",
    "20",
    "--connections",
    "2",
    "--path",
    "/a/{n}",
    "--path",
    "/status/404",
];

on_each_backend! {
    fn both_ends_speak_multipath(backend) {
        let test = "both_ends_speak_multipath";
        if is_spoken(test, backend) && has(test, &["go"]) {
            let server = Server::go_multipath();
            let (requests, spans, events) = observe(backend, server.port, |port| {
                let arguments: Vec<&str> = KEEP_ALIVE.into_iter().chain(["--mptcp"]).collect();
                Client::KeepAlive.run(port, &arguments)
            });
            assert_both_ends(&requests, &spans, &events, server.port);
        }
    }

    fn a_go_program_speaks_multipath_with_itself(backend) {
        let test = "a_go_program_speaks_multipath_with_itself";
        if is_spoken(test, backend) && has(test, &["go"]) {
            let server = Server::go_multipath();
            let (requests, spans, events) = observe(backend, server.port, |port| {
                Client::Go.run(port, &["--count", "20", "--connections", "2", "--path", "/a/{n}", "--mptcp"])
            });
            assert_both_ends(&requests, &spans, &events, server.port);
        }
    }

    fn only_the_client_speaks_multipath(backend) {
        let test = "only_the_client_speaks_multipath";
        if is_spoken(test, backend) {
            let nginx = Nginx::start(&Options::default());
            let (requests, spans, events) = observe(backend, nginx.port, |port| {
                Client::KeepAlive.run(port, &[
                    "--count", "20", "--connections", "2", "--path", "/a/{n}", "--path", "/404", "--mptcp",
                ])
            });
            let port = nginx.port;
            nginx.finish();
            assert_both_ends(&requests, &spans, &events, port);
        }
    }

    fn only_the_server_speaks_multipath(backend) {
        let test = "only_the_server_speaks_multipath";
        if is_spoken(test, backend) && has(test, &["go"]) {
            let server = Server::go_multipath();
            let (requests, spans, events) =
                observe(backend, server.port, |port| Client::KeepAlive.run(port, &KEEP_ALIVE));
            assert_both_ends(&requests, &spans, &events, server.port);
        }
    }
}
