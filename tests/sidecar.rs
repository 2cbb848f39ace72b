//! An agent in a pid namespace that it shares with the services of its pod, on each backend: it sees these and nobody else,
//! by the numbers that its own /proc shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod support;

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::agent::{Agent, Outcome};
use support::backends::on_each_backend;
use support::cgroup::{Cgroup, wrap};
use support::machine::{free_port, wait_until};
use support::otlp::Span;
use support::pid_namespace::{PidNamespace, child, numbers};
use support::plain_server::get;
use support::process::Process;
use tempfile::NamedTempFile;

const LIMIT: Duration = Duration::from_secs(60);

/// A server that runs, with its port and its numbers, from the machine's to that of its own namespace.
struct Service {
    process: Process,
    port: u16,
    numbers: Vec<u32>,
}

impl Service {
    /// In a control group, by way of these words (`nsenter ...`), so many levels below this process.
    fn start(cgroup: &Cgroup, words: &[String], levels: usize) -> Self {
        let port = free_port();
        let program =
            format!("/usr/bin/python3 -u -m http.server {port} --bind 127.0.0.1 -d /usr/share");
        let line = [&words.join(" "), "env OTEL_SERVICE_NAME=orders", &program].join(" ");
        let process = Process::start(&mut cgroup.command(&line));
        get(port, "/started");
        let mut pid = process.pid();
        for _ in 0..levels {
            pid = child(pid).expect("nsenter and unshare have one child");
        }
        let numbers = numbers(pid);
        assert_eq!(numbers.len(), levels + 1, "{numbers:?}");
        Self {
            process,
            port,
            numbers,
        }
    }

    /// Waits until an agent has sent it spans, which it does not take.
    fn wait_for_export(&self) {
        let log = &self.process.stderr;
        let sent = |line: &String| line.contains("\"POST /v1/traces");
        let said = log.wait(LIMIT, |lines| lines.iter().any(sent).then_some(()));
        assert!(said.is_some(), "{:?}", log.all());
    }
}

/// A file for an agent that prints spans, and that sends them to `port` as well, if there is one.
fn configuration(backend: &str, port: Option<u16>) -> NamedTempFile {
    let sends = port.map_or(String::new(), |port| {
        format!(
            "    - batch:\n        exporter:\n          otlp_http:\n            endpoint: http://127.0.0.1:{port}/v1/traces\n"
        )
    });
    let text = format!(
        "file_format: \"1.1\"\nresource:\n  attributes:\n    - {{name: k8s.pod.name, value: orders-0, type: string}}\n    \
         - {{name: service.namespace, value: shop, type: string}}\ntracer_provider:\n  processors:\n    - simple:\n        \
         exporter:\n          console:\n{sends}distribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      \
         backend: {backend}\n"
    );
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

fn wait_for(agent: &Agent, path: &str) -> Span {
    let mut found = None;
    wait_until("span of the server", LIMIT, || {
        let output = agent.output();
        let mut spans = output.iter().flat_map(|line| Span::of_line(line));
        found = spans.find(|span| span.kind == "server" && span.text("url.path") == path);
        found.is_some()
    });
    found.unwrap()
}

/// Ends an agent that is the child of what started it.
fn stop(agent: Agent) -> Outcome {
    let pid = child(agent.pid()).expect("the agent");
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::TERM).unwrap();
    let outcome = agent.finish();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    outcome
}

