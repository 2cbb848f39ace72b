//! The kernel side's counters, summed over CPUs.

use std::collections::BTreeMap;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi;

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
    /// Connection and process events that the ring refused.
    pub lost_control: u64,
    /// Messages whose bytes could not be read; their lengths were.
    pub copy_faults: u64,
    /// Runs that the kernel skipped because the program was already running on that CPU, by program.
    pub recursion_misses: BTreeMap<String, u64>,
}

impl Counters {
    /// Whether every message that was seen has ended in one counter.
    pub fn is_closed(&self) -> bool {
        self.seen == self.submitted + self.drops.values().sum::<u64>()
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
