//! A recording of real containers replays as the run was, without an API server: with their pods, and with selectors that
//! name pods by what is not exported.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod node;
mod support;

use std::fs;
use std::process::Stdio;

use node::{NODE, Node, deployed, resource, runs};
use serde_json::json;
use support::agent::command;
use support::containers::{cgroup, fresh_id};
use support::machine::free_port;
use support::otlp::Span;
use support::plain_server::{get, server};
use tempfile::{NamedTempFile, TempDir};

/// The label `app` is not exported.
const SELECTORS: &str = "    capture:\n      selectors:\n        include:\n          - kubernetes: {pod_labels: {app: web}}\n";

fn replayed(recording: &str, lines: &str) -> String {
    let config = NamedTempFile::new().unwrap();
    let text =
        format!("file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n{lines}");
    fs::write(config.path(), text).unwrap();
    let config = config.path().to_str().unwrap();
    let arguments = [
        "replay",
        recording,
        "--config",
        config,
        "--output",
        "otlp-json",
    ];
    let output = command(&arguments).stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn in_order(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.start_ns, span.span_id.clone()));
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_containers_replays_with_their_pods_and_selectors() {
    const TEST: &str = "a_recording_of_containers_replays_with_their_pods_and_selectors";
    let directory = TempDir::new().unwrap();
    let recording = directory.path().join("recording.jsonl");
    let recording = recording.to_str().unwrap();
    let Some(node) = Node::start(TEST, SELECTORS, &["--record", recording]).await else {
        return;
    };
    let Node {
        admin,
        containerd,
        collector,
        ..
    } = &node;
    let start = |name: &str, uid: &str| {
        let (id, port) = (fresh_id(), free_port());
        let program = server(port);
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let container = containerd.run(&id, &cgroup(uid, &id), &[], &program);
        // Before the API server tells of the container: what it serves now waits.
        get(port, &format!("/{name}/early"));
        (container, id, port)
    };
    let (web, other) = ("web-5d9c7b8f6d-rec01", "batch-rec01");
    let uid = deployed(admin, web).await;
    let (container, id, port) = start(web, &uid);
    runs(admin, web, &id, None).await;
    let body = json!({
        "metadata": {"name": other, "labels": {"app": "batch", "tier": "back"}},
        "spec": {"nodeName": NODE, "containers": [{"name": "app", "image": "registry.example/shop/web:1.4.2"}]},
    });
    let pod = admin.post("/api/v1/namespaces/shop/pods", &body).await;
    let (second, id, other_port) = start(other, pod["metadata"]["uid"].as_str().unwrap());
    runs(admin, other, &id, None).await;
    let is = |span: &Span, path: &str| span.text("url.path") == format!("/{web}/{path}");
    collector.wait_for_spans("early", node::LIMIT, |spans| {
        spans.iter().any(|it| is(it, "early"))
    });
    get(port, &format!("/{web}/late"));
    get(other_port, &format!("/{other}/late"));
    collector.wait_for_spans("late", node::LIMIT, |spans| {
        spans.iter().any(|it| is(it, "late"))
    });
    container.kill();
    second.kill();
    let outcome = node.agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let live = in_order(node.collector.spans());
    assert_eq!(live.len(), 2, "{live:?}");
    assert!(
        live.iter()
            .all(|span| resource(span, "k8s.pod.name") == Some(web))
    );

    let printed = replayed(recording, SELECTORS);
    let spans = in_order(printed.lines().flat_map(Span::of_line).collect());
    assert_eq!(spans, live);
    assert_eq!(replayed(recording, SELECTORS), printed);
    let text = fs::read_to_string(recording).unwrap();
    assert!(
        !text.contains("pod-template-hash"),
        "a label that nobody asked for"
    );

    // Without selectors those that the run left out are there, with their pod, as far as they were captured.
    let all = replayed(recording, "");
    let all: Vec<Span> = all.lines().flat_map(Span::of_line).collect();
    let path = format!("/{other}/early");
    let served = |span: &&Span| span.kind == "server" && span.text("url.path") == path;
    let left_out = all.iter().find(served).unwrap();
    assert_eq!(resource(left_out, "k8s.pod.name"), Some(other));
    assert_eq!(resource(left_out, "k8s.pod.label.tier"), Some("back"));
}
