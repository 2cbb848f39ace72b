//! Where tests come between the queue and the disk, or the clock.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What is about to be done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Write,
    Read,
    Sync,
    /// Of the directory, without which a new file may be gone after a loss of power.
    SyncDirectory,
}

type Fault = dyn Fn(Operation) -> io::Result<()> + Send + Sync;
type Now = dyn Fn() -> (Instant, u64) + Send + Sync;

/// Nothing, except in tests.
#[derive(Clone, Default)]
pub(crate) struct Hook {
    pub(crate) fault: Option<Arc<Fault>>,
    pub(crate) now: Option<Arc<Now>>,
}

impl Hook {
    /// May fail or wait in place of the disk.
    pub(crate) fn before(&self, operation: Operation) -> io::Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(operation))
    }

    /// The monotonic clock, and nanoseconds since 1970 as the system believes.
    pub(crate) fn now(&self) -> (Instant, u64) {
        self.now.as_ref().map_or_else(
            || {
                let wall = SystemTime::now().duration_since(UNIX_EPOCH);
                let nanos = wall.map_or(0, |wall| u64::try_from(wall.as_nanos()).unwrap_or(0));
                (Instant::now(), nanos)
            },
            |now| now(),
        )
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
