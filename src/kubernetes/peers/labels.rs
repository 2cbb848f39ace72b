//! What a peer is called: attributes of spans, and the name of a node of the service graph.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use spandrel_k8s_meta::owner::Kind;
use spandrel_k8s_meta::peers::{Peer, PeerKind};
use spandrel_model::{Attribute, Text};

/// Peers whose attributes are made already at most; after that many they are made anew.
const MAX_MADE: usize = 4096;

/// The names of one peer.
#[derive(Debug)]
pub(super) struct Label {
    /// Held, so that no other peer gets its place in memory while its attributes are kept.
    pub(super) peer: Arc<Peer>,
    /// For spans.
    pub(super) attributes: Vec<Attribute>,
    /// For the service graph.
    pub(super) name: Text,
    /// The same.
    pub(super) namespace: Option<Text>,
}

/// The names of the peers that were seen lately.
#[derive(Debug, Default)]
pub(super) struct Labels(HashMap<usize, Arc<Label>, RandomState>);

impl Labels {
    pub(super) fn of(&mut self, peer: &Arc<Peer>) -> Arc<Label> {
        let place = Arc::as_ptr(peer) as usize;
        if let Some(made) = self.0.get(&place) {
            return Arc::clone(made);
        }
        if self.0.len() >= MAX_MADE {
            self.0.clear();
        }
        let made = Arc::new(Label::new(peer));
        self.0.insert(place, Arc::clone(&made));
        made
    }
}

impl Label {
    fn new(peer: &Arc<Peer>) -> Self {
        let mut attributes = Vec::with_capacity(8);
        let mut put = |key: &'static str, value: &str| {
            if !value.is_empty() {
                attributes.push(Attribute::new(key, Text::copied(value)));
            }
        };
        let workload = peer.workload.as_ref();
        if let Some((name, namespace)) = &peer.service {
            put("service.peer.name", name);
            put("service.peer.namespace", namespace);
        }
        put("spandrel.peer.k8s.namespace.name", &peer.namespace);
        match peer.kind {
            PeerKind::Pod => {
                put("spandrel.peer.k8s.pod.name", &peer.name);
                put("spandrel.peer.k8s.pod.uid", &peer.uid);
                put(
                    "spandrel.peer.k8s.node.name",
                    peer.node.as_deref().unwrap_or_default(),
                );
                if let Some((kind, name)) = workload {
                    put(key_of(*kind), name);
                }
            }
            PeerKind::Service => {
                put("spandrel.peer.k8s.service.name", &peer.name);
                put("spandrel.peer.k8s.service.uid", &peer.uid);
            }
            PeerKind::Node => {
                put("spandrel.peer.k8s.node.name", &peer.name);
                put("spandrel.peer.k8s.node.uid", &peer.uid);
            }
        }
        let (name, namespace) = match (&peer.service, workload) {
            (Some((name, namespace)), _) => (name, namespace),
            // A pod whose containers call their service differently is its workload.
            (None, Some((_, name))) => (name, &peer.namespace),
            (None, None) => (&peer.name, &peer.namespace),
        };
        Self {
            peer: Arc::clone(peer),
            attributes,
            name: Text::copied(name),
            namespace: (!namespace.is_empty()).then(|| Text::copied(namespace)),
        }
    }
}

fn key_of(workload: Kind) -> &'static str {
    match workload {
        Kind::Deployment => "spandrel.peer.k8s.deployment.name",
        Kind::ReplicaSet => "spandrel.peer.k8s.replicaset.name",
        Kind::StatefulSet => "spandrel.peer.k8s.statefulset.name",
        Kind::DaemonSet => "spandrel.peer.k8s.daemonset.name",
        Kind::CronJob => "spandrel.peer.k8s.cronjob.name",
        Kind::Job => "spandrel.peer.k8s.job.name",
        Kind::ReplicationController => "spandrel.peer.k8s.replicationcontroller.name",
    }
}
