//! Whatever comes, and however it is cut: no panic, bounded memory, the same result, a closed ledger.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "script/drive.rs"]
mod drive;
mod script;
#[path = "script/stream.rs"]
mod stream;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::Config;
use script::Step;
use spandrel_model::{Direction, Event, KernelTime};
use spandrel_protocols::Settings;

/// An exchange as bytes.
#[derive(Clone, Debug)]
struct Conversation {
    request: Vec<u8>,
    response: Vec<u8>,
    line: String,
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\nChecksum: 1\r\n\r\n");
    bytes
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let method = prop_oneof![Just("GET"), Just("POST"), Just("HEAD"), Just("PATCH")];
    let status = prop_oneof![Just(200), Just(204), Just(304), Just(404), Just(503)];
    let body = vec(
        prop_oneof![Just(b'a'), Just(b'\r'), Just(b'\n'), Just(b'0')],
        0..40,
    );
    (
        method,
        status,
        body.clone(),
        body,
        0..3_u8,
        any::<bool>(),
        1..9_usize,
    )
        .prop_map(|(method, status, sent, answered, framing, interim, size)| {
            let mut request = format!("{method} /path?q=1 HTTP/1.1\r\nHost: shop\r\n").into_bytes();
            match (method, framing) {
                ("POST" | "PATCH", 0) => {
                    request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    request.extend(chunked(&sent, size));
                }
                ("POST" | "PATCH", _) => {
                    let field = format!("Content-Length: {}\r\n\r\n", sent.len());
                    request.extend_from_slice(field.as_bytes());
                    request.extend_from_slice(&sent);
                }
                _ => request.extend_from_slice(b"\r\n"),
            }
            let mut response = Vec::new();
            if interim {
                response.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
            }
            response.extend_from_slice(format!("HTTP/1.1 {status} Because\r\n").as_bytes());
            let bodiless = method == "HEAD" || matches!(status, 204 | 304);
            if framing == 1 {
                response.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                if !bodiless {
                    response.extend(chunked(&answered, size));
                }
            } else {
                let field = format!("Content-Length: {}\r\n\r\n", answered.len());
                response.extend_from_slice(field.as_bytes());
                if !bodiless {
                    response.extend_from_slice(&answered);
                }
            }
            Conversation {
                request,
                response,
                line: format!("{method} {status}"),
            }
        })
}

/// Messages of one direction: each exchange's bytes cut at some places, with the exchange's time.
fn messages(
    all: &[Conversation],
    direction: Direction,
    cuts: &[usize],
    template: &spandrel_model::Message,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut position = 0;
    let mut cuts = cuts.iter().copied().cycle();
    for (index, one) in all.iter().enumerate() {
        let (mut bytes, offset) = match direction {
            Direction::Ingress => (&one.request[..], 0),
            Direction::Egress => (&one.response[..], 500),
        };
        while !bytes.is_empty() {
            let length = cuts.next().unwrap_or(bytes.len()).clamp(1, bytes.len());
            let (piece, rest) = bytes.split_at(length);
            let mut message = template.clone();
            message.stamp.time = KernelTime((index as u64 * 1000 + 1000 + offset) * 1000);
            message.direction = direction;
            message.position = position;
            message.length = length as u32;
            message.payload = Bytes::copy_from_slice(piece);
            events.push(Event::Message(message));
            position += length as u64;
            bytes = rest;
        }
    }
    events
}

fn opening_and_template() -> (Step, spandrel_model::Message) {
    let script = "open 1 server 10.0.0.1:80 10.0.0.2:4000\nread 1 1 \"x\"";
    let mut steps = script::parse(script).into_iter();
    match (steps.next(), steps.next()) {
        (Some(open), Some(Step::Event(Event::Message(message)))) => (open, message),
        _ => unreachable!("the script has two lines"),
    }
}

/// How the two directions are put together.
#[derive(Clone, Copy, Debug)]
enum Order {
    ByTime,
    RequestsFirst,
    ResponsesFirst,
    /// By time, then neighbours swapped.
    Swapped,
}

fn merged(requests: Vec<Event>, responses: Vec<Event>, order: Order) -> Vec<Event> {
    let (mut events, second) = match order {
        Order::ResponsesFirst => (responses, requests),
        _ => (requests, responses),
    };
    events.extend(second);
    if matches!(order, Order::ByTime | Order::Swapped) {
        events.sort_by_key(|event| event.stamp().time);
    }
    if matches!(order, Order::Swapped) {
        for pair in events.chunks_exact_mut(2) {
            pair.swap(0, 1);
        }
    }
    events
}

