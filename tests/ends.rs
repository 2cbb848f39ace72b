//! When an exchange has ended of which the answer never came, or not whole: when its end was told to the program.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::agent::{capture, trace};
use support::backends::{on_each_backend, times_are_compared};
use support::machine::repository;
use support::otlp::Span;
use support::process::Process;

const LIMIT: Duration = Duration::from_secs(60);
/// What may lie between a program's look at the clock and the agent's conversion of the kernel's.
const CLOCKS: u64 = 2_000_000;

/// Between which times one end of a connection came to know the end, as the program itself says.
struct Window {
    path: String,
    kind: String,
    error: String,
    from: u64,
    to: u64,
}

fn windows(lines: &[String]) -> Vec<Window> {
    let lines = lines.iter().filter(|line| line.starts_with("{\""));
    let windows = lines.map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        let time = |name: &str| line[name].as_u64().unwrap();
        Window {
            path: text("path"),
            kind: text("kind"),
            error: text("error"),
            from: time("from_ns"),
            to: time("to_ns"),
        }
    });
    windows.collect()
}

fn is_of(span: &Span, window: &Window) -> bool {
    span.kind == window.kind
        && (span.text("url.path") == window.path || span.text("url.full").ends_with(&window.path))
}

on_each_backend! {
    fn an_exchange_without_a_whole_answer_ends_when_its_program_could_know(backend) {
        let mut command = Command::new("unshare");
        command.args(["--net", "python3"]).arg(repository().join("tests/traffic/ends.py"));
        let mut program = Process::start_with_input(&mut command);
        let pid = program.stdout.wait(LIMIT, |lines| lines.first().cloned()).unwrap();
        let agent = trace(&capture(backend, &[]), &["--pid", &pid]);
        program.say("go");
        let ended = program.stdout.wait(LIMIT, |lines| lines.iter().any(|line| line == "{}").then_some(()));
        assert!(ended.is_some(), "{:?}", program.stderr.all());
        let windows = windows(&program.stdout.all());
        assert_eq!(windows.len(), 15);
        // Also of those whose sockets go on, as their programs keep them or nobody answers.
        agent.wait_for_spans(windows.len(), LIMIT);
        let outcome = agent.stop();
        program.say("end");
        let spans = outcome.spans();
        assert_eq!(spans.len(), windows.len());
        for window in &windows {
            let (path, kind) = (&window.path, &window.kind);
            let found: Vec<_> = spans.iter().filter(|span| is_of(span, window)).collect();
            assert_eq!(found.len(), 1, "{kind} {path}");
            let span = found[0];
            assert_eq!(span.text("error.type"), window.error, "{kind} {path}");
            let is_within = (window.from - CLOCKS..=window.to + CLOCKS).contains(&span.end_ns);
            let late = span.end_ns.saturating_sub(window.to) / 1_000_000;
            assert!(is_within || !times_are_compared("ends"), "{kind} {path}: {late} ms late");
        }
    }
}
