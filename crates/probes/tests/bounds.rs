//! What is left out on purpose, and what is lost under overload: all of it counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod observed;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use observed::cgroup::{Cgroup, Version};
use observed::{Running, Traffic, backends, observe, settings};
use spandrel_model::Direction::{Egress, Ingress};
use spandrel_model::{CapturePolicy, ConnectionId, Event, Origin};
use spandrel_probes::cgroup::version1;
use spandrel_probes::{BackendChoice, CaptureSettings, Verdict};

#[test]
fn a_denied_process_is_counted_and_not_shown() {
    for backend in backends() {
        let running = Running::start(settings(backend));
        let mut traffic = Traffic::start("denied", "");
        traffic.until_ready();
        let pid = traffic.child.id();
        running.control().set_process(pid, Verdict::Deny).unwrap();
        traffic.go();
        traffic.until_ready();
        running.control().set_process(pid, Verdict::Allow).unwrap();
        traffic.go();
        let seen = running.finish(traffic);
        let texts: Vec<_> = seen
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Message(message) if message.process.tgid == pid => Some((
                    message.direction,
                    message.position,
                    message.payload.to_vec(),
                )),
                _ => None,
            })
            .collect();
        // "two" is not shown, and the position of "three" tells that it was there.
        assert_eq!(
            texts,
            [
                (Egress, 0, b"one".to_vec()),
                (Ingress, 0, b"one".to_vec()),
                (Egress, 6, b"three".to_vec()),
                (Ingress, 6, b"three".to_vec()),
            ],
            "{backend:?}"
        );
        assert!(seen.counters.drops["kernel.process_denied"] >= 2);
    }
}

#[test]
fn what_is_decided_about_a_program_does_not_hold_for_the_next_one() {
    for backend in backends() {
        let running = Running::start(settings(backend));
        let mut traffic = Traffic::start("replaced", "");
        traffic.until_ready();
        let pid = traffic.child.id();
        running.control().set_process(pid, Verdict::Deny).unwrap();
        traffic.go();
        let seen = running.finish(traffic);
        let sent: Vec<_> = seen
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Message(message)
                    if message.process.tgid == pid && message.direction == Egress =>
                {
                    Some((message.position, message.payload.to_vec()))
                }
                _ => None,
            })
            .collect();
        // Both "two" are not shown.
        assert_eq!(
            sent,
            [(0, b"one".to_vec()), (9, b"three".to_vec())],
            "{backend:?}"
        );
        assert!(seen.counters.drops["kernel.process_denied"] >= 4);
    }
}

#[test]
fn a_connections_policy_says_how_much_is_copied() {
    for backend in backends() {
        let mut running = Running::start(settings(backend));
        let mut traffic = Traffic::start("policy", "");
        traffic.until_ready();
        let port = traffic.said[0]["port"].as_u64().unwrap() as u16;
        let pid = traffic.child.id();
        running.await_event(|event| {
            matches!(event, Event::Message(message)
            if message.process.tgid == pid && message.direction == Egress)
        });
        let id = running
            .events()
            .iter()
            .find_map(|event| match event {
                Event::ConnectionOpened(opened) if opened.peer.port() == Some(port) => {
                    Some(opened.connection)
                }
                _ => None,
            })
            .unwrap();
        let control = running.control();
        for policy in [
            Some(CapturePolicy::Headers),
            Some(CapturePolicy::Full(8192)),
            Some(CapturePolicy::Ignore),
            None,
        ] {
            if let Some(policy) = policy {
                control.set_connection(id, policy).unwrap();
            }
            traffic.go();
            if policy.is_some() {
                traffic.until_ready();
            }
        }
        let seen = running.finish(traffic);
        let sent = seen.messages(id, Egress);
        let copied: Vec<_> = sent.iter().map(|message| message.payload.len()).collect();
        assert_eq!(copied, [4096, 1024, 6000], "{backend:?}");
        let closed = seen.events.iter().find_map(|event| match event {
            Event::ConnectionClosed(closed) if closed.connection == id => Some(closed),
            _ => None,
        });
        assert_eq!(closed.unwrap().egress_bytes, 24_000);
        assert!(seen.counters.drops["kernel.connection_ignored"] >= 1);
    }
}

