//! Long heads, heads between long bodies and answers in many pieces: each exchange is told, whole and in time.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::process::Command;
use std::time::Duration;

use support::agent::{Agent, Outcome, trace_ports};
use support::backends::on_each_backend;
use support::machine::{find, free_port, has, wait_until};
use support::nginx::{Nginx, Options};
use support::otlp::Span;
use support::process::Process;
use support::traffic::{Client, Server};
use tempfile::TempDir;

/// The settle time is 100 ms; the rest is for a machine under load.
const LIMIT: Duration = Duration::from_secs(20);

fn stop(agent: Agent) -> Outcome {
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    outcome
}

/// Makes requests, waits for so many spans while the connection stays open, and stops all.
fn held(agent: Agent, port: u16, arguments: &[&str], requests: usize, spans: usize) -> Vec<Span> {
    let client = Client::KeepAlive.start(port, &[arguments, &["--hold"]].concat());
    client.wait_for(requests);
    agent.wait_for_spans(spans, LIMIT);
    let outcome = stop(agent);
    client.stop();
    assert_whole(&outcome.spans());
    outcome.spans()
}

/// Path and status of each span of a kind, in order of the paths.
fn answers(spans: &[Span], kind: &str) -> Vec<(String, Option<i64>)> {
    let mut found: Vec<_> = spans
        .iter()
        .filter(|span| span.kind == kind)
        .map(|span| {
            let path = match kind {
                "server" => span.text("url.path"),
                _ => {
                    let url = span.text("url.full");
                    url.splitn(4, '/').nth(3).unwrap_or_default()
                }
            };
            let status = span.integer("http.response.status_code");
            (format!("/{}", path.trim_start_matches('/')), status)
        })
        .collect();
    found.sort();
    found
}

fn expected(
    count: usize,
    path: impl Fn(usize) -> String,
    status: i64,
) -> Vec<(String, Option<i64>)> {
    let mut all: Vec<_> = (0..count).map(|n| (path(n), Some(status))).collect();
    all.sort();
    all
}

/// No span says that its connection ended early.
fn assert_whole(spans: &[Span]) {
    for span in spans {
        assert_eq!(span.text("error.type"), "", "{span:?}");
    }
}

const LONG_FIELDS: &str = "add_header Content-Security-Policy \"default-src 'self'; script-src \
    https://a.example https://b.example https://c.example https://d.example https://e.example https://f.example \
    https://g.example https://h.example https://i.example https://j.example https://k.example https://l.example \
    https://m.example https://n.example https://o.example https://p.example https://q.example https://r.example\"; \
    add_header Set-Cookie \"session=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\";";

