//! More connections than the agent follows, and heads that never end: nobody's good requests go unseen.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use support::agent::{Agent, capture, trace};
use support::backends::on_each_backend;
use support::machine::{has, is_root};
use support::otlp::Span;
use support::traffic::Server;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

fn agent(backend: &str, more: &str, arguments: &[&str]) -> Agent {
    trace(&format!("{}{more}", capture(backend, &[])), arguments)
}

/// One request on a connection that stays, and its answer.
fn exchange<S: Read + Write>(stream: &mut S, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
}

fn of_path<'a>(spans: &'a [Span], path: &str) -> Vec<&'a Span> {
    let is = |span: &&Span| span.text("url.path") == path || span.text("url.full").ends_with(path);
    spans.iter().filter(is).collect()
}

on_each_backend! {
    fn of_more_connections_than_are_followed_each_request_is_seen_with_its_peer(backend) {
        let test = "of_more_connections_than_are_followed_each_request_is_seen_with_its_peer";
        if !is_root(test) || !has(test, &["python3"]) {
            return;
        }
        let server = Server::python(&[]);
        let more = "    protocols:\n      http:\n        max_connections: 4\n";
        let port = server.port.to_string();
        let agent = agent(backend, more, &["--port", &port]);
        let connect = || TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let mut streams = Vec::new();
        let mut sent = 0;
        for round in 0..3 {
            for number in 0..8 {
                if round == 0 {
                    streams.push(connect());
                }
                exchange(&mut streams[number], &format!("/round{round}/stream{number}"));
                sent += 1;
                // Both ends, before the next connection takes their places.
                agent.wait_for_spans(2 * sent, LIMIT);
            }
        }
        let ports: Vec<_> = streams
            .iter()
            .map(|stream| i64::from(stream.local_addr().unwrap().port()))
            .collect();
        let outcome = agent.stop();
        let spans = outcome.spans();
        assert_eq!(spans.len(), 2 * sent, "{}", outcome.stderr.join("\n"));
        for round in 0..3 {
            for (number, port) in ports.iter().enumerate() {
                let spans = of_path(&spans, &format!("/round{round}/stream{number}"));
                assert_eq!(spans.len(), 2);
                for span in spans {
                    assert_eq!(span.text("network.peer.address"), "127.0.0.1", "{span:?}");
                    if span.kind == "server" {
                        assert_eq!(span.integer("client.port"), Some(*port));
                    }
                }
            }
        }
        let reason = "exchange.connections_full";
        assert_eq!(outcome.ledger.dropped("exchanges", reason), 0);
    }

    fn unix_sockets_that_have_ended_make_room_for_others(backend) {
        let test = "unix_sockets_that_have_ended_make_room_for_others";
        if !is_root(test) || !has(test, &["python3"]) {
            return;
        }
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("server.sock");
        let unix = Server::python(&["--unix", path.to_str().unwrap()]);
        let server = Server::python(&[]);
        let more = "      unix_sockets: true\n    protocols:\n      http:\n        max_connections: 16\n";
        // The servers alone: connections of other programs would take the few places.
        let pids = [&unix, &server].map(|server| server.pid().to_string());
        let agent = agent(backend, more, &["--pid", &pids[0], "--pid", &pids[1]]);
        for number in 0..40 {
            let mut stream = UnixStream::connect(&path).unwrap();
            exchange(&mut stream, &format!("/unix/{number}"));
        }
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        exchange(&mut stream, "/tcp");
        agent.wait_for_span(|span| span.text("url.path") == "/tcp", LIMIT);
        let outcome = agent.stop();
        let spans = outcome.spans();
        assert_eq!(of_path(&spans, "/tcp").len(), 1, "{spans:#?}");
        let reason = "exchange.connections_full";
        assert_eq!(outcome.ledger.dropped("exchanges", reason), 0);
        for number in 0..40 {
            let path = format!("/unix/{number}");
            let ledger = &outcome.ledger;
            assert_eq!(of_path(&spans, &path).len(), 1, "{path}: {ledger:?}");
        }
    }

    fn heads_that_never_end_do_not_blind_the_agent(backend) {
        let test = "heads_that_never_end_do_not_blind_the_agent";
        if !is_root(test) || !has(test, &["python3"]) {
            return;
        }
        let server = Server::python(&[]);
        let port = server.port.to_string();
        let agent = agent(backend, "", &["--port", &port]);
        let connect = || TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let (mut attackers, mut good) = (Vec::new(), Vec::new());
        // A line of 64 KiB is the most that the server takes; more than 16 MiB in all, at both ends.
        for number in 0..300 {
            let mut stream = connect();
            stream.write_all(b"GET /").unwrap();
            for _ in 0..15 {
                stream.write_all(&[b'a'; 4096]).unwrap();
            }
            attackers.push(stream);
            if number % 10 == 9 {
                // Also lets the agent keep pace: this is not about a full ring.
                let mut stream = connect();
                exchange(&mut stream, &format!("/good/{number}"));
                good.push(stream);
                agent.wait_for_spans(2 * good.len(), LIMIT);
            }
        }
        let outcome = agent.stop();
        assert_eq!(outcome.spans().len(), 2 * good.len());
        assert!(outcome.ledger.dropped("exchanges", "exchange.memory") > 0);
    }
}
