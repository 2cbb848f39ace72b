//! A disk that fails, or says nothing.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::{SOON, body, number, numbers, settings};
use crate::fault::Operation;
use crate::{Condition, DiskQueue, DropReason, Held, Position, Settings, SyncPolicy};

/// ENOSPC and EROFS.
const FULL: i32 = 28;
const READ_ONLY: i32 = 30;

/// Fails these operations with this error while the switch is on.
fn failing(
    settings: &mut Settings,
    operations: &'static [Operation],
    error: i32,
) -> Arc<AtomicBool> {
    let switch = Arc::new(AtomicBool::new(true));
    let on = Arc::clone(&switch);
    settings.hook.fault = Some(Arc::new(move |operation| {
        if operations.contains(&operation) && on.load(Ordering::Acquire) {
            return Err(io::Error::from_raw_os_error(error));
        }
        Ok(())
    }));
    switch
}

/// Holds these operations up until it is opened.
#[derive(Default)]
struct Barrier {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Barrier {
    fn in_front_of(settings: &mut Settings, held: Operation) -> Arc<Self> {
        let barrier = Arc::new(Self::default());
        let inside = Arc::clone(&barrier);
        settings.hook.fault = Some(Arc::new(move |operation| {
            let mut shut = inside.shut.lock().unwrap();
            while *shut && operation == held {
                shut = inside.opened.wait(shut).unwrap();
            }
            Ok(())
        }));
        barrier
    }

    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }
}

#[test]
fn a_read_only_disk_leaves_memory_and_what_is_left_there_is_written_later() {
    for error in [FULL, READ_ONLY] {
        let root = tempfile::tempdir().unwrap();
        let mut settings = settings(&root);
        settings.memory_bytes = 10 * 1048;
        let broken = failing(&mut settings, &[Operation::Write, Operation::Create], error);
        let queue = DiskQueue::open(settings.clone()).unwrap();
        for at in 0..25 {
            assert_eq!(queue.push(1, 2, body(at, 1000)).unwrap(), Held::InMemory);
        }
        let stats = queue.stats();
        assert_eq!(stats.condition, Condition::Failing);
        assert_eq!(stats.memory.total().records, 10);
        assert_eq!(stats.dropped[&(DropReason::Full, 1)].items, 30);
        // A consumer need not wait for the disk.
        let first = queue.next_blocking(SOON).unwrap();
        assert_eq!((number(&first), first.position), (15, Position::Memory(16)));
        queue.ack(first.position);
        broken.store(false, Ordering::Release);
        queue.wait_until("recovery", |stats| {
            stats.condition == Condition::Working && stats.disk.total().records == 9
        });
        assert_eq!(queue.push(1, 2, body(25, 1000)).unwrap(), Held::OnDisk);
        assert_eq!(numbers(&queue, 10), (16..26).collect::<Vec<_>>());
        assert!(queue.close(SOON).finished);
        let queue = DiskQueue::open(settings).unwrap();
        assert_eq!(queue.recovered().total().records, 10);
    }
}

#[test]
fn what_is_in_memory_when_a_broken_disk_is_closed_is_reported() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(&root);
    failing(&mut settings, &[Operation::Write], FULL);
    let queue = DiskQueue::open(settings).unwrap();
    for at in 0..3 {
        queue.push(0, 5, body(at, 100)).unwrap();
    }
    // Any of them: those that the disk is just trying to write are passed over.
    let _in_hand = queue.next_blocking(SOON).unwrap();
    let report = queue.close(SOON);
    assert!(!report.finished);
    assert_eq!(report.in_memory.of(0).items, 10);
    assert_eq!(report.in_hand.of(0).items, 5);
}

#[test]
fn a_disk_that_says_nothing_holds_a_push_up_once_and_delivery_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(&root);
    settings.push_wait = Duration::from_millis(50);
    settings.memory_bytes = 10 * 1048;
    let barrier = Barrier::in_front_of(&mut settings, Operation::Write);
    let queue = DiskQueue::open(settings).unwrap();
    queue.push(0, 1, body(0, 1000)).unwrap();
    assert_eq!(numbers(&queue, 1), [0]);
    barrier.set(true);
    // This one waits, and is in the hands of the disk from now on.
    let began = Instant::now();
    assert_eq!(queue.push(0, 1, body(1, 1000)).unwrap(), Held::InMemory);
    assert!(began.elapsed() >= Duration::from_millis(50));
    for at in 2..30 {
        assert_eq!(queue.push(0, 1, body(at, 1000)).unwrap(), Held::InMemory);
    }
    assert_eq!(queue.stats().condition, Condition::Stalled);
    assert_eq!(queue.stats().memory.total().records, 10);
    assert_eq!(numbers(&queue, 9), (21..30).collect::<Vec<_>>());
    barrier.set(false);
    queue.wait_until("recovery", |stats| stats.condition == Condition::Working);
    assert_eq!(numbers(&queue, 1), [1]);
}

