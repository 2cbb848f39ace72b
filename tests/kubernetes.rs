//! Whose spans are, on real parts: a real API server with the shipped rights, real containers under a kubelet's cgroup
//! paths, and a real Collector that writes down what arrives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod support;

#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests of the watch"
)]
#[path = "../crates/k8s-meta/tests/support/admin.rs"]
mod admin;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests of the watch"
)]
#[path = "../crates/k8s-meta/tests/support/cluster.rs"]
mod cluster;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use admin::Admin;
use cluster::cluster;
use serde_json::{Value, json};
use support::agent::Agent;
use support::collector::Collector;
use support::containers::{Containerd, cgroup, fresh_id};
use support::machine::{free_port, has, is_root, wait_until};
use support::otlp::Span;
use tempfile::NamedTempFile;

const LIMIT: Duration = Duration::from_secs(60);
const NODE: &str = "node-1";

/// A pod of a Deployment as its controllers would make it.
async fn deployed(admin: &Admin, name: &str) -> String {
    let body = json!({
        "metadata": {
            "name": name,
            "labels": {"app": "web", "pod-template-hash": "5d9c7b8f6d", "tier": "front"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c7b8f6d",
                "uid": "7c1a0000-0000-4000-8000-000000000001", "controller": true}],
        },
        "spec": {"nodeName": NODE, "containers": [{"name": "app", "image": "registry.example/shop/web:1.4.2"}]},
    });
    let pod = admin.post("/api/v1/namespaces/shop/pods", &body).await;
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// What a kubelet reports when the container runs; `before` is the one before its restart.
async fn runs(admin: &Admin, name: &str, container: &str, before: Option<&str>) {
    let last = before.map(|id| {
        json!({"terminated": {"exitCode": 137, "reason": "Error", "containerID": format!("containerd://{id}"),
            "startedAt": "2026-11-23T00:00:00Z", "finishedAt": "2026-11-23T00:00:01Z"}})
    });
    let status = json!({"status": {"phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}],
        "containerStatuses": [{"name": "app", "containerID": format!("containerd://{container}"),
            "image": "registry.example/shop/web:1.4.2", "imageID": "", "ready": true,
            "restartCount": before.map_or(0, |_| 1), "lastState": last.unwrap_or(json!({})),
            "state": {"running": {"startedAt": "2026-11-23T00:00:02Z"}}}]}});
    let path = format!("/api/v1/namespaces/shop/pods/{name}/status");
    admin.patch(&path, &status).await;
}

