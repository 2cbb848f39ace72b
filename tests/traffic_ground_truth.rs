//! The clients and servers of the tests say the truth: what one end prints is what the other end has written down.
//! No agent takes part.

mod support;

use support::collector::Collector;
use support::machine::{has, is_root};
use support::netns::NetnsPair;
use support::nginx::{self, Nginx, Options};
use support::otlp::{MetricPoint, Span};
use support::traffic::{self, Client, Request, Server};

#[test]
fn each_client_prints_what_nginx_logs() {
    const TEST: &str = "each_client_prints_what_nginx_logs";
    if !has(TEST, &["nginx", "python3"]) {
        return;
    }
    let mut clients = vec![
        (
            Client::KeepAlive,
            vec!["--count", "20", "--connections", "4", "--path", "/k/{n}"],
        ),
        (
            Client::KeepAlive,
            vec![
                "--count", "5", "--path", "/404", "--path", "/500", "--method", "DELETE",
            ],
        ),
        (Client::Pipelined, vec!["--count", "10"]),
        (
            Client::Slow,
            vec!["--count", "2", "--path", "/files/64k", "--pause-ms", "2"],
        ),
        (Client::ShortLived, vec![]),
    ];
    if has(TEST, &["go"]) {
        clients.push((
            Client::Go,
            vec!["--count", "10", "--connections", "2", "--path", "/go/{n}"],
        ));
    }
    if has(TEST, &["node"]) {
        clients.push((
            Client::Node,
            vec!["--count", "10", "--connections", "2", "--path", "/node/{n}"],
        ));
    }
    for (client, arguments) in clients {
        let nginx = Nginx::start(&Options::default());
        let requests = client.run(nginx.port, &arguments);
        let log = nginx.finish();
        assert!(!requests.is_empty(), "{client:?} did nothing");
        assert_eq!(traffic::keys(&requests), nginx::keys(&log), "{client:?}");
        let sent: u64 = log.iter().map(|one| one.response_body).sum();
        let received: u64 = requests.iter().map(|one| one.response_body).sum();
        assert_eq!(sent, received, "{client:?}");
    }
}

#[test]
fn a_keep_alive_client_uses_as_many_connections_as_it_was_told() {
    if !has(
        "a_keep_alive_client_uses_as_many_connections",
        &["nginx", "python3"],
    ) {
        return;
    }
    let nginx = Nginx::start(&Options::default());
    Client::KeepAlive.run(nginx.port, &["--count", "30", "--connections", "3"]);
    let log = nginx.finish();
    let mut connections: Vec<u64> = log.iter().map(|one| one.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 3);
    assert_eq!(log.iter().map(|one| one.connection_request).max(), Some(10));
}

#[test]
fn servers_of_ours_agree_with_their_clients_on_bodies() {
    const TEST: &str = "servers_of_ours_agree_with_their_clients_on_bodies";
    if !has(TEST, &["python3"]) {
        return;
    }
    let mut servers = vec![("python", Server::python(&[]))];
    if has(TEST, &["go"]) {
        servers.push(("go", Server::go()));
    }
    if has(TEST, &["node"]) {
        servers.push(("node", Server::node()));
    }
    for (name, server) in servers {
        let upload = [
            "--count", "4", "--method", "POST", "--path", "/upload", "--body", "100000",
        ];
        let mut requests = Client::KeepAlive.run(server.port, &upload);
        requests
            .extend(Client::KeepAlive.run(server.port, &[&upload[..], &["--chunked"]].concat()));
        let answered = server.wait_for(8);
        let bodies = |requests: &[Request]| {
            let mut bodies: Vec<_> = requests
                .iter()
                .map(|one| (one.request_body, one.response_body))
                .collect();
            bodies.sort_unstable();
            bodies
        };
        assert_eq!(traffic::keys(&requests), traffic::keys(&answered), "{name}");
        assert_eq!(bodies(&requests), bodies(&answered), "{name}");
    }
}

#[test]
fn chunked_answers_and_cut_ones_are_counted_alike_at_both_ends() {
    if !has("chunked_answers_and_cut_ones", &["python3"]) {
        return;
    }
    let server = Server::python(&[]);
    let requests = Client::KeepAlive.run(
        server.port,
        &[
            "--count",
            "3",
            "--path",
            "/chunked?chunks=3&size=1000",
            "--path",
            "/trailers",
            "--path",
            "/cut",
        ],
    );
    let received: Vec<u64> = requests.iter().map(|one| one.response_body).collect();
    let sent: Vec<u64> = server
        .wait_for(3)
        .iter()
        .map(|one| one.response_body)
        .collect();
    assert_eq!(received, [3000, 20, 100]);
    assert_eq!(sent, received);
    assert_eq!(requests[2].error.as_deref(), Some("IncompleteRead"));
}

