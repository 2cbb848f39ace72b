//! What the API server tells of this node's pods, beside the pipeline: changes come in through a bounded channel and are
//! taken in by the pipeline's thread, which never waits for them.

mod hold;
mod metrics;
mod outcomes;
pub mod peers;

use std::sync::Arc;
use std::time::Duration;

use spandrel_k8s_meta::cgroup::Placement;
use spandrel_k8s_meta::pod::Pod;
use spandrel_k8s_meta::store::{self, Lookup, Store};
use spandrel_k8s_meta::watch::{self, Change, Watch};
use spandrel_model::{Measured, Resource, SpanRecord, UnixTime};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

pub use hold::{Held, Hold};
pub use metrics::observe;
pub use outcomes::{Outcomes, Snapshot};

use self::peers::{PeerOf, PeerOutcomes, Peers, Settled};

/// Changes that wait for the pipeline at most. The watch waits when they are all there.
const CHANGES: usize = 1024;
/// Changes taken in at one tick at most, so that a large list does not hold events up.
const PER_TICK: usize = 512;
/// How often what has ended is looked for, in nanoseconds.
const EXPIRE_EVERY: u64 = 5_000_000_000;

/// How pods are known.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the API server is asked, and for which pods.
    pub watch: watch::Settings,
    /// What is kept of pods.
    pub store: store::Settings,
    /// How long what a process of an unknown pod has done waits for its pod.
    pub hold: Duration,
    /// How many bytes of it wait.
    pub hold_bytes: usize,
    /// How the other ends of connections are known; `None` where they are not.
    pub peers: Option<peers::Settings>,
}

/// The pods of this node.
#[derive(Debug)]
pub struct Kubernetes {
    store: Store,
    changes: Option<mpsc::Receiver<Change<Pod>>>,
    cluster_uid: Option<oneshot::Receiver<Option<String>>>,
    outcomes: Arc<Outcomes>,
    peers: Option<Peers>,
    /// As the watch on nodes told of it.
    node: Option<store::Node>,
    expired: u64,
    version: u64,
    /// Until when what is known is not told without `k8s.cluster.uid`, once the first tick has come.
    settles: Option<u64>,
    now: u64,
    hold: u64,
}

impl Kubernetes {
    /// Starts to watch. Returns at once: what is not known yet is said to be unknown.
    pub fn start(settings: &Settings, runtime: &Handle) -> Self {
        let counters = Arc::new(watch::Counters::default());
        let (sender, changes) = mpsc::channel(CHANGES);
        let pods = Watch::new(settings.watch.clone(), Arc::clone(&counters));
        runtime.spawn(pods.run(sender));
        let (tell, cluster_uid) = oneshot::channel();
        let (asked, of) = (settings.watch.clone(), Arc::clone(&counters));
        runtime.spawn(async move {
            // Nobody listens any more only at the end.
            drop(tell.send(watch::cluster_uid(&asked, &of).await));
        });
        let wanted = settings.store.cluster_uid.is_none();
        Self {
            store: Store::new(settings.store.clone()),
            changes: Some(changes),
            cluster_uid: wanted.then_some(cluster_uid),
            outcomes: Arc::new(Outcomes::new(Some(counters))),
            peers: settings
                .peers
                .as_ref()
                .map(|settings| Peers::start(settings, runtime)),
            node: None,
            expired: 0,
            version: 0,
            settles: None,
            now: 0,
            hold: u64::try_from(settings.hold.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// One that is told by [`Self::apply`] alone, for tests.
    pub fn told(store: store::Settings) -> Self {
        Self {
            store: Store::new(store),
            changes: None,
            cluster_uid: None,
            outcomes: Arc::new(Outcomes::new(None)),
            peers: None,
            node: None,
            expired: 0,
            version: 0,
            settles: None,
            now: 0,
            hold: 0,
        }
    }

    /// How look-ups ended.
    pub fn outcomes(&self) -> Arc<Outcomes> {
        Arc::clone(&self.outcomes)
    }

    /// How look-ups of peers ended, where they are looked up.
    pub fn peer_outcomes(&self) -> Option<Arc<PeerOutcomes>> {
        self.peers.as_ref().map(Peers::outcomes)
    }

    /// Who was at the other end of an exchange; `None` where nobody asks.
    pub(crate) fn peer_of(&mut self, span: &SpanRecord, last: bool) -> Option<PeerOf> {
        self.peers.as_mut().map(|peers| peers.of(span, last))
    }

    /// Says it, once it is settled.
    pub(crate) fn attach_peer(&mut self, peer: Settled, of: &Resource, measured: &mut Measured) {
        if let Some(peers) = &mut self.peers {
            peers.attach(peer, of, measured);
        }
    }

    /// Another one whenever the pods of this node are other ones than before.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Takes in what the API server has told since the last time. Whether anything is new.
    pub fn take_in(&mut self, now: UnixTime) -> bool {
        let before = self.version;
        let of_peers = self.peers.as_mut().is_some_and(|peers| peers.take_in(now));
        if of_peers {
            self.take_in_node();
        }
        self.now = now.0;
        self.settles.get_or_insert(now.0.saturating_add(self.hold));
        if let Some(cluster_uid) = &mut self.cluster_uid
            && let Ok(uid) = cluster_uid.try_recv()
        {
            self.store.set_cluster_uid(uid);
            self.cluster_uid = None;
            self.version += 1;
        }
        for _ in 0..PER_TICK {
            let Some(Ok(change)) = self.changes.as_mut().map(mpsc::Receiver::try_recv) else {
                break;
            };
            self.apply(change, now);
        }
        let news = self.version != before;
        let expire = now.0.saturating_sub(self.expired) > EXPIRE_EVERY;
        if expire {
            self.expired = now.0;
            self.store.expire(now);
        }
        if news || expire {
            self.outcomes
                .keeps(self.store.len(), &self.store.counters());
        }
        of_peers || news
    }

    /// The uid of the own node is told by the watch on all nodes, and by nobody else.
    fn take_in_node(&mut self) {
        let told = self.peers.as_ref().and_then(Peers::own_node);
        if told.is_some() && told != self.node {
            self.store.set_node(told.clone());
            self.node = told;
            self.version += 1;
        }
    }

    /// One change.
    pub fn apply(&mut self, change: Change<Pod>, now: UnixTime) {
        match change {
            Change::ListBegan => self.store.begin_list(),
            Change::Apply(pod) => {
                self.store.apply(&pod, now);
            }
            Change::Delete(pod) => {
                // Its last state has the times at which its containers ended.
                self.store.apply(&pod, now);
                self.store.delete(&pod.metadata.uid, now);
            }
            Change::ListComplete => self.store.end_list(now),
            // The watch has said so, and does not repeat itself.
            Change::Failed(_) => return,
        }
        self.version += 1;
    }

    /// Who the process at this place was at a time.
    pub fn locate(&mut self, place: &Placement, at: UnixTime) -> Lookup {
        self.store.locate(place, at)
    }

    /// Whether the uid of the cluster, or that of the node, is asked for and may still come in time: the first spans of a run
    /// would differ from all others without it.
    pub fn is_settling(&self) -> bool {
        let comes = self.cluster_uid.is_some() || (self.peers.is_some() && self.node.is_none());
        comes && self.settles.is_none_or(|until| self.now < until)
    }

    /// Counts how the look-up of one span ended.
    pub(crate) fn count(&self, outcome: &'static str) {
        self.outcomes.count(outcome);
    }
}
