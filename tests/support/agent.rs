//! The agent under test, as a user starts it.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};

use super::ledger::Ledger;
use super::otlp::{MetricPoint, Span};
use super::process::Process;

/// Loading BPF takes under a second natively and some seconds in an emulated machine.
const READY: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(60);

/// A running `spandrel`.
pub(crate) struct Agent {
    process: Process,
    ledger: PathBuf,
    directory: TempDir,
}

/// How an agent ended.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
    pub(crate) ledger: Ledger,
}

impl Agent {
    /// Starts it with these arguments and `--ledger`, and waits for `ready`.
    pub(crate) fn start<A: AsRef<str>>(arguments: &[A]) -> Self {
        Self::start_with(arguments, |_| {})
    }

    /// The same, with a change to the command (environment, namespace).
    pub(crate) fn start_with<A: AsRef<str>>(
        arguments: &[A],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let agent = Self::spawn(arguments, change);
        let ready = agent.process.stderr.wait(READY, |lines| {
            lines
                .iter()
                .any(|line| line.starts_with("ready"))
                .then_some(())
        });
        assert!(
            ready.is_some(),
            "the agent did not get ready; it said:\n{}",
            agent.process.stderr.all().join("\n")
        );
        agent
    }

    /// Starts it with these arguments and `--ledger`, and does not wait: for `replay`.
    pub(crate) fn spawn<A: AsRef<str>>(arguments: &[A], change: impl FnOnce(&mut Command)) -> Self {
        let directory = TempDir::new().expect("a directory for the ledger");
        let ledger = directory.path().join("ledger.json");
        let mut command = command(arguments);
        command.arg("--ledger").arg(&ledger);
        change(&mut command);
        Self {
            process: Process::start(&mut command),
            ledger,
            directory,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The lines of the standard output until now.
    pub(crate) fn output(&self) -> Vec<String> {
        self.process.stdout.all()
    }

    /// Waits until the OTLP JSON lines of the output hold as many spans as asked for.
    pub(crate) fn wait_for_spans(&self, count: usize, limit: Duration) -> Vec<Span> {
        let mut read = 0;
        let mut spans = Vec::new();
        let enough = self.process.stdout.wait(limit, |lines| {
            spans.extend(lines[read..].iter().flat_map(|line| Span::of_line(line)));
            read = lines.len();
            (spans.len() >= count).then_some(())
        });
        assert!(
            enough.is_some(),
            "{} spans instead of {count} after {limit:?}; the agent said:\n{}",
            spans.len(),
            self.process.stderr.all().join("\n")
        );
        spans
    }

    /// Waits until the OTLP JSON lines of the output hold such a span.
    pub(crate) fn wait_for_span(&self, is: impl Fn(&Span) -> bool, limit: Duration) {
        let mut read = 0;
        let found = self.process.stdout.wait(limit, |lines| {
            let new = &lines[read..];
            read = lines.len();
            let mut spans = new.iter().flat_map(|line| Span::of_line(line));
            spans.any(|span| is(&span)).then_some(())
        });
        assert!(found.is_some(), "no such span after {limit:?}");
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.process.signal(signal);
    }

    /// SIGKILL: no ledger, no drain.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    /// SIGTERM, then what `finish` does.
    pub(crate) fn stop(self) -> Outcome {
        self.process.signal(rustix::process::Signal::TERM);
        self.finish()
    }

    /// Waits for the end and asserts that the ledger is closed.
    pub(crate) fn finish(self) -> Outcome {
        let finished = self.process.wait(END);
        let said = finished.stderr.join("\n");
        assert!(
            self.ledger.exists(),
            "no ledger was written ({}); the agent said:\n{said}",
            finished.status
        );
        let ledger = Ledger::read(&self.ledger);
        drop(self.directory);
        ledger.assert_closed();
        Outcome {
            status: finished.status,
            stdout: finished.stdout,
            stderr: finished.stderr,
            ledger,
        }
    }
}

impl Outcome {
    /// The spans of OTLP JSON lines on the standard output.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.stdout
            .iter()
            .flat_map(|line| Span::of_line(line))
            .collect()
    }

    /// The metric points of OTLP JSON lines on the standard output.
    pub(crate) fn metrics(&self) -> Vec<MetricPoint> {
        self.stdout
            .iter()
            .flat_map(|line| MetricPoint::of_line(line))
            .collect()
    }
}

/// Traces with these settings, the lines under `distribution.spandrel`, and these arguments; the output is OTLP JSON lines.
pub(crate) fn trace<A: AsRef<str>>(settings: &str, arguments: &[A]) -> Agent {
    let config = NamedTempFile::new().expect("a file for the configuration");
    let text = format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n{settings}"
    );
    std::fs::write(config.path(), text).expect("write the configuration");
    let path = config.path().to_str().expect("a path in UTF-8");
    let mut all = vec!["trace", "--output", "otlp-json", "--config", path];
    all.extend(arguments.iter().map(AsRef::as_ref));
    Agent::start(&all)
}

/// The settings of capture by this backend, and more of them.
pub(crate) fn capture(backend: &str, more: &[&str]) -> String {
    let more: String = more.iter().map(|line| format!("      {line}\n")).collect();
    format!("    capture:\n      backend: {backend}\n{more}")
}

/// Traces the connections with these ports.
pub(crate) fn trace_ports(backend: &str, ports: &[u16]) -> Agent {
    let ports = ports.iter();
    let arguments: Vec<_> = ports
        .flat_map(|port| ["--port".to_owned(), port.to_string()])
        .collect();
    trace(&capture(backend, &[]), &arguments)
}

/// The binary with these arguments and nothing of this environment that would configure it.
pub(crate) fn command<A: AsRef<str>>(arguments: &[A]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spandrel"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(&name);
        }
    }
    command.args(arguments.iter().map(AsRef::as_ref));
    command
}
