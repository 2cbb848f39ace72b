//! Processes in pods: what the API server tells becomes their resource, at the right time and never that of another.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spandrel_k8s_meta::attributes::KeyRules;
use spandrel_k8s_meta::pod::Pod;
use spandrel_k8s_meta::store;
use spandrel_k8s_meta::watch::Change;
use spandrel_model::{
    AttributeSet, ConnectionId, Measured, ProcessKey, Resource, SpanId, SpanKind, SpanRecord,
    SpanStatus, TraceId, UnixTime,
};
use spandrel_probes::Group;

use super::tests::{Seen, Tree, key, started};
use super::{Identities, PodOf, Whose};
use crate::kubernetes::Kubernetes;
use crate::selection::{Selection, Told};
use crate::selectors::{Pattern, PodSelector, Selector, Selectors};

pub(super) const FIRST: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222222222222222222222222222";
pub(super) const UID: &str = "0a1b2c3d-0000-4000-8000-000000000001";

fn group(container: &str) -> String {
    let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    format!(
        "0::/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{container}.scope\n"
    )
}

/// A Deployment's pod with one container, which was restarted if it has an id before.
pub(super) fn pod(version: u32, container: &str, before: Option<&str>) -> Box<Pod> {
    let last = before.map_or(String::new(), |id| {
        format!(
            r#","restartCount":1,"lastState":{{"terminated":{{"containerID":"containerd://{id}",
            "startedAt":"2026-11-23T10:00:00Z","finishedAt":"2026-11-23T10:05:00Z"}}}}"#
        )
    });
    let text = format!(
        r#"{{"metadata":{{"name":"web-5d9c7b8f6d-x2x4z","namespace":"shop","uid":"{UID}",
        "resourceVersion":"{version}","creationTimestamp":"2026-11-23T09:59:00Z",
        "labels":{{"pod-template-hash":"5d9c7b8f6d"}},
        "ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-5d9c7b8f6d","uid":"r","controller":true}}]}},
        "spec":{{"nodeName":"n1","containers":[{{"name":"app","image":"shop/web:1.2"}}]}},
        "status":{{"phase":"Running","containerStatuses":[{{"name":"app","containerID":"containerd://{container}",
        "image":"shop/web:1.2","imageID":"","state":{{"running":{{"startedAt":"2026-11-23T10:06:00Z"}}}}{last}}}]}}}}"#
    );
    Box::new(serde_json::from_str(&text).unwrap())
}

/// So many seconds after 2026-11-23T10:00:00Z.
pub(super) fn at(seconds: u64) -> UnixTime {
    UnixTime((1_795_428_000 + seconds) * 1_000_000_000)
}

fn identities(tree: &Tree) -> Identities {
    let mut identities = tree.identities();
    identities.with_pods(Kubernetes::told(store::Settings::default()));
    identities
}

fn tell(identities: &mut Identities, change: Change<Pod>, now: UnixTime) {
    identities.pods().unwrap().apply(change, now);
}

fn known(whose: Whose) -> Arc<Resource> {
    match whose {
        Whose::Known(resource) => resource,
        Whose::NotYet => panic!("its pod is not known"),
    }
}

/// The same, once all groups have been searched, however slow this machine is.
fn searched(identities: &mut Identities, process: ProcessKey, cgroup: u64) -> Arc<Resource> {
    loop {
        identities.groups.rest(Duration::ZERO);
        if let Whose::Known(resource) = identities.whose(process, cgroup, at(1), false) {
            return resource;
        }
    }
}

fn counted(identities: &mut Identities) -> Vec<(&'static str, u64)> {
    let outcomes = identities.pods().unwrap().outcomes();
    outcomes.snapshot().by_reason.into_iter().collect()
}

