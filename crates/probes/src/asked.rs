//! Processes that the kernel side asks about: ahead of all events that wait.

use libbpf_rs::{MapCore as _, MapHandle};
use spandrel_model::{KernelTime, ProcessKey};

use crate::abi;
use crate::decode::{Record, at};

/// A process that nothing is decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The process.
    pub process: ProcessKey,
    /// When it was asked.
    pub time: KernelTime,
    /// It executed a program then: the event that tells of that has the same time.
    pub executed: bool,
    /// The id of its control group, 0 if unknown.
    pub cgroup: u64,
}

/// What is asked now. Nobody has to take it: the oldest makes room, and a process that goes on is asked about again.
#[derive(Debug)]
pub struct Asks(pub(crate) MapHandle);

impl Iterator for Asks {
    type Item = Asked;

    fn next(&mut self) -> Option<Asked> {
        let value = self.0.lookup_and_delete(&[]).ok()??;
        let record = Record(&value);
        Some(Asked {
            process: ProcessKey {
                tgid: at!(record.u32(ProcessAsked.tgid)),
                started: at!(record.u64(ProcessAsked.process_started)),
            },
            time: KernelTime(at!(record.u64(ProcessAsked.time))),
            executed: at!(record.u32(ProcessAsked.executed)) != 0,
            cgroup: at!(record.u64(ProcessAsked.cgroup)),
        })
    }
}
