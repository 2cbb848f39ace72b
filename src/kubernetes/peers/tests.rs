//! Names of remote ends, and what waits for them.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use serde_json::json;
use spandrel_k8s_meta::peers::{Node, PeerPod, Service};
use spandrel_k8s_meta::watch::{Access, Reason, Scope, State};
use spandrel_model::{
    Attribute, AttributeSet, ProcessKey, SpanId, SpanStatus, Text, TraceId, UnixTime,
};

use super::*;

const SECOND: u64 = 1_000_000_000;
/// 2025-11-23T10:00:00Z.
const START: u64 = 1_763_892_000 * SECOND;

fn at(seconds: u64) -> UnixTime {
    UnixTime(START + seconds * SECOND)
}

fn settings() -> Settings {
    Settings {
        watch: watch::Settings::new(Access::InCluster, Scope::Cluster),
        tables: peers::Settings::default(),
        hold: Duration::from_secs(5),
        service_graph: true,
        node: Some("node-1".to_owned()),
    }
}

fn pod(name: &str, addresses: &[&str], change: serde_json::Value) -> PeerPod {
    let ips: Vec<_> = addresses.iter().map(|it| json!({"ip": it})).collect();
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "5",
            "creationTimestamp": "2025-11-23T09:00:00Z", "labels": {"pod-template-hash": "5d9c"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c", "controller": true}]},
        "spec": {"nodeName": "node-2"},
        "status": {"phase": "Running", "hostIP": "192.0.2.2", "podIPs": ips,
            "containerStatuses": [{"state": {"running": {"startedAt": "2025-11-23T09:00:03Z"}}}]},
    });
    for (key, value) in change.as_object().unwrap() {
        let part = if key == "restartPolicy" {
            "spec"
        } else {
            "metadata"
        };
        pod[part][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn apply<K: Addressed>(peers: &Peers, object: K) {
    peers.apply(Change::Apply(Box::new(object)), at(0));
}

fn list<K: Addressed>(peers: &Peers, objects: impl IntoIterator<Item = K>) {
    peers.apply(Change::<K>::ListBegan, at(0));
    objects.into_iter().for_each(|object| apply(peers, object));
    peers.apply(Change::<K>::ListComplete, at(0));
}

/// A cluster with one pod, one Service and one node, all of it known.
fn synced() -> Peers {
    let peers = Peers::told(&settings());
    list(
        &peers,
        [pod("web-5d9c-x", &["10.244.2.7", "fd00:2::7"], json!({}))],
    );
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "uid-s", "resourceVersion": "6"},
        "spec": {"clusterIPs": ["10.96.0.10"]},
    }))
    .unwrap();
    list(&peers, [service]);
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "node-2", "uid": "uid-n", "resourceVersion": "7"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]},
    }))
    .unwrap();
    list(&peers, [node]);
    peers
}

fn measured(kind: SpanKind, address: &str, seconds: u64) -> Measured {
    Measured {
        span: SpanRecord {
            trace_id: TraceId([7; 16]),
            span_id: SpanId([7; 8]),
            parent_span_id: None,
            parent_is_remote: false,
            trace_begun_here: true,
            trace_flags: 1,
            trace_state: "".into(),
            name: "GET".into(),
            kind,
            start: at(seconds),
            end: UnixTime(at(seconds).0 + SECOND / 4),
            attributes: vec![
                Attribute::new("network.peer.address", address.to_owned()),
                Attribute::new("server.address", "api.example".to_owned()),
            ],
            dropped_attributes: 0,
            status: SpanStatus::Unset,
            process: ProcessKey {
                tgid: 1,
                started: 1,
            },
            cgroup: 0,
        },
        ports: [None; 2],
        metric_attributes: AttributeSet::from(Vec::new()),
        measurements: [].into_iter().collect(),
        edge: None,
        caller: None,
    }
}

fn front() -> Resource {
    Resource::new(vec![
        Attribute::new("service.name", "front"),
        Attribute::new("service.namespace", "shop"),
    ])
}

/// Looks up with no more waiting.
fn named(peers: &mut Peers, mut one: Measured) -> Measured {
    let PeerOf::Settled(settled) = peers.of(&one.span, true) else {
        panic!("it waits though it is the last time");
    };
    peers.attach(settled, &front(), &mut one);
    one
}