#[test]
fn a_new_pods_process_waits_for_its_pod_and_a_host_process_does_not() {
    let tree = Tree::new();
    tree.process(&Seen {
        cgroup: &group(FIRST),
        ..Seen::default()
    });
    tree.process(&Seen {
        pid: 43,
        ..Seen::default()
    });
    let mut identities = identities(&tree);
    let (process, host) = (key(42, 500), key(43, 500));
    assert!(matches!(
        identities.whose(process, 0, at(1), false),
        Whose::NotYet
    ));
    assert_eq!(identities.pod_of(process, at(1)), PodOf::NotYet);
    let alone = known(identities.whose(host, 0, at(1), false));
    assert_eq!(alone.text("k8s.pod.name"), None);

    tell(&mut identities, Change::Apply(pod(1, FIRST, None)), at(2));
    let resource = known(identities.whose(process, 0, at(1), false));
    for (key, value) in [
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "web-5d9c7b8f6d-x2x4z"),
        ("k8s.pod.uid", UID),
        ("k8s.container.name", "app"),
        ("k8s.deployment.name", "web"),
        ("service.name", "web"),
        ("service.namespace", "shop"),
        ("service.version", "1.2"),
        ("service.instance.id", "shop.web-5d9c7b8f6d-x2x4z.app"),
        ("container.id", FIRST),
        ("process.executable.path", "/usr/bin/shop"),
        ("host.name", "web-1"),
    ] {
        assert_eq!(resource.text(key), Some(value), "{key}");
    }
    let again = known(identities.whose(process, 0, at(3), false));
    assert!(Arc::ptr_eq(&resource, &again), "made once");
    assert_eq!(
        counted(&mut identities),
        [("found", 2), ("not_in_pod", 1)],
        "those that waited count when they have waited"
    );
}

#[test]
fn what_the_program_declares_goes_before_what_its_pod_says() {
    let tree = Tree::new();
    tree.process(&Seen {
        cgroup: &group(FIRST),
        environ: "OTEL_SERVICE_NAME=checkout\0OTEL_RESOURCE_ATTRIBUTES=service.version=9,k8s.pod.name=liar,team=a\0",
        ..Seen::default()
    });
    let mut identities = identities(&tree);
    tell(&mut identities, Change::Apply(pod(1, FIRST, None)), at(0));
    let resource = known(identities.whose(key(42, 500), 0, at(1), false));
    assert_eq!(resource.service_name(), "checkout");
    assert_eq!(resource.text("service.version"), Some("9"));
    assert_eq!(resource.text("team"), Some("a"));
    let name = resource.text("k8s.pod.name");
    assert_eq!(name, Some("web-5d9c7b8f6d-x2x4z"), "that is measured");
}

#[test]
fn a_java_property_goes_before_the_environment_and_the_pod_and_the_configured_name_behind_them() {
    let tree = Tree::new();
    tree.process(&Seen {
        cgroup: &group(FIRST),
        exe: "/usr/lib/jvm/17/bin/java",
        cmdline: "java\0-Dotel.service.name=told\0-jar\0shop.jar\0",
        environ: "OTEL_SERVICE_NAME=environment\0",
        ..Seen::default()
    });
    tree.process(&Seen {
        pid: 43,
        cgroup: &group(FIRST),
        ..Seen::default()
    });
    let said =
        ["service.name", "service.team"].map(|key| spandrel_model::Attribute::new(key, "said"));
    let mut identities = Identities::new(crate::identity::Settings {
        extra: said.to_vec(),
        ..tree.settings()
    });
    identities.with_pods(Kubernetes::told(store::Settings::default()));
    tell(&mut identities, Change::Apply(pod(1, FIRST, None)), at(0));
    let java = known(identities.whose(key(42, 500), 0, at(1), false));
    assert_eq!(java.service_name(), "told");
    let other = known(identities.whose(key(43, 500), 0, at(1), false));
    assert_eq!(other.service_name(), "web");
    assert_eq!(other.text("service.team"), Some("said"));
}