#[test]
fn a_connection_that_user_space_has_forgotten_is_announced_again_and_copied_like_a_new_one() {
    for backend in backends() {
        let mut running = Running::start(settings(backend));
        let mut traffic = Traffic::start("policy", "");
        traffic.until_ready();
        let port = traffic.said[0]["port"].as_u64().unwrap() as u16;
        let opening = |event: &Event| match event {
            Event::ConnectionOpened(opened) if opened.peer.port() == Some(port) => {
                Some(opened.connection)
            }
            _ => None,
        };
        running.await_event(|event| opening(event).is_some());
        let id = running.events().iter().find_map(opening).unwrap();
        let control = running.control();
        let decisions = [CapturePolicy::Headers, CapturePolicy::Forgotten];
        for round in 0..4 {
            if let Some(policy) = decisions.get(round) {
                control.set_connection(id, *policy).unwrap();
            }
            traffic.go();
            if round < 3 {
                traffic.until_ready();
            }
        }
        let seen = running.finish(traffic);
        let sent = seen.messages(id, Egress);
        let told: Vec<_> = sent
            .iter()
            .map(|message| (message.position, message.payload.len()))
            .collect();
        let expected = [(0, 4096), (6000, 1024), (12_000, 4096), (18_000, 4096)];
        assert_eq!(told, expected, "{backend:?}");
        let announced: Vec<_> = seen
            .events
            .iter()
            .filter_map(|event| match event {
                Event::ConnectionOpened(opened) if opened.connection == id => Some(opened),
                _ => None,
            })
            .collect();
        let [before, again] = announced[..] else {
            panic!("{backend:?}: {announced:?}");
        };
        assert_eq!(before.origin, Origin::Observed);
        assert_eq!(again.origin, Origin::PreExisting);
        assert!(again.stamp.time <= sent[2].stamp.time);
        assert_eq!(
            (&before.local, &before.peer, before.role),
            (&again.local, &again.peer, again.role),
            "{backend:?}"
        );
    }
}

/// A ring of this size, and messages of undecided processes without a bound: what is lost is lost to the ring or the rate.
fn flooded(backend: BackendChoice, ring_bytes: u32, a_second: u64) -> CaptureSettings {
    CaptureSettings {
        ring_buffer_bytes: ring_bytes,
        unknown_messages: u32::MAX,
        cgroup_messages_per_second: a_second,
        ..settings(backend)
    }
}

#[test]
fn an_overloaded_ring_loses_messages_and_counts_each() {
    for backend in backends() {
        let settings = flooded(backend, 64 << 10, 0);
        // Nothing is received until the child has ended: the hand-over fills, then the ring, then messages are lost.
        let running = Running::with_sink(settings, 1);
        let seen = running.finish(Traffic::start("flood", ""));
        assert!(seen.counters.seen >= 40_000, "{:?}", seen.counters);
        assert!(
            seen.counters.drops["kernel.ring_full"] > 30_000,
            "{:?}",
            seen.counters
        );
        for event in &seen.events {
            if let Event::Message(message) = event
                && message.process.tgid == seen.pid
                && message.direction == Egress
            {
                assert_eq!(message.position % 2000, 0, "positions count what was lost");
            }
        }
    }
}

/// A close that was lost would leave its connection open for user space until it forgets idle ones.
#[test]
fn the_ends_of_connections_and_processes_outlive_a_full_ring() {
    for backend in backends() {
        let settings = flooded(backend, 64 << 10, 0);
        // Nothing is received until the child has ended, so the ring is full when it closes and exits.
        let running = Running::with_sink(settings, 1);
        let seen = running.finish(Traffic::start("flood", ""));
        assert!(seen.counters.drops["kernel.ring_full"] > 30_000);
        let (client, server) = seen.pair(0);
        for end in [client, server] {
            let place = |wanted: &dyn Fn(&Event) -> bool| seen.events.iter().rposition(wanted);
            let closed = place(&|event| {
                matches!(event, Event::ConnectionClosed(closed)
                    if closed.connection == end.connection
                        && closed.ingress_bytes + closed.egress_bytes == 40_000_000)
            });
            let last = place(
                &|event| matches!(event, Event::Message(message) if message.connection == end.connection),
            );
            assert!(closed.is_some(), "{backend:?}: no close of {end:?}");
            assert!(closed > last, "{backend:?}: a message after the close");
        }
        assert!(
            seen.events.iter().any(|event| {
                matches!(event, Event::ProcessExited(exited) if exited.process.tgid == seen.pid)
            }),
            "{backend:?}: no exit"
        );
        assert_eq!(seen.counters.lost_control, 0, "{backend:?}");
    }
}

