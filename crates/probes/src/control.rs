//! What user space decides, put where the kernel side finds it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use spandrel_model::{CapturePolicy, ConnectionId};

use crate::abi;

/// Whether a process is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All its messages.
    Allow,
    /// None; they are counted as `kernel.process_denied`.
    Deny,
}

/// Where a Go program keeps the number of the goroutine that runs on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoroutineLayout {
    /// Of the pointer to the runtime's `g`, from the thread pointer; of no meaning on arm64, which has it in a register.
    pub g: i32,
    /// Of `goid`, in `g`.
    pub goid: u32,
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
    pub(crate) connections: MapHandle,
    pub(crate) processes: MapHandle,
    /// Entries that user space has made in `processes` and in `decisions`.
    pub(crate) processes_told: AtomicU64,
    pub(crate) decisions_told: AtomicU64,
    pub(crate) decisions: MapHandle,
    pub(crate) epoch: MapHandle,
    pub(crate) counters: MapHandle,
    pub(crate) cgroup_losses: MapHandle,
    /// Held from reading a process' rule to writing it back.
    pub(crate) rules: Mutex<()>,
    pub(crate) epochs: Epochs,
}

/// How often user space has decided, by what about: `enum epoch`.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    connections: AtomicU32,
    processes: AtomicU32,
}

impl Maps {
    /// After a decision: whoever sees the new epoch finds it.
    fn raise(&self, index: u32, epoch: &AtomicU32) -> Result<(), libbpf_rs::Error> {
        let epoch = epoch.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.epoch
            .update(&index.to_ne_bytes(), &epoch.to_ne_bytes(), MapFlags::ANY)
    }
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
        self.change_rule(tgid, |rule| {
            put(
                rule,
                std::mem::offset_of!(abi::ProcessRule, verdict),
                verdict.to_ne_bytes(),
            );
        })
    }

    /// Tells where a process keeps its goroutines' numbers, `None` if it has none: from then on its messages carry
    /// them. Forgotten when it executes another program or exits.
    pub fn set_goroutines(
        &self,
        tgid: u32,
        layout: Option<GoroutineLayout>,
    ) -> Result<(), ControlError> {
        let layout = layout.unwrap_or(GoroutineLayout { g: 0, goid: 0 });
        let at = std::mem::offset_of!(abi::ProcessRule, goroutines);
        self.change_rule(tgid, |rule| {
            let g = at + std::mem::offset_of!(abi::GoroutineLayout, g);
            put(rule, g, layout.g.to_ne_bytes());
            let goid = at + std::mem::offset_of!(abi::GoroutineLayout, goid);
            put(rule, goid, layout.goid.to_ne_bytes());
        })
    }

    /// Of what the kernel side writes itself, the count of messages, some may be lost: it is a bound, no account.
    fn change_rule(
        &self,
        tgid: u32,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ControlError> {
        let _held = self
            .maps
            .rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = tgid.to_ne_bytes();
        let failed = |error: &_| failed(format!("process {tgid}"), error);
        let map = &self.maps.processes;
        let found = map.lookup(&key, MapFlags::ANY);
        let mut rule = found.map_err(|error| failed(&error))?.unwrap_or_else(|| {
            self.maps.processes_told.fetch_add(1, Ordering::Relaxed);
            vec![0; abi::ProcessRule::LAYOUT.size]
        });
        change(&mut rule);
        map.update(&key, &rule, MapFlags::ANY)
            .and_then(|()| self.maps.raise(1, &self.maps.epochs.processes))
            .map_err(|error| failed(&error))
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
            CapturePolicy::Forgotten => (4, 0),
        };
        let mut value = [0; 8];
        value[..4].copy_from_slice(&policy.to_ne_bytes());
        value[4..].copy_from_slice(&bytes.to_ne_bytes());
        let key = connection.0.to_ne_bytes();
        let decisions = &self.maps.decisions;
        let made = decisions.update(&key, &value, MapFlags::NO_EXIST);
        if made.is_ok() {
            self.maps.decisions_told.fetch_add(1, Ordering::Relaxed);
        }
        made.or_else(|_| decisions.update(&key, &value, MapFlags::ANY))
            .and_then(|()| self.maps.raise(0, &self.maps.epochs.connections))
            .map_err(|error| failed(format!("connection {}", connection.0), &error))
    }

    /// Takes back what was decided about a connection and what no message has taken: it has ended. A short connection has
    /// often ended when the decision comes, and would stay in the table in place of one that lives.
    pub fn end_connection(&self, connection: ConnectionId) {
        // Without an entry there is nothing to take back.
        if self
            .maps
            .decisions
            .delete(&connection.0.to_ne_bytes())
            .is_ok()
        {
            self.maps.decisions_told.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn put(rule: &mut [u8], offset: usize, word: [u8; 4]) {
    if let Some(place) = rule.get_mut(offset..offset + 4) {
        place.copy_from_slice(&word);
    }
}

fn failed(about: String, error: &libbpf_rs::Error) -> ControlError {
    ControlError {
        about,
        problem: error.to_string(),
    }
}
