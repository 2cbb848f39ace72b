//! Which workload a pod belongs to, from the pod alone: its controller, and what stands above that where the names
//! prove it.
//!
//! The uid of a Deployment or CronJob is not in the pod, so it is left out.

use std::sync::Arc;

use crate::pod::{Metadata, OwnerReference};
use crate::timestamp;

/// The kinds that the semantic conventions have attributes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `apps/v1 Deployment`.
    Deployment,
    /// `apps/v1 ReplicaSet`.
    ReplicaSet,
    /// `apps/v1 StatefulSet`.
    StatefulSet,
    /// `apps/v1 DaemonSet`.
    DaemonSet,
    /// `batch/v1 CronJob`.
    CronJob,
    /// `batch/v1 Job`.
    Job,
    /// `v1 ReplicationController`.
    ReplicationController,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Deployment,
        Self::ReplicaSet,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::CronJob,
        Self::Job,
        Self::ReplicationController,
    ];

    /// As the API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::CronJob => "CronJob",
            Self::Job => "Job",
            Self::ReplicationController => "ReplicationController",
        }
    }

    /// The kind of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The keys of name and uid.
    pub(crate) fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Deployment => ("k8s.deployment.name", "k8s.deployment.uid"),
            Self::ReplicaSet => ("k8s.replicaset.name", "k8s.replicaset.uid"),
            Self::StatefulSet => ("k8s.statefulset.name", "k8s.statefulset.uid"),
            Self::DaemonSet => ("k8s.daemonset.name", "k8s.daemonset.uid"),
            Self::CronJob => ("k8s.cronjob.name", "k8s.cronjob.uid"),
            Self::Job => ("k8s.job.name", "k8s.job.uid"),
            Self::ReplicationController => (
                "k8s.replicationcontroller.name",
                "k8s.replicationcontroller.uid",
            ),
        }
    }

    /// Other groups have kinds of the same name (OpenKruise has a StatefulSet), which these attributes do not mean.
    fn of(reference: &OwnerReference) -> Option<Self> {
        let group = reference
            .api_version
            .rsplit_once('/')
            .map_or("", |(group, _)| group);
        match (group, reference.kind.as_str()) {
            ("apps" | "extensions", "ReplicaSet") => Some(Self::ReplicaSet),
            ("apps" | "extensions", "DaemonSet") => Some(Self::DaemonSet),
            ("apps", "StatefulSet") => Some(Self::StatefulSet),
            ("batch", "Job") => Some(Self::Job),
            ("", "ReplicationController") => Some(Self::ReplicationController),
            _ => None,
        }
    }
}

/// What controls a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid; empty where the reference has none.
    pub uid: Arc<str>,
    /// The Deployment above a ReplicaSet, the CronJob above a Job.
    pub above: Option<(Kind, Arc<str>)>,
}

/// The label that the controller of Deployments puts on pods and into the name of their ReplicaSet.
const HASH: &str = "pod-template-hash";
/// The same of Argo Rollouts, whose ReplicaSets belong to no Deployment.
const ROLLOUTS_HASH: &str = "rollouts-pod-template-hash";
/// All labels that owners are told by.
pub(crate) const LABELS: [&str; 2] = [HASH, ROLLOUTS_HASH];
/// How far a Job's scheduled time may lie from the creation of its pod.
const DAY: u64 = 86_400;

impl Owner {
    /// The controller, if it is of a known kind. Static pods are controlled by their Node, others by resources of
    /// somebody's own: for these there is no attribute.
    pub fn of(pod: &Metadata) -> Option<Self> {
        let reference = pod.owner_references.iter().find(|it| it.controller)?;
        let kind = Kind::of(reference)?;
        let above = match kind {
            Kind::ReplicaSet => deployment(pod, &reference.name).map(|it| (Kind::Deployment, it)),
            Kind::Job => cron_job(pod, &reference.name).map(|it| (Kind::CronJob, it)),
            _ => None,
        };
        Some(Self {
            kind,
            name: reference.name.as_str().into(),
            uid: reference.uid.as_str().into(),
            above: above.map(|(kind, name)| (kind, name.into())),
        })
    }

    /// The uppermost one that is known.
    pub fn workload(&self) -> (Kind, &Arc<str>) {
        match &self.above {
            Some((kind, name)) => (*kind, name),
            None => (self.kind, &self.name),
        }
    }
}

fn deployment<'a>(pod: &Metadata, replica_set: &'a str) -> Option<&'a str> {
    if pod.labels.contains_key(ROLLOUTS_HASH) {
        return None;
    }
    let hash = pod.labels.get(HASH).filter(|hash| !hash.is_empty())?;
    let name = replica_set.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    (!name.is_empty()).then_some(name)
}

/// The controller of CronJobs ends the names of its Jobs with the scheduled time in minutes. Other names end with
/// digits too (a date, a build), so the time must be one at which this pod can have been scheduled.
fn cron_job<'a>(pod: &Metadata, job: &'a str) -> Option<&'a str> {
    let (name, digits) = job.rsplit_once('-')?;
    if name.is_empty() || digits.len() < 8 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let scheduled = digits.parse::<u64>().ok()?.checked_mul(60)?;
    let created = timestamp::parse(pod.creation_timestamp.as_deref()?)? / 1_000_000_000;
    (scheduled.abs_diff(created) <= DAY).then_some(name)
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
