//! The other end of a connection: which pod, Service or node had its address when something happened.
//!
//! Tasks of their own keep the tables of the whole cluster; the pipeline's thread looks into them and never waits. What
//! may be known a little later waits among the spans that wait for their own pod.

mod graph;
mod labels;
mod outcomes;
mod own_addresses;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use spandrel_k8s_meta::watch::Change;
use spandrel_k8s_meta::{peers, store, watch};
use spandrel_model::{Measured, Resource, SpanKind, SpanRecord, UnixTime, Value};
use tokio::runtime::Handle;

use self::graph::Graph;
use self::labels::Labels;
pub use self::outcomes::{PeerOutcomes, PeerSnapshot};
pub use self::tables::Addressed;
use self::tables::{Answer, MayChange, Tables};

/// Addresses that were waited for and are remembered at most; those beyond are not waited for.
const MAX_WAITED: usize = 4096;
/// How often what waits is looked at again at most, in nanoseconds: in a large cluster there are news all the time.
const LOOK_EVERY: u64 = 100_000_000;
/// How long an address that was waited for in vain is not waited for again, in nanoseconds.
const WAITED: u64 = 60_000_000_000;

/// How peers are known.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the API server is asked for all of the cluster.
    pub watch: watch::Settings,
    /// What is kept.
    pub tables: peers::Settings,
    /// How long what may be known later waits for it.
    pub hold: Duration,
    /// Whether edges of the service graph are made.
    pub service_graph: bool,
    /// The node of this agent, whose uid is told as well.
    pub node: Option<String>,
}

/// What is known of the other end of an exchange.
#[derive(Debug)]
pub enum PeerOf {
    /// Something better may be known soon.
    NotYet,
    /// This, for [`Peers::attach`].
    Settled(Settled),
}

/// The answer of a look-up.
#[derive(Debug)]
pub struct Settled(Answer);

/// See the module.
#[derive(Debug)]
pub struct Peers {
    tables: Arc<Tables>,
    outcomes: Arc<PeerOutcomes>,
    labels: Labels,
    graph: Option<Graph>,
    /// Since when an address near those of the cluster is nobody's.
    waited: HashMap<IpAddr, u64, RandomState>,
    hold: u64,
    grace: u64,
    /// Until when the first lists are waited for, once the first tick has come.
    settles: Option<u64>,
    now: u64,
    looked: u64,
    version: u64,
    /// Something waits for nothing but the next look.
    again: bool,
}

impl Peers {
    /// Starts to watch the cluster. Returns at once.
    pub fn start(settings: &Settings, runtime: &Handle) -> Self {
        let it = Self::told(settings);
        it.tables.watch(&settings.watch, &it.outcomes, runtime);
        it
    }

    /// One that is told by [`Self::apply`] alone, for tests.
    pub fn told(settings: &Settings) -> Self {
        Self {
            tables: Arc::new(Tables::new(settings.tables, settings.node.clone())),
            outcomes: Arc::default(),
            labels: Labels::default(),
            graph: settings.service_graph.then(Graph::default),
            waited: HashMap::default(),
            hold: nanos(settings.hold),
            grace: nanos(settings.tables.grace),
            settles: None,
            now: 0,
            looked: 0,
            version: 0,
            again: false,
        }
    }

    /// One change.
    pub fn apply<K: Addressed>(&self, change: Change<K>, now: UnixTime) {
        self.tables.apply(change, now);
    }

    /// How look-ups ended.
    pub fn outcomes(&self) -> Arc<PeerOutcomes> {
        Arc::clone(&self.outcomes)
    }

    /// The agent's node, once the watch on nodes has told of it.
    pub(super) fn own_node(&self) -> Option<store::Node> {
        self.tables.own_node()
    }

    /// Time has passed. Whether what waits may find more than before.
    pub fn take_in(&mut self, now: UnixTime) -> bool {
        self.now = now.0;
        self.settles.get_or_insert(now.0.saturating_add(self.hold));
        if now.0.saturating_sub(self.looked) < LOOK_EVERY {
            return false;
        }
        self.looked = now.0;
        self.waited
            .retain(|_, since| now.0.saturating_sub(*since) < WAITED);
        let version = self.tables.version();
        let news = std::mem::replace(&mut self.version, version) != version;
        news | std::mem::take(&mut self.again)
    }

    /// Who was at the other end when the exchange began: whoever comes to the address later had no part in it. With
    /// `last` it is told what is known, in place of waiting.
    pub fn of(&mut self, span: &SpanRecord, last: bool) -> PeerOf {
        let address = match span.attribute("network.peer.address") {
            Some(Value::Str(text)) => text.parse::<IpAddr>().ok(),
            _ => None,
        };
        let answer = match address.map(|it| it.to_canonical()) {
            None => Answer::nobody("no_address"),
            Some(it) if it.is_loopback() || it.is_unspecified() => Answer::nobody("loopback"),
            Some(it) if is_link_local(it) => Answer::nobody("link_local"),
            Some(it) => {
                let mut answer = self.tables.lookup(it, server_port(span), span.start);
                // Whoever had the address then may be forgotten by now.
                let age = self.now.saturating_sub(span.start.0);
                answer.outside &= age < self.grace;
                if !last && self.waits(&answer, it) {
                    return PeerOf::NotYet;
                }
                answer
            }
        };
        PeerOf::Settled(Settled(answer))
    }

    fn waits(&mut self, answer: &Answer, address: IpAddr) -> bool {
        match answer.may_change {
            None => false,
            Some(MayChange::Lists) => self.settles.is_none_or(|until| self.now < until),
            Some(MayChange::News(since)) => self.now < since.saturating_add(self.hold),
            Some(MayChange::Deletion) => true,
            Some(MayChange::Turn) => {
                self.again = true;
                true
            }
            Some(MayChange::Newcomer) => {
                if self.waited.len() >= MAX_WAITED && !self.waited.contains_key(&address) {
                    return false;
                }
                let since = *self.waited.entry(address).or_insert(self.now);
                self.now.saturating_sub(since) < self.hold
            }
        }
    }

    /// Puts the names on the span, and makes its edge in the service graph.
    pub fn attach(&mut self, settled: Settled, of: &Resource, measured: &mut Measured) {
        let Settled(answer) = settled;
        self.outcomes.count(answer.outcome);
        if !matches!(measured.span.kind, SpanKind::Client | SpanKind::Server) {
            return;
        }
        let label = answer.peer.as_ref().map(|peer| self.labels.of(peer));
        if let Some(graph) = &mut self.graph {
            measured.edge = graph.edge(&measured.span, of, &answer, label.as_deref());
        }
        if let Some(label) = &label {
            let attributes = &mut measured.span.attributes;
            attributes.extend_from_slice(&label.attributes);
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The port that a client asked; that of a client means nothing.
fn server_port(span: &SpanRecord) -> Option<u16> {
    match span.attribute("network.peer.port") {
        Some(Value::I64(port)) if span.kind == SpanKind::Client => u16::try_from(*port).ok(),
        _ => None,
    }
}

/// Such addresses mean something else on each link.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
