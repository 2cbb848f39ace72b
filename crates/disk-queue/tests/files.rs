//! What a queue keeps over a restart, drops at its cap, and makes of damaged files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use spandrel_disk_queue::{
    Count, Delivery, DiskQueue, DropReason, Held, OpenError, Position, PushError, Settings,
    SyncPolicy,
};

const SOON: Duration = Duration::from_secs(20);

fn settings(root: &Path) -> Settings {
    let mut settings = Settings::new(root, "otlp/traces");
    settings.sync = SyncPolicy::Never;
    settings.push_wait = SOON;
    settings
}

/// A body that tells its number and fills up to a size with bytes that follow from it.
fn body(number: u64, size: usize) -> Bytes {
    let mut body = number.to_le_bytes().to_vec();
    body.extend(
        (8..size).map(|index| (number as usize).wrapping_mul(31).wrapping_add(index) as u8),
    );
    body.into()
}

fn number(delivery: &Delivery) -> u64 {
    let number = u64::from_le_bytes(delivery.body[..8].try_into().unwrap());
    assert_eq!(delivery.body, body(number, delivery.body.len()), "altered");
    number
}

fn push(queue: &DiskQueue, numbers: std::ops::Range<u64>, size: usize) {
    for number in numbers {
        let held = queue
            .push((number % 2) as u8, 3, body(number, size))
            .unwrap();
        assert_eq!(held, Held::OnDisk);
    }
}

/// All that is there now, not acknowledged.
fn drain(queue: &DiskQueue) -> Vec<Delivery> {
    queue.finish();
    std::iter::from_fn(|| queue.next_blocking(SOON)).collect()
}

fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(number).collect()
}

fn queue_directory(root: &Path) -> PathBuf {
    root.join("otlp%2ftraces")
}

fn segments(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(queue_directory(root))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    found.sort();
    found
}

#[test]
fn what_was_not_acknowledged_comes_again_in_order_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    let found = fs::metadata(queue_directory(root.path())).unwrap();
    assert_eq!(found.permissions().mode() & 0o077, 0, "readable by others");
    push(&queue, 0..10, 100);
    let first: Vec<Delivery> = (0..5).map(|_| queue.next_blocking(SOON).unwrap()).collect();
    assert_eq!(numbers(&first), [0, 1, 2, 3, 4]);
    for index in [0, 3, 1] {
        queue.ack(first[index].position);
    }
    let report = queue.close(SOON);
    assert!(report.finished);
    assert_eq!(report.on_disk.total().records, 7);
    assert_eq!(report.in_memory.total().records, 0);

    let queue = DiskQueue::open(settings(root.path())).unwrap();
    assert_eq!(queue.recovered().total().items, 21);
    assert_eq!(queue.recovered().of(1).records, 3);
    push(&queue, 10..12, 100);
    let rest = drain(&queue);
    assert_eq!(numbers(&rest), [2, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!((rest[0].signal, rest[0].items), (0, 3));
    for delivery in rest {
        queue.ack(delivery.position);
    }
    queue.wait_for_acks();
    assert_eq!(queue.stats().disk.total(), Count::default());
    assert!(queue.close(SOON).finished);
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    assert_eq!(drain(&queue).len(), 0);
}

#[test]
fn sequences_are_not_given_out_twice_when_no_segment_is_left() {
    let root = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let queue = DiskQueue::open(settings(root.path())).unwrap();
        push(&queue, round * 5..round * 5 + 5, 50);
        let all = drain(&queue);
        assert_eq!(
            numbers(&all),
            (round * 5..round * 5 + 5).collect::<Vec<_>>()
        );
        all.iter().for_each(|delivery| queue.ack(delivery.position));
        assert!(queue.close(SOON).finished);
        for segment in segments(root.path()) {
            fs::remove_file(segment).unwrap();
        }
    }
}

#[test]
fn a_second_process_is_told_that_the_queue_is_in_use() {
    let root = tempfile::tempdir().unwrap();
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    let error = DiskQueue::open(settings(root.path())).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(
        error.to_string().contains("another storage directory"),
        "{error}"
    );
    let mut other = settings(root.path());
    other.name = "otlp/metrics".to_owned();
    DiskQueue::open(other).unwrap();
    queue.close(SOON);
    DiskQueue::open(settings(root.path())).unwrap();
}

