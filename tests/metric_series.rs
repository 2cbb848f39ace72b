//! From when to when metric series are told: a recording through the whole agent, into files.
#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use support::agent::command;
use support::ledger::Ledger;
use support::otlp::MetricPoint;
use tempfile::TempDir;

const SECOND: u64 = 1_000_000_000;
/// Unix time less the kernel's, in the recording.
const OFFSET: u64 = 1_700_000_000 * SECOND;

/// A recording that is made up event by event.
#[derive(Default)]
struct Recording {
    lines: Vec<String>,
    connections: u64,
}

impl Recording {
    fn event(&mut self, event: &str, at: u64, rest: &str) {
        let sequence = self.lines.len();
        self.lines.push(format!(
            r#"{{"event":"{event}","time":{at},"cpu":0,"sequence":{sequence},{rest}}}"#
        ));
    }

    fn started(&mut self, pid: u32, at: u64) {
        let rest = format!(
            r#""process":{{"tgid":{pid},"started":1}},"parent":1,"comm":"shop-{pid}","filename":null,"cgroup":0"#
        );
        self.event("process_started", at, &rest);
    }

    fn exited(&mut self, pid: u32, at: u64) {
        let rest = format!(r#""process":{{"tgid":{pid},"started":1}}"#);
        self.event("process_exited", at, &rest);
    }

    /// A connection with one request that a process answers within 10 ms.
    fn request(&mut self, pid: u32, at: u64) {
        self.connections += 1;
        let connection = self.connections;
        let opened = format!(
            r#""connection":{connection},"origin":"observed","transport":"tcp","role":"server","local":{{"socket":"192.0.2.1:8080"}},"peer":{{"socket":"192.0.2.9:50000"}},"netns":1,"connect_started":null,"process":null"#
        );
        self.event("connection_opened", at, &opened);
        for (direction, after, text) in [
            ("ingress", 0, r"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"),
            (
                "egress",
                SECOND / 100,
                r"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            ),
        ] {
            let length = text.len() - 2 * text.matches(r"\r\n").count();
            let rest = format!(
                r#""connection":{connection},"direction":"{direction}","position":0,"length":{length},"payload":{{"text":"{text}"}},"process":{{"tgid":{pid},"started":1}},"tid":{pid},"lineage":{pid},"cgroup":0,"srtt_us":300,"retransmits":0"#
            );
            self.event("message", at + after, &rest);
        }
        let closed = format!(
            r#""connection":{connection},"reset":false,"ingress_bytes":37,"egress_bytes":40"#
        );
        self.event("connection_closed", at + SECOND / 50, &closed);
    }
}

/// What a replay says, and writes into the files of readers, each given by its interval in milliseconds and its temporality.
struct Replay {
    said: String,
    ledger: Ledger,
    files: Vec<Vec<MetricPoint>>,
}

/// Where each process has series of its own.
fn replayed(recording: &Recording, readers: &[(u64, &str)]) -> Replay {
    let ours = "distribution: {spandrel: {version: \"1.0\", metrics: {per_process: true}}}\n";
    replayed_with(recording, readers, ours)
}

fn replayed_with(recording: &Recording, readers: &[(u64, &str)], ours: &str) -> Replay {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let files: Vec<_> = (0..readers.len())
        .map(|at| path(&format!("points-{at}")))
        .collect();
    let mut config = format!("file_format: \"1.1\"\n{ours}meter_provider:\n  readers:\n");
    for (file, (interval, temporality)) in files.iter().zip(readers) {
        config += &format!(
            "    - {{periodic: {{interval: {interval}, exporter: {{otlp_file/development: {{output_stream: \"file://{file}\", temporality_preference: {temporality}}}}}}}}}\n"
        );
    }
    let header = format!(
        r#"{{"spandrel_recording":1,"clock_offset":{OFFSET},"id_seed":42,"written_by":"a test"}}"#
    );
    let lines: Vec<_> = [header].iter().chain(&recording.lines).cloned().collect();
    let (file, ledger) = (path("recording"), path("ledger"));
    fs::write(&file, lines.join("\n")).unwrap();
    fs::write(path("config"), config).unwrap();
    let config = path("config");
    let arguments = ["replay", &file, "--config", &config, "--ledger", &ledger];
    let output = command(&arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let ledger = Ledger::read(ledger.as_ref());
    ledger.assert_closed();
    let read = |file: &String| {
        let text = fs::read_to_string(file).unwrap();
        let points = text.lines().flat_map(MetricPoint::of_line);
        points
            .filter(|point| point.name == "http.server.request.duration")
            .collect()
    };
    Replay {
        said,
        ledger,
        files: files.iter().map(read).collect(),
    }
}

fn nanos(point: &MetricPoint, key: &str) -> u64 {
    point.point[key].as_str().unwrap().parse().unwrap()
}

/// Start, end and count of the points of each process, in the order in which they were written.
fn by_process(points: &[MetricPoint]) -> BTreeMap<u64, Vec<(u64, u64, u64)>> {
    let mut told: BTreeMap<u64, Vec<(u64, u64, u64)>> = BTreeMap::new();
    for point in points {
        let since = |key| nanos(point, key) - OFFSET;
        let pid = point.resource["process.pid"].as_u64().unwrap();
        told.entry(pid).or_default().push((
            since("startTimeUnixNano"),
            since("timeUnixNano"),
            point.count,
        ));
    }
    told
}

fn told(points: &[MetricPoint], pid: u64) -> Vec<(u64, u64, u64)> {
    by_process(points).remove(&pid).unwrap_or_default()
}

#[test]
fn series_of_an_ended_process_end_at_every_destination() {
    let mut recording = Recording::default();
    recording.started(200, SECOND);
    recording.request(200, 2 * SECOND);
    recording.exited(200, 3 * SECOND);
    recording.started(201, 4 * SECOND);
    for at in (5..120).step_by(5) {
        recording.request(201, at * SECOND);
    }
    // Something that is seen to start or to end is what lets the agent forget those that ended before.
    recording.started(202, 60 * SECOND);
    let readers = [(10_000, "cumulative"), (15_000, "cumulative")];
    let Replay { files, .. } = replayed(&recording, &readers);
    for points in &files {
        let last = |pid| told(points, pid).last().unwrap().1;
        assert!(last(201) > 110 * SECOND, "{}", last(201));
        assert!(
            last(200) < 80 * SECOND,
            "told {} s after the process ended",
            last(200) / SECOND - 3
        );
    }
}

#[test]
fn a_cumulative_series_begins_with_zero_at_its_start_and_a_delta_series_does_not() {
    let mut recording = Recording::default();
    recording.started(200, SECOND);
    for at in [2, 5, 12, 25, 31] {
        recording.request(200, at * SECOND);
    }
    recording.started(201, 13 * SECOND);
    recording.request(201, 14 * SECOND);
    let readers = [(10_000, "cumulative"), (10_000, "delta")];
    let Replay { files, .. } = replayed(&recording, &readers);
    for (pid, requests) in [(200, 5), (201, 1)] {
        let cumulative = told(&files[0], pid);
        let (start, time, count) = cumulative[0];
        assert_eq!((time, count), (start, 0), "{cumulative:?}");
        assert!(cumulative.iter().all(|point| point.0 == start));
        assert!(cumulative.is_sorted_by(|left, right| left.1 < right.1));
        assert_eq!(cumulative.last().unwrap().2, requests);

        let delta = told(&files[1], pid);
        assert!(delta.iter().all(|point| point.0 < point.1 && point.2 > 0));
        assert_eq!(delta.iter().map(|point| point.2).sum::<u64>(), requests);
    }
    let first_requests = [2 * SECOND, 14 * SECOND];
    for (pid, first) in [200, 201].into_iter().zip(first_requests) {
        let start = told(&files[0], pid)[0].0;
        assert!(start <= first && first - start < 15 * SECOND, "{start}");
    }
}

#[test]
fn every_process_has_its_metrics_also_where_there_are_more_than_series() {
    const PROCESSES: u32 = 7_000;
    let mut recording = Recording::default();
    for number in 0..PROCESSES {
        recording.request(1000 + number, SECOND + u64::from(number) * SECOND / 1000);
    }
    // The first one is measured again, when its series have made room for others.
    recording.request(1000, 20 * SECOND);
    let readers = [(10_000, "cumulative"), (10_000, "delta")];
    let replay = replayed(&recording, &readers);
    // Duration and two sizes of each request, for each reader: more series than the 20,000 that there may be.
    let measured = 2 * 3 * u64::from(PROCESSES + 1);
    assert_eq!(replay.ledger.count("measurements", "aggregated"), measured);
    assert!(
        replay.said.contains("ended for want of room"),
        "{}",
        replay.said
    );
    let (cumulative, delta) = (by_process(&replay.files[0]), by_process(&replay.files[1]));
    assert_eq!((cumulative.len(), delta.len()), (7_000, 7_000));
    for (pid, cumulative) in cumulative {
        let requests = if pid == 1000 { 2 } else { 1 };
        let zeros = cumulative.iter().filter(|point| point.2 == 0).count();
        let most = cumulative.iter().map(|point| point.2).max();
        // What is measured again begins again.
        assert_eq!((zeros, most), (requests, Some(1)), "{pid}: {cumulative:?}");
        let counted: u64 = delta[&pid].iter().map(|point| point.2).sum();
        assert_eq!(counted, requests as u64, "{pid}: {delta:?}");
    }
}

#[test]
fn processes_of_a_service_that_live_shortly_share_their_series() {
    const PROCESSES: u32 = 500;
    let mut recording = Recording::default();
    for number in 0..PROCESSES {
        let (pid, at) = (1000 + number, SECOND + u64::from(number) * SECOND / 10);
        let rest = format!(
            r#""process":{{"tgid":{pid},"started":1}},"parent":1,"comm":"curl","filename":"/usr/bin/curl","cgroup":0"#
        );
        recording.event("process_started", at, &rest);
        recording.request(pid, at + 1000);
        recording.exited(pid, at + SECOND / 20);
    }
    let readers = [(10_000, "cumulative"), (10_000, "delta")];
    let Replay { files, .. } = replayed_with(&recording, &readers, "");
    let attributes: BTreeSet<String> = files
        .iter()
        .flatten()
        .map(|point| serde_json::to_string(&(&point.resource, &point.attributes)).unwrap())
        .collect();
    assert_eq!(attributes.len(), 1, "{attributes:?}");
    let mut points = files.iter().flatten();
    let mut keys = points.next().unwrap().resource.keys();
    assert!(
        !keys.any(|key| key.starts_with("process.")),
        "{attributes:?}"
    );
    let (cumulative, delta) = (&files[0], &files[1]);
    assert_eq!(cumulative.last().unwrap().count, u64::from(PROCESSES));
    let starts: BTreeSet<u64> = cumulative
        .iter()
        .map(|point| nanos(point, "startTimeUnixNano"))
        .collect();
    assert_eq!(starts.len(), 1, "one series, which never begins anew");
    let told: u64 = delta.iter().map(|point| point.count).sum();
    assert_eq!(told, u64::from(PROCESSES));
}
