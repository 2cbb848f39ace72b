//! Whatever texts a pod is made of: it is kept or refused, looked up and forgotten, and nothing panics.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with tests that need more")]
mod cluster;

use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};
use serde_json::json;
use spandrel_k8s_meta::attributes::KeyRules;
use spandrel_k8s_meta::cgroup::PodRef;
use spandrel_k8s_meta::image::Reference;
use spandrel_k8s_meta::peers::{self, Peers};
use spandrel_k8s_meta::pod::Pod;
use spandrel_k8s_meta::store::{Settings, Store};
use spandrel_model::UnixTime;

/// Anything, and what is nearly right.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,70}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-fé]{11,12}",
        "(containerd://)?[0-9a-f]{60,66}",
        "[0-9]{3,4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,12})?(Z|[+-][0-9]{2}:[0-9é]{2})",
        "[a-z0-9.:/-]{0,20}(:[a-z0-9]{0,5})?(@sha256:[0-9a-f]{60,64})?",
        "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}",
        "[a-z]{0,3}-[0-9]{6,25}",
    ]
}

fn pod() -> impl Strategy<Value = Pod> {
    (prop::collection::vec(text(), 22), any::<u32>(), any::<bool>()).prop_map(|(texts, count, host)| {
        let at = |index: usize| texts[index].clone();
        let kind = ["ReplicaSet", "Job", "StatefulSet"][count as usize % 3];
        let group = ["apps/v1", "batch/v1", "v1"][count as usize / 3 % 3];
        serde_json::from_value(json!({
            "metadata": {
                "name": at(0), "namespace": at(1), "uid": at(2), "resourceVersion": at(3), "creationTimestamp": at(4),
                "labels": {"pod-template-hash": at(5), at(6): at(7), "app.kubernetes.io/name": at(8)},
                "annotations": {"kubernetes.io/config.hash": at(9), format!("resource.opentelemetry.io/{}", at(10)): at(11)},
                "ownerReferences": [{"apiVersion": group, "kind": kind, "name": at(12), "uid": at(13), "controller": true}],
            },
            "spec": {"nodeName": at(14), "hostNetwork": host, "containers": [{"name": "a", "image": at(15)}]},
            "status": {
                "phase": if host { "Failed" } else { "Running" }, "startTime": at(16), "podIPs": [{"ip": at(17)}],
                "containerStatuses": [{
                    "name": "a", "containerID": at(18), "image": at(15), "imageID": at(19), "restartCount": count,
                    "state": {"running": {"startedAt": at(4)}},
                    "lastState": {"terminated": {"finishedAt": at(20), "containerID": at(21)}},
                }],
            },
        }))
        .unwrap()
    })
}

proptest! {
    #[test]
    fn any_pod_is_kept_looked_up_and_forgotten(pods in prop::collection::vec(pod(), 1..6), now in any::<u64>()) {
        let everything = || KeyRules::new(["*"]).unwrap();
        let mut store = Store::new(Settings { labels: everything(), annotations: everything(), service_from_labels: true, ..Settings::default() });
        let mut peers = Peers::new(peers::Settings::default());
        let now = UnixTime(now);
        for pod in &pods {
            let _ = store.apply(pod, now);
            peers.apply_pod(&peers::PeerPod::from(pod.clone()), now);
            for id in [&pod.status.container_statuses[0].container_id, &pod.metadata.uid] {
                let id = id.rsplit("://").next().unwrap();
                assert!(!store.container(id, now).outcome().is_empty());
                assert!(!store.pod(&PodRef::Uid(id.to_owned()), now).outcome().is_empty());
                assert!(!store.pod(&PodRef::ConfigHash(id.to_owned()), now).outcome().is_empty());
            }
            if let Ok(address) = pod.status.pod_ips[0].ip.parse() {
                assert!(!peers.lookup(address, now).outcome().is_empty());
            }
        }
        store.begin_list();
        store.end_list(now);
        peers.begin_list(peers::PeerKind::Pod);
        peers.end_list(peers::PeerKind::Pod, now);
        if now.0 < u64::MAX / 2 {
            store.expire(UnixTime(u64::MAX - 1));
            peers.expire(UnixTime(u64::MAX - 1));
            assert!(store.is_empty());
            assert!(peers.is_empty());
        }
    }

    #[test]
    fn a_pod_of_which_less_is_read_can_be_read_wherever_the_whole_can(
        number in 0_usize..1000,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
    ) {
        let mut json = cluster::json(number).into_bytes();
        for (at, byte) in changes {
            let at = at % json.len();
            json[at] = byte;
        }
        let whole = serde_json::from_slice::<Pod>(&json);
        let less = serde_json::from_slice::<peers::PeerPod>(&json);
        // Of what is passed over not even the encoding is looked at, and each passes over something else.
        let is_text = std::str::from_utf8(&json).is_ok();
        if let Some(whole) = whole.ok().filter(|_| is_text) {
            let less = less.unwrap();
            assert_eq!(less.metadata().uid, whole.metadata.uid);
            let mut peers = Peers::new(peers::Settings::default());
            peers.apply_pod(&less, UnixTime(u64::MAX / 4));
            if let Some(Ok(address)) = whole.status.pod_ips.first().map(|it| it.ip.parse()) {
                let _ = peers.lookup(address, UnixTime(u64::MAX / 4));
            }
        }
    }

    #[test]
    fn a_reference_is_made_of_its_parts(text in text()) {
        if let Some(it) = Reference::parse(&text) {
            let tag = it.tag.map(|tag| format!(":{tag}")).unwrap_or_default();
            let digest = it.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
            assert_eq!(format!("{}{tag}{digest}", it.name), text);
        }
    }
}
