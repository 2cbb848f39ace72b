//! Candidates, and input that cannot be.

use super::*;
use crate::fixture;
use crate::http1::Http1Protocol;
use crate::protocol::{Close, Context, Detection, Facts, Parser, Sign, Verdict};
use crate::stream::Item;
use spandrel_model::{CapturePolicy, Direction, Passed, Stamp};

#[path = "tracker_bounds_tests.rs"]
mod bounds;

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
        transport: Transport::Tcp,
        role: Some(Role::Server),
        local: Endpoint::Unknown,
        peer: Endpoint::Unknown,
        netns: 0,
        connect_started: None,
        process: None,
        passed: None,
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

thread_local! {
    static HEARD: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Takes everything for its own, and says what it was given.
struct Listener;

impl Protocol for Listener {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn detect(&self, _: &[u8]) -> Detection {
        Detection::found(255, Sign::Request)
    }

    fn open(&self, _: &Facts, _: Direction) -> Box<dyn Parser> {
        Box::new(Listener)
    }
}

impl Parser for Listener {
    fn item(&mut self, _: &mut Context<'_>, _: Direction, item: Item) {
        let text = match item {
            Item::Chunk(chunk) => format!("at {}", chunk.position),
            Item::Lost(count) => format!("lost {count}"),
        };
        HEARD.with_borrow_mut(|heard| heard.push(text));
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
        Verdict::Open
    }
}

/// The announcement of an older connection says where the next messages begin.
#[test]
fn what_is_lost_before_the_first_message_of_an_older_connection_is_known() {
    static LISTENER: &[&dyn Protocol] = &[&Listener];
    for (passed, expected) in [
        (
            Some(Passed {
                ingress: 500,
                egress: 9,
            }),
            &["lost 19", "at 519"][..],
        ),
        (
            Some(Passed {
                ingress: 519,
                egress: 9,
            }),
            &["at 519"],
        ),
        (None, &["at 519"]),
    ] {
        let ledger = Arc::new(Ledger::default());
        let mut tracker = Tracker::with_protocols(Settings::default(), 1, ledger, LISTENER);
        let mut output = Output::default();
        let Event::ConnectionOpened(mut event) = opened(1) else {
            unreachable!("what it makes");
        };
        event.origin = Origin::PreExisting;
        event.passed = passed;
        tracker.handle(&Event::ConnectionOpened(event), &mut output);
        let message = fixture::message(519, b"GET / HTTP/1.1\r\n\r\n");
        tracker.handle(&Event::Message(message), &mut output);
        tracker.finish(&mut output);
        assert_eq!(HEARD.take(), expected, "{passed:?}");
    }
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
