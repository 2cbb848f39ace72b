//! The store in time: one case after the other of what makes others answer wrongly.

use std::sync::Arc;

use super::*;
use crate::cgroup::{Placement, PodRef};
use crate::pod::{ContainerSpec, ContainerState, ContainerStatus, Running, Terminated};
use crate::timestamp;

const SECOND: u64 = 1_000_000_000;
/// 2025-11-23T10:00:00Z.
const START: u64 = 1_763_892_000 * SECOND;

fn at(seconds: u64) -> UnixTime {
    UnixTime(START + seconds * SECOND)
}

fn id(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits:0>64}")
}

fn time(seconds: u64) -> Option<String> {
    Some(timestamp::format(at(seconds).0))
}

/// A pod with one container, `app`, whose present run is `run`.
fn pod(uid: &str, version: u64, run: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = uid.into();
    pod.metadata.name = "db-0".into();
    pod.metadata.namespace = "shop".into();
    pod.metadata.resource_version = version.to_string();
    pod.metadata.creation_timestamp = time(0);
    pod.spec.containers = vec![ContainerSpec {
        name: "app".into(),
        image: "db:1".into(),
        ..ContainerSpec::default()
    }];
    pod.status.container_statuses = vec![ContainerStatus {
        name: "app".into(),
        container_id: if run.is_empty() {
            String::new()
        } else {
            format!("containerd://{}", id(run))
        },
        state: ContainerState {
            running: (!run.is_empty()).then(|| Running {
                started_at: time(1),
            }),
            terminated: None,
        },
        ..ContainerStatus::default()
    }];
    pod
}

fn restarted(mut pod: Pod, before: &str, finished: u64) -> Pod {
    pod.metadata.resource_version = "9".into();
    let status = &mut pod.status.container_statuses[0];
    status.restart_count = 1;
    status.last_state.terminated = Some(Terminated {
        container_id: format!("containerd://{}", id(before)),
        started_at: time(1),
        finished_at: time(finished),
        reason: None,
    });
    pod
}

fn store() -> Store {
    Store::new(Settings::default())
}

fn by_run(store: &mut Store, run: &str, seconds: u64) -> String {
    answer(&store.container(&id(run), at(seconds)))
}

fn answer(found: &Lookup) -> String {
    match found {
        Lookup::Found(identity) => identity.pod_uid().to_owned(),
        other => other.outcome().to_owned(),
    }
}

fn place(run: &str, pod: &str) -> Placement {
    crate::cgroup::parse_path(&format!("/kubepods/burstable/pod{pod}/{}", id(run)))
}

const A: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
const B: &str = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb";

#[test]
fn a_pod_of_the_same_name_is_another_pod() {
    let mut store = store();
    let _ = store.apply(&pod(A, 1, "r1"), at(1));
    let _ = store.apply(&pod(B, 2, "r2"), at(20));
    store.delete(A, at(21));
    assert_eq!(by_run(&mut store, "r1", 15), A);
    assert_eq!(by_run(&mut store, "r2", 22), B);
}

#[test]
fn a_deleted_pod_answers_for_the_grace_period() {
    let mut store = store();
    let _ = store.apply(&pod(A, 1, "r1"), at(1));
    store.delete(A, at(10));
    assert_eq!(by_run(&mut store, "r1", 129), A);
    assert_eq!(by_run(&mut store, "r1", 130), "pod_deleted");
    store.expire(at(129));
    assert_eq!(store.len(), 1);
    store.expire(at(130));
    assert_eq!((store.len(), store.counters().expired), (0, 1));
    assert_eq!(by_run(&mut store, "r1", 9), "not_synced", "forgotten");
}

#[test]
fn both_lives_of_a_restarted_container_are_known() {
    let mut store = store();
    let _ = store.apply(&pod(A, 1, "r1"), at(1));
    let _ = store.apply(&restarted(pod(A, 2, "r2"), "r1", 10), at(12));
    for (run, seconds, restarts) in [("r1", 9, 0), ("r2", 13, 1)] {
        let found = store.container(&id(run), at(seconds));
        let count = found
            .identity()
            .unwrap()
            .attributes()
            .iter()
            .find(|it| it.key == "k8s.container.restart_count");
        assert_eq!(
            count.unwrap().value,
            spandrel_model::Value::I64(restarts),
            "{run}"
        );
    }
    assert_eq!(by_run(&mut store, "r1", 131), "container_ended");
    store.expire(at(1000));
    assert_eq!(
        by_run(&mut store, "r1", 131),
        "container_ended",
        "the status still has it"
    );
    let mut third = restarted(pod(A, 0, "r3"), "r2", 990);
    third.metadata.resource_version = "10".into();
    let _ = store.apply(&third, at(1001));
    assert_eq!(by_run(&mut store, "r1", 131), "not_synced");
    assert_eq!(by_run(&mut store, "r2", 989), A);
}

