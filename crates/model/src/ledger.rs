//! The ledger: everything that was seen ends in exactly one counter.
//!
//! For each [`Account`]: `seen = settled + in flight + sum(dropped by reason)`. The kernel side counts its part
//! in per-CPU maps, which are added to the account of messages when they are read.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

/// Reasons are `<stage>.<reason>` constants, for example `kernel.ring_full`.
pub type Reason = &'static str;

/// What came in and where each of it ended.
#[derive(Debug, Default)]
pub struct Account {
    seen: AtomicU64,
    settled: AtomicU64,
    in_flight: AtomicU64,
    dropped: Mutex<BTreeMap<Reason, u64>>,
}

impl Account {
    /// `n` more were seen, and nothing is said yet of where they end.
    pub fn see(&self, n: u64) {
        self.seen.fetch_add(n, Ordering::Relaxed);
    }

    /// `n` have arrived where they should.
    pub fn settle(&self, n: u64) {
        self.settled.fetch_add(n, Ordering::Relaxed);
    }

    /// `n` were lost or left out on purpose, for a reason.
    pub fn drop_for(&self, reason: Reason, n: u64) {
        if n > 0 {
            *self.dropped_mut().entry(reason).or_insert(0) += n;
        }
    }

    /// Sets the count of a reason that is counted elsewhere (the kernel side).
    pub fn set_dropped(&self, reason: Reason, n: u64) {
        if n > 0 || self.dropped_mut().contains_key(reason) {
            self.dropped_mut().insert(reason, n);
        }
    }

    /// Sets how many were seen, where that is counted elsewhere (the kernel side).
    pub fn set_seen(&self, n: u64) {
        self.seen.store(n, Ordering::Relaxed);
    }

    /// Sets how many are on their way now.
    pub fn set_in_flight(&self, n: u64) {
        self.in_flight.store(n, Ordering::Relaxed);
    }

    /// `n` more are on their way.
    pub fn depart(&self, n: u64) {
        self.in_flight.fetch_add(n, Ordering::Relaxed);
    }

    /// `n` that were on their way have ended, in whatever way.
    pub fn land(&self, n: u64) {
        self.in_flight.fetch_sub(n, Ordering::Relaxed);
    }

    /// The numbers now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            seen: self.seen.load(Ordering::Relaxed),
            settled: self.settled.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            dropped: self.dropped_mut().clone(),
        }
    }

    fn dropped_mut(&self) -> std::sync::MutexGuard<'_, BTreeMap<Reason, u64>> {
        // A panic elsewhere cannot leave a map of counters half changed.
        self.dropped
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// An account's numbers at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All that came in.
    pub seen: u64,
    /// What arrived where it should.
    pub settled: u64,
    /// What is on its way.
    pub in_flight: u64,
    /// What was lost or left out, by reason.
    pub dropped: BTreeMap<Reason, u64>,
}

impl Snapshot {
    /// Whether the equation holds.
    pub fn is_closed(&self) -> bool {
        self.seen == self.settled + self.in_flight + self.dropped.values().sum::<u64>()
    }

    fn to_json(&self, seen: &str, settled: &str, in_flight: bool) -> Value {
        let mut object = Map::new();
        object.insert(seen.to_owned(), json!(self.seen));
        object.insert(settled.to_owned(), json!(self.settled));
        if in_flight {
            object.insert("in_flight".to_owned(), json!(self.in_flight));
        }
        object.insert("dropped".to_owned(), json!(self.dropped));
        Value::Object(object)
    }
}

/// The agent's four accounts.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Messages: seen by the kernel side; settled = delivered to a stream.
    pub messages: Account,
    /// Exchanges: seen = a request (or a response without one) began; settled = completed.
    pub exchanges: Account,
    /// Spans: seen = made; settled = exported (acknowledged).
    pub spans: Account,
    /// Metric points: seen = made; settled = exported (acknowledged).
    pub metric_points: Account,
}

impl Ledger {
    /// The object that `--ledger FILE` writes.
    pub fn to_json(&self) -> Value {
        json!({
            "messages": self.messages.snapshot().to_json("seen", "delivered", false),
            "exchanges": self.exchanges.snapshot().to_json("seen", "completed", false),
            "spans": self.spans.snapshot().to_json("made", "exported", true),
            "metric_points": self.metric_points.snapshot().to_json("made", "exported", true),
        })
    }

    /// Whether every equation holds; true only at rest.
    pub fn is_closed(&self) -> bool {
        [
            &self.messages,
            &self.exchanges,
            &self.spans,
            &self.metric_points,
        ]
        .into_iter()
        .all(|account| account.snapshot().is_closed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_closed_only_when_everything_seen_has_ended() {
        let account = Account::default();
        account.see(3);
        account.settle(1);
        account.drop_for("queue.full", 1);
        assert!(!account.snapshot().is_closed());
        account.depart(1);
        assert!(account.snapshot().is_closed());
    }

    #[test]
    fn the_ledger_prints_the_contract_of_the_command_line() {
        let ledger = Ledger::default();
        ledger.messages.see(2);
        ledger.messages.settle(1);
        ledger.messages.drop_for("kernel.ring_full", 1);
        ledger.spans.see(1);
        ledger.spans.depart(1);
        let json = ledger.to_json();
        assert_eq!(
            json["messages"],
            json!({"seen": 2, "delivered": 1, "dropped": {"kernel.ring_full": 1}})
        );
        assert_eq!(
            json["spans"],
            json!({"made": 1, "exported": 0, "in_flight": 1, "dropped": {}})
        );
        assert_eq!(
            json["exchanges"],
            json!({"seen": 0, "completed": 0, "dropped": {}})
        );
    }
}