fn server(port: u16) -> Vec<String> {
    let port = port.to_string();
    [
        "/usr/bin/python3",
        "-u",
        "-m",
        "http.server",
        &port,
        "--bind",
        "127.0.0.1",
        "-d",
        "/tmp",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn get(port: u16, path: &str) {
    let mut stream = None;
    wait_until("a server in the container", LIMIT, || {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    });
    let mut stream = stream.unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: shop\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 "), "{answer}");
}

/// The one server span of this path.
fn served(collector: &Collector, path: &str) -> Span {
    let is = |span: &&Span| span.kind == "server" && span.text("url.path") == path;
    let spans = collector.wait_for_spans(path, LIMIT, |spans| spans.iter().any(|span| is(&span)));
    let found: Vec<_> = spans.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{path}");
    found[0].clone()
}

fn resource<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    span.resource.get(key).and_then(Value::as_str)
}

fn configuration(collector: &Collector, kubeconfig: &str, more: &str) -> NamedTempFile {
    let endpoint = collector.grpc_endpoint();
    let text = format!(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch:\n        exporter:\n          otlp_grpc:\n            endpoint: {endpoint}\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    kubernetes:\n      node_name: {NODE}\n      kubeconfig: {kubeconfig}\n      cluster_name: test\n      pod_labels: [tier]\n{more}"
    );
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_real_containers_carry_their_pod_through_restart_and_new_pods() {
    const TEST: &str = "spans_of_real_containers_carry_their_pod_through_restart_and_new_pods";
    if !(is_root(TEST) && has(TEST, &["containerd", "ctr", "runc", "python3"])) {
        return;
    }
    let (Some(cluster), Some(collector)) = (cluster(TEST).await, Collector::start(TEST)) else {
        return;
    };
    let cluster = cluster.read().await;
    let admin = cluster.admin().await;
    admin.namespace("shop", &json!({})).await;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": cluster.url(), "certificate-authority": cluster.ca_file()}}],
        "users": [{"name": "a", "user": {"token": admin.agent_token().await}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    });
    let access = NamedTempFile::new().unwrap();
    fs::write(access.path(), kubeconfig.to_string()).unwrap();
    let file = configuration(&collector, access.path().to_str().unwrap(), "");
    let agent = Agent::start(&["run", "--config", file.path().to_str().unwrap()]);
    let containerd = Containerd::start();
    let port = free_port();
    let program = server(port);
    let program: Vec<&str> = program.iter().map(String::as_str).collect();

    // The API server tells of the container only after it has served: its span waits.
    let uid = deployed(&admin, "web-5d9c7b8f6d-aaaaa").await;
    let first = fresh_id();
    let container = containerd.run(&first, &cgroup(&uid, &first), &[], &program);
    get(port, "/one");
    runs(&admin, "web-5d9c7b8f6d-aaaaa", &first, None).await;
    let one = served(&collector, "/one");
    for (key, value) in [
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "web-5d9c7b8f6d-aaaaa"),
        ("k8s.pod.uid", uid.as_str()),
        ("k8s.container.name", "app"),
        ("k8s.deployment.name", "web"),
        ("k8s.replicaset.name", "web-5d9c7b8f6d"),
        ("k8s.node.name", NODE),
        ("k8s.cluster.name", "test"),
        ("k8s.pod.label.tier", "front"),
        ("container.id", first.as_str()),
        ("container.image.name", "registry.example/shop/web"),
        ("service.name", "web"),
        ("service.namespace", "shop"),
        ("service.version", "1.4.2"),
        ("service.instance.id", "shop.web-5d9c7b8f6d-aaaaa.app"),
    ] {
        assert_eq!(
            resource(&one, key),
            Some(value),
            "{key}: {:?}",
            one.resource
        );
    }
    let kube_system = admin.get("/api/v1/namespaces/kube-system").await.unwrap();
    assert_eq!(
        resource(&one, "k8s.cluster.uid"),
        kube_system["metadata"]["uid"].as_str()
    );

    // Restarted in its pod: another container, the same pod, and what it declares of itself comes first.
    container.kill();
    let second = fresh_id();
    let container = containerd.run(
        &second,
        &cgroup(&uid, &second),
        &["OTEL_SERVICE_NAME=checkout"],
        &program,
    );
    get(port, "/two");
    runs(&admin, "web-5d9c7b8f6d-aaaaa", &second, Some(&first)).await;
    let two = served(&collector, "/two");
    assert_eq!(resource(&two, "container.id"), Some(second.as_str()));
    assert_eq!(resource(&two, "k8s.pod.uid"), Some(uid.as_str()));
    assert_eq!(resource(&two, "service.name"), Some("checkout"));
    assert_eq!(two.resource["k8s.container.restart_count"], 1);

    // Deleted, and another pod of the same name, address and port: another identity.
    container.kill();
    let name = "/api/v1/namespaces/shop/pods/web-5d9c7b8f6d-aaaaa";
    admin.delete(name).await;
    let again = deployed(&admin, "web-5d9c7b8f6d-aaaaa").await;
    assert_ne!(again, uid);
    let third = fresh_id();
    let container = containerd.run(&third, &cgroup(&again, &third), &[], &program);
    get(port, "/three");
    runs(&admin, "web-5d9c7b8f6d-aaaaa", &third, None).await;
    let three = served(&collector, "/three");
    assert_eq!(resource(&three, "k8s.pod.uid"), Some(again.as_str()));
    assert_eq!(resource(&three, "container.id"), Some(third.as_str()));
    container.kill();

    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let (spans, _) = collector.finish();
    // The clients are this test: a process of the host.
    let clients: Vec<_> = spans.iter().filter(|span| span.kind == "client").collect();
    assert!(
        clients
            .iter()
            .all(|span| resource(span, "k8s.pod.name").is_none())
    );
    for path in ["/one", "/two", "/three"] {
        let of_path = spans.iter().filter(|span| span.text("url.path") == path);
        assert_eq!(of_path.count(), 1, "{path} came once");
    }
}