fn resource(span: &Span, key: &str) -> String {
    match span.resource.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

on_each_backend! {
    fn a_sidecar_sees_its_pod_by_its_own_numbers_and_nobody_else(backend) {
        let (own, neighbour, stranger) = (Cgroup::new(), Cgroup::new(), Cgroup::new());
        let namespace = PidNamespace::new(&own);
        let inside = Service::start(&neighbour, &namespace.enter(&[]), 1);
        // As a program in the pod that makes a namespace of its own.
        let nested = namespace.enter(&["--", "unshare", "--pid", "--fork", "--kill-child"]);
        let nested = Service::start(&neighbour, &nested, 2);
        let outside = Service::start(&stranger, &[], 0);
        // What it sends goes to a service that it watches.
        let file = configuration(backend, Some(inside.port));
        let agent = Agent::start_with(
            &["run", "--config", file.path().to_str().unwrap()],
            |command| {
                // As a kubelet sets them, and there is no token.
                command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
                command.env("KUBERNETES_SERVICE_PORT", "1");
                command.env("NODE_NAME", "node-7");
                namespace.put(command);
            },
        );
        for (service, path) in [(&outside, "/outside"), (&inside, "/inside"), (&nested, "/nested")] {
            get(service.port, path);
        }
        for (service, path) in [(&inside, "/inside"), (&nested, "/nested")] {
            let span = wait_for(&agent, path);
            for (key, value) in [
                ("process.pid", service.numbers[1].to_string().as_str()),
                ("service.name", "orders"),
                ("service.namespace", "shop"),
                ("k8s.pod.name", "orders-0"),
                ("k8s.node.name", "node-7"),
                ("host.name", "node-7"),
                ("container.id", &neighbour.id),
            ] {
                assert_eq!(resource(&span, key), value, "{key}: {:?}", span.resource);
            }
            let executable = resource(&span, "process.executable.path");
            assert!(executable.starts_with("/usr/bin/python3"), "{executable}");
        }
        inside.wait_for_export();
        let outcome = stop(agent);
        let asks = |line: &&String| line.contains("API server") || line.contains("pods");
        assert_eq!(outcome.stderr.iter().find(asks), None, "nobody is asked without a token");
        let spans = outcome.spans();
        let told: Vec<&str> = spans.iter().map(|span| span.text("url.path")).collect();
        let mut expected = told.clone();
        expected.retain(|path| ["/inside", "/nested"].contains(path));
        assert_eq!(told, expected, "neither strangers nor the agent's own requests");
        assert!(told.len() == 2, "{told:?}");
        let dropped = |reason| outcome.ledger.dropped("messages", reason);
        let strangers = dropped("kernel.pid_namespace");
        assert!(strangers >= 4, "{strangers}: both ends of /outside, and this test's ends");
        let own = dropped("kernel.self");
        assert!(own >= 2, "{own}: both ends of its own request");
    }

    fn a_process_of_the_pod_is_selected_by_the_number_that_the_agent_sees(backend) {
        let cgroup = Cgroup::new();
        let namespace = PidNamespace::new(&cgroup);
        let wanted = Service::start(&cgroup, &namespace.enter(&[]), 1);
        let other = Service::start(&cgroup, &namespace.enter(&[]), 1);
        let file = configuration(backend, None);
        let file = file.path().to_str().unwrap();
        let pid = wanted.numbers[1].to_string();
        let agent = Agent::start_with(
            &["trace", "--output", "otlp-json", "--pid", &pid, "--config", file],
            |command| namespace.put(command),
        );
        // The first of them decides, the kernel side heeds it in others.
        for _ in 0..20 {
            get(other.port, "/other");
        }
        get(wanted.port, "/wanted");
        let span = wait_for(&agent, "/wanted");
        assert_eq!(resource(&span, "process.pid"), pid);
        for _ in 0..20 {
            get(other.port, "/other");
        }
        let outcome = stop(agent);
        let spans = outcome.spans();
        assert!(spans.iter().all(|span| span.text("url.path") == "/wanted"), "{spans:?}");
        assert!(outcome.ledger.dropped("messages", "kernel.process_denied") > 0);
    }

    fn an_agent_whose_proc_is_the_machines_sees_the_machine(backend) {
        let cgroup = Cgroup::new();
        let outside = Service::start(&cgroup, &[], 0);
        let file = configuration(backend, Some(outside.port));
        let words = ["unshare", "--pid", "--fork", "--kill-child"].map(str::to_owned);
        let agent = Agent::start_with(
            &["run", "--config", file.path().to_str().unwrap()],
            |command| wrap(command, &words),
        );
        // It sees what the same test does on another backend as well.
        let path = format!("/machine/{}", outside.port);
        get(outside.port, &path);
        let span = wait_for(&agent, &path);
        assert_eq!(resource(&span, "process.pid"), outside.numbers[0].to_string());
        assert_eq!(resource(&span, "service.name"), "orders");
        outside.wait_for_export();
        let outcome = stop(agent);
        // It also sees what agents of other tests send, to other ports.
        let port = Value::from(outside.port);
        let own = |span: &Span| {
            span.text("url.path") == "/v1/traces" && span.attributes.get("server.port") == Some(&port)
        };
        assert!(!outcome.spans().iter().any(own), "its own requests");
        assert_eq!(outcome.ledger.dropped("messages", "kernel.pid_namespace"), 0);
        let own = outcome.ledger.dropped("messages", "kernel.self");
        assert!(own >= 2, "{own}: both ends of its own request");
    }
}
