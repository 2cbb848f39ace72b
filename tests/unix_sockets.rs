//! A proxy's requests to its upstream over a unix socket are spans like those over TCP, where they are asked for.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::cell::Cell;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use support::agent::{self, Agent, Outcome, capture};
use support::backends::on_each_backend;
use support::machine::{has, is_root};
use support::nginx::{Nginx, Options};
use support::otlp::Span;
use support::traffic::{Client, Request, Server};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const COUNT: usize = 50;

/// What one run has seen and what the programs themselves say.
struct Observed {
    outcome: Outcome,
    served: Vec<Request>,
    socket: String,
    spans: Vec<Span>,
}

/// Traces by this backend, with Unix sockets or without.
fn trace(backend: &str, unix_sockets: bool, arguments: &[&str]) -> Agent {
    let setting = format!("unix_sockets: {unix_sockets}");
    agent::trace(&capture(backend, &[&setting]), arguments)
}

/// Sends requests through nginx to a server on a unix socket; traces until `spans` of them are there.
fn observe(test: &str, backend: &str, unix_sockets: bool, spans: usize) -> Option<Observed> {
    if !is_root(test) || !has(test, &["nginx", "python3"]) {
        return None;
    }
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("upstream.sock");
    let socket = socket.to_str().unwrap().to_owned();
    let server = Server::python(&["--unix", &socket]);
    let nginx = Nginx::start(&Options {
        upstream: Some(format!("unix:{socket}")),
        ..Options::default()
    });
    // Without a filter: a unix socket has no port. Other traffic of the machine is told apart by the path.
    let agent = trace(backend, unix_sockets, &[]);
    let path = format!("/api/{}/{{n}}", nginx.port);
    let count = COUNT.to_string();
    Client::KeepAlive.run(
        nginx.port,
        &["--count", &count, "--connections", "2", "--path", &path],
    );
    let served = server.wait_for(COUNT);
    let ours = format!("/api/{}/", nginx.port);
    // The other backend's test has traffic of its own, which this agent sees as well.
    wait_for_spans_of(&agent, spans, &ours);
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let spans = of_path(outcome.spans(), &ours);
    Some(Observed {
        outcome,
        served,
        socket,
        spans,
    })
}

fn is_of_path(span: &Span, path: &str) -> bool {
    span.text("url.path").starts_with(path) || span.text("url.full").contains(path)
}

fn of_path(mut spans: Vec<Span>, path: &str) -> Vec<Span> {
    spans.retain(|span| is_of_path(span, path));
    spans
}

/// Waits until as many spans of requests with such a path are there.
fn wait_for_spans_of(agent: &Agent, count: usize, path: &str) {
    let seen = Cell::new(0);
    let last = |span: &Span| {
        seen.set(seen.get() + usize::from(is_of_path(span, path)));
        seen.get() >= count
    };
    agent.wait_for_span(last, LIMIT);
}

fn over_unix(spans: &[Span]) -> Vec<&Span> {
    spans
        .iter()
        .filter(|span| span.text("network.transport") == "unix")
        .collect()
}