fn waits(peers: &mut Peers, address: &str, seconds: u64) -> bool {
    let one = measured(SpanKind::Client, address, seconds);
    matches!(peers.of(&one.span, false), PeerOf::NotYet)
}

fn texts(attributes: &[Attribute]) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::Str(text) => text.to_string(),
        other => panic!("{other:?}"),
    };
    let pair = |it: &Attribute| (it.key.to_string(), text(&it.value));
    attributes.iter().map(pair).collect()
}

fn added(peers: &mut Peers, address: &str) -> Vec<(String, String)> {
    let one = named(peers, measured(SpanKind::Client, address, 10));
    texts(&one.span.attributes[2..])
}

fn outcome(peers: &mut Peers, address: &str) -> Vec<&'static str> {
    let before = peers.outcomes().snapshot().by_reason;
    named(peers, measured(SpanKind::Server, address, 10));
    let after = peers.outcomes().snapshot().by_reason;
    let new = |it: &(&&'static str, &u64)| before.get(*it.0).unwrap_or(&0) < it.1;
    after
        .iter()
        .filter(new)
        .map(|(reason, _)| *reason)
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    list.iter().map(owned).collect()
}

#[test]
fn what_the_file_says_of_peers_is_what_they_are_told() {
    let of = |peers: &str| {
        let text = format!(
            "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    kubernetes:\n      \
             enabled: always\n      node_name: n\n      grace: 60s\n      service_from_labels: true\n      peers: {peers}\n"
        );
        let loaded = spandrel_config::load_str("f", &text, &|_| None).unwrap();
        crate::settings::kubernetes(&loaded.config)
            .unwrap()
            .unwrap()
    };
    assert!(of("{}").peers.is_none(), "off by default");
    let told = of("{enabled: true, max_objects: 7, service_graph: false}");
    assert_eq!(told.watch.scope, Scope::Node("n".to_owned()));
    let peers = told.peers.unwrap();
    assert_eq!(peers.watch.scope, Scope::Cluster);
    assert_eq!(peers.tables.max_objects, 7);
    assert_eq!(peers.tables.grace, Duration::from_secs(60));
    assert!(peers.tables.service_from_labels && !peers.service_graph);
    let graph = |settings: &Settings| Peers::told(settings).graph.is_some();
    assert!(!graph(&peers) && graph(&of("{enabled: true}").peers.unwrap()));
}

#[test]
fn a_pod_a_service_and_a_node_are_each_named_by_what_is_known_of_them() {
    let mut peers = synced();
    let of_pod = pairs(&[
        ("service.peer.name", "web"),
        ("service.peer.namespace", "shop"),
        ("spandrel.peer.k8s.namespace.name", "shop"),
        ("spandrel.peer.k8s.pod.name", "web-5d9c-x"),
        ("spandrel.peer.k8s.pod.uid", "uid-web-5d9c-x"),
        ("spandrel.peer.k8s.node.name", "node-2"),
        ("spandrel.peer.k8s.deployment.name", "web"),
    ]);
    for address in ["10.244.2.7", "fd00:2::7", "::ffff:10.244.2.7"] {
        assert_eq!(added(&mut peers, address), of_pod, "{address}");
    }
    // Which pod answers for a Service is not known, and so neither is what its telemetry calls it.
    assert_eq!(
        added(&mut peers, "10.96.0.10"),
        pairs(&[
            ("spandrel.peer.k8s.namespace.name", "shop"),
            ("spandrel.peer.k8s.service.name", "web"),
            ("spandrel.peer.k8s.service.uid", "uid-s"),
        ])
    );
    assert_eq!(
        added(&mut peers, "192.0.2.2"),
        pairs(&[
            ("spandrel.peer.k8s.node.name", "node-2"),
            ("spandrel.peer.k8s.node.uid", "uid-n"),
        ])
    );
    assert_eq!(peers.outcomes().snapshot().by_reason["found"], 5);
}

