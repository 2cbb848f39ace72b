//! A proxy that passes a `traceparent` through stands between its caller and its upstream in the trace.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::time::Duration;

use support::agent::{Agent, capture, trace, trace_ports};
use support::backends::on_each_backend;
use support::haproxy::Haproxy;
use support::machine::has;
use support::netns::NetnsPair;
use support::nginx::{Nginx, Options};
use support::otlp::Span;
use support::traffic::{Client, Server};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);
const COUNT: usize = 40;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The parent that the header of a request names.
fn header(number: usize) -> String {
    format!("{:016x}", number + 1)
}

/// Sends so many requests, each with a `traceparent` of its own.
fn send(port: u16, prefix: &str, arguments: &[&str]) {
    let (count, path) = (COUNT.to_string(), format!("{prefix}{{n}}"));
    let context = format!("traceparent: 00-{TRACE}-{{id}}-01");
    let common = ["--count", &count, "--path", &path, "--header", &context];
    Client::KeepAlive.run(port, &[&common[..], arguments].concat());
}

fn path(span: &Span) -> String {
    match span.kind {
        "server" => span.text("url.path").to_owned(),
        _ => {
            let url = span.text("url.full").splitn(4, '/').nth(3);
            format!("/{}", url.unwrap_or_default())
        }
    }
}

fn stop(agent: Agent, spans: usize, prefix: &str) -> Vec<Span> {
    agent.wait_for_spans(spans, LIMIT);
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let mut spans = outcome.spans();
    spans.retain(|span| path(span).starts_with(prefix));
    spans
}

/// The one span of this kind below this parent.
fn child<'a>(spans: &[&'a Span], kind: &str, parent: &str) -> &'a Span {
    let found: Vec<_> = spans
        .iter()
        .filter(|span| span.kind == kind && span.parent_span_id == parent)
        .collect();
    assert_eq!(found.len(), 1, "{kind} below {parent}: {spans:#?}");
    found[0]
}

/// Below each header are the caller's own span and a chain: the proxy serves it, calls, and the upstream serves that call.
fn assert_chains(spans: &[Span], prefix: &str, proxy: &str) {
    for number in 0..COUNT {
        let wanted = format!("{prefix}{number}");
        let of_path: Vec<_> = spans.iter().filter(|span| path(span) == wanted).collect();
        assert_eq!(of_path.len(), 4, "{wanted}: {of_path:#?}");
        child(&of_path, "client", &header(number));
        let served = child(&of_path, "server", &header(number));
        let call = child(&of_path, "client", &served.span_id);
        let answered = child(&of_path, "server", &call.span_id);
        for span in [served, call] {
            assert_eq!(span.resource["service.name"], proxy, "{span:?}");
        }
        assert_ne!(
            answered.resource["process.pid"],
            served.resource["process.pid"]
        );
        for span in of_path {
            assert_eq!(span.trace_id, TRACE);
        }
    }
}

