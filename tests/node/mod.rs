//! A node of a cluster: a real API server with the shipped rights, a real containerd under a kubelet's cgroup paths, a
//! real Collector that writes down what arrives, and the agent.
#![allow(dead_code)] // each test file takes what it needs

#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests of the watch"
)]
#[path = "../../crates/k8s-meta/tests/support/admin.rs"]
pub(crate) mod admin;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests of the watch"
)]
#[path = "../../crates/k8s-meta/tests/support/cluster.rs"]
pub(crate) mod cluster;

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::sync::{OnceCell, RwLockReadGuard};

use self::admin::Admin;
use self::cluster::{ADMIN_TOKEN, Cluster, cluster};
use super::support::agent::Agent;
use super::support::collector::Collector;
use super::support::containers::Containerd;
use super::support::machine::{has, is_root};
use super::support::otlp::Span;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const NODE: &str = "node-1";
const IMAGE: &str = "registry.example/shop/web:1.4.2";

/// All of it, running. Dropped in this order.
pub(crate) struct Node {
    pub(crate) agent: Agent,
    pub(crate) containerd: Containerd,
    pub(crate) collector: Collector,
    pub(crate) admin: Admin,
    _cluster: RwLockReadGuard<'static, Cluster>,
    _files: [NamedTempFile; 3],
}

impl Node {
    /// Starts it with these lines below `distribution.spandrel` and these arguments more; skips the test where that cannot
    /// be. The namespace is `shop`.
    pub(crate) async fn start(test: &str, lines: &str, arguments: &[&str]) -> Option<Self> {
        Self::start_with(test, lines, arguments, |_| {}).await
    }

    /// The same with a change to the agent's command.
    pub(crate) async fn start_with(
        test: &str,
        lines: &str,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Option<Self> {
        static SHOP: OnceCell<()> = OnceCell::const_new();
        if !(is_root(test) && has(test, &["containerd", "ctr", "runc", "python3", "curl"])) {
            return None;
        }
        Collector::binary(test)?;
        let cluster = cluster(test).await?.read().await;
        let admin = cluster.admin().await;
        let empty = json!({});
        SHOP.get_or_init(|| admin.namespace("shop", &empty)).await;
        let all = cluster.kubeconfig(ADMIN_TOKEN);
        let collector = Collector::start_with_kubernetes(test, all.path())?;
        let access = cluster.kubeconfig(&admin.agent_token().await);
        let file = configuration(&collector, access.path().to_str().unwrap(), lines);
        let mut run = vec!["run", "--config", file.path().to_str().unwrap()];
        run.extend(arguments);
        Some(Self {
            agent: Agent::start_with(&run, change),
            containerd: Containerd::start(),
            collector,
            admin,
            _cluster: cluster,
            _files: [all, access, file],
        })
    }
}

/// A pod of a Deployment as its controllers would make it.
pub(crate) async fn deployed(admin: &Admin, name: &str) -> String {
    deployed_with(admin, name, &json!([])).await
}

/// The same whose container has these variables by its spec.
pub(crate) async fn deployed_with(admin: &Admin, name: &str, variables: &Value) -> String {
    let pod = Pod {
        namespace: "shop",
        workload: "web",
        name,
    };
    let spec = json!({"containers": [{"name": "app", "image": IMAGE, "env": variables}]});
    let labels = json!({"app": "web", "tier": "front"});
    pod.create(admin, labels, spec).await
}

/// What a kubelet reports when the container runs; `before` is the one before its restart.
pub(crate) async fn runs(admin: &Admin, name: &str, container: &str, before: Option<&str>) {
    let pod = Pod {
        namespace: "shop",
        workload: "web",
        name,
    };
    let started = format!("2026-11-23T00:00:0{}Z", 2 + u8::from(before.is_some()));
    let last = before.map(|id| {
        json!({"terminated": {"exitCode": 137, "reason": "Error", "containerID": format!("containerd://{id}"),
            "startedAt": "2026-11-23T00:00:00Z", "finishedAt": "2026-11-23T00:00:01Z"}})
    });
    let mut status = running(container, IMAGE, &started);
    status["restartCount"] = before.map_or(0, |_| 1).into();
    status["lastState"] = last.unwrap_or(json!({}));
    let times = json!({"startTime": "2026-11-23T00:00:01Z"});
    pod.report(admin, &["10.1.2.3"], status, times).await;
}

/// The status of a container `app` that runs.
pub(crate) fn running(container: &str, image: &str, since: &str) -> Value {
    json!({"name": "app", "containerID": format!("containerd://{container}"), "image": image, "imageID": "",
        "ready": true, "restartCount": 0, "state": {"running": {"startedAt": since}}})
}

/// A pod of a Deployment on the node.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'a> {
    pub(crate) namespace: &'a str,
    /// The Deployment's name.
    pub(crate) workload: &'a str,
    pub(crate) name: &'a str,
}

impl Pod<'_> {
    /// Makes it with these labels and this spec, as its controllers would. Its uid.
    pub(crate) async fn create(self, admin: &Admin, mut labels: Value, mut spec: Value) -> String {
        labels["pod-template-hash"] = "5d9c7b8f6d".into();
        spec["nodeName"] = NODE.into();
        let body = json!({
            "metadata": {
                "name": self.name,
                "labels": labels,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "name": format!("{}-5d9c7b8f6d", self.workload),
                    "uid": "7c1a0000-0000-4000-8000-000000000001", "controller": true}],
            },
            "spec": spec,
        });
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let pod = admin.post(&path, &body).await;
        pod["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// What a kubelet reports of it while its one container has this status: its addresses, and `more`.
    pub(crate) async fn report(self, admin: &Admin, ips: &[&str], container: Value, more: Value) {
        let mut status = more;
        status["phase"] = "Running".into();
        status["podIP"] = ips[0].into();
        status["podIPs"] = ips.iter().map(|ip| json!({"ip": ip})).collect();
        status["containerStatuses"] = json!([container]);
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/status",
            self.namespace, self.name
        );
        admin.patch(&path, &json!({"status": status})).await;
    }
}

/// The one server span of this path.
pub(crate) fn served(collector: &Collector, path: &str) -> Span {
    let is = |span: &&Span| span.kind == "server" && span.text("url.path") == path;
    let spans = collector.wait_for_spans(path, LIMIT, |spans| spans.iter().any(|span| is(&span)));
    let found: Vec<_> = spans.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{path}");
    found[0].clone()
}

pub(crate) fn resource<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    span.resource.get(key).and_then(Value::as_str)
}

pub(crate) fn configuration(collector: &Collector, kubeconfig: &str, more: &str) -> NamedTempFile {
    let endpoint = collector.grpc_endpoint();
    let text = format!(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch:\n        exporter:\n          otlp_grpc:\n            endpoint: {endpoint}\nmeter_provider:\n  readers:\n    - periodic:\n        exporter:\n          otlp_grpc:\n            endpoint: {endpoint}\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    kubernetes:\n      node_name: {NODE}\n      kubeconfig: {kubeconfig}\n      cluster_name: test\n      pod_labels: [tier]\n{more}"
    );
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}
