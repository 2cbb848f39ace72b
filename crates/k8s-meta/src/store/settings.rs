//! What is kept of a pod, and for how long.

use std::time::Duration;

use crate::attributes::KeyRules;

/// What is kept of a pod, and for how long.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `k8s.cluster.name`; nothing in a cluster tells it.
    pub cluster_name: Option<String>,
    /// `k8s.cluster.uid`: the uid of the namespace `kube-system`.
    pub cluster_uid: Option<String>,
    /// `k8s.node.uid` of the node with this name.
    pub node: Option<Node>,
    /// Labels that become `k8s.pod.label.<key>`.
    pub labels: KeyRules,
    /// Annotations that become `k8s.pod.annotation.<key>`.
    pub annotations: KeyRules,
    /// Labels kept for whoever selects by them, without becoming attributes.
    pub kept_labels: KeyRules,
    /// The same of annotations.
    pub kept_annotations: KeyRules,
    /// Let the labels `app.kubernetes.io/instance`, `/name` and `/version` name services. The convention asks for
    /// consent, as these labels may have been set for another purpose.
    pub service_from_labels: bool,
    /// How long a pod that was deleted and a container that has ended still answer: telemetry comes later than what
    /// it is about.
    pub grace: Duration,
    /// When the API has told about a pod so long after an event, without naming the event's container, that container
    /// is none that it will ever name.
    pub settle: Duration,
    /// Most pods kept at once; more are refused and counted.
    pub max_pods: usize,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_name: None,
            cluster_uid: None,
            node: None,
            labels: KeyRules::default(),
            annotations: KeyRules::default(),
            kept_labels: KeyRules::default(),
            kept_annotations: KeyRules::default(),
            service_from_labels: false,
            grace: Duration::from_secs(120),
            settle: Duration::from_secs(5),
            max_pods: 16_384,
        }
    }
}
