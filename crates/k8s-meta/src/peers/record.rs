//! An object with its claims, and what its present state claims.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use super::claim::{Claim, Source};
use super::{Peer, PeerKind};
use crate::owner;
use crate::pod::Pod;
use crate::store::{NEVER, Uid};
use crate::timestamp;

/// Most addresses of one object, those of the past included.
const MAX_CLAIMS: usize = 16;

/// What is known of an object beside its name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct About {
    pub(super) workload: Option<(owner::Kind, Arc<str>)>,
    pub(super) node: Option<Arc<str>>,
    /// Few have it.
    pub(super) service: Option<Box<Named>>,
}

/// What a pod says itself of the service that it is.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Named {
    pub(super) name: ServiceName,
    pub(super) namespace: Option<Arc<str>>,
}

/// Where the name of a pod's service comes from.
#[derive(Debug, Default, PartialEq)]
pub(super) enum ServiceName {
    /// The workload, or the pod.
    #[default]
    Derived,
    Given(Arc<str>),
    Unclear,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) uid: Uid,
    pub(super) kind: PeerKind,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) about: About,
    /// Its deletion was announced then; 0 for a pod that may end by itself at any time.
    pub(super) leaving: u64,
    pub(super) version: u64,
    pub(super) gone: u64,
    pub(super) only_missing: bool,
    pub(super) list: u32,
    pub(super) claims: SmallVec<[Claim; 1]>,
    pub(super) peer: Weak<Peer>,
}

/// One address that an object claims now.
pub(super) struct Wanted {
    pub(super) address: IpAddr,
    pub(super) source: Source,
    pub(super) from: u64,
}

/// How claims of a pod end that it does not make any more.
#[derive(Clone, Copy, Default)]
pub(super) struct Ending {
    /// Its last container ended then.
    pub(super) ended: Option<u64>,
    pub(super) keep: bool,
    /// It may end, and lose its addresses, without having been deleted.
    pub(super) by_itself: bool,
}

impl Record {
    /// `service.name` and `service.namespace` of a pod, as [`crate::attributes`] make them.
    pub(super) fn service(&self) -> Option<(Arc<str>, Arc<str>)> {
        let named = self.about.service.as_deref();
        let derived = || match &self.about.workload {
            // The convention's order has no ReplicationController; the pod's name is next.
            Some((kind, name)) if *kind != owner::Kind::ReplicationController => name,
            _ => &self.name,
        };
        let name = match named.map(|it| &it.name) {
            _ if self.kind != PeerKind::Pod => return None,
            Some(ServiceName::Unclear) => return None,
            Some(ServiceName::Given(name)) => name,
            Some(ServiceName::Derived) | None => derived(),
        };
        let namespace = named.and_then(|it| it.namespace.as_ref());
        let namespace = namespace.unwrap_or(&self.namespace);
        Some((Arc::clone(name), Arc::clone(namespace)))
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.claims.iter().any(|it| it.address == address)
    }

    pub(super) fn claim(&mut self, wanted: &[Wanted], earliest: u64, ending: Ending, now: u64) {
        for claim in self.claims.iter_mut().filter(|it| it.until == NEVER) {
            let still = wanted.iter().any(|it| it.address == claim.address);
            if !still && !ending.keep {
                (claim.until, claim.sure) = match ending.ended {
                    Some(ended) => (ended.min(now), true),
                    None => (now, false),
                };
            }
        }
        for new in wanted {
            let known = self
                .claims
                .iter()
                .any(|it| it.address == new.address && it.until == NEVER);
            if !known && self.claims.len() < MAX_CLAIMS {
                // An address that was got later than the first one was not there from the start.
                let first =
                    self.claims.is_empty() || self.claims.iter().all(|it| it.until == NEVER);
                self.claims.push(Claim {
                    address: new.address,
                    source: new.source,
                    earliest,
                    from: if first { new.from } else { now },
                    until: NEVER,
                    sure: false,
                });
            }
        }
    }

    pub(super) fn end(&mut self, now: u64, only_missing: bool) {
        self.gone = self.gone.min(now);
        self.only_missing = only_missing;
        for claim in self.claims.iter_mut().filter(|it| it.until == NEVER) {
            claim.until = now;
        }
    }
}

#[derive(Default)]
pub(super) struct Times {
    pub(super) started: Option<u64>,
    pub(super) finished: Option<u64>,
}

/// When the first container that runs now was started, and when the last one ended. A pod has its address before its
/// containers start and until they have ended.
pub(super) fn pod_times(pod: &Pod) -> Times {
    let parse = |text: &Option<String>| text.as_deref().and_then(timestamp::parse);
    let all = || pod.status.container_statuses.iter();
    let terminated = || all().map(|it| it.state.terminated.as_ref());
    let finished = terminated().map(|it| it.and_then(|it| parse(&it.finished_at)));
    // Init containers run with that address too.
    let any = all().chain(&pod.status.init_container_statuses);
    Times {
        started: any
            .filter_map(|it| parse(&it.state.running.as_ref()?.started_at))
            .min(),
        finished: finished
            .collect::<Option<Vec<u64>>>()
            .and_then(|all| all.into_iter().max()),
    }
}

/// What a Service or a node claims, since then or from now on.
pub(super) fn wanted<'a>(
    all: impl Iterator<Item = (&'a String, Source)>,
    since: u64,
    now: u64,
) -> SmallVec<[Wanted; 2]> {
    all.filter_map(|(text, source)| {
        Some(Wanted {
            address: canonical(text)?,
            source,
            // Load balancers and people give theirs at any time.
            from: if source == Source::External {
                now
            } else {
                since
            },
        })
    })
    .collect()
}

pub(super) fn canonical(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    in_use(address.to_canonical())
}

/// Ports of Services on all nodes are claimed as addresses that nobody can have: of the prefix for packets that are to be
/// discarded (RFC 6666).
const PORTS: u128 = 0x0100 << 112;

/// The place of a port.
pub(super) fn place_of(port: u16) -> IpAddr {
    Ipv6Addr::from_bits(PORTS | u128::from(port)).into()
}

/// An address that somebody can have.
pub(super) fn in_use(address: IpAddr) -> Option<IpAddr> {
    let of_ports = |it: Ipv6Addr| it.to_bits() >> 64 == PORTS >> 64;
    match address {
        IpAddr::V6(address) if of_ports(address) => None,
        address => Some(address),
    }
}

/// The network of an address, as [`super::Peers::is_near`] means it.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => (address & Ipv4Addr::new(255, 255, 255, 0)).into(),
        IpAddr::V6(address) => (address & Ipv6Addr::from_bits(!0 << 64)).into(),
    }
}
