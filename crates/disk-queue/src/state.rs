//! What pushers, consumers and the two threads of a queue share. Nothing here waits for the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::count::{Count, Counts};
use crate::settings::{DropReason, Settings};
use crate::store::{Record, Unsynced};

/// A record that is not on the disk.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) id: u64,
    pub(crate) record: Record,
}

/// How the disk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Records are written.
    #[default]
    Working,
    /// Writing fails; records stay in memory, and it is tried again.
    Failing,
    /// The disk has not answered within `push_wait`; records stay in memory until it does.
    Stalled,
}

/// What a queue holds, and what has happened to it since it was opened.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Bytes of files of records.
    pub disk_bytes: u64,
    /// On the disk and not ended, with what consumers have in their hands.
    pub disk: Counts,
    /// In memory and not on the disk.
    pub memory: Counts,
    /// How long the oldest record on the disk has waited.
    pub oldest_age: Duration,
    /// Dropped, by reason and signal.
    pub dropped: BTreeMap<(DropReason, u8), Count>,
    /// Records whose head was damaged: what was in them cannot be known.
    pub lost_records: u64,
    /// Bytes at the end of the last segment that a kill cut off; their push had not returned.
    pub torn_bytes: u64,
    /// Damaged entries of ended records; what they named may be delivered again.
    pub damaged_acks: u64,
    /// How often something damaged was set aside.
    pub quarantined: u64,
    /// Failed tries to write.
    pub write_errors: u64,
    /// Failed tries to force records to the disk.
    pub sync_errors: u64,
    /// How the disk does.
    pub condition: Condition,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) stage: VecDeque<Staged>,
    pub(crate) stage_bytes: usize,
    /// So many at the front of the stage are being written at this moment.
    pub(crate) writing: usize,
    pub(crate) last_id: u64,
    /// Greatest id that was written, that left memory without it, and that is safe from a loss of power.
    pub(crate) written: u64,
    pub(crate) unwritten: u64,
    pub(crate) synced: u64,
    pub(crate) ready: VecDeque<(u64, Record)>,
    pub(crate) ready_bytes: usize,
    /// Whether there is more on the disk than in `ready`.
    pub(crate) unread: bool,
    /// Handed out without having been on the disk.
    pub(crate) from_memory: BTreeMap<u64, (u8, Count)>,
    pub(crate) acks: Vec<u64>,
    pub(crate) acks_handed: u64,
    pub(crate) acks_written: u64,
    pub(crate) unsynced: Unsynced,
    pub(crate) sync_failing: bool,
    /// A push has waited for a sync in vain, and none has ended since.
    pub(crate) sync_slow: bool,
    pub(crate) seal: bool,
    /// The queue's clock at the oldest record on the disk.
    pub(crate) oldest: Option<u64>,
    /// In the hands of consumers at the end, and not on the disk.
    pub(crate) orphaned: Counts,
    pub(crate) stats: Stats,
    /// No more pushes.
    pub(crate) finishing: bool,
    /// No more anything.
    pub(crate) closing: bool,
    pub(crate) writer_done: bool,
    pub(crate) syncer_done: bool,
}

impl State {
    /// The oldest record in memory that nobody has in hand.
    pub(crate) fn take_staged(&mut self) -> Option<Staged> {
        let staged = self.stage.remove(self.writing)?;
        self.stage_bytes -= staged.record.size();
        Some(staged)
    }

    pub(crate) fn staged(&self) -> Counts {
        let mut counts = Counts::default();
        for staged in &self.stage {
            counts.add(staged.record.signal, staged.record.count());
        }
        counts
    }

    pub(crate) fn in_hand(&self) -> Counts {
        let mut counts = Counts::default();
        for (signal, count) in self.from_memory.values() {
            counts.add(*signal, *count);
        }
        counts
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    state: Mutex<State>,
    /// The writer has something to do.
    pub(crate) work: Condvar,
    /// The syncer has.
    pub(crate) sync_work: Condvar,
    /// Something was written, read or synced.
    pub(crate) progress: Condvar,
    pub(crate) progressed: Notify,
}

impl Shared {
    pub(crate) fn new(settings: Settings, clock: Clock) -> Self {
        Self {
            settings,
            clock,
            state: Mutex::default(),
            work: Condvar::new(),
            sync_work: Condvar::new(),
            progress: Condvar::new(),
            progressed: Notify::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn announce(&self) {
        self.progress.notify_all();
        self.progressed.notify_waiters();
    }

    /// Counts drops and tells of them. Not to be called with the lock in hand.
    pub(crate) fn dropped(&self, drops: &[(DropReason, u8, Count)]) {
        if drops.is_empty() {
            return;
        }
        let mut state = self.lock();
        for &(reason, signal, count) in drops {
            let total = state.stats.dropped.entry((reason, signal)).or_default();
            total.add(count);
        }
        drop(state);
        if let Some(tell) = &self.settings.on_drop {
            for &(reason, signal, count) in drops {
                tell(reason, signal, count);
            }
        }
    }
}

/// Waits on a condition, not longer than a time.
pub(crate) fn wait<'a>(
    on: &Condvar,
    guard: MutexGuard<'a, State>,
    at_most: Option<Duration>,
) -> MutexGuard<'a, State> {
    match at_most {
        Some(time) => {
            on.wait_timeout(guard, time)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        }
        None => on.wait(guard).unwrap_or_else(PoisonError::into_inner),
    }
}
