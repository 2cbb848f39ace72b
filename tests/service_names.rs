//! What services are called, on real programs: by themselves, by the configuration, by what they run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::agent::Agent;
use support::machine::{find, free_port, has, is_root, repository, wait_until};
use support::otlp::Span;
use support::plain_server::{get, server};
use support::process::Process;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// Traces these ports, with these lines of the file after its version.
fn agent(lines: &str, ports: &[u16]) -> Agent {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("spandrel.yaml");
    fs::write(&file, format!("file_format: \"1.1\"\n{lines}")).unwrap();
    let ports = ports.iter();
    let ports = ports.flat_map(|port| ["--port".to_owned(), port.to_string()]);
    let file = file.to_str().unwrap();
    let words = ["trace", "--output", "otlp-json", "--config", file];
    let arguments: Vec<String> = words.map(str::to_owned).into_iter().chain(ports).collect();
    Agent::start(&arguments)
}

fn start(program: &[String], change: impl FnOnce(&mut Command)) -> Process {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]);
    change(&mut command);
    Process::start(&mut command)
}

/// A program in a directory with this name, which says nothing about itself.
fn program_in(name: &str, program: &str, text: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join(name)).unwrap();
    fs::write(directory.path().join(name).join(program), text).unwrap();
    directory
}

/// The names of the servers on these ports, each asked once.
fn names(agent: Agent, ports: &[u16]) -> Vec<String> {
    for port in ports {
        get(*port, "/named");
    }
    let of = |spans: &[Span]| -> BTreeMap<u16, String> {
        let servers = spans
            .iter()
            .filter(|span| span.kind == "server" && span.text("url.path") == "/named");
        let named = servers.filter_map(|span| {
            let port = u16::try_from(span.integer("server.port")?).ok()?;
            Some((port, span.resource["service.name"].as_str()?.to_owned()))
        });
        named.collect()
    };
    let mut found = BTreeMap::new();
    wait_until("spans of all servers", LIMIT, || {
        let lines = agent.output();
        let spans: Vec<Span> = lines.iter().flat_map(|line| Span::of_line(line)).collect();
        found = of(&spans);
        found.len() == ports.len()
    });
    agent.stop();
    ports.iter().map(|port| found[port].clone()).collect()
}

#[test]
fn the_configured_name_is_that_of_services_that_do_not_name_themselves() {
    const TEST: &str = "the_configured_name_is_that_of_services_that_do_not_name_themselves";
    if !is_root(TEST) {
        return;
    }
    let ports = [free_port(), free_port()];
    let agent = agent(
        "resource:\n  attributes:\n    - {name: service.name, value: shop, type: string}\n",
        &ports,
    );
    let _named = start(&server(ports[0]), |command| {
        command.env("OTEL_SERVICE_NAME", "orders");
    });
    let _other = start(&server(ports[1]), |_| {});
    assert_eq!(names(agent, &ports), ["orders", "shop"]);
}

const SPAWNS: &str = r#"
import http.server, multiprocessing, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass

def serve(port):
    http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    worker = context.Process(target=serve, args=(int(sys.argv[2]),), daemon=True)
    worker.start()
    worker.join()
"#;

/// As uvicorn with several workers and hypercorn do.
#[test]
fn a_worker_that_python_spawns_has_the_name_of_what_it_works_for() {
    const TEST: &str = "a_worker_that_python_spawns_has_the_name_of_what_it_works_for";
    if !is_root(TEST) {
        return;
    }
    let ports = [free_port(), free_port()];
    let agent = agent("", &ports);
    let directory = program_in("billing", "app.py", SPAWNS);
    let script = directory.path().join("billing/app.py");
    let started = ["spawn", "forkserver"]
        .into_iter()
        .zip(ports)
        .map(|(way, port)| {
            let port = port.to_string();
            let words = ["/usr/bin/python3", script.to_str().unwrap(), way, &port];
            start(&words.map(str::to_owned), |_| {})
        });
    let _servers: Vec<Process> = started.collect();
    assert_eq!(names(agent, &ports), ["billing", "billing"]);
}

/// npm's Bun is a program with this name. Node.js takes the same command line.
#[test]
fn a_program_that_npms_bun_runs_is_named_as_one_of_node_is() {
    const TEST: &str = "a_program_that_npms_bun_runs_is_named_as_one_of_node_is";
    if !is_root(TEST) || !has(TEST, &["node"]) {
        return;
    }
    let port = free_port();
    let agent = agent("", &[port]);
    let directory = TempDir::new().unwrap();
    let bun = directory.path().join("bun.exe");
    fs::copy(find("node").unwrap(), &bun).unwrap();
    let script = repository().join(Path::new("tests/traffic/node/traffic.js"));
    let port_text = port.to_string();
    let words = [
        bun.to_str().unwrap(),
        script.to_str().unwrap(),
        "server",
        "--port",
        &port_text,
    ];
    let _server = start(&words.map(str::to_owned), |_| {});
    assert_eq!(names(agent, &[port]), ["traffic"]);
}

/// Many are gone before anybody reads what they are: then their start tells.
#[test]
fn a_program_that_lives_shortly_has_the_name_of_its_executable() {
    const TEST: &str = "a_program_that_lives_shortly_has_the_name_of_its_executable";
    const TIMES: usize = 60;
    if !is_root(TEST) || !has(TEST, &["curl"]) {
        return;
    }
    let port = free_port();
    let agent = agent("", &[port]);
    let _server = start(&server(port), |_| {});
    get(port, "/ready");
    for number in 0..TIMES {
        let url = format!("http://127.0.0.1:{port}/short/{number}");
        let words = ["-s", "-o", "/dev/null", &url];
        let status = Command::new("curl").args(words).status().unwrap();
        assert!(status.success(), "{status}");
    }
    let mut found: Vec<Option<String>> = Vec::new();
    wait_until("spans of all clients", LIMIT, || {
        let lines = agent.output();
        let spans = lines.iter().flat_map(|line| Span::of_line(line));
        let clients =
            spans.filter(|span| span.kind == "client" && span.text("url.full").contains("/short/"));
        let name = |span: Span| {
            Some(
                span.resource
                    .get("process.executable.name")?
                    .as_str()?
                    .to_owned(),
            )
        };
        found = clients.map(name).collect();
        found.len() == TIMES
    });
    agent.stop();
    let named = found.iter().filter(|name| name.as_deref() == Some("curl"));
    assert_eq!(named.count(), TIMES, "{found:?}");
}
