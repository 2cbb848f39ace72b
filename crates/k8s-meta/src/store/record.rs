//! A pod as it is kept. Everything that pods share is shared, and what is not used is not there.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use super::key::{ContainerKey, Uid};
use crate::attributes::Identity;
use crate::cgroup::Runtime;
use crate::owner::Owner;

/// Labels or annotations, in the order of their keys.
pub(crate) type Pairs = [(Arc<str>, Arc<str>)];

/// A time that has not come.
pub(crate) const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct PodRecord {
    pub(crate) uid: Uid,
    /// Of a static pod.
    pub(crate) config_hash: Option<[u8; 16]>,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) node: Arc<str>,
    pub(crate) hostname: Option<Arc<str>>,
    pub(crate) ips: Box<[IpAddr]>,
    pub(crate) owner: Option<Arc<Owner>>,
    pub(crate) labels: Arc<Pairs>,
    pub(crate) annotations: Arc<Pairs>,
    /// Unix nanoseconds, as all times here; 0 where it is not known.
    pub(crate) created: u64,
    pub(crate) started: u64,
    /// `resourceVersion`; 0 where it is no number.
    pub(crate) version: u64,
    /// When the API last told about it.
    pub(crate) told: u64,
    /// When the API said that it is gone.
    pub(crate) gone: u64,
    /// It was missing in a list, which may have been an old one, and not deleted in so many words.
    pub(crate) only_missing: bool,
    /// The list that it was last seen in.
    pub(crate) list: u32,
    pub(crate) containers: Box<[ContainerRecord]>,
    pub(crate) identity: Weak<Identity>,
}

#[derive(Debug)]
pub(crate) struct ContainerRecord {
    pub(crate) name: Arc<str>,
    /// What its spec says of `OTEL_*` variables.
    pub(crate) variables: Arc<Pairs>,
    /// The newest first.
    pub(crate) runs: SmallVec<[Run; 1]>,
}

/// An image as it was asked for, and as the runtime found it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    pub(crate) reference: Box<str>,
    pub(crate) id: Box<str>,
}

/// One life of a container: a restart is another, with another id.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) key: ContainerKey,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    /// Of this run: the image of a pod's container can be replaced. Like the number of restarts it is only there where
    /// the API has told it of this very run.
    pub(crate) image: Option<Arc<Image>>,
    pub(crate) restarts: Option<u32>,
    /// Whether the status still has it.
    pub(crate) listed: bool,
    pub(crate) identity: Weak<Identity>,
}

impl PodRecord {
    pub(crate) fn is_alive(&self) -> bool {
        self.gone == NEVER
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &ContainerKey> {
        self.containers
            .iter()
            .flat_map(|container| container.runs.iter().map(|run| &run.key))
    }

    /// The container and the run with this id.
    pub(crate) fn find(&self, key: &ContainerKey) -> Option<(usize, usize)> {
        self.containers
            .iter()
            .enumerate()
            .find_map(|(at, container)| {
                container
                    .runs
                    .iter()
                    .position(|run| run.key == *key)
                    .map(|run| (at, run))
            })
    }

    pub(crate) fn forget_identities(&mut self) {
        self.identity = Weak::new();
        for container in &mut self.containers {
            for run in &mut container.runs {
                run.identity = Weak::new();
            }
        }
    }
}
