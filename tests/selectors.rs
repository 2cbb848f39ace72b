//! What selectors let through of real traffic, on each backend.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::agent::{self, Agent, Outcome, capture};
use support::backends::{load, on_each_backend};
use support::cgroup::Cgroup;
use support::machine::{find, has, is_root};
use support::nginx::{Nginx, Options};
use support::otlp::Span;
use support::traffic::{Client, Server};

const LIMIT: Duration = Duration::from_secs(60);

/// Traces with these selectors and arguments.
fn trace(backend: &str, selectors: &str, arguments: &[&str]) -> Agent {
    let selectors = format!("selectors: {selectors}");
    agent::trace(&capture(backend, &[&selectors]), arguments)
}

fn stop(agent: Agent) -> Outcome {
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    outcome
}

fn of_kind(spans: &[Span], kind: &str, path: &str) -> usize {
    let ours = |span: &&Span| {
        span.kind == kind
            && (span.text("url.path").starts_with(path) || span.text("url.full").contains(path))
    };
    spans.iter().filter(ours).count()
}

on_each_backend! {
    fn a_process_at_a_port_is_seen_for_as_long_as_it_speaks(backend) {
        let (server, neighbour) = (Server::python(&[]), Server::python(&[]));
        let (pid, port) = (server.pid().to_string(), server.port.to_string());
        let agent = trace(backend, "{}", &["--pid", &pid, "--port", &port]);
        // Twice as many messages as an undecided process may ever have had.
        let count = load("requests of a process at a port", 4_096);
        let path = format!("/at/{port}/{{n}}");
        let count_text = count.to_string();
        Client::KeepAlive.run(neighbour.port, &["--count", "5", "--path", &path]);
        Client::KeepAlive.run(
            server.port,
            &["--count", &count_text, "--connections", "2", "--path", &path],
        );
        agent.wait_for_spans(count, LIMIT);
        let outcome = stop(agent);
        let (spans, ours) = (outcome.spans(), format!("/at/{port}/"));
        assert_eq!(of_kind(&spans, "server", &ours), count);
        assert_eq!(of_kind(&spans, "client", &ours), 0, "another process");
        assert_eq!(outcome.ledger.dropped("messages", "kernel.unknown_budget"), 0);
    }

    fn a_range_of_ports_is_left_out_to_its_end(backend) {
        let server = Server::python(&[]);
        assert!(server.port > 1024 + 1025, "{}", server.port);
        let agent = trace(backend, "{exclude: [{port: 1024-65535}]}", &[]);
        Client::KeepAlive.run(server.port, &["--count", "5"]);
        let outcome = stop(agent);
        assert_eq!(outcome.spans().len(), 0);
        assert!(outcome.ledger.dropped("messages", "kernel.port_filtered") >= 20);
    }

    fn a_star_before_a_programs_name_leaves_it_out_wherever_it_is(backend) {
        let nginx = Nginx::start(&Options::default());
        let agent = trace(backend, "{exclude: [{executable: \"*/nginx\"}]}", &[]);
        let path = format!("/star/{}/{{n}}", nginx.port);
        Client::KeepAlive.run(nginx.port, &["--count", "5", "--path", &path]);
        agent.wait_for_spans(5, LIMIT);
        let spans = stop(agent).spans();
        let ours = format!("/star/{}/", nginx.port);
        assert_eq!(of_kind(&spans, "client", &ours), 5);
        assert_eq!(of_kind(&spans, "server", &ours), 0);
    }

    fn a_process_that_lives_shortly_is_known_while_others_messages_wait(backend) {
        let nginx = Nginx::start(&Options { without_log: true, ..Options::default() });
        // The flood's client is not captured, its server is.
        let selectors = "selectors: {include: [{executable: \"*/nginx\"}, {executable: \"*/bash\"}]}";
        // All that is sent while the agent is paused waits in the ring.
        let settings = capture(backend, &[selectors, "ring_buffer_bytes: 67108864"]);
        let agent = agent::trace(&settings, &[] as &[&str]);
        let flood = Client::KeepAlive
            .start(nginx.port, &["--count", "1000000", "--connections", "8", "--path", "/flood/{n}"]);
        flood.wait_for(1000);
        agent.signal(Signal::STOP);
        flood.wait_for(1000 + load("requests while the agent is paused", 4_000));
        agent.signal(Signal::CONT);
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}; printf \"GET /short/$0 HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n\" >&3; \
             sleep 0.4; while read -r line <&3; do :; done",
            nginx.port
        );
        for number in ["1", "2", "3"] {
            let ended = Command::new("/bin/bash").args(["-c", &script, number]).status();
            assert!(ended.unwrap().success());
        }
        flood.stop();
        for number in 1..=3 {
            let path = format!("/short/{number}");
            agent.wait_for_span(|span| of_kind(std::slice::from_ref(span), "client", &path) == 1, LIMIT);
        }
        let outcome = stop(agent);
        assert_eq!(of_kind(&outcome.spans(), "client", "/flood/"), 0);
    }

    fn nobody_hides_behind_the_agents_user_agent(backend) {
        let nginx = Nginx::start(&Options::default());
        let port = nginx.port.to_string();
        let agent = trace(backend, "{}", &["--port", &port]);
        let mut stream = TcpStream::connect(("127.0.0.1", nginx.port)).unwrap();
        let request = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nUser-Agent: spandrel/0.1.0\r\n\
                       Content-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let spans = agent.wait_for_spans(2, LIMIT);
        stop(agent);
        for kind in ["client", "server"] {
            assert_eq!(of_kind(&spans, kind, "/v1/traces"), 1, "{kind}");
        }
        assert!(spans.iter().all(|span| span.text("user_agent.original") == "spandrel/0.1.0"));
    }
}

