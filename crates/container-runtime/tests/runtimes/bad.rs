//! Answers that are no answers: each is counted by its reason, and nothing hangs.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::{fs, thread};

use proptest::prelude::*;
use rustix::thread::{Uid, set_thread_res_uid};
use spandrel_container_runtime::Answer;

use crate::server::{Server, docker, response};
use crate::{HOLD, ID, SECOND, counts, ended, grpc, names};

/// Answers `answer` about the container, and as Docker does about its version.
fn about_the_container(answer: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Server {
    Server::http(move |path| {
        if path == "/_ping" {
            docker(path)
        } else {
            answer()
        }
    })
}

#[test]
fn each_bad_answer_has_its_reason() {
    type Bytes = fn() -> Vec<u8>;
    let cases: [(&str, Bytes); 9] = [
        ("malformed", || b"\x00\x01\x02 not HTTP\r\n\r\n".to_vec()),
        ("malformed", || response("200 OK", "", "{\"Id\":7}")),
        ("malformed", || response("200 OK", "", "[]")),
        ("malformed", || {
            response("200 OK", "", "{\"Id\":\"another\"}")
        }),
        ("too_large", || response("200 OK", "", &"x".repeat(2 << 20))),
        ("refused", || {
            response("500 Internal Server Error", "", "{}")
        }),
        ("refused", || {
            response("301 Moved Permanently", "Location: /x\r\n", "")
        }),
        ("denied", || response("403 Forbidden", "", "{}")),
        ("unavailable", || {
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()
        }),
    ];
    for (reason, answer) in cases {
        // A connection that is cut off after the answer, where that is not all of it.
        let server = Server::raw("docker.sock", move |stream| {
            let mut buffer = [0; 4096];
            let _ping = stream.read(&mut buffer).unwrap();
            stream.write_all(&docker("/_ping")).unwrap();
            let _get = stream.read(&mut buffer).unwrap();
            drop(stream.write_all(&answer()));
        });
        let mut names = names(&[server.path()]);
        assert_eq!(ended(&mut names, ID, SECOND), Answer::Unknown);
        assert_eq!(
            counts(&names),
            [(reason, 1)],
            "{:?}",
            String::from_utf8_lossy(&answer())
        );
    }
}

/// Of a server that answers `before` to some methods and else with what is no container of this id, as `container` makes it of
/// an id and an image.
pub(crate) fn each_bad_answer_of_grpc_has_its_reason(
    socket: &str,
    before: fn(&str) -> Option<Vec<u8>>,
    container: fn(&str, &str) -> Vec<u8>,
) {
    let another = container(&ID.replace('2', "3"), "");
    let cases = [
        ("not_found", Err(5)),
        ("denied", Err(7)),
        ("refused", Err(12)),
        ("unavailable", Err(14)),
        ("malformed", Ok(vec![0xff; 100])),
        ("malformed", Ok(Vec::new())),
        ("malformed", Ok(another)),
        ("too_large", Ok(container(ID, &"x".repeat(2 << 20)))),
    ];
    for (reason, answer) in cases {
        let server = grpc::Server::start(socket, move |method, _| {
            before(method).map_or_else(|| answer.clone(), Ok)
        });
        let mut names = names(&[server.path()]);
        assert_eq!(ended(&mut names, ID, SECOND), Answer::Unknown);
        assert_eq!(counts(&names), [(reason, 1)]);
    }
}

#[test]
fn a_socket_that_never_answers_costs_the_wait_and_is_then_left_alone() {
    let server = Server::raw("docker.sock", |stream| {
        // Until the other end gives up.
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let mut names = names(&[server.path()]);
    names.take_in(SECOND);
    assert_eq!(names.look_up(ID, None), Answer::NotYet);
    names.take_in(SECOND + u64::try_from(HOLD.as_nanos()).unwrap());
    assert_eq!(
        names.look_up(ID, None),
        Answer::Unknown,
        "while the question still waits"
    );
    assert_eq!(
        ended(&mut names, &"f".repeat(64), 2 * SECOND),
        Answer::Unknown
    );
    // The first ends with its time; what comes after that is not asked at all.
    let late = ended(&mut names, &"e".repeat(64), 3 * SECOND);
    assert_eq!(late, Answer::Unknown);
    assert!(
        server.connections() <= 2,
        "{} connections",
        server.connections()
    );
    let counted = counts(&names);
    assert!(
        counted.iter().all(|(reason, _)| *reason == "timeout"),
        "{counted:?}"
    );
}

#[test]
fn an_answer_that_never_ends_is_given_up() {
    let server = about_the_container(|| {
        let mut endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..2000 {
            endless.extend_from_slice(b"400\r\n");
            endless.extend_from_slice(&[b' '; 1024]);
            endless.extend_from_slice(b"\r\n");
        }
        endless
    });
    let mut names = names(&[server.path()]);
    assert_eq!(ended(&mut names, ID, SECOND), Answer::Unknown);
    assert_eq!(counts(&names), [("too_large", 1)]);
}

#[test]
fn more_containers_than_are_asked_about_at_a_time_are_put_off() {
    let server = Server::raw("docker.sock", |stream| {
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let mut names = names(&[server.path()]);
    names.take_in(SECOND);
    let answers: Vec<Answer> = (0..1000)
        .map(|n| names.look_up(&format!("{n:064x}"), None))
        .collect();
    let waiting = answers
        .iter()
        .filter(|answer| **answer == Answer::NotYet)
        .count();
    assert!((256..=270).contains(&waiting), "{waiting} wait");
    let busy = names.counters().snapshot()["busy"];
    assert_eq!(usize::try_from(busy).unwrap(), 1000 - waiting);
}

#[test]
fn a_socket_that_may_not_be_used_is_said_to_be() {
    let server = Server::http(docker);
    for (path, mode) in [(server.directory(), 0o755), (server.path(), 0)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = server.path().to_owned();
    // Root may use any socket; the thread that asks is started by this one and is nobody, too.
    let asked = thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            let nobody = Uid::from_raw(65534);
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        let mut names = names(&[&path]);
        let answer = ended(&mut names, ID, SECOND);
        (answer, counts(&names))
    });
    let (answer, counted) = asked.join().unwrap();
    assert_eq!(answer, Answer::Unknown);
    assert_eq!(counted, [("denied", 1)]);
}

#[test]
fn what_is_no_id_is_never_asked_about() {
    let server = Server::http(docker);
    let mut names = names(&[server.path()]);
    for id in [
        "",
        "web",
        "../images/json",
        &"g".repeat(64),
        &format!("{ID}0"),
    ] {
        assert_eq!(names.look_up(id, None), Answer::Unknown);
    }
    assert_eq!(counts(&names), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_a_socket_sends_ends_in_one_counter(which in 0..3_usize, bytes: Vec<u8>) {
        let name = ["docker.sock", "containerd.sock", "crio.sock"][which];
        let server = Server::raw(name, move |stream| drop(stream.write_all(&bytes)));
        let mut names = names(&[server.path()]);
        prop_assert_eq!(ended(&mut names, ID, SECOND), Answer::Unknown);
        prop_assert_eq!(counts(&names).iter().map(|(_, count)| count).sum::<u64>(), 1);
    }
}
