//! Who was at the other end, on real parts: a real API server with the shipped rights, pods as real containers in network
//! namespaces with addresses of their own, a Service's address that the node translates, and a real Collector.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod node;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use node::admin::Admin;
use node::cluster::cluster;
use node::{LIMIT, NODE, Pod, running};
use serde_json::{Value, json};
use support::agent::Agent;
use support::collector::Collector;
use support::containers::{Containerd, cgroup, fresh_id};
use support::machine::{has, is_root, wait_until};
use support::netns::Netns;
use support::otlp::{MetricPoint, Span};
use support::podnet::NodeNet;
use support::process::Process;
use tempfile::NamedTempFile;

const NODE_ADDRESS: &str = "192.0.2.1";
const PORT: u16 = 8080;
/// The pod of which nothing is asserted.
const PROBER: &str = "prober";

const IMAGE: &str = "registry.example/app:1";

/// A pod of a Deployment as its controllers would make it. Its uid.
async fn deployed(admin: &Admin, namespace: &str, workload: &str, host_network: bool) -> String {
    let containers = json!([{"name": "app", "image": IMAGE}]);
    let spec = json!({"hostNetwork": host_network, "containers": containers});
    let name = format!("{workload}-5d9c7b8f6d-aaaaa");
    let pod = Pod {
        namespace,
        workload,
        name: &name,
    };
    pod.create(admin, json!({}), spec).await
}

/// Long enough ago that nothing here depends on the clocks of nodes.
const LONG_AGO: &str = "2026-11-23T00:00:02Z";

/// Now, as the API writes it.
fn now() -> String {
    let mut date = Command::new("date");
    let date = date.args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]);
    let text = String::from_utf8(date.output().unwrap().stdout).unwrap();
    text.trim().to_owned()
}

/// What a kubelet reports when the container runs.
async fn runs(
    admin: &Admin,
    (namespace, workload): (&str, &str),
    container: &str,
    ips: &[&str],
    since: &str,
) {
    let name = format!("{workload}-5d9c7b8f6d-aaaaa");
    let pod = Pod {
        namespace,
        workload,
        name: &name,
    };
    let host = json!({"hostIP": NODE_ADDRESS, "hostIPs": [{"ip": NODE_ADDRESS}]});
    pod.report(admin, ips, running(container, IMAGE, since), host)
        .await;
}

/// The node as its kubelet registers it.
async fn register_node(admin: &Admin) {
    let body = json!({"metadata": {"name": NODE}});
    admin.post("/api/v1/nodes", &body).await;
    let addresses = json!([{"type": "InternalIP", "address": NODE_ADDRESS}, {"type": "Hostname", "address": NODE}]);
    let status = json!({"status": {"addresses": addresses}});
    admin
        .patch(&format!("/api/v1/nodes/{NODE}/status"), &status)
        .await;
}