#[test]
fn a_flooding_container_loses_its_own_messages_and_not_its_neighbours() {
    tokens_are_apart(Version::Two);
}

/// In the root of version 2 they are all one container.
#[test]
fn containers_of_version_1_are_told_apart_as_well() {
    if version1().is_none() {
        eprintln!("skipped: no hierarchy of control groups of version 1 is mounted");
        return;
    }
    tokens_are_apart(Version::One);
}

fn tokens_are_apart(version: Version) {
    for backend in backends() {
        let settings = flooded(backend, 8 << 20, 150);
        let (flooding, neighbour) = (
            Cgroup::new("flood", version),
            Cgroup::new("neighbour", version),
        );
        // Nothing is received until the end: the flood fills a quarter of the ring, and then has only its tokens.
        let running = Running::with_sink(settings, 1);
        let (flood, _) = Traffic::start("flood", flooding.path()).finish();
        let calm = Traffic::start("neighbour", neighbour.path());
        let seen = running.finish(calm);
        let counters = &seen.counters;
        let of = |pid, direction| {
            seen.events.iter().filter(move |event| {
                matches!(event, Event::Message(message)
                if message.process.tgid == pid && message.direction == direction)
            })
        };
        assert_eq!(
            of(seen.pid, Egress).count(),
            50,
            "{backend:?}: {counters:?}"
        );
        assert_eq!(
            of(seen.pid, Ingress).count(),
            50,
            "{backend:?}: {counters:?}"
        );
        let shown = (of(flood, Egress).count() + of(flood, Ingress).count()) as u64;
        let lost = counters.lost_by_cgroup[&flooding.id()];
        assert!(lost > 10_000, "{backend:?}: {counters:?}");
        // The flood sends 20,000 messages; a read may give a part of one.
        assert!(shown + lost >= 40_000, "{backend:?}: {shown} {counters:?}");
        assert_eq!(counters.lost_by_cgroup.get(&neighbour.id()), None);
        assert_eq!(
            counters.lost_by_cgroup.values().sum::<u64>(),
            counters.lost_under_overload(),
            "{backend:?}: {counters:?}"
        );
        assert!(
            counters.drops["kernel.rate_limited"] >= lost,
            "{counters:?}"
        );
        assert_eq!(counters.drops.get("kernel.ring_full"), None, "{counters:?}");
    }
}

/// Also at a rate at which the time between two messages gives no whole token.
#[test]
fn a_flooding_container_keeps_the_rate_that_it_is_due() {
    for backend in backends() {
        let settings = flooded(backend, 1 << 20, 100);
        // Nothing is received until the child has ended: more than a quarter of the ring is full soon.
        let container = Cgroup::new("flood_on", Version::Two);
        let running = Running::with_sink(settings, 1);
        let seen = running.finish(Traffic::start("flood_on", container.path()));
        let full = seen.said.iter().find_map(|said| said["full_ns"].as_u64());
        let full = full.expect("when the child had sent enough to fill it");
        let later = seen.events.iter().filter(|event| {
            matches!(event, Event::Message(message)
                if message.process.tgid == seen.pid && message.stamp.time.0 > full)
        });
        // Three seconds follow; the tokens of the first are for what was held before.
        let shown = later.count();
        assert!(
            (100..1000).contains(&shown),
            "{backend:?}: {shown} {:?}",
            seen.counters
        );
    }
}

