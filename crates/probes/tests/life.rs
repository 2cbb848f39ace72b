//! The life of connections and processes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod observed;

use observed::{Running, Seen, SocketPath, Traffic, backends, observe, settings};
use spandrel_model::Direction::{Egress, Ingress};
use spandrel_model::{ConnectionClosed, ConnectionId, Event, Origin, Role};
use spandrel_probes::{BackendChoice, Verdict};

fn closed(seen: &Seen, id: ConnectionId) -> &ConnectionClosed {
    let mut found = seen.events.iter().filter_map(|event| match event {
        Event::ConnectionClosed(closed) if closed.connection == id => Some(closed),
        _ => None,
    });
    let closed = found.next().expect("the close of a connection");
    assert!(found.next().is_none(), "closed twice");
    let after = seen.events.iter().rev().find(|event| match event {
        Event::Message(message) => message.connection == id,
        _ => false,
    });
    assert!(
        after.is_none_or(|last| last.stamp() < closed.stamp),
        "{after:?} after the close"
    );
    closed
}

fn half_closed(seen: &Seen, id: ConnectionId) -> Vec<spandrel_model::Direction> {
    seen.events
        .iter()
        .filter_map(|event| match event {
            Event::ConnectionHalfClosed(half) if half.connection == id => Some(half.direction),
            _ => None,
        })
        .collect()
}

#[test]
fn both_ends_of_a_connection_know_their_role_and_each_other() {
    for backend in backends() {
        for (scenario, text, ip) in [
            ("ipv6", "six", "::1"),
            ("mapped", "four in six", "127.0.0.1"),
        ] {
            let seen = observe(settings(backend), scenario);
            let (client, server) = seen.pair(0);
            assert_eq!(
                (client.role, server.role),
                (Some(Role::Client), Some(Role::Server))
            );
            assert_eq!((&client.local, &client.peer), (&server.peer, &server.local));
            assert_eq!(client.local.ip(), Some(ip.parse().unwrap()), "{backend:?}");
            assert_eq!(client.process.unwrap().tgid, seen.pid);
            assert_eq!(
                (client.origin, server.origin),
                (Origin::Observed, Origin::Observed)
            );
            assert!(client.connect_started.unwrap() < client.stamp.time);
            assert_eq!(client.netns, server.netns);
            assert_eq!(
                seen.texts(server.connection, Ingress),
                [text],
                "{backend:?}"
            );
        }
    }
}

#[test]
fn a_connection_that_ends_by_fins_is_not_reset_and_one_with_a_reset_is() {
    for backend in backends() {
        let seen = observe(settings(backend), "ends");
        let (client, server) = seen.pair(0);
        assert_eq!(
            half_closed(&seen, client.connection)[0],
            Egress,
            "{backend:?}"
        );
        assert_eq!(
            half_closed(&seen, server.connection),
            [Ingress, Egress],
            "{backend:?}"
        );
        let end = closed(&seen, client.connection);
        assert_eq!(
            (end.reset, end.egress_bytes, end.ingress_bytes),
            (false, 4, 5)
        );
        let end = closed(&seen, server.connection);
        assert_eq!(
            (end.reset, end.egress_bytes, end.ingress_bytes),
            (false, 5, 4)
        );
        let (client, server) = seen.pair(1);
        assert!(closed(&seen, client.connection).reset, "{backend:?}");
        assert!(closed(&seen, server.connection).reset, "{backend:?}");
    }
}

#[test]
fn what_is_read_after_the_last_fin_comes_before_the_close() {
    for backend in backends() {
        let seen = observe(settings(backend), "late");
        let (client, _) = seen.pair(0);
        assert_eq!(
            seen.texts(client.connection, Ingress),
            ["unread"],
            "{backend:?}"
        );
        assert_eq!(closed(&seen, client.connection).ingress_bytes, 6);
    }
}

