//! What the kernel side hears of a process, and which of its messages are captured.

use std::net::{Ipv4Addr, SocketAddr};

use spandrel_model::recording::{RecordedIdentity, RecordedPod};
use spandrel_model::{Attribute, Endpoint, Origin, Stamp, Transport};

use super::*;
use crate::identity::Settings;
use crate::selectors::{Pattern, PodSelector, Selector};

const PROCESS: ProcessKey = ProcessKey {
    tgid: 7,
    started: 1,
};
const DENIED: Option<&str> = Some("selection.denied");

fn nginx() -> RecordedIdentity {
    let path = Attribute::new("process.executable.path", "/usr/sbin/nginx".to_owned());
    RecordedIdentity::of(PROCESS, vec![path])
}

fn identities(recorded: impl IntoIterator<Item = RecordedIdentity>) -> Identities {
    let mut identities = Identities::new(Settings::replay());
    recorded.into_iter().for_each(|one| identities.seed(one));
    identities
}

fn executable(glob: &str) -> Selector {
    Selector {
        executable: Some(Pattern::new(glob).unwrap()),
        ..Selector::default()
    }
}

fn at_port(port: u16) -> Selector {
    Selector {
        ports: Some(port..=port),
        ..executable("*/nginx")
    }
}

fn selection(include: Vec<Selector>, exclude: Vec<Selector>) -> Selection {
    Selection::new(Selectors { include, exclude }, 8)
}

fn opened(id: u64, local: u16, peer: u16) -> ConnectionOpened {
    let end = |port| Endpoint::Socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    ConnectionOpened {
        stamp: Stamp::default(),
        connection: ConnectionId(id),
        origin: Origin::Observed,
        transport: Transport::Tcp,
        role: None,
        local: end(local),
        peer: end(peer),
        netns: 0,
        connect_started: None,
        process: None,
        passed: None,
    }
}

/// The answer for a message on a connection.
fn ask(selection: &mut Selection, identities: &mut Identities, connection: u64, at: u64) -> Answer {
    let connection = Some(ConnectionId(connection));
    selection.decide(PROCESS, 0, connection, identities, UnixTime(at))
}

#[test]
fn the_kernel_side_hears_of_a_process_once() {
    let mut identities = identities([nginx()]);
    for (include, exclude, allow) in [
        (vec![], vec![], true),
        (vec![executable("*/nginx")], vec![], true),
        (vec![executable("*/redis")], vec![], false),
        (vec![], vec![executable("*/nginx")], false),
        // Which of its messages are captured is decided one by one, and for that they must come.
        (vec![at_port(80)], vec![], true),
        (vec![], vec![at_port(80)], true),
    ] {
        let mut selection = selection(include, exclude);
        assert!(!selection.is_captured(PROCESS), "nobody asked yet");
        let first = ask(&mut selection, &mut identities, 1, 0);
        assert_eq!(first.tell_kernel, Some(allow));
        let again = ask(&mut selection, &mut identities, 1, 0);
        assert_eq!(again.tell_kernel, None, "it knows");
        assert_eq!(again.left_out, first.left_out);
        assert_eq!(selection.is_captured(PROCESS), allow);
        selection.forget(PROCESS);
        let anew = ask(&mut selection, &mut identities, 1, 0);
        assert_eq!(anew.tell_kernel, Some(allow), "another program");
    }
}

#[test]
fn a_process_without_a_message_is_decided_about_as_well() {
    let mut selection = selection(vec![at_port(80)], vec![]);
    let answer = selection.decide(PROCESS, 0, None, &mut identities([nginx()]), UnixTime(0));
    assert_eq!(answer.tell_kernel, Some(true));
    assert_eq!(answer.left_out, None);
}

#[test]
fn each_connection_is_decided_by_its_own_ports() {
    let mut identities = identities([nginx()]);
    let mut included = selection(vec![at_port(80)], vec![]);
    let mut excluded = selection(vec![], vec![at_port(80)]);
    for (id, local, peer, is_included) in [
        (1, 80, 5000, true),
        (2, 5000, 80, true),
        (3, 5000, 81, false),
    ] {
        for (selection, left_out) in [(&mut included, !is_included), (&mut excluded, is_included)] {
            selection.opened(&opened(id, local, peer));
            let answer = ask(selection, &mut identities, id, 0);
            assert_eq!(
                answer.left_out,
                DENIED.filter(|_| left_out),
                "{local} {peer}"
            );
        }
    }
}

#[test]
fn a_connection_whose_ports_are_not_known_is_left_out_for_that() {
    let mut identities = identities([nginx()]);
    let mut selection = selection(vec![], vec![at_port(80)]);
    let answer = ask(&mut selection, &mut identities, 1, 0);
    assert_eq!(answer.left_out, Some("selection.ports_unknown"));
    // Of many connections those that speak are remembered.
    selection.opened(&opened(1, 5000, 81));
    for id in 2..100 {
        selection.opened(&opened(id, 5000, 81));
        assert_eq!(ask(&mut selection, &mut identities, 1, 0).left_out, None);
    }
    selection.closed(ConnectionId(1));
    let answer = ask(&mut selection, &mut identities, 1, 0);
    assert_eq!(answer.left_out, Some("selection.ports_unknown"));
}

#[test]
fn in_a_recording_a_pod_is_what_it_was_at_the_time() {
    let of = |since, namespace: Option<&str>| RecordedIdentity {
        since: Some(UnixTime(since)),
        pod: namespace.map(|namespace| RecordedPod {
            namespace: namespace.to_owned(),
            ..RecordedPod::default()
        }),
        pod_unknown: namespace.is_none(),
        ..nginx()
    };
    let recorded = [of(0, None), of(10, Some("ops")), of(20, Some("shop"))];
    let mut identities = identities(recorded);
    let mut selection = selection(
        vec![Selector {
            pod: PodSelector {
                namespace: Some(Pattern::new("shop").unwrap()),
                ..PodSelector::default()
            },
            ..Selector::default()
        }],
        vec![],
    );
    for (at, left_out, tell_kernel) in [
        (1, None, None),
        (11, DENIED, Some(false)),
        (12, DENIED, None),
        (21, None, Some(true)),
        (22, None, None),
        (13, DENIED, Some(false)),
    ] {
        let answer = ask(&mut selection, &mut identities, 1, at);
        assert_eq!(
            (answer.left_out, answer.tell_kernel),
            (left_out, tell_kernel),
            "{at}"
        );
    }
}
