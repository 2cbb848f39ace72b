//! Whoever has time waits for an answer and is woken by it.

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use spandrel_container_runtime::Answer;

use crate::server::{Server, docker};
use crate::{ID, SECOND, names};

/// Longer than this whole test may take.
const HOURS: Duration = Duration::from_secs(36_000);

#[test]
fn an_answer_wakes_whoever_waits_for_it() {
    let server = Server::http(docker);
    let mut names = names(&[server.path()]);
    let (begun, begins) = sync_channel(0);
    let answered = names.answered();
    let waiting = thread::spawn(move || {
        begun.send(()).unwrap();
        answered.wait(0, HOURS)
    });
    begins.recv().unwrap();
    names.take_in(SECOND);
    assert_eq!(names.look_up(ID, None), Answer::NotYet);
    assert_eq!(waiting.join().unwrap(), 1);
    assert!(names.take_in(SECOND), "it can be taken in then");
    assert!(matches!(names.look_up(ID, None), Answer::Known(_)));
}

#[test]
fn an_answer_that_came_before_is_not_waited_for_and_a_wait_ends() {
    let server = Server::http(docker);
    let mut names = names(&[server.path()]);
    names.take_in(SECOND);
    names.look_up(ID, None);
    assert_eq!(names.answered().wait(0, HOURS), 1);
    assert_eq!(names.answered().wait(0, HOURS), 1);
    assert_eq!(names.answered().wait(1, Duration::from_millis(1)), 1);
}
