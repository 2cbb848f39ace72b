//! A process that is killed at any moment loses nothing that it was told to be safe.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use spandrel_disk_queue::{Delivery, DiskQueue, Held, Settings, SyncPolicy};

const ROUNDS: u64 = 100;
const SOON: Duration = Duration::from_secs(20);
const DIRECTORY: &str = "DISK_QUEUE_KILL_DIRECTORY";
const FIRST: &str = "DISK_QUEUE_KILL_FIRST";

fn settings(root: &Path) -> Settings {
    let mut settings = Settings::new(root, "killed");
    settings.segment_bytes = 256 << 10;
    settings.push_wait = SOON;
    // So that syncing, and what is removed after it, is under way when the kill comes.
    settings.sync = SyncPolicy::Interval(Duration::from_millis(5));
    settings
}

fn body(number: u64) -> Bytes {
    let size = 8 + (number.wrapping_mul(2_654_435_761) % 20_000) as usize;
    let mut body = number.to_le_bytes().to_vec();
    body.resize(size, number as u8);
    body.into()
}

fn number(delivery: &Delivery) -> u64 {
    let number = u64::from_le_bytes(delivery.body[..8].try_into().unwrap());
    assert_eq!(delivery.body, body(number), "altered");
    number
}

fn say(what: char, number: u64) {
    // Into the pipe in one piece, before anything else happens.
    let line = format!("{what} {number}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Pushes, takes and acknowledges until it is killed.
fn child(root: &Path, first: u64) -> ! {
    // Ends the line that the test runner began.
    say('\n', first);
    let queue = DiskQueue::open(settings(root)).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(delivery) = queue.next_blocking(SOON) else {
                        continue;
                    };
                    let number = number(&delivery);
                    // Some are in flight for ever.
                    if number.is_multiple_of(97) {
                        continue;
                    }
                    say('s', number);
                    queue.ack(delivery.position);
                    queue.wait_for_acks();
                    say('a', number);
                }
            });
        }
        for number in first.. {
            if queue.push(0, 1, body(number)).unwrap() == Held::OnDisk {
                say('p', number);
            }
        }
    });
    unreachable!("pushes for ever");
}

#[derive(Default)]
struct Told {
    pushed: BTreeSet<u64>,
    acking: BTreeSet<u64>,
    acked: BTreeSet<u64>,
}

#[test]
fn kills_at_a_hundred_random_moments_lose_nothing_that_was_acknowledged() {
    if let Some(root) = std::env::var_os(DIRECTORY) {
        let first = std::env::var(FIRST).unwrap().parse().unwrap();
        child(Path::new(&root), first);
    }
    let root = tempfile::tempdir().unwrap();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut random = since.unwrap().as_nanos() as u64;
    let mut told = Told::default();
    let (mut first, mut in_flight) = (0, 0);
    for round in 0..ROUNDS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let lines_to_live = (random >> 33) % 400;
        run_and_kill(root.path(), first, lines_to_live, &mut told);

        let queue = DiskQueue::open(settings(root.path())).unwrap();
        queue.finish();
        let left: Vec<Delivery> = std::iter::from_fn(|| queue.next_blocking(SOON)).collect();
        let numbers: Vec<u64> = left.iter().map(number).collect();
        let found: BTreeSet<u64> = numbers.iter().copied().collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "round {round}: out of order or twice: {numbers:?}"
        );
        let lost: Vec<_> = told
            .pushed
            .difference(&told.acking)
            .filter(|number| !found.contains(number))
            .collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
        let again: Vec<_> = told.acked.intersection(&found).collect();
        assert!(again.is_empty(), "round {round}: comes again {again:?}");
        // Besides, only what was being pushed at that moment.
        let unknown = found
            .difference(&told.pushed)
            .filter(|number| **number >= first);
        assert!(unknown.count() <= 1, "round {round}");
        assert_eq!(queue.stats().lost_records, 0, "round {round}");
        assert_eq!(queue.stats().dropped.len(), 0, "round {round}");
        in_flight += found.intersection(&told.acking).count();

        // Now and then a fresh start.
        if round % 10 == 9 {
            left.iter()
                .for_each(|delivery| queue.ack(delivery.position));
            queue.wait_for_acks();
            told.acked.extend(&found);
            told.acking.extend(&found);
        }
        assert!(queue.close(SOON).finished);
        // What was pushed without being told so may be there too, or gone again: all numbers that were seen are taken.
        let seen = [told.pushed.last(), told.acking.last(), found.last()];
        first = seen
            .into_iter()
            .flatten()
            .fold(first, |first, last| first.max(last + 2));
    }
    assert!(
        told.pushed.len() > 1_000,
        "only {} pushed",
        told.pushed.len()
    );
    assert!(
        told.acked.len() > 500,
        "only {} acknowledged",
        told.acked.len()
    );
    println!(
        "{} pushed, {} acknowledged, {in_flight} came again out of the hands of a consumer",
        told.pushed.len(),
        told.acked.len()
    );
}

fn run_and_kill(root: &Path, first: u64, lines_to_live: u64, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "kills_at_a_hundred_random_moments_lose_nothing_that_was_acknowledged",
        ])
        .args(["--nocapture", "--test-threads=1"])
        .env(DIRECTORY, root)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut seen = 0;
    for line in out.lines() {
        let line = line.unwrap();
        let Some((what, number)) = line.split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match what {
            "p" => told.pushed.insert(number),
            "s" => told.acking.insert(number),
            "a" => told.acked.insert(number),
            _ => continue,
        };
        seen += 1;
        if seen == lines_to_live + 1 {
            // Goes on reading: what is in the pipe was said before the kill.
            child.kill().unwrap();
        }
    }
    assert!(
        seen > lines_to_live,
        "the child ended by itself after {seen}"
    );
    child.wait().unwrap();
}
