//! Addresses that change hands.

use super::*;
use crate::pod::{
    ContainerState, ContainerStatus, OwnerReference, Pod, PodIp, Running, Terminated,
};

const SECOND: u64 = 1_000_000_000;
/// 2025-11-23T10:00:00Z.
const START: u64 = 1_763_892_000 * SECOND;

fn at(seconds: u64) -> UnixTime {
    UnixTime(START + seconds * SECOND)
}

fn time(seconds: u64) -> Option<String> {
    Some(timestamp::format(at(seconds).0))
}

fn meta(uid: &str, version: u64, created: u64) -> Metadata {
    Metadata {
        uid: uid.into(),
        name: uid.into(),
        namespace: "shop".into(),
        resource_version: version.to_string(),
        creation_timestamp: time(created),
        ..Metadata::default()
    }
}

fn pod(uid: &str, version: u64, created: u64, addresses: &[&str]) -> Pod {
    let mut pod = Pod {
        metadata: meta(uid, version, created),
        ..Pod::default()
    };
    pod.status.phase = "Running".into();
    pod.status.host_ip = Some("192.0.2.1".into());
    pod.status.pod_ips = addresses
        .iter()
        .map(|it| PodIp { ip: (*it).into() })
        .collect();
    pod.status.container_statuses = vec![ContainerStatus {
        state: ContainerState {
            running: Some(Running {
                started_at: time(created + 3),
            }),
            terminated: None,
        },
        ..ContainerStatus::default()
    }];
    pod
}

fn finished(mut pod: Pod, version: u64, seconds: u64) -> Pod {
    pod.metadata.resource_version = version.to_string();
    pod.status.phase = "Succeeded".into();
    pod.status.container_statuses[0].state = ContainerState {
        running: None,
        terminated: Some(Terminated {
            finished_at: time(seconds),
            ..Terminated::default()
        }),
    };
    pod
}

fn who(peers: &mut Peers, address: &str, seconds: u64) -> String {
    match peers.lookup(address.parse().unwrap(), at(seconds)) {
        PeerLookup::Found(peer) | PeerLookup::Leaving(peer) => peer.uid.clone(),
        other => other.outcome().to_owned(),
    }
}

fn peers() -> Peers {
    Peers::new(Settings::default())
}

#[test]
fn an_older_state_of_an_object_changes_nothing_whatever_comes_late() {
    let mut peers = peers();
    let told = |address, version| PeerPod::from(pod("a", version, 0, &[address]));
    peers.apply_pod(&told("10.0.0.2", 9), at(10));
    // Less as a number, more as a text; and one that is the same.
    for (address, version) in [("10.0.0.1", 8), ("10.0.0.3", 9)] {
        peers.apply_pod(&told(address, version), at(20));
        assert_eq!(who(&mut peers, address, 30), "address_unknown", "{version}");
        assert_eq!(who(&mut peers, "10.0.0.2", 30), "a", "{version}");
    }
    peers.apply_pod(&told("10.0.0.4", 10), at(40));
    assert_eq!(who(&mut peers, "10.0.0.4", 50), "a");
    // Its end is not undone by one that was on its way before it either.
    peers.apply_pod(
        &PeerPod::from(finished(pod("a", 0, 0, &["10.0.0.4"]), 11, 60)),
        at(61),
    );
    peers.apply_pod(&told("10.0.0.4", 10), at(70));
    assert_eq!(who(&mut peers, "10.0.0.4", 100), "address_gone");
}

#[test]
fn a_late_deletion_does_not_take_the_address_from_its_new_pod() {
    let mut peers = peers();
    peers.apply_pod(&PeerPod::from(pod("a", 1, 0, &["10.0.0.1"])), at(4));
    peers.apply_pod(&PeerPod::from(pod("b", 2, 50, &["10.0.0.1"])), at(54));
    assert_eq!(
        who(&mut peers, "10.0.0.1", 60),
        "b",
        "the end of a is still to come"
    );
    peers.delete("a", at(70));
    peers.expire(at(500));
    for (seconds, owner) in [(55, "b"), (71, "b"), (400, "b")] {
        assert_eq!(who(&mut peers, "10.0.0.1", seconds), owner);
    }
    assert_eq!(peers.len(), 1);
}

#[test]
fn while_an_address_changes_hands_nobody_has_it() {
    let mut peers = peers();
    peers.apply_pod(&PeerPod::from(pod("a", 1, 0, &["10.0.0.1"])), at(4));
    peers.delete("a", at(40));
    assert_eq!(
        who(&mut peers, "10.0.0.1", 52),
        "address_gone",
        "whoever it is now is not told yet"
    );
    peers.apply_pod(&PeerPod::from(pod("b", 2, 50, &["10.0.0.1"])), at(60));
    for (seconds, owner) in [
        (30, "a"),
        (39, "a"),
        (45, "address_gone"),
        (49, "address_ambiguous"),
        (52, "address_ambiguous"),
        (55, "b"),
    ] {
        assert_eq!(who(&mut peers, "10.0.0.1", seconds), owner, "{seconds}");
    }
}

