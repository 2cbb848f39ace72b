//! Messages of a Go program carry the number of the goroutine that reads or writes, whichever thread it is on.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use spandrel_model::recording::Recording;
use spandrel_model::{Event, Lineage};
use support::agent::{Agent, command};
use support::backends::on_each_backend;
use support::machine::has;
use support::traffic::Server;

const LIMIT: Duration = Duration::from_secs(60);

/// One request on a connection of its own.
fn get(port: u16, path: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// The goroutine of each end by (local port, peer port), as the program itself says.
fn truth(lines: &[Value]) -> BTreeMap<(u64, u64), u64> {
    lines
        .iter()
        .map(|line| {
            let number = |key: &str| line[key].as_u64().unwrap();
            ((number("local"), number("peer")), number("goroutine"))
        })
        .collect()
}

fn goroutines_are_told_apart(test: &str, backend: &str) {
    if !has(test, &["go"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("spandrel.yaml");
    let text = format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      \
         backend: {backend}\n"
    );
    std::fs::write(&configuration, text).unwrap();
    let recording = folder.path().join("recording.jsonl");
    let server = Server::goroutines(20);
    let agent = Agent::start(&[
        "trace",
        "--output",
        "otlp-json",
        "--pid",
        &server.pid().to_string(),
        "--config",
        configuration.to_str().unwrap(),
        "--record",
        recording.to_str().unwrap(),
    ]);
    // A span of it means that the program has been examined.
    get(server.port, "/first");
    agent.wait_for_spans(1, LIMIT);
    get(server.port, "/start");
    // One line for each end: 20 clients, 20 servers, and the two requests of this test.
    let truth = truth(&server.wait_for_lines(42));
    // All requests of the 20 connections at both ends, and the two of this test.
    agent.wait_for_spans(2 * 40 + 2, LIMIT);
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));

    let text = std::fs::read(&recording).unwrap();
    let events = Recording::read(text.as_slice()).unwrap().events;
    let mut ends = BTreeMap::new();
    let mut lineages: BTreeMap<(u64, u64), BTreeSet<Lineage>> = BTreeMap::new();
    let mut threads = BTreeSet::new();
    for event in &events {
        match event {
            Event::ConnectionOpened(opened) => {
                let ports = [opened.local.port(), opened.peer.port()].map(|port| port.unwrap());
                ends.insert(opened.connection, (ports[0].into(), ports[1].into()));
            }
            Event::Message(message) => {
                let end = ends[&message.connection];
                if truth.contains_key(&end) {
                    lineages.entry(end).or_default().insert(message.lineage);
                    threads.insert(message.tid);
                }
            }
            _ => {}
        }
    }
    assert_eq!(lineages.len(), truth.len(), "{backend}");
    let mut unexamined = 0;
    for (end, found) in &lineages {
        let goroutine = truth[end];
        let expected = Lineage::Goroutine { goroutine };
        // The connection of the first request began before the program was examined, and says so.
        if found
            .iter()
            .any(|one| matches!(one, Lineage::Thread(tid) if *tid > 0))
        {
            unexamined += 1;
            continue;
        }
        assert_eq!(found, &BTreeSet::from([expected]), "{backend}: {end:?}");
    }
    assert!(unexamined <= 1, "{backend}: {lineages:?}");
    let numbers: BTreeSet<u64> = truth.values().copied().collect();
    assert_eq!(numbers.len(), truth.len(), "each end has its own goroutine");
    assert!(threads.len() < truth.len() / 2, "few threads: {threads:?}");

    let replay = || {
        let path = recording.to_str().unwrap();
        let output = command(&["replay", path, "--output", "otlp-json"])
            .output()
            .unwrap();
        assert!(output.status.success());
        output.stdout
    };
    assert_eq!(replay(), replay(), "a replay is the same each time");
}

on_each_backend! {
    fn each_goroutine_has_its_number(backend) {
        goroutines_are_told_apart("each_goroutine_has_its_number", backend);
    }
}
