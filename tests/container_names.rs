//! What containers are called where no API server tells it: real containers of containerd and of Docker Engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod named;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixListener;

use named::{LIMIT, agent, assert_has, checked, configuration, explained, said, served, wait_for};
use serde_json::json;
use support::agent::Agent;
use support::collector::Collector;
use support::containers::{Containerd, Options, fresh_id};
use support::docker::Docker;
use support::machine::{free_port, has, is_root};
use support::otlp::{MetricPoint, Span};
use support::plain_server::{get, server};
use support::process::Process;
use tempfile::TempDir;

#[test]
fn containers_of_containerd_are_named_by_their_labels_and_images() {
    const TEST: &str = "containers_of_containerd_are_named_by_their_labels_and_images";
    if !(is_root(TEST) && has(TEST, &["containerd", "ctr", "runc", "python3"])) {
        return;
    }
    let containerd = Containerd::start();
    let agent = agent(&[&containerd.socket()], "10s");

    assert_eq!(
        checked(&containerd.socket()),
        json!({"state": "ok", "detail": "it answers"})
    );
    // As nerdctl starts one.
    containerd.import_image("default", "docker.io/shop/web:1.4");
    let (port, id) = (free_port(), fresh_id());
    let web = containerd.run_with(
        &id,
        &Options {
            namespace: "default",
            cgroup: &format!("/default/{id}"),
            labels: &["nerdctl/name=web"],
            image: Some("docker.io/shop/web:1.4"),
            ..Options::default()
        },
        &server(port),
    );
    get(port, "/web");
    let span = wait_for(&agent, "/web");
    assert_has(
        &span,
        &[
            ("container.id", &id),
            ("container.name", "web"),
            ("container.runtime.name", "containerd"),
            ("container.image.name", "docker.io/shop/web"),
            ("container.image.tags", "[\"1.4\"]"),
            ("service.name", "web"),
        ],
    );
    let digest = containerd.image_digest("default", "docker.io/shop/web:1.4");
    let digest = format!("[\"docker.io/shop/web@{digest}\"]");
    assert_has(&span, &[("container.image.repo_digests", &digest)]);
    assert!(!span.resource.contains_key("k8s.pod.name"));
    // It waits for the answer, and no longer: the limit is above that of the test.
    let explained = explained(&span, &containerd.socket(), "1h");
    let line = explained
        .lines()
        .find(|line| line.contains("container.name"));
    assert!(
        line.is_some_and(|line| line.ends_with("\"web\"")),
        "{explained}"
    );
    web.kill();

    // As a kubelet marks one; and what the program calls itself comes first.
    for (path, environment, name) in [
        ("/pod", &[][..], "app"),
        ("/named", &["OTEL_SERVICE_NAME=checkout"][..], "checkout"),
    ] {
        let (port, id) = (free_port(), fresh_id());
        let container = containerd.run_with(
            &id,
            &Options {
                namespace: "k8s.io",
                cgroup: &format!("/k8s.io/{id}"),
                labels: &[
                    "io.kubernetes.pod.namespace=shop",
                    "io.kubernetes.pod.name=web-0",
                    "io.kubernetes.pod.uid=0a1b2c3d-0000-4000-8000-000000000001",
                    "io.kubernetes.container.name=app",
                ],
                environment,
                ..Options::default()
            },
            &server(port),
        );
        get(port, path);
        assert_has(
            &wait_for(&agent, path),
            &[
                ("container.id", &id),
                ("k8s.namespace.name", "shop"),
                ("k8s.pod.name", "web-0"),
                ("k8s.pod.uid", "0a1b2c3d-0000-4000-8000-000000000001"),
                ("k8s.container.name", "app"),
                ("service.name", name),
                ("service.namespace", "shop"),
                ("service.instance.id", "shop.web-0.app"),
            ],
        );
        container.kill();
    }
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    assert!(
        said(&outcome, "containers asked about: 3 found"),
        "{}",
        outcome.stderr.join("\n")
    );
}

#[test]
fn containers_of_docker_engine_are_named() {
    const TEST: &str = "containers_of_docker_engine_are_named";
    if !(is_root(TEST)
        && has(
            TEST,
            &["dockerd", "docker", "containerd", "runc", "tar", "python3"],
        ))
    {
        return;
    }
    let docker = Docker::start();
    docker.import_image("shop/web:1.4");
    docker.run(&["tag", "shop/web:1.4", "shop/web:stable"]);
    let agent = agent(&[&docker.socket()], "10s");
    let port = free_port();
    let id = docker.start_container("shop-web", "shop/web:1.4", &server(port));
    get(port, "/docker");
    let image = docker.run(&["inspect", "--format", "{{.Image}}", &id]);
    assert_has(
        &wait_for(&agent, "/docker"),
        &[
            ("container.id", &id),
            ("container.name", "shop-web"),
            ("container.runtime.name", "docker"),
            ("container.image.id", &image),
            ("container.image.name", "shop/web"),
            ("container.image.tags", "[\"1.4\",\"stable\"]"),
            ("service.name", "shop-web"),
        ],
    );
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
}

