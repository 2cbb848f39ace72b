//! Tests with a disk that fails or stalls, and a clock that jumps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod age;
mod faults;
mod store;

use std::time::Duration;

use bytes::Bytes;

use crate::state::{Stats, wait};
use crate::{Delivery, DiskQueue, Settings, SyncPolicy};

const SOON: Duration = Duration::from_secs(20);

fn settings(root: &tempfile::TempDir) -> Settings {
    let mut settings = Settings::new(root.path(), "tested");
    settings.sync = SyncPolicy::Never;
    settings.push_wait = SOON;
    settings.retry = (Duration::from_millis(1), Duration::from_millis(5));
    settings
}

fn body(number: u64, size: usize) -> Bytes {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(size, number as u8);
    body.into()
}

fn number(delivery: &Delivery) -> u64 {
    u64::from_le_bytes(delivery.body[..8].try_into().unwrap())
}

fn numbers(queue: &DiskQueue, count: usize) -> Vec<u64> {
    (0..count)
        .map(|_| number(&queue.next_blocking(SOON).expect("there is more")))
        .collect()
}

impl DiskQueue {
    /// Waits for something to have happened.
    fn wait_until(&self, what: &str, happened: impl Fn(&Stats) -> bool) {
        let mut state = self.shared.lock();
        while !happened(&state.stats) {
            let before = std::time::Instant::now();
            state = wait(&self.shared.progress, state, Some(SOON));
            assert!(before.elapsed() < SOON, "{what} did not happen");
        }
    }
}
