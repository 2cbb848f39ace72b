//! Real HTTP traffic on this machine becomes spans that say what the programs themselves say, on each backend.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::agent::{Agent, Outcome, capture, trace, trace_ports};
use support::backends::{load, on_each_backend, times_are_compared};
use support::machine::has;
use support::netns::NetnsPair;
use support::nginx::{self, Access, Nginx, Options};
use support::otlp::Span;
use support::traffic::{self, Client, Key, Server};

const LIMIT: Duration = Duration::from_secs(60);

/// Waits for as many spans, stops, and returns all.
fn stop_after(agent: Agent, spans: usize) -> Outcome {
    agent.wait_for_spans(spans, LIMIT);
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    outcome
}

fn of_kind(spans: &[Span], kind: &str) -> Vec<Span> {
    spans
        .iter()
        .filter(|span| span.kind == kind)
        .cloned()
        .collect()
}

fn key(span: &Span) -> Key {
    let method = match span.text("http.request.method") {
        "_OTHER" => span.text("http.request.method_original"),
        method => method,
    };
    let mut path = match span.kind {
        "server" => span.text("url.path").to_owned(),
        _ => {
            let url = span.text("url.full");
            let (_, rest) = url.split_once("://").unwrap_or(("", url));
            rest.find('/').map_or("/", |at| &rest[at..]).to_owned()
        }
    };
    if span.kind == "server" && !span.text("url.query").is_empty() {
        path = format!("{path}?{}", span.text("url.query"));
    }
    let status = span.integer("http.response.status_code");
    (
        method.to_owned(),
        path,
        status.map(|status| status.try_into().unwrap()),
    )
}

fn keys(spans: &[Span]) -> Vec<Key> {
    let mut keys: Vec<Key> = spans.iter().map(key).collect();
    keys.sort();
    keys
}

/// Each server span lasts as long as nginx says, to its clock of 1 ms at both ends, or 5 %.
///
/// Paths must be unique. A process that loses its CPU between its own clock and its system call differs for no
/// fault of either, so one in a hundred may.
fn assert_durations(spans: &[Span], log: &[Access]) {
    if !times_are_compared("durations of spans with those of nginx") {
        return;
    }
    let logged: BTreeMap<&str, u64> = log
        .iter()
        .map(|one| (one.uri.as_str(), one.duration_ms))
        .collect();
    let wrong: Vec<String> = spans
        .iter()
        .filter_map(|span| {
            let expected = *logged.get(span.text("url.path"))? as f64;
            let measured = span.duration_ns() as f64 / 1e6;
            let allowed = (expected * 0.05).max(2.0);
            ((measured - expected).abs() > allowed).then(|| {
                format!(
                    "{}: {measured} ms, nginx says {expected}",
                    span.text("url.path")
                )
            })
        })
        .collect();
    assert!(
        wrong.len() * 100 <= spans.len(),
        "{} of {}: {wrong:?}",
        wrong.len(),
        spans.len()
    );
}

