//! Owners as real controllers write them.

use super::*;

fn pod(api: &str, kind: &str, name: &str, labels: &[(&str, &str)]) -> Metadata {
    Metadata {
        owner_references: vec![OwnerReference {
            api_version: api.into(),
            kind: kind.into(),
            name: name.into(),
            uid: "u".into(),
            controller: true,
        }],
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
        creation_timestamp: Some("2025-11-23T10:00:20Z".into()),
        ..Metadata::default()
    }
}

fn workload(pod: &Metadata) -> Option<String> {
    Owner::of(pod).map(|owner| {
        let (kind, name) = owner.workload();
        format!("{}/{name}", kind.name())
    })
}

#[test]
fn only_the_hash_of_the_label_makes_a_deployment_of_a_replica_set() {
    let hash = (HASH, "6d4cf56db6");
    for (name, labels, expected) in [
        ("web-6d4cf56db6", &[hash][..], "Deployment/web"),
        ("a-b-c-6d4cf56db6", &[hash], "Deployment/a-b-c"),
        ("web-abc", &[], "ReplicaSet/web-abc"),
        ("web-abc", &[hash], "ReplicaSet/web-abc"),
        ("web6d4cf56db6", &[hash], "ReplicaSet/web6d4cf56db6"),
        ("-6d4cf56db6", &[hash], "ReplicaSet/-6d4cf56db6"),
        ("web-", &[(HASH, "")], "ReplicaSet/web-"),
        (
            "web-6d4cf56db6",
            &[(ROLLOUTS_HASH, "6d4cf56db6")],
            "ReplicaSet/web-6d4cf56db6",
        ),
        (
            "web-6d4cf56db6",
            &[hash, (ROLLOUTS_HASH, "6d4cf56db6")],
            "ReplicaSet/web-6d4cf56db6",
        ),
    ] {
        let pod = pod("apps/v1", "ReplicaSet", name, labels);
        assert_eq!(workload(&pod).as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn a_cron_job_is_known_by_minutes_that_fit_the_pod() {
    // 29 398 200 minutes after the epoch is 2025-11-23T10:00:00Z.
    for (name, expected) in [
        ("backup-29398200", "CronJob/backup"),
        ("a-b-29398140", "CronJob/a-b"),
        ("backup-29396000", "Job/backup-29396000"),
        ("db-migrate-1", "Job/db-migrate-1"),
        ("export-20251123", "Job/export-20251123"),
        ("backup-29398200x", "Job/backup-29398200x"),
        ("-29398200", "Job/-29398200"),
        (
            "backup-99999999999999999999999",
            "Job/backup-99999999999999999999999",
        ),
    ] {
        let pod = pod("batch/v1", "Job", name, &[]);
        assert_eq!(workload(&pod).as_deref(), Some(expected), "{name}");
    }
    let mut unknown = pod("batch/v1", "Job", "backup-29398200", &[]);
    unknown.creation_timestamp = None;
    assert_eq!(
        workload(&unknown).as_deref(),
        Some("Job/backup-29398200"),
        "no time to compare with"
    );
}

#[test]
fn kinds_of_other_groups_are_not_taken_for_those_of_the_same_name() {
    for (api, kind) in [
        ("apps.kruise.io/v1beta1", "StatefulSet"),
        ("v1", "Node"),
        ("argoproj.io/v1alpha1", "Workflow"),
        ("batch.volcano.sh/v1alpha1", "Job"),
        ("", "ReplicaSet"),
    ] {
        assert_eq!(workload(&pod(api, kind, "x", &[])), None, "{api} {kind}");
    }
}

#[test]
fn an_owner_that_does_not_control_is_none() {
    let mut pod = pod("apps/v1", "StatefulSet", "db", &[]);
    pod.owner_references[0].controller = false;
    assert_eq!(Owner::of(&pod), None);
}

#[test]
fn every_kind_is_found_by_its_name_and_no_other_name_is_one() {
    for kind in Kind::ALL {
        assert_eq!(Kind::of_name(kind.name()), Some(kind));
    }
    for name in ["", "deployment", "Pod"] {
        assert_eq!(Kind::of_name(name), None, "{name}");
    }
}
