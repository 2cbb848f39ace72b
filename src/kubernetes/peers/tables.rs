//! All pods, Services and nodes of the cluster, kept up to date beside the pipeline, which never waits for them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spandrel_k8s_meta::peers::{Node, Peer, PeerKind, PeerLookup, PeerPod, Peers, Service};
use spandrel_k8s_meta::store;
use spandrel_k8s_meta::watch::{self, Change, Object, State, Watch};
use spandrel_model::UnixTime;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch as signal};

use super::outcomes::PeerOutcomes;
use super::own_addresses;

/// Changes of one kind that wait to be taken in at most; the watch waits when they are all there.
const CHANGES: usize = 64;
/// How often what has ended is let go, and the addresses of the node are read.
const UPKEEP: Duration = Duration::from_secs(10);
/// As long as news come.
const GOOD: u64 = u64::MAX;

/// The answer for an address.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Who has it.
    pub(crate) peer: Option<Arc<Peer>>,
    /// The name of its counter.
    pub(crate) outcome: &'static str,
    /// Whether a later answer may be a better one, and why.
    pub(crate) may_change: Option<MayChange>,
    /// It is surely no address of the cluster.
    pub(crate) outside: bool,
}

/// What a better answer may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayChange {
    /// The first lists.
    Lists,
    /// The news that ceased to come at this time, in Unix nanoseconds.
    News(u64),
    /// News of a pod that is new at this address.
    Newcomer,
    /// News of the end of a pod that is being deleted, or that may end by itself.
    Deletion,
    /// Another thread's hands off the tables.
    Turn,
}

impl Answer {
    /// Nobody, for this reason.
    pub(crate) fn nobody(outcome: &'static str) -> Self {
        Self {
            peer: None,
            outcome,
            may_change: None,
            outside: false,
        }
    }

    fn may_change(self, why: MayChange) -> Self {
        Self {
            may_change: Some(why),
            ..self
        }
    }
}

#[derive(Debug)]
struct Known {
    peers: Peers,
    /// Addresses of the node's own network.
    own: HashSet<IpAddr>,
}

/// The tables, shared by the pipeline and the tasks that keep them.
#[derive(Debug)]
pub(crate) struct Tables {
    known: Mutex<Known>,
    /// For each kind up to when what is known of it is right, in Unix nanoseconds: 0 until its first list is complete.
    good_until: [AtomicU64; 3],
    version: AtomicU64,
    own_node: OwnNode,
}

/// The node of this agent.
#[derive(Debug)]
struct OwnNode {
    name: Option<String>,
    /// Once it has been told.
    known: Mutex<Option<store::Node>>,
}

impl Tables {
    pub(crate) fn new(
        settings: spandrel_k8s_meta::peers::Settings,
        own_node: Option<String>,
    ) -> Self {
        Self {
            known: Mutex::new(Known {
                peers: Peers::new(settings),
                own: HashSet::new(),
            }),
            good_until: Default::default(),
            version: AtomicU64::new(0),
            own_node: OwnNode {
                name: own_node,
                known: Mutex::default(),
            },
        }
    }

