//! Positions are those of the connection's stream, whatever was not seen of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod observed;

use observed::{Running, SocketPath, Traffic, backends, observe, settings};
use spandrel_model::Direction::{Egress, Ingress};
use spandrel_probes::BackendChoice;

#[test]
fn what_is_read_by_splice_has_its_length_and_its_place() {
    for backend in backends() {
        let seen = observe(settings(backend), "splice");
        let (client, server) = seen.pair(0);
        let read = seen.texts(server.connection, Ingress);
        assert_eq!(read[0], "head", "{backend:?}");
        assert_eq!(read[read.len() - 2..], ["next", "40 bytes"], "{backend:?}");
        let read = seen.messages(server.connection, Ingress);
        assert_eq!(read[read.len() - 2].position, 1004, "{backend:?}");
        assert!(read.iter().all(|message| message.unseen == 0));
        let end = seen.closed(server.connection);
        assert_eq!((end.ingress_bytes, end.reset), (1048, false), "{backend:?}");
        assert_eq!(seen.closed(client.connection).egress_bytes, 1048);
    }
}

#[test]
fn what_is_read_by_splice_of_a_unix_stream_moves_what_follows() {
    for backend in backends() {
        let path = SocketPath::new("splice", backend);
        let mut settings = settings(backend);
        settings.unix_sockets = true;
        let seen = Running::start(settings).finish(Traffic::start("unix_splice", &path.text()));
        let reader = seen.events.iter().find_map(|event| match event {
            spandrel_model::Event::Message(message)
                if message.direction == Ingress && message.process.tgid == seen.pid =>
            {
                Some(message.connection)
            }
            _ => None,
        });
        let spliced = match backend {
            BackendChoice::Syscall => "1000 bytes",
            _ => "<1000>",
        };
        let once = ["head", spliced, "ne", "xt", "waits"];
        let read = seen.texts(reader.unwrap(), Ingress);
        assert_eq!(read, [once, once].concat(), "{backend:?}");
    }
}

#[test]
fn a_read_without_a_copy_moves_what_follows() {
    for backend in backends() {
        let seen = observe(settings(backend), "zero_copy");
        let (_, server) = seen.pair(0);
        let expected = match backend {
            BackendChoice::Socket => ["head", "3000 bytes", "next"],
            _ => ["head", "<3000>", "next"],
        };
        let read = seen.texts(server.connection, Ingress);
        assert_eq!(read, expected, "{backend:?}");
        assert_eq!(seen.closed(server.connection).ingress_bytes, 3008);
    }
}

#[test]
fn an_end_that_is_read_with_the_last_bytes_is_no_byte() {
    for backend in backends() {
        let seen = observe(settings(backend), "last_and_fin");
        for (n, expected, bytes) in [(0, &["whole"][..], 5), (1, &["in ", "two"], 6)] {
            let (client, server) = seen.pair(n);
            let read = seen.texts(client.connection, Ingress);
            assert_eq!(read, expected, "{backend:?}");
            assert_eq!(seen.closed(client.connection).ingress_bytes, bytes);
            assert_eq!(seen.closed(server.connection).egress_bytes, bytes);
        }
    }
}

#[test]
fn a_connection_that_is_aborted_counts_what_was_read_and_written() {
    for backend in backends() {
        let seen = observe(settings(backend), "aborted");
        let (client, server) = seen.pair(0);
        let end = seen.closed(client.connection);
        assert_eq!((end.egress_bytes, end.ingress_bytes), (8, 0), "{backend:?}");
        let end = seen.closed(server.connection);
        assert_eq!((end.egress_bytes, end.ingress_bytes), (6, 8), "{backend:?}");
    }
}

#[test]
fn a_reset_after_this_ends_own_fin_is_a_reset() {
    for backend in backends() {
        let seen = observe(settings(backend), "reset_after_fin");
        let (client, _) = seen.pair(0);
        assert!(seen.closed(client.connection).reset, "{backend:?}");
    }
}

