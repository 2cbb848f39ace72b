//! An agent that asks container runtimes, and what it says of their containers.
#![allow(dead_code)] // each test file takes what it needs

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::support::agent::{Agent, Outcome, command};
use super::support::machine::wait_until;
use super::support::otlp::Span;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Without Kubernetes; these sockets are asked.
pub(crate) fn configuration(sockets: &[&Path], hold: &str) -> NamedTempFile {
    let mut text = format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    kubernetes:\n      enabled: never\n    \
         containers:\n      hold: {hold}\n      sockets:\n"
    );
    for socket in sockets {
        writeln!(text, "        - {}", socket.display()).unwrap();
    }
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

pub(crate) fn agent(sockets: &[&Path], hold: &str) -> Agent {
    let file = configuration(sockets, hold);
    let file = file.path().to_str().unwrap();
    Agent::start(&["trace", "--output", "otlp-json", "--config", file])
}

pub(crate) fn served(spans: &[Span], path: &str) -> Option<Span> {
    let is = |span: &&Span| span.kind == "server" && span.text("url.path") == path;
    spans.iter().find(is).cloned()
}

/// Waits for the server span of a path.
pub(crate) fn wait_for(agent: &Agent, path: &str) -> Span {
    let mut found = None;
    wait_until("span of the server", LIMIT, || {
        let output = agent.output();
        let spans: Vec<Span> = output.iter().flat_map(|line| Span::of_line(line)).collect();
        found = served(&spans, path);
        found.is_some()
    });
    found.unwrap()
}

pub(crate) fn assert_has(span: &Span, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        let found = span.resource.get(*key).map(|found| match found.as_str() {
            Some(text) => text.to_owned(),
            None => found.to_string(),
        });
        assert_eq!(found.as_deref(), Some(*value), "{key}: {:?}", span.resource);
    }
}

/// What `spandrel check` says of a socket.
pub(crate) fn checked(socket: &Path) -> Value {
    let file = configuration(&[socket], "1s");
    let file = file.path().to_str().unwrap();
    let output = command(&["check", "--output", "json", "--config", file]).output();
    let report: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let what = format!("runtime {}", socket.display());
    let lines = report["findings"].as_array().expect("a list").iter();
    let found = lines
        .filter(|line| line["what"] == what.as_str())
        .collect::<Vec<_>>();
    assert_eq!(found.len(), 1, "{report}");
    json!({"state": found[0]["state"], "detail": found[0]["detail"]})
}

/// What `spandrel explain` says of the process that served this span.
pub(crate) fn explained(span: &Span, socket: &Path, hold: &str) -> String {
    let file = configuration(&[socket], hold);
    let file = file.path().to_str().unwrap();
    let pid = span.resource["process.pid"].to_string();
    let output = command(&["explain", &pid, "--config", file]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn said(outcome: &Outcome, what: &str) -> bool {
    outcome.stderr.iter().any(|line| line.contains(what))
}
