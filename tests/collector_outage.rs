//! A Collector that is away for a while: memory stays in its cap, the rest is counted, and the order is kept.

#![allow(clippy::unwrap_used, clippy::panic)] // a failure in a test is a panic
#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use spandrel_exporter::{
    Compression, DestinationSettings, Protocol, QueueSettings, StorageSettings, reason,
};
use support::collector::Collector;
use support::process::Process;
use support::sending::{Sending, compressed, destination, numbers_of, resource, span};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);
const ENDPOINT: &str = "COLLECTOR_OUTAGE_ENDPOINT";
const DIRECTORY: &str = "COLLECTOR_OUTAGE_DIRECTORY";
/// Spans in a request: some 25 KiB.
const REQUEST: u64 = 50;
/// Requests before and during the outage: 2.5 and 25 MiB.
const BEFORE: u64 = 100;
const DURING: u64 = 1000;
/// Most bytes that may wait in memory.
const QUEUE: usize = 2 << 20;
/// What an allocator keeps beyond what is asked of it, and what a client takes that tries again and again.
const BESIDES: u64 = 4 << 20;

fn settings(endpoint: &str, directory: Option<&Path>) -> DestinationSettings {
    DestinationSettings {
        queue: QueueSettings {
            queue_size: QUEUE,
            num_consumers: 1,
            storage: directory.map(|directory| StorageSettings {
                // A busy machine's disk may take its time: then nothing is to go past it.
                push_wait: LIMIT,
                ..StorageSettings::new(directory)
            }),
            ..QueueSettings::default()
        },
        ..destination(Protocol::Grpc, endpoint, compressed(Compression::Zstd))
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes * 1024
}

/// Sends before, during and after an outage that the test makes, and says how much memory that took.
fn send(endpoint: &str) {
    let directory = std::env::var_os(DIRECTORY);
    let mut sending = Sending::start(settings(endpoint, directory.as_deref().map(Path::new)));
    let till = resource("till");
    let mut next = 0;
    let mut send = |sending: &mut Sending, requests: u64| {
        let mut most = 0;
        for _ in 0..requests {
            sending.send((next..next + REQUEST).map(|number| (till.clone(), span(number))));
            next += REQUEST;
            most = most.max(resident());
        }
        most
    };
    let mut before = 0;
    for _ in 0..BEFORE {
        before = before.max(send(&mut sending, 1));
        sending.wait_for("an answer", |spans| spans.in_flight == 0);
    }
    println!("\nbefore");
    wait_for_a_line();
    let during = send(&mut sending, DURING);
    let spans = sending.ledger.spans.snapshot();
    assert_eq!(spans.settled, BEFORE * REQUEST, "nobody was there");
    assert!(directory.is_some() || sending.exporter.queued_bytes() <= QUEUE);
    println!("grew {}", during.saturating_sub(before));
    wait_for_a_line();
    // It recovers alone: nothing is handed over that could wake it.
    sending.wait_for("recovery", |spans| spans.in_flight == 0);
    for _ in 0..BEFORE {
        send(&mut sending, 1);
        sending.wait_for("an answer", |spans| spans.in_flight == 0);
    }
    let spans = sending.drain().spans.snapshot();
    println!("settled {}", spans.settled);
    println!(
        "dropped {}",
        spans.dropped.get(reason::QUEUE_FULL).unwrap_or(&0)
    );
}

fn wait_for_a_line() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

fn value(lines: &[String], name: &str) -> Option<u64> {
    let value = lines.iter().find_map(|line| line.strip_prefix(name));
    value.map(|value| value.trim().parse().unwrap())
}

/// Makes the outage; returns the numbers of the spans in the Collector's file, and how many were dropped.
fn outage(test: &str, directory: Option<&Path>) -> Option<(Vec<u64>, u64)> {
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        send(&endpoint);
        return None;
    }
    let mut collector = Collector::start(test)?;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(ENDPOINT, collector.grpc_endpoint());
    if let Some(directory) = directory {
        command.env(DIRECTORY, directory);
    }
    let mut sender = Process::start_with_input(&mut command);
    let wait = |sender: &Process, name: &str| {
        let found = sender.stdout.wait(LIMIT, |lines| {
            lines
                .iter()
                .any(|line| line.starts_with(name))
                .then_some(())
        });
        assert!(
            found.is_some(),
            "no {name}: {}",
            sender.stderr.all().join("\n")
        );
    };
    wait(&sender, "before");
    collector.kill();
    sender.say("it is gone");
    wait(&sender, "grew");
    collector.restart();
    sender.say("it is back");
    let finished = sender.wait(LIMIT);
    let lines = finished.stdout;
    assert!(finished.status.success(), "{}", finished.stderr.join("\n"));
    let grew = value(&lines, "grew").unwrap();
    println!("memory grew by {} KiB during the outage", grew / 1024);
    assert!(
        grew <= QUEUE as u64 + BESIDES,
        "{grew} bytes more during the outage"
    );
    let numbers = numbers_of(&collector);
    assert_eq!(numbers.len() as u64, value(&lines, "settled").unwrap());
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "in order, none twice"
    );
    Some((numbers, value(&lines, "dropped").unwrap()))
}

#[test]
fn an_outage_with_a_queue_in_memory_costs_the_oldest_beyond_its_cap() {
    const TEST: &str = "an_outage_with_a_queue_in_memory_costs_the_oldest_beyond_its_cap";
    let Some((numbers, dropped)) = outage(TEST, None) else {
        return;
    };
    let made = (2 * BEFORE + DURING) * REQUEST;
    assert_eq!(numbers.len() as u64 + dropped, made);
    assert!(dropped > 0, "the outage was too short to mean anything");
    assert!((0..BEFORE * REQUEST).eq(numbers[..(BEFORE * REQUEST) as usize].iter().copied()));
    // One request was with the consumer and stays; after it, what is missing is missing in one piece.
    let gaps = numbers
        .windows(2)
        .filter(|pair| pair[0] + 1 != pair[1])
        .count();
    assert_eq!(gaps, 1);
    assert_eq!(numbers.last(), Some(&(made - 1)), "the youngest are there");
}

#[test]
fn an_outage_with_a_queue_on_disk_costs_nothing() {
    const TEST: &str = "an_outage_with_a_queue_on_disk_costs_nothing";
    let directory = TempDir::new().unwrap();
    let Some((numbers, dropped)) = outage(TEST, Some(directory.path())) else {
        return;
    };
    let made = (2 * BEFORE + DURING) * REQUEST;
    assert!(numbers.into_iter().eq(0..made));
    assert_eq!(dropped, 0);
}
