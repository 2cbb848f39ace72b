//! What a queue can be told.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::count::Count;
use crate::fault::Hook;

/// When written records are forced to the disk (fdatasync). Being killed loses nothing of what was written, whatever
/// is chosen here: it is the loss of power, or of the kernel, that this is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// A push waits until its record is on the disk; pushes that wait together share one fdatasync. Power loss loses
    /// nothing that was acknowledged.
    Always,
    /// Once in this time, without a push waiting for it. Power loss loses what was written within about that time.
    Interval(Duration),
    /// The kernel decides, usually within half a minute.
    Never,
}

impl Default for SyncPolicy {
    fn default() -> Self {
        Self::Interval(Duration::from_millis(200))
    }
}

/// Why the queue gave a record up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// It was among the oldest when there was no room.
    Full,
    /// It was older than `max_age`.
    Expired,
    /// Its bytes on the disk were damaged.
    Corrupt,
}

impl DropReason {
    /// The name of the counter.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "queue.full",
            Self::Expired => "queue.expired",
            Self::Corrupt => "queue.corrupt",
        }
    }
}

/// Hears of each drop: why, which signal, and how much. Called on a thread of the queue or of a pusher; must not wait.
pub type OnDrop = Arc<dyn Fn(DropReason, u8, Count) + Send + Sync>;

/// Everything.
#[derive(Clone)]
pub struct Settings {
    /// The directory under which each queue has one of its own.
    pub root: PathBuf,
    /// The name of the queue; anything, as it is escaped.
    pub name: String,
    /// Most bytes of records on the disk; beyond, the oldest segment goes.
    pub max_bytes: u64,
    /// Bytes after which a new segment begins; at most an eighth of `max_bytes`.
    pub segment_bytes: u64,
    /// Records that waited longer are dropped; `None` keeps them. See the module `clock` for what counts as age.
    pub max_age: Option<Duration>,
    /// When records are forced to the disk.
    pub sync: SyncPolicy,
    /// Most bytes of records in memory that are not on the disk yet, or cannot be.
    pub memory_bytes: usize,
    /// How long a push waits for the disk before the disk counts as stalled and pushes go to memory. With
    /// [`SyncPolicy::Always`] it includes the fdatasync.
    pub push_wait: Duration,
    /// Most records that are read ahead of the consumers.
    pub read_ahead: usize,
    /// Most bytes of damaged data that are kept aside.
    pub quarantine_bytes: u64,
    /// First and longest time between two tries after the disk failed.
    pub retry: (Duration, Duration),
    /// Hears of each drop.
    pub on_drop: Option<OnDrop>,
    /// What tests do to the disk and the clock.
    pub(crate) hook: Hook,
}

impl Settings {
    /// 1 GiB in segments of 8 MiB, synced every 200 ms, with 16 MiB of memory.
    pub fn new(root: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self {
            root: root.into(),
            name: name.into(),
            max_bytes: 1 << 30,
            segment_bytes: 8 << 20,
            max_age: None,
            sync: SyncPolicy::default(),
            memory_bytes: 16 << 20,
            push_wait: Duration::from_millis(100),
            read_ahead: 8,
            quarantine_bytes: 16 << 20,
            retry: (Duration::from_millis(100), Duration::from_secs(5)),
            on_drop: None,
            hook: Hook::default(),
        }
    }

    /// The size at which a segment is full.
    pub(crate) fn segment_limit(&self) -> u64 {
        self.segment_bytes.min(self.max_bytes / 8).max(1)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("root", &self.root)
            .field("name", &self.name)
            .field("max_bytes", &self.max_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("max_age", &self.max_age)
            .field("sync", &self.sync)
            .field("memory_bytes", &self.memory_bytes)
            .finish_non_exhaustive()
    }
}