/// The services that `trace` names with these arguments, of one request to each of two nginx and their clients.
fn traced(
    test: &str,
    select: impl Fn(&Nginx, &Path) -> Vec<String>,
) -> Option<Vec<(usize, String)>> {
    if !is_root(test) || !has(test, &["nginx", "python3"]) {
        return None;
    }
    // Tokens of its own: what other tests say at the same time takes none of them.
    let cgroup = Cgroup::new();
    let start = || Nginx::start_with(&Options::default(), |command| cgroup.put(command));
    let (wanted, other) = (start(), start());
    let mut arguments = ["trace", "--output", "json"].map(str::to_owned).to_vec();
    arguments.extend(select(&wanted, &find("nginx").unwrap()));
    let agent = Agent::start(&arguments);
    for nginx in [&other, &wanted, &other, &wanted] {
        let arguments = ["--count", "5", "--path", "/select/{n}"];
        let client = Client::KeepAlive.start_with(nginx.port, &arguments, |it| cgroup.put(it));
        client.finish();
    }
    let outcome = stop(agent);
    let ports = [wanted.port, other.port];
    let spans = outcome
        .stdout
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    Some(
        spans
            .filter_map(|span| {
                let port = span["attributes"]["server.port"].as_u64()?;
                let nginx = ports.iter().position(|known| u64::from(*known) == port)?;
                Some((nginx, span["service"].as_str()?.to_owned()))
            })
            .collect(),
    )
}

#[test]
fn trace_of_a_port_shows_both_ends_of_it_and_nothing_else() {
    let traced = traced(
        "trace_of_a_port_shows_both_ends_of_it_and_nothing_else",
        |nginx, _| vec!["--port".to_owned(), nginx.port.to_string()],
    );
    let Some(spans) = traced else { return };
    assert_eq!(spans.len(), 20, "{spans:?}");
    assert!(spans.iter().all(|(nginx, _)| *nginx == 0), "{spans:?}");
}

#[test]
fn trace_of_an_executable_shows_its_processes_and_nothing_else() {
    let traced = traced(
        "trace_of_an_executable_shows_its_processes_and_nothing_else",
        |_, path| {
            let directory = path.parent().unwrap().display();
            vec!["--exe".to_owned(), format!("{directory}/ngin*")]
        },
    );
    let Some(spans) = traced else { return };
    assert_eq!(spans.len(), 20, "{spans:?}");
    assert!(
        spans.iter().all(|(_, service)| service == "nginx"),
        "{spans:?}"
    );
}

#[test]
fn trace_of_a_process_shows_it_and_nothing_else() {
    let traced = traced(
        "trace_of_a_process_shows_it_and_nothing_else",
        |nginx, _| {
            // The worker is the one that talks, not the master that the test has started.
            let children = format!("/proc/{0}/task/{0}/children", nginx.pid());
            let worker = fs::read_to_string(children).unwrap();
            vec!["--pid".to_owned(), worker.trim().to_owned()]
        },
    );
    let Some(spans) = traced else { return };
    assert_eq!(spans.len(), 10, "{spans:?}");
    assert!(
        spans.iter().all(|one| *one == (0, "nginx".to_owned())),
        "{spans:?}"
    );
}