#[test]
fn at_the_cap_the_oldest_go_and_are_counted_by_signal() {
    let root = tempfile::tempdir().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut settings = settings(root.path());
    settings.max_bytes = 64 << 10;
    settings.read_ahead = 2;
    let telling = Arc::clone(&told);
    settings.on_drop = Some(Arc::new(move |reason, signal, count| {
        telling.lock().unwrap().push((reason, signal, count));
    }));
    let queue = DiskQueue::open(settings).unwrap();
    push(&queue, 0..1, 1000);
    let held = queue.next_blocking(SOON).unwrap();
    for at in 1..1000 {
        push(&queue, at..at + 1, 1000);
        let on_disk: u64 = segments(root.path())
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .map(|found| found.len())
            .sum();
        assert!(on_disk <= 64 << 10, "{on_disk}");
    }
    let rest = numbers(&drain(&queue));
    let dropped: u64 = told.lock().unwrap().iter().map(|told| told.2.records).sum();
    assert_eq!(rest, (1000 - rest.len() as u64..1000).collect::<Vec<_>>());
    assert!(rest.len() > 48, "only {} of about 60 are kept", rest.len());
    // The one in our hands is not dropped: it may still arrive.
    assert_eq!(dropped + rest.len() as u64 + 1, 1000);
    let stats = queue.stats();
    let full = |signal| stats.dropped[&(DropReason::Full, signal)];
    assert_eq!(full(0).records + full(1).records, dropped);
    assert_eq!(full(0).items, full(0).records * 3);
    assert!(full(0).records.abs_diff(full(1).records) <= 2);
    assert_eq!(queue.stats().disk.total().records, rest.len() as u64);
    let report = queue.close(SOON);
    assert_eq!(held.position, Position::Disk(0));
    assert_eq!(
        report.orphaned.total().records,
        1,
        "it would not come again"
    );
}

#[test]
fn what_can_never_fit_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(root.path());
    settings.max_bytes = 10_000;
    let queue = DiskQueue::open(settings).unwrap();
    let refused = queue.push(0, 1, body(0, 6_000));
    assert!(matches!(refused, Err(PushError::TooLarge { .. })));
    push(&queue, 0..20, 4_000);
    queue.finish();
    assert_eq!(queue.push(0, 1, body(0, 10)), Err(PushError::Closed));
}

#[test]
fn ten_minutes_without_a_backend_are_kept_and_delivered() {
    // 40 requests a second of about 2 KiB for 600 s.
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(root.path());
    settings.segment_bytes = 1 << 20;
    let queue = DiskQueue::open(settings).unwrap();
    push(&queue, 0..24_000, 2_048);
    assert_eq!(queue.stats().memory.total().records, 0);
    assert!(segments(root.path()).len() >= 40);
    for expected in 0..24_000 {
        let delivery = queue.next_blocking(SOON).unwrap();
        assert_eq!(number(&delivery), expected);
        queue.ack(delivery.position);
    }
    queue.wait_for_acks();
    assert_eq!(segments(root.path()).len(), 1);
    assert_eq!(queue.stats().dropped.len(), 0);
}

#[test]
fn with_always_each_push_waits_for_its_sync() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(root.path());
    settings.sync = SyncPolicy::Always;
    let queue = DiskQueue::open(settings).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let queue = &queue;
            scope.spawn(move || push(queue, thread * 10..thread * 10 + 10, 100));
        }
    });
    let all: BTreeSet<u64> = numbers(&drain(&queue)).into_iter().collect();
    assert_eq!(all, (0..40).collect());
}

#[test]
fn several_consumers_get_each_record_once() {
    let root = tempfile::tempdir().unwrap();
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    let got = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(delivery) = queue.next_blocking(SOON) {
                    got.lock().unwrap().push(number(&delivery));
                    queue.ack(delivery.position);
                }
            });
        }
        push(&queue, 0..2_000, 200);
        queue.finish();
    });
    let mut got = got.into_inner().unwrap();
    got.sort_unstable();
    assert_eq!(got, (0..2_000).collect::<Vec<_>>());
}

#[test]
fn a_torn_tail_is_cut_off_and_the_queue_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    push(&queue, 0..3, 100);
    queue.close(SOON);
    let path = segments(root.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let length = whole.len();
    // The first 60 bytes of a record that was being written.
    let mut torn = whole.clone();
    torn.extend_from_slice(&whole[length - 148..length - 88]);
    fs::write(&path, &torn).unwrap();
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    assert_eq!(queue.stats().torn_bytes, 60);
    push(&queue, 3..5, 100);
    assert_eq!(numbers(&drain(&queue)), [0, 1, 2, 3, 4]);
    assert_eq!(queue.stats().lost_records, 0);
    assert_eq!(segments(root.path()).len(), 1);
}

