//! Processes, by a key that survives the reuse of process ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process: its id in the pid namespace that the agent's `/proc` shows, and when it started.
///
/// That is the initial namespace, or for a sidecar the one that it shares with its pod: what is read of a process, told of it
/// and decided about it goes by one number.
///
/// `started` is the kernel's `task_struct.group_leader->start_boottime` in nanoseconds (the 22nd field of
/// `/proc/<pid>/stat` in a finer unit), so that a reused id is another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Thread group id.
    pub tgid: u32,
    /// Start time, nanoseconds since boot, suspended time included.
    pub started: u64,
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tgid)
    }
}
