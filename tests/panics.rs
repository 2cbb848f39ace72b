//! A thread that panics is told of by the exit code, whenever it does.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

use std::thread;

use spandrel::{agent, alarm};

#[test]
fn a_panic_while_everything_ends_is_a_failure_of_the_run() {
    alarm::arm();
    agent::all_lived().unwrap();
    let late = thread::Builder::new().name("late".to_owned());
    let late = late.spawn(|| panic!("at the end")).unwrap();
    late.join().unwrap_err();
    let error = agent::all_lived().unwrap_err();
    assert!(error.to_string().contains("`late` panicked"), "{error}");
}
