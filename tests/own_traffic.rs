//! The agent's own requests are not seen at either end, whom it asks and whenever it began to; on each backend.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use support::agent::{Agent, Outcome, trace};
use support::backends::on_each_backend;
use support::cgroup::Cgroup;
use support::machine::{free_port, is_root, wait_until};
use support::nginx::{Nginx, Options};
use support::otlp::Span;
use support::plain_server::{get, server};
use support::process::Process;
use support::traffic::Server;
use tempfile::TempDir;

/// No arguments: all connections.
const NONE: [&str; 0] = [];
const LIMIT: Duration = Duration::from_secs(60);

/// Stops it when it has seen a path at both ends. Of the server that is `ours`, and of the agent, there is no span of a path
/// that contains `own`: other agents on this machine ask their own servers.
fn stop_after(agent: Agent, path: &str, own: &str, ours: impl Fn(&Span) -> bool) -> Outcome {
    let text = |span: &Span| format!("{}{}", span.text("url.path"), span.text("url.full"));
    wait_until("both ends of a request of others", LIMIT, || {
        let output = agent.output();
        let spans = output.iter().flat_map(|line| Span::of_line(line));
        spans.filter(|span| text(span).ends_with(path)).count() >= 2
    });
    let pid = agent.pid();
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    for span in outcome.spans() {
        let asked = ours(&span) && text(&span).contains(own);
        assert!(!asked && !is_of(&span, pid), "the agent's own: {span:?}");
    }
    assert!(outcome.ledger.dropped("messages", "kernel.self") > 0);
    outcome
}

fn is_of(span: &Span, pid: u32) -> bool {
    span.resource["process.pid"].as_u64() == Some(pid.into())
}

/// In one write.
fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

on_each_backend! {
    fn what_a_container_runtime_is_asked_is_not_seen(backend) {
        if !is_root("what_a_container_runtime_is_asked_is_not_seen") {
            return;
        }
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("docker.sock");
        // No runtime, but it has the socket of one.
        let runtime = Server::python(&["--unix", socket.to_str().unwrap()]);
        let cgroup = Cgroup::new();
        let port = free_port();
        let service = Process::start(&mut cgroup.command(&server(port).join(" ")));
        get(port, "/started");
        let agent = trace(
            &format!(
                "    kubernetes:\n      enabled: never\n    containers:\n      hold: 1s\n      sockets: [{}]\n    \
                 capture:\n      backend: {backend}\n      unix_sockets: true\n",
                socket.display()
            ),
            &NONE,
        );
        get(port, "/asked-for");
        let asked = runtime.wait_for_lines(1);
        assert_eq!(asked[0]["path"], "/_ping");
        let other = format!("/others/{port}");
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(request(&other).as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        stop_after(agent, &other, "/_ping", |span| is_of(span, runtime.pid()));
        drop(service);
    }

    fn a_watch_that_begins_with_the_agent_is_not_seen(backend) {
        let directory = TempDir::new().unwrap();
        // No API server, but it is asked like one, again and again.
        let nginx = Nginx::start(&Options::default());
        let kubeconfig = directory.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters:\n- name: x\n  cluster: {{server: 'http://127.0.0.1:{}'}}\n\
             users:\n- name: x\n  user: {{token: x}}\ncontexts:\n- name: x\n  context: {{cluster: x, user: x}}\n",
            nginx.port
        );
        std::fs::write(&kubeconfig, text).unwrap();
        let agent = trace(
            &format!(
                "    kubernetes:\n      kubeconfig: {}\n      node_name: x\n    capture:\n      backend: {backend}\n",
                kubeconfig.display()
            ),
            &NONE,
        );
        let asked = || nginx.access_log().iter().filter(|line| line.uri.contains("/api/v1/")).count();
        let before = asked();
        wait_until("a request of the watch", LIMIT, || asked() > before);
        let other = format!("/others/{}", nginx.port);
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", nginx.port)).unwrap();
        stream.write_all(request(&other).as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        stop_after(agent, &other, "/api/v1/", |span| {
            span.integer("server.port") == Some(nginx.port.into())
        });
    }
}