#[test]
fn a_slow_sync_holds_no_push_up_unless_it_is_to_be_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(&root);
    settings.sync = SyncPolicy::Interval(Duration::from_millis(1));
    let barrier = Barrier::in_front_of(&mut settings, Operation::Sync);
    barrier.set(true);
    let queue = DiskQueue::open(settings.clone()).unwrap();
    for at in 0..100 {
        assert_eq!(queue.push(0, 1, body(at, 1000)).unwrap(), Held::OnDisk);
    }
    assert_eq!(numbers(&queue, 100), (0..100).collect::<Vec<_>>());
    barrier.set(false);
    assert!(queue.close(SOON).finished);

    settings.sync = SyncPolicy::Always;
    settings.push_wait = Duration::from_millis(20);
    let barrier = Barrier::in_front_of(&mut settings, Operation::Sync);
    barrier.set(true);
    let queue = DiskQueue::open(settings).unwrap();
    for at in 100..110 {
        assert_eq!(queue.push(0, 1, body(at, 1000)).unwrap(), Held::InMemory);
    }
    assert_eq!(queue.stats().condition, Condition::Working);
    barrier.set(false);
    while queue.push(0, 1, body(110, 1000)).unwrap() != Held::OnDisk {}
}

#[test]
fn a_failed_sync_is_told_and_nothing_is_built_upon_it() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(&root);
    settings.sync = SyncPolicy::Always;
    let broken = failing(&mut settings, &[Operation::Sync], 5);
    let queue = DiskQueue::open(settings).unwrap();
    assert_eq!(queue.push(0, 1, body(0, 100)).unwrap(), Held::InMemory);
    assert!(queue.stats().sync_errors > 0);
    broken.store(false, Ordering::Release);
    while queue.push(0, 1, body(1, 100)).unwrap() != Held::OnDisk {}
    assert!(segments(&root) > 1);
}

#[test]
fn no_record_is_safe_before_the_directory_knows_its_segment() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(&root);
    settings.sync = SyncPolicy::Always;
    settings.segment_bytes = 10_000;
    let broken = failing(&mut settings, &[Operation::SyncDirectory], 5);
    let queue = DiskQueue::open(settings.clone()).unwrap();
    assert_eq!(queue.push(0, 1, body(0, 1000)).unwrap(), Held::InMemory);
    assert!(queue.stats().sync_errors > 0);
    broken.store(false, Ordering::Release);
    while queue.push(0, 1, body(1, 1000)).unwrap() != Held::OnDisk {}
    assert!(queue.close(SOON).finished);

    // Each new segment asks for it, and what goes into a segment that is there does not.
    let synced = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&synced);
    settings.hook.fault = Some(Arc::new(move |operation| {
        let is_directory = operation == Operation::SyncDirectory;
        count.fetch_add(is_directory.into(), Ordering::AcqRel);
        Ok(())
    }));
    let queue = DiskQueue::open(settings).unwrap();
    let mut before = 0;
    for at in 2..30 {
        let segments = segments(&root);
        assert_eq!(queue.push(0, 1, body(at, 1000)).unwrap(), Held::OnDisk);
        let (now, is_new) = (
            synced.load(Ordering::Acquire),
            self::segments(&root) > segments,
        );
        assert_eq!(now - before, u32::from(is_new), "record {at}");
        before = now;
    }
    assert!(before >= 2, "{before}");
    assert!(queue.close(SOON).finished);
}

fn segments(root: &tempfile::TempDir) -> usize {
    let files = std::fs::read_dir(root.path().join("tested")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".seg")).count()
}

#[test]
fn reading_is_tried_again_and_a_segment_that_cannot_be_read_is_given_up() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(&root);
    settings.segment_bytes = 10_000;
    let queue = DiskQueue::open(settings.clone()).unwrap();
    for at in 0..30 {
        queue.push((at / 15) as u8, 4, body(at, 1000)).unwrap();
    }
    assert!(queue.close(SOON).finished);
    for (failures, lost) in [(2, 0), (3, 9)] {
        let queue = DiskQueue::open(settings.clone()).unwrap();
        drop(queue.close(SOON));
        let mut flaky = settings.clone();
        let left = Arc::new(AtomicU32::new(u32::MAX));
        let counted = Arc::clone(&left);
        flaky.hook.fault = Some(Arc::new(move |operation| {
            if operation == Operation::Read && counted.load(Ordering::Acquire) < failures {
                counted.fetch_add(1, Ordering::AcqRel);
                return Err(io::Error::from_raw_os_error(5));
            }
            Ok(())
        }));
        // Only what is read after the start fails.
        let store = crate::store::Store::open(flaky).unwrap();
        left.store(0, Ordering::Release);
        let queue = DiskQueue::start(store).unwrap();
        let got = numbers(&queue, 30 - lost as usize);
        assert_eq!(got, (lost..30).collect::<Vec<_>>());
        let dropped = queue.stats().dropped;
        let corrupt = dropped.get(&(DropReason::Corrupt, 0));
        assert_eq!(corrupt.map_or(0, |count| count.items), lost * 4);
        assert!(queue.close(SOON).finished);
    }
}
