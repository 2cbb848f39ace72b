//! Whose address is this? For the other side of a connection only; processes of this node are never found by address.
//!
//! Pods, Services and nodes claim addresses, each for a time. Deleting takes away the claims of that object only, so a
//! late deletion cannot take an address from the pod that has it now. Pods on the network of their node claim nothing:
//! their address is the node's.

mod claim;
mod object;
mod peer;
mod pod;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use spandrel_model::UnixTime;

use self::claim::{Claim, Source, Verdict, decide};
pub use self::object::{
    Ingress, LoadBalancer, Node, NodeAddress, NodeStatus, Service, ServicePort, ServiceSpec,
    ServiceStatus,
};
pub use self::peer::{Peer, PeerKind, PeerLookup, Settings};
pub use self::pod::PeerPod;
use self::pod::{Declared, NAME_ANNOTATION, NAME_LABELS, NAMESPACE_ANNOTATION};
use self::record::{
    About, Ending, Named, Record, ServiceName, Wanted, canonical, in_use, network, place_of,
    pod_times, wanted,
};
use crate::owner::Owner;
use crate::pod::Metadata;
use crate::store::{Index, Interner, NEVER, Uid, nanos};
use crate::timestamp;

/// How far the clocks of other nodes may be off, the second included to which the API cuts its times.
const SKEW: u64 = 2_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Peers {
    settings: Option<Settings>,
    texts: Interner<str>,
    slots: Vec<Option<Box<Record>>>,
    free: Vec<u32>,
    objects: Index,
    addresses: Index,
    /// How many addresses of objects are in each network.
    networks: HashMap<IpAddr, u32, RandomState>,
    lists: [u32; 3],
    listing: [bool; 3],
    /// Objects for which there was no room.
    refused: u64,
}