#[test]
fn addresses_that_mean_something_else_elsewhere_are_not_looked_up() {
    let mut peers = synced();
    apply(
        &peers,
        pod(
            "odd",
            &["127.0.0.1", "169.254.1.1", "fe80::1", "172.17.0.1"],
            json!({}),
        ),
    );
    peers.tables.set_own(["172.17.0.1".parse().unwrap()].into());
    for (address, expected) in [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "loopback"),
        ("169.254.1.1", "link_local"),
        ("fe80::1", "link_local"),
        ("/run/web.sock", "no_address"),
        ("172.17.0.1", "own_address"),
        ("203.0.113.9", "address_unknown"),
        ("10.244.2.7", "found"),
    ] {
        assert_eq!(outcome(&mut peers, address), [expected], "{address}");
    }
}

#[test]
fn until_the_first_lists_are_complete_spans_wait_but_not_for_ever() {
    let mut peers = Peers::told(&settings());
    peers.take_in(at(0));
    apply(&peers, pod("web-5d9c-x", &["10.244.2.7"], json!({})));
    assert!(waits(&mut peers, "10.244.2.7", 1));
    assert_eq!(outcome(&mut peers, "10.244.2.7"), ["not_synced"]);
    peers.take_in(at(5));
    assert!(
        !waits(&mut peers, "10.244.2.7", 5),
        "the agent's first 5 s are over"
    );
    peers.apply(Change::<PeerPod>::ListBegan, at(5));
    apply(&peers, pod("web-5d9c-x", &["10.244.2.7"], json!({})));
    peers.apply(Change::<PeerPod>::ListComplete, at(5));
    assert_eq!(
        outcome(&mut peers, "10.244.2.7"),
        ["found"],
        "nobody's claim is surer than a pod's"
    );
    assert_eq!(
        outcome(&mut peers, "10.96.0.10"),
        ["not_synced"],
        "it may be a Service's"
    );
}

#[test]
fn an_unknown_address_among_those_of_the_cluster_is_waited_for_once() {
    let mut peers = synced();
    peers.take_in(at(10));
    assert!(waits(&mut peers, "10.244.2.8", 10), "a new pod, perhaps");
    assert!(!waits(&mut peers, "203.0.113.9", 10), "none of the cluster");
    assert!(!waits(&mut peers, "10.244.2.7", 10), "it is known");
    peers.take_in(at(14));
    assert!(waits(&mut peers, "10.244.2.8", 14));
    peers.take_in(at(15));
    assert!(!waits(&mut peers, "10.244.2.8", 15), "5 s were enough");
    peers.take_in(at(71));
    assert!(waits(&mut peers, "10.244.2.8", 71), "a minute later again");
    apply(&peers, pod("web-5d9c-y", &["10.244.2.8"], json!({})));
    assert!(peers.take_in(at(72)), "that is news");
    assert!(!peers.take_in(at(73)));
    assert!(!waits(&mut peers, "10.244.2.8", 71));
}

#[test]
fn a_pod_that_is_being_deleted_answers_only_when_news_of_its_end_would_have_come() {
    let mut peers = synced();
    let leaving = json!({"resourceVersion": "9", "deletionTimestamp": "2025-11-23T10:00:30Z"});
    apply(&peers, pod("web-5d9c-x", &["10.244.2.7"], leaving));
    assert!(waits(&mut peers, "10.244.2.7", 10));
    assert_eq!(outcome(&mut peers, "10.244.2.7"), ["found"]);
}

#[test]
fn a_pod_that_may_end_by_itself_answers_only_when_news_of_its_end_would_have_come() {
    let mut peers = synced();
    let policy = json!({"restartPolicy": "Never"});
    apply(&peers, pod("report-x", &["10.244.2.9"], policy));
    assert!(waits(&mut peers, "10.244.2.9", 10));
    assert_eq!(outcome(&mut peers, "10.244.2.9"), ["found"]);
}

#[test]
fn the_uid_of_the_own_node_comes_with_the_nodes() {
    let peers = synced();
    assert_eq!(peers.own_node(), None, "node-2 is another one");
    let own = json!({"metadata": {"name": "node-1", "uid": "uid-1", "resourceVersion": "8"}});
    apply(&peers, serde_json::from_value::<Node>(own).unwrap());
    let (name, uid) = ("node-1".to_owned(), "uid-1".to_owned());
    assert_eq!(peers.own_node(), Some(store::Node { name, uid }));
}

