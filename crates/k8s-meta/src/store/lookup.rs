//! Answers of the store.

use std::sync::Arc;

use crate::attributes::Identity;

/// Who a process is, as far as the API has told.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// The container and its pod.
    Found(Arc<Identity>),
    /// Not yet: hold what asks for it for a bounded time, then ask again.
    NotYet(Waiting),
    /// The pod is known, and its status does not have this container though it was told long after: a sandbox. The
    /// identity is the pod's, without a container.
    NoContainer(Arc<Identity>),
    /// It was known, and had ended before the time that is asked for.
    Gone(Ended),
    /// The process is in no pod; the API will never know it.
    NotInPod,
}

/// Why there is no answer yet.
#[derive(Clone, Debug)]
pub enum Waiting {
    /// The first list of pods is not complete, and the pod was not in it so far.
    NotSynced,
    /// No such pod so far.
    PodUnknown,
    /// The pod is known, its status does not have this container so far. When the wait is over, the identity of the
    /// pod is what can be said.
    ContainerUnknown(Arc<Identity>),
}

/// What had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The pod was deleted.
    PodDeleted,
    /// The container ended; others of the pod may be alive.
    ContainerEnded,
}

impl Lookup {
    /// The identity of container and pod, or of the pod alone, where there is one. While [`Lookup::NotYet`] holds it
    /// is only the second best.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::Found(identity)
            | Self::NoContainer(identity)
            | Self::NotYet(Waiting::ContainerUnknown(identity)) => Some(identity),
            Self::NotYet(Waiting::NotSynced | Waiting::PodUnknown)
            | Self::Gone(_)
            | Self::NotInPod => None,
        }
    }

    /// Whether it is worth asking again.
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::NotYet(_))
    }

    /// The name of its counter; one for each way in which a look-up can end.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::NotYet(Waiting::NotSynced) => "not_synced",
            Self::NotYet(Waiting::PodUnknown) => "pod_unknown",
            Self::NotYet(Waiting::ContainerUnknown(_)) => "container_unknown",
            Self::NoContainer(_) => "no_container",
            Self::Gone(Ended::PodDeleted) => "pod_deleted",
            Self::Gone(Ended::ContainerEnded) => "container_ended",
            Self::NotInPod => "not_in_pod",
        }
    }
}