#[test]
fn a_process_that_is_gone_with_its_group_is_placed_by_what_the_kernel_tells_of_the_group() {
    let tree = Tree::new();
    let mut identities = identities(&tree);
    tell(&mut identities, Change::Apply(pod(1, FIRST, None)), at(0));
    let (early, late) = (key(42, 500), key(43, 500));
    let unplaced = searched(&mut identities, early, 9000);
    assert_eq!(unplaced.text("container.id"), None);
    let named = |id, path: String, cut| Group { id, path, cut };
    let path = group(FIRST).trim_start_matches("0::").trim().to_owned();
    assert!(identities.name_group(&named(9000, path.clone(), false)));
    assert!(!identities.name_group(&named(9000, path, false)), "known");
    for process in [early, late] {
        let resource = known(identities.whose(process, 9000, at(1), false));
        assert_eq!(resource.text("k8s.pod.uid"), Some(UID));
        assert_eq!(resource.text("container.id"), Some(FIRST));
    }
    // What is around it is not known: it may be a container all the same.
    assert!(!identities.name_group(&named(9001, "/a.slice/b.service".to_owned(), true)));
    let hosts = named(9002, "/system.slice/cron.service".to_owned(), false);
    assert!(identities.name_group(&hosts));
    let host = known(identities.whose(key(44, 500), 9002, at(1), false));
    assert_eq!(host.text("k8s.pod.uid"), None);
    let counts = [("found", 2), ("no_cgroup", 1), ("not_in_pod", 1)];
    assert_eq!(counted(&mut identities), counts);
}

#[test]
fn what_a_program_has_overwritten_in_its_environment_is_taken_from_its_pods_spec() {
    let tree = Tree::new();
    tree.process(&Seen {
        cgroup: &group(FIRST),
        environ: "nginx: master process /usr/sbin/nginx",
        ..Seen::default()
    });
    tree.process(&Seen {
        pid: 43,
        cgroup: &group(FIRST),
        environ: "OTEL_SERVICE_NAME=own",
        ..Seen::default()
    });
    let variables = json!([
        {"name": "OTEL_SERVICE_NAME", "value": "edge"},
        {"name": "PASSWORD", "value": "hunter2"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "team=a,node=on-$(NODE),service.version=9"},
    ]);
    let mut pod = pod(1, FIRST, None);
    let spec = json!({"name": "app", "image": "shop/web:1.2", "env": variables});
    pod.spec.containers = vec![serde_json::from_value(spec).unwrap()];
    let mut identities = identities(&tree);
    tell(&mut identities, Change::Apply(pod), at(0));
    let resource = known(identities.whose(key(42, 500), 0, at(1), false));
    assert_eq!(resource.service_name(), "edge");
    assert_eq!(resource.text("team"), Some("a"));
    assert_eq!(resource.text("service.version"), Some("9"));
    assert_eq!(resource.text("node"), None, "only the kubelet knows it");
    let own = known(identities.whose(key(43, 500), 0, at(1), false));
    assert_eq!(own.service_name(), "own", "what it says itself goes first");
    assert_eq!(own.text("team"), Some("a"));
}

#[test]
fn when_the_wait_is_over_the_process_is_told_alone_and_the_reason_counted() {
    let tree = Tree::new();
    tree.process(&Seen {
        cgroup: &group(FIRST),
        ..Seen::default()
    });
    let mut identities = identities(&tree);
    let resource = known(identities.whose(key(42, 500), 0, at(1), true));
    assert_eq!(resource.service_name(), "shop", "by its program");
    assert_eq!(resource.text("container.id"), Some(FIRST));
    assert_eq!(resource.text("k8s.pod.name"), None, "unknown, not guessed");
    assert_eq!(counted(&mut identities), [("not_synced", 1)]);
}