on_each_backend! {
    fn nginx_stands_between_its_caller_and_its_upstream(backend) {
        let upstream = Nginx::start(&Options {
            // `Connection: close` and HTTP/1.0 as well as kept connections.
            more: "location /api/kept/ { return 200 ok; } location /api/post/ { return 200 ok; }".to_owned(),
            ..Options::default()
        });
        let nginx = Nginx::start(&Options {
            upstream: Some(format!("127.0.0.1:{}", upstream.port)),
            more: format!("location /old/ {{ proxy_pass http://127.0.0.1:{}; }}", upstream.port),
            ..Options::default()
        });
        let agent = trace_ports(backend, &[nginx.port, upstream.port]);
        send(nginx.port, "/api/kept/", &["--connections", "4"]);
        send(nginx.port, "/old/", &["--connections", "4"]);
        send(nginx.port, "/api/post/", &["--method", "POST", "--body", "30000"]);
        let spans = stop(agent, 3 * 4 * COUNT, "/");
        for prefix in ["/api/kept/", "/old/", "/api/post/"] {
            assert_chains(&spans, prefix, "nginx");
        }
        nginx.finish();
        upstream.finish();
    }

    fn haproxy_stands_between_its_caller_and_its_upstream(backend) {
        if has("haproxy_stands_between", &["haproxy"]) {
            let upstream = Server::python(&[]);
            let haproxy = Haproxy::start(upstream.port, &[]);
            let agent = trace_ports(backend, &[haproxy.port, upstream.port]);
            send(haproxy.port, "/balanced/", &["--connections", "4"]);
            let spans = stop(agent, 4 * COUNT, "/");
            assert_chains(&spans, "/balanced/", "haproxy");
        }
    }

    fn an_upstream_in_another_network_namespace_is_below_the_call(backend) {
        let pair = NetnsPair::new();
        let upstream = Nginx::start(&Options {
            address: Some(pair.right.address.clone()),
            netns: Some(pair.right.name.clone()),
            more: "location /api/far/ { return 200 ok; }".to_owned(),
            ..Options::default()
        });
        let nginx = Nginx::start(&Options {
            address: Some(pair.left.address.clone()),
            netns: Some(pair.left.name.clone()),
            upstream: Some(format!("{}:{}", pair.right.address, upstream.port)),
            ..Options::default()
        });
        let agent = trace_ports(backend, &[nginx.port, upstream.port]);
        let url = format!("http://{}:{}/api/far/0", pair.left.address, nginx.port);
        let context = format!("traceparent: 00-{TRACE}-{}-01", header(0));
        let curl = pair.left.command("curl").args(["-s", "-o", "/dev/null", "-H", &context, &url]).status();
        assert!(curl.unwrap().success());
        let spans = stop(agent, 4, "/api/far/");
        let all: Vec<_> = spans.iter().collect();
        let served = child(&all, "server", &header(0));
        let call = child(&all, "client", &served.span_id);
        child(&all, "server", &call.span_id);
        nginx.finish();
        upstream.finish();
    }

    fn an_upstream_on_a_unix_socket_is_below_the_call(backend) {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("upstream.sock");
        let socket = socket.to_str().unwrap();
        let upstream = Server::python(&["--unix", socket]);
        let nginx = Nginx::start(&Options {
            upstream: Some(format!("unix:{socket}")),
            ..Options::default()
        });
        // Without a filter: a unix socket has no port.
        let agent = trace(&capture(backend, &["unix_sockets: true"]), &[] as &[&str]);
        let prefix = format!("/api/{}/", nginx.port);
        send(nginx.port, &prefix, &["--connections", "4"]);
        for number in 0..COUNT {
            let last = format!("{prefix}{number}");
            agent.wait_for_span(|span| span.kind == "server" && path(span) == last, LIMIT);
        }
        let spans = stop(agent, 4 * COUNT, &prefix);
        assert_chains(&spans, &prefix, "nginx");
        drop(upstream);
        nginx.finish();
    }

    fn a_request_that_selectors_leave_out_is_nobodys_parent(backend) {
        let upstream = Server::python(&[]);
        let nginx = Nginx::start(&Options {
            upstream: Some(format!("127.0.0.1:{}", upstream.port)),
            ..Options::default()
        });
        let agent = trace_ports(backend, &[upstream.port]);
        send(nginx.port, "/api/half/", &[]);
        let spans = stop(agent, 2 * COUNT, "/api/half/");
        assert_eq!(spans.len(), 2 * COUNT);
        for number in 0..COUNT {
            let wanted = format!("/api/half/{number}");
            let of_path: Vec<_> = spans.iter().filter(|span| path(span) == wanted).collect();
            child(&of_path, "client", &header(number));
            child(&of_path, "server", &header(number));
        }
        nginx.finish();
    }

    fn a_caller_that_selectors_leave_out_is_nobodys_parent(backend) {
        let nginx = Nginx::start(&Options::default());
        let settings = capture(backend, &[]);
        let agent = trace(&settings, &["--exe", "*/nginx", "--port", &nginx.port.to_string()]);
        let prefix = format!("/alone/{}/", nginx.port);
        let (count, path) = (COUNT.to_string(), format!("{prefix}{{n}}"));
        for _ in 0..3 {
            Client::KeepAlive.run(nginx.port, &["--count", &count, "--connections", "8", "--path", &path]);
        }
        let spans = stop(agent, 3 * COUNT, &prefix);
        assert_eq!(spans.len(), 3 * COUNT);
        for span in &spans {
            assert_eq!((span.kind, span.parent_span_id.as_str()), ("server", ""), "{span:#?}");
        }
        nginx.finish();
    }

    fn with_many_requests_of_one_header_under_way_no_call_is_given_to_another_request(backend) {
        let upstream = Server::python(&[]);
        let nginx = Nginx::start(&Options {
            upstream: Some(format!("127.0.0.1:{}", upstream.port)),
            ..Options::default()
        });
        let agent = trace_ports(backend, &[nginx.port, upstream.port]);
        let context = format!("traceparent: 00-{TRACE}-{}-01", header(0));
        let count = 400.to_string();
        let arguments = ["--count", &count, "--connections", "16", "--path", "/api/same/{n}", "--header", &context];
        Client::KeepAlive.run(nginx.port, &arguments);
        let spans = stop(agent, 1600, "/api/same/");
        let (mut linked, mut alone) = (0, 0);
        for span in &spans {
            if span.parent_span_id == header(0) {
                alone += 1;
                continue;
            }
            linked += 1;
            let parent = spans.iter().find(|other| other.span_id == span.parent_span_id);
            assert!(parent.is_some_and(|parent| path(parent) == path(span)), "{span:#?}");
        }
        assert!(alone > 800, "{linked} linked, {alone} alone");
        nginx.finish();
    }
}