fn result(all: &[Conversation], cuts: (&[usize], &[usize]), order: Order) -> Vec<String> {
    let (open, template) = opening_and_template();
    let requests = messages(all, Direction::Ingress, cuts.0, &template);
    let responses = messages(all, Direction::Egress, cuts.1, &template);
    let mut steps = vec![open];
    let events = merged(requests, responses, order);
    steps.extend(events.into_iter().map(Step::Event));
    let settings = Settings {
        max_buffered_bytes_per_connection: 16 << 20,
        ..Settings::default()
    };
    let outcome = script::run_steps(&steps, settings);
    outcome
        .output
        .measured
        .iter()
        .map(|measured| format!("{measured:?}"))
        .collect()
}

proptest! {
    #![proptest_config(Config { cases: 192, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_result_is_the_same_however_bytes_are_split_and_whichever_direction_is_first(
        all in vec(conversation(), 1..6),
        request_cuts in vec(1..60_usize, 1..8),
        response_cuts in vec(1..60_usize, 1..8),
        order in prop_oneof![
            Just(Order::ByTime), Just(Order::RequestsFirst), Just(Order::ResponsesFirst), Just(Order::Swapped)
        ],
    ) {
        let whole = [usize::MAX];
        let expected = result(&all, (&whole, &whole), Order::ByTime);
        prop_assert_eq!(expected.len(), all.len());
        for (one, line) in expected.iter().zip(&all) {
            let (method, status) = line.line.split_once(' ').unwrap_or_default();
            assert!(one.contains(&format!("\"{method}\"")), "{one} is not {line:?}");
            assert!(one.contains(&format!("I64({status})")), "{one} is not {line:?}");
        }
        let split = result(&all, (&request_cuts, &response_cuts), order);
        prop_assert_eq!(split, expected);
    }

    #[test]
    fn any_sequence_of_events_is_survived_within_bounds(data in vec(any::<u8>(), 0..2000)) {
        drive::drive(&data);
    }

    #[test]
    fn any_bytes_as_a_connection_are_survived(data in vec(any::<u8>(), 0..2000)) {
        stream::drive(&data);
    }

    #[test]
    fn real_traffic_with_lost_and_changed_bytes_is_survived(
        all in vec(conversation(), 1..6),
        cuts in vec(1..60_usize, 1..8),
        harm in vec((any::<proptest::sample::Index>(), 0..4_u8, any::<u8>()), 0..6),
        ticks in vec(any::<proptest::sample::Index>(), 0..3),
    ) {
        let (open, template) = opening_and_template();
        let requests = messages(&all, Direction::Ingress, &cuts, &template);
        let responses = messages(&all, Direction::Egress, &cuts, &template);
        let mut events = merged(requests, responses, Order::ByTime);
        for (at, what, byte) in harm {
            if events.is_empty() {
                break;
            }
            let at = at.index(events.len());
            let Event::Message(message) = &mut events[at] else { continue };
            match what {
                0 => drop(events.remove(at)),
                1 => {
                    // Less is captured than passed.
                    let kept = usize::from(byte) % (message.payload.len() + 1);
                    message.payload.truncate(kept);
                }
                2 => {
                    let mut payload = message.payload.to_vec();
                    if let Some(first) = payload.first_mut() {
                        *first = byte;
                    }
                    message.payload = Bytes::from(payload);
                }
                _ => {
                    let copy = events[at].clone();
                    events.push(copy);
                }
            }
        }
        let mut steps: Vec<_> = std::iter::once(open).chain(events.into_iter().map(Step::Event)).collect();
        for tick in ticks {
            let at = tick.index(steps.len());
            steps.insert(at, Step::Tick(KernelTime(at as u64 * 1_000_000_000)));
        }
        script::run_steps(&steps, Settings::default());
    }
}

/// Runs each file of the fuzzer's committed corpus; the number of them.
fn seeds(target: &str, drive: impl Fn(&[u8])) -> usize {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds");
    let files = std::fs::read_dir(format!("{seeds}/{target}")).unwrap();
    files
        .map(|entry| drive(&std::fs::read(entry.unwrap().path()).unwrap()))
        .count()
}

#[test]
fn the_fuzzers_seeds_of_streams_are_survived() {
    let count = seeds("stream", stream::drive);
    assert!(count >= 8, "{count} seeds");
}

#[test]
fn the_fuzzers_seeds_of_events_are_survived_within_bounds() {
    let count = seeds("tracker", drive::drive);
    assert!(count >= 20, "{count} seeds");
}