#[test]
fn a_finished_pod_keeps_no_address_though_its_status_does() {
    let mut peers = peers();
    let a = pod("a", 1, 0, &["10.0.0.1"]);
    peers.apply_pod(&PeerPod::from(a.clone()), at(4));
    peers.apply_pod(&PeerPod::from(finished(a, 2, 20)), at(22));
    peers.apply_pod(&PeerPod::from(pod("b", 3, 15, &["10.0.0.1"])), at(30));
    assert_eq!(
        who(&mut peers, "10.0.0.1", 18),
        "a",
        "its last container ran until 20"
    );
    assert_eq!(who(&mut peers, "10.0.0.1", 25), "b");
    let mut late = Peers::new(Settings::default());
    late.apply_pod(
        &PeerPod::from(finished(pod("a", 1, 0, &["10.0.0.1"]), 2, 20)),
        at(22),
    );
    assert_eq!(who(&mut late, "10.0.0.1", 22), "address_unknown");
}

#[test]
fn last_words_without_addresses_leave_nothing_behind() {
    let mut peers = peers();
    peers.apply_pod(&PeerPod::from(pod("a", 1, 0, &["10.0.0.1"])), at(4));
    peers.apply_pod(&PeerPod::from(pod("a", 2, 0, &[])), at(10));
    peers.delete("a", at(11));
    assert_eq!(who(&mut peers, "10.0.0.1", 10), "a");
    assert_eq!(who(&mut peers, "10.0.0.1", 11), "address_gone");
    assert!(peers.is_near("10.0.0.200".parse().unwrap()));
    peers.expire(at(131));
    assert_eq!(who(&mut peers, "10.0.0.1", 10), "address_unknown");
    assert!(!peers.is_near("10.0.0.200".parse().unwrap()));
    assert_eq!(
        (peers.len(), peers.objects.len(), peers.addresses.len()),
        (0, 0, 0)
    );
}

#[test]
fn pods_on_the_network_of_their_node_are_the_node() {
    let mut peers = peers();
    let mut host = pod("a", 1, 0, &["192.0.2.1", "2001:db8::1"]);
    host.spec.host_network = true;
    peers.apply_pod(&PeerPod::from(host), at(4));
    peers.apply_pod(&PeerPod::from(pod("b", 2, 0, &["192.0.2.1"])), at(4));
    assert_eq!(who(&mut peers, "192.0.2.1", 5), "address_unknown");
    let address = |kind: &str, address: &str| NodeAddress {
        kind: kind.into(),
        address: address.into(),
    };
    let addresses = vec![
        address("InternalIP", "192.0.2.1"),
        address("ExternalIP", "2001:db8::1"),
        address("Hostname", "n1"),
    ];
    peers.apply_node(
        &Node {
            metadata: meta("n", 3, 0),
            status: NodeStatus { addresses },
        },
        at(5),
    );
    for address in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        assert_eq!(who(&mut peers, address, 6), "n", "{address}");
    }
}

#[test]
fn services_have_all_their_addresses_and_headless_ones_none() {
    let mut peers = peers();
    let mut service = Service {
        metadata: meta("s", 1, 0),
        ..Service::default()
    };
    service.spec.cluster_ips = vec!["10.96.0.10".into(), "fd00::a".into()];
    service.spec.external_ips = vec!["198.51.100.7".into()];
    service.status.load_balancer.ingress = vec![
        Ingress {
            ip: "203.0.113.9".into(),
        },
        Ingress::default(),
    ];
    peers.apply_service(&service, at(4));
    let mut headless = Service {
        metadata: meta("h", 1, 0),
        ..Service::default()
    };
    headless.spec.cluster_ips = vec!["None".into()];
    peers.apply_service(&headless, at(4));
    for address in ["10.96.0.10", "fd00::a", "198.51.100.7", "203.0.113.9"] {
        assert_eq!(who(&mut peers, address, 5), "s", "{address}");
    }
    peers.apply_pod(&PeerPod::from(pod("p", 9, 0, &["198.51.100.7"])), at(6));
    assert_eq!(
        who(&mut peers, "198.51.100.7", 7),
        "p",
        "a pod's own address is the surer one"
    );
}