#[test]
fn after_news_ceased_nobody_is_named_for_what_is_later() {
    let mut peers = synced();
    peers.take_in(at(6));
    let since = SystemTime::UNIX_EPOCH + Duration::from_nanos(at(5).0);
    let reason = Reason::Unreachable;
    let kind = <PeerPod as Addressed>::PEER;
    peers.tables.note(kind, &State::Stale { since, reason });
    assert!(!waits(&mut peers, "10.244.2.7", 4));
    assert!(waits(&mut peers, "10.244.2.7", 6), "they may come again");
    peers.take_in(at(10));
    assert!(!waits(&mut peers, "10.244.2.7", 10));
    assert_eq!(outcome(&mut peers, "10.244.2.7"), ["stale"]);
    let mut before = measured(SpanKind::Client, "10.244.2.7", 4);
    before = named(&mut peers, before);
    assert!(before.span.attributes.len() > 2, "{before:?}");
    peers.tables.note(kind, &State::Current);
    assert_eq!(outcome(&mut peers, "10.244.2.7"), ["found"]);
}

#[test]
fn the_pipeline_does_not_wait_while_the_tables_change() {
    let mut peers = synced();
    let tables = Arc::clone(&peers.tables);
    let busy = tables.hold_for_tests();
    assert!(waits(&mut peers, "10.244.2.7", 10));
    assert_eq!(outcome(&mut peers, "10.244.2.7"), ["busy"]);
    drop(busy);
    peers.take_in(at(10));
    assert!(!waits(&mut peers, "10.244.2.7", 10));
}

fn edge(
    peers: &mut Peers,
    kind: SpanKind,
    address: &str,
) -> (Vec<(String, String)>, Vec<&'static str>) {
    let mut one = measured(kind, address, 10);
    one.span.status = SpanStatus::Error(Text::default());
    let edge = named(peers, one).edge.unwrap();
    let names = edge.measurements.iter().map(|it| it.instrument.name);
    let short = |name: &'static str| name.strip_prefix("traces_service_graph_request_").unwrap();
    (texts(&edge.attributes), names.map(short).collect())
}

#[test]
fn a_request_is_counted_at_its_clients_end_alone() {
    let mut peers = synced();
    let at_client = vec!["client", "total", "failed_total"];
    let ours = [("client", "front"), ("client_service_namespace", "shop")];
    let to_web = [("server", "web"), ("server_service_namespace", "shop")];
    for address in ["10.244.2.7", "10.96.0.10"] {
        let (attributes, names) = edge(&mut peers, SpanKind::Client, address);
        let expected = [&ours[..], &[("connection_type", "")], &to_web].concat();
        assert_eq!(attributes, pairs(&expected), "{address}");
        assert_eq!(names, at_client, "{address}");
    }
    let (attributes, names) = edge(&mut peers, SpanKind::Client, "203.0.113.9");
    let virtual_node = [("connection_type", "virtual_node")];
    let expected = [&ours[..], &virtual_node, &[("server", "api.example")]].concat();
    assert_eq!(attributes, pairs(&expected));
    assert_eq!(names, at_client);
}

#[test]
fn the_servers_end_counts_only_clients_from_outside_of_the_cluster() {
    let mut peers = synced();
    let ours = [("server", "front"), ("server_service_namespace", "shop")];
    let virtual_node = [("connection_type", "virtual_node")];
    let (attributes, names) = edge(&mut peers, SpanKind::Server, "10.244.2.7");
    let web = [("client", "web"), ("client_service_namespace", "shop")];
    let expected = [&web[..], &[("connection_type", "")], &ours].concat();
    assert_eq!((attributes, names), (pairs(&expected), vec!["server"]));
    // Somebody of the cluster whose own agent counts it, be it a tunnel's address or a pod of which no news came.
    let (attributes, names) = edge(&mut peers, SpanKind::Server, "10.244.2.0");
    let expected = [&[("client", "unknown")][..], &virtual_node, &ours].concat();
    assert_eq!((attributes, names), (pairs(&expected), vec!["server"]));
    let (attributes, names) = edge(&mut peers, SpanKind::Server, "203.0.113.9");
    let expected = [&[("client", "user")][..], &virtual_node, &ours].concat();
    assert_eq!(attributes, pairs(&expected));
    assert_eq!(names, ["server", "total", "failed_total"]);
    let loopback = named(&mut peers, measured(SpanKind::Server, "127.0.0.1", 10));
    assert_eq!(loopback.edge, None);
}