#[test]
fn a_restarted_container_and_a_deleted_pod_still_answer_for_what_came_late() {
    let tree = Tree::new();
    for (pid, container) in [(42, FIRST), (43, SECOND)] {
        tree.process(&Seen {
            pid,
            cgroup: &group(container),
            ..Seen::default()
        });
    }
    let mut identities = identities(&tree);
    let (old, new) = (key(42, 500), key(43, 500));
    tell(&mut identities, Change::Apply(pod(1, FIRST, None)), at(0));
    let restarted = pod(2, SECOND, Some(FIRST));
    tell(&mut identities, Change::Apply(restarted), at(360));
    let id = |whose| known(whose).text("container.id").map(str::to_owned);
    let of_old = id(identities.whose(old, 0, at(299), false));
    assert_eq!(of_old.as_deref(), Some(FIRST));
    let of_new = id(identities.whose(new, 0, at(370), false));
    assert_eq!(of_new.as_deref(), Some(SECOND));
    let gone = pod(3, SECOND, Some(FIRST));
    tell(&mut identities, Change::Delete(gone), at(400));
    let late = known(identities.whose(new, 0, at(399), false));
    assert_eq!(late.text("k8s.pod.uid"), Some(UID));
    let too_late = known(identities.whose(new, 0, at(600), false));
    assert_eq!(too_late.text("k8s.pod.uid"), None, "it cannot be that pod");
}

/// Makes the directory of a container's group; returns its id.
fn made(tree: &Tree, container: &str) -> u64 {
    let path = group(container);
    let directory = tree
        .0
        .path()
        .join("cgroup")
        .join(path.trim_start_matches("0::/").trim_end());
    fs::create_dir_all(&directory).unwrap();
    fs::metadata(&directory).unwrap().ino()
}

#[test]
fn a_group_that_came_after_a_search_is_waited_for_until_the_next_one() {
    let tree = Tree::new();
    let mut identities = identities(&tree);
    tell(&mut identities, Change::Apply(pod(1, FIRST, None)), at(0));
    // The first look searches, and there is nothing yet.
    let other = searched(&mut identities, key(76, 900), 1);
    assert_eq!(other.text("container.id"), None);
    identities.groups.rest(Duration::from_secs(3600));
    let cgroup = made(&tree, FIRST);
    let process = key(77, 900);
    let asked = identities.whose(process, cgroup, at(1), false);
    assert!(matches!(asked, Whose::NotYet));
    assert_eq!(identities.pod_of(process, at(1)), PodOf::NotYet);
    let alone = known(identities.whose(process, cgroup, at(1), true));
    assert_eq!(alone.text("container.id"), None, "the wait is over");
    assert!(!identities.is_search_due());
    identities.groups.rest(Duration::ZERO);
    assert!(identities.is_search_due());
    let resource = searched(&mut identities, process, cgroup);
    assert_eq!(resource.text("k8s.container.name"), Some("app"));
    assert!(!identities.is_search_due(), "it has been found");
}

#[test]
fn a_process_of_the_host_that_is_gone_does_not_wait() {
    let tree = Tree::new();
    let directory = tree.0.path().join("cgroup/system.slice/cron.service");
    fs::create_dir_all(&directory).unwrap();
    let cgroup = fs::metadata(&directory).unwrap().ino();
    let root = fs::metadata(tree.0.path().join("cgroup")).unwrap().ino();
    let mut identities = identities(&tree);
    for (pid, cgroup) in [(75, cgroup), (76, cgroup), (77, root), (78, root)] {
        searched(&mut identities, key(pid, 900), cgroup);
    }
    assert_eq!(
        counted(&mut identities),
        [("no_cgroup", 2), ("not_in_pod", 2)]
    );
}

#[test]
fn a_group_that_is_known_later_than_its_process_counts_from_then_on() {
    let tree = Tree::new();
    let mut identities = identities(&tree);
    tell(&mut identities, Change::Apply(pod(1, FIRST, None)), at(0));
    let cgroup = made(&tree, FIRST);
    let process = key(77, 900);
    assert_eq!(identities.decide(process).container_id, None);
    identities.in_group(process, cgroup);
    searched(&mut identities, process, cgroup);
    let found = identities.decide(process).container_id;
    assert_eq!(found.as_deref(), Some(FIRST));
}