#[test]
fn a_damaged_body_costs_its_record_which_is_kept_aside_and_counted() {
    let root = tempfile::tempdir().unwrap();
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    push(&queue, 0..3, 100);
    queue.close(SOON);
    let path = segments(root.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[64 + 148 + 48 + 50] ^= 4;
    fs::write(&path, bytes).unwrap();
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    assert_eq!(numbers(&drain(&queue)), [0, 2]);
    let corrupt = queue.stats().dropped[&(DropReason::Corrupt, 1)];
    assert_eq!((corrupt.records, corrupt.items), (1, 3));
    let kept = fs::read_dir(queue_directory(root.path()).join("quarantine")).unwrap();
    assert_eq!(kept.count(), 1);
}

#[test]
fn a_body_that_looks_like_a_record_is_never_taken_for_one() {
    let root = tempfile::tempdir().unwrap();
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    push(&queue, 0..2, 100);
    queue.close(SOON);
    // A record out of another segment, inside of a body, behind a head that is damaged.
    let path = segments(root.path()).remove(0);
    let forged = fs::read(&path).unwrap()[64..].to_vec();
    let other = tempfile::tempdir().unwrap();
    let queue = DiskQueue::open(settings(other.path())).unwrap();
    queue.push(0, 1, forged.into()).unwrap();
    push(&queue, 7..8, 100);
    queue.close(SOON);
    let path = segments(other.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[64] ^= 1;
    fs::write(&path, bytes).unwrap();
    let queue = DiskQueue::open(settings(other.path())).unwrap();
    assert_eq!(numbers(&drain(&queue)), [7]);
    assert_eq!(queue.stats().lost_records, 1);
}

/// The names and bytes of all files of a queue.
fn contents(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(queue_directory(root)).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let mut contents: Vec<_> = paths
        .map(|path| (path.clone(), fs::read(path).unwrap_or_default()))
        .collect();
    contents.sort();
    contents
}

fn refused(root: &Path, file: &Path) {
    let before = contents(root);
    let error = DiskQueue::open(settings(root)).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{} has version 2 of the queue's format, this program reads version 1 and older ones: \
             use the version of spandrel that wrote it, or give another storage directory",
            file.display()
        )
    );
    assert_eq!(contents(root), before, "altered");
}

#[test]
fn a_queue_of_a_newer_program_is_refused_in_words_and_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let mut small = settings(root.path());
    small.max_bytes = 64 << 10;
    let queue = DiskQueue::open(small).unwrap();
    push(&queue, 0..40, 700);
    let delivery = queue.next_blocking(SOON).unwrap();
    queue.ack(delivery.position);
    queue.close(SOON);
    // The last segment in a later version, and a damaged one that would be set aside before it.
    let found = segments(root.path());
    let [first, .., last] = found.as_slice() else {
        panic!("one segment: {found:?}")
    };
    let written = (fs::read(first).unwrap(), fs::read(last).unwrap());
    let (mut damaged, mut newer) = written.clone();
    damaged[..64].fill(0);
    for copy in newer[..64].chunks_mut(32) {
        copy[4..6].copy_from_slice(&2u16.to_le_bytes());
        let sum = crc32c::crc32c(&copy[..28]);
        copy[28..].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(first, damaged).unwrap();
    fs::write(last, newer).unwrap();
    refused(root.path(), last);

    // Their version is one that is read, and that of the acks is not.
    fs::write(first, written.0).unwrap();
    fs::write(last, written.1).unwrap();
    let acks = queue_directory(root.path()).join("acks-1");
    let as_written = fs::read(&acks).unwrap();
    let mut newer = as_written.clone();
    newer[16..18].copy_from_slice(&1u16.to_le_bytes());
    let sum = crc32c::crc32c_append(u32::from_le_bytes(*b"SPQA"), &newer[..20]);
    newer[20..24].copy_from_slice(&sum.to_le_bytes());
    fs::write(&acks, newer).unwrap();
    refused(root.path(), &acks);

    fs::write(&acks, as_written).unwrap();
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    assert_eq!(numbers(&drain(&queue)), (1..40).collect::<Vec<_>>());
}