#[test]
fn only_a_complete_list_of_the_same_kind_ends_what_it_lacks() {
    let mut peers = peers();
    peers.apply_pod(&PeerPod::from(pod("a", 1, 0, &["10.0.0.1"])), at(4));
    peers.begin_list(PeerKind::Service);
    peers.end_list(PeerKind::Service, at(5));
    peers.begin_list(PeerKind::Pod);
    peers.begin_list(PeerKind::Pod);
    assert_eq!(who(&mut peers, "10.0.0.1", 900), "a");
    peers.end_list(PeerKind::Pod, at(6));
    assert_eq!(who(&mut peers, "10.0.0.1", 900), "address_gone");
    peers.apply_pod(&PeerPod::from(pod("a", 1, 0, &["10.0.0.1"])), at(7));
    assert_eq!(
        who(&mut peers, "10.0.0.1", 900),
        "a",
        "the list was an old one"
    );
}

#[test]
fn too_many_objects_are_refused_and_counted() {
    let mut peers = Peers::new(Settings {
        max_objects: 1,
        ..Settings::default()
    });
    peers.apply_pod(&PeerPod::from(pod("a", 1, 0, &["10.0.0.1"])), at(4));
    peers.apply_pod(&PeerPod::from(pod("b", 2, 0, &["10.0.0.2"])), at(4));
    assert_eq!((peers.len(), peers.refused()), (1, 1));
}

#[test]
fn after_its_deletion_was_announced_a_pod_may_have_lost_its_address_to_another() {
    let mut peers = peers();
    let mut a = pod("a", 1, 0, &["10.0.0.1"]);
    peers.apply_pod(&PeerPod::from(a.clone()), at(4));
    a.metadata.resource_version = "2".into();
    a.metadata.deletion_timestamp = time(40);
    peers.apply_pod(&PeerPod::from(a), at(10));
    let mut is_leaving = |seconds| {
        let found = peers.lookup("10.0.0.1".parse().unwrap(), at(seconds));
        match found {
            PeerLookup::Found(_) => false,
            PeerLookup::Leaving(_) => true,
            other => panic!("{other:?}"),
        }
    };
    assert!(!is_leaving(9));
    assert!(is_leaving(10));
}

#[test]
fn a_pod_that_may_end_by_itself_may_have_lost_its_address_at_any_time() {
    for (policy, leaves) in [("Never", true), ("OnFailure", true), ("Always", false)] {
        let mut peers = peers();
        let mut a = pod("a", 1, 0, &["10.0.0.1"]);
        a.spec.restart_policy = Some(policy.into());
        peers.apply_pod(&PeerPod::from(a.clone()), at(4));
        let found = peers.lookup("10.0.0.1".parse().unwrap(), at(9));
        assert_eq!(matches!(found, PeerLookup::Leaving(_)), leaves, "{policy}");
        // Once the news have come they say whose it was.
        peers.apply_pod(&PeerPod::from(finished(a, 2, 6)), at(10));
        peers.apply_pod(&PeerPod::from(pod("b", 3, 5, &["10.0.0.1"])), at(11));
        assert_eq!(who(&mut peers, "10.0.0.1", 5), "a", "{policy}");
        assert_eq!(who(&mut peers, "10.0.0.1", 11), "b", "{policy}");
    }
}

#[test]
fn networks_are_known_by_the_addresses_that_objects_have_in_them() {
    let mut peers = peers();
    let near = |peers: &Peers, address: &str| peers.is_near(address.parse().unwrap());
    let both = pod("a", 1, 0, &["10.0.7.1", "fd00:0:0:7::1"]);
    peers.apply_pod(&PeerPod::from(both), at(4));
    let other = pod("b", 1, 0, &["10.0.7.2"]);
    peers.apply_pod(&PeerPod::from(other), at(4));
    for (address, expected) in [
        ("10.0.7.255", true),
        ("::ffff:10.0.7.9", true),
        ("10.0.8.1", false),
        ("fd00:0:0:7:ffff::9", true),
        ("fd00:0:0:8::1", false),
    ] {
        assert_eq!(near(&peers, address), expected, "{address}");
    }
    peers.delete("a", at(5));
    peers.expire(at(200));
    assert!(near(&peers, "10.0.7.255"), "b is still there");
    assert!(!near(&peers, "fd00:0:0:7::1"));
}