    /// Starts to watch; returns at once.
    pub(crate) fn watch(
        self: &Arc<Self>,
        settings: &watch::Settings,
        outcomes: &Arc<PeerOutcomes>,
        runtime: &Handle,
    ) {
        self.watch_kind::<PeerPod>(settings, outcomes, runtime);
        self.watch_kind::<Service>(settings, outcomes, runtime);
        self.watch_kind::<Node>(settings, outcomes, runtime);
        let (tables, outcomes) = (Arc::clone(self), Arc::clone(outcomes));
        runtime.spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            loop {
                ticks.tick().await;
                tables.set_own(own_addresses::read());
                tables.upkeep(now(), &outcomes);
            }
        });
    }

    fn watch_kind<K: Addressed>(
        self: &Arc<Self>,
        settings: &watch::Settings,
        outcomes: &PeerOutcomes,
        runtime: &Handle,
    ) {
        let watch = Watch::new(settings.clone(), outcomes.counters());
        let mut state = watch.state();
        let (sender, mut changes) = mpsc::channel::<Change<K>>(CHANGES);
        runtime.spawn(watch.run(sender));
        let tables = Arc::clone(self);
        runtime.spawn(async move {
            while let Some(change) = changes.recv().await {
                tables.apply(change, now());
            }
        });
        let tables = Arc::clone(self);
        runtime.spawn(async move {
            while next(&mut state, |state| tables.note(K::PEER, state)).await {}
        });
    }

    /// One change.
    pub(crate) fn apply<K: Addressed>(&self, change: Change<K>, now: UnixTime) {
        let peers = &mut self.lock().peers;
        match change {
            Change::ListBegan => peers.begin_list(K::PEER),
            Change::Apply(object) => {
                object.apply(peers, now);
                self.note_own_node(object.node());
            }
            Change::Delete(object) => {
                object.apply(peers, now);
                peers.delete(object.uid(), now);
            }
            Change::ListComplete => {
                peers.end_list(K::PEER, now);
                self.good(K::PEER).store(GOOD, Ordering::Release);
            }
            // The watch itself says so, once.
            Change::Failed(_) => return,
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    fn note_own_node(&self, node: Option<store::Node>) {
        if let Some(node) = node.filter(|it| Some(&it.name) == self.own_node.name.as_ref()) {
            let known = self.own_node.known.lock();
            *known.unwrap_or_else(PoisonError::into_inner) = Some(node);
        }
    }

    /// The agent's node, once it has been told.
    pub(crate) fn own_node(&self) -> Option<store::Node> {
        let known = self.own_node.known.lock();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the watch of a kind says of itself. An address may have got another owner since news ceased to come.
    pub(crate) fn note(&self, kind: PeerKind, state: &State) {
        let good = self.good(kind);
        let known = good.load(Ordering::Acquire);
        match state {
            State::Stale { since, .. } if known != 0 => {
                good.store(known.min(unix(*since).0.max(1)), Ordering::Release);
            }
            State::Current if known != 0 => good.store(GOOD, Ordering::Release),
            State::Starting | State::Stale { .. } | State::Current => return,
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The addresses of the node's own network from now on.
    pub(crate) fn set_own(&self, own: HashSet<IpAddr>) {
        self.lock().own = own;
    }

    fn upkeep(&self, now: UnixTime, outcomes: &PeerOutcomes) {
        let peers = &mut self.lock().peers;
        peers.expire(now);
        outcomes.keeps(peers.len(), peers.refused());
    }

    /// Grows with each change.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Who had this address at this time, and was asked at the port if there is one. Never waits.
    pub(crate) fn lookup(&self, address: IpAddr, port: Option<u16>, at: UnixTime) -> Answer {
        let mut known = match self.known.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Answer::nobody("busy").may_change(MayChange::Turn);
            }
        };
        let found = match port {
            Some(port) => known.peers.lookup_server(address, port, at),
            None => known.peers.lookup(address, at),
        };
        let outcome = found.outcome();
        let (peer, leaving) = match found {
            PeerLookup::Found(peer) => (Some(peer), false),
            PeerLookup::Leaving(peer) => (Some(peer), true),
            PeerLookup::Unknown | PeerLookup::Ambiguous | PeerLookup::Gone => (None, false),
        };
        // A surer source than the one that was found may not be known yet.
        let needed = peer.as_ref().map_or(PeerKind::Node, |peer| peer.kind);
        match self.good_until(needed) {
            0 => return Answer::nobody("not_synced").may_change(MayChange::Lists),
            until if until <= at.0 => {
                return Answer::nobody("stale").may_change(MayChange::News(until));
            }
            _ => {}
        }
        let is_pod = peer.as_ref().is_some_and(|peer| peer.kind == PeerKind::Pod);
        if is_pod && known.own.contains(&address) {
            return Answer::nobody("own_address");
        }
        let near = known.own.contains(&address) || known.peers.is_near(address);
        // Of objects that were refused not even the networks are known.
        let all_known = known.peers.refused() == 0;
        let may_change = match peer {
            Some(_) if leaving => Some(MayChange::Deletion),
            None if outcome == "address_unknown" && near => Some(MayChange::Newcomer),
            _ => None,
        };
        Answer {
            outside: outcome == "address_unknown" && !near && all_known,
            peer,
            outcome,
            may_change,
        }
    }

    /// Up to when what is known of this kind, and of those whose claims are surer, is right.
    fn good_until(&self, kind: PeerKind) -> u64 {
        let needed = self.good_until.iter().take(kind as usize + 1);
        let times = needed.map(|good| good.load(Ordering::Acquire));
        times.min().unwrap_or(0)
    }

    fn good(&self, kind: PeerKind) -> &AtomicU64 {
        let [pods, services, nodes] = &self.good_until;
        match kind {
            PeerKind::Pod => pods,
            PeerKind::Service => services,
            PeerKind::Node => nodes,
        }
    }

    /// Has the tables to itself, as a task has while they change.
    #[cfg(test)]
    pub(super) fn hold_for_tests(&self) -> impl Sized + '_ {
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object that has addresses.
pub trait Addressed: Object {
    /// What it is.
    const PEER: PeerKind;

    /// Is like this now.
    fn apply(&self, to: &mut Peers, now: UnixTime);
    /// Its uid.
    fn uid(&self) -> &str;
    /// Name and uid, if it is a node.
    fn node(&self) -> Option<store::Node> {
        None
    }
}

impl Addressed for PeerPod {
    const PEER: PeerKind = PeerKind::Pod;

    fn apply(&self, to: &mut Peers, now: UnixTime) {
        to.apply_pod(self, now);
    }

    fn uid(&self) -> &str {
        &self.metadata().uid
    }
}

impl Addressed for Service {
    const PEER: PeerKind = PeerKind::Service;

    fn apply(&self, to: &mut Peers, now: UnixTime) {
        to.apply_service(self, now);
    }

    fn uid(&self) -> &str {
        &self.metadata.uid
    }
}

impl Addressed for Node {
    const PEER: PeerKind = PeerKind::Node;

    fn apply(&self, to: &mut Peers, now: UnixTime) {
        to.apply_node(self, now);
    }

    fn node(&self) -> Option<store::Node> {
        Some(store::Node {
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
        })
    }

    fn uid(&self) -> &str {
        &self.metadata.uid
    }
}

/// Waits for the next state; `false` at the end of the watch.
async fn next(state: &mut signal::Receiver<State>, take: impl FnOnce(&State)) -> bool {
    let changed = state.changed().await.is_ok();
    take(&state.borrow_and_update());
    changed
}

fn now() -> UnixTime {
    unix(SystemTime::now())
}

fn unix(time: SystemTime) -> UnixTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