impl Peers {
    /// Without anybody.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Some(settings),
            ..Self::default()
        }
    }

    /// A pod as it is now, wherever it runs.
    pub fn apply_pod(&mut self, PeerPod { pod, declared }: &PeerPod, now: UnixTime) {
        let status = &pod.status;
        let own = |address: &str| Some(address) != status.host_ip.as_deref();
        let terminal = matches!(status.phase.as_str(), "Succeeded" | "Failed");
        let times = pod_times(pod);
        let from = times
            .started
            .map_or(now.0, |started| started.saturating_add(SKEW).min(now.0));
        let wanted: SmallVec<[Wanted; 2]> = status
            .pod_ips
            .iter()
            .filter(|_| !pod.spec.host_network && !terminal)
            .filter(|it| own(&it.ip))
            .filter_map(|it| {
                Some(Wanted {
                    address: canonical(&it.ip)?,
                    source: Source::Pod,
                    from,
                })
            })
            .collect();
        let workload = Owner::of(&pod.metadata).map(|owner| {
            let (kind, name) = owner.workload();
            (kind, self.texts.intern(name))
        });
        let node = Some(pod.spec.node_name.as_str()).filter(|it| !it.is_empty());
        let about = About {
            workload,
            node: node.map(|node| self.texts.intern(node)),
            service: self.named(&pod.metadata, declared),
        };
        let ended = times.finished.filter(|_| terminal);
        // A pod that goes may come without its addresses: those it had end with it, not before.
        let keep = status.pod_ips.is_empty() && !terminal;
        self.apply(
            PeerKind::Pod,
            &pod.metadata,
            about,
            &wanted,
            Ending {
                ended,
                keep,
                by_itself: matches!(
                    pod.spec.restart_policy.as_deref(),
                    Some("Never" | "OnFailure")
                ),
            },
            now.0,
        );
    }

    /// A Service as it is now.
    pub fn apply_service(&mut self, service: &Service, now: UnixTime) {
        let spec = &service.spec;
        let ingress = service.status.load_balancer.ingress.iter().map(|it| &it.ip);
        // A headless Service has the text `None`, which is no address.
        let all = spec.cluster_ips.iter().map(|it| (it, Source::ClusterIp));
        let all = all.chain(
            spec.external_ips
                .iter()
                .chain(ingress)
                .map(|it| (it, Source::External)),
        );
        let since = self.since(&service.metadata, now.0);
        let mut wanted = wanted(all, since, now.0);
        let ports = spec.ports.iter();
        let ports = ports.filter(|it| it.protocol.as_deref().is_none_or(|it| it == "TCP"));
        let claimed = ports.filter_map(|it| it.node_port.filter(|port| *port != 0));
        wanted.extend(claimed.map(|port| Wanted {
            address: place_of(port),
            source: Source::ClusterIp,
            from: since,
        }));
        self.apply(
            PeerKind::Service,
            &service.metadata,
            About::default(),
            &wanted,
            Ending::default(),
            now.0,
        );
    }

    /// A node as it is now.
    pub fn apply_node(&mut self, node: &Node, now: UnixTime) {
        let all = node
            .status
            .addresses
            .iter()
            .filter(|it| it.kind.ends_with("IP"));
        let all = all.map(|it| (&it.address, Source::Node));
        let wanted = wanted(all, self.since(&node.metadata, now.0), now.0);
        self.apply(
            PeerKind::Node,
            &node.metadata,
            About::default(),
            &wanted,
            Ending::default(),
            now.0,
        );
    }

    /// Since when an object that is told of for the first time has had the addresses that it gets with its creation.
    fn since(&self, meta: &Metadata, now: u64) -> u64 {
        let created = meta.creation_timestamp.as_deref();
        let created = created.and_then(timestamp::parse);
        match self.slot_of(&Uid::new(&meta.uid)) {
            None => created.map_or(now, |created| created.saturating_add(SKEW).min(now)),
            Some(_) => now,
        }
    }

    /// An object was deleted. Apply its last state first where the watch gives it.
    pub fn delete(&mut self, uid: &str, now: UnixTime) {
        let uid = Uid::new(uid);
        if let Some(slot) = self.slot_of(&uid)
            && let Some(Some(record)) = self.slots.get_mut(slot as usize)
        {
            record.end(now.0, false);
        }
    }

    /// A list of all objects of this kind begins.
    pub fn begin_list(&mut self, kind: PeerKind) {
        let at = kind as usize;
        if let (Some(list), Some(listing)) = (self.lists.get_mut(at), self.listing.get_mut(at)) {
            *list = list.wrapping_add(1);
            *listing = true;
        }
    }

    /// The list is complete: what was not in it is gone.
    pub fn end_list(&mut self, kind: PeerKind, now: UnixTime) {
        let begun = self
            .listing
            .get_mut(kind as usize)
            .is_some_and(std::mem::take);
        let list = self.list_of(kind);
        let all = self.slots.iter_mut().flatten();
        for record in all.filter(|it| begun && it.kind == kind && it.gone == NEVER) {
            if record.list != list {
                record.end(now.0, true);
            }
        }
    }

    /// Forgets what ended longer ago than the grace period. Call it every few seconds.
    pub fn expire(&mut self, now: UnixTime) {
        let before = now.0.saturating_sub(self.grace());
        for slot in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            let Some(Some(record)) = self.slots.get(slot as usize) else {
                continue;
            };
            let over = |it: &&Claim| it.until <= before && !self.hides_another(it, before);
            let ended: SmallVec<[Claim; 2]> = record.claims.iter().filter(over).cloned().collect();
            let dead = record.gone <= before && ended.len() == record.claims.len();
            self.forget(slot, &ended, dead);
        }
        self.texts.sweep();
    }

    /// Without this claim, one that began before it and whose end is not told yet would seem to be in force.
    fn hides_another(&self, claim: &Claim, before: u64) -> bool {
        let mut others = self
            .claims_on(claim.address)
            .map(|(_, it)| it)
            .filter(|it| it.source == claim.source && *it != claim);
        let mut hidden = false;
        let newer = others.any(|it| {
            hidden |= it.until > before && it.from <= claim.from;
            it.from > claim.from && it.from <= before
        });
        hidden && !newer
    }

    fn forget(&mut self, slot: u32, ended: &[Claim], dead: bool) {
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return;
        };
        if let Some(record) = place {
            record.claims.retain(|it| !ended.contains(it));
            for (at, claim) in ended.iter().enumerate() {
                let mut others = ended.iter().take(at);
                if !record.has(claim.address) && !others.any(|it| it.address == claim.address) {
                    self.addresses.remove(&claim.address, slot);
                    left(&mut self.networks, claim.address);
                }
            }
        }
        if dead && let Some(record) = place.take() {
            self.objects.remove(&record.uid, slot);
            self.free.push(slot);
        }
    }

    fn claims_on(&self, address: IpAddr) -> impl Iterator<Item = (u32, &Claim)> {
        self.addresses.candidates(&address).flat_map(move |slot| {
            let record = self.slots.get(slot as usize).and_then(Option::as_deref);
            let all = record.into_iter().flat_map(|record| &record.claims);
            all.filter(move |it| it.address == address)
                .map(move |it| (slot, it))
        })
    }

    /// Who had this address at this time.
    pub fn lookup(&mut self, address: IpAddr, at: UnixTime) -> PeerLookup {
        match in_use(address.to_canonical()) {
            Some(address) => self.claimed(address, at),
            None => PeerLookup::Unknown,
        }
    }

    fn claimed(&mut self, address: IpAddr, at: UnixTime) -> PeerLookup {
        let claims: SmallVec<[(u32, &Claim); 4]> = self.claims_on(address).collect();
        let verdict = decide(&claims, at.0);
        drop(claims);
        match verdict {
            Verdict::Owner(slot) => match self.peer(slot) {
                Some((peer, leaving)) if leaving <= at.0 => PeerLookup::Leaving(peer),
                Some((peer, _)) => PeerLookup::Found(peer),
                None => PeerLookup::Unknown,
            },
            Verdict::Ambiguous => PeerLookup::Ambiguous,
            Verdict::Ended => PeerLookup::Gone,
            Verdict::Nobody => PeerLookup::Unknown,
        }
    }

    /// Who was asked by a connection to this address and port at this time: a port that a Service has on the addresses of
    /// all nodes is the Service's, and no node's.
    pub fn lookup_server(&mut self, address: IpAddr, port: u16, at: UnixTime) -> PeerLookup {
        let found = self.lookup(address, at);
        match &found {
            PeerLookup::Found(node) if node.kind == PeerKind::Node => {}
            _ => return found,
        }
        match self.claimed(place_of(port), at) {
            PeerLookup::Unknown | PeerLookup::Gone => found,
            // Whether it is the node itself, or which Service, is not certain.
            of_port => of_port,
        }
    }

    /// Whether anybody has, or had a short time ago, an address in the same network: the first 24 bits of an IPv4 address,
    /// the first 64 of an IPv6 address. Where nobody has, the address is none of the cluster's.
    pub fn is_near(&self, address: IpAddr) -> bool {
        let near = self.networks.get(&network(address.to_canonical()));
        near.is_some_and(|count| *count > 0)
    }

    /// How many objects are kept.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many objects were refused because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The object, and when its deletion was announced.
    fn peer(&mut self, slot: u32) -> Option<(Arc<Peer>, u64)> {
        let record = self.slots.get_mut(slot as usize)?.as_mut()?;
        if let Some(known) = record.peer.upgrade() {
            return Some((known, record.leaving));
        }
        let peer = Arc::new(Peer {
            kind: record.kind,
            namespace: Arc::clone(&record.namespace),
            name: Arc::clone(&record.name),
            uid: record.uid.to_text(),
            workload: record.about.workload.clone(),
            node: record.about.node.clone(),
            service: record.service(),
        });
        record.peer = Arc::downgrade(&peer);
        Some((peer, record.leaving))
    }

    /// What a pod says itself of its service, in the order in which [`crate::attributes`] believes it.
    fn named(&mut self, meta: &Metadata, declared: &Declared) -> Option<Box<Named>> {
        let annotation = |key: &str| meta.annotations.get(key).filter(|it| !it.is_empty());
        let from_labels = self.settings.unwrap_or_default().service_from_labels;
        let labels = NAME_LABELS.iter().filter(|_| from_labels);
        let mut labels = labels.filter_map(|key| meta.labels.get(*key));
        let given = match declared {
            Declared::Unclear => None,
            Declared::Name(name) => Some(name),
            Declared::Nothing => {
                annotation(NAME_ANNOTATION).or_else(|| labels.find(|it| !it.is_empty()))
            }
        };
        let named = Named {
            name: match given {
                Some(name) => ServiceName::Given(self.texts.intern(name)),
                None if *declared == Declared::Unclear => ServiceName::Unclear,
                None => ServiceName::Derived,
            },
            namespace: annotation(NAMESPACE_ANNOTATION).map(|it| self.texts.intern(it)),
        };
        (named != Named::default()).then(|| named.into())
    }

    fn apply(
        &mut self,
        kind: PeerKind,
        meta: &Metadata,
        about: About,
        wanted: &[Wanted],
        ending: Ending,
        now: u64,
    ) {
        if meta.uid.is_empty() {
            return;
        }
        let uid = Uid::new(&meta.uid);
        let Some(slot) = self.slot_of(&uid).or_else(|| self.make(uid, kind, meta)) else {
            if self.refused == 0 {
                tracing::warn!(
                    max_objects = self.settings.unwrap_or_default().max_objects,
                    "there are more pods, Services and nodes than may be kept: the others' names are unknown; raise peers.max_objects"
                );
            }
            self.refused += 1;
            return;
        };
        let list = self.list_of(kind);
        let Some(Some(record)) = self.slots.get_mut(slot as usize) else {
            return;
        };
        record.list = list;
        let version = meta.resource_version.parse().unwrap_or(0);
        let deleted = record.gone != NEVER && !record.only_missing;
        let same = version != 0 && version == record.version;
        if deleted || (version != 0 && version < record.version) || (same && !record.only_missing) {
            return;
        }
        (record.gone, record.only_missing, record.version) = (NEVER, false, version);
        if record.about != about {
            record.about = about;
            record.peer = Weak::new();
        }
        if ending.by_itself {
            record.leaving = 0;
        } else if meta.deletion_timestamp.is_some() {
            record.leaving = record.leaving.min(now);
        }
        let created = meta
            .creation_timestamp
            .as_deref()
            .and_then(timestamp::parse);
        let earliest = created.map_or(0, |created| created.saturating_sub(SKEW));
        let before = record.claims.len();
        record.claim(wanted, earliest, ending, now);
        for (at, claim) in record.claims.iter().enumerate().skip(before) {
            let mut others = record.claims.iter().take(at);
            if !others.any(|it| it.address == claim.address) {
                self.addresses.insert(&claim.address, slot);
                *self.networks.entry(network(claim.address)).or_default() += 1;
            }
        }
    }

    fn make(&mut self, uid: Uid, kind: PeerKind, meta: &Metadata) -> Option<u32> {
        let most = self.settings.unwrap_or_default().max_objects;
        if self.len() >= most {
            return None;
        }
        let slot = self.free.pop().or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).ok()
        })?;
        self.objects.insert(&uid, slot);
        *self.slots.get_mut(slot as usize)? = Some(Box::new(Record {
            uid,
            kind,
            namespace: self.texts.intern(&meta.namespace),
            name: meta.name.as_str().into(),
            about: About::default(),
            leaving: NEVER,
            version: 0,
            gone: NEVER,
            only_missing: false,
            list: 0,
            claims: SmallVec::new(),
            peer: Weak::new(),
        }));
        Some(slot)
    }

    fn slot_of(&self, uid: &Uid) -> Option<u32> {
        self.objects.candidates(uid).find(|slot| {
            let record = self.slots.get(*slot as usize).and_then(Option::as_ref);
            record.is_some_and(|record| record.uid == *uid)
        })
    }

    fn list_of(&self, kind: PeerKind) -> u32 {
        self.lists.get(kind as usize).copied().unwrap_or(0)
    }

    fn grace(&self) -> u64 {
        nanos(self.settings.unwrap_or_default().grace)
    }
}

/// One object less has an address in this network.
fn left(networks: &mut HashMap<IpAddr, u32, RandomState>, address: IpAddr) {
    if let Entry::Occupied(mut network) = networks.entry(network(address)) {
        *network.get_mut() -= 1;
        if *network.get() == 0 {
            network.remove();
        }
    }
}
