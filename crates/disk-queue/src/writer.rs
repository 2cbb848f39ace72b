//! The thread that writes and reads the files of a queue.

use std::io;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use crate::settings::{DropReason, SyncPolicy};
use crate::state::{Condition, Shared, State, wait};
use crate::store::{Record, Store};

/// Most bytes that are taken from memory at a time.
const PIECE: usize = 1 << 20;
/// Most bytes that are read ahead, beyond one record.
const READ_AHEAD: usize = 4 << 20;
/// So often a record is tried to be read before its segment is given up.
const READ_TRIES: u32 = 3;
/// Most files that wait to be synced while the disk does not.
const UNSYNCED: usize = 1024;

/// When something that failed is tried again.
#[derive(Debug, Default)]
struct Backoff {
    at: Option<Instant>,
    delay: Duration,
    failures: u32,
}

impl Backoff {
    fn open(&self) -> bool {
        self.at.is_none_or(|at| Instant::now() >= at)
    }

    fn failed(&mut self, (first, longest): (Duration, Duration)) {
        self.delay = (self.delay * 2).clamp(first, longest);
        self.at = Some(Instant::now() + self.delay);
        self.failures += 1;
    }
}

/// What to do next.
struct Work {
    acks: Vec<u64>,
    acks_handed: u64,
    records: Vec<Record>,
    /// How much may be read ahead.
    room: usize,
    closing: bool,
}

/// Until the queue is closed.
pub(crate) fn run(shared: &Shared, store: Store) {
    let mut writer = Writer {
        shared,
        store,
        writing: Backoff::default(),
        reading: Backoff::default(),
        expired_at: Instant::now(),
    };
    loop {
        let work = writer.next_work();
        let closing = work.closing;
        let went_on = writer.work(work);
        if closing && !went_on {
            break;
        }
    }
    drop(publish(shared, &writer.store));
    let orphaned = writer.store.orphaned();
    // The directory is free before anybody hears that it is.
    drop(writer.store);
    let mut state = shared.lock();
    state.orphaned = orphaned;
    state.writer_done = true;
    drop(state);
    shared.sync_work.notify_all();
    shared.announce();
}

struct Writer<'a> {
    shared: &'a Shared,
    store: Store,
    writing: Backoff,
    reading: Backoff,
    expired_at: Instant,
}

