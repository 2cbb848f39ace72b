//! What is known of the other end of a connection, and how it is kept.

use std::sync::Arc;
use std::time::Duration;

use crate::owner;

/// How peers are kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an object that is gone is kept, for what was before its end and is looked up late.
    pub grace: Duration,
    /// Most pods, Services and nodes together; more are refused and counted.
    pub max_objects: usize,
    /// Whether the labels `app.kubernetes.io/instance` and `/name` name services, as the store's settings say.
    pub service_from_labels: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(120),
            max_objects: 200_000,
            service_from_labels: false,
        }
    }
}

/// What has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// A pod with an address of its own.
    Pod,
    /// A Service; which pod answers is not known.
    Service,
    /// A node: a process of the host, a pod on its network, or a host port.
    Node,
}

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it is.
    pub kind: PeerKind,
    /// Its namespace; empty for nodes.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The uid.
    pub uid: String,
    /// Of a pod, the uppermost workload that is known.
    pub workload: Option<(owner::Kind, Arc<str>)>,
    /// Of a pod, the node that it is bound to.
    pub node: Option<Arc<str>>,
    /// Of a pod, `service.name` and `service.namespace` of its telemetry, where its containers agree on them.
    pub service: Option<(Arc<str>, Arc<str>)>,
}

/// The answer for an address.
#[derive(Clone, Debug)]
pub enum PeerLookup {
    /// Who had it.
    Found(Arc<Peer>),
    /// Who had it, but its deletion had been announced, or it may end without: news of its end, and of the next one, may be on their way.
    Leaving(Arc<Peer>),
    /// Nobody that is known.
    Unknown,
    /// It changed hands about that time.
    Ambiguous,
    /// Whoever had it has lost it.
    Gone,
}

impl PeerLookup {
    /// The name of its counter.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Found(_) | Self::Leaving(_) => "found",
            Self::Unknown => "address_unknown",
            Self::Ambiguous => "address_ambiguous",
            Self::Gone => "address_gone",
        }
    }
}
