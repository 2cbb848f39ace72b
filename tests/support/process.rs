//! A child process whose lines can be waited for and which never outlives its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::backends::patience;

/// The lines of one output, as they come.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Output>, Condvar)>);

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn follow(&self, source: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                lines.0.0.lock().unwrap().lines.push(text);
                lines.0.1.notify_all();
                line.clear();
            }
            lines.0.0.lock().unwrap().ended = true;
            lines.0.1.notify_all();
        })
    }

    /// All lines until now.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// All lines, once the program has ended.
    pub(crate) fn at_end(&self) -> Vec<String> {
        let mut read = self.0.0.lock().unwrap();
        while !read.ended {
            read = self.0.1.wait(read).unwrap();
        }
        read.lines.clone()
    }

    /// Waits until `enough` says so of all lines; `None` when the output ends or the time is up before that.
    pub(crate) fn wait<T>(
        &self,
        limit: Duration,
        mut enough: impl FnMut(&[String]) -> Option<T>,
    ) -> Option<T> {
        let limit = patience(limit);
        let deadline = Instant::now() + limit;
        let mut read = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = enough(&read.lines) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if read.ended || left.is_zero() {
                return None;
            }
            read = self.0.1.wait_timeout(read, left).unwrap().0;
        }
    }
}

/// A running program.
pub(crate) struct Process {
    name: String,
    child: Child,
    readers: Vec<JoinHandle<()>>,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

/// How a program ended and what it said.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// One that is told things with [`Self::say`].
    pub(crate) fn start_with_input(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::piped()))
    }

    fn spawn(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![
            stdout.follow(child.stdout.take().unwrap()),
            stderr.follow(child.stderr.take().unwrap()),
        ];
        Self {
            name,
            child,
            readers,
            stdout,
            stderr,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Puts a line into its standard input.
    pub(crate) fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("start_with_input");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; kills it and panics after `limit`.
    pub(crate) fn wait(mut self, limit: Duration) -> Finished {
        let limit = patience(limit);
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "{} still runs after {limit:?}; it said:\n{}",
                self.name,
                self.stderr.all().join("\n"),
            );
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Finished {
            status,
            stdout: self.stdout.all(),
            stderr: self.stderr.all(),
        }
    }

    /// Whether it ends by itself within a time. Never panics, as it is for guards.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + patience(limit);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Asks it to end, and kills it after `limit`. Never panics, as it is for guards.
    pub(crate) fn end(mut self, limit: Duration) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
            self.ends_within(limit);
        }
    }

    /// Asks it to end and waits for that.
    pub(crate) fn terminate(self, limit: Duration) -> Finished {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
