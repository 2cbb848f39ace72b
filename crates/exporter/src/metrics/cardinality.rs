//! Who makes a metric overflow: how many distinct values each attribute has, in bounded memory.
//!
//! Nothing is counted before a metric of a resource overflows for the first time, so the usual way costs nothing.

use std::cmp::Reverse;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::FixedState;
use spandrel_model::{Attribute, Instrument, Resource, Text, Value};

use super::aggregator::{AggregatorSettings, AggregatorStats};

/// Most metrics of services that are looked at; of more, those that overflowed last.
const MAX_OFFENDERS: usize = 64;
/// Most attributes of one of them.
const MAX_KEYS: usize = 16;
/// Up to so many distinct values are counted exactly.
const EXACT: usize = 64;
/// 2^10 registers: a standard error of 3 %.
const REGISTER_BITS: u32 = 10;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// How many of the worst are named in the log.
const NAMED: usize = 3;

/// A metric of a service that has more sets of attributes than its limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Offender {
    /// Name of the metric.
    pub metric: &'static str,
    /// The service.
    pub service: String,
    /// Most series that it may have.
    pub limit: usize,
    /// Measurements that went into the overflow series.
    pub overflowed: u64,
    /// Attributes with how many distinct values they had, most first.
    pub keys: Vec<(Text, u64)>,
}

impl fmt::Display for Offender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {}: {} measurements beyond {} series",
            self.metric, self.service, self.overflowed, self.limit
        )?;
        for (at, (key, values)) in self.keys.iter().take(NAMED).enumerate() {
            let before = if at == 0 { "; values: " } else { ", " };
            write!(f, "{before}{key} {values}")?;
        }
        Ok(())
    }
}

/// The overflows of an aggregator, for others to read; as they were at the last collection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overflows {
    /// The worst first.
    pub offenders: Vec<Offender>,
    /// Measurements in overflow series, in all.
    pub overflowed: u64,
    /// Measurements left out: not finite or negative.
    pub refused: u64,
    /// Series of running processes that ended for want of room.
    pub evicted: u64,
    /// Most series in all.
    pub max_series: usize,
}

impl Overflows {
    /// Whether everything that was measured is in a series of its own that goes on.
    pub fn is_nothing(&self) -> bool {
        self.overflowed == 0 && self.refused == 0 && self.evicted == 0
    }

    /// What has come since, in numbers.
    fn since(&self, before: &Self) -> Self {
        Self {
            overflowed: self.overflowed - before.overflowed,
            refused: self.refused - before.refused,
            evicted: self.evicted - before.evicted,
            ..self.clone()
        }
    }
}

/// Shares the [`Overflows`] of an aggregator with other threads.
#[derive(Clone, Debug, Default)]
pub struct OverflowReport(Arc<Mutex<Overflows>>);

impl OverflowReport {
    /// What it was at the last collection.
    pub fn read(&self) -> Overflows {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Overflows> {
        // It is replaced as a whole, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Overflows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        if self.evicted > 0 {
            write!(
                f,
                "{} metric series of running processes ended for want of room (there are {} at most), and begin anew when \
                 they are measured again",
                self.evicted, self.max_series
            )?;
            between = "; ";
        }
        if self.refused > 0 {
            write!(
                f,
                "{between}{} measurements were left out, as they are negative or no finite number",
                self.refused
            )?;
            between = "; ";
        }
        if self.overflowed > 0 {
            write!(
                f,
                "{between}{} measurements went into series with otel.metric.overflow, because of too many attribute sets: \
                 raise cardinality_limits or drop the attribute",
                self.overflowed
            )?;
            let worst = self.offenders.iter().take(NAMED);
            worst.into_iter().try_for_each(|one| write!(f, "; {one}"))?;
        }
        Ok(())
    }
}

/// Looks at what overflows.
#[derive(Debug, Default)]
pub(super) struct Watch {
    tracked: Vec<Tracked>,
    hasher: FixedState,
    report: OverflowReport,
    /// How many measurements overflowed, those of metrics that are not tracked included.
    overflows: u64,
}

#[derive(Debug)]
struct Tracked {
    instrument: &'static Instrument,
    service: String,
    overflowed: u64,
    /// Which overflow of all was its last one.
    last: u64,
    keys: Vec<(Text, Distinct)>,
}

impl Watch {
    pub(super) fn report(&self) -> OverflowReport {
        self.report.clone()
    }

