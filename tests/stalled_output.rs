//! Nobody reads the standard output: the agent still ends in its time, and says what it could not write.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::agent::command;
use support::backends::patience;
use support::ledger::Ledger;
use support::machine::{has, is_root};
use support::nginx::{Nginx, Options};
use support::traffic::Client;

/// Twice as many lines, of more than 100 bytes each: more than a pipe takes, and less than the agent may hold.
const REQUESTS: &str = "900";

struct Stalled {
    child: Child,
    stderr: BufReader<File>,
    said: String,
    /// Open and never read.
    _reader: PipeReader,
}

impl Stalled {
    fn start(arguments: &[&str], ledger: &Path) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut child = command(arguments)
            .arg("--ledger")
            .arg(ledger)
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = std::os::fd::OwnedFd::from(child.stderr.take().unwrap());
        let mut stalled = Self {
            child,
            stderr: BufReader::new(File::from(stderr)),
            said: String::new(),
            _reader: reader,
        };
        while !stalled.said.lines().any(|line| line.starts_with("ready")) {
            let read = stalled.stderr.read_line(&mut stalled.said).unwrap();
            assert_ne!(read, 0, "no ready: {}", stalled.said);
        }
        stalled
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// The end, which must come within this time, and all that was said.
    fn finish(mut self, limit: Duration) -> (ExitStatus, String) {
        let deadline = Instant::now() + patience(limit);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "still runs after {limit:?}");
            thread::sleep(Duration::from_millis(10));
        };
        while self.stderr.read_line(&mut self.said).unwrap() > 0 {}
        (status, self.said.clone())
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What `spandrel` with these arguments leaves when it is asked to end, or ends by its duration, and its output stalls.
fn ends(test: &str, arguments: &[&str], configuration: &str, by_signal: bool) {
    if !is_root(test) || !has(test, &["nginx", "python3"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (file, ledger) = (
        directory.path().join("c.yaml"),
        directory.path().join("ledger.json"),
    );
    let nginx = Nginx::start(&Options::default());
    let configuration = configuration.replace("PORT", &nginx.port.to_string());
    std::fs::write(&file, configuration).unwrap();
    let port = nginx.port.to_string();
    let mut all = arguments.to_vec();
    all.extend(["--config", file.to_str().unwrap()]);
    if arguments.contains(&"trace") {
        all.extend(["--port", &port]);
    }
    let agent = Stalled::start(&all, &ledger);
    Client::KeepAlive.run(nginx.port, &["--count", REQUESTS, "--path", "/n/{n}"]);
    if by_signal {
        agent.terminate();
    }
    let (status, said) = agent.finish(Duration::from_secs(20));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("nobody reads"), "{said}");
    let ledger = Ledger::read(&ledger);
    ledger.assert_closed();
    assert!(ledger.dropped("spans", "shutdown.deadline") > 0, "{said}");
}

const SHORT: &str = "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    shutdown_timeout: 1s\n";

#[test]
fn trace_as_text_ends_on_a_signal() {
    ends("stalled text", &["trace"], SHORT, true);
}

#[test]
fn trace_as_json_ends_on_a_signal() {
    ends("stalled json", &["trace", "--output", "json"], SHORT, true);
}

#[test]
fn trace_as_otlp_ends_after_its_duration() {
    let arguments = ["trace", "--output", "otlp-json", "--duration", "8s"];
    ends("stalled otlp", &arguments, SHORT, false);
}

#[test]
fn run_with_the_console_exporter_ends_on_a_signal() {
    let selection = "    capture:\n      selectors: {include: [{port: PORT}]}\n";
    let exporter = "tracer_provider:\n  processors:\n    - batch: {exporter: {console: {}}}\n";
    let configuration = [SHORT, selection, exporter].concat();
    ends("stalled run", &["run"], &configuration, true);
}
