//! What goes when a bound is met: the longest idle, who holds most, never the newcomer.

use std::time::Duration;

use spandrel_model::ConnectionClosed;

use super::*;

const SECOND: u64 = 1_000_000_000;

struct Case {
    tracker: Tracker,
    ledger: Arc<Ledger>,
    output: Output,
}

impl Case {
    fn new(settings: Settings) -> Self {
        let ledger = Arc::new(Ledger::default());
        Self {
            tracker: Tracker::new(settings, 1, Arc::clone(&ledger)),
            ledger,
            output: Output::default(),
        }
    }

    fn of_connections(max_connections: usize) -> Self {
        Self::new(Settings {
            max_connections,
            ..Settings::default()
        })
    }

    fn open(&mut self, connection: u64, time: u64, change: impl FnOnce(&mut ConnectionOpened)) {
        let Event::ConnectionOpened(mut event) = opened(connection) else {
            return;
        };
        event.stamp.time = KernelTime(time);
        event.peer = Endpoint::Socket(([10, 0, 0, 1], 4000).into());
        change(&mut event);
        self.handle(&Event::ConnectionOpened(event));
    }

    fn message(&mut self, connection: u64, time: u64, direction: Direction, at: u64, text: &[u8]) {
        let mut message = fixture::message(at, b"");
        message.stamp.time = KernelTime(time);
        message.connection = ConnectionId(connection);
        message.direction = direction;
        message.payload = text.to_vec().into();
        message.length = text.len() as u32;
        self.handle(&Event::Message(message));
    }

    fn request(&mut self, connection: u64, time: u64) {
        let text = b"GET /a HTTP/1.1\r\n\r\n";
        self.message(connection, time, Direction::Ingress, 0, text);
    }

    fn response(&mut self, connection: u64, time: u64) {
        let text = b"HTTP/1.1 204 No Content\r\n\r\n";
        self.message(connection, time, Direction::Egress, 0, text);
    }

    fn handle(&mut self, event: &Event) {
        self.tracker.handle(event, &mut self.output);
        assert!(self.tracker.buffered_bytes() <= self.tracker.shared.settings.max_buffered_bytes);
    }

    fn tick(&mut self, seconds: u64) {
        let now = KernelTime(seconds * SECOND);
        self.tracker.tick(now, &mut self.output);
    }

    fn knows(&self, connection: u64) -> bool {
        let id = ConnectionId(connection);
        self.tracker.connections.contains_key(&id)
    }

    fn dropped(&self, reason: &str) -> u64 {
        let exchanges = self.ledger.exchanges.snapshot();
        exchanges.dropped.get(reason).copied().unwrap_or(0)
    }

    fn forgotten(&self) -> Vec<u64> {
        let policies = self.output.policies.iter();
        policies
            .filter(|(_, policy)| *policy == CapturePolicy::Forgotten)
            .map(|(id, _)| id.0)
            .collect()
    }

    /// Everything ends and the ledger closes.
    fn finish(mut self) {
        self.tracker.finish(&mut self.output);
        assert_eq!(self.tracker.buffered_bytes(), 0);
        assert!(self.ledger.exchanges.snapshot().is_closed());
    }
}

#[test]
fn of_more_connections_than_allowed_the_longest_idle_is_forgotten_and_never_the_newcomer() {
    let mut case = Case::of_connections(3);
    for connection in 1..=3 {
        case.open(connection, connection, |_| {});
        case.request(connection, 10 + connection);
    }
    case.response(1, 20);
    // 2 is idle for longer than 1, which was opened earlier, and its exchange is open.
    case.open(4, 30, |_| {});
    case.request(4, 31);
    case.response(4, 32);
    assert_eq!(case.output.measured.len(), 2);
    assert_eq!(case.dropped("exchange.connections_full"), 1);
    assert_eq!(case.forgotten(), [2]);
    // One that is known by a message alone is a newcomer as well.
    case.request(5, 40);
    assert!(!case.knows(3) && case.knows(5));
    assert_eq!(case.tracker.connections(), 3);
    assert!(case.ledger.messages.snapshot().dropped.is_empty());
    case.finish();
}

