//! Lines on standard error. A thread of its own writes them, so that a reader that stands still holds up neither the work nor
//! the end; what does not fit is lost, counted, and told of at its place.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that wait for the reader at most, but for one longer line.
const MAX_WAITING: usize = 1 << 20;
/// At the end the reader has so long for each write.
const FOR_ONE: Duration = Duration::from_secs(1);
/// And so long for all of them.
const FOR_ALL: Duration = Duration::from_secs(5);

static LINES: OnceLock<Lines> = OnceLock::new();

/// One line. A closed standard error is nobody to tell.
pub fn say(line: fmt::Arguments<'_>) {
    push(format!("{line}\n").into_bytes());
}

/// Whole lines.
pub fn push(lines: Vec<u8>) {
    LINES.get_or_init(|| Lines::start(io::stderr())).push(lines);
}

/// Whether colours are wanted on this output: on a terminal, unless NO_COLOR says no.
pub fn has_colours(output: &impl IsTerminal) -> bool {
    wants_colours(output.is_terminal(), std::env::var_os("NO_COLOR"))
}

/// As no-color.org has it: an empty variable says nothing.
fn wants_colours(is_terminal: bool, no_color: Option<OsString>) -> bool {
    is_terminal && no_color.is_none_or(|value| value.is_empty())
}

/// How many lines were lost until now.
pub fn lost() -> u64 {
    LINES.get().map_or(0, Lines::lost)
}

/// Waits for the reader, but not for one that stands still. To be called last.
pub fn finish() {
    if let Some(lines) = LINES.get() {
        lines.finish(FOR_ONE, FOR_ALL);
    }
}

/// Lines on their way to a reader.
struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Entry>,
    bytes: usize,
    is_writing: bool,
    /// Writes that ended.
    ended: u64,
    lost: u64,
    /// Those of the lost that nothing tells of yet.
    untold: u64,
}

/// What is written at once.
struct Entry {
    bytes: Vec<u8>,
    /// How many lost lines it tells of.
    tells: u64,
}

impl Lines {
    fn start(output: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("log".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || write(output, &shared)
        });
        // Without a thread every line is lost, which `lost` tells; a process that cannot start one ends soon anyway.
        drop(thread);
        Self(shared)
    }

    fn push(&self, bytes: Vec<u8>) {
        let mut state = self.0.lock();
        if state.bytes > 0 && state.bytes + bytes.len() > MAX_WAITING {
            state.lose(&bytes);
            return;
        }
        state.tell_of_lost();
        state.put(Entry { bytes, tells: 0 });
        self.0.changed.notify_all();
    }

    fn lost(&self) -> u64 {
        self.0.lock().lost
    }

    fn finish(&self, for_one: Duration, for_all: Duration) {
        let mut state = self.0.lock();
        state.tell_of_lost();
        self.0.changed.notify_all();
        let until = Instant::now() + for_all;
        let (mut ended, mut since) = (state.ended, Instant::now());
        while state.is_writing || !state.waiting.is_empty() {
            if state.ended != ended {
                (ended, since) = (state.ended, Instant::now());
            }
            let left = (since + for_one)
                .min(until)
                .saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = match self.0.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, entry: Entry) {
        self.bytes += entry.bytes.len();
        self.waiting.push_back(entry);
    }

    fn lose(&mut self, bytes: &[u8]) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.lost += lines;
        self.untold += lines;
    }

    fn tell_of_lost(&mut self) {
        let tells = std::mem::take(&mut self.untold);
        if tells > 0 {
            let text =
                format!("log: {tells} lines are missing here: standard error was not read\n");
            let bytes = text.into_bytes();
            self.put(Entry { bytes, tells });
        }
    }
}

fn write(mut output: impl Write, shared: &Shared) {
    let mut state = shared.lock();
    loop {
        let Some(entry) = state.waiting.pop_front() else {
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.is_writing = true;
        drop(state);
        let result = output.write_all(&entry.bytes).and_then(|()| output.flush());
        state = shared.lock();
        state.is_writing = false;
        state.bytes -= entry.bytes.len();
        state.ended += 1;
        match result {
            Ok(()) => {}
            Err(_) if entry.tells > 0 => state.untold += entry.tells,
            Err(_) => state.lose(&entry.bytes),
        }
        shared.changed.notify_all();
    }
}

#[cfg(test)]
#[path = "standard_error_tests.rs"]
mod tests;
