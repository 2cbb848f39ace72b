//! What programs write and read, at both ends, by every system call.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod observed;

use observed::{Running, SocketPath, Traffic, backends, observe, settings};
use spandrel_model::Direction::{Egress, Ingress};
use spandrel_probes::{Backend, BackendChoice};

#[test]
fn every_system_call_gives_its_bytes_at_both_ends() {
    for backend in backends() {
        let seen = observe(settings(backend), "variants");
        let (client, server) = seen.pair(0);
        let expected = [
            "write",
            "writev",
            "sendto",
            "sendmsg",
            "sendmmsg",
            "10240 bytes",
            "11005 bytes",
        ];
        assert_eq!(
            seen.texts(client.connection, Egress),
            expected,
            "{backend:?}"
        );
        let read = seen.texts(server.connection, Ingress);
        assert_eq!(read[..5], expected[..5], "{backend:?}");
        let sent = seen.messages(client.connection, Egress);
        let received = seen.messages(server.connection, Ingress);
        let total = |messages: &[&spandrel_model::Message]| messages.last().unwrap().end();
        assert_eq!(total(&sent), total(&received));
        for message in sent.iter().chain(&received) {
            assert_eq!(message.process.tgid, seen.pid);
            assert_eq!(message.payload.len(), message.length.min(4096) as usize);
        }
        let big: Vec<u8> = (0..=255).cycle().take(10240).collect();
        assert_eq!(sent[5].payload, big[..4096]);
        assert_eq!(sent[5].tail, big[10240 - 32..]);
        let vectored = [vec![b't'; 27], b"0\r\n\r\n".to_vec()].concat();
        assert_eq!(sent[6].payload, vec![b'h'; 4096]);
        assert_eq!(sent[6].tail, vectored);
        assert_eq!(received.last().unwrap().tail, vectored);
    }
}

#[test]
fn several_messages_in_one_call_are_told_apart() {
    for backend in backends() {
        let seen = observe(settings(backend), "multiple");
        let (client, server) = seen.pair(0);
        let expected = [
            "first", "second!", "first", "second!", "first", "first", "second!", "answer", "more",
        ];
        assert_eq!(
            seen.texts(client.connection, Egress),
            expected,
            "{backend:?}"
        );
        let read = seen.texts(server.connection, Ingress);
        let several = &read[read.len() - 5..];
        assert_eq!(several, ["an", "swe", "r", "mor", "e"], "{backend:?}");
    }
}

/// It may be within a call when the capture begins, so its messages have no bytes until a call has surely ended.
#[test]
fn an_older_threads_messages_count_from_the_first_call_that_surely_ended() {
    for backend in backends() {
        let mut traffic = Traffic::start("multiple_older", "");
        traffic.until_ready();
        let running = Running::start(settings(backend));
        traffic.go();
        let seen = running.finish(traffic);
        let (client, _) = seen.pair(0);
        let expected = match backend {
            BackendChoice::Syscall => ["first", "second!", "first", "first", "second!"],
            _ => ["5 bytes", "7 bytes", "5 bytes", "first", "second!"],
        };
        assert_eq!(
            seen.texts(client.connection, Egress),
            expected,
            "{backend:?}"
        );
    }
}

const RECEIVES: &str = "bytes that io_uring receives";
const SENDS: &str = "bytes that io_uring sends";

/// Backend `syscall` sees io_uring from kernel 6.3 on.
fn sees_uring(seen: &observed::Seen) -> bool {
    seen.status.backend != Backend::Syscall || seen.has("messages of io_uring")
}

/// Without what the kernel needs for it, a message has its length, or leaves a gap.
fn of_uring(seen: &observed::Seen, bytes: &str, text: &str) -> String {
    match (sees_uring(seen), seen.has(bytes)) {
        (false, _) => format!("<{}>", text.len()),
        (true, true) => text.to_owned(),
        (true, false) => format!("{} bytes", text.len()),
    }
}

/// Whether the kernel is at least this new.
fn since(version: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= version
}

#[test]
fn io_uring_gives_its_bytes_and_what_follows_is_in_its_place() {
    for backend in backends() {
        let seen = observe(settings(backend), "uring");
        if cfg!(target_arch = "x86_64") && sees_uring(&seen) {
            assert!(seen.has(RECEIVES) && seen.has(SENDS), "{:?}", seen.status);
        }
        assert!(sees_uring(&seen) || !since((6, 3)), "{:?}", seen.status);
        let (client, server) = seen.pair(0);
        let text = "u".repeat(1000);
        for (end, direction, bytes) in [(client, Egress, SENDS), (server, Ingress, RECEIVES)] {
            assert_eq!(
                seen.texts(end.connection, direction),
                [of_uring(&seen, bytes, &text), "behind".to_owned()],
                "{backend:?}"
            );
        }
    }
}