on_each_backend! {
    fn spans_equal_the_access_log_at_both_ends(backend) {
        let nginx = Nginx::start(&Options::default());
        let agent = trace_ports(backend, &[nginx.port]);
        let mut requests = Client::KeepAlive.run(
            nginx.port,
            &["--count", "200", "--connections", "4", "--path", "/items/{n}", "--method", "GET",
              "--method", "PATCH", "--method", "OPTIONS"],
        );
        for path in ["/404", "/500", "/204", "/301"] {
            requests.extend(Client::KeepAlive.run(nginx.port, &["--count", "3", "--path", path]));
        }
        let spans = stop_after(agent, 2 * requests.len()).spans();
        let log = nginx.finish();
        assert_eq!(keys(&of_kind(&spans, "server")), nginx::keys(&log));
        assert_eq!(keys(&of_kind(&spans, "client")), traffic::keys(&requests));
        assert_durations(&of_kind(&spans, "server"), &log);
        for span in of_kind(&spans, "server") {
            assert_eq!(span.resource["service.name"], "nginx");
            assert_ne!(span.name, format!("GET {}", span.text("url.path")), "raw path in a name");
            assert!(span.attributes.contains_key("spandrel.tcp.rtt"), "{span:?}");
        }
        for span in of_kind(&spans, "client") {
            assert_eq!(span.resource["service.name"], "keepalive_client");
        }
    }

    fn ten_thousand_requests_on_fifty_connections_are_ten_thousand_pairs(backend) {
        let count = load("requests on fifty connections", 10_000);
        let nginx = Nginx::start(&Options::default());
        let agent = trace_ports(backend, &[nginx.port]);
        let requests = Client::KeepAlive
            .run(nginx.port, &["--count", &count.to_string(), "--connections", "50", "--path", "/n/{n}"]);
        let outcome = stop_after(agent, 2 * count);
        let spans = outcome.spans();
        let log = nginx.finish();
        assert_eq!(keys(&of_kind(&spans, "server")), nginx::keys(&log));
        assert_eq!(keys(&of_kind(&spans, "client")), traffic::keys(&requests));
        assert_eq!(outcome.ledger.count("spans", "exported"), 2 * count as u64);
        // Cumulative: where the run is longer than the interval of export, a later point replaces an earlier one.
        let counted: BTreeMap<String, u64> = outcome
            .metrics()
            .iter()
            .filter(|point| point.name == "http.server.request.duration")
            .map(|point| (format!("{:?} {:?}", point.resource, point.attributes), point.count))
            .collect();
        assert_eq!(counted.values().sum::<u64>(), count as u64, "metrics count every exchange");
    }

    fn pipelined_requests_are_each_a_span(backend) {
        let nginx = Nginx::start(&Options::default());
        let agent = trace_ports(backend, &[nginx.port]);
        let requests = Client::Pipelined.run(nginx.port, &["--count", "20"]);
        let spans = stop_after(agent, 40).spans();
        let log = nginx.finish();
        assert_eq!(keys(&of_kind(&spans, "server")), nginx::keys(&log));
        assert_eq!(keys(&of_kind(&spans, "client")), traffic::keys(&requests));
    }

    fn bodies_are_measured_whether_sent_by_sendfile_or_by_write(backend) {
        let nginx = Nginx::start(&Options::default());
        let agent = trace_ports(backend, &[nginx.port]);
        let paths = ["--path", "/files/1m", "--path", "/plain/1m", "--path", "/files/small"];
        let requests = Client::KeepAlive.run(nginx.port, &[&["--count", "6"][..], &paths].concat());
        let spans = stop_after(agent, 12).spans();
        let log = nginx.finish();
        assert_eq!(keys(&of_kind(&spans, "server")), nginx::keys(&log));
        for request in &requests {
            for kind in ["server", "client"] {
                let sizes: Vec<i64> = of_kind(&spans, kind)
                    .iter()
                    .filter(|span| key(span).1 == request.path)
                    .filter_map(|span| span.integer("http.response.body.size"))
                    .collect();
                assert_eq!(sizes, [request.response_body as i64; 2], "{kind} {}", request.path);
            }
        }
    }

    fn chunked_bodies_end_where_they_end(backend) {
        let server = Server::python(&[]);
        let agent = trace_ports(backend, &[server.port]);
        let mut requests = Client::KeepAlive.run(
            server.port,
            &["--count", "4", "--method", "POST", "--body", "100000", "--chunked", "--path", "/upload/{n}"],
        );
        requests.extend(Client::KeepAlive.run(
            server.port,
            &["--count", "4", "--path", "/chunked/50000", "--path", "/trailers/20"],
        ));
        let served = server.wait_for(8);
        let spans = stop_after(agent, 16).spans();
        assert_eq!(keys(&of_kind(&spans, "server")), traffic::keys(&served));
        assert_eq!(keys(&of_kind(&spans, "client")), traffic::keys(&requests));
    }

    fn a_slow_client_makes_a_long_client_span(backend) {
        let nginx = Nginx::start(&Options::default());
        let agent = trace_ports(backend, &[nginx.port]);
        let requests = Client::Slow.run(nginx.port, &["--count", "1", "--path", "/files/64k"]);
        let spans = stop_after(agent, 2).spans();
        let clients = of_kind(&spans, "client");
        assert_eq!(keys(&clients), traffic::keys(&requests));
        let (measured, truth) = (clients[0].duration_ns() as f64, requests[0].duration_ns() as f64);
        if times_are_compared("the duration of a slow client's span with the client's own") {
            assert!((measured - truth).abs() < (truth * 0.05).max(2e6), "{measured} ns, not {truth}");
        }
    }

    fn an_answer_cut_short_is_an_error_without_an_invented_status(backend) {
        let nginx = Nginx::start(&Options::default());
        let agent = trace_ports(backend, &[nginx.port]);
        let ended = Client::Reset
            .run(nginx.port, &["--count", "2", "--when", "in-response", "--path", "/files/1m"]);
        let spans = stop_after(agent, 4).spans();
        for client in of_kind(&spans, "client") {
            assert_eq!(client.status, "error", "{client:?}");
            assert!(client.text("error.type").starts_with("connection_"), "{client:?}");
        }
        assert_eq!(of_kind(&spans, "client").len(), ended.len());
    }

    fn ipv6_is_seen_like_ipv4(backend) {
        let nginx = Nginx::start(&Options { ipv6: true, ..Options::default() });
        let agent = trace_ports(backend, &[nginx.port]);
        let requests = Client::KeepAlive
            .run(nginx.port, &["--host", "::1", "--count", "10", "--path", "/six/{n}"]);
        let spans = stop_after(agent, 20).spans();
        assert_eq!(keys(&of_kind(&spans, "client")), traffic::keys(&requests));
        for span in &spans {
            assert_eq!(span.text("network.peer.address"), "::1");
        }
    }

    fn a_process_of_300_ms_yields_its_three_requests(backend) {
        let nginx = Nginx::start(&Options::default());
        let agent = trace_ports(backend, &[nginx.port]);
        let requests = Client::ShortLived.run(nginx.port, &[]);
        let spans = stop_after(agent, 6).spans();
        let clients = of_kind(&spans, "client");
        assert_eq!(keys(&clients), traffic::keys(&requests));
        assert_eq!(clients.len(), 3);
        for span in clients {
            assert_eq!(span.resource["service.name"], "short_lived");
        }
    }

    fn an_agent_started_in_the_middle_keeps_the_rest_of_each_connection(backend) {
        let nginx = Nginx::start(&Options::default());
        let running = Client::KeepAlive
            .start(nginx.port, &["--count", "1000000", "--connections", "4", "--path", "/m/{n}"]);
        running.wait_for(200);
        // The client sends as fast as it can: a ring that is not emptied in time is not what this is about.
        let settings = capture(backend, &["ring_buffer_bytes: 67108864"]);
        let agent = trace(&settings, &["--port", &nginx.port.to_string()]);
        let ready_ns = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64;
        agent.wait_for_spans(2 * load("requests after the agent's start", 2000), LIMIT);
        let requests = running.stop();
        let later = requests.iter().filter(|request| request.start_ns > ready_ns).count();
        assert!(later > 0, "the client ended before the agent was ready");
        let spans = stop_after(agent, later * 2 * 95 / 100).spans();
        for kind in ["server", "client"] {
            let seen = of_kind(&spans, kind).iter().filter(|span| span.start_ns > ready_ns).count();
            assert!(seen * 100 >= later * 95, "{kind}: {seen} of {later}");
        }
    }

    fn two_network_namespaces_are_two_ends(backend) {
        let pair = NetnsPair::new();
        let nginx = Nginx::start(&Options {
            address: Some(pair.right.address.clone()),
            netns: Some(pair.right.name.clone()),
            ..Options::default()
        });
        let agent = trace_ports(backend, &[nginx.port]);
        let url = format!("http://{}:{}/over/there", pair.right.address, nginx.port);
        let curl = pair.left.command("curl").args(["-s", "-o", "/dev/null", &url]).status();
        assert!(curl.unwrap().success());
        let spans = stop_after(agent, 2).spans();
        let server = &of_kind(&spans, "server")[0];
        let client = &of_kind(&spans, "client")[0];
        assert_eq!(server.text("network.peer.address"), pair.left.address);
        assert_eq!(client.text("network.peer.address"), pair.right.address);
        assert_eq!(key(server).1, "/over/there");
        assert_eq!(key(client).1, "/over/there");
    }

    fn go_and_node_are_seen_like_python(backend) {
        if !has("go_and_node_are_seen_like_python", &["go", "node"]) {
            return;
        }
        for (client, server) in [(Client::Go, Server::node()), (Client::Node, Server::go())] {
            let agent = trace_ports(backend, &[server.port]);
            let requests = client.run(server.port, &["--count", "20", "--path", "/x/{n}"]);
            let spans = stop_after(agent, 40).spans();
            assert_eq!(keys(&of_kind(&spans, "client")), traffic::keys(&requests));
            assert_eq!(keys(&of_kind(&spans, "server")), traffic::keys(&server.wait_for(20)));
        }
    }

    fn a_ring_of_64_kib_under_load_loses_nothing_silently(backend) {
        let count = load("requests on a ring of 64 KiB", 5000);
        let nginx = Nginx::start(&Options { without_log: true, ..Options::default() });
        let settings = capture(backend, &["ring_buffer_bytes: 65536"]);
        let agent = trace(&settings, &["--port", &nginx.port.to_string()]);
        Client::KeepAlive.run(nginx.port, &["--count", &count.to_string(), "--connections", "32"]);
        // `stop` asserts the equations of the ledger.
        let outcome = agent.stop();
        assert!(outcome.ledger.count("messages", "seen") >= 4 * count as u64, "{:?}", outcome.ledger);
    }

    fn a_replay_gives_the_same_bytes_whatever_the_order_of_the_events(backend) {
        let nginx = Nginx::start(&Options::default());
        let directory = tempfile::tempdir().unwrap();
        let recording = directory.path().join("recording.jsonl");
        let arguments = ["--port", &nginx.port.to_string(), "--record", recording.to_str().unwrap()];
        let agent = trace(&capture(backend, &[]), &arguments);
        let requests = Client::KeepAlive.run(
            nginx.port,
            &["--count", "300", "--connections", "4", "--path", "/r/{n}"],
        );
        let live = stop_after(agent, 600).spans();

        let text = std::fs::read_to_string(&recording).unwrap();
        let (header, events) = text.split_once('\n').unwrap();
        let mut lines: Vec<&str> = events.lines().collect();
        lines.reverse();
        let shuffled = directory.path().join("shuffled.jsonl");
        std::fs::write(&shuffled, format!("{header}\n{}\n", lines.join("\n"))).unwrap();

        let replay = |file: &std::path::Path| {
            let agent = Agent::spawn(
                &["replay", file.to_str().unwrap(), "--output", "otlp-json"],
                |_| {},
            );
            let outcome = agent.finish();
            assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
            outcome
        };
        let (first, second, third) = (replay(&recording), replay(&recording), replay(&shuffled));
        assert_eq!(first.stdout, second.stdout);
        assert_eq!(first.stdout, third.stdout);
        assert_eq!(
            keys(&of_kind(&first.spans(), "client")),
            traffic::keys(&requests)
        );
        assert_eq!(keys(&first.spans()), keys(&live));

        // A part of a recording: no event says how the clocks relate, the header does.
        let cut: Vec<&str> = events
            .lines()
            .filter(|line| !line.contains("\"clock_synced\""))
            .collect();
        assert!(cut.len() < events.lines().count());
        let part = directory.path().join("part.jsonl");
        std::fs::write(&part, format!("{header}\n{}\n", cut.join("\n"))).unwrap();
        let times = |spans: &[Span]| -> Vec<u64> { spans.iter().map(|span| span.start_ns).collect() };
        let (whole, part) = (times(&first.spans()), times(&replay(&part).spans()));
        assert_eq!(whole.len(), part.len());
        for (whole, part) in whole.iter().zip(&part) {
            assert!(whole.abs_diff(*part) < 1_000_000_000, "{whole} and {part}");
        }
    }
}