/// What a connection has taken and not used when it ends is lost to its container.
#[test]
fn short_connections_of_a_flooding_container_keep_its_rate_as_well() {
    for backend in backends() {
        let mut settings = settings(backend);
        settings.unknown_messages = u32::MAX;
        settings.cgroup_messages_per_second = 100;
        settings.ring_buffer_bytes = 8 << 20;
        let container = Cgroup::new("short", Version::Two);
        let running = Running::with_sink(settings, 1);
        let seen = running.finish(Traffic::start("flood_short", container.path()));
        let full = seen.said.iter().find_map(|said| said["full_ns"].as_u64());
        let full = full.expect("when the child had sent enough to fill it");
        let short = seen.events.iter().filter(|event| {
            matches!(event, Event::Message(message)
                if message.process.tgid == seen.pid && message.stamp.time.0 > full && message.length == 5)
        });
        // Each end of a connection says one thing: three seconds' tokens are 300.
        let shown = short.count();
        assert!(
            (260..1000).contains(&shown),
            "{backend:?}: {shown} {:?}",
            seen.counters
        );
        assert!(seen.counters.drops["kernel.rate_limited"] > 0);
    }
}

#[test]
fn skipped_runs_of_each_program_are_read() {
    for (backend, programs) in [
        (BackendChoice::Socket, &["socket_send", "socket_recv"][..]),
        (BackendChoice::Syscall, &["syscall_exit"]),
    ] {
        if !backends().contains(&backend) {
            continue;
        }
        let counters = observe(settings(backend), "ipv6").counters;
        let misses = &counters.recursion_misses;
        let read = |program: &str| misses.keys().any(|name| name.starts_with(program));
        assert!(programs.iter().all(|program| read(program)), "{misses:?}");
        assert!(read("tcp_state"), "{misses:?}");
    }
}

#[test]
fn a_flooding_container_is_stopped_before_the_ring_is_full() {
    for backend in backends() {
        let settings = flooded(backend, 256 << 10, 20);
        // Nothing is received until the child has ended, as in the test of the overloaded ring.
        let running = Running::with_sink(settings, 1);
        let seen = running.finish(Traffic::start("flood", ""));
        let drops = &seen.counters.drops;
        assert!(drops["kernel.rate_limited"] > 30_000, "{drops:?}");
        assert_eq!(drops.get("kernel.ring_full"), None, "{drops:?}");
    }
}

#[test]
fn a_full_table_of_connections_forgets_the_longest_idle_and_counts_them() {
    for backend in backends() {
        let mut settings = settings(backend);
        settings.connections = 1000;
        let seen = observe(settings, "many");
        let texts: Vec<_> = seen
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Message(message)
                    if message.process.tgid == seen.pid && message.direction == Egress =>
                {
                    Some(String::from_utf8_lossy(&message.payload).into_owned())
                }
                _ => None,
            })
            .collect();
        let sent = ["first", "again"].map(|word| (0..1000).map(move |n| format!("{word} {n}")));
        let sent: Vec<_> = sent.into_iter().flatten().collect();
        assert!(texts == sent, "{backend:?}: {} of 2000", texts.len());
        assert_eq!(seen.counters.drops.get("kernel.state_full"), None);
        let forgotten = seen.counters.forgotten.get("connections").copied();
        match backend {
            // 2,000 connections, of which some hundred more or less than 1,000 find room, each twice.
            BackendChoice::Syscall => {
                assert!((1500..4000).contains(&forgotten.unwrap()), "{forgotten:?}");
            }
            _ => assert_eq!(forgotten, None, "{backend:?}"),
        }
    }
}

/// What is decided about a connection comes too late for a short one; the table has room for 65,536.
#[test]
fn decisions_about_connections_that_have_ended_do_not_fill_their_table() {
    let running = Running::start(settings(backends()[0]));
    let control = running.control();
    // No socket has such a number.
    for id in (1 << 40..).map(ConnectionId).take(70_000) {
        control.set_connection(id, CapturePolicy::Headers).unwrap();
        control.end_connection(id);
    }
    let forgotten = running.capture.stop().forgotten;
    assert_eq!(forgotten.get("decisions"), None);
}