/// By the place of each byte, so that one from another place of a packet is not taken for it.
fn counted(positions: std::ops::Range<u64>) -> Vec<u8> {
    positions
        .map(|n| ((n * 2_654_435_761) >> 13) as u8)
        .collect()
}

#[test]
fn what_io_uring_reads_of_packets_are_the_bytes_at_their_places() {
    for backend in backends() {
        let seen = observe(settings(backend), "uring_pieces");
        let (_, server) = seen.pair(0);
        let read = seen.messages(server.connection, Ingress);
        if !sees_uring(&seen) {
            assert!(read.is_empty());
            continue;
        }
        let all: u64 = read.iter().map(|message| u64::from(message.length)).sum();
        assert_eq!(all, 200_000, "{backend:?}");
        assert!(read.iter().any(|message| message.length > 4096));
        for message in read {
            if !seen.has(RECEIVES) {
                assert!(message.payload.is_empty() && message.tail.is_empty());
                continue;
            }
            let (begin, end) = (message.position, message.end());
            let copied = message.payload.len();
            assert!(
                copied >= message.length.min(4096) as usize
                    && message.payload == counted(begin..begin + copied as u64),
                "{backend:?}: {copied} bytes of {} at {begin}",
                message.length
            );
            let tail = message.tail.len() as u64;
            assert!(
                message.tail == counted(end - tail..end)
                    && (tail == 32 || copied as u32 + 32 > message.length),
                "{backend:?}: {tail} bytes before {end}"
            );
        }
    }
}

#[test]
fn unix_streams_by_io_uring_give_their_bytes() {
    for backend in backends() {
        let mut settings = settings(backend);
        settings.unix_sockets = true;
        let seen = observe(settings, "uring_unix");
        let texts = |direction| -> Vec<String> {
            let messages = seen.events.iter().filter_map(|event| match event {
                spandrel_model::Event::Message(message) => Some(message),
                _ => None,
            });
            messages
                .filter(|message| {
                    message.process.tgid == seen.pid && message.direction == direction
                })
                .map(
                    |message| match message.payload.len() == message.length as usize {
                        true => String::from_utf8_lossy(&message.payload).into_owned(),
                        false => format!("{} bytes", message.length),
                    },
                )
                .collect()
        };
        let (one, other) = ("u".repeat(400), "v".repeat(600));
        let mut sent = vec![of_uring(
            &seen,
            "requests of io_uring",
            &format!("{one}{other}"),
        )];
        let mut read = vec![
            of_uring(&seen, RECEIVES, &one),
            of_uring(&seen, RECEIVES, &other),
        ];
        // Positions on Unix streams are sums of what was seen: what was not leaves no gap.
        sent.retain(|_| sees_uring(&seen));
        read.retain(|_| sees_uring(&seen));
        sent.push("behind".to_owned());
        read.push("behind".to_owned());
        assert_eq!(texts(Egress), sent, "{backend:?}");
        assert_eq!(texts(Ingress), read, "{backend:?}");
    }
}

#[test]
fn what_io_uring_reads_on_the_way_out_of_a_call_has_its_own_bytes_and_not_those_of_that_call() {
    for backend in backends() {
        let seen = observe(settings(backend), "uring_meanwhile");
        let (_, server) = seen.pair(0);
        let mut expected = vec![of_uring(&seen, RECEIVES, &"u".repeat(300))];
        // Nothing comes behind it that would show a gap.
        expected.retain(|_| sees_uring(&seen));
        assert_eq!(
            seen.texts(server.connection, Ingress),
            expected,
            "{backend:?}"
        );
        let (_, other) = seen.pair(1);
        assert_eq!(
            seen.texts(other.connection, Ingress),
            ["other"],
            "{backend:?}"
        );
    }
}

#[test]
fn peeked_bytes_do_not_count_and_discarded_ones_count_without_content() {
    for backend in backends() {
        let seen = observe(settings(backend), "peek");
        let (_, server) = seen.pair(0);
        let read = seen.texts(server.connection, Ingress);
        assert_eq!(read, ["peeked", "9 bytes", "after"], "{backend:?}");
    }
}

