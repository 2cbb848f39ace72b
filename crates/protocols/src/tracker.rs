//! All connections: events in, measured exchanges out, within bounds.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use spandrel_model::{
    CapturePolicy, ClockOffset, ConnectionId, ConnectionOpened, Endpoint, Event, KernelTime,
    Ledger, Message, Origin, ProcessKey, Role, Transport,
};

use crate::Settings;
use crate::connection::Connection;
use crate::forwarding::Forwarding;
use crate::http1::{KnownHeads, MetricAttributes};
use crate::idle::Idle;
use crate::protocol::{Output, Protocol, Shared};
use crate::registry::PROTOCOLS;
use crate::route::Routes;
use crate::stream::Captured;

/// Network namespace, local and peer address.
pub(crate) type Ends = (u32, SocketAddr, SocketAddr);

/// How often connections are looked through for idle ones.
const SWEEP_NANOS: u64 = 10_000_000_000;

/// No connection carries as many bytes; sums of positions and lengths stay far from overflow.
const MAX_POSITION: u64 = 1 << 62;

/// After this long a connection is forgotten whose close may never be reported: one of which only messages were reported,
/// or a unix socket without an open exchange.
const UNCERTAIN_IDLE_NANOS: u64 = 300_000_000_000;

/// After this long, less one sweep, a head that is not whole is given up: longer than servers wait for one by default.
const HEAD_NANOS: u64 = 60_000_000_000;

/// Turns events into measured exchanges.
///
/// Deterministic: the same events and ticks give the same output, ids included.
pub struct Tracker {
    shared: Shared,
    protocols: &'static [&'static dyn Protocol],
    connections: HashMap<ConnectionId, Connection, FixedState>,
    /// Observed connections by their addresses, so that both ends of one find each other.
    ends: HashMap<Ends, ConnectionId, FixedState>,
    /// Connections that wait for time to pass, earliest first.
    due: VecDeque<(KernelTime, ConnectionId)>,
    idle: Idle,
    buffered: usize,
    next_sweep: KernelTime,
}

impl std::fmt::Debug for Tracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker")
            .field("connections", &self.connections.len())
            .field("buffered", &self.buffered)
            .finish_non_exhaustive()
    }
}

impl Tracker {
    /// A tracker without connections. `id_seed` decides the ids of traces that no program has begun.
    pub fn new(settings: Settings, id_seed: u64, ledger: Arc<Ledger>) -> Self {
        Self::with_protocols(settings, id_seed, ledger, PROTOCOLS)
    }