on_each_backend! {
    fn an_answer_with_a_long_head_is_told_while_its_connection_idles(backend) {
        let fields: String = (0..3).map(|_| LONG_FIELDS).collect();
        let nginx = Nginx::start(&Options {
            more: format!("location /long/ {{ {fields} return 200 \"ok\\n\"; }}"),
            ..Options::default()
        });
        let agent = trace_ports(backend, &[nginx.port]);
        let spans = held(agent, nginx.port, &["--count", "30", "--path", "/long/{n}"], 30, 60);
        for kind in ["server", "client"] {
            let wanted = expected(30, |n| format!("/long/{n}"), 200);
            assert_eq!(answers(&spans, kind), wanted, "{kind}");
        }
        nginx.finish();
    }

    fn an_upload_that_is_answered_before_it_was_read_hides_no_request(backend) {
        let nginx = Nginx::start(&Options {
            more: "location /early/ { return 201; }".to_owned(),
            ..Options::default()
        });
        let agent = trace_ports(backend, &[nginx.port]);
        let arguments = ["--count", "20", "--method", "POST", "--body", "300000", "--path", "/early/{n}"];
        Client::KeepAlive.run(nginx.port, &arguments);
        agent.wait_for_spans(40, LIMIT);
        let outcome = stop(agent);
        for kind in ["server", "client"] {
            let wanted = expected(20, |n| format!("/early/{n}"), 201);
            assert_eq!(answers(&outcome.spans(), kind), wanted, "{kind}");
        }
        nginx.finish();
    }

    fn each_of_several_long_answers_behind_each_other_is_told(backend) {
        let server = Server::python(&[]);
        let agent = trace_ports(backend, &[server.port]);
        Client::Pipelined.run(server.port, &["--count", "20", "--path", "/bytes/100000?{n}"]);
        agent.wait_for_spans(40, LIMIT);
        let outcome = stop(agent);
        let wanted = expected(20, |_| "/bytes/100000".to_owned(), 200);
        assert_eq!(answers(&outcome.spans(), "server"), wanted);
        let wanted = expected(20, |_| "/bytes/100000?REDACTED".to_owned(), 200);
        assert_eq!(answers(&outcome.spans(), "client"), wanted);
    }

    fn each_of_several_uploads_behind_each_other_is_told(backend) {
        let server = Server::python(&[]);
        let agent = trace_ports(backend, &[server.port]);
        let arguments = ["--count", "20", "--path", "/upload/{n}", "--body", "100000"];
        Client::Pipelined.run(server.port, &arguments);
        agent.wait_for_spans(40, LIMIT);
        let outcome = stop(agent);
        for kind in ["server", "client"] {
            let wanted = expected(20, |n| format!("/upload/{n}"), 201);
            assert_eq!(answers(&outcome.spans(), kind), wanted, "{kind}");
        }
    }

    fn a_traceparent_behind_cookies_is_the_parent_the_first_time_too(backend) {
        let nginx = Nginx::start(&Options {
            more: "large_client_header_buffers 8 32k;".to_owned(),
            ..Options::default()
        });
        let agent = trace_ports(backend, &[nginx.port]);
        let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let cookie = format!("Cookie: {}", "c".repeat(11_000));
        let short = ["--count", "1", "--path", "/short"];
        let long = ["--count", "2", "--path", "/long/{n}", "--header", &cookie, "--header", parent];
        Client::KeepAlive.run(nginx.port, &long);
        // On a connection whose protocol is known already.
        Client::KeepAlive.run(nginx.port, &short);
        agent.wait_for_spans(6, LIMIT);
        let outcome = stop(agent);
        let spans = outcome.spans();
        let long: Vec<_> = spans
            .iter()
            .filter(|span| span.kind == "server" && span.text("url.path").starts_with("/long"))
            .collect();
        assert_eq!(long.len(), 2, "{spans:?}");
        for span in long {
            assert_eq!(span.trace_id, "0af7651916cd43dd8448eb211c80319c", "{span:?}");
        }
        nginx.finish();
    }

    fn an_answer_of_many_segments_is_told_while_its_connection_idles(backend) {
        if has("an_answer_of_many_segments", &["node"]) {
            let server = Server::node();
            let agent = trace_ports(backend, &[server.port]);
            let arguments = ["--count", "20", "--path", "/pieces/40?{n}"];
            let spans = held(agent, server.port, &arguments, 20, 40);
            let wanted = expected(20, |_| "/pieces/40".to_owned(), 200);
            assert_eq!(answers(&spans, "server"), wanted);
        }
    }

    fn varnish_with_many_fields_is_told_while_its_connections_idle(backend) {
        if has("varnish_with_many_fields", &["varnishd"]) {
            let fields: String = (0..30).map(|n| format!("add_header X-Field-{n} value-{n};")).collect();
            let nginx = Nginx::start(&Options {
                more: format!("location /many/ {{ {fields} return 200 \"ok\\n\"; }}"),
                ..Options::default()
            });
            let directory = TempDir::new().unwrap();
            let port = free_port();
            let mut command = Command::new(find("varnishd").unwrap());
            command
                .args(["-F", "-a", &format!("127.0.0.1:{port}"), "-b", &format!("127.0.0.1:{}", nginx.port)])
                .arg("-n")
                .arg(directory.path().join("varnish"))
                .args(["-s", "malloc,16m", "-j", "none"]);
            let varnish = Process::start(&mut command);
            wait_until("varnish listens", LIMIT, || {
                std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            let agent = trace_ports(backend, &[port, nginx.port]);
            // Of the client, of Varnish's two ends, and of nginx.
            let spans = held(agent, port, &["--count", "20", "--path", "/many/{n}"], 20, 80);
            let mut wanted = expected(20, |n| format!("/many/{n}"), 200);
            wanted.extend(wanted.clone());
            wanted.sort();
            for kind in ["server", "client"] {
                assert_eq!(answers(&spans, kind), wanted, "{kind}");
            }
            varnish.signal(rustix::process::Signal::TERM);
            nginx.finish();
        }
    }
}