#[test]
fn the_agents_of_two_nodes_count_a_request_once_at_most() {
    // The agents at the client's and the server's end know the same cluster, and nothing of each other.
    let (mut at_client, mut at_server) = (synced(), synced());
    let total =
        |edge: (Vec<_>, Vec<&'static str>)| edge.1.iter().filter(|name| **name == "total").count();
    for (client, address, is_seen, expected) in [
        ("a pod", "10.244.2.7", true, 1),
        ("a pod on its node's network", "192.0.2.2", true, 1),
        (
            "a process behind the address of a tunnel",
            "10.244.2.0",
            true,
            1,
        ),
        ("a pod that a node has translated", "192.0.2.2", true, 1),
        ("a pod on a node without an agent", "10.244.2.7", false, 0),
        ("somebody on the Internet", "203.0.113.9", false, 1),
    ] {
        for server in ["10.244.2.7", "10.96.0.10", "192.0.2.2"] {
            let seen = if is_seen {
                total(edge(&mut at_client, SpanKind::Client, server))
            } else {
                0
            };
            let served = total(edge(&mut at_server, SpanKind::Server, address));
            assert_eq!(seen + served, expected, "{client} to {server}");
        }
    }
}

#[test]
fn news_are_looked_at_a_few_times_a_second_however_many_there_are() {
    let mut peers = synced();
    let tenth = |tenths: u64| UnixTime(at(10).0 + tenths * 100_000_000);
    assert!(peers.take_in(tenth(0)));
    apply(&peers, pod("web-5d9c-y", &["10.244.2.8"], json!({})));
    assert!(!peers.take_in(UnixTime(tenth(0).0 + 20_000_000)));
    assert!(peers.take_in(tenth(1)), "and none is forgotten");
}

/// What is logged meanwhile.
fn logged(run: impl FnOnce()) -> String {
    let (tell, told) = sync_channel(64);
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || Log(tell.clone()))
        .finish();
    tracing::subscriber::with_default(log, run);
    told.try_iter().collect()
}

struct Log(SyncSender<String>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.0.send(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn with_objects_that_were_refused_nobody_is_surely_from_outside() {
    let mut peers = Peers::told(&Settings {
        tables: peers::Settings {
            max_objects: 1,
            ..peers::Settings::default()
        },
        ..settings()
    });
    let pods = ["10.244.2.7", "10.244.9.7", "10.244.9.8"];
    let pods = pods.map(|address| pod(address, &[address], json!({})));
    let said = logged(|| list(&peers, pods));
    let warning = "raise peers.max_objects max_objects=1";
    assert_eq!(said.matches(warning).count(), 1, "{said}");
    list::<Service>(&peers, []);
    list::<Node>(&peers, []);
    let (attributes, names) = edge(&mut peers, SpanKind::Server, "10.244.9.7");
    assert_eq!(attributes[0], ("client".to_owned(), "unknown".to_owned()));
    assert_eq!(names, ["server"]);
}

#[test]
fn of_what_began_long_ago_nobody_is_surely_from_outside() {
    let mut peers = synced();
    for (now, names) in [
        (129, vec!["server", "total", "failed_total"]),
        (130, vec!["server"]),
    ] {
        peers.take_in(at(now));
        assert_eq!(
            edge(&mut peers, SpanKind::Server, "203.0.113.9").1,
            names,
            "{now}"
        );
    }
}

#[test]
fn edges_of_the_same_ends_share_their_attributes_and_none_is_made_where_it_is_off() {
    let mut peers = synced();
    let front = front();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut one = measured(SpanKind::Client, "10.244.2.7", 10);
        let PeerOf::Settled(settled) = peers.of(&one.span, true) else {
            panic!("it waits");
        };
        peers.attach(settled, &front, &mut one);
        ids.push(one.edge.unwrap().attributes.id());
    }
    assert_eq!(ids[0], ids[1]);
    peers.graph = None;
    let one = named(&mut peers, measured(SpanKind::Client, "10.244.2.7", 10));
    assert_eq!(one.edge, None);
}