    pub(crate) fn with_protocols(
        settings: Settings,
        id_seed: u64,
        ledger: Arc<Ledger>,
        protocols: &'static [&'static dyn Protocol],
    ) -> Self {
        Self {
            shared: Shared {
                id_seed,
                offset: ClockOffset(0),
                ledger,
                routes: Routes::new(settings.routes.clone()),
                forwarding: Forwarding::default(),
                known_heads: KnownHeads::default(),
                metric_attributes: MetricAttributes::default(),
                scratch: String::new(),
                late_body_messages: 0,
                settings,
            },
            protocols,
            connections: HashMap::default(),
            ends: HashMap::default(),
            due: VecDeque::new(),
            idle: Idle::default(),
            buffered: 0,
            next_sweep: KernelTime(0),
        }
    }

    /// Bytes held for all connections.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered
    }

    /// Connections that are tracked.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Messages of a response that came after its likely end had been taken for the end.
    pub fn late_body_messages(&self) -> u64 {
        self.shared.late_body_messages
    }

    /// Takes one event, and a message's bytes out of it. Events come in the order of their stamps, or nearly so.
    pub fn take(&mut self, event: &mut Event, output: &mut Output) {
        let captured = match event {
            Event::Message(message) => Captured::taken_from(message),
            _ => Captured::default(),
        };
        self.event(event, captured, output);
    }

    /// Takes one event. Events come in the order of their stamps, or nearly so.
    pub fn handle(&mut self, event: &Event, output: &mut Output) {
        let captured = match event {
            Event::Message(message) => Captured::of(message),
            _ => Captured::default(),
        };
        self.event(event, captured, output);
    }

    fn event(&mut self, event: &Event, captured: Captured, output: &mut Output) {
        match event {
            Event::ClockSynced { offset, .. } => self.shared.offset = *offset,
            Event::ProcessStarted(_) | Event::ProcessExited(_) => {}
            Event::ConnectionOpened(opened) => self.open(opened, output),
            Event::ConnectionHalfClosed(event) => {
                let time = event.stamp.time;
                self.with(event.connection, output, |connection, tracker, output| {
                    connection.half_closed(event.direction, time, tracker.shared, output);
                });
            }
            Event::ConnectionClosed(event) => {
                self.with(event.connection, output, |connection, _, _| {
                    connection.closing(event);
                });
            }
            Event::Message(message) => self.message(message, captured, output),
        }
        self.bound(event.stamp().time, output);
    }

    fn open(&mut self, event: &ConnectionOpened, output: &mut Output) {
        if let Some(known) = self.connections.get_mut(&event.connection) {
            known.learn(event);
            if let Some(policy) = known.facts.withheld.take() {
                known.facts.tell(policy, output);
            }
            return;
        }
        self.make_room(output);
        let mut connection = Connection::opened(event);
        self.pair_ends(event, &mut connection);
        self.connections.insert(event.connection, connection);
    }

    /// Forgets the connections that are idle for the longest until there is room for one more.
    fn make_room(&mut self, output: &mut Output) {
        let most = self.shared.settings.max_connections.max(1);
        while self.connections.len() >= most {
            let Some(id) = self.idle.pop(&self.connections) else {
                return;
            };
            self.abandon(id, "exchange.connections_full", output);
        }
    }

    /// Finds the other end of a loopback connection.
    fn pair_ends(&mut self, event: &ConnectionOpened, connection: &mut Connection) {
        let (Some(local), Some(peer)) = (address(&event.local), address(&event.peer)) else {
            return;
        };
        if event.origin != Origin::Observed || event.netns == 0 {
            return;
        }
        let key = (event.netns, local, peer);
        connection.ends = Some(key);
        self.ends.insert(key, event.connection);
        let Some(other) = self.ends.get(&(event.netns, peer, local)).copied() else {
            return;
        };
        let Some(other_end) = self.connections.get_mut(&other) else {
            return;
        };
        match event.role {
            Some(Role::Server) => {
                connection.facts.twin = Some(other);
                connection.facts.twin_heard = other_end.heard;
            }
            Some(Role::Client) if other_end.role() == Some(Role::Server) => {
                other_end.facts.twin = Some(event.connection);
            }
            _ => {}
        }
    }

    /// The first message of a connection came: the spans of its other end may be its children.
    fn heard(&mut self, id: ConnectionId, process: ProcessKey, output: &mut Output) {
        self.shared.forwarding.heard(id, process, output);
        let ends = self.connections.get(&id).and_then(|one| one.ends);
        let Some((netns, local, peer)) = ends else {
            return;
        };
        if let Some(other) = self.ends.get(&(netns, peer, local))
            && let Some(other_end) = self.connections.get_mut(other)
            && other_end.facts.twin == Some(id)
        {
            other_end.facts.twin_heard = Some(process);
        }
    }

    fn message(&mut self, message: &Message, mut captured: Captured, output: &mut Output) {
        let id = message.connection;
        if message.position > MAX_POSITION {
            let messages = &self.shared.ledger.messages;
            messages.drop_for("stream.impossible_position", 1);
            return;
        }
        if self.deliver(message, &mut captured, output) {
            return;
        }
        // Its opening was lost, or it was forgotten: what is known of it is asked for.
        self.make_room(output);
        output.policies.push((id, CapturePolicy::Forgotten));
        let connection = Connection::unknown(id, message.stamp.time);
        self.connections.insert(id, connection);
        self.deliver(message, &mut captured, output);
    }

    /// Hands a message to its connection; `false` if there is none.
    fn deliver(&mut self, message: &Message, captured: &mut Captured, output: &mut Output) -> bool {
        let now = message.stamp.time;
        let mut first = false;
        let found = self.with(message.connection, output, |connection, tracker, output| {
            first = connection.heard.is_none();
            connection.heard.get_or_insert(message.process);
            let ledger = &tracker.shared.ledger;
            if connection.is_ignored() {
                ledger.messages.drop_for("stream.ignored", 1);
                return;
            }
            connection.last_event = connection.last_event.max(now);
            let captured = std::mem::take(captured);
            let (protocols, shared) = (tracker.protocols, &mut *tracker.shared);
            let new = connection.message(message, captured, protocols, shared, output);
            let ledger = &tracker.shared.ledger;
            if new {
                ledger.messages.settle(1);
            } else {
                ledger.messages.drop_for("stream.duplicate", 1);
            }
        });
        if first {
            self.heard(message.connection, message.process, output);
        }
        found
    }

    /// Takes memory from the connections that hold most, a quarter of all at once: each time, all are looked through.
    fn bound(&mut self, now: KernelTime, output: &mut Output) {
        let most = self.shared.settings.max_buffered_bytes;
        if self.buffered <= most {
            return;
        }
        let mut holders: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.accounted > 0)
            .map(|(id, connection)| (Reverse(connection.accounted), connection.last_event, *id))
            .collect();
        holders.sort_unstable();
        for (.., id) in holders {
            if self.buffered <= most - most / 4 {
                return;
            }
            self.with(id, output, |connection, tracker, output| {
                connection.shed(now, tracker.protocols, tracker.shared, output);
            });
        }
    }

    /// Works on one connection and does what follows from it; `false` if there is none.
    fn with(
        &mut self,
        id: ConnectionId,
        output: &mut Output,
        work: impl FnOnce(&mut Connection, &mut Parts<'_>, &mut Output),
    ) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let mut parts = Parts {
            shared: &mut self.shared,
            protocols: self.protocols,
        };
        work(connection, &mut parts, output);
        let done = connection.is_done();
        if done {
            connection.finish_close(parts.protocols, parts.shared, output);
        } else if !connection.scheduled && connection.wants_settle() {
            connection.scheduled = true;
            let settle = parts.shared.settings.settle.as_nanos() as u64;
            let due = connection.last_event.0.saturating_add(settle);
            self.due.push_back((KernelTime(due), id));
        }
        let now = connection.last_event;
        bound_one(connection, now, &mut parts, output);
        account(&mut self.buffered, connection);
        if done {
            self.forget(id);
        }
        true
    }

    fn forget(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            self.buffered = self.buffered.saturating_sub(connection.accounted);
            if let Some(ends) = connection.ends
                && self.ends.get(&ends) == Some(&id)
            {
                self.ends.remove(&ends);
            }
        }
    }

    /// Lets time pass: late messages are given up, likely ends become ends, idle connections are forgotten.
    pub fn tick(&mut self, now: KernelTime, output: &mut Output) {
        for _ in 0..self.due.len() {
            let Some(&(due, id)) = self.due.front() else {
                break;
            };
            if due > now {
                break;
            }
            self.due.pop_front();
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let done = connection.settle(now, self.protocols, &mut self.shared, output);
            connection.scheduled = !done && connection.wants_settle();
            if connection.scheduled {
                let settle = self.shared.settings.settle.as_nanos() as u64;
                let due = KernelTime(now.0.saturating_add(settle));
                self.due.push_back((due, id));
            }
            let mut parts = Parts {
                shared: &mut self.shared,
                protocols: self.protocols,
            };
            bound_one(connection, now, &mut parts, output);
            account(&mut self.buffered, connection);
            if done {
                self.forget(id);
            }
        }
        self.shared.forwarding.tick(now, output);
        self.bound(now, output);
        if now >= self.next_sweep {
            self.next_sweep = KernelTime(now.0.saturating_add(SWEEP_NANOS));
            self.sweep(now, output);
        }
    }

    fn sweep(&mut self, now: KernelTime, output: &mut Output) {
        let idle = self.shared.settings.idle_timeout.as_nanos() as u64;
        let head = KernelTime(now.0.saturating_sub(HEAD_NANOS));
        let mut ids = Vec::new();
        for (id, connection) in &mut self.connections {
            if connection.accounted > 0 {
                connection.give_up_heads(head, &mut self.shared, output);
                account(&mut self.buffered, connection);
            }
            let facts = &connection.facts;
            let certain = match facts.transport {
                Transport::Unix => connection.accounted > 0,
                Transport::Tcp => facts.peer != Endpoint::Unknown,
            };
            let limit = if certain {
                idle
            } else {
                idle.min(UNCERTAIN_IDLE_NANOS)
            };
            if now.since(connection.last_event) >= limit {
                ids.push(*id);
            }
        }
        ids.sort_unstable();
        for id in ids {
            self.abandon(id, "exchange.idle", output);
        }
    }

    /// End of input: exchanges that are not complete are counted, never made up.
    pub fn finish(&mut self, output: &mut Output) {
        let mut ids: Vec<_> = self.connections.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.drop_connection(id, "exchange.unfinished", output);
        }
        self.shared.forwarding.finish(output);
        self.due.clear();
    }

    /// Forgets a connection that may go on: the kernel side is to announce it again then.
    fn abandon(&mut self, id: ConnectionId, reason: &'static str, output: &mut Output) {
        let alive = self.connections.get(&id).is_some_and(Connection::is_alive);
        self.drop_connection(id, reason, output);
        if alive {
            output.policies.push((id, CapturePolicy::Forgotten));
        }
    }

    fn drop_connection(&mut self, id: ConnectionId, reason: &'static str, output: &mut Output) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.abandon(reason, self.protocols, &mut self.shared, output);
        account(&mut self.buffered, connection);
        self.forget(id);
    }
}

/// Lets go of what a connection holds if that is too much.
fn bound_one(
    connection: &mut Connection,
    now: KernelTime,
    parts: &mut Parts<'_>,
    output: &mut Output,
) {
    if connection.cost() > parts.shared.settings.max_buffered_bytes_per_connection {
        connection.shed(now, parts.protocols, parts.shared, output);
    }
}

/// Counts what a connection holds now in place of what it held before.
fn account(buffered: &mut usize, connection: &mut Connection) {
    let cost = connection.cost();
    *buffered = (*buffered + cost).saturating_sub(connection.accounted);
    connection.accounted = cost;
}

/// What work on a connection may use.
struct Parts<'a> {
    shared: &'a mut Shared,
    protocols: &'static [&'static dyn Protocol],
}

fn address(endpoint: &Endpoint) -> Option<SocketAddr> {
    match endpoint {
        Endpoint::Socket(address) => Some(*address),
        _ => None,
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