#[test]
fn a_container_without_its_own_count_of_restarts_gets_none() {
    let mut store = store();
    let _ = store.apply(&restarted(pod(A, 2, "r2"), "r1", 10), at(12));
    let found = store.container(&id("r1"), at(9));
    let keys = found
        .identity()
        .unwrap()
        .attributes()
        .iter()
        .map(|it| it.key.to_string());
    let keys: Vec<String> = keys.collect();
    assert!(
        !keys
            .iter()
            .any(|key| key.starts_with("k8s.container.restart")
                || key.starts_with("container.image")),
        "{keys:?}"
    );
}

#[test]
fn while_a_container_waits_for_its_next_start_its_last_end_is_known() {
    let mut store = store();
    let mut waiting = restarted(pod(A, 2, "r1"), "r1", 10);
    waiting.status.container_statuses[0].state.running = None;
    let _ = store.apply(&waiting, at(12));
    assert_eq!(by_run(&mut store, "r1", 9), A);
    assert_eq!(by_run(&mut store, "r1", 132), "container_ended");
}

#[test]
fn old_and_repeated_news_change_nothing() {
    let mut store = store();
    assert_eq!(store.apply(&pod(A, 5, "r1"), at(1)), Applied::Added);
    assert_eq!(store.apply(&pod(A, 5, "r1"), at(2)), Applied::Repeated);
    assert_eq!(store.apply(&pod(A, 4, ""), at(3)), Applied::Stale);
    assert_eq!(by_run(&mut store, "r1", 4), A);
    store.delete(A, at(5));
    assert_eq!(store.apply(&pod(A, 6, "r1"), at(6)), Applied::Stale);
    store.delete(A, at(7));
    store.expire(at(125));
    assert!(store.is_empty(), "the first deletion counts");
}

#[test]
fn what_was_deleted_before_it_was_known_does_not_come_to_life() {
    let mut store = store();
    store.delete(A, at(1));
    assert_eq!(store.apply(&pod(A, 1, "r1"), at(2)), Applied::Stale);
    for number in 0..2 * MAX_DELETED {
        store.delete(&number.to_string(), at(3));
    }
    assert_eq!(store.deleted.len(), MAX_DELETED);
    store.expire(at(200));
    assert!(store.deleted.is_empty());
}

#[test]
fn only_a_complete_list_ends_what_it_lacks() {
    let mut store = store();
    store.begin_list();
    let _ = store.apply(&pod(A, 1, "r1"), at(1));
    assert!(!store.is_synced());
    store.end_list(at(1));
    assert!(store.is_synced());
    // A list that breaks off, then another one.
    store.begin_list();
    let _ = store.apply(&pod(B, 2, "r2"), at(50));
    store.begin_list();
    let _ = store.apply(&pod(B, 2, "r2"), at(51));
    assert_eq!(by_run(&mut store, "r1", 1000), A, "still alive");
    store.end_list(at(52));
    store.end_list(at(53));
    assert_eq!(by_run(&mut store, "r1", 171), A);
    assert_eq!(by_run(&mut store, "r1", 172), "pod_deleted");
    assert_eq!(by_run(&mut store, "r2", 1000), B);
    assert_eq!(by_run(&mut store, "r9", 52), "pod_unknown");
    assert_eq!(store.counters().missing, 1);
}

#[test]
fn a_pod_that_only_an_old_list_lacked_comes_back() {
    let mut store = store();
    let _ = store.apply(&pod(A, 7, "r1"), at(1));
    store.begin_list();
    store.end_list(at(2));
    assert_eq!(store.apply(&pod(A, 7, "r1"), at(3)), Applied::Repeated);
    assert_eq!(by_run(&mut store, "r1", 1000), A);
}

#[test]
fn a_container_that_the_status_lacks_is_waited_for_and_then_is_a_sandbox() {
    let mut store = store();
    let _ = store.apply(&pod(A, 1, "r1"), at(10));
    let new = store.locate(&place("r2", A), at(9));
    assert_eq!(new.outcome(), "container_unknown");
    assert!(new.is_waiting());
    assert_eq!(new.identity().unwrap().container_name(), None);
    let _ = store.apply(&pod(A, 2, "r1"), at(14));
    assert_eq!(
        store.locate(&place("r2", A), at(9)).outcome(),
        "no_container"
    );
    assert_eq!(store.locate(&place("r1", A), at(9)).outcome(), "found");
    assert_eq!(
        store.locate(&place("r1", B), at(9)).outcome(),
        "not_synced",
        "the paths contradict"
    );
}

#[test]
fn a_process_of_the_host_is_in_no_pod() {
    let mut store = store();
    for path in ["/system.slice/ssh.service", "/init.scope", "/", "/lxc/web"] {
        let found = store.locate(&crate::cgroup::parse_path(path), at(1));
        assert_eq!(found.outcome(), "not_in_pod", "{path}");
    }
}

