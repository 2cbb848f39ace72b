//! The kernel side's counters, summed over CPUs.

use std::collections::BTreeMap;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi;
use crate::misses::Missed;

/// Where the messages that were seen have ended. At rest `seen = submitted + sum(drops)`, and after
/// [`Capture::stop`](crate::Capture::stop) also `submitted = delivered + sum(undelivered)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that a backend has seen.
    pub seen: u64,
    /// Messages that went into the ring.
    pub submitted: u64,
    /// Messages that did not, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Messages handed to the receiver.
    pub delivered: u64,
    /// Messages that came out of the ring and could not be handed over, by reason.
    pub undelivered: BTreeMap<&'static str, u64>,
    /// Connection and process events that are lost: the ring was full, and so was what keeps them until it is not.
    pub lost_control: u64,
    /// Messages whose bytes could not be read; their lengths were.
    pub copy_faults: u64,
    /// Messages lost under overload (`kernel.ring_full` and `kernel.rate_limited`) by the id of their cgroup. Of more
    /// than 1024 cgroups the least recent ones are forgotten: then the sum is less than those two.
    pub lost_by_cgroup: BTreeMap<u64, u64>,
    /// Runs that the kernel skipped because the program was already running on that CPU, by program. Those of programs
    /// that see messages count as seen and as `kernel.recursion`.
    pub recursion_misses: BTreeMap<String, u64>,
}

impl Counters {
    /// Whether every message that was seen has ended in one counter.
    pub fn is_closed(&self) -> bool {
        self.seen == self.submitted + self.drops.values().sum::<u64>()
    }

    /// Messages lost under overload.
    pub fn lost_under_overload(&self) -> u64 {
        ["kernel.ring_full", "kernel.rate_limited"]
            .iter()
            .filter_map(|reason| self.drops.get(reason))
            .sum()
    }

    /// Takes what each cgroup has lost; before [`add_kernel`](Self::add_kernel), which then has counted all of it.
    pub(crate) fn add_losses(&mut self, map: &MapHandle) -> Result<(), libbpf_rs::Error> {
        let word = |bytes: Vec<u8>| bytes.try_into().map_or(0, u64::from_ne_bytes);
        self.lost_by_cgroup = map
            .lookup_batch(map.max_entries(), MapFlags::ANY, MapFlags::ANY)?
            .map(|(cgroup, lost)| (word(cgroup), word(lost)))
            .collect();
        Ok(())
    }

    /// Adds what the kernel has skipped.
    pub(crate) fn add_misses(&mut self, misses: impl Iterator<Item = Missed>) {
        for missed in misses {
            if missed.are_messages() && missed.runs > 0 {
                self.seen += missed.runs;
                *self.drops.entry("kernel.recursion").or_insert(0) += missed.runs;
            }
            self.recursion_misses.insert(missed.program, missed.runs);
        }
    }

    /// Adds what the kernel side has counted.
    pub(crate) fn add_kernel(&mut self, map: &MapHandle) -> Result<(), libbpf_rs::Error> {
        let Some(cpus) = map.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)? else {
            return Ok(());
        };
        let word = |cpu: &[u8], offset: usize| {
            let mut bytes = [0; 8];
            if let Some(found) = cpu.get(offset..offset + 8) {
                bytes.copy_from_slice(found);
            }
            u64::from_ne_bytes(bytes)
        };
        let outcomes = std::mem::offset_of!(abi::Counters, outcomes);
        for cpu in &cpus {
            self.seen += word(cpu, std::mem::offset_of!(abi::Counters, seen));
            self.submitted += word(cpu, outcomes);
            for (index, reason) in abi::OUTCOMES.iter().enumerate().skip(1) {
                let count = word(cpu, outcomes + index * 8);
                if count > 0 {
                    *self.drops.entry(reason).or_insert(0) += count;
                }
            }
            self.lost_control += word(cpu, std::mem::offset_of!(abi::Counters, lost_control));
            self.copy_faults += word(cpu, std::mem::offset_of!(abi::Counters, copy_faults));
        }
        Ok(())
    }
}
