//! The kernel side's counters, summed over CPUs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi;
use crate::control::Maps;
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
    /// Entries that tables of the kernel side have forgotten to make room for new ones, the longest idle first, by table:
    /// where there were any. A forgotten connection comes back as one that existed before.
    pub forgotten: BTreeMap<&'static str, u64>,
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

    /// Adds what tables have forgotten: what went in, was not taken out, and is not there.
    pub(crate) fn add_forgotten(&mut self, maps: &Maps) -> Result<(), libbpf_rs::Error> {
        let Some(cpus) = maps
            .counters
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)?
        else {
            return Ok(());
        };
        let sum = |offset: usize| cpus.iter().map(|cpu| word(cpu, offset)).sum::<u64>();
        let told = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tables = [
            (
                "connections",
                &maps.connections,
                sum(std::mem::offset_of!(abi::Counters, connections_made)),
                sum(std::mem::offset_of!(abi::Counters, connections_ended)),
            ),
            (
                "processes",
                &maps.processes,
                sum(std::mem::offset_of!(abi::Counters, processes_made))
                    + told(&maps.processes_told),
                sum(std::mem::offset_of!(abi::Counters, processes_ended)),
            ),
            (
                "decisions",
                &maps.decisions,
                told(&maps.decisions_told),
                sum(std::mem::offset_of!(abi::Counters, decisions_taken)),
            ),
        ];
        for (table, map, made, ended) in tables {
            let there = made.saturating_sub(ended);
            // To count entries is dear, and a table that is half empty forgets nothing.
            if there <= u64::from(map.max_entries()) / 2 {
                continue;
            }
            let entries = map
                .lookup_batch(4096, MapFlags::ANY, MapFlags::ANY)?
                .count() as u64;
            if there > entries {
                self.forgotten.insert(table, there - entries);
            }
        }
        Ok(())
    }

    /// Adds what the kernel side has counted.
    pub(crate) fn add_kernel(&mut self, map: &MapHandle) -> Result<(), libbpf_rs::Error> {
        let Some(cpus) = map.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)? else {
            return Ok(());
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

fn word(cpu: &[u8], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    if let Some(found) = cpu.get(offset..offset + 8) {
        bytes.copy_from_slice(found);
    }
    u64::from_ne_bytes(bytes)
}
