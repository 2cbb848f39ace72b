//! Processes, by a key that survives the reuse of process ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process: its id in the initial pid namespace and when it started.
///
/// `started` is the kernel's `task_struct.group_leader->start_boottime` in nanoseconds (the 22nd field of
/// `/proc/<pid>/stat` in a finer unit), so that a reused id is another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Start time, nanoseconds since boot, suspended time included.
    pub started: u64,
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tgid)
    }
}
