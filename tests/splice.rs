//! A proxy that moves bodies by splice(2): its own spans and those of both neighbours are right all the same.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::time::Duration;

use support::agent::Agent;
use support::backends::on_each_backend;
use support::haproxy::Haproxy;
use support::machine::has;
use support::nginx::{Nginx, Options};
use support::otlp::Span;
use support::traffic::{Client, Key, Request, Server};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// Traces the two ports of a proxy with these options, in front of this server.
fn observe(
    backend: &str,
    upstream: u16,
    options: &[&str],
    client: impl FnOnce(u16) -> Vec<Request>,
) -> (Vec<Request>, Vec<Span>) {
    let haproxy = Haproxy::start(upstream, options);
    let directory = TempDir::new().unwrap();
    let configuration = directory.path().join("spandrel.yaml");
    let text = format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      \
         backend: {backend}\n"
    );
    std::fs::write(&configuration, text).unwrap();
    let ports = [haproxy.port, upstream].map(|port| port.to_string());
    let configuration = configuration.to_str().unwrap();
    let agent = Agent::start(&[
        "trace",
        "--output",
        "otlp-json",
        "--port",
        &ports[0],
        "--port",
        &ports[1],
        "--config",
        configuration,
    ]);
    let requests = client(haproxy.port);
    agent.wait_for_spans(4 * requests.len(), LIMIT);
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    (requests, outcome.spans())
}

/// Path and status of each span of the proxy, or of its neighbours.
fn keys(spans: &[Span], proxy: bool, kind: &str) -> Vec<(String, Option<u16>)> {
    let mut keys: Vec<_> = spans
        .iter()
        .filter(|span| span.kind == kind && (span.resource["service.name"] == "haproxy") == proxy)
        .map(|span| {
            let url = span.text("url.full");
            let path = match kind {
                "client" => url.splitn(4, '/').nth(3).map(|rest| format!("/{rest}")),
                _ => Some(span.text("url.path").to_owned()),
            };
            let status = span.integer("http.response.status_code");
            (
                path.unwrap(),
                status.map(|status| status.try_into().unwrap()),
            )
        })
        .collect();
    keys.sort();
    keys
}

fn assert_all_four(requests: &[Request], spans: &[Span]) {
    let mut expected: Vec<_> = support::traffic::keys(requests)
        .into_iter()
        .map(|(_, path, status): Key| (path, status))
        .collect();
    expected.sort();
    for proxy in [false, true] {
        for kind in ["client", "server"] {
            let found = keys(spans, proxy, kind);
            assert_eq!(found, expected, "{kind} spans, of the proxy: {proxy}");
        }
    }
}

fn answers_are_spliced(backend: &str, option: &str) {
    let nginx = Nginx::start(&Options::default());
    let (requests, spans) = observe(backend, nginx.port, &[option], |port| {
        let mut paths = Vec::new();
        for path in [
            "/files/1m",
            "/404",
            "/files/64k",
            "/files/small",
            "/500",
            "/plain/1m",
            "/204",
        ] {
            paths.extend(["--path", path]);
        }
        let arguments: Vec<&str> = ["--count", "65", "--connections", "2"]
            .into_iter()
            .chain(paths)
            .collect();
        Client::KeepAlive.run(port, &arguments)
    });
    nginx.finish();
    assert_all_four(&requests, &spans);
}

on_each_backend! {
    fn answers_that_a_proxy_splices_keep_their_statuses(backend) {
        if has("answers_that_a_proxy_splices_keep_their_statuses", &["haproxy"]) {
            answers_are_spliced(backend, "option splice-response");
        }
    }

    fn what_a_proxy_splices_by_its_own_choice_keeps_its_statuses(backend) {
        if has("what_a_proxy_splices_by_its_own_choice_keeps_its_statuses", &["haproxy"]) {
            answers_are_spliced(backend, "option splice-auto");
        }
    }

    fn uploads_that_a_proxy_splices_keep_their_statuses(backend) {
        if !has("uploads_that_a_proxy_splices_keep_their_statuses", &["haproxy"]) {
            return;
        }
        let server = Server::python(&[]);
        let (requests, spans) = observe(backend, server.port, &["option splice-request"], |port| {
            Client::KeepAlive.run(port, &[
                "--count", "30", "--connections", "2", "--method", "POST", "--body", "300000",
                "--path", "/upload", "--path", "/status/404", "--path", "/status/503",
            ])
        });
        assert_all_four(&requests, &spans);
    }
}
