//! Questions about containers, put to servers that answer as real ones do, badly, late or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod bad;
mod containerd;
mod cri;
mod docker;
mod grpc;
mod messages;
mod server;
mod waiting;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spandrel_container_runtime::{Answer, Description, Names, Settings};

const ID: &str = "2228444f21b660afec432833dd24e4c9e423839eb1fde9163b1718ca7043fc1c";
const SECOND: u64 = 1_000_000_000;
const HOLD: Duration = Duration::from_millis(500);

/// Names that are asked of these sockets.
fn names(sockets: &[&Path]) -> Names {
    Names::new(Settings {
        sockets: sockets.iter().map(|path| path.to_path_buf()).collect(),
        hold: HOLD,
    })
}

/// What is known of a container at a time of the caller's, once a question about it has ended.
fn ended(names: &mut Names, id: &str, now: u64) -> Answer {
    let before: u64 = names.counters().snapshot().values().sum();
    names.look_up(id, None);
    let (answered, deadline) = (names.answered(), Instant::now() + Duration::from_secs(30));
    let mut seen = 0;
    while names.counters().snapshot().values().sum::<u64>() == before {
        assert!(Instant::now() < deadline, "no answer");
        seen = answered.wait(seen, deadline - Instant::now());
        names.take_in(now);
    }
    names.look_up(id, None)
}

fn known(answer: Answer) -> Arc<Description> {
    match answer {
        Answer::Known(description) => description,
        other => panic!("{other:?}"),
    }
}

fn counts(names: &Names) -> Vec<(&'static str, u64)> {
    names.counters().snapshot().into_iter().collect()
}
