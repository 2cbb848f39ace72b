//! Which bytes are copied: whole heads wherever they begin, and little of what is between them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod observed;

use observed::{Running, Seen, Traffic, backends, settings};
use spandrel_model::Direction::{Egress, Ingress};
use spandrel_model::{CapturePolicy, Direction, Event, Message};
use spandrel_probes::{BackendChoice, CaptureSettings, HeadRule};

fn following(backend: BackendChoice) -> CaptureSettings {
    CaptureSettings {
        heads: HeadRule {
            signs: vec![*b"POST", *b"HTTP"],
            length_label: "content-length:",
        },
        ..settings(backend)
    }
}

/// Runs a scenario on a connection whose protocol is known, where it waits for that.
fn observe(settings: CaptureSettings, scenario: &str) -> Seen {
    let mut running = Running::start(settings);
    let mut traffic = Traffic::start(scenario, "");
    let ends = |message: &Message, pid| message.process.tgid == pid && message.position == 0;
    let pid = traffic.child.id();
    if scenario != "segments" && scenario != "long_head" {
        traffic.until_ready();
        for direction in [Egress, Ingress] {
            running.await_event(|event| {
                matches!(event, Event::Message(message)
                    if ends(message, pid) && message.direction == direction)
            });
        }
        for event in running.events() {
            if let Event::Message(message) = event
                && ends(message, pid)
            {
                let control = running.control();
                control
                    .set_connection(message.connection, CapturePolicy::Headers)
                    .unwrap();
            }
        }
        traffic.go();
    }
    running.finish(traffic)
}

/// Both ends' messages.
fn directions(seen: &Seen) -> [(Direction, Vec<&Message>); 2] {
    let (client, server) = seen.pair(0);
    [(client, Egress), (server, Ingress)]
        .map(|(end, direction)| (direction, seen.messages(end.connection, direction)))
}

/// The copied bytes from a position on, as far as there is no gap; tails count as well.
fn copied(messages: &[&Message], position: u64, length: usize) -> Vec<u8> {
    let mut found = Vec::new();
    let mut at = position;
    for message in messages {
        let tail_at = message.end() - message.tail.len() as u64;
        for (start, bytes) in [
            (message.position, &message.payload),
            (tail_at, &message.tail),
        ] {
            let end = start + bytes.len() as u64;
            if start <= at && at < end {
                found.extend_from_slice(&bytes[(at - start) as usize..]);
                at = end;
            }
        }
    }
    found.truncate(length);
    found
}

fn total(messages: &[&Message]) -> usize {
    let bytes = |message: &&Message| message.payload.len() + message.tail.len();
    messages.iter().map(bytes).sum()
}

/// The heads that the child says it has sent.
fn heads(seen: &Seen) -> Vec<(u64, String)> {
    let said = seen.said.iter().find_map(|said| said.get("heads")).unwrap();
    serde_json::from_value(said.clone()).unwrap()
}

/// Every head is copied from its first byte to its last, at both ends, and positions have no gap.
fn assert_heads(seen: &Seen, backend: BackendChoice) {
    for (direction, messages) in directions(seen) {
        let mut position = 0;
        for message in &messages {
            assert_eq!(message.position, position, "{backend:?} {direction:?}");
            position = message.end();
        }
        let heads = heads(seen);
        for (position, head) in &heads {
            let found = copied(&messages, *position, head.len());
            assert!(
                found == head.as_bytes(),
                "{backend:?} {direction:?}: {} of the {} bytes of the head at {position}",
                found.len(),
                head.len()
            );
        }
        // Each part begins with a head, and its program began to write it with what is before it.
        for pair in messages.windows(2) {
            let [before, part] = pair else { continue };
            if part.flags.part {
                assert!(heads.iter().any(|(position, _)| *position == part.position));
                assert_eq!((part.started, part.arrived), (before.started, None));
            }
        }
    }
}

#[test]
fn the_tail_of_a_thousand_segments_is_copied() {
    for backend in backends() {
        let seen = observe(following(backend), "segments");
        let text: Vec<u8> = (48..122).cycle().take(10_000).collect();
        for (direction, messages) in directions(&seen) {
            let [message] = messages[..] else {
                panic!("{backend:?} {direction:?}: {messages:?}");
            };
            assert_eq!(message.payload, text[..4096], "{backend:?} {direction:?}");
            assert_eq!(
                message.tail,
                text[10_000 - 32..],
                "{backend:?} {direction:?}"
            );
        }
    }
}