#[test]
fn a_process_that_nobody_saw_alive_is_found_by_its_control_group() {
    let tree = Tree::new();
    let cgroup = made(&tree, FIRST);
    let mut identities = identities(&tree);
    tell(&mut identities, Change::Apply(pod(1, FIRST, None)), at(0));
    let process = key(77, 900);
    identities.started(&spandrel_model::ProcessStarted {
        cgroup,
        ..started(process, "migrate", Some("/bin/migrate"))
    });
    let resource = searched(&mut identities, process, cgroup);
    assert_eq!(resource.text("k8s.container.name"), Some("app"));
    assert_eq!(resource.text("container.id"), Some(FIRST));
}

#[test]
fn selectors_decide_anew_when_the_pod_is_known_and_when_its_labels_change() {
    let tree = Tree::new();
    tree.process(&Seen {
        cgroup: &group(FIRST),
        ..Seen::default()
    });
    let mut identities = tree.identities();
    let kept_labels = KeyRules::new(["pod-template-hash"]).unwrap();
    identities.with_pods(Kubernetes::told(store::Settings {
        kept_labels,
        ..store::Settings::default()
    }));
    let label = (
        "pod-template-hash".to_owned(),
        Pattern::new("5d9*").unwrap(),
    );
    let mut selection = Selection::new(
        Selectors {
            include: vec![Selector {
                pod: PodSelector {
                    labels: vec![label],
                    ..PodSelector::default()
                },
                ..Selector::default()
            }],
            exclude: Vec::new(),
        },
        16,
    );
    let process = span().process;
    let message = |selection: &mut Selection, identities: &mut Identities| {
        let connection = Some(ConnectionId(1));
        selection.decide(process, 0, connection, identities, at(0))
    };
    let told = |selection: &mut Selection, identities: &mut Identities| {
        selection.told(&measured(), identities)
    };
    for _ in 0..2 {
        let answer = message(&mut selection, &mut identities);
        assert_eq!((answer.left_out, answer.tell_kernel), (None, None));
        assert_eq!(told(&mut selection, &mut identities), Told::NotYet);
        assert_eq!(selection.look_again(&mut identities, at(0)), []);
    }
    tell(&mut identities, Change::Apply(pod(1, FIRST, None)), at(0));
    // The kernel side hears of it without another message: it may have none left for an undecided process.
    assert_eq!(
        selection.look_again(&mut identities, at(0)),
        [(process, true)]
    );
    assert_eq!(selection.look_again(&mut identities, at(0)), []);
    for _ in 0..2 {
        assert_eq!(told(&mut selection, &mut identities), Told::Yes);
        let answer = message(&mut selection, &mut identities);
        assert_eq!((answer.left_out, answer.tell_kernel), (None, None));
    }
    let mut changed = pod(2, FIRST, None);
    let labels = &mut changed.metadata.labels;
    labels.insert("pod-template-hash".to_owned(), "other".to_owned());
    tell(&mut identities, Change::Apply(changed), at(0));
    assert_eq!(
        told(&mut selection, &mut identities),
        Told::No("selection.denied")
    );
    assert_eq!(
        selection.look_again(&mut identities, at(0)),
        [(process, false)]
    );
    let answer = message(&mut selection, &mut identities);
    assert_eq!(answer.left_out, Some("selection.denied"));
}

/// What was measured of one request to the process 42.
pub(super) fn measured() -> Measured {
    Measured {
        span: span(),
        ports: [None; 2],
        metric_attributes: AttributeSet::from(Vec::new()),
        measurements: [].into_iter().collect(),
        edge: None,
        caller: None,
    }
}

/// One of the process 42.
fn span() -> SpanRecord {
    SpanRecord {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([1; 8]),
        parent_span_id: None,
        parent_is_remote: false,
        trace_begun_here: false,
        trace_flags: 0,
        trace_state: "".into(),
        name: "GET".into(),
        kind: SpanKind::Server,
        start: at(0),
        end: at(1),
        attributes: Vec::new(),
        dropped_attributes: 0,
        status: SpanStatus::Unset,
        process: key(42, 500),
        cgroup: 0,
    }
}
