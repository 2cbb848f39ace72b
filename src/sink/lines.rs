//! Lines for a reader that may be slow, stop reading, or go: a thread of its own writes them, so that nothing else waits.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use spandrel_exporter::reason::SHUTDOWN_DEADLINE;
use spandrel_model::Ledger;

use super::Deadline;
use super::first_error::unwritable;

/// Bytes that wait for the reader at most.
const MAX_WAITING: usize = 8 << 20;
/// Bytes of one write, but for a longer line: a pipe takes so many whole or not at all, so it is always known which lines were
/// written.
const PIECE: usize = 4096;

/// What happens when the reader does not keep up.
#[derive(Clone, Debug)]
pub enum Patience {
    /// Whoever has lines waits for the reader: for output that is the same on each run.
    Waits,
    /// What does not fit is dropped, and at the end the reader has time until then: for output that is live.
    Drops(Deadline),
}

/// Lines on their way to a reader. Spans are settled when their line has been written.
pub struct Lines {
    shared: Arc<Shared>,
    patience: Patience,
    pending: Piece,
    ledger: Arc<Ledger>,
}

/// Bytes that are written together, and the spans whose lines end in them.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    spans: u64,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Piece>,
    bytes: usize,
    /// Spans in the piece that is being written.
    writing: u64,
    is_writing: bool,
    closed: bool,
    /// Nobody waits for the writer any more, and nothing that it does counts.
    left: bool,
    failed: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Starts the thread that writes to `output`.
    pub fn start(
        output: impl Write + Send + 'static,
        patience: Patience,
        ledger: Arc<Ledger>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        thread::Builder::new().name("output".to_owned()).spawn({
            let (shared, ledger) = (Arc::clone(&shared), Arc::clone(&ledger));
            move || write(output, &shared, &ledger)
        })?;
        Ok(Self {
            shared,
            patience,
            pending: Piece::default(),
            ledger,
        })
    }

    /// A whole line, with its line break, that says what so many spans are: all of them end in the ledger.
    pub fn push(&mut self, line: &[u8], spans: u64) -> io::Result<()> {
        if self.pending.bytes.len() + line.len() > PIECE
            && let Err(error) = self.flush()
        {
            self.ledger.spans.drop_for("console.write_failed", spans);
            return Err(error);
        }
        // One that is longer than a piece is a piece by itself: it is dropped whole, or not at all.
        self.pending.bytes.extend_from_slice(line);
        self.pending.spans += spans;
        Ok(())
    }

    /// Hands over what there is. The error of an earlier write is told once, here.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut state = self.shared.lock();
        if matches!(self.patience, Patience::Waits) {
            while state.bytes > MAX_WAITING && state.failed.is_none() {
                state = self.shared.wait(state);
            }
        }
        if !self.pending.bytes.is_empty() || self.pending.spans > 0 {
            let piece = std::mem::take(&mut self.pending);
            if state.failed.is_some() {
                self.ledger
                    .spans
                    .drop_for("console.write_failed", piece.spans);
            } else if state.bytes > MAX_WAITING {
                self.ledger
                    .spans
                    .drop_for("console.reader_slow", piece.spans);
            } else {
                state.bytes += piece.bytes.len();
                state.waiting.push_back(piece);
                self.shared.changed.notify_all();
            }
        }
        match &state.failed {
            Some(error) => Err(unwritable(error.kind(), &error.to_string())),
            None => Ok(()),
        }
    }

    /// Waits until everything is written, as long as there is patience; what is not written then is counted.
    pub fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        while (state.is_writing || !state.waiting.is_empty()) && state.failed.is_none() {
            let Patience::Drops(deadline) = &self.patience else {
                state = self.shared.wait(state);
                continue;
            };
            let left = deadline.left(Instant::now());
            if left.is_zero() {
                state.left = true;
                let waiting: u64 = state.waiting.drain(..).map(|piece| piece.spans).sum();
                let lost = waiting + state.writing;
                self.ledger.spans.drop_for(SHUTDOWN_DEADLINE, lost);
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "nobody reads standard output: {lost} spans were not written within {:?}",
                        deadline.timeout()
                    ),
                ));
            }
            state = match self.shared.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        drop(state);
        self.flush()
    }
}

impl Drop for Lines {
    /// Without an end that waited, for example after a panic, nobody waits for the reader.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
    }
}

fn write(mut output: impl Write, shared: &Shared, ledger: &Ledger) {
    let mut state = shared.lock();
    loop {
        let Some(piece) = state.waiting.pop_front() else {
            if state.closed {
                return;
            }
            state = shared.wait(state);
            continue;
        };
        state.bytes -= piece.bytes.len();
        (state.writing, state.is_writing) = (piece.spans, true);
        drop(state);
        let result = output.write_all(&piece.bytes).and_then(|()| output.flush());
        state = shared.lock();
        if state.left {
            return;
        }
        (state.writing, state.is_writing) = (0, false);
        match result {
            Ok(()) => ledger.spans.settle(piece.spans),
            Err(error) => {
                let waiting: u64 = state.waiting.drain(..).map(|piece| piece.spans).sum();
                ledger
                    .spans
                    .drop_for("console.write_failed", piece.spans + waiting);
                state.failed = Some(error);
                shared.changed.notify_all();
                return;
            }
        }
        shared.changed.notify_all();
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