/// As version 1 of the format wrote it: a segment with the records 0 and 1, and the end of 0.
const VERSION_1: [(&str, &[u8]); 2] = [
    (
        "00000000000000000000.seg",
        include_bytes!("data/version-1/00000000000000000000.seg"),
    ),
    ("acks-1", include_bytes!("data/version-1/acks-1")),
];

#[test]
fn what_version_1_of_the_format_wrote_is_read() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(queue_directory(root.path())).unwrap();
    for (name, bytes) in VERSION_1 {
        fs::write(queue_directory(root.path()).join(name), bytes).unwrap();
    }
    let queue = DiskQueue::open(settings(root.path())).unwrap();
    let left = drain(&queue);
    assert_eq!(numbers(&left), [1]);
    assert_eq!((left[0].signal, left[0].items), (1, 3));
    assert_eq!(queue.stats().damaged_acks, 0);
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(u8),
    Zero(usize),
    Truncate,
    Extend(Vec<u8>),
    Remove,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (0u8..8).prop_map(Damage::Flip),
        2 => (1usize..400).prop_map(Damage::Zero),
        2 => Just(Damage::Truncate),
        1 => proptest::collection::vec(any::<u8>(), 1..200).prop_map(Damage::Extend),
        1 => Just(Damage::Remove),
    ]
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn damage_anywhere_alters_no_record_and_stops_nothing(
        hits in proptest::collection::vec((any::<usize>(), any::<usize>(), damage()), 1..5)
    ) {
        let root = tempfile::tempdir().unwrap();
        let mut small = settings(root.path());
        small.max_bytes = 64 << 10;
        small.quarantine_bytes = 8 << 10;
        let queue = DiskQueue::open(small.clone()).unwrap();
        push(&queue, 0..60, 700);
        for _ in 0..10 {
            let delivery = queue.next_blocking(SOON).unwrap();
            if !number(&delivery).is_multiple_of(3) {
                queue.ack(delivery.position);
            }
        }
        queue.close(SOON);
        let mut files: Vec<PathBuf> = fs::read_dir(queue_directory(root.path())).unwrap()
            .map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        files.sort();
        let mut untouched: BTreeSet<u64> = (0..60).filter(|n| *n >= 10 || n % 3 == 0).collect();
        for (file, place, damage) in hits {
            let path = &files[file % files.len()];
            let Ok(mut bytes) = fs::read(path) else { continue };
            let at = place % bytes.len().max(1);
            // What a segment held is out of the reckoning if it was touched; the rest must come.
            if let Some(first) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()) {
                let next = files.iter().filter_map(|file| file.file_stem()?.to_str()?.parse::<u64>().ok())
                    .find(|other| *other > first).unwrap_or(60);
                untouched.retain(|number| !(first..next).contains(number));
            }
            match damage {
                Damage::Flip(bit) => if let Some(byte) = bytes.get_mut(at) { *byte ^= 1 << bit },
                Damage::Zero(length) => bytes.iter_mut().skip(at).take(length).for_each(|byte| *byte = 0),
                Damage::Truncate => bytes.truncate(at),
                Damage::Extend(more) => bytes.extend(more),
                Damage::Remove => { fs::remove_file(path).unwrap(); continue }
            }
            fs::write(path, bytes).unwrap();
        }
        let queue = DiskQueue::open(small.clone()).unwrap();
        let again = DiskQueue::open(small);
        assert!(again.is_err());
        push(&queue, 100..102, 700);
        let got = drain(&queue);
        let all = numbers(&got);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "out of order: {all:?}");
        let got_set: BTreeSet<u64> = all.iter().copied().collect();
        assert!(got_set.contains(&100) && got_set.contains(&101));
        let missing: Vec<_> = untouched.difference(&got_set).collect();
        assert!(missing.is_empty(), "lost without being touched: {missing:?}");
        let kept: u64 = fs::read_dir(queue_directory(root.path()).join("quarantine"))
            .map_or(0, |files| files.map(|file| file.unwrap().metadata().unwrap().len()).sum());
        assert!(kept <= 8 << 10);
        for delivery in &got {
            assert!(matches!(delivery.position, Position::Disk(_)));
            queue.ack(delivery.position);
        }
        queue.wait_for_acks();
        assert_eq!(queue.stats().disk.total().records, 0);
    }
}
