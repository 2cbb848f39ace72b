//! Clients that pipeline, that stop reading, or that send what few programs send: what is said of them is true.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use support::agent::{Agent, Outcome, trace_ports};
use support::backends::on_each_backend;
use support::machine::has;
use support::nginx::{Nginx, Options};
use support::otlp::Span;
use tempfile::NamedTempFile;

const LIMIT: Duration = Duration::from_secs(60);

/// Waits for as many spans, stops, and returns all; `stop` asserts that the ledger is closed.
fn stop_after(agent: Agent, spans: usize) -> Outcome {
    agent.wait_for_spans(spans, LIMIT);
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    outcome
}

fn path(span: &Span) -> String {
    let text = if span.kind == "server" {
        span.text("url.path")
    } else {
        let (_, rest) = span.text("url.full").split_once("://").unwrap_or_default();
        rest.find('/').map_or("/", |at| &rest[at..])
    };
    text.split('?').next().unwrap_or_default().to_owned()
}

/// Spans whose status is not the one that the server gives on their path.
fn wrong(spans: &[Span], expected: impl Fn(&str) -> i64) -> Vec<String> {
    spans
        .iter()
        .filter_map(|span| {
            let told = span.integer("http.response.status_code")?;
            let right = expected(&path(span));
            (told != right).then(|| format!("{} {} {told}, not {right}", span.kind, path(span)))
        })
        .collect()
}

/// Reads one head and nothing behind it.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

const IN_TURN: [i64; 4] = [200, 404, 200, 503];

/// Serves one connection: the answers' statuses are `IN_TURN`.
fn serve_in_turn(listener: TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut waiting = Vec::new();
    let mut answered = 0;
    let mut buffer = [0; 65536];
    loop {
        let count = stream.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            return;
        }
        waiting.extend_from_slice(&buffer[..count]);
        while let Some(end) = waiting.windows(4).position(|four| four == b"\r\n\r\n") {
            waiting.drain(..end + 4);
            let status = IN_TURN[answered % IN_TURN.len()];
            answered += 1;
            thread::sleep(Duration::from_millis(2));
            let head = format!("HTTP/1.1 {status} Because\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        }
    }
}

on_each_backend! {
    fn each_of_many_pipelined_requests_is_told_with_its_own_status(backend) {
        if !has("each_of_many_pipelined_requests", &["h2load"]) {
            return;
        }
        let nginx = Nginx::start(&Options { without_log: true, ..Options::default() });
        let uris = NamedTempFile::new().unwrap();
        let lines: String = (0..40)
            .map(|number| {
                let path = ["/a", "/404", "/b", "/503"][number % 4];
                format!("http://127.0.0.1:{}{path}?{number}\n", nginx.port)
            })
            .collect();
        std::fs::write(uris.path(), lines).unwrap();
        let agent = trace_ports(backend, &[nginx.port]);
        let status = Command::new("h2load")
            .args(["--h1", "-n", "2000", "-c", "2", "-m", "32", "-i"])
            .arg(uris.path())
            // The first write is longer than one event can be.
            .args(["-H", &format!("cookie: {}", "c".repeat(900))])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        let outcome = stop_after(agent, 4000);
        let spans = outcome.spans();
        for kind in ["server", "client"] {
            let count = spans.iter().filter(|span| span.kind == kind).count();
            assert_eq!(count, 2000, "{kind}: {}", outcome.stderr.join("\n"));
        }
        let wrong = wrong(&spans, |path| match path {
            "/404" => 404,
            "/503" => 503,
            _ => 200,
        });
        let some: Vec<_> = wrong.iter().take(4).collect();
        assert!(wrong.is_empty(), "{} of {}: {some:?}", wrong.len(), spans.len());
    }

    fn a_request_hidden_behind_a_long_head_shifts_no_answer(backend) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let agent = trace_ports(backend, &[port]);
        let server = thread::spawn(move || serve_in_turn(listener));
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let cookie = "c".repeat(4200);
        let request = |number: usize| {
            format!("GET /{number} HTTP/1.1\r\nHost: shop\r\nCookie: a={cookie}\r\n\r\n")
        };
        stream.write_all((request(0) + &request(1)).as_bytes()).unwrap();
        for number in 2..40 {
            read_head(&mut stream).unwrap();
            stream.write_all(request(number).as_bytes()).unwrap();
        }
        for _ in 0..2 {
            read_head(&mut stream).unwrap();
        }
        drop(stream);
        server.join().unwrap();
        let outcome = stop_after(agent, 2);
        let spans = outcome.spans();
        let wrong = wrong(&spans, |path| {
            let number: usize = path[1..].parse().unwrap();
            IN_TURN[number % IN_TURN.len()]
        });
        assert!(wrong.is_empty(), "{} of {}: {wrong:?}", wrong.len(), spans.len());
    }

    fn what_nginx_answers_is_seen_however_unusual(backend) {
        let nginx = Nginx::start(&Options::default());
        let agent = trace_ports(backend, &[nginx.port]);
        let mut sent = 0;
        for request in [
            "GET /minor HTTP/1.2\r\nHost: shop.example:\r\n\r\n",
            "GET  /two HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "GET /raw space HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "GET /no-version\r\n\r\n",
            "nonsense\r\n\r\n",
            "GET /later HTTP/3.0\r\nHost: x\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(("127.0.0.1", nginx.port)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            sent += usize::from(answer.starts_with("HTTP/1."));
        }
        let outcome = stop_after(agent, 2 * sent);
        let mut log: Vec<i64> = nginx.finish().iter().map(|one| i64::from(one.status)).collect();
        let mut seen: Vec<i64> = outcome
            .spans()
            .iter()
            .filter(|span| span.kind == "server")
            .filter_map(|span| span.integer("http.response.status_code"))
            .collect();
        log.sort_unstable();
        seen.sort_unstable();
        assert!(seen.len() == sent && sent >= 5, "{seen:?} of {log:?}");
        assert!(seen.iter().filter(|status| **status == 400).count() >= 2, "{seen:?}");
    }

    fn a_client_that_stops_reading_has_not_got_the_answer(backend) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let agent = trace_ports(backend, &[port]);
        let server = thread::spawn(move || {
            for whole in [false, true] {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&mut stream).unwrap();
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\npart of the answer").unwrap();
                if !whole {
                    // Until the client has gone.
                    drop(stream.read(&mut [0]));
                }
            }
        });
        for whole in [false, true] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let request = format!("GET /{whole} HTTP/1.0\r\nHost: shop\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 100];
            while stream.read(&mut answer).unwrap() > 0 && whole {}
        }
        server.join().unwrap();
        let spans = stop_after(agent, 4).spans();
        let client = |path_of: &str| {
            let found = spans.iter().find(|span| span.kind == "client" && path(span) == path_of);
            found.unwrap().clone()
        };
        assert_eq!(client("/false").text("error.type"), "connection_closed");
        assert_eq!(client("/true").text("error.type"), "");
    }
}
