//! With a queue on disk, a Collector's file is what was acknowledged, whoever is killed and whenever.

#![allow(clippy::unwrap_used, clippy::panic)] // a failure in a test is a panic
#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spandrel_exporter::{
    Compression, DestinationSettings, Protocol, QueueSettings, StorageSettings, SyncPolicy,
};
use support::collector::Collector;
use support::process::Process;
use support::sending::{Sending, compressed, destination, numbers_of, resource, span};
use tempfile::TempDir;

const KILLS: usize = 10;
/// Spans in a request.
const REQUEST: u64 = 10;
/// Most spans that wait: a producer that the disk alone holds back would only make the test long.
const AHEAD: u64 = 2000;
const LIMIT: Duration = Duration::from_secs(30);

/// Other moments in each run; said at the beginning.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        println!("seed {}", now.as_nanos() as u64);
        Self(now.as_nanos() as u64)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

fn stored(
    protocol: Protocol,
    endpoint: &str,
    directory: &Path,
    consumers: usize,
) -> DestinationSettings {
    DestinationSettings {
        queue: QueueSettings {
            num_consumers: consumers,
            storage: Some(StorageSettings {
                fsync: SyncPolicy::Interval(Duration::from_millis(20)),
                // A busy machine's disk may take its time: then nothing is to go past it.
                push_wait: LIMIT,
                ..StorageSettings::new(directory)
            }),
            ..QueueSettings::default()
        },
        ..destination(protocol, endpoint, compressed(Compression::Gzip))
    }
}

/// How often each span was written, by its number.
fn times_written(collector: &Collector) -> BTreeMap<u64, u64> {
    let mut times = BTreeMap::new();
    for number in numbers_of(collector) {
        *times.entry(number).or_default() += 1;
    }
    times
}

fn requests(
    first: u64,
) -> impl Iterator<Item = (Arc<spandrel_model::Resource>, spandrel_model::SpanRecord)> {
    let till = resource("till");
    (first..first + REQUEST).map(move |number| (till.clone(), span(number)))
}

