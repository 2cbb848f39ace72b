//! The queue as pushers and consumers see it.

use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::count::Counts;
use crate::error::{OpenError, PushError};
use crate::format::{MAX_BODY, RECORD_HEADER};
use crate::settings::{DropReason, Settings, SyncPolicy};
use crate::state::{Condition, Shared, Staged, State, Stats, wait};
use crate::store::{Record, Store};
use crate::{syncer, writer};

/// Where a record is when its push returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// On the disk, as the policy demands it: it will be delivered, also after a kill, unless it is counted as dropped.
    OnDisk,
    /// Not as safe as the policy demands, because the disk fails or stalls: it may be in memory only. It will be written
    /// or delivered, or counted as dropped, but a kill may lose it.
    InMemory,
}

/// Names a record that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// The sequence of a record on the disk; it stays the same over a restart.
    Disk(u64),
    /// A record that went past the disk.
    Memory(u64),
}

/// A record that was handed out. It is delivered again after a restart, unless it was acknowledged.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// To acknowledge it with.
    pub position: Position,
    /// As pushed.
    pub signal: u8,
    /// As pushed.
    pub items: u32,
    /// When it was pushed, by the system's clock of that time.
    pub enqueued: SystemTime,
    /// As pushed.
    pub body: Bytes,
}

/// What is left when a queue is closed.
#[derive(Clone, Debug, Default)]
pub struct CloseReport {
    /// On the disk, for the next start.
    pub on_disk: Counts,
    /// In memory and in nobody's hands, and lost with the process.
    pub in_memory: Counts,
    /// Handed out past the disk and not acknowledged: only their consumers have them.
    pub in_hand: Counts,
    /// Handed out from the disk and not acknowledged, and gone from there since, for want of room.
    pub orphaned: Counts,
    /// Whether everything was written, and synced unless the policy is never to do so, in time.
    pub finished: bool,
}

/// A queue of records on disk. Several threads and tasks may push, take and acknowledge at the same time.
#[derive(Debug)]
pub struct DiskQueue {
    pub(crate) shared: Arc<Shared>,
    recovered: Counts,
}

