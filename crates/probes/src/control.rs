//! What user space decides, put where the kernel side finds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use spandrel_model::{CapturePolicy, ConnectionId};

/// Whether a process is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All its messages.
    Allow,
    /// None; they are counted as `kernel.process_denied`.
    Deny,
}

/// Why a decision did not reach the kernel side.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell the kernel side about {about}: {problem}")]
pub struct ControlError {
    about: String,
    problem: String,
}

/// Tells the kernel side what to do; cheap to clone, usable from any thread, and of no effect after the stop.
#[derive(Clone, Debug)]
pub struct Control {
    maps: Arc<Maps>,
}

#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) processes: MapHandle,
    pub(crate) decisions: MapHandle,
    pub(crate) epoch: MapHandle,
    pub(crate) counters: MapHandle,
    pub(crate) decided: AtomicU32,
}

impl Control {
    pub(crate) fn new(maps: Arc<Maps>) -> Self {
        Self { maps }
    }

    /// Decides about a process; forgotten when it executes another program or exits.
    pub fn set_process(&self, tgid: u32, verdict: Verdict) -> Result<(), ControlError> {
        let verdict: u32 = match verdict {
            Verdict::Allow => 1,
            Verdict::Deny => 2,
        };
        let mut value = [0; 8];
        value[..4].copy_from_slice(&verdict.to_ne_bytes());
        self.maps
            .processes
            .update(&tgid.to_ne_bytes(), &value, MapFlags::ANY)
            .map_err(|error| failed(format!("process {tgid}"), &error))
    }

    /// Decides how much of a connection is copied, from its next message on.
    pub fn set_connection(
        &self,
        connection: ConnectionId,
        policy: CapturePolicy,
    ) -> Result<(), ControlError> {
        let (policy, bytes): (u32, u32) = match policy {
            CapturePolicy::Undecided => (0, 0),
            CapturePolicy::Ignore => (1, 0),
            CapturePolicy::Headers => (2, 0),
            CapturePolicy::Full(bytes) => (3, bytes),
        };
        let mut value = [0; 8];
        value[..4].copy_from_slice(&policy.to_ne_bytes());
        value[4..].copy_from_slice(&bytes.to_ne_bytes());
        let failed = |error: &_| failed(format!("connection {}", connection.0), error);
        self.maps
            .decisions
            .update(&connection.0.to_ne_bytes(), &value, MapFlags::ANY)
            .map_err(|error| failed(&error))?;
        // The decision first: whoever sees the new epoch finds it.
        let epoch = self
            .maps
            .decided
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        self.maps
            .epoch
            .update(&0u32.to_ne_bytes(), &epoch.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| failed(&error))
    }
}

fn failed(about: String, error: &libbpf_rs::Error) -> ControlError {
    ControlError {
        about,
        problem: error.to_string(),
    }
}