#[test]
fn data_that_comes_with_a_syn_is_the_first() {
    for backend in backends() {
        let seen = observe(settings(backend), "with_syn");
        let acknowledged = seen
            .said
            .iter()
            .find_map(|said| said["acknowledged"].as_bool());
        assert_eq!(acknowledged, Some(true), "the SYN carried data");
        let (client, server) = seen.pair(0);
        for (end, direction) in [(client, Egress), (server, Ingress)] {
            let texts = seen.texts(end.connection, direction);
            assert_eq!(texts, ["early", "later"], "{backend:?}");
        }
        for (end, direction) in [(client, Ingress), (server, Egress)] {
            let texts = seen.texts(end.connection, direction);
            assert_eq!(texts, ["answer"], "{backend:?}");
        }
        assert_eq!(server.origin, spandrel_model::Origin::Observed);
        assert_eq!(server.role, Some(spandrel_model::Role::Server));
    }
}

#[test]
fn messages_of_two_threads_on_one_socket_have_the_places_of_their_bytes() {
    for backend in backends() {
        let seen = observe(settings(backend), "two_senders");
        let (client, _) = seen.pair(0);
        let said = seen.said.iter().find(|said| said.get("order").is_some());
        let order = said.unwrap()["order"].as_array().unwrap();
        let size = said.unwrap()["size"].as_u64().unwrap();
        let sent = seen.messages(client.connection, Egress);
        assert_eq!(sent.len(), order.len(), "{backend:?}");
        let wrong = sent
            .iter()
            .filter(|message| {
                let place = (message.position / size) as usize;
                message.position % size != 0
                    || !message
                        .payload
                        .starts_with(order[place].as_str().unwrap().as_bytes())
            })
            .count();
        if seen.has("start of sends") {
            assert_eq!(wrong, 0, "{backend:?}: of {}", sent.len());
        }
        assert!(wrong * 100 <= sent.len(), "{backend:?}: {wrong}");
    }
}

#[test]
fn an_older_connection_counts_from_what_is_read_and_written_next() {
    for backend in backends() {
        let mut traffic = Traffic::start("older", "");
        traffic.until_ready();
        let running = Running::start(settings(backend));
        traffic.go();
        let seen = running.finish(traffic);
        let (client, server) = seen.pair(0);
        let read = seen.texts(server.connection, Ingress);
        assert_eq!(read, [" read", "question"], "{backend:?}");
        assert_eq!(seen.texts(client.connection, Ingress), ["answer"]);
        assert_eq!(seen.texts(client.connection, Egress), ["question"]);
        let end = seen.closed(server.connection);
        assert_eq!(
            (end.ingress_bytes, end.egress_bytes),
            (13, 6),
            "{backend:?}"
        );
    }
}

#[test]
fn urgent_data_is_a_gap_for_who_reads_and_a_message_for_who_writes() {
    for backend in backends() {
        let seen = observe(settings(backend), "urgent");
        let (client, server) = seen.pair(0);
        let sent = seen.texts(client.connection, Egress);
        assert_eq!(sent, ["before", "!", "behind"], "{backend:?}");
        let read = seen.texts(server.connection, Ingress);
        assert_eq!(read, ["before", "<1>", "behind"], "{backend:?}");
    }
}

/// The kernel's numbers are not those of the program's bytes there.
#[test]
fn positions_of_a_socket_whose_bytes_the_kernel_changes_are_counted_and_say_so() {
    for backend in backends() {
        let seen = observe(settings(backend), "sockmap");
        let (client, server) = seen.pair(0);
        let sent = seen.texts(client.connection, Egress);
        assert_eq!(sent, ["first", "second"], "{backend:?}");
        let sent = seen.messages(client.connection, Egress);
        assert!(sent[1].flags.counted, "{backend:?}: {sent:?}");
        assert_eq!(seen.closed(client.connection).egress_bytes, 11);
        assert_eq!(seen.closed(server.connection).ingress_bytes, 27);
        let read = seen.messages(server.connection, Ingress);
        assert!(read.iter().all(|message| !message.flags.counted));
    }
}