impl DiskQueue {
    /// Opens a queue, with what is in it, or begins a new one. Starts two threads.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::start(Store::open(settings)?)
    }

    pub(crate) fn start(store: Store) -> Result<Self, OpenError> {
        let recovered = store.live();
        let directory = store.directory.clone();
        let shared = Arc::new(Shared::new(store.settings.clone(), store.clock.clone()));
        drop(writer::publish(&shared, &store));
        let failed = |source| OpenError::Directory {
            what: "start a thread for",
            path: directory.clone(),
            source,
        };
        let for_writer = Arc::clone(&shared);
        let for_syncer = Arc::clone(&shared);
        thread::Builder::new()
            .name("disk-queue".to_owned())
            .spawn(move || writer::run(&for_writer, store))
            .map_err(&failed)?;
        let syncer = thread::Builder::new()
            .name("disk-queue-sync".to_owned())
            .spawn(move || syncer::run(&for_syncer));
        if let Err(error) = syncer {
            shared.lock().closing = true;
            shared.work.notify_all();
            return Err(failed(error));
        }
        Ok(Self { shared, recovered })
    }

    /// What was found when it was opened.
    pub fn recovered(&self) -> &Counts {
        &self.recovered
    }

    /// Takes a record. Returns when it is written to the kernel's cache of the disk, or, with [`SyncPolicy::Always`],
    /// on the disk; after `push_wait` at the latest.
    pub fn push(&self, signal: u8, items: u32, body: Bytes) -> Result<Held, PushError> {
        let limit = self.largest_body();
        if body.len() > limit {
            let bytes = body.len();
            return Err(PushError::TooLarge { bytes, limit });
        }
        let until = Instant::now() + self.shared.settings.push_wait;
        let record = Record {
            signal,
            items,
            stamp: self.shared.clock.stamp(),
            body,
        };
        let size = record.size();
        let mut lost = Vec::new();
        let mut state = self.shared.lock();
        while state.stage_bytes + size > self.shared.settings.memory_bytes
            && !state.stage.is_empty()
            && !state.closing
        {
            if state.stats.condition == Condition::Working {
                state = self.wait_for_progress(state, until);
            } else if let Some(oldest) = state.take_staged() {
                state.unwritten = state.unwritten.max(oldest.id);
                lost.push(oldest.record);
            } else {
                // All of the memory is under way to the disk.
                lost.push(record);
                drop(state);
                self.count_full(&lost);
                return Ok(Held::InMemory);
            }
        }
        if state.closing || state.finishing {
            drop(state);
            self.count_full(&lost);
            return Err(PushError::Closed);
        }
        state.last_id += 1;
        let id = state.last_id;
        state.stage_bytes += size;
        state.stage.push_back(Staged { id, record });
        self.shared.work.notify_one();
        let always = self.shared.settings.sync == SyncPolicy::Always;
        let held = loop {
            let safe = if always { state.synced } else { state.written };
            // Waiting for a sync that does not come is given up once, until one comes.
            if always && state.written >= id && Instant::now() >= until {
                state.sync_slow = true;
            }
            let failing = state.stats.condition != Condition::Working
                || state.writer_done
                || (always && (state.sync_failing || state.sync_slow) && state.written >= id);
            if state.unwritten < id && safe >= id {
                break Held::OnDisk;
            }
            if state.unwritten >= id || failing {
                break Held::InMemory;
            }
            state = self.wait_for_progress(state, until);
        };
        drop(state);
        if held == Held::InMemory {
            // A consumer may take it from there.
            self.shared.announce();
        }
        self.count_full(&lost);
        Ok(held)
    }

    /// Beyond `until`, the disk counts as stalled.
    fn wait_for_progress<'a>(
        &'a self,
        state: std::sync::MutexGuard<'a, State>,
        until: Instant,
    ) -> std::sync::MutexGuard<'a, State> {
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return wait(&self.shared.progress, state, Some(left));
        }
        let mut state = state;
        if state.stats.condition == Condition::Working {
            state.stats.condition = Condition::Stalled;
            drop(state);
            tracing::warn!(
                queue = self.shared.settings.name,
                "the disk of the queue does not answer; new records stay in memory until it does"
            );
            self.shared.announce();
            state = self.shared.lock();
        }
        state
    }

    fn largest_body(&self) -> usize {
        let half = usize::try_from(self.shared.settings.max_bytes / 2).unwrap_or(usize::MAX);
        half.saturating_sub(RECORD_HEADER).min(MAX_BODY)
    }

    fn count_full(&self, lost: &[Record]) {
        let drops: Vec<_> = lost
            .iter()
            .map(|record| (DropReason::Full, record.signal, record.count()))
            .collect();
        self.shared.dropped(&drops);
    }

    /// The next record, if there is one now.
    pub fn try_next(&self) -> Option<Delivery> {
        self.take(&mut self.shared.lock())
    }

    fn take(&self, state: &mut State) -> Option<Delivery> {
        if state.closing {
            return None;
        }
        if let Some((sequence, record)) = state.ready.pop_front() {
            state.ready_bytes -= record.size();
            if state.unread {
                self.shared.work.notify_one();
            }
            if state.finishing {
                // Others may wait for what will not come.
                self.shared.announce();
            }
            return Some(delivery(Position::Disk(sequence), record));
        }
        // Past the disk only where that is behind: order is kept, unless the disk says nothing at all.
        let past_the_disk = match state.stats.condition {
            Condition::Working => false,
            Condition::Failing => !state.unread,
            Condition::Stalled => true,
        };
        if !past_the_disk {
            return None;
        }
        let Staged { id, record } = state.take_staged()?;
        state
            .from_memory
            .insert(id, (record.signal, record.count()));
        state.unwritten = state.unwritten.max(id);
        self.shared.announce();
        Some(delivery(Position::Memory(id), record))
    }

    /// Whether nothing will come any more.
    fn ended(&self, state: &State) -> bool {
        state.closing
            || (state.finishing
                && state.ready.is_empty()
                && !state.unread
                && state.stage.is_empty())
    }

    /// The next record, in order; `None` when the queue is closed, or finished and empty.
    pub async fn next(&self) -> Option<Delivery> {
        loop {
            let mut progressed = pin!(self.shared.progressed.notified());
            progressed.as_mut().enable();
            {
                let mut state = self.shared.lock();
                if let Some(delivery) = self.take(&mut state) {
                    return Some(delivery);
                }
                if self.ended(&state) {
                    return None;
                }
            }
            progressed.await;
        }
    }

    /// [`Self::next`] for a thread; also `None` when nothing comes within a time.
    pub fn next_blocking(&self, at_most: Duration) -> Option<Delivery> {
        let until = Instant::now() + at_most;
        let mut state = self.shared.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(delivery) = self.take(&mut state) {
                return Some(delivery);
            }
            if self.ended(&state) || left.is_zero() {
                return None;
            }
            state = wait(&self.shared.progress, state, Some(left));
        }
    }

    /// A record has ended and is not delivered again. Returns at once; a kill in the next moment may still deliver it
    /// again. See [`Self::acks_written`].
    pub fn ack(&self, position: Position) {
        let mut state = self.shared.lock();
        match position {
            Position::Disk(sequence) => {
                state.acks.push(sequence);
                state.acks_handed += 1;
                self.shared.work.notify_one();
            }
            Position::Memory(id) => {
                state.from_memory.remove(&id);
                self.shared.announce();
            }
        }
    }

    /// Waits until what was acknowledged so far is written down, so that a kill does not bring it back. Returns at once
    /// while the disk fails.
    pub async fn acks_written(&self) {
        let handed = self.shared.lock().acks_handed;
        loop {
            let mut progressed = pin!(self.shared.progressed.notified());
            progressed.as_mut().enable();
            if self.acks_settled(&self.shared.lock(), handed) {
                return;
            }
            progressed.await;
        }
    }

    /// [`Self::acks_written`] for a thread.
    pub fn wait_for_acks(&self) {
        let mut state = self.shared.lock();
        let handed = state.acks_handed;
        while !self.acks_settled(&state, handed) {
            state = wait(&self.shared.progress, state, None);
        }
    }

    fn acks_settled(&self, state: &State, handed: u64) -> bool {
        state.acks_written >= handed
            || state.writer_done
            || state.stats.condition != Condition::Working
    }

    /// Waits until nothing is in the queue, nor in the hands of consumers; whether it came to that, in time.
    pub fn wait_until_empty(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut state = self.shared.lock();
        loop {
            let on_disk = state.stats.disk.total().records;
            if on_disk == 0 && state.stage.is_empty() && state.from_memory.is_empty() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = wait(&self.shared.progress, state, Some(left));
        }
    }

    /// What is in the queue, and what has happened to it.
    pub fn stats(&self) -> Stats {
        let state = self.shared.lock();
        let mut stats = state.stats.clone();
        let age = |ticks| self.shared.clock.age(ticks);
        stats.oldest_age = state.oldest.map_or(Duration::ZERO, age);
        stats.memory = state.staged();
        stats.memory.add_all(&state.in_hand());
        stats
    }

    /// No more pushes; what waits is still handed out.
    pub fn finish(&self) {
        self.shared.lock().finishing = true;
        self.shared.work.notify_all();
        self.shared.announce();
    }

    /// Writes what is in memory, syncs, and gives the directory back. What was not acknowledged stays on the disk.
    pub fn close(&self, at_most: Duration) -> CloseReport {
        let until = Instant::now() + at_most;
        self.begin_closing();
        let mut state = self.shared.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let finished = state.writer_done && state.syncer_done;
            if finished || left.is_zero() {
                return CloseReport {
                    on_disk: state.stats.disk.clone(),
                    finished: finished
                        && state.stage.is_empty()
                        && state.stats.condition == Condition::Working
                        && !state.sync_failing,
                    in_memory: state.staged(),
                    in_hand: state.in_hand(),
                    orphaned: state.orphaned.clone(),
                };
            }
            state = wait(&self.shared.progress, state, Some(left));
        }
    }

    fn begin_closing(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_all();
        self.shared.sync_work.notify_all();
        self.shared.announce();
    }
}

impl Drop for DiskQueue {
    fn drop(&mut self) {
        // The threads write what is left on their own time.
        self.begin_closing();
    }
}

fn delivery(position: Position, record: Record) -> Delivery {
    Delivery {
        position,
        signal: record.signal,
        items: record.items,
        enqueued: UNIX_EPOCH + Duration::from_nanos(record.stamp.wall),
        body: record.body,
    }
}
