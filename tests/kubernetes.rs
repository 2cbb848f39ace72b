//! Whose spans are, on real parts: a real API server with the shipped rights, real containers under a kubelet's cgroup
//! paths, and a real Collector that writes down what arrives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod node;
mod support;

use node::{NODE, Node, deployed, deployed_with, resource, runs, served};
use serde_json::json;
use support::collector::Collector;
use support::containers::{cgroup, fresh_id};
use support::machine::free_port;
use support::otlp::Span;
use support::plain_server::{get, server};

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_real_containers_carry_their_pod_through_restart_and_new_pods() {
    const TEST: &str = "spans_of_real_containers_carry_their_pod_through_restart_and_new_pods";
    let Some(node) = Node::start(TEST, "", &[]).await else {
        return;
    };
    let Node {
        containerd,
        collector,
        admin,
        ..
    } = &node;
    let port = free_port();
    let program = server(port);
    let program: Vec<&str> = program.iter().map(String::as_str).collect();

    // The API server tells of the container only after it has served: its span waits.
    let uid = deployed(admin, "web-5d9c7b8f6d-aaaaa").await;
    let first = fresh_id();
    let container = containerd.run(&first, &cgroup(&uid, &first), &[], &program);
    get(port, "/one");
    runs(admin, "web-5d9c7b8f6d-aaaaa", &first, None).await;
    let one = served(collector, "/one");
    for (key, value) in [
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "web-5d9c7b8f6d-aaaaa"),
        ("k8s.pod.uid", uid.as_str()),
        ("k8s.container.name", "app"),
        ("k8s.deployment.name", "web"),
        ("k8s.replicaset.name", "web-5d9c7b8f6d"),
        ("k8s.node.name", NODE),
        ("host.name", NODE),
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
    runs(admin, "web-5d9c7b8f6d-aaaaa", &second, Some(&first)).await;
    let two = served(collector, "/two");
    assert_eq!(resource(&two, "container.id"), Some(second.as_str()));
    assert_eq!(resource(&two, "k8s.pod.uid"), Some(uid.as_str()));
    assert_eq!(resource(&two, "service.name"), Some("checkout"));
    assert_eq!(two.resource["k8s.container.restart_count"], 1);

    // Deleted, and another pod of the same name, address and port: another identity. It is called as its spec says, though its
    // program does not have the variable, as nginx does not when it has set its title.
    container.kill();
    let name = "/api/v1/namespaces/shop/pods/web-5d9c7b8f6d-aaaaa";
    admin.delete(name).await;
    let variables = json!([{"name": "OTEL_SERVICE_NAME", "value": "edge"}]);
    let again = deployed_with(admin, "web-5d9c7b8f6d-aaaaa", &variables).await;
    assert_ne!(again, uid);
    let third = fresh_id();
    let container = containerd.run(&third, &cgroup(&again, &third), &[], &program);
    get(port, "/three");
    runs(admin, "web-5d9c7b8f6d-aaaaa", &third, None).await;
    let three = served(collector, "/three");
    assert_eq!(resource(&three, "k8s.pod.uid"), Some(again.as_str()));
    assert_eq!(resource(&three, "container.id"), Some(third.as_str()));
    assert_eq!(resource(&three, "service.name"), Some("edge"));
    container.kill();

    let outcome = node.agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let lookups = |collector: &Collector, outcome: &str| {
        let key = "spandrel.kubernetes.outcome";
        last(collector, "spandrel.kubernetes.lookups", &[(key, outcome)])
    };
    // The clients are this test: a process of the host.
    assert!(lookups(&node.collector, "found") >= Some(3.0));
    assert!(lookups(&node.collector, "not_in_pod") >= Some(3.0));
    let own = |name: &str, attributes: &[(&str, &str)]| {
        last(
            &node.collector,
            &format!("spandrel.kubernetes.{name}"),
            attributes,
        )
    };
    let verb = |verb| own("watch.requests", &[("spandrel.kubernetes.verb", verb)]);
    assert!(verb("watch") >= Some(1.0));
    assert_eq!(verb("get"), Some(1.0));
    assert!(own("watch.bytes", &[]) > Some(1000.0));
    assert!(own("watch.changes", &[]) >= Some(6.0));
    assert!(own("watch.lists", &[]) >= Some(1.0));
    // Of a start that the test made up.
    assert!(own("watch.lag", &[]) > Some(0.0));
    assert!(own("pods", &[]) >= Some(2.0));
    assert_eq!(own("held", &[]), Some(0.0));
    assert_eq!(own("watch.failures", &[]), None);

    let (spans, enriched) = (node.collector.spans(), node.collector.enriched());
    let clients: Vec<_> = spans.iter().filter(|span| span.kind == "client").collect();
    for client in &clients {
        let said = ["k8s.pod.name", "k8s.node.name", "host.name"].map(|key| resource(client, key));
        assert_eq!(said, [None, Some(NODE), Some(NODE)], "of the host");
    }
    let points = node.collector.metrics();
    let own = points
        .iter()
        .find(|point| point.resource["service.name"] == "spandrel");
    let own = &own.expect("the agent's own").resource;
    let said = ["k8s.node.name", "host.name"].map(|key| own[key].as_str());
    assert_eq!(said, [Some(NODE); 2], "{own:?}");
    let instance = own["service.instance.id"].as_str().unwrap();
    assert_eq!(instance.len(), 36, "one agent of all: {instance}");
    for path in ["/one", "/two", "/three"] {
        let of_path = spans.iter().filter(|span| span.text("url.path") == path);
        assert_eq!(of_path.count(), 1, "{path} came once");
    }
    // The Collector's k8s_attributes takes nothing back of what was said.
    assert_eq!(enriched.len(), spans.len());
    for span in &spans {
        let same = |it: &&Span| it.span_id == span.span_id;
        let mut after = enriched.iter().find(same).unwrap().clone();
        // The last two it may learn later than the agent looks: a container talks before its pod's status says so.
        let more = [
            "k8s.deployment.uid",
            "k8s.node.uid",
            "k8s.pod.hostname",
            "k8s.pod.ip",
            "k8s.pod.start_time",
        ];
        after.resource.retain(|key, _| {
            let added = more.contains(&&**key) || key.starts_with("k8s.pod.label.");
            span.resource.contains_key(key) || !added
        });
        assert_eq!(after, *span);
    }
}