#[test]
fn a_unix_socket_at_the_address_of_an_older_one_is_another_connection() {
    for backend in backends() {
        let mut settings = settings(backend);
        settings.unix_sockets = true;
        let seen = observe(settings, "unix_again");
        let mut connections = std::collections::BTreeSet::new();
        for event in &seen.events {
            if let Event::Message(message) = event
                && message.process.tgid == seen.pid
            {
                assert_eq!(message.position, 0, "{backend:?}: {message:?}");
                assert!(
                    connections.insert(message.connection),
                    "{backend:?}: {message:?}"
                );
            }
        }
        assert_eq!(connections.len(), 400, "{backend:?}");
        if backend == BackendChoice::Syscall {
            // Their memory was used again, so the end of the older ones is told.
            let closed = seen.events.iter().filter(|event| {
                matches!(event, Event::ConnectionClosed(closed)
                if connections.contains(&closed.connection))
            });
            assert!(closed.count() > 300);
        }
    }
}

#[test]
fn an_unknown_process_is_captured_within_its_budget_of_each_second() {
    const BUDGET: usize = 100;
    const SECOND: u64 = 1_000_000_000;
    for backend in backends() {
        let mut settings = settings(backend);
        settings.unknown_messages = BUDGET as u32;
        let seen = observe(settings, "undecided");
        let shown: Vec<_> = seen
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Message(message) if message.process.tgid == seen.pid => {
                    Some(message.stamp.time.0)
                }
                _ => None,
            })
            .collect();
        assert!(
            shown.len() >= 2 * BUDGET,
            "{backend:?}: blind for ever: {shown:?}"
        );
        let within = |from: u64| {
            shown
                .iter()
                .filter(move |at| (from..from + SECOND).contains(*at))
        };
        // A message is stamped a little after it was counted: it may belong to the second before.
        let most = shown.iter().map(|from| within(*from).count()).max();
        assert!(most <= Some(2 * BUDGET), "{backend:?}: {most:?}");
        let duration = shown.last().unwrap() - shown[0];
        let seconds = (duration / SECOND + 1) as usize;
        assert!(
            shown.len() <= BUDGET * (seconds + 1),
            "{backend:?}: {}",
            shown.len()
        );
        assert!(seen.counters.drops["kernel.unknown_budget"] >= 1_000);
    }
}

#[test]
fn the_agents_own_connections_are_not_traced_at_either_end() {
    for backend in backends() {
        let running = Running::start(settings(backend));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"own").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
        let seen = running.finish(Traffic::start("ipv6", ""));
        let own = std::process::id();
        for event in &seen.events {
            match event {
                Event::Message(message) => assert_ne!(message.process.tgid, own),
                Event::ConnectionOpened(opened) => {
                    assert_ne!(opened.local.port(), Some(port), "{backend:?}");
                    assert_ne!(opened.peer.port(), Some(port), "{backend:?}");
                }
                _ => {}
            }
        }
        assert!(
            seen.counters.drops["kernel.self"] >= 2,
            "{:?}",
            seen.counters
        );
    }
}

#[test]
fn ports_are_filtered_in_the_kernel() {
    for backend in backends() {
        let mut settings = settings(backend);
        settings.ports_include = vec![1];
        let seen = observe(settings, "ipv6");
        let shown = seen.events.iter().any(
            |event| matches!(event, Event::Message(message) if message.process.tgid == seen.pid),
        );
        assert!(!shown, "{backend:?}");
        assert!(seen.counters.drops["kernel.port_filtered"] >= 2);
    }
}

#[test]
fn all_ports_may_be_filtered_in_the_kernel() {
    for backend in backends() {
        let mut settings = settings(backend);
        settings.ports_exclude = (1024..=65535).collect();
        let seen = observe(settings, "ipv6");
        let shown = seen.events.iter().any(
            |event| matches!(event, Event::Message(message) if message.process.tgid == seen.pid),
        );
        assert!(!shown, "{backend:?}");
        assert!(seen.counters.drops["kernel.port_filtered"] >= 2);
    }
}