#[test]
fn descriptors_may_be_doubled_inherited_and_reused() {
    for backend in backends() {
        let seen = observe(settings(backend), "descriptors");
        let (client, _) = seen.pair(0);
        assert_eq!(
            seen.texts(client.connection, Egress),
            ["own", "dup", "fork"],
            "{backend:?}"
        );
        let child = seen
            .said
            .iter()
            .find_map(|said| said["child"].as_u64())
            .unwrap();
        let sent = seen.messages(client.connection, Egress);
        assert_eq!(u64::from(sent[2].process.tgid), child);
        assert!(seen.said.iter().any(|said| said["reused"] == true));
        let (again, _) = seen.pair(1);
        assert_ne!(again.connection, client.connection);
        assert_eq!(
            seen.texts(again.connection, Egress),
            ["again"],
            "{backend:?}"
        );
    }
}

#[test]
fn sendfile_counts_and_what_is_sent_after_it_is_in_its_place() {
    for backend in backends() {
        let seen = observe(settings(backend), "sendfile");
        let (client, _) = seen.pair(0);
        let sent = seen.messages(client.connection, Egress);
        let file: u32 = sent[..sent.len() - 1]
            .iter()
            .map(|message| message.length)
            .sum();
        assert_eq!(file, 1000, "{backend:?}");
        assert!(
            sent[..sent.len() - 1]
                .iter()
                .all(|message| message.payload.is_empty())
        );
        let last = sent.last().unwrap();
        assert_eq!((last.position, &last.payload[..]), (1000, &b"behind"[..]));
    }
}

#[test]
fn unix_streams_are_seen_where_asked_for() {
    for backend in backends() {
        let path = SocketPath::new("seen", backend);
        let mut settings = settings(backend);
        settings.unix_sockets = true;
        let seen = Running::start(settings).finish(Traffic::start("unix", &path.text()));
        let endpoint = spandrel_model::Endpoint::Path(path.text());
        let opened = |server: bool| {
            seen.events
                .iter()
                .find_map(|event| match event {
                    spandrel_model::Event::ConnectionOpened(opened)
                        if endpoint == *(if server { &opened.local } else { &opened.peer }) =>
                    {
                        Some(opened)
                    }
                    _ => None,
                })
                .unwrap()
        };
        let (client, server) = (opened(false), opened(true));
        assert_eq!(client.role, Some(spandrel_model::Role::Client));
        assert_eq!(server.role, Some(spandrel_model::Role::Server));
        assert_eq!(
            seen.texts(client.connection, Egress),
            ["over a path"],
            "{backend:?}"
        );
        assert_eq!(seen.texts(server.connection, Ingress), ["over a path"]);
        assert_eq!(seen.texts(server.connection, Egress), ["back"]);
    }
}

#[test]
fn waiting_data_has_its_arrival_and_the_rest_of_a_queue_has_none() {
    for backend in backends() {
        let seen = observe(settings(backend), "queue");
        let (client, server) = seen.pair(0);
        let read = seen.messages(server.connection, Ingress);
        let sent = seen.messages(client.connection, Egress);
        assert_eq!(
            seen.texts(server.connection, Ingress),
            ["1234", "5678", "next"]
        );
        assert_eq!(read[1].arrived, None, "{backend:?}");
        let started = sent[0].started;
        assert_eq!(
            started.is_some(),
            seen.has("start of sends"),
            "{backend:?}: {:?}",
            seen.status
        );
        if !seen.has("arrival of received data") {
            assert!(read.iter().all(|message| message.arrived.is_none()));
            continue;
        }
        let arrived = read[0].arrived.unwrap();
        let waited = read[0].stamp.time.since(arrived);
        assert!(waited >= 50_000_000, "{backend:?}: {waited} ns");
        assert!(started.is_none_or(|started| arrived >= started));
        assert!(read[2].arrived.unwrap() > read[1].stamp.time);
    }
}

#[test]
fn what_waited_has_arrived_when_its_first_segment_did() {
    for backend in backends() {
        let seen = observe(settings(backend), "two_arrivals");
        let (_, server) = seen.pair(0);
        assert_eq!(seen.texts(server.connection, Ingress), ["firstlast"]);
        let read = seen.messages(server.connection, Ingress);
        if seen.has("arrival of received data") {
            // 150 ms after the first one, 50 ms after the last one.
            let waited = read[0].stamp.time.since(read[0].arrived.unwrap());
            assert!(waited >= 150_000_000, "{backend:?}: {waited} ns");
        }
    }
}
