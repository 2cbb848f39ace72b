//! What pods take in memory, counted by the allocator.
#![allow(clippy::unwrap_used)]

mod cluster;

use allocation_counter::measure;
use spandrel_k8s_meta::attributes::KeyRules;
use spandrel_k8s_meta::peers::{self, PeerLookup, PeerPod, Peers};
use spandrel_k8s_meta::store::{Lookup, Settings, Store};
use spandrel_model::UnixTime;

const NOW: UnixTime = UnixTime(1_763_892_300_000_000_000);
const MIB: i64 = 1 << 20;

fn settings() -> Settings {
    Settings {
        labels: KeyRules::new(["app.kubernetes.io/*", "team", "tier"]).unwrap(),
        annotations: KeyRules::new(["team.example.com/*"]).unwrap(),
        service_from_labels: true,
        ..Settings::default()
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap()
}

#[test]
fn ten_thousand_pods_take_less_than_ten_megabytes() {
    let mut store = Store::new(settings());
    let counted = measure(|| {
        store.begin_list();
        for number in 0..10_000 {
            let _ = store.apply(&cluster::pod(number), NOW);
        }
        store.end_list(NOW);
    });
    println!(
        "10,000 pods: {} bytes, {} at most while listing",
        counted.bytes_current, counted.bytes_max
    );
    assert!(
        counted.bytes_current < 10_000_000,
        "{}",
        counted.bytes_current
    );
    let peak = signed(counted.bytes_max) - counted.bytes_current;
    assert!(peak < MIB, "{peak} more while listing");
    let pod = cluster::pod(9_999);
    let found = store.container(&cluster::container(&pod, 1), NOW);
    assert_eq!(
        found.identity().unwrap().workload().unwrap().1,
        "service-999"
    );
}

#[test]
fn looking_up_and_letting_go_leaves_little_behind() {
    let mut store = Store::new(settings());
    let ids: Vec<String> = (0..1000)
        .map(|number| {
            let pod = cluster::pod(number);
            let _ = store.apply(&pod, NOW);
            cluster::container(&pod, 0)
        })
        .collect();
    let mut held = Vec::new();
    let counted = measure(|| {
        held.extend(ids.iter().map(|id| store.container(id, NOW)));
    });
    assert!(held.iter().all(|it| matches!(it, Lookup::Found(_))));
    let let_go = measure(|| held.clear());
    let left = counted.bytes_current + let_go.bytes_current;
    println!(
        "1,000 identities: {} bytes held, {left} after",
        counted.bytes_current
    );
    assert!(left < 1000 * 512, "{left} bytes");
}

#[test]
fn all_is_given_back_when_pods_are_gone() {
    let mut store = Store::new(settings());
    let round = |store: &mut Store, from: usize| {
        for number in from..from + 500 {
            let pod = cluster::pod(number);
            let _ = store.apply(&pod, NOW);
            store.delete(&pod.metadata.uid, NOW);
        }
        store.expire(UnixTime(NOW.0 + 120_000_000_000));
        assert!(store.is_empty());
    };
    round(&mut store, 0);
    let counted = measure(|| (1..10).for_each(|turn| round(&mut store, turn * 500)));
    assert!(
        counted.bytes_current < MIB / 4,
        "{} bytes more after nine rounds",
        counted.bytes_current
    );
}

#[test]
fn a_hundred_thousand_peers_take_less_than_forty_megabytes() {
    let mut peers = Peers::new(peers::Settings::default());
    let counted = measure(|| {
        for first in (0..100_000).step_by(10) {
            let mut pod = cluster::pod(first);
            for number in first..first + 10 {
                // Reading all of them takes most of the time of an unoptimized test.
                pod.metadata.uid = format!("{number:08x}-3c1d-4b6e-9f20-7a8b9c0d1e2f");
                pod.metadata
                    .name
                    .replace_range(pod.metadata.name.len() - 5.., &format!("{number:05x}"));
                let [_, high, middle, low] = u32::try_from(number).unwrap().to_be_bytes();
                pod.status.pod_ips[0].ip = format!("10.{high}.{middle}.{low}");
                peers.apply_pod(&PeerPod::from(pod.clone()), NOW);
            }
        }
    });
    println!("100,000 peers: {} bytes", counted.bytes_current);
    assert!(
        counted.bytes_current < 40_000_000,
        "{}",
        counted.bytes_current
    );
    let found = peers.lookup("10.1.1.1".parse().unwrap(), NOW);
    assert!(
        matches!(&found, PeerLookup::Found(peer) if peer.namespace.as_ref() == "team-19"),
        "{found:?}"
    );
}