fn both_ends_are_seen(test: &str, backend: &str) {
    let Some(observed) = observe(test, backend, true, 4 * COUNT) else {
        return;
    };
    let mut paths: Vec<&str> = observed
        .served
        .iter()
        .map(|one| one.path.as_str())
        .collect();
    paths.sort_unstable();
    let unix = over_unix(&observed.spans);
    for kind in ["client", "server"] {
        let ends: Vec<&&Span> = unix.iter().filter(|span| span.kind == kind).collect();
        let mut seen: Vec<&str> = ends
            .iter()
            .map(|span| match kind {
                "server" => span.text("url.path"),
                _ => {
                    let url = span.text("url.full");
                    // The host is nginx's name of the upstream.
                    url.strip_prefix("http://api").unwrap_or(url)
                }
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, paths, "{backend}, {kind}");
        for span in ends {
            assert_eq!(
                span.integer("http.response.status_code"),
                Some(200),
                "{span:?}"
            );
            assert!(
                span.integer("server.port")
                    .is_none_or(|port| port == 0 || port == 80),
                "{span:?}"
            );
        }
    }
    let clients = unix.iter().filter(|span| span.kind == "client");
    for client in clients {
        assert_eq!(client.resource["service.name"], "nginx");
        assert_eq!(
            client.text("network.peer.address"),
            observed.socket,
            "{client:?}"
        );
    }
    assert_eq!(
        observed.spans.len(),
        4 * COUNT,
        "two over TCP and two over the unix socket for each"
    );
    assert_eq!(observed.outcome.ledger.count("spans", "in_flight"), 0);
}

on_each_backend! {
    fn both_ends_of_a_unix_socket_are_seen(backend) {
        both_ends_are_seen("both_ends_of_a_unix_socket_are_seen", backend);
    }

    fn an_answer_up_to_the_close_is_told_though_nobody_traces_who_reads_it(backend) {
        let test = "an_answer_up_to_the_close_is_told_though_nobody_traces_who_reads_it";
        if !is_root(test) || !has(test, &["python3"]) {
            return;
        }
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("server.sock");
        let server = Server::python(&["--unix", socket.to_str().unwrap()]);
        let agent = trace(backend, true, &["--pid", &server.pid().to_string()]);
        for number in 0..20 {
            let mut stream = UnixStream::connect(&socket).unwrap();
            let request = format!("GET /until-close/{number} HTTP/1.1\r\nHost: shop\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with(&"u".repeat(number)));
        }
        agent.wait_for_spans(20, LIMIT);
        let spans = agent.stop().spans();
        for number in 0..20 {
            let path = format!("/until-close/{number}");
            let of: Vec<_> = spans.iter().filter(|span| span.text("url.path") == path).collect();
            assert_eq!(of.len(), 1, "{path}: {spans:#?}");
            assert_eq!(of[0].integer("http.response.status_code"), Some(200));
            assert_eq!(of[0].text("error.type"), "", "{:#?}", of[0]);
        }
    }

    fn requests_that_are_pipelined_over_a_new_unix_socket_are_told_at_both_ends(backend) {
        const PIPELINED: usize = 41;
        let directory = TempDir::new().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let socket = directory.path().join("server.sock");
        let socket = socket.to_str().unwrap();
        let nginx = Nginx::start(&Options {
            more: format!("listen unix:{socket};"),
            ..Options::default()
        });
        let agent = trace(backend, true, &[]);
        let count = PIPELINED.to_string();
        for run in 0..4 {
            let path = format!("/{}/{run}/{{n}}", nginx.port);
            Client::Pipelined.run_unix(socket, &["--count", &count, "--path", &path]);
        }
        let ours = format!("/{}/", nginx.port);
        wait_for_spans_of(&agent, 8 * PIPELINED, &ours);
        let spans = of_path(agent.stop().spans(), &ours);
        for kind in ["client", "server"] {
            let of = spans.iter().filter(|span| span.kind == kind);
            assert_eq!(of.count(), 4 * PIPELINED, "{backend}, {kind}");
        }
    }

    fn requests_to_a_go_server_behind_a_unix_socket_are_told_at_both_ends(backend) {
        const REQUESTS: usize = 120;
        if !has("requests_to_a_go_server_behind_a_unix_socket_are_told_at_both_ends", &["go"]) {
            return;
        }
        let directory = TempDir::new().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let socket = directory.path().join("go.sock");
        let socket = socket.to_str().unwrap().to_owned();
        let server = Server::go_unix(&socket);
        let nginx = Nginx::start(&Options {
            upstream: Some(format!("unix:{socket}")),
            ..Options::default()
        });
        let agent = trace(backend, true, &[]);
        let ours = format!("/api/{}/", nginx.port);
        Client::KeepAlive.run(
            nginx.port,
            &["--count", &REQUESTS.to_string(), "--connections", "4", "--path", &format!("{ours}{{n}}")],
        );
        server.wait_for(REQUESTS);
        wait_for_spans_of(&agent, 4 * REQUESTS, &ours);
        let spans = of_path(agent.stop().spans(), &ours);
        let unix = over_unix(&spans);
        for kind in ["client", "server"] {
            let of = unix.iter().filter(|span| span.kind == kind);
            assert_eq!(of.count(), REQUESTS, "{backend}, {kind}");
        }
    }

    fn unix_sockets_are_left_alone_unless_asked_for(backend) {
        let test = "unix_sockets_are_left_alone_unless_asked_for";
        let Some(observed) = observe(test, backend, false, 2 * COUNT) else {
            return;
        };
        assert_eq!(over_unix(&observed.spans), Vec::<&Span>::new());
        assert_eq!(observed.spans.len(), 2 * COUNT, "the requests over TCP");
    }
}