/// The address that the API server gives the Service.
async fn service(admin: &Admin, namespace: &str, name: &str, spec: &Value) -> String {
    let body = json!({"metadata": {"name": name}, "spec": spec});
    let path = format!("/api/v1/namespaces/{namespace}/services");
    let service = admin.post(&path, &body).await;
    service["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

/// Deltas, so that the sum of all points is the number of all requests. Only pods of the namespace are told.
fn configuration(
    collector: &Collector,
    access: &NamedTempFile,
    namespace: &str,
    hold: &str,
) -> NamedTempFile {
    let (endpoint, access) = (collector.grpc_endpoint(), access.path().display());
    let text = format!(
        r#"
file_format: "1.1"
tracer_provider:
  processors:
    - batch: {{exporter: {{otlp_grpc: {{endpoint: "{endpoint}"}}}}}}
meter_provider:
  readers:
    - periodic:
        interval: 1000
        exporter: {{otlp_grpc: {{endpoint: "{endpoint}", temporality_preference: delta}}}}
distribution:
  spandrel:
    version: "1.0"
    capture: {{selectors: {{include: [{{kubernetes: {{namespace: "{namespace}"}}}}]}}}}
    kubernetes:
      node_name: {NODE}
      kubeconfig: {access}
      hold: {hold}
      peers: {{enabled: true}}
"#
    );
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

/// A script after which the container stays: one that is gone before the agent has looked at it is nobody's.
fn and_stay(script: &str) -> String {
    format!("{script}\nexec tail -f /dev/null")
}

/// A server that is there for all addresses, and asks itself once through loopback.
fn server() -> [&'static str; 3] {
    [
        "/usr/bin/sh",
        "-c",
        "python3 -u -m http.server 8080 --bind :: -d /usr & \
         until curl -s -o /dev/null http://127.0.0.1:8080/loopback; do :; done; wait",
    ]
}

fn wait_for_server(from: &Netns, address: &str) {
    wait_until("a server in the pod", LIMIT, || {
        let connect = format!("exec 3<>/dev/tcp/{address}/{PORT}");
        let mut command = from.command("bash");
        let output = command.args(["-c", &connect]).output().unwrap();
        output.status.success()
    });
}

fn peer_of(span: &Span) -> BTreeMap<&str, &str> {
    let keys = span.attributes.iter();
    let of_peer = |key: &str| key.starts_with("service.peer.") || key.starts_with("spandrel.peer.");
    keys.filter(|(key, _)| of_peer(key))
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
        .collect()
}

/// Spans of this kind for paths that begin with this.
fn of<'a>(spans: &'a [Span], kind: &str, path: &str) -> Vec<&'a Span> {
    let has = |span: &&Span| {
        let url = if kind == "client" {
            "url.full"
        } else {
            "url.path"
        };
        span.kind == kind && span.text(url).contains(path)
    };
    spans.iter().filter(has).collect()
}

/// How many values each edge of the graph has of a metric, by client, server and connection type.
fn edges(points: &[MetricPoint], metric: &str, namespace: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for point in points {
        let text = |key: &str| {
            let value = point.attributes.get(key).and_then(Value::as_str);
            value.unwrap_or("-").to_owned()
        };
        let name = point.name.strip_prefix("traces_service_graph_request_");
        let (of_client, of_server) = (
            text("client_service_namespace"),
            text("server_service_namespace"),
        );
        let ours = [of_client.as_str(), of_server.as_str()].contains(&namespace);
        if name != Some(metric) || !ours || text("client") == PROBER {
            continue;
        }
        let count = if point.kind == "sum" {
            point.value as u64
        } else {
            point.count
        };
        let edge = format!(
            "{} -> {} {}",
            text("client"),
            text("server"),
            text("connection_type")
        );
        *found.entry(edge.trim().to_owned()).or_insert(0) += count;
    }
    found
}

fn expected(edges: &[(&str, u64)]) -> BTreeMap<String, u64> {
    edges
        .iter()
        .map(|(edge, count)| ((*edge).to_owned(), *count))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_are_named_and_each_request_is_one_edge_of_the_graph() {
    const TEST: &str = "both_ends_are_named_and_each_request_is_one_edge_of_the_graph";
    const SHOP: &str = "peers-shop";
    if !(is_root(TEST)
        && has(
            TEST,
            &["containerd", "ctr", "runc", "python3", "curl", "nft"],
        ))
    {
        return;
    }
    let (Some(cluster), Some(collector)) = (cluster(TEST).await, Collector::start(TEST)) else {
        return;
    };
    let cluster = cluster.read().await;
    let admin = cluster.admin().await;
    admin.apply_file("peers-rbac.yaml").await;
    admin.namespace(SHOP, &json!({})).await;
    register_node(&admin).await;
    let ports = json!([{"port": 80, "targetPort": PORT}]);
    let web_address = service(&admin, SHOP, "web-svc", &json!({"ports": ports})).await;
    let on_nodes = json!([{"port": 80, "targetPort": PORT, "nodePort": 30080}]);
    let on_nodes = json!({"type": "NodePort", "ports": on_nodes});
    service(&admin, SHOP, "web-np", &on_nodes).await;
    let headless = json!({"clusterIP": "None", "ports": ports});
    assert_eq!(service(&admin, SHOP, "headless", &headless).await, "None");

    let net = NodeNet::new(NODE_ADDRESS);
    let (web_ip, web_ip6, front_ip) = ("10.244.1.20", "fd00:244:1::20", "10.244.1.10");
    let web_net = net.pod(web_ip, Some(web_ip6));
    let front_net = net.pod(front_ip, Some("fd00:244:1::10"));
    let prober_net = net.pod("10.244.1.30", None);
    let outside = net.pod("203.0.113.9", None);
    net.translate((&web_address, 80), (web_ip, PORT));
    net.translate((NODE_ADDRESS, 30080), (web_ip, PORT));
    net.translate((NODE_ADDRESS, 9090), (web_ip, PORT));

    let access = cluster.kubeconfig(&admin.agent_token().await);
    let file = configuration(&collector, &access, SHOP, "20s");
    let agent = Agent::start(&["run", "--config", file.path().to_str().unwrap()]);
    let containerd = Containerd::start();
    let curl = "curl -s -o /dev/null";
    let start = |network: &Netns, uid: &str, program: &[&str]| {
        let id = fresh_id();
        let container = containerd.run_in(&network.name, &id, &cgroup(uid, &id), program);
        (id, container)
    };

    let web = deployed(&admin, SHOP, "web", false).await;
    let (id, web_container) = start(&web_net, &web, &server());
    runs(&admin, (SHOP, "web"), &id, &[web_ip, web_ip6], LONG_AGO).await;
    wait_for_server(&net.node, web_ip);
    let mut elsewhere = Process::start(outside.command("python3").args([
        "-u",
        "-m",
        "http.server",
        "8080",
        "--bind",
        "203.0.113.9",
        "-d",
        "/usr",
    ]));
    wait_for_server(&net.node, "203.0.113.9");

    // Until nobody's clock can matter any more to what was made a moment ago, a pod of which nothing is asserted asks.
    let prober = deployed(&admin, SHOP, PROBER, false).await;
    let script = format!("{curl} --rate 10/s 'http://{web_address}/settling/[1-1000]'");
    let (id, container) = start(&prober_net, &prober, &["/usr/bin/sh", "-c", &script]);
    runs(&admin, (SHOP, PROBER), &id, &["10.244.1.30"], LONG_AGO).await;
    collector.wait_for_spans("the name of the Service", LIMIT, |spans| {
        let mut asking = of(spans, "client", "/settling/").into_iter();
        asking.any(|span| span.text("spandrel.peer.k8s.service.name") == "web-svc")
    });
    container.kill();

    // A pod asks: another pod at both of its addresses, a Service, the port of a node, a host outside of the cluster.
    let front = deployed(&admin, SHOP, "front", false).await;
    let script = format!(
        "{curl} 'http://{web_ip}:8080/lib/os-release?n=[1-5]'
         {curl} 'http://{web_address}/by-service/[1-3]'
         {curl} -g 'http://[{web_ip6}]:8080/by-ipv6/1'; {curl} -g 'http://[{web_ip6}]:8080/by-ipv6/2'
         {curl} 'http://{NODE_ADDRESS}:30080/by-node-port'
         {curl} 'http://{NODE_ADDRESS}:9090/by-host-port'
         {curl} -H 'Host: api.example' 'http://203.0.113.9:8080/abroad/[1-2]'"
    );
    let script = and_stay(&script);
    let (id, container) = start(&front_net, &front, &["/usr/bin/sh", "-c", &script]);
    runs(
        &admin,
        (SHOP, "front"),
        &id,
        &[front_ip, "fd00:244:1::10"],
        LONG_AGO,
    )
    .await;
    let asked = |spans: &[Span]| of(spans, "client", "/abroad/").len() == 2;
    collector.wait_for_spans("the requests of a pod", LIMIT, asked);
    container.kill();
    // A pod on the network of its node, and somebody outside of the cluster, ask the pod.
    let ingress = deployed(&admin, SHOP, "ingress", true).await;
    let script = and_stay(&format!("{curl} 'http://{web_ip}:8080/by-ingress/[1-2]'"));
    let (id, container) = start(&net.node, &ingress, &["/usr/bin/sh", "-c", &script]);
    runs(&admin, (SHOP, "ingress"), &id, &[NODE_ADDRESS], LONG_AGO).await;
    let asked = |spans: &[Span]| of(spans, "client", "/by-ingress/").len() == 2;
    collector.wait_for_spans("the requests of the node's pod", LIMIT, asked);
    container.kill();
    let from_abroad = format!("http://{web_ip}:8080/from-abroad/[1-4]");
    let asked = outside
        .command("curl")
        .args(["-s", "-o", "/dev/null", &from_abroad])
        .status();
    assert!(asked.unwrap().success());

    // Its server ends, and another pod gets the address.
    let all_of_web = |spans: &[Span]| of(spans, "server", "/from-abroad").len() == 4;
    collector.wait_for_spans("the spans of the first pod", LIMIT, all_of_web);
    web_container.kill();
    admin
        .delete(&format!(
            "/api/v1/namespaces/{SHOP}/pods/web-5d9c7b8f6d-aaaaa"
        ))
        .await;
    let cart = deployed(&admin, SHOP, "cart", false).await;
    let (id, cart_container) = start(&web_net, &cart, &server());
    wait_for_server(&net.node, web_ip);
    let script = format!("{curl} --rate 5/s 'http://{web_ip}:8080/reused/[1-20]'");
    let script = and_stay(&script);
    let (asking, container) = start(&front_net, &front, &["/usr/bin/sh", "-c", &script]);
    runs(
        &admin,
        (SHOP, "front"),
        &asking,
        &[front_ip, "fd00:244:1::10"],
        LONG_AGO,
    )
    .await;
    runs(&admin, (SHOP, "cart"), &id, &[web_ip, web_ip6], &now()).await;
    let all_of_cart = |spans: &[Span]| {
        of(spans, "server", "/reused/").len() == 20 && of(spans, "client", "/reused/").len() == 20
    };
    collector.wait_for_spans("the spans of the second pod", LIMIT, all_of_cart);
    container.kill();
    cart_container.kill();
    elsewhere.kill();
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let said = outcome.stderr.iter();
    let mut said = said.filter(|line| line.starts_with("kubernetes: spans by their peer:"));
    assert!(
        said.next().is_some_and(|line| line.contains(" found")),
        "{}",
        outcome.stderr.join("\n")
    );
    let (spans, points) = collector.finish();
    let node = admin.get(&format!("/api/v1/nodes/{NODE}")).await.unwrap();
    let in_pods = spans
        .iter()
        .filter(|span| span.resource.contains_key("k8s.pod.uid"));
    for span in in_pods {
        assert_eq!(span.resource["k8s.node.uid"], node["metadata"]["uid"]);
    }
    let own = |name: &str, key: &str, value: &str| {
        points.iter().any(|point| {
            point.name == format!("spandrel.kubernetes.{name}")
                && point.resource["service.name"] == "spandrel"
                && point.attributes.get(key).is_some_and(|it| it == value)
                && point.value > 0.0
        })
    };
    for outcome in ["found", "loopback"] {
        assert!(
            own("peer.lookups", "spandrel.kubernetes.outcome", outcome),
            "{outcome}"
        );
    }
    for scope in ["node", "cluster"] {
        assert!(
            own("watch.requests", "spandrel.kubernetes.scope", scope),
            "{scope}"
        );
    }

    let pod = |workload: &'static str, uid: &str| {
        let name = format!("{workload}-5d9c7b8f6d-aaaaa");
        let pairs = [
            ("service.peer.name", workload),
            ("service.peer.namespace", SHOP),
            ("spandrel.peer.k8s.namespace.name", SHOP),
            ("spandrel.peer.k8s.pod.name", &name),
            ("spandrel.peer.k8s.pod.uid", uid),
            ("spandrel.peer.k8s.node.name", NODE),
            ("spandrel.peer.k8s.deployment.name", workload),
        ];
        let owned = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        BTreeMap::from(owned)
    };
    let check = |kind: &str, path: &str, count: usize, expected: &BTreeMap<String, String>| {
        let found = of(&spans, kind, path);
        assert_eq!(found.len(), count, "{kind} {path}");
        for span in found {
            let expected = expected
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()));
            assert_eq!(peer_of(span), expected.collect(), "{kind} {path}");
        }
    };
    let nobody = BTreeMap::new();
    let named = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    let nodes = admin.get(&format!("/api/v1/nodes/{NODE}")).await.unwrap();
    let node_uid = nodes["metadata"]["uid"].as_str().unwrap();
    let the_node = named(&[
        ("spandrel.peer.k8s.node.name", NODE),
        ("spandrel.peer.k8s.node.uid", node_uid),
    ]);
    let of_service = async |name: &str| {
        let path = format!("/api/v1/namespaces/{SHOP}/services/{name}");
        let service = admin.get(&path).await.unwrap();
        named(&[
            ("spandrel.peer.k8s.namespace.name", SHOP),
            ("spandrel.peer.k8s.service.name", name),
            (
                "spandrel.peer.k8s.service.uid",
                service["metadata"]["uid"].as_str().unwrap(),
            ),
        ])
    };
    check("client", "/lib/os-release", 5, &pod("web", &web));
    check("client", "/by-ipv6/", 2, &pod("web", &web));
    check("client", "/by-service/", 3, &of_service("web-svc").await);
    check("client", "/by-node-port", 1, &of_service("web-np").await);
    check("client", "/by-host-port", 1, &the_node);
    check("client", "/abroad/", 2, &nobody);
    check("client", "/by-ingress/", 2, &pod("web", &web));
    for (path, count) in [
        ("/lib/os-release", 5),
        ("/by-ipv6/", 2),
        ("/by-service/", 3),
        ("/by-node-port", 1),
        ("/by-host-port", 1),
    ] {
        check("server", path, count, &pod("front", &front));
    }
    // Two pods have the node's address, or one of its processes has it: the node is all that is known.
    check("server", "/by-ingress/", 2, &the_node);
    check("server", "/from-abroad/", 4, &nobody);
    // Both servers asked themselves.
    check("client", "/loopback", 2, &nobody);
    check("server", "/loopback", 2, &nobody);
    check("server", "/reused/", 20, &pod("front", &front));

    // While it is not sure whose the address is it is nobody's, and it is never again that of the first.
    let (cart_names, reused) = (pod("cart", &cart), of(&spans, "client", "/reused/"));
    let to_cart = |span: &&&Span| {
        let peer = peer_of(span);
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let peer: BTreeMap<_, _> = peer.into_iter().map(owned).collect();
        assert!(peer.is_empty() || peer == cart_names, "{peer:?}");
        !peer.is_empty()
    };
    let to_cart = reused.iter().filter(to_cart).count() as u64;
    assert!(to_cart > 0, "nobody was named in four seconds");

    let mut counted = vec![
        ("front -> web", 7),
        ("front -> web-svc", 3),
        ("front -> web-np", 1),
        ("front -> node-1", 1),
        ("front -> api.example virtual_node", 2),
        ("front -> cart", to_cart),
        ("ingress -> web", 2),
    ];
    if to_cart < 20 {
        counted.push(("front -> unknown virtual_node", 20 - to_cart));
    }
    assert_eq!(edges(&points, "client", SHOP), expected(&counted));
    // All but five were for files that are not there, and for servers that is no failure.
    let mut failed = counted.clone();
    failed[0].1 = 2;
    assert_eq!(edges(&points, "failed_total", SHOP), expected(&failed));
    counted.push(("user -> web virtual_node", 4));
    assert_eq!(edges(&points, "total", SHOP), expected(&counted));
    let served = [
        ("front -> web", 12),
        ("front -> cart", 20),
        ("node-1 -> web", 2),
        ("user -> web virtual_node", 4),
    ];
    assert_eq!(edges(&points, "server", SHOP), expected(&served));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_rights_for_services_pods_are_named_and_the_missing_rule_is_told() {
    const TEST: &str =
        "without_the_rights_for_services_pods_are_named_and_the_missing_rule_is_told";
    const SHOP: &str = "peers-narrow";
    if !(is_root(TEST)
        && has(
            TEST,
            &["containerd", "ctr", "runc", "python3", "curl", "nft"],
        ))
    {
        return;
    }
    let (Some(cluster), Some(collector)) = (cluster(TEST).await, Collector::start(TEST)) else {
        return;
    };
    // Alone: the other test needs the rights.
    let cluster = cluster.write().await;
    let admin = cluster.admin().await;
    let binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/spandrel-peers";
    if admin.get(binding).await.is_ok() {
        admin.delete(binding).await;
    }
    let token = admin.agent_token().await;
    let own = Admin::new(&cluster.url(), &cluster.ca_file(), &token).await;
    while own.get("/api/v1/services").await.is_ok() {}
    admin.namespace(SHOP, &json!({})).await;
    let ports = json!([{"port": 80, "targetPort": PORT}]);
    let web_address = service(&admin, SHOP, "web-svc", &json!({"ports": ports})).await;
    let net = NodeNet::new(NODE_ADDRESS);
    // The pods of the other test have theirs still, as the API server tells it.
    let (web_ip, front_ip) = ("10.244.2.20", "10.244.2.10");
    let (web_net, front_net) = (net.pod(web_ip, None), net.pod(front_ip, None));
    net.translate((&web_address, 80), (web_ip, PORT));

    let access = cluster.kubeconfig(&admin.agent_token().await);
    let file = configuration(&collector, &access, SHOP, "10s");
    let agent = Agent::start(&["run", "--config", file.path().to_str().unwrap()]);
    let containerd = Containerd::start();
    let web = deployed(&admin, SHOP, "web", false).await;
    let id = fresh_id();
    let server = containerd.run_in(&web_net.name, &id, &cgroup(&web, &id), &server());
    runs(&admin, (SHOP, "web"), &id, &[web_ip], LONG_AGO).await;
    wait_for_server(&net.node, web_ip);
    let front = deployed(&admin, SHOP, "front", false).await;
    let script = format!(
        "curl -s -o /dev/null 'http://{web_ip}:8080/direct/[1-2]'
         curl -s -o /dev/null 'http://{web_address}/by-service'"
    );
    let script = and_stay(&script);
    let id = fresh_id();
    let program = ["/usr/bin/sh", "-c", &script];
    let container = containerd.run_in(&front_net.name, &id, &cgroup(&front, &id), &program);
    runs(&admin, (SHOP, "front"), &id, &[front_ip], LONG_AGO).await;
    collector.wait_for_spans("all spans", LIMIT, |spans| {
        of(spans, "client", "/direct").len() == 2 && of(spans, "client", "/by-service").len() == 1
    });
    container.kill();
    server.kill();
    let outcome = agent.stop();
    let (spans, points) = collector.finish();
    let said = outcome.stderr.join("\n");
    for part in [
        "403 for services",
        "403 for nodes",
        "peers-rbac.yaml",
        " not_synced",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    for span in of(&spans, "client", "/direct") {
        assert_eq!(span.text("spandrel.peer.k8s.pod.uid"), web, "{span:?}");
    }
    for span in of(&spans, "client", "/by-service") {
        assert_eq!(peer_of(span), BTreeMap::new());
    }
    // Whether anybody is from outside is not known, and each request is counted still.
    let counted = [("front -> web", 2), ("front -> unknown virtual_node", 1)];
    assert_eq!(edges(&points, "total", SHOP), expected(&counted));
    let served = [("front -> web", 3)];
    assert_eq!(edges(&points, "server", SHOP), expected(&served));
}