#[test]
fn under_a_flood_of_newcomers_a_connection_that_is_used_stays() {
    let mut case = Case::of_connections(100);
    case.open(1, 0, |_| {});
    for number in 0..10_000 {
        let time = (1 + number) * 1000;
        case.open(10 + number, time, |_| {});
        if number % 50 == 0 {
            // A head that grows: no exchange ends.
            let piece = if number == 0 { &b"GET /"[..] } else { b"a" };
            let at = (number / 50).min(1) * 4 + number / 50;
            case.message(1, time, Direction::Ingress, at, piece);
        }
    }
    assert!(case.knows(1));
    assert_eq!(case.tracker.connections(), 100);
    assert_eq!(case.forgotten().len(), 10_001 - 100);
    case.finish();
}

#[test]
fn an_idle_connection_is_forgotten_and_its_exchange_counted() {
    let mut case = Case::new(Settings {
        idle_timeout: Duration::from_secs(60),
        ..Settings::default()
    });
    case.request(1, 0);
    case.tick(59);
    assert!(case.knows(1));
    case.tick(70);
    assert!(!case.knows(1));
    assert_eq!(case.dropped("exchange.idle"), 1);
    case.finish();
}

#[test]
fn a_connection_is_forgotten_sooner_where_its_close_may_never_be_reported() {
    let mut case = Case::new(Settings::default());
    let unix = |event: &mut ConnectionOpened| event.transport = Transport::Unix;
    case.open(1, 0, |_| {});
    case.request(2, 0);
    case.response(2, 0);
    case.open(3, 0, unix);
    case.request(3, 0);
    case.response(3, 0);
    case.open(4, 0, unix);
    case.request(4, 0);
    case.tick(299);
    assert_eq!([1, 2, 3, 4].map(|id| case.knows(id)), [true; 4]);
    case.tick(309);
    // Of the unix sockets, that with an open exchange stays.
    let known = [1, 2, 3, 4].map(|id| case.knows(id));
    assert_eq!(known, [true, false, false, true]);
    case.tick(3599);
    assert_eq!([1, 4].map(|id| case.knows(id)), [true, true]);
    case.tick(3609);
    assert_eq!(case.tracker.connections(), 0);
    assert_eq!(case.dropped("exchange.idle"), 1);
    case.finish();
}