#[test]
fn a_static_pod_is_found_by_its_hash_and_its_newest_mirror() {
    const HASH: &str = "7260904bbd08e72e4dff95d9fccd2ee8";
    let mut store = store();
    for (uid, created) in [(A, 0), (B, 100)] {
        let mut pod = pod(uid, 1, "r1");
        pod.metadata.creation_timestamp = time(created);
        pod.metadata
            .annotations
            .insert("kubernetes.io/config.hash".into(), HASH.into());
        let _ = store.apply(&pod, at(created));
    }
    store.delete(A, at(100));
    let by_hash = PodRef::ConfigHash(HASH.into());
    let path = crate::cgroup::parse_path(&format!("/kubepods/pod{HASH}/{}", id("r1")));
    for (seconds, uid) in [(50, A), (150, B)] {
        assert_eq!(answer(&store.pod(&by_hash, at(seconds))), uid);
        assert_eq!(answer(&store.locate(&path, at(seconds))), uid);
    }
    assert_eq!(
        answer(&store.pod(&PodRef::ConfigHash("0".into()), at(50))),
        "not_synced"
    );
}

#[test]
fn more_pods_than_allowed_are_refused_and_counted() {
    let mut store = Store::new(Settings {
        max_pods: 1,
        ..Settings::default()
    });
    let _ = store.apply(&pod(A, 1, "r1"), at(1));
    assert_eq!(store.apply(&pod(B, 2, "r2"), at(2)), Applied::Refused);
    store.delete(A, at(3));
    assert_eq!(
        store.apply(&pod(B, 2, "r2"), at(4)),
        Applied::Added,
        "the deleted one makes room, also before its grace is over"
    );
    assert_eq!(store.counters().refused, 1);
    assert_eq!(by_run(&mut store, "r2", 5), B);
    store.delete(B, at(6));
    assert_eq!(
        store.apply(&pod(A, 3, "r1"), at(7)),
        Applied::Stale,
        "and does not come back"
    );
    assert_eq!(store.apply(&Pod::default(), at(1)), Applied::Invalid);
}

#[test]
fn a_pod_that_only_an_old_list_lacked_comes_back_after_it_made_room() {
    let mut store = Store::new(Settings {
        max_pods: 1,
        ..Settings::default()
    });
    let _ = store.apply(&pod(A, 1, "r1"), at(1));
    store.begin_list();
    store.end_list(at(2));
    assert_eq!(store.apply(&pod(B, 2, "r2"), at(3)), Applied::Added);
    store.delete(B, at(4));
    assert_eq!(store.apply(&pod(A, 3, "r1"), at(5)), Applied::Added);
}

#[test]
fn an_identity_is_made_once_while_somebody_holds_it() {
    let mut store = store();
    let _ = store.apply(&pod(A, 1, "r1"), at(1));
    let first = store.container(&id("r1"), at(2));
    let again = store.container(&id("r1"), at(3));
    assert!(Arc::ptr_eq(
        first.identity().unwrap(),
        again.identity().unwrap()
    ));
    store.set_cluster_uid(Some("c".into()));
    let after = store.container(&id("r1"), at(4));
    assert!(
        after
            .identity()
            .unwrap()
            .attributes()
            .iter()
            .any(|it| it.key == "k8s.cluster.uid")
    );
}

#[test]
fn nothing_is_left_behind_by_pods_that_are_gone() {
    let mut store = store();
    for round in 0..50 {
        for number in 0..20 {
            let uid = format!("{round:08}-aaaa-4aaa-8aaa-{number:012}");
            let _ = store.apply(&pod(&uid, 1, &format!("{round}-{number}")), at(round));
            store.delete(&uid, at(round));
        }
        store.expire(at(round + 120));
    }
    assert!(store.is_empty());
    assert_eq!(store.slots.len(), 20);
    assert_eq!(
        (store.pods.len(), store.hashes.len(), store.containers.len()),
        (0, 0, 0)
    );
}

#[test]
fn a_run_keeps_the_image_that_it_was_started_with() {
    let mut store = store();
    for (version, asked) in [(1, "db:1"), (2, "db:2")] {
        let mut pod = pod(A, version, "r1");
        pod.spec.containers[0].image = asked.into();
        pod.status.container_statuses[0].image = "docker.io/library/db:1".into();
        pod.status.container_statuses[0].image_id =
            format!("docker.io/library/db@sha256:{}", id(""));
        let _ = store.apply(&pod, at(version));
    }
    let found = store.container(&id("r1"), at(3));
    let name = found
        .identity()
        .unwrap()
        .attributes()
        .iter()
        .find(|it| it.key == "container.image.name");
    assert_eq!(name.unwrap().value, spandrel_model::Value::from("db"));
}