#[test]
fn a_socket_that_connects_again_is_another_connection_from_its_first_byte() {
    for backend in backends() {
        let seen = observe(settings(backend), "again");
        let (first, _) = seen.pair(0);
        let (second, _) = seen.pair(1);
        assert_ne!(first.connection, second.connection, "{backend:?}");
        for (end, sent, read) in [(first, "one", "first"), (second, "another", "second")] {
            assert_eq!(
                (end.role, end.origin),
                (Some(Role::Client), Origin::Observed)
            );
            assert_eq!(seen.texts(end.connection, Egress), [sent], "{backend:?}");
            assert_eq!(seen.texts(end.connection, Ingress), [read], "{backend:?}");
            let end = closed(&seen, end.connection);
            assert_eq!(end.egress_bytes, sent.len() as u64, "{backend:?}");
            assert_eq!(end.ingress_bytes, read.len() as u64, "{backend:?}");
        }
    }
}

#[test]
fn what_a_waiting_thread_had_written_comes_before_the_close() {
    for backend in backends() {
        let seen = observe(settings(backend), "shut_while_writing");
        let (client, _) = seen.pair(0);
        let sent = seen.said.iter().find_map(|said| said["sent"].as_u64());
        let end = closed(&seen, client.connection);
        assert_eq!(Some(end.egress_bytes), sent, "{backend:?}");
        let told = seen.messages(client.connection, Egress);
        let told: u64 = told.iter().map(|message| u64::from(message.length)).sum();
        assert_eq!(Some(told), sent, "{backend:?}");
    }
}

#[test]
fn connections_older_than_the_capture_are_announced_at_its_start() {
    for backend in backends() {
        let mut traffic = Traffic::start("existing", "");
        traffic.until_ready();
        let port = traffic.said[0]["port"].as_u64().unwrap() as u16;
        let mut running = Running::start(settings(backend));
        running.await_event(
            |event| matches!(event, Event::ConnectionOpened(opened) if opened.local.port() == Some(port)),
        );
        traffic.go();
        let seen = running.finish(traffic);
        let (client, server) = seen.pair(0);
        assert_eq!(
            (client.origin, server.origin),
            (Origin::PreExisting, Origin::PreExisting)
        );
        assert_eq!(
            seen.texts(client.connection, Egress),
            ["question"],
            "{backend:?}"
        );
        assert_eq!(
            seen.texts(client.connection, Ingress),
            ["answer"],
            "{backend:?}"
        );
        assert_eq!(seen.texts(server.connection, Ingress), ["question"]);
    }
}

#[test]
fn a_process_is_reported_when_it_executes_and_when_it_exits() {
    for backend in backends() {
        let seen = observe(settings(backend), "ipv6");
        let started = seen.events.iter().find_map(|event| match event {
            Event::ProcessStarted(started) if started.process.tgid == seen.pid => Some(started),
            _ => None,
        });
        let started = started.expect("the child's start");
        assert_eq!(started.filename.as_deref(), Some("/usr/bin/python3"));
        // What that is a link to, as /proc shows it.
        let executable = std::fs::canonicalize("/usr/bin/python3").unwrap();
        let name = executable.file_name().unwrap().to_str();
        assert_eq!(started.executable.as_deref(), name);
        assert!(started.comm.starts_with("python3"), "{started:?}");
        assert_eq!(started.parent, std::process::id());
        assert!(seen.events.iter().any(|event| matches!(
            event,
            Event::ProcessExited(exited) if exited.process == started.process
        )));
        let (client, _) = seen.pair(0);
        assert_eq!(
            client.process,
            Some(started.process),
            "one key for one process"
        );
    }
}