#[test]
fn a_connection_that_was_forgotten_comes_back_with_its_peer() {
    let mut case = Case::new(Settings::default());
    case.open(1, 0, |_| {});
    case.request(1, 0);
    case.response(1, 0);
    case.tick(3600);
    assert_eq!(case.forgotten(), [1]);
    // The kernel side announces it again before its next message; positions go on.
    case.open(1, 3601 * SECOND, |event| event.origin = Origin::PreExisting);
    let (request, response) = (
        b"GET /b HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    );
    let at = 3601 * SECOND;
    case.message(1, at, Direction::Ingress, 1000, request);
    case.message(1, at + 1, Direction::Egress, 2000, response);
    case.tick(3602);
    let span = &case.output.measured.last().unwrap().span;
    assert_eq!(case.output.measured.len(), 2);
    assert!(span.attribute("client.address").is_some(), "{span:?}");
    case.finish();
}

#[test]
fn what_is_decided_of_a_connection_that_is_not_announced_yet_waits_for_that() {
    let mut case = Case::new(Settings::default());
    case.request(1, 0);
    case.response(1, 1);
    // The kernel side keeps one decision: this one must not be replaced before it is taken.
    assert_eq!(
        case.output.policies,
        [(ConnectionId(1), CapturePolicy::Forgotten)]
    );
    case.open(1, 2, |event| event.origin = Origin::PreExisting);
    assert_eq!(
        case.output.policies.last(),
        Some(&(ConnectionId(1), CapturePolicy::Headers))
    );
    case.finish();
}

#[test]
fn a_connection_that_is_ignored_or_closed_is_forgotten_without_a_word() {
    let mut case = Case::of_connections(2);
    case.open(1, 0, |_| {});
    for number in 0..4 {
        case.message(1, number, Direction::Ingress, number, b"\x00");
    }
    case.open(2, 10, |_| {});
    case.handle(&Event::ConnectionClosed(ConnectionClosed {
        stamp: Stamp::default(),
        connection: ConnectionId(2),
        reset: false,
        ingress_bytes: 10,
        egress_bytes: 0,
    }));
    case.open(3, 20, |_| {});
    case.open(4, 30, |_| {});
    assert!(!case.knows(1) && !case.knows(2));
    assert!(case.forgotten().is_empty());
    case.finish();
}

#[test]
fn unfinished_heads_on_idle_connections_do_not_blind_the_others() {
    let mut case = Case::new(Settings::default());
    let head = [b"GET /", &[b'a'; 60_000][..]].concat();
    for connection in 1..=600 {
        case.open(connection, connection, |_| {});
        for (number, piece) in head.chunks(4096).enumerate() {
            let at = number as u64 * 4096;
            case.message(connection, connection, Direction::Ingress, at, piece);
        }
    }
    assert!(case.dropped("exchange.memory") > 100);
    // The next one is as good as ever, and one that held little has lost nothing.
    let all = case.dropped("exchange.memory");
    case.open(1001, 2 * SECOND, |_| {});
    case.request(1001, 2 * SECOND);
    for connection in 2001..2300 {
        case.open(connection, 2 * SECOND, |_| {});
        for (number, piece) in head.chunks(4096).enumerate() {
            let at = number as u64 * 4096;
            case.message(connection, 2 * SECOND, Direction::Ingress, at, piece);
        }
    }
    assert!(case.dropped("exchange.memory") > all);
    case.response(1001, 3 * SECOND);
    assert_eq!(case.output.measured.len(), 1);
    assert!(case.ledger.messages.snapshot().dropped.is_empty());
    case.finish();
}

#[test]
fn no_more_is_held_than_allowed_and_all_of_that() {
    let most = 64 * 1024;
    let mut case = Case::new(Settings {
        max_buffered_bytes: most,
        ..Settings::default()
    });
    let mut highest = 0;
    for connection in 1..1000 {
        case.open(connection, connection, |_| {});
        case.request(connection, connection);
        highest = highest.max(case.tracker.buffered_bytes());
    }
    assert!(highest > most - 1024, "{highest} of {most} bytes were held");
    assert!(case.dropped("exchange.memory") > 0);
    case.finish();
}

#[test]
fn a_connection_that_holds_too_much_starts_anew_and_what_comes_next_is_seen() {
    let mut case = Case::new(Settings {
        max_buffered_bytes_per_connection: 4096,
        ..Settings::default()
    });
    case.open(1, 0, |_| {});
    let connect = b"CONNECT x:1 HTTP/1.1\r\n\r\n";
    case.message(1, 0, Direction::Ingress, 0, connect);
    let mut at = connect.len() as u64;
    for _ in 0..40 {
        // Bytes that wait for the answer to CONNECT.
        case.message(1, 0, Direction::Ingress, at, &[7; 100]);
        at += 100;
        assert!(case.tracker.buffered_bytes() <= 4096);
    }
    assert_eq!(case.dropped("exchange.memory"), 1);
    case.message(1, 1, Direction::Ingress, at, b"GET / HTTP/1.1\r\n\r\n");
    case.response(1, 2);
    case.tick(1);
    assert_eq!(case.output.measured.len(), 1);
    assert!(case.ledger.messages.snapshot().dropped.is_empty());
    case.finish();
}

#[test]
fn a_head_that_does_not_end_is_given_up_after_a_minute_and_the_next_one_is_seen() {
    let mut case = Case::new(Settings::default());
    case.open(1, 0, |_| {});
    case.message(1, 0, Direction::Ingress, 0, b"GET /slow HTTP/1.1\r\n");
    for second in 1..=60 {
        // A field that never ends.
        case.message(1, second * SECOND, Direction::Ingress, 19 + second, b"x");
        case.tick(second);
    }
    assert!(case.tracker.buffered_bytes() > 0);
    case.tick(71);
    assert_eq!(case.tracker.buffered_bytes(), 0);
    assert_eq!(case.dropped("exchange.slow_head"), 1);
    case.message(
        1,
        72 * SECOND,
        Direction::Ingress,
        80,
        b"GET / HTTP/1.1\r\n\r\n",
    );
    case.response(1, 73 * SECOND);
    case.tick(74);
    assert_eq!(case.output.measured.len(), 1);
    case.finish();
}

#[test]
fn an_exchange_that_waits_long_for_its_answer_is_no_slow_head() {
    let mut case = Case::new(Settings::default());
    case.open(1, 0, |_| {});
    case.request(1, 0);
    for second in [10, 61, 122, 1000] {
        case.tick(second);
    }
    case.response(1, 1001 * SECOND);
    assert_eq!(case.output.measured.len(), 1);
    case.finish();
}