#[test]
fn a_long_head_is_copied_to_its_end() {
    for backend in backends() {
        for scenario in ["long_head", "long_head_known", "long_head_segments"] {
            let seen = observe(following(backend), scenario);
            assert_heads(&seen, backend);
            let size: usize = heads(&seen).iter().map(|(_, head)| head.len()).sum();
            for (direction, messages) in directions(&seen) {
                let total = total(&messages);
                assert!(
                    total < size + 10_000,
                    "{backend:?} {direction:?} {scenario}: {total} bytes for {size} of heads"
                );
                assert!(messages.iter().all(|message| !message.flags.head_cut));
            }
        }
    }
}

#[test]
fn the_bound_can_be_raised_to_all_that_can_be_copied() {
    for backend in backends() {
        let settings = CaptureSettings {
            head_bytes: CaptureSettings::COPY_MAX,
            ..following(backend)
        };
        assert_heads(&observe(settings, "longest_head"), backend);
    }
}

#[test]
fn a_head_is_copied_up_to_its_bound_and_says_so() {
    for backend in backends() {
        let settings = CaptureSettings {
            head_bytes: 5000,
            ..following(backend)
        };
        let seen = observe(settings, "long_head_known");
        for (direction, messages) in directions(&seen) {
            let cut: Vec<_> = messages
                .iter()
                .filter(|message| message.flags.head_cut)
                .map(|message| message.payload.len())
                .collect();
            assert_eq!(cut, [5000], "{backend:?} {direction:?}");
        }
    }
}

#[test]
fn a_head_in_pieces_is_copied_whole_also_behind_a_body() {
    for backend in backends() {
        for scenario in [
            "split_head",
            "split_sign",
            "split_at_end",
            "split_everywhere",
        ] {
            assert_heads(&observe(following(backend), scenario), backend);
        }
    }
}

/// Where no head came in pieces before: Go reads one byte ahead, nginx a kilobyte.
#[test]
fn the_first_head_in_pieces_of_a_connection_is_copied_whole() {
    for backend in backends() {
        for scenario in ["first_byte_ahead", "first_kilobyte_ahead"] {
            assert_heads(&observe(following(backend), scenario), backend);
        }
    }
}

#[test]
fn heads_behind_bodies_are_found_where_as_much_as_possible_is_copied() {
    for backend in backends() {
        let settings = CaptureSettings {
            copy_bytes: CaptureSettings::COPY_MAX,
            ..following(backend)
        };
        assert_heads(&observe(settings, "pipelined_large_reads"), backend);
    }
}

#[test]
fn each_head_between_long_bodies_is_copied() {
    for backend in backends() {
        for scenario in [
            "pipelined_bodies",
            "pipelined_near_starts",
            "pipelined_large_reads",
            "early_answers",
        ] {
            let seen = observe(following(backend), scenario);
            assert_heads(&seen, backend);
            for (direction, messages) in directions(&seen) {
                let (sent, total) = (messages.last().unwrap().end() as usize, total(&messages));
                assert!(
                    total < sent / 10,
                    "{backend:?} {direction:?} {scenario}: {total} of {sent} bytes"
                );
            }
        }
    }
}

#[test]
fn all_heads_of_one_write_are_copied() {
    for backend in backends() {
        assert_heads(&observe(following(backend), "pipelined_heads"), backend);
    }
}

#[test]
fn of_a_body_without_end_no_more_than_sixteen_limits_and_the_tails_are_copied() {
    for backend in backends() {
        let seen = observe(following(backend), "long_body");
        for (direction, messages) in directions(&seen) {
            let payload: usize = messages[1..]
                .iter()
                .map(|message| message.payload.len())
                .sum();
            // A run goes on from the message before it.
            assert!(
                (15 * 1024..=16 * 1024).contains(&payload),
                "{backend:?} {direction:?}: {payload}"
            );
            assert!(
                messages
                    .iter()
                    .skip(1)
                    .all(|message| message.tail.len() == 32)
            );
        }
    }
}