#[test]
fn a_collector_is_told_names_and_how_runtimes_answered() {
    const TEST: &str = "a_collector_is_told_names_and_how_runtimes_answered";
    if !(is_root(TEST) && has(TEST, &["containerd", "ctr", "runc", "python3"])) {
        return;
    }
    let Some(collector) = Collector::start(TEST) else {
        return;
    };
    let containerd = Containerd::start();
    let socket = containerd.socket();
    let endpoint = collector.http_endpoint();
    let exporter =
        |signal: &str| format!("exporter: {{otlp_http: {{endpoint: \"{endpoint}/v1/{signal}\"}}}}");
    let file = configuration(&[&socket], "10s");
    let mut text = fs::read_to_string(file.path()).unwrap();
    writeln!(
        text,
        "tracer_provider: {{processors: [{{batch: {{{}}}}}]}}",
        exporter("traces")
    )
    .unwrap();
    writeln!(
        text,
        "meter_provider: {{readers: [{{periodic: {{{}}}}}]}}",
        exporter("metrics")
    )
    .unwrap();
    fs::write(file.path(), text).unwrap();
    let agent = Agent::start(&["run", "--config", file.path().to_str().unwrap()]);
    let (port, id) = (free_port(), fresh_id());
    let options = Options {
        cgroup: &format!("/default/{id}"),
        labels: &["nerdctl/name=shop"],
        ..Options::default()
    };
    let container = containerd.run_with(&id, &options, &server(port));
    get(port, "/collected");
    let spans = collector.wait_for_spans("/collected", LIMIT, |spans| {
        served(spans, "/collected").is_some()
    });
    let span = served(&spans, "/collected").unwrap();
    assert_has(
        &span,
        &[("container.name", "shop"), ("service.name", "shop")],
    );
    container.kill();
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let (_, points) = collector.finish();
    // Of containers of other tests its runtime knows nothing.
    let found = |point: &&MetricPoint| {
        point.name == "spandrel.container_runtime.questions"
            && point.attributes["spandrel.container_runtime.outcome"] == "found"
    };
    let last = points.iter().rfind(found).expect("the agent's own metric");
    assert_eq!(last.value, 1.0, "{last:?}");
}

#[test]
fn a_host_process_does_not_wait_for_a_runtime_that_hangs_and_a_container_waits_no_longer_than_it_may()
 {
    const TEST: &str = "a_host_process_does_not_wait_for_a_runtime_that_hangs_and_a_container_waits_no_longer_than_it_may";
    if !(is_root(TEST) && has(TEST, &["containerd", "ctr", "runc", "python3"])) {
        return;
    }
    let containerd = Containerd::start();
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("containerd.sock");
    // Connections stay in its backlog.
    let _hanging = UnixListener::bind(&socket).unwrap();
    // Longer than this test: a span that comes before the end did not wait.
    let agent = agent(&[&socket], "1h");
    let (port, id) = (free_port(), fresh_id());
    let cgroup = format!("/default/{id}");
    let options = Options {
        cgroup: &cgroup,
        ..Options::default()
    };
    let container = containerd.run_with(&id, &options, &server(port));
    get(port, "/in-container");
    let host = free_port();
    let program = server(host);
    let process = Process::start(std::process::Command::new(&program[0]).args(&program[1..]));
    get(host, "/on-host");
    let span = wait_for(&agent, "/on-host");
    assert!(!span.resource.contains_key("container.id"));
    let early: Vec<Span> = agent
        .output()
        .iter()
        .flat_map(|line| Span::of_line(line))
        .collect();
    drop(process);
    container.kill();
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    assert!(
        served(&early, "/in-container").is_none(),
        "it waits for its answer"
    );
    let late = served(&outcome.spans(), "/in-container").expect("told at the end");
    assert_has(&late, &[("container.id", &id)]);
    assert!(!late.resource.contains_key("container.name"));
}

#[test]
fn on_a_machine_without_a_runtime_nothing_is_said_and_nothing_waits() {
    const TEST: &str = "on_a_machine_without_a_runtime_nothing_is_said_and_nothing_waits";
    if !(is_root(TEST) && has(TEST, &["containerd", "ctr", "runc", "python3"])) {
        return;
    }
    let containerd = Containerd::start();
    let directory = TempDir::new().unwrap();
    let agent = agent(&[&directory.path().join("containerd.sock")], "1h");
    let (port, id) = (free_port(), fresh_id());
    let cgroup = format!("/default/{id}");
    let options = Options {
        cgroup: &cgroup,
        ..Options::default()
    };
    let container = containerd.run_with(&id, &options, &server(port));
    get(port, "/in-container");
    let span = wait_for(&agent, "/in-container");
    assert_has(&span, &[("container.id", &id)]);
    // One that hangs is waited for up to its limit.
    let hangs = directory.path().join("hangs-containerd.sock");
    let _hanging = UnixListener::bind(&hangs).unwrap();
    let explained = explained(&span, &hangs, "10ms");
    assert!(
        explained.contains(&id) && !explained.contains("container.runtime.name"),
        "{explained}"
    );
    container.kill();
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let loud = |line: &&String| {
        line.contains("WARN") || line.contains("ERROR") || line.contains("container runtimes")
    };
    let loud: Vec<_> = outcome.stderr.iter().filter(loud).collect();
    assert!(loud.is_empty(), "{loud:?}");
}
