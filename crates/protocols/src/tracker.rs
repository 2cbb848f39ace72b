//! All connections: events in, measured exchanges out, within bounds.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use spandrel_model::{
    ClockOffset, ConnectionId, ConnectionOpened, Endpoint, Event, KernelTime, Ledger, Message,
    Origin, Role,
};

use crate::Settings;
use crate::connection::Connection;
use crate::http1::{KnownHeads, MetricAttributes};
use crate::protocol::{Output, Protocol, Shared};
use crate::registry::PROTOCOLS;
use crate::route::Routes;
use crate::stream::{CHUNK_OVERHEAD, Captured};

/// Network namespace, local and peer address.
pub(crate) type Ends = (u32, SocketAddr, SocketAddr);

/// How often connections are looked through for idle ones.
const SWEEP_NANOS: u64 = 10_000_000_000;

/// No connection carries as many bytes; sums of positions and lengths stay far from overflow.
const MAX_POSITION: u64 = 1 << 62;

/// After this long a connection is forgotten of which only messages were reported: it may be closed long ago.
const UNKNOWN_IDLE_NANOS: u64 = 300_000_000_000;

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
        match event {
            Event::Message(message) => {
                let captured = Captured::taken_from(message);
                self.message(message, captured, output);
            }
            other => self.handle(other, output),
        }
    }

    /// Takes one event. Events come in the order of their stamps, or nearly so.
    pub fn handle(&mut self, event: &Event, output: &mut Output) {
        match event {
            Event::ClockSynced { offset, .. } => self.shared.offset = *offset,
            Event::ProcessStarted(_) | Event::ProcessExited(_) => {}
            Event::ConnectionOpened(opened) => self.open(opened),
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
            Event::Message(message) => self.message(message, Captured::of(message), output),
        }
    }

    fn open(&mut self, event: &ConnectionOpened) {
        if let Some(known) = self.connections.get_mut(&event.connection) {
            known.learn(event);
            return;
        }
        if self.connections.len() >= self.shared.settings.max_connections {
            return;
        }
        let mut connection = Connection::opened(event);
        self.pair_ends(event, &mut connection);
        self.connections.insert(event.connection, connection);
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
        match event.role {
            Some(Role::Server) => connection.facts.twin = Some(other),
            Some(Role::Client) => {
                let other = self.connections.get_mut(&other);
                if let Some(server) = other.filter(|other| other.role() == Some(Role::Server)) {
                    server.facts.twin = Some(event.connection);
                }
            }
            None => {}
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
        if self.connections.len() >= self.shared.settings.max_connections {
            let messages = &self.shared.ledger.messages;
            messages.drop_for("stream.connections_full", 1);
            return;
        }
        // Its opening was lost or is late.
        let connection = Connection::unknown(id, message.stamp.time);
        self.connections.insert(id, connection);
        self.deliver(message, &mut captured, output);
    }

    /// Hands a message to its connection; `false` if there is none.
    fn deliver(&mut self, message: &Message, captured: &mut Captured, output: &mut Output) -> bool {
        let limit = self.shared.settings.max_buffered_bytes_per_connection;
        let total_limit = self.shared.settings.max_buffered_bytes;
        // A message may be held twice: for the next candidate, and by the parser.
        let cost = 2 * (captured.len() + CHUNK_OVERHEAD);
        let buffered = self.buffered;
        self.with(message.connection, output, |connection, tracker, output| {
            let ledger = &tracker.shared.ledger;
            if connection.is_ignored() {
                ledger.messages.drop_for("stream.ignored", 1);
                return;
            }
            let before = connection.accounted;
            if before + cost > limit || buffered + cost > total_limit {
                let now = message.stamp.time;
                connection.release(now, tracker.protocols, tracker.shared, output);
                let after = connection.cost();
                let others = buffered.saturating_sub(before);
                if after + cost > limit || others + after + cost > total_limit {
                    let ledger = &tracker.shared.ledger;
                    ledger.messages.drop_for("stream.memory", 1);
                    return;
                }
            }
            connection.last_event = connection.last_event.max(message.stamp.time);
            let captured = std::mem::take(captured);
            let (protocols, shared) = (tracker.protocols, &mut *tracker.shared);
            let new = connection.message(message, captured, protocols, shared, output);
            let ledger = &tracker.shared.ledger;
            match new {
                true => ledger.messages.settle(1),
                false => ledger.messages.drop_for("stream.duplicate", 1),
            }
        })
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
            connection.finish_close(self.protocols, &mut self.shared, output);
        } else if !connection.scheduled && connection.wants_settle() {
            connection.scheduled = true;
            let settle = self.shared.settings.settle.as_nanos() as u64;
            let due = connection.last_event.0.saturating_add(settle);
            self.due.push_back((KernelTime(due), id));
        }
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
            account(&mut self.buffered, connection);
            if done {
                self.forget(id);
            }
        }
        if now >= self.next_sweep {
            self.next_sweep = KernelTime(now.0.saturating_add(SWEEP_NANOS));
            self.sweep(now, output);
        }
    }

    fn sweep(&mut self, now: KernelTime, output: &mut Output) {
        let idle = self.shared.settings.idle_timeout.as_nanos() as u64;
        let mut ids: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                let known = connection.facts.peer != Endpoint::Unknown;
                let limit = if known {
                    idle
                } else {
                    idle.min(UNKNOWN_IDLE_NANOS)
                };
                now.since(connection.last_event) >= limit
            })
            .map(|(id, _)| *id)
            .collect();
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
            self.abandon(id, "exchange.unfinished", output);
        }
        self.due.clear();
    }

    fn abandon(&mut self, id: ConnectionId, reason: &'static str, output: &mut Output) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.abandon(reason, self.protocols, &mut self.shared, output);
        account(&mut self.buffered, connection);
        self.forget(id);
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixture;
    use crate::http1::Http1Protocol;
    use crate::protocol::{Close, Context, Detection, Facts, Parser, Sign, Verdict};
    use crate::stream::Item;
    use spandrel_model::{CapturePolicy, Direction, Stamp};

    /// Takes everything for its own, and finds after two messages that it is not.
    struct Eager;

    struct EagerParser(u32);

    impl Protocol for Eager {
        fn name(&self) -> &'static str {
            "eager"
        }

        fn detect(&self, _: &[u8]) -> Detection {
            Detection::found(255, Sign::Request)
        }

        fn open(&self, _: &Facts, _: Direction) -> Box<dyn Parser> {
            Box::new(EagerParser(0))
        }
    }

    impl Parser for EagerParser {
        fn item(&mut self, _: &mut Context<'_>, _: Direction, _: Item) {
            self.0 += 1;
        }
        fn half_closed(&mut self, _: &mut Context<'_>, _: Direction, _: KernelTime) {}
        fn closed(&mut self, _: &mut Context<'_>, _: Close) {}
        fn settle(&mut self, _: &mut Context<'_>, _: KernelTime) {}
        fn wants_settle(&self) -> bool {
            false
        }
        fn abandon(&mut self, _: &mut Context<'_>, _: &'static str) {}
        fn cost(&self) -> usize {
            0
        }
        fn verdict(&self) -> Verdict {
            if self.0 < 2 {
                Verdict::Open
            } else {
                Verdict::Refuted
            }
        }
    }

    static EAGER_FIRST: &[&dyn Protocol] = &[&Eager, &Http1Protocol];
    static EAGER_LAST: &[&dyn Protocol] = &[&Http1Protocol, &Eager];

    fn exchange(connection: u64) -> [Event; 2] {
        let mut request = fixture::message(0, b"GET / HTTP/1.1\r\n\r\n");
        request.connection = ConnectionId(connection);
        let mut response = fixture::message(0, b"HTTP/1.1 204 No Content\r\n\r\n");
        response.connection = ConnectionId(connection);
        response.direction = Direction::Egress;
        [Event::Message(request), Event::Message(response)]
    }

    fn opened(connection: u64) -> Event {
        Event::ConnectionOpened(ConnectionOpened {
            stamp: Stamp::default(),
            connection: ConnectionId(connection),
            origin: Origin::Observed,
            transport: spandrel_model::Transport::Tcp,
            role: Some(Role::Server),
            local: Endpoint::Unknown,
            peer: Endpoint::Unknown,
            netns: 0,
            connect_started: None,
            process: None,
        })
    }

    #[test]
    fn bytes_that_a_wrong_candidate_has_seen_go_to_the_next_one() {
        for protocols in [EAGER_FIRST, EAGER_LAST] {
            let ledger = Arc::new(Ledger::default());
            let mut tracker =
                Tracker::with_protocols(Settings::default(), 1, Arc::clone(&ledger), protocols);
            let mut output = Output::default();
            tracker.handle(&opened(1), &mut output);
            for event in exchange(1) {
                tracker.handle(&event, &mut output);
            }
            assert_eq!(output.measured.len(), 1);
            let policies: Vec<_> = output.policies.iter().map(|(_, policy)| *policy).collect();
            assert_eq!(policies, [CapturePolicy::Headers]);
        }
    }

    #[test]
    fn messages_of_more_connections_than_allowed_are_counted() {
        let settings = Settings {
            max_connections: 2,
            ..Settings::default()
        };
        let ledger = Arc::new(Ledger::default());
        let mut tracker = Tracker::new(settings, 1, Arc::clone(&ledger));
        let mut output = Output::default();
        for connection in 1..=3 {
            tracker.handle(&opened(connection), &mut output);
            for event in exchange(connection) {
                tracker.handle(&event, &mut output);
            }
        }
        assert_eq!(output.measured.len(), 2);
        let messages = ledger.messages.snapshot();
        assert_eq!(messages.settled, 4);
        assert_eq!(messages.dropped["stream.connections_full"], 2);
    }

    #[test]
    fn what_one_connection_holds_is_bounded_and_what_does_not_fit_is_counted() {
        let settings = Settings {
            max_buffered_bytes_per_connection: 4096,
            ..Settings::default()
        };
        let ledger = Arc::new(Ledger::default());
        let mut tracker = Tracker::new(settings, 1, Arc::clone(&ledger));
        let mut output = Output::default();
        tracker.handle(&opened(1), &mut output);
        let connect = fixture::message(0, b"CONNECT x:1 HTTP/1.1\r\n\r\n");
        let mut position = connect.end();
        tracker.handle(&Event::Message(connect), &mut output);
        for _ in 0..100 {
            // Bytes that wait for the answer to CONNECT.
            let message = fixture::message(position, &[7; 100]);
            position = message.end();
            tracker.handle(&Event::Message(message), &mut output);
            assert!(tracker.buffered_bytes() <= 4096);
        }
        let messages = ledger.messages.snapshot();
        assert_eq!(messages.settled + messages.dropped["stream.memory"], 101);
    }

    #[test]
    fn a_position_that_cannot_be_is_refused() {
        let ledger = Arc::new(Ledger::default());
        let mut tracker = Tracker::new(Settings::default(), 1, Arc::clone(&ledger));
        let mut output = Output::default();
        // Found by the property test: the head's position overflowed.
        for position in [u64::MAX, u64::MAX - 3, MAX_POSITION + 1] {
            let message = fixture::message(position, b"HTTP/1.1 200 OK\r\n\r\n");
            tracker.handle(&Event::Message(message), &mut output);
        }
        let messages = ledger.messages.snapshot();
        assert_eq!(messages.dropped["stream.impossible_position"], 3);
    }

    #[test]
    fn an_idle_connection_is_forgotten_and_its_exchange_counted() {
        let settings = Settings {
            idle_timeout: Duration::from_secs(60),
            ..Settings::default()
        };
        let ledger = Arc::new(Ledger::default());
        let mut tracker = Tracker::new(settings, 1, Arc::clone(&ledger));
        let mut output = Output::default();
        let [request, _] = exchange(1);
        tracker.handle(&request, &mut output);
        tracker.tick(KernelTime(59_000_000_000), &mut output);
        assert_eq!(tracker.connections(), 1);
        tracker.tick(KernelTime(70_000_000_000), &mut output);
        assert_eq!(tracker.connections(), 0);
        assert_eq!(ledger.exchanges.snapshot().dropped["exchange.idle"], 1);
    }
}
