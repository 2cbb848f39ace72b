//! An agent that does not get the processor for a while: what it reads late is still right.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use support::agent::Agent;
use support::backends::on_each_backend;
use support::otlp::Span;
use support::traffic::{self, Client, Server};

/// How many exchanges there were of each path, without its query, and status.
type Counts = BTreeMap<(String, Option<i64>), usize>;

fn counts(exchanges: impl Iterator<Item = (String, Option<i64>)>) -> Counts {
    let mut counts = Counts::new();
    for (path, status) in exchanges {
        let path = path.split('?').next().unwrap().to_owned();
        *counts.entry((path, status)).or_default() += 1;
    }
    counts
}

fn of_spans(spans: &[Span], kind: &str) -> Counts {
    let of_kind = spans.iter().filter(|span| span.kind == kind);
    counts(of_kind.map(|span| {
        let path = if kind == "server" {
            span.text("url.path").to_owned()
        } else {
            let (_, rest) = span.text("url.full").split_once("://").unwrap();
            rest[rest.find('/').unwrap()..].to_owned()
        };
        (path, span.integer("http.response.status_code"))
    }))
}

on_each_backend! {
    fn a_paused_agent_gives_no_response_to_another_request_and_loses_none(backend) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("backend.yaml");
        let text = format!(
            "file_format: \"1.1\"\ndistribution: {{spandrel: {{version: \"1.0\", capture: {{backend: {backend}}}}}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let server = Server::python(&[]);
        let port = server.port.to_string();
        let agent = Agent::start(&[
            "trace", "--output", "otlp-json", "--port", &port, "--config", file.to_str().unwrap(),
        ]);
        let client = Client::KeepAlive.start(server.port, &[
            "--count", "600", "--connections", "6", "--path", "/sized/3", "--path", "/status/404",
            "--path", "/slow?ms=20",
        ]);
        // Pauses of several settle times, whose ends are anywhere between a request and its response.
        let pausing = thread::spawn(move || {
            for round in 0..12_u64 {
                agent.signal(Signal::STOP);
                thread::sleep(Duration::from_millis(150 + 17 * round));
                agent.signal(Signal::CONT);
                thread::sleep(Duration::from_millis(30 + 7 * round));
            }
            agent
        });
        let requests = client.finish();
        let agent = pausing.join().unwrap();
        agent.wait_for_spans(2 * requests.len(), Duration::from_secs(60));
        let outcome = agent.stop();
        let keys = traffic::keys(&requests).into_iter();
        let expected = counts(keys.map(|(_, path, status)| (path, status.map(i64::from))));
        let spans = outcome.spans();
        for kind in ["client", "server"] {
            assert_eq!(of_spans(&spans, kind), expected, "{kind}");
        }
        assert_eq!(outcome.ledger.dropped("exchanges", "exchange.no_request"), 0);
    }
}