/// Kills and restarts the Collector under load. With one consumer it is also known which spans were acknowledged when.
fn a_killed_collector_has_what_it_acknowledged(protocol: Protocol, consumers: usize, test: &str) {
    let Some(mut collector) = Collector::start(test) else {
        return;
    };
    let endpoint = match protocol {
        Protocol::Grpc => collector.grpc_endpoint(),
        _ => collector.http_endpoint(),
    };
    let directory = TempDir::new().unwrap();
    let mut sending = Sending::start(stored(protocol, &endpoint, directory.path(), consumers));
    let ledger = Arc::clone(&sending.ledger);
    let acknowledged = || ledger.spans.snapshot().settled;
    let over = Arc::new(AtomicBool::new(false));
    let producer = {
        let (over, ledger) = (Arc::clone(&over), Arc::clone(&ledger));
        thread::spawn(move || {
            let mut next = 0;
            while !over.load(Ordering::Relaxed) {
                if next < ledger.spans.snapshot().settled + AHEAD {
                    sending.send(requests(next));
                    next += REQUEST;
                } else {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            (sending, next)
        })
    };
    let mut random = Random::new();
    let in_flight = consumers as u64 * REQUEST;
    for kill in 0..KILLS {
        let enough = acknowledged() + 1 + random.below(1500);
        support::machine::wait_until("load", LIMIT, || acknowledged() >= enough);
        thread::sleep(Duration::from_micros(random.below(2000)));
        collector.kill();
        // Answers that had left it can still be read, so that this may grow, but not beyond what is in the file.
        let before = acknowledged();
        let written = times_written(&collector).len() as u64;
        assert!(
            (before..=before + in_flight).contains(&written),
            "kill {kill}: {before} spans acknowledged, {written} written"
        );
        if consumers == 1 {
            let all = times_written(&collector);
            let missing: Vec<u64> = (0..before)
                .filter(|number| !all.contains_key(number))
                .collect();
            let beyond: Vec<u64> = all.range(before..).map(|(number, _)| *number).collect();
            assert!(
                missing.is_empty(),
                "kill {kill}: of {before} acknowledged {missing:?} are missing, {beyond:?} are there"
            );
        }
        collector.restart();
    }
    over.store(true, Ordering::Relaxed);
    let (sending, made) = producer.join().unwrap();
    let spans = sending.drain().spans.snapshot();
    assert_eq!(
        (spans.seen, spans.settled, spans.in_flight),
        (made, made, 0),
        "{spans:?}"
    );
    let times = times_written(&collector);
    let all: Vec<u64> = times.keys().copied().collect();
    assert_eq!(
        all,
        (0..made).collect::<Vec<_>>(),
        "exactly what was acknowledged"
    );
    let again: u64 = times.values().map(|times| times - 1).sum();
    println!("{made} spans, {again} written again after {KILLS} kills");
    assert!(
        again <= KILLS as u64 * in_flight,
        "{again} repeats are more than were in flight"
    );
}

#[test]
fn a_collector_killed_ten_times_over_grpc_has_what_it_acknowledged() {
    const TEST: &str = "a_collector_killed_ten_times_over_grpc_has_what_it_acknowledged";
    a_killed_collector_has_what_it_acknowledged(Protocol::Grpc, 1, TEST);
}

#[test]
fn a_collector_killed_ten_times_over_http_has_what_it_acknowledged() {
    const TEST: &str = "a_collector_killed_ten_times_over_http_has_what_it_acknowledged";
    a_killed_collector_has_what_it_acknowledged(Protocol::HttpProtobuf, 4, TEST);
}

const ENDPOINT: &str = "COLLECTOR_KILLS_ENDPOINT";
const DIRECTORY: &str = "COLLECTOR_KILLS_DIRECTORY";
const FIRST: &str = "COLLECTOR_KILLS_FIRST";
const CONSUMERS: usize = 2;

fn say(line: &str) {
    // In one piece, before anything else happens.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Hands spans over until it is killed, and says of each request that it has been taken.
fn send_until_killed(endpoint: &str) -> ! {
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let settings = stored(Protocol::Grpc, endpoint, Path::new(&directory), CONSUMERS);
    let mut sending = Sending::start(settings);
    say("");
    for next in (first..).step_by(REQUEST as usize) {
        sending.send(requests(next));
        say(&format!("taken {next}"));
        let ahead = || sending.ledger.spans.snapshot().in_flight > AHEAD;
        while ahead() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    unreachable!("there is always another one");
}

fn sender(test: &str, endpoint: &str, directory: &Path, first: u64) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(ENDPOINT, endpoint)
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string());
    Process::start(&mut command)
}

fn taken(lines: &[String]) -> Option<u64> {
    let last = lines
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("taken "));
    last.map(|number| number.parse().unwrap())
}

#[test]
fn a_sender_killed_ten_times_loses_nothing_that_it_had_taken() {
    const TEST: &str = "a_sender_killed_ten_times_loses_nothing_that_it_had_taken";
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        send_until_killed(&endpoint);
    }
    let Some(collector) = Collector::start(TEST) else {
        return;
    };
    let (directory, endpoint) = (TempDir::new().unwrap(), collector.grpc_endpoint());
    let mut random = Random::new();
    let mut told = Vec::new();
    let mut first = 0;
    for kill in 0..KILLS {
        let mut sender = sender(TEST, &endpoint, directory.path(), first);
        let enough = 1 + random.below(150) as usize;
        let loaded = sender.stdout.wait(LIMIT, |lines| {
            let count = lines
                .iter()
                .filter(|line| line.starts_with("taken"))
                .count();
            (count >= enough).then_some(())
        });
        assert!(
            loaded.is_some(),
            "kill {kill}: {}",
            sender.stderr.all().join("\n")
        );
        thread::sleep(Duration::from_micros(random.below(3000)));
        sender.kill();
        let lines = sender.stdout.at_end();
        let last = taken(&lines).unwrap();
        told.extend(first..last + REQUEST);
        // The request after it may or may not have been taken. The next ones have other numbers.
        first = last + 2 * REQUEST;
    }
    // What the last one left is sent by one that nobody kills.
    let last = Sending::start(stored(
        Protocol::Grpc,
        &endpoint,
        directory.path(),
        CONSUMERS,
    ));
    let left = last.ledger.spans.snapshot().seen;
    let spans = last.drain().spans.snapshot();
    assert_eq!((spans.settled, spans.in_flight), (left, 0), "{spans:?}");

    let times = times_written(&collector);
    let missing: Vec<_> = told
        .iter()
        .filter(|number| !times.contains_key(number))
        .collect();
    assert!(
        missing.is_empty(),
        "taken, and not in the Collector's file: {missing:?}"
    );
    let untold = times.len() - told.len();
    assert!(
        untold as u64 <= KILLS as u64 * REQUEST,
        "{untold} spans of nobody"
    );
    let again: u64 = times.values().map(|times| times - 1).sum();
    println!(
        "{} spans, {again} written again after {KILLS} kills, {left} left at the end",
        told.len()
    );
    let in_flight = CONSUMERS as u64 * REQUEST;
    assert!(
        again <= KILLS as u64 * in_flight,
        "{again} repeats are more than were in flight"
    );
}
