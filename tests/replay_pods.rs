//! Whose spans are in a replay, and which of them selectors by pod let through. data/pods.jsonl has a process for each case.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::fs;
use std::process::Stdio;

use support::agent::command;
use support::machine::repository;
use support::otlp::Span;
use tempfile::TempDir;

fn recording() -> String {
    fs::read_to_string(repository().join("tests/data/pods.jsonl")).unwrap()
}

/// What a replay of these lines prints with these selectors, and what it says of the ledger.
fn replayed(recording: &str, selectors: &str) -> (String, String) {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      selectors: {selectors}\n"
    );
    let (recording, config) = (file("recording", recording), file("config", &config));
    let arguments = [
        "replay",
        &recording,
        "--config",
        &config,
        "--output",
        "otlp-json",
    ];
    let output = command(&arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let said = text(output.stderr);
    assert!(output.status.success(), "{said}");
    (text(output.stdout), said)
}

fn spans(printed: &str) -> Vec<Span> {
    let mut spans: Vec<_> = printed.lines().flat_map(Span::of_line).collect();
    spans.sort_by_key(|span| span.start_ns);
    spans
}

fn paths(selectors: &str) -> Vec<String> {
    let spans = spans(&replayed(&recording(), selectors).0);
    spans
        .iter()
        .map(|span| span.text("url.path").to_owned())
        .collect()
}

#[test]
fn selectors_by_pod_decide_in_a_replay_as_in_the_run() {
    for (selectors, expected) in [
        (
            "{include: [{kubernetes: {namespace: shop}}]}",
            &["/front", "/back", "/late"][..],
        ),
        (
            "{include: [{kubernetes: {pod_labels: {tier: front}}}]}",
            &["/front", "/late"],
        ),
        (
            "{include: [{kubernetes: {pod_labels: {never: recorded}}}]}",
            &[],
        ),
        (
            "{include: [{kubernetes: {pod_annotations: {team.example.com/owner: a}}}]}",
            &["/front", "/late"],
        ),
        (
            "{include: [{kubernetes: {workload_kind: statefulset}}]}",
            &["/back"],
        ),
        (
            "{include: [{kubernetes: {workload_name: agen*}}]}",
            &["/ops"],
        ),
        (
            "{include: [{kubernetes: {container_name: postgres}}]}",
            &["/back"],
        ),
        // Old recordings say nothing of pods to selectors, and what was unknown in the run is not guessed.
        (
            "{exclude: [{kubernetes: {namespace: shop}}]}",
            &["/ops", "/host", "/old", "/first-program", "/second-program"],
        ),
        ("{include: [{executable: /bin/shop}]}", &["/second-program"]),
    ] {
        assert_eq!(paths(selectors), expected, "{selectors}");
    }
    let (_, said) = replayed(&recording(), "{include: [{kubernetes: {namespace: shop}}]}");
    assert!(said.contains(" 1 selection.pod_unknown"), "{said}");
}

#[test]
fn a_span_has_what_was_known_of_its_process_at_its_time() {
    let spans = spans(&replayed(&recording(), "{}").0);
    let known: Vec<_> = spans
        .iter()
        .map(|span| {
            let of = |key: &str| {
                span.resource
                    .get(key)
                    .and_then(|it| it.as_str())
                    .unwrap_or("")
            };
            (
                span.text("url.path"),
                of("service.name"),
                of("k8s.pod.name"),
            )
        })
        .collect();
    assert_eq!(
        known,
        [
            ("/front", "web", "web-1"),
            ("/back", "db", "db-0"),
            ("/ops", "agent", "agent-1"),
            ("/host", "sshd", ""),
            ("/early", "python3", ""),
            ("/old", "old", "old-1"),
            ("/first-program", "sh", ""),
            ("/second-program", "shop", ""),
            ("/late", "web", "web-2"),
        ]
    );
}

#[test]
fn the_order_of_a_recordings_lines_shows_nowhere() {
    let recording = recording();
    let (header, lines) = recording.split_once('\n').unwrap();
    let mut backwards: Vec<&str> = lines.lines().collect();
    backwards.reverse();
    let mut shuffled = backwards.clone();
    // Each line at a place far from its own, by a step that has no factor in common with their number.
    let step = (7..).find(|step| gcd(*step, backwards.len()) == 1).unwrap();
    for (at, line) in backwards.iter().enumerate() {
        shuffled[at * step % backwards.len()] = line;
    }
    for selectors in ["{}", "{include: [{kubernetes: {namespace: shop}}]}"] {
        let (original, _) = replayed(&recording, selectors);
        assert!(original.contains("web-2"));
        for lines in [&backwards, &shuffled] {
            let other = format!("{header}\n{}\n", lines.join("\n"));
            assert_eq!(replayed(&other, selectors).0, original, "{selectors}");
        }
    }
}

fn gcd(left: usize, right: usize) -> usize {
    if right == 0 {
        left
    } else {
        gcd(right, left % right)
    }
}

#[test]
fn a_selector_that_the_recording_cannot_answer_is_named() {
    let recording = recording();
    let said = |recording: &str, selectors: &str| replayed(recording, selectors).1;
    let label = said(
        &recording,
        "{include: [{kubernetes: {pod_labels: {never: recorded, tier: front}}}]}",
    );
    assert!(
        label.contains("a selector names the label `never`"),
        "{label}"
    );
    assert!(!label.contains("`tier`"), "{label}");
    let annotation = said(
        &recording,
        "{exclude: [{kubernetes: {pod_annotations: {never/recorded: x}}}]}",
    );
    let expected = "a selector names the annotation `never/recorded`";
    assert!(annotation.contains(expected), "{annotation}");
    let without_pods: String = recording
        .lines()
        .filter(|line| !line.contains("\"pod\""))
        .map(|line| format!("{line}\n"))
        .collect();
    let none = said(
        &without_pods,
        "{include: [{kubernetes: {namespace: shop}}]}",
    );
    assert!(none.contains("the recording knows of none"), "{none}");
    for quiet in ["{}", "{include: [{kubernetes: {namespace: shop}}]}"] {
        let said = said(&recording, quiet);
        assert!(!said.contains("selector"), "{quiet}: {said}");
    }
}

#[test]
fn a_selector_by_port_decides_in_a_replay_too() {
    let all = paths("{}");
    assert_eq!(paths("{include: [{port: 1-65535}]}"), all);
    assert_eq!(paths("{exclude: [{port: 1-65535}]}"), [""; 0]);
    assert_eq!(paths("{include: [{port: 65535}]}"), [""; 0]);
}