/// The kernel tells no beginning of a Unix stream either.
#[test]
fn only_unix_streams_that_began_after_the_capture_are_observed_from_their_first_byte() {
    for backend in backends() {
        let path = SocketPath::new("origins", backend);
        let mut traffic = Traffic::start("unix_origins", &path.text());
        traffic.until_ready();
        let mut settings = settings(backend);
        settings.unix_sockets = true;
        let running = Running::start(settings);
        traffic.go();
        let seen = running.finish(traffic);
        // Who sends this text first, and who reads it.
        let ends = |text: &str| {
            [Egress, Ingress].map(|direction| {
                let message = seen.events.iter().find_map(|event| match event {
                    Event::Message(message)
                        if message.process.tgid == seen.pid
                            && message.direction == direction
                            && message.payload == text.as_bytes() =>
                    {
                        Some(message)
                    }
                    _ => None,
                });
                let id = message.expect(text).connection;
                let opened = seen.events.iter().find_map(|event| match event {
                    Event::ConnectionOpened(opened) if opened.connection == id => Some(opened),
                    _ => None,
                });
                let opened = opened.expect("the announcement of a connection");
                (opened.origin, opened.role)
            })
        };
        let older =
            [Some(Role::Client), Some(Role::Server)].map(|role| (Origin::PreExisting, role));
        let newer = [Some(Role::Client), Some(Role::Server)].map(|role| (Origin::Observed, role));
        assert_eq!(ends("old"), older, "{backend:?}");
        assert_eq!(ends("bound"), newer, "{backend:?}");
        assert_eq!(
            ends("old pair"),
            [(Origin::PreExisting, None); 2],
            "{backend:?}"
        );
        let [client, server] = ends("accepted");
        assert_eq!(client, older[0], "{backend:?}: it has sent before");
        // What the accepting end reads is all seen, but only some backends see that it is accepted.
        let pair = if backend == BackendChoice::Syscall {
            assert_eq!(server, newer[1]);
            Origin::Observed
        } else {
            assert_eq!(server, older[1]);
            Origin::PreExisting
        };
        assert_eq!(ends("pair"), [(pair, None); 2], "{backend:?}");
    }
}

/// The kernel tells no end of a Unix stream.
#[test]
fn a_unix_stream_whose_end_was_read_is_closed_at_both_ends() {
    for backend in backends() {
        let mut settings = settings(backend);
        settings.unix_sockets = true;
        let seen = observe(settings, "unix_ended");
        let mut ends = Vec::new();
        for event in &seen.events {
            if let Event::Message(message) = event
                && message.process.tgid == seen.pid
                && !ends.contains(&message.connection)
            {
                ends.push(message.connection);
            }
        }
        assert_eq!(ends.len(), 4, "{backend:?}");
        let shut = [Egress, Ingress].map(|direction| vec![direction]);
        for (id, direction) in ends[2..].iter().zip(shut) {
            assert_eq!(half_closed(&seen, *id), direction, "{backend:?}");
        }
        for id in ends {
            let closed = closed(&seen, id);
            let sent = seen.messages(id, Egress);
            assert!(
                !closed.reset && closed.ingress_bytes <= 6,
                "{backend:?}: {closed:?}"
            );
            // Of the end that closed first nothing is known but that it did.
            let known = sent.last().map_or(0, |message| message.end());
            assert!(
                closed.egress_bytes == 0 || closed.egress_bytes == known,
                "{closed:?}"
            );
        }
    }
}

#[test]
fn a_process_is_asked_about_while_its_events_wait_and_not_once_it_is_decided_about() {
    for (backend, decided) in backends()
        .into_iter()
        .flat_map(|it| [(it, false), (it, true)])
    {
        // Nobody receives anything before the end.
        let running = Running::start(settings(backend));
        let mut asks = running.capture.asks().unwrap();
        let mut traffic = Traffic::start("existing", "");
        traffic.until_ready();
        let pid = traffic.child.id();
        let mut about = || -> Vec<_> {
            let asks = asks.by_ref();
            asks.filter(|it| it.process.tgid == pid).collect()
        };
        let executed = about();
        assert!(executed[0].executed, "{executed:?}");
        if decided {
            let control = running.control();
            control.set_process(pid, Verdict::Allow).unwrap();
        }
        traffic.go();
        let seen = running.finish(traffic);
        let with_messages = about();
        assert_eq!(
            with_messages.is_empty(),
            decided,
            "{backend:?}: {with_messages:?}"
        );
        assert!(with_messages.iter().all(|it| !it.executed));
        let started = seen.events.iter().find_map(|event| match event {
            Event::ProcessStarted(it) if it.process.tgid == pid => Some(it),
            _ => None,
        });
        let started = started.unwrap();
        assert_eq!(started.stamp.time, executed[0].time, "{backend:?}");
        assert_eq!(started.process, executed[0].process, "{backend:?}");
    }
}
