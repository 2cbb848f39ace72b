//! Sampling leaves spans out and no measurement: a recording through the whole agent, into files.
#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::fs;
use std::process::Stdio;

use support::agent::command;
use support::ledger::Ledger;
use support::machine::repository;
use support::otlp::{MetricPoint, Span};
use tempfile::TempDir;

struct Outcome {
    spans: Vec<Span>,
    points: Vec<MetricPoint>,
    ledger: Ledger,
}

/// Replays the recording of one request that succeeds and one that fails, with these lines in the configuration.
fn replay(sampler: &str, sampling: &str) -> Outcome {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (spans, points, ledger) = (path("spans"), path("points"), path("ledger"));
    let config = format!(
        "file_format: \"1.1\"
tracer_provider:
  processors: [{{batch: {{exporter: {{otlp_file/development: {{output_stream: \"file://{spans}\"}}}}}}}}]
  sampler: {sampler}
meter_provider:
  readers: [{{periodic: {{exporter: {{otlp_file/development: {{output_stream: \"file://{points}\"}}}}}}}}]
distribution: {{spandrel: {{version: \"1.0\", sampling: {sampling}}}}}
"
    );
    let file = path("config.yaml");
    fs::write(&file, config).unwrap();
    let recording = repository().join("tests/data/two_requests.jsonl");
    let output = command(&[
        "replay",
        recording.to_str().unwrap(),
        "--config",
        &file,
        "--ledger",
        &ledger,
    ])
    .stdin(Stdio::null())
    .output()
    .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = |path: &str| fs::read_to_string(path).unwrap();
    let outcome = Outcome {
        spans: lines(&spans).lines().flat_map(Span::of_line).collect(),
        points: lines(&points)
            .lines()
            .flat_map(MetricPoint::of_line)
            .collect(),
        ledger: Ledger::read(ledger.as_ref()),
    };
    outcome.ledger.assert_closed();
    outcome
}

impl Outcome {
    /// How many requests the histogram of durations counts.
    fn measured(&self) -> u64 {
        self.durations().map(|point| point.count).sum()
    }

    fn durations(&self) -> impl Iterator<Item = &MetricPoint> {
        self.points
            .iter()
            .filter(|point| point.name == "http.server.request.duration")
    }

    /// The traces that exemplars name.
    fn exemplars(&self) -> Vec<String> {
        self.durations()
            .filter_map(|point| point.point["exemplars"][0]["traceId"].as_str())
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn with_always_off_the_histograms_count_all_and_no_span_leaves() {
    let outcome = replay("{always_off: }", "{}");
    assert_eq!((outcome.measured(), outcome.spans.len()), (2, 0));
    assert_eq!(outcome.exemplars(), Vec::<String>::new());
    assert_eq!(outcome.ledger.count("spans", "made"), 2);
    // Duration and sizes of two requests.
    assert_eq!(outcome.ledger.count("measurements", "aggregated"), 6);
    assert_eq!(outcome.ledger.dropped("spans", "sampling.not_sampled"), 2);
}

#[test]
fn with_always_on_every_span_leaves_as_it_is() {
    let outcome = replay("{always_on: }", "{}");
    assert_eq!((outcome.measured(), outcome.spans.len()), (2, 2));
    assert!(outcome.spans.iter().all(|span| span.trace_state.is_empty()));
    assert_eq!(outcome.exemplars().len(), 2);
    assert_eq!(outcome.ledger.count("spans", "exported"), 2);
}

#[test]
fn an_error_is_kept_with_its_count_and_only_it_is_an_exemplar() {
    let outcome = replay("{always_off: }", "{keep_errors: true}");
    let [span] = &outcome.spans[..] else {
        unreachable!("{:?}", outcome.spans);
    };
    assert_eq!(
        (span.status, span.trace_state.as_str()),
        ("error", "ot=th:0")
    );
    assert_eq!(outcome.measured(), 2);
    assert_eq!(outcome.exemplars(), std::slice::from_ref(&span.trace_id));
    assert_eq!(outcome.ledger.dropped("spans", "sampling.not_sampled"), 1);
}

#[test]
fn what_a_limit_leaves_out_has_its_own_reason() {
    let outcome = replay("{always_on: }", "{rate_limit: {spans_per_second: 0.0001}}");
    let dropped = outcome.ledger.dropped("spans", "sampling.rate_limited");
    assert_eq!(outcome.spans.len() as u64 + dropped, 2);
    assert!(
        outcome
            .spans
            .iter()
            .all(|span| span.trace_state.starts_with("ot=th:"))
    );
    assert_eq!(outcome.measured(), 2);
}