#[test]
fn a_reset_reaches_the_server_in_the_middle_of_its_answer() {
    if !has("a_reset_reaches_the_server", &["python3"]) {
        return;
    }
    let server = Server::python(&[]);
    let requests = Client::Reset.run(
        server.port,
        &[
            "--count",
            "2",
            "--when",
            "in-response",
            "--path",
            "/bytes/30000000",
        ],
    );
    let answered = server.wait_for(2);
    assert!(
        requests
            .iter()
            .all(|one| one.status == Some(200) && one.response_body <= 64)
    );
    assert!(
        answered.iter().all(|one| one.error.is_some()),
        "{answered:?}"
    );
}

#[test]
fn nginx_passes_requests_on_over_tcp_and_a_unix_socket() {
    if !has("nginx_passes_requests_on", &["nginx", "python3"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let path = directory.path().join("api.sock");
    let path = path.to_str().expect("a path in UTF-8");
    let tcp = Server::python(&[]);
    let unix = Server::python(&["--unix", path]);
    for (server, upstream) in [
        (&tcp, format!("127.0.0.1:{}", tcp.port)),
        (&unix, format!("unix:{path}")),
    ] {
        let nginx = Nginx::start(&Options {
            upstream: Some(upstream),
            ..Options::default()
        });
        let requests = Client::KeepAlive.run(nginx.port, &["--count", "5", "--path", "/api/{n}"]);
        let answered = server.wait_for(5);
        let log = nginx.finish();
        assert_eq!(traffic::keys(&requests), nginx::keys(&log));
        assert_eq!(traffic::keys(&requests), traffic::keys(&answered));
        assert!(log.iter().all(|one| one.upstream_ms.is_some()));
    }
}

#[test]
fn nginx_listens_on_ipv6_on_the_same_port() {
    if !has("nginx_listens_on_ipv6", &["nginx", "python3"]) {
        return;
    }
    let nginx = Nginx::start(&Options {
        ipv6: true,
        ..Options::default()
    });
    Client::KeepAlive.run(nginx.port, &["--host", "::1", "--count", "2"]);
    assert_eq!(nginx.finish().len(), 2);
}

#[test]
fn requests_cross_from_one_network_namespace_to_another() {
    const TEST: &str = "requests_cross_from_one_network_namespace_to_another";
    if !is_root(TEST) || !has(TEST, &["ip", "nginx", "python3"]) {
        return;
    }
    let pair = NetnsPair::new();
    let nginx = Nginx::start(&Options {
        address: Some(pair.right.address.clone()),
        netns: Some(pair.right.name.clone()),
        ..Options::default()
    });
    let output = pair
        .left
        .command("curl")
        .args(["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg(format!(
            "http://{}:{}/across",
            pair.right.address, nginx.port
        ))
        .output()
        .expect("run curl");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200");
    let log = nginx.finish();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].uri, "/across");
}

#[test]
fn the_collector_writes_what_it_is_sent_and_survives_a_kill() {
    const TEST: &str = "the_collector_writes_what_it_is_sent_and_survives_a_kill";
    if !has(TEST, &["curl"]) {
        return;
    }
    let Some(mut collector) = Collector::start(TEST) else {
        return;
    };
    let send = |port: u16, signal: &str, body: &str| {
        let output = std::process::Command::new("curl")
            .args(["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(["-H", "Content-Type: application/json", "-d", body])
            .arg(format!("http://127.0.0.1:{port}/v1/{signal}"))
            .output()
            .expect("run curl");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "200", "{output:?}");
    };
    send(collector.http_port, "traces", TRACES);
    let limit = std::time::Duration::from_secs(10);
    collector.wait_for_spans("first span", limit, |spans| spans.len() == 1);
    collector.kill();
    collector.restart();
    send(collector.http_port, "traces", TRACES);
    send(collector.http_port, "metrics", METRICS);
    let (spans, points) = collector.finish();
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[0], Span::of_line(TRACES)[0]);
    assert_eq!(spans[0].integer("http.response.status_code"), Some(503));
    assert_eq!((spans[0].kind, spans[0].status), ("server", "error"));
    assert_eq!(points, MetricPoint::of_line(METRICS));
    assert_eq!(
        (points[0].count, points[0].value, points[0].temporality),
        (3, 0.5, 1)
    );
}

const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
"scopeSpans":[{"scope":{"name":"test"},"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708",
"name":"GET /","kind":2,"startTimeUnixNano":"1700000000000000001","endTimeUnixNano":"1700000000000000009",
"attributes":[{"key":"http.response.status_code","value":{"intValue":"503"}}],"status":{"code":2}}]}]}]}"#;

const METRICS: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
"scopeMetrics":[{"scope":{"name":"test"},"metrics":[{"name":"http.server.request.duration","unit":"s","histogram":{
"aggregationTemporality":1,"dataPoints":[{"startTimeUnixNano":"1","timeUnixNano":"2","count":"3","sum":0.5,
"bucketCounts":["1","2"],"explicitBounds":[0.1]}]}}]}]}]}"#;