/// The newest number of one of the agent's own metrics.
fn last(collector: &Collector, name: &str, attributes: &[(&str, &str)]) -> Option<f64> {
    let points = collector.metrics();
    let mut meant = points.iter().filter(|point| {
        let has =
            |(key, value): &(&str, &str)| point.attributes.get(*key).is_some_and(|it| it == value);
        point.name == name
            && point.resource["service.name"] == "spandrel"
            && attributes.iter().all(has)
    });
    meant.next_back().map(|point| point.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selected_pod_that_is_known_late_is_seen_however_much_it_has_said() {
    const TEST: &str = "a_selected_pod_that_is_known_late_is_seen_however_much_it_has_said";
    let selectors =
        "    capture:\n      selectors:\n        include: [{kubernetes: {namespace: shop}}]\n";
    let Some(node) = Node::start(TEST, selectors, &[]).await else {
        return;
    };
    let Node {
        containerd,
        collector,
        admin,
        ..
    } = &node;
    let port = free_port();
    let program = server(port);
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    let uid = deployed(admin, "late-5d9c7b8f6d-aaaaa").await;
    let id = fresh_id();
    let container = containerd.run(&id, &cgroup(&uid, &id), &[], &program);
    // The API server does not tell of the container meanwhile: three messages and more each.
    for _ in 0..1_500 {
        get(port, "/undecided");
    }
    runs(admin, "late-5d9c7b8f6d-aaaaa", &id, None).await;
    get(port, "/late");
    let late = served(collector, "/late");
    assert_eq!(
        resource(&late, "k8s.pod.name"),
        Some("late-5d9c7b8f6d-aaaaa")
    );
    container.kill();
    let outcome = node.agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let clients = node.collector.spans();
    assert!(
        clients.iter().all(|span| span.kind == "server"),
        "a process of the host"
    );
}