    /// One measurement overflows. `held` gives the sets of attributes that have a series of their own; it is asked once.
    pub(super) fn overflow<'a, I: Iterator<Item = &'a [Attribute]>>(
        &mut self,
        resource: &Resource,
        instrument: &'static Instrument,
        attributes: &[Attribute],
        held: impl FnOnce() -> I,
    ) {
        self.overflows += 1;
        let service = resource.service_name();
        let found = self
            .tracked
            .iter()
            .position(|one| one.instrument == instrument && one.service == service);
        let at = match found {
            Some(at) => at,
            None => {
                if self.tracked.len() >= MAX_OFFENDERS {
                    let all = self.tracked.iter().enumerate();
                    let oldest = all.min_by_key(|(_, one)| one.last).map(|(at, _)| at);
                    oldest.map(|at| self.tracked.swap_remove(at));
                }
                let mut new = Tracked {
                    instrument,
                    service: service.to_owned(),
                    overflowed: 0,
                    last: 0,
                    keys: Vec::new(),
                };
                held().for_each(|attributes| new.see(&self.hasher, attributes));
                self.tracked.push(new);
                self.tracked.len() - 1
            }
        };
        if let Some(tracked) = self.tracked.get_mut(at) {
            tracked.overflowed += 1;
            tracked.last = self.overflows;
            tracked.see(&self.hasher, attributes);
        }
    }

    /// Makes the report, and says in the log what has come since the last one.
    pub(super) fn publish(&mut self, stats: &AggregatorStats, settings: &AggregatorSettings) {
        let limit = settings.cardinality_limit;
        let mut offenders: Vec<Offender> =
            self.tracked.iter().map(|one| one.offender(limit)).collect();
        offenders.sort_by_key(|one| Reverse(one.overflowed));
        let now = Overflows {
            offenders,
            overflowed: stats.overflowed,
            refused: stats.refused,
            evicted: stats.evicted,
            max_series: settings.max_series,
        };
        let news = now.since(&self.report.lock());
        if !news.is_nothing() {
            tracing::warn!("{news}");
        }
        *self.report.lock() = now;
    }
}

impl Tracked {
    fn see(&mut self, hasher: &FixedState, attributes: &[Attribute]) {
        for attribute in attributes {
            let at = self.keys.iter().position(|(key, _)| *key == attribute.key);
            let at = match at {
                Some(at) => at,
                None if self.keys.len() >= MAX_KEYS => continue,
                None => {
                    self.keys.push((attribute.key.clone(), Distinct::default()));
                    self.keys.len() - 1
                }
            };
            if let Some((_, distinct)) = self.keys.get_mut(at) {
                distinct.see(hash(hasher, &attribute.value));
            }
        }
    }

    fn offender(&self, limit: usize) -> Offender {
        let counted = |(key, distinct): &(Text, Distinct)| (key.clone(), distinct.count());
        let mut keys: Vec<_> = self.keys.iter().map(counted).collect();
        keys.sort_by_key(|(_, values)| Reverse(*values));
        Offender {
            metric: self.instrument.name,
            service: self.service.clone(),
            limit,
            overflowed: self.overflowed,
            keys,
        }
    }
}

fn hash(hasher: &FixedState, value: &Value) -> u64 {
    match value {
        Value::Str(text) => hasher.hash_one(text.as_bytes()),
        Value::I64(number) => hasher.hash_one(number),
        Value::Bool(truth) => hasher.hash_one(truth),
        Value::F64(number) => hasher.hash_one(number.to_bits()),
        Value::StrArray(texts) => hasher.hash_one(texts),
    }
}

/// How many distinct hashes: exactly while they are few, then by HyperLogLog.
#[derive(Debug)]
enum Distinct {
    Few(Vec<u64>),
    Many(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Distinct {
    fn see(&mut self, hash: u64) {
        match self {
            Self::Few(hashes) if hashes.contains(&hash) => {}
            Self::Few(hashes) if hashes.len() < EXACT => hashes.push(hash),
            Self::Few(hashes) => {
                let mut registers = Box::new([0; REGISTERS]);
                for hash in hashes.iter().chain([&hash]) {
                    register(&mut registers, *hash);
                }
                *self = Self::Many(registers);
            }
            Self::Many(registers) => register(registers, hash),
        }
    }

    fn count(&self) -> u64 {
        let registers = match self {
            Self::Few(hashes) => return hashes.len() as u64,
            Self::Many(registers) => registers,
        };
        let m = REGISTERS as f64;
        let sum: f64 = registers
            .iter()
            .map(|&rank| (-f64::from(rank)).exp2())
            .sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let empty = registers.iter().filter(|&&rank| rank == 0).count();
        let estimate = if raw <= 2.5 * m && empty > 0 {
            m * (m / empty as f64).ln()
        } else {
            raw
        };
        estimate.round() as u64
    }
}

fn register(registers: &mut [u8; REGISTERS], hash: u64) {
    let index = (hash >> (64 - REGISTER_BITS)) as usize;
    let rank = ((hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1))).leading_zeros() + 1;
    if let Some(register) = registers.get_mut(index) {
        *register = (*register).max(rank as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_values_are_counted_exactly_then_within_a_tenth() {
        let hasher = FixedState::default();
        for count in [0, 1, 64, 65, 500, 5000, 100_000_u64] {
            let mut distinct = Distinct::default();
            for n in (0..count).chain(0..count) {
                distinct.see(hash(&hasher, &Value::from(format!("/users/{n}"))));
            }
            let (counted, error) = (distinct.count(), distinct.count().abs_diff(count));
            let allowed = if count <= 64 { 0 } else { count / 10 };
            assert!(error <= allowed, "{counted} for {count}");
        }
    }
}
