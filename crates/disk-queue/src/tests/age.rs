//! Records that grow too old, and clocks that are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{SOON, body, number, numbers, settings};
use crate::store::{Record, Store};
use crate::{DiskQueue, DropReason, Settings};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;

/// A clock that stands still unless it is moved: how long the process runs, and what the system believes.
struct Clock {
    run: Arc<AtomicU64>,
    wall: Arc<AtomicU64>,
}

impl Clock {
    fn of(settings: &mut Settings, wall: u64) -> Self {
        let clock = Self {
            run: Arc::default(),
            wall: Arc::new(AtomicU64::new(wall)),
        };
        let (run, wall) = (Arc::clone(&clock.run), Arc::clone(&clock.wall));
        let began = Instant::now();
        settings.hook.now = Some(Arc::new(move || {
            let run = Duration::from_nanos(run.load(Ordering::Acquire));
            (began + run, wall.load(Ordering::Acquire))
        }));
        clock
    }
}

fn expired(queue: &DiskQueue) -> u64 {
    let dropped = queue.stats().dropped;
    dropped
        .get(&(DropReason::Expired, 0))
        .map_or(0, |count| count.items)
}

#[test]
fn what_waited_too_long_is_dropped_and_counted_and_the_rest_is_not() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(&root);
    settings.max_age = Some(Duration::from_secs(100));
    settings.segment_bytes = 5_000;
    let clock = Clock::of(&mut settings, 1_700_000_000 * SECOND);
    let queue = DiskQueue::open(settings).unwrap();
    for at in 0..30 {
        queue.push(0, 3, body(at, 1000)).unwrap();
        clock.run.fetch_add(5 * SECOND, Ordering::AcqRel);
    }
    // It is 150 s now; those of the first 50 s are too old.
    queue.wait_until("expiry", |stats| {
        stats
            .dropped
            .get(&(DropReason::Expired, 0))
            .is_some_and(|count| count.records == 10)
    });
    assert_eq!(expired(&queue), 30);
    assert_eq!(numbers(&queue, 20), (10..30).collect::<Vec<_>>());
}

#[test]
fn segments_that_are_too_old_go_at_once_and_one_that_is_not_stays() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(&root);
    settings.max_age = Some(Duration::from_secs(100));
    settings.segment_bytes = 1;
    let clock = Clock::of(&mut settings, 1_700_000_000 * SECOND);
    let mut store = Store::open(settings).unwrap();
    let append = |store: &mut Store| {
        let record = Record {
            signal: 0,
            items: 3,
            stamp: store.clock.stamp(),
            body: body(0, 100),
        };
        store.append(&[record]).unwrap();
        clock.run.fetch_add(10 * SECOND, Ordering::AcqRel);
    };
    for _ in 0..3 {
        append(&mut store);
    }
    clock.run.store(110 * SECOND, Ordering::Release);
    store.expire().unwrap();
    assert_eq!(store.live().of(0).records, 2, "those of 0 s are gone");
    assert_eq!(store.news.gone.len(), 1);
    clock.run.store(121 * SECOND, Ordering::Release);
    store.expire().unwrap();
    assert_eq!(store.live().of(0).records, 0);
    let (reason, signal, count) = store.news.dropped[0];
    assert_eq!((reason, signal, count.items), (DropReason::Expired, 0, 3));
    assert_eq!(store.news.dropped.len(), 3);
}

#[test]
fn a_clock_that_jumps_expires_nothing_that_the_next_hour_would_not() {
    let root = tempfile::tempdir().unwrap();
    let now = 1_700_000_000 * SECOND;
    let mut first = settings(&root);
    first.max_age = Some(Duration::from_secs(4 * 3600));
    first.read_ahead = 1;
    let clock = Clock::of(&mut first, now);
    let queue = DiskQueue::open(first.clone()).unwrap();
    queue.push(0, 3, body(0, 100)).unwrap();
    clock.run.store(2 * HOUR, Ordering::Release);
    clock.wall.store(now + 100_000 * HOUR, Ordering::Release);
    queue.push(0, 3, body(1, 100)).unwrap();
    assert_eq!(queue.stats().oldest_age.as_secs() / 3600, 2);
    clock.wall.store(now + 2 * HOUR, Ordering::Release);
    queue.push(0, 3, body(2, 100)).unwrap();
    assert!(queue.close(SOON).finished);

    // Ten years ahead, and back in 1970.
    for wall in [now + 90_000 * HOUR, 5 * SECOND] {
        let mut again = first.clone();
        Clock::of(&mut again, wall);
        let queue = DiskQueue::open(again).unwrap();
        assert_eq!(numbers(&queue, 3), [0, 1, 2]);
        assert!(queue.stats().oldest_age.as_secs() / 3600 <= 3);
        assert_eq!(expired(&queue), 0);
        assert!(queue.close(SOON).finished);
    }
    // Two hours later it is too old, whatever the wall says.
    let mut again = first.clone();
    let clock = Clock::of(&mut again, 7 * SECOND);
    let queue = DiskQueue::open(again).unwrap();
    clock.run.store(2 * HOUR + SECOND, Ordering::Release);
    // The first was read ahead already: it is given up with the next look.
    queue.wait_until("expiry", |stats| {
        stats.dropped.contains_key(&(DropReason::Expired, 0))
    });
    let next = queue.next_blocking(SOON).unwrap();
    assert_eq!(number(&next), 1);
    assert_eq!(expired(&queue), 3);
}