#[test]
fn a_pods_service_is_named_as_its_own_telemetry_names_it() {
    let mut peers = Peers::new(Settings {
        service_from_labels: true,
        ..Settings::default()
    });
    let mut service = |version: u64, change: &dyn Fn(&mut Pod), declared: Declared| {
        let mut one = pod("web-5d9c-x", version, 0, &["10.0.0.1"]);
        change(&mut one);
        let pod = PeerPod { pod: one, declared };
        peers.apply_pod(&pod, at(4));
        match peers.lookup("10.0.0.1".parse().unwrap(), at(9)) {
            PeerLookup::Found(peer) => peer
                .service
                .as_ref()
                .map(|(name, of)| format!("{of}/{name}")),
            other => panic!("{other:?}"),
        }
    };
    let owned = |pod: &mut Pod| {
        pod.metadata
            .labels
            .insert("pod-template-hash".into(), "5d9c".into());
        pod.metadata.owner_references = vec![OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "web-5d9c".into(),
            controller: true,
            ..OwnerReference::default()
        }];
    };
    let labelled = |pod: &mut Pod| {
        owned(pod);
        pod.metadata
            .labels
            .insert("app.kubernetes.io/name".into(), "front".into());
    };
    let annotated = |pod: &mut Pod| {
        labelled(pod);
        let annotations = &mut pod.metadata.annotations;
        annotations.insert(NAME_ANNOTATION.into(), "checkout".into());
        annotations.insert(NAMESPACE_ANNOTATION.into(), "sales".into());
    };
    let none = || Declared::Nothing;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(service(1, &|_| {}, none()), some("shop/web-5d9c-x"));
    assert_eq!(service(2, &owned, none()), some("shop/web"));
    assert_eq!(service(3, &labelled, none()), some("shop/front"));
    assert_eq!(service(4, &annotated, none()), some("sales/checkout"));
    let declared = Declared::Name("cart".into());
    assert_eq!(service(5, &annotated, declared), some("sales/cart"));
    assert_eq!(service(6, &owned, Declared::Unclear), None);
}

#[test]
fn services_and_nodes_have_had_their_addresses_since_they_were_made() {
    let mut peers = peers();
    let mut service = Service {
        metadata: meta("s", 1, 0),
        ..Service::default()
    };
    service.spec.cluster_ips = vec!["10.96.0.10".into()];
    service.spec.external_ips = vec!["198.51.100.7".into()];
    peers.apply_service(&service, at(100));
    assert_eq!(who(&mut peers, "10.96.0.10", 1), "address_ambiguous");
    assert_eq!(who(&mut peers, "10.96.0.10", 50), "s");
    assert_eq!(who(&mut peers, "198.51.100.7", 50), "address_ambiguous");
    service.metadata.resource_version = "2".into();
    service.spec.cluster_ips.push("fd00::a".into());
    peers.apply_service(&service, at(200));
    assert_eq!(who(&mut peers, "fd00::a", 150), "address_ambiguous");
    assert_eq!(who(&mut peers, "fd00::a", 200), "s");
    let addresses = vec![NodeAddress {
        kind: "InternalIP".into(),
        address: "192.0.2.1".into(),
    }];
    let node = Node {
        metadata: meta("n", 3, 0),
        status: NodeStatus { addresses },
    };
    peers.apply_node(&node, at(100));
    assert_eq!(who(&mut peers, "192.0.2.1", 50), "n");
}

#[test]
fn a_port_of_a_service_on_all_nodes_is_the_services() {
    let mut peers = peers();
    let port = |port: u16, protocol: Option<&str>| ServicePort {
        node_port: Some(port),
        protocol: protocol.map(str::to_owned),
    };
    let mut service = Service {
        metadata: meta("s", 1, 0),
        ..Service::default()
    };
    service.spec.ports = vec![
        port(30080, Some("TCP")),
        port(30053, Some("UDP")),
        port(0, None),
    ];
    peers.apply_service(&service, at(10));
    let addresses = vec![NodeAddress {
        kind: "InternalIP".into(),
        address: "192.0.2.1".into(),
    }];
    let node = Node {
        metadata: meta("n", 3, 0),
        status: NodeStatus { addresses },
    };
    peers.apply_node(&node, at(10));
    let pod = pod("p", 4, 0, &["10.0.0.1"]);
    peers.apply_pod(&PeerPod::from(pod), at(10));
    let asked = |peers: &mut Peers, address: &str, port: u16, seconds: u64| match peers
        .lookup_server(address.parse().unwrap(), port, at(seconds))
    {
        PeerLookup::Found(peer) => peer.uid.clone(),
        other => other.outcome().to_owned(),
    };
    for (address, port, who) in [
        ("192.0.2.1", 30080, "s"),
        ("192.0.2.1", 30053, "n"),
        ("192.0.2.1", 0, "n"),
        ("192.0.2.1", 30081, "n"),
        ("10.0.0.1", 30080, "p"),
        ("192.0.2.2", 30080, "address_unknown"),
    ] {
        assert_eq!(
            asked(&mut peers, address, port, 20),
            who,
            "{address} {port}"
        );
    }
    // Nobody has the place at which a port is claimed.
    assert_eq!(who(&mut peers, "100::7580", 20), "address_unknown");
    // The port goes to another Service.
    peers.delete("s", at(30));
    let mut next = service.clone();
    next.metadata = meta("t", 5, 40);
    peers.apply_service(&next, at(60));
    for (seconds, who) in [(29, "s"), (35, "n"), (41, "address_ambiguous"), (42, "t")] {
        assert_eq!(
            asked(&mut peers, "192.0.2.1", 30080, seconds),
            who,
            "{seconds}"
        );
    }
}
