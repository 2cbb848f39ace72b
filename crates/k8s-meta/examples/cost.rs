//! What the store and the peers cost: memory for each pod, nanoseconds for each look-up. Run it with `--release`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/cluster/mod.rs"]
mod cluster;

use std::hint::black_box;
use std::time::Instant;

use spandrel_k8s_meta::attributes::KeyRules;
use spandrel_k8s_meta::cgroup;
use spandrel_k8s_meta::peers::{self, PeerPod, Peers};
use spandrel_k8s_meta::pod::Pod;
use spandrel_k8s_meta::store::{Settings, Store};
use spandrel_model::UnixTime;

const NOW: UnixTime = UnixTime(1_763_892_300_000_000_000);
const PODS: usize = 10_000;
const PEERS: usize = 100_000;

fn main() {
    let mut store = Store::new(Settings {
        labels: KeyRules::new(["app.kubernetes.io/*", "team", "tier"]).unwrap(),
        annotations: KeyRules::new(["team.example.com/*"]).unwrap(),
        service_from_labels: true,
        ..Settings::default()
    });
    let json: Vec<String> = (0..PODS).map(cluster::json).collect();
    let pods: Vec<Pod> = (0..PODS).map(cluster::pod).collect();
    let places: Vec<_> = pods
        .iter()
        .map(|pod| {
            let (uid, id) = (&pod.metadata.uid, cluster::container(pod, 0));
            cgroup::parse_path(&format!("/kubepods/burstable/pod{uid}/{id}"))
        })
        .collect();
    each("read a pod's JSON", PODS, |at| {
        black_box(serde_json::from_str::<Pod>(&json[at]).unwrap());
    });
    let before = resident();
    each("apply a new pod", PODS, |at| {
        black_box(store.apply(&pods[at], NOW));
    });
    let bytes = (resident() - before) / PODS;
    println!("{:<32}{bytes:>8} bytes resident", "a pod in the store");
    each("apply it again", PODS, |at| {
        black_box(store.apply(&pods[at], NOW));
    });
    let mut held = Vec::with_capacity(PODS);
    each("first look-up of a container", PODS, |at| {
        held.push(store.locate(&places[at], NOW));
    });
    each("look-up of a container", PODS, |at| {
        black_box(store.locate(&places[at], NOW));
    });
    each("look-up of the same again", PODS, |_| {
        black_box(store.locate(&places[7], NOW));
    });
    let uid = "12345678-0000-4000-8000-000000000000";
    let unknown = cgroup::parse_path(&format!("/kubepods/pod{uid}/{}", "0f".repeat(32)));
    each("look-up of an unknown one", PODS, |_| {
        black_box(store.locate(&unknown, NOW));
    });
    each("expire, nothing to do", 10, |_| store.expire(NOW));

    let before = resident();
    let mut peers = Peers::new(peers::Settings::default());
    for number in 0..PEERS {
        peers.apply_pod(&PeerPod::from(cluster::pod(number)), NOW);
    }
    let bytes = (resident() - before) / PEERS;
    println!("{:<32}{bytes:>8} bytes resident", "a pod among the peers");
    each("first look-up of an address", PEERS, |at| {
        let [_, high, middle, low] = u32::try_from(at).unwrap().to_be_bytes();
        black_box(peers.lookup([10, high, middle, low].into(), NOW));
    });
    // As long as somebody holds it, a peer is made once.
    let held = peers.lookup([10, 0, 1, 1].into(), NOW);
    each("look-up of the same again", PEERS, |_| {
        black_box(peers.lookup([10, 0, 1, 1].into(), NOW));
    });
    drop(held);
}

fn each(what: &str, times: usize, mut run: impl FnMut(usize)) {
    let start = Instant::now();
    (0..times).for_each(&mut run);
    println!(
        "{what:<32}{:>8} ns",
        start.elapsed().as_nanos() / times as u128
    );
}

/// Bytes of the process in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages = text.split_whitespace().nth(1).unwrap();
    pages.parse::<usize>().unwrap() * 4096
}
