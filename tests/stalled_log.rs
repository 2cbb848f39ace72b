//! Nobody reads the standard error: the log is lost, and nothing else.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::agent::command;
use support::backends::patience;
use support::ledger::Ledger;
use support::machine::{has, is_root, repository, wait_until};
use support::nginx::{Nginx, Options};
use support::traffic::Client;
use tempfile::TempDir;

/// `spandrel` with a standard error that takes nothing.
struct Deaf {
    child: Child,
    directory: TempDir,
    /// Open and never read.
    _reader: UnixStream,
}

impl Deaf {
    /// Its standard output goes into a file, or the same way as the log.
    fn start(arguments: &[&str], output_too: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let notify = directory.path().join("notify");
        let ready = UnixDatagram::bind(&notify).unwrap();
        ready
            .set_read_timeout(Some(patience(Duration::from_secs(60))))
            .unwrap();
        let (mut writer, reader) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let full = loop {
            if let Err(error) = writer.write(&[0; 1024]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        writer.set_nonblocking(false).unwrap();
        let output: OwnedFd = if output_too {
            writer.try_clone().unwrap().into()
        } else {
            File::create(directory.path().join("output"))
                .unwrap()
                .into()
        };
        let child = command(arguments)
            .arg("--ledger")
            .arg(directory.path().join("ledger"))
            .env("NOTIFY_SOCKET", &notify)
            .env("SPANDREL_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(OwnedFd::from(writer))
            .spawn()
            .unwrap();
        if arguments[0] != "replay" {
            let mut said = [0; 16];
            let length = ready.recv(&mut said).unwrap();
            assert_eq!(&said[..length], b"READY=1");
        }
        Self {
            child,
            directory,
            _reader: reader,
        }
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits for the end; the ledger must be closed.
    fn finish(&mut self) -> (ExitStatus, Ledger) {
        let mut status = None;
        wait_until("end", Duration::from_secs(20), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let ledger = Ledger::read(&self.path("ledger"));
        ledger.assert_closed();
        (status.unwrap(), ledger)
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_replay_prints_all_and_ends_well() {
    let recording = repository().join("tests/data/two_requests.jsonl");
    let arguments = ["replay", recording.to_str().unwrap()];
    let mut agent = Deaf::start(&arguments, false);
    assert_eq!(agent.finish().0.code(), Some(0));
    let golden = repository().join("tests/golden/two_requests.txt");
    let printed = fs::read_to_string(agent.path("output")).unwrap();
    assert_eq!(printed, fs::read_to_string(golden).unwrap());
}

#[test]
fn a_trace_ends_well_after_its_duration_and_on_a_signal() {
    if !is_root("a_trace_ends_well_after_its_duration_and_on_a_signal") {
        return;
    }
    let mut agent = Deaf::start(&["trace", "--duration", "1s"], false);
    assert_eq!(agent.finish().0.code(), Some(0));
    let mut agent = Deaf::start(&["trace"], false);
    agent.terminate();
    assert_eq!(agent.finish().0.code(), Some(0));
}

#[test]
fn a_run_ends_well_on_a_signal() {
    if !is_root("a_run_ends_well_on_a_signal") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [config, lines] = ["c.yaml", "lines"].map(|name| directory.path().join(name));
    let text = format!(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch:\n        exporter:\n          \
         otlp_file/development: {{output_stream: \"file://{}\"}}\n",
        lines.display()
    );
    fs::write(&config, text).unwrap();
    let mut agent = Deaf::start(&["run", "--config", config.to_str().unwrap()], false);
    agent.terminate();
    assert_eq!(agent.finish().0.code(), Some(0));
}

#[test]
fn output_into_the_same_pipe_is_a_failure_that_ends_in_time() {
    let test = "output_into_the_same_pipe_is_a_failure_that_ends_in_time";
    if !is_root(test) || !has(test, &["nginx", "python3"]) {
        return;
    }
    let nginx = Nginx::start(&Options::default());
    let port = nginx.port.to_string();
    let config = tempfile::NamedTempFile::new().unwrap();
    let text = "file_format: \"1.1\"\ndistribution:\n  spandrel: {version: \"1.0\", shutdown_timeout: 1s}\n";
    fs::write(&config, text).unwrap();
    let config = config.path().to_str().unwrap();
    let mut agent = Deaf::start(&["trace", "--port", &port, "--config", config], true);
    Client::KeepAlive.run(nginx.port, &["--count", "3", "--path", "/n/{n}"]);
    agent.terminate();
    let (status, ledger) = agent.finish();
    assert_eq!(status.code(), Some(1));
    assert_eq!(ledger.dropped("spans", "shutdown.deadline"), 6);
}
