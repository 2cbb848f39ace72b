//! Segments on the disk: how many records go into one, which goes for want of room, and what is left when a file is gone.

use std::fs;

use super::{SOON, body, settings};
use crate::clock::Stamp;
use crate::format::{RECORD_HEADER, SEGMENT_DATA};
use crate::state::wait;
use crate::store::{Record, Store};
use crate::{DiskQueue, DropReason, Settings};

/// What one record takes.
const SIZE: u64 = 1000;

fn records(numbers: std::ops::Range<u64>) -> Vec<Record> {
    let record = |number| Record {
        signal: 0,
        items: 1,
        stamp: Stamp::default(),
        body: body(number, SIZE as usize - RECORD_HEADER),
    };
    numbers.map(record).collect()
}

/// Three records fill a segment to its last byte.
fn of_three(root: &tempfile::TempDir) -> Settings {
    let mut settings = settings(root);
    settings.segment_bytes = SEGMENT_DATA + 3 * SIZE;
    settings
}

fn all(store: &mut Store) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some((sequence, record)) = store.read().unwrap() {
        let number = u64::from_le_bytes(record.body[..8].try_into().unwrap());
        assert_eq!(sequence, number);
        found.push(number);
    }
    found
}

#[test]
fn a_segment_is_filled_to_its_last_byte_and_no_further() {
    let root = tempfile::tempdir().unwrap();
    let mut store = Store::open(of_three(&root)).unwrap();
    let records = records(0..8);
    let mut written = Vec::new();
    let mut left = &records[..];
    while !left.is_empty() {
        let count = store.append(left).unwrap();
        written.push(count);
        left = &left[count..];
    }
    assert_eq!(written, [3, 3, 2]);
    for segment in &store.segments {
        let length = fs::metadata(&segment.path).unwrap().len();
        assert_eq!(length, segment.length);
        assert!(length <= SEGMENT_DATA + 3 * SIZE);
    }
    assert_eq!(all(&mut store), (0..8).collect::<Vec<_>>());
}

#[test]
fn nothing_goes_while_there_is_room_to_the_byte_and_then_the_oldest() {
    let full = 8 * (SEGMENT_DATA + 3 * SIZE);
    for (room, dropped) in [(SEGMENT_DATA, 0), (SEGMENT_DATA - 1, 3)] {
        let root = tempfile::tempdir().unwrap();
        let mut settings = of_three(&root);
        // A record may need a segment of its own.
        settings.max_bytes = full + room;
        let mut store = Store::open(settings).unwrap();
        for record in records(0..24) {
            store.append(&[record]).unwrap();
        }
        let lost = store.news.dropped.iter().map(|(reason, _, count)| {
            assert_eq!(*reason, DropReason::Full);
            count.records
        });
        assert_eq!(lost.sum::<u64>(), dropped);
        assert_eq!(all(&mut store), (dropped..24).collect::<Vec<_>>());
    }
}

#[test]
fn nothing_is_written_into_a_segment_that_was_given_up() {
    let root = tempfile::tempdir().unwrap();
    let settings = of_three(&root);
    let mut store = Store::open(settings.clone()).unwrap();
    store.append(&records(0..1)).unwrap();
    store.seal();
    store.append(&records(1..2)).unwrap();
    assert_eq!(all(&mut store), [0, 1]);
    store.abandon_reading().unwrap();
    assert_eq!(store.segments.len(), 1);
    store.append(&records(2..3)).unwrap();
    drop(store);
    let mut store = Store::open(settings).unwrap();
    assert_eq!(all(&mut store), [0, 2]);
}

#[test]
fn a_segment_that_somebody_removed_is_gone_and_one_that_cannot_be_removed_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = of_three(&root);
    settings.max_bytes = 8 * (SEGMENT_DATA + 3 * SIZE) + SEGMENT_DATA;
    let mut store = Store::open(settings).unwrap();
    for record in records(0..24) {
        store.append(&[record]).unwrap();
    }
    fs::remove_file(&store.segments[0].path).unwrap();
    store.append(&records(24..25)).unwrap();
    assert_eq!(store.news.gone.len(), 1);
    // A directory cannot be removed as a file is.
    let next = store.segments[0].path.clone();
    fs::remove_file(&next).unwrap();
    fs::create_dir(&next).unwrap();
    let refused = (25..30).find_map(|at| store.append(&records(at..at + 1)).err());
    assert!(refused.is_some());
    assert_eq!(store.news.gone.len(), 1, "it still counts");
}

#[test]
fn a_segment_with_a_damaged_head_is_set_aside_and_the_others_are_read() {
    let root = tempfile::tempdir().unwrap();
    let settings = of_three(&root);
    let mut store = Store::open(settings.clone()).unwrap();
    let mut paths = Vec::new();
    for record in records(0..9) {
        store.append(&[record]).unwrap();
        paths.push(store.segments.back().unwrap().path.clone());
    }
    drop(store);
    let damaged = &paths[3];
    let mut bytes = fs::read(damaged).unwrap();
    bytes[..SEGMENT_DATA as usize].fill(0xff);
    fs::write(damaged, &bytes).unwrap();
    let mut store = Store::open(settings).unwrap();
    assert_eq!(all(&mut store), [0, 1, 2, 6, 7, 8]);
    assert_eq!(store.lost_records, 3);
    assert!(!damaged.exists());
    let name = damaged.file_name().unwrap().to_string_lossy();
    let aside = root
        .path()
        .join("tested/quarantine")
        .join(format!("{name}.bad"));
    assert_eq!(fs::read(aside).unwrap(), bytes);
}

#[test]
fn what_was_taken_from_an_empty_queue_is_waited_for_until_it_is_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let queue = DiskQueue::open(settings(&root)).unwrap();
    assert!(queue.try_next().is_none());
    let none = std::time::Duration::ZERO;
    assert!(queue.wait_until_empty(none));
    queue.push(0, 1, body(0, 100)).unwrap();
    assert!(!queue.wait_until_empty(none));
    let mut state = queue.shared.lock();
    while state.ready.is_empty() {
        state = wait(&queue.shared.progress, state, Some(SOON));
    }
    drop(state);
    let taken = queue.try_next().unwrap();
    assert!(!queue.wait_until_empty(none), "it is in somebody's hands");
    queue.ack(taken.position);
    assert!(queue.wait_until_empty(SOON));
}