impl Writer<'_> {
    fn next_work(&mut self) -> Work {
        let mut state = self.shared.lock();
        loop {
            let room = self.read_room(&state);
            let may_read = room > 0 && self.store.has_unread() && self.reading.open();
            let behind = !state.stage.is_empty() || !self.store.unsaved.is_empty();
            let may_write = behind && self.writing.open();
            if may_write
                || may_read
                || !state.acks.is_empty()
                || state.closing
                || self.time_to_expire().is_zero()
            {
                let records = if may_write || state.closing {
                    first_records(&state, self.shared.settings.memory_bytes / 2)
                } else {
                    Vec::new()
                };
                state.writing = records.len();
                if std::mem::take(&mut state.seal) {
                    self.store.seal();
                }
                return Work {
                    acks: std::mem::take(&mut state.acks),
                    acks_handed: state.acks_handed,
                    records,
                    room: if self.reading.open() { room } else { 0 },
                    closing: state.closing,
                };
            }
            let mut at_most = self.time_to_expire();
            for (waits, backoff) in [
                (behind, &self.writing),
                (self.store.has_unread(), &self.reading),
            ] {
                if let Some(at) = backoff.at.filter(|_| waits) {
                    at_most = at_most.min(at.saturating_duration_since(Instant::now()));
                }
            }
            let at_most = (at_most < Duration::MAX).then_some(at_most);
            state = wait(&self.shared.work, state, at_most);
        }
    }

    fn read_room(&self, state: &State) -> usize {
        if state.closing || (state.ready_bytes >= READ_AHEAD && !state.ready.is_empty()) {
            return 0;
        }
        let most = self.shared.settings.read_ahead.max(1);
        most.saturating_sub(state.ready.len())
    }

    fn time_to_expire(&self) -> Duration {
        let Some(max_age) = self.shared.settings.max_age else {
            return Duration::MAX;
        };
        let every = (max_age / 16).clamp(Duration::from_millis(10), Duration::from_secs(10));
        every.saturating_sub(self.expired_at.elapsed())
    }

    /// Whether something was done that may go on.
    fn work(&mut self, work: Work) -> bool {
        for sequence in work.acks {
            self.store.ended(sequence);
        }
        let mut passed = false;
        let mut went_on = false;
        if !work.records.is_empty() {
            let appended = self.store.append(&work.records);
            // What had to make room for these.
            self.spread_news();
            let count = *appended.as_ref().unwrap_or(&0);
            went_on = count > 0;
            let written = work.records.get(..count).unwrap_or_default();
            let mut first = None;
            if count > 0 && count <= work.room && !work.closing {
                first = self.store.pass_by(written);
                passed = first.is_some();
            }
            self.finish_writing(written, first);
            self.note_write(appended.map(drop));
        }
        if self.time_to_expire().is_zero() {
            self.expired_at = Instant::now();
            let expired = self.store.expire();
            self.expire_ready();
            self.note_write(expired);
        }
        if work.room > 0 && !passed && !work.closing {
            self.read_ahead(work.room);
        }
        if self.writing.open() || work.closing {
            let behind = !self.store.unsaved.is_empty();
            let saved = self.store.save();
            if behind || saved.is_err() {
                self.note_write(saved);
            }
        }
        self.spread_news();
        let mut state = publish(self.shared, &self.store);
        state.acks_written = work.acks_handed;
        self.hand_over_unsynced(&mut state);
        went_on |= work.closing && !state.acks.is_empty();
        drop(state);
        self.shared.announce();
        went_on
    }

    /// Takes what was written from memory, and lets those go on who wait for it.
    fn finish_writing(&mut self, written: &[Record], first: Option<u64>) {
        // In one step: between memory and the disk a record would be nowhere.
        let mut state = publish(self.shared, &self.store);
        state.writing = 0;
        for _ in written {
            if let Some(staged) = state.take_staged() {
                state.written = staged.id;
            }
        }
        if let Some(first) = first {
            for (index, record) in written.iter().enumerate() {
                state.ready_bytes += record.size();
                state
                    .ready
                    .push_back((first + index as u64, record.clone()));
            }
        }
        self.hand_over_unsynced(&mut state);
        drop(state);
        self.shared.announce();
    }

    /// Only where `written` is true of it, as that is what the syncer reports.
    fn hand_over_unsynced(&mut self, state: &mut State) {
        let new = std::mem::take(&mut self.store.unsynced);
        if new.is_empty() {
            return;
        }
        if self.shared.settings.sync == SyncPolicy::Never {
            for path in new.replaced {
                drop(std::fs::remove_file(path));
            }
            return;
        }
        let held = &mut state.unsynced;
        for file in new.files {
            if !held
                .files
                .iter()
                .any(|known| std::sync::Arc::ptr_eq(known, &file))
            {
                held.files.push(file);
            }
        }
        let excess = held.files.len().saturating_sub(UNSYNCED);
        held.files.drain(..excess);
        held.directory = new.directory.or(held.directory.take());
        held.replaced.extend(new.replaced);
        self.shared.sync_work.notify_one();
    }

    fn note_write(&mut self, result: io::Result<()>) {
        let name = &self.shared.settings.name;
        match result {
            Ok(()) => {
                self.writing = Backoff::default();
                let mut state = self.shared.lock();
                let before = std::mem::take(&mut state.stats.condition);
                drop(state);
                if before != Condition::Working {
                    tracing::info!(queue = name, "the queue writes to its disk again");
                    self.shared.announce();
                }
            }
            Err(error) => {
                self.writing.failed(self.shared.settings.retry);
                let mut state = self.shared.lock();
                state.stats.write_errors += 1;
                let before = std::mem::replace(&mut state.stats.condition, Condition::Failing);
                drop(state);
                if before != Condition::Failing {
                    tracing::warn!(%error, queue = name, directory = %self.store.directory.display(),
                        "the queue cannot write to its disk; records stay in memory until it can");
                    self.shared.announce();
                }
            }
        }
    }

    fn read_ahead(&mut self, room: usize) {
        let mut bytes = 0;
        for _ in 0..room {
            match self.store.read() {
                Ok(Some((sequence, record))) => {
                    self.reading = Backoff::default();
                    bytes += record.size();
                    // What was lost before it is counted before it is delivered.
                    self.spread_news();
                    let mut state = self.shared.lock();
                    state.ready_bytes += record.size();
                    state.ready.push_back((sequence, record));
                    let enough = bytes >= READ_AHEAD || state.closing;
                    drop(state);
                    self.shared.announce();
                    if enough {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.reading.failed(self.shared.settings.retry);
                    let gone = error.kind() == io::ErrorKind::NotFound;
                    if gone || self.reading.failures >= READ_TRIES {
                        tracing::error!(%error, queue = self.shared.settings.name,
                            "a segment of the queue cannot be read, and is given up");
                        if self.store.abandon_reading().is_ok() {
                            self.reading = Backoff::default();
                        }
                    }
                    break;
                }
            }
        }
        self.shared.lock().unread = self.store.has_unread();
    }

    /// What was read ahead, and is too old by now.
    fn expire_ready(&mut self) {
        let Some(max_age) = self.shared.settings.max_age else {
            return;
        };
        loop {
            let mut state = self.shared.lock();
            let old = |record: &Record| self.store.clock.age(record.stamp.ticks) > max_age;
            if !state.ready.front().is_some_and(|(_, record)| old(record)) {
                return;
            }
            let Some((sequence, record)) = state.ready.pop_front() else {
                return;
            };
            state.ready_bytes -= record.size();
            drop(state);
            self.store.drop_taken(sequence, DropReason::Expired);
        }
    }

    /// Counts what the store dropped, and what was read ahead of it.
    fn spread_news(&mut self) {
        for (from, to, reason) in std::mem::take(&mut self.store.news.gone) {
            let mut state = self.shared.lock();
            let mut given_up = Vec::new();
            let mut freed = 0;
            state.ready.retain(|(sequence, record)| {
                let keep = !(from..to).contains(sequence);
                if !keep {
                    given_up.push(*sequence);
                    freed += record.size();
                }
                keep
            });
            state.ready_bytes -= freed;
            drop(state);
            for sequence in given_up {
                self.store.drop_taken(sequence, reason);
            }
        }
        let drops = std::mem::take(&mut self.store.news.dropped);
        self.shared.dropped(&drops);
    }
}

/// Not all of the memory: the oldest that is not under way has to give room to new ones.
fn first_records(state: &State, at_most: usize) -> Vec<Record> {
    let mut bytes = 0;
    let mut records = Vec::new();
    for staged in &state.stage {
        bytes += staged.record.size();
        if bytes > PIECE.min(at_most) && !records.is_empty() {
            break;
        }
        records.push(staged.record.clone());
    }
    records
}

/// Tells what is on the disk; what belongs to that is changed before the lock is let go.
pub(crate) fn publish<'a>(shared: &'a Shared, store: &Store) -> MutexGuard<'a, State> {
    let (bytes, live, oldest) = (store.bytes(), store.live(), store.oldest());
    let mut state = shared.lock();
    state.unread = store.has_unread();
    state.oldest = oldest;
    let stats = &mut state.stats;
    stats.disk_bytes = bytes;
    stats.disk = live;
    stats.lost_records = store.lost_records;
    stats.torn_bytes = store.torn_bytes;
    stats.damaged_acks = store.damaged_acks;
    stats.quarantined = store.quarantine.kept;
    state
}
