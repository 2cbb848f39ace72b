//! The ledger: everything that was seen ends in exactly one counter.
//!
//! For each [`Account`]: `seen = settled + in flight + sum(dropped by reason)`. The kernel side counts its part
//! in per-CPU maps, which are added to the account of messages when they are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::losses::LossesByCgroup;

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

    /// Whoever would have told where the rest ends has died: it ends here, for a reason.
    pub fn drop_rest(&self, reason: Reason) {
        let now = self.snapshot();
        let told = now.settled + now.in_flight + now.dropped.values().sum::<u64>();
        self.drop_for(reason, now.seen.saturating_sub(told));
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
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The agent's accounts.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Messages: seen by the kernel side; settled = delivered to a stream.
    pub messages: Account,
    /// Exchanges: seen = a request (or a response without one) began; settled = completed.
    pub exchanges: Account,
    /// Spans: seen = made; settled = exported (acknowledged).
    pub spans: Account,
    /// Measurements, once for each view of the metrics: seen = measured; settled = added to a series.
    pub measurements: Account,
    /// Metric points: seen = made; settled = exported (acknowledged).
    pub metric_points: Account,
    /// Log records: seen = made; settled = exported (acknowledged).
    pub log_records: Account,
    unsearched_bytes: AtomicU64,
    broken_pairings: AtomicU64,
    destinations: Mutex<Vec<Arc<DestinationAccounts>>>,
    lost: Mutex<LossesByCgroup>,
}

/// What was handed to one destination. Where there are several, a span counts in [`Ledger::spans`] once for each.
#[derive(Debug)]
pub struct DestinationAccounts {
    /// The destination's name in the configuration.
    pub name: String,
    /// Spans: seen = handed to this destination; settled = exported (acknowledged).
    pub spans: Account,
    /// Metric points: seen = handed to this destination; settled = exported (acknowledged).
    pub metric_points: Account,
    /// Log records: seen = handed to this destination; settled = exported (acknowledged).
    pub log_records: Account,
    cut_attributes: AtomicU64,
    cut_values: AtomicU64,
}

impl DestinationAccounts {
    /// So many attributes were left out and so many values shortened, for the limits of this destination.
    pub fn cut(&self, attributes: u64, values: u64) {
        self.cut_attributes.fetch_add(attributes, Ordering::Relaxed);
        self.cut_values.fetch_add(values, Ordering::Relaxed);
    }

    /// How many attributes were left out, and how many values shortened.
    pub fn cut_counts(&self) -> (u64, u64) {
        (
            self.cut_attributes.load(Ordering::Relaxed),
            self.cut_values.load(Ordering::Relaxed),
        )
    }
}

impl Ledger {
    /// The accounts of a destination, which are made when they are first asked for.
    pub fn destination(&self, name: &str) -> Arc<DestinationAccounts> {
        let mut known = self.lock_destinations();
        if let Some(found) = known.iter().find(|accounts| accounts.name == name) {
            return Arc::clone(found);
        }
        let fresh = Arc::new(DestinationAccounts {
            name: name.to_owned(),
            spans: Account::default(),
            metric_points: Account::default(),
            log_records: Account::default(),
            cut_attributes: AtomicU64::new(0),
            cut_values: AtomicU64::new(0),
        });
        known.push(Arc::clone(&fresh));
        fresh
    }

    /// The accounts of all destinations, in the order in which they were first asked for.
    pub fn destinations(&self) -> Vec<Arc<DestinationAccounts>> {
        self.lock_destinations().clone()
    }

    /// So many bytes were passed over in which requests or responses may have begun: how many is not known.
    pub fn pass_unsearched(&self, bytes: u64) {
        self.unsearched_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many times the number of requests on a connection became unknown.
    pub fn break_pairings(&self, times: u64) {
        self.broken_pairings.fetch_add(times, Ordering::Relaxed);
    }

    /// Bytes that were passed over in search of a head, and how often the number of requests became unknown.
    pub fn unsearched(&self) -> (u64, u64) {
        (
            self.unsearched_bytes.load(Ordering::Relaxed),
            self.broken_pairings.load(Ordering::Relaxed),
        )
    }

    /// Closes all accounts after a thread has died: what it held ends for this reason.
    pub fn drop_rest(&self, reason: Reason) {
        let shared = [
            &self.messages,
            &self.exchanges,
            &self.spans,
            &self.metric_points,
            &self.measurements,
            &self.log_records,
        ];
        shared.iter().for_each(|account| account.drop_rest(reason));
        for of in self.destinations() {
            let own = [&of.spans, &of.metric_points, &of.log_records];
            own.iter().for_each(|account| account.drop_rest(reason));
        }
    }

    /// Sets whose messages were lost under overload; counted by the kernel side.
    pub fn set_lost(&self, losses: LossesByCgroup) {
        *self.lock_lost() = losses;
    }

    /// Whose messages were lost under overload.
    pub fn lost(&self) -> LossesByCgroup {
        self.lock_lost().clone()
    }

    fn lock_lost(&self) -> std::sync::MutexGuard<'_, LossesByCgroup> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_destinations(&self) -> std::sync::MutexGuard<'_, Vec<Arc<DestinationAccounts>>> {
        self.destinations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The object that `--ledger FILE` writes. Each destination has its own `spans@<name>` and
    /// `metric_points@<name>` where there are several; those that were handed nothing have none.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |name: String, account: &Account, words: (&str, &str), in_flight| {
            let value = account.snapshot().to_json(words.0, words.1, in_flight);
            object.insert(name, value);
        };
        put(
            "messages".into(),
            &self.messages,
            ("seen", "delivered"),
            false,
        );
        put(
            "exchanges".into(),
            &self.exchanges,
            ("seen", "completed"),
            false,
        );
        let exported = ("made", "exported");
        put("spans".into(), &self.spans, exported, true);
        if self.measurements.snapshot().seen > 0 {
            let words = ("seen", "aggregated");
            put("measurements".into(), &self.measurements, words, false);
        }
        put("metric_points".into(), &self.metric_points, exported, true);
        if self.log_records.snapshot().seen > 0 {
            put("log_records".into(), &self.log_records, exported, true);
        }
        let destinations = self.destinations();
        if destinations.len() > 1 {
            for each in destinations {
                for (name, account) in [
                    ("spans", &each.spans),
                    ("metric_points", &each.metric_points),
                    ("log_records", &each.log_records),
                ] {
                    if account.snapshot().seen > 0 {
                        put(format!("{name}@{}", each.name), account, exported, true);
                    }
                }
            }
        }
        let (bytes, broken) = self.unsearched();
        if bytes > 0 || broken > 0 {
            let row = json!({"bytes": bytes, "broken_pairings": broken});
            object.insert("unsearched".into(), row);
        }
        let lost = self.lost();
        if !lost.is_empty() {
            let rows = lost.rows().map(|(name, lost)| (name, json!(lost)));
            object.insert(
                "messages_lost_by_cgroup".into(),
                rows.collect::<Map<_, _>>().into(),
            );
        }
        Value::Object(object)
    }

    /// Whether every equation holds; true only at rest.
    pub fn is_closed(&self) -> bool {
        [
            &self.messages,
            &self.exchanges,
            &self.spans,
            &self.measurements,
            &self.metric_points,
            &self.log_records,
        ]
        .into_iter()
        .all(|account| account.snapshot().is_closed())
            && self.destinations().iter().all(|each| {
                [&each.spans, &each.metric_points, &each.log_records]
                    .into_iter()
                    .all(|account| account.snapshot().is_closed())
            })
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
    fn what_a_dead_thread_held_ends_for_a_reason_and_what_has_ended_stays() {
        let ledger = Ledger::default();
        ledger.exchanges.see(5);
        ledger.exchanges.settle(2);
        ledger.exchanges.drop_for("exchange.idle", 1);
        ledger.destination("a").spans.see(1);
        ledger.drop_rest("agent.panicked");
        assert!(ledger.is_closed());
        assert_eq!(ledger.exchanges.snapshot().dropped["agent.panicked"], 2);
        assert_eq!(ledger.spans.snapshot().dropped.len(), 0);
    }

    #[test]
    fn several_destinations_each_have_accounts_of_their_own() {
        let ledger = Ledger::default();
        ledger.destination("a").spans.see(2);
        ledger.destination("a").spans.settle(2);
        assert_eq!(ledger.to_json().get("spans@a"), None, "one is the whole");
        ledger.destination("b").spans.see(1);
        assert!(!ledger.is_closed());
        ledger.destination("b").spans.drop_for("queue.full", 1);
        assert!(ledger.is_closed());
        let json = ledger.to_json();
        assert_eq!(json["spans@a"]["exported"], 2);
        assert_eq!(json["spans@b"]["dropped"], json!({"queue.full": 1}));
        assert_eq!(json.get("metric_points@b"), None, "was handed nothing");
    }

    #[test]
    fn the_ledger_names_who_lost_messages_only_where_some_were_lost() {
        let ledger = Ledger::default();
        assert_eq!(ledger.to_json().get("messages_lost_by_cgroup"), None);
        ledger.set_lost(LossesByCgroup::new([(7, 3), (9, 0)], 5));
        assert_eq!(
            ledger.to_json()["messages_lost_by_cgroup"],
            json!({"7": 3, "others": 2})
        );
    }

    #[test]
    fn measurements_that_are_left_out_keep_the_ledger_open_until_they_are_counted() {
        let ledger = Ledger::default();
        assert_eq!(ledger.to_json().get("measurements"), None);
        ledger.measurements.see(3);
        ledger.measurements.settle(2);
        assert!(!ledger.is_closed());
        ledger.measurements.drop_for("metrics.invalid_value", 1);
        assert!(ledger.is_closed());
        assert_eq!(
            ledger.to_json()["measurements"],
            json!({"seen": 3, "aggregated": 2, "dropped": {"metrics.invalid_value": 1}})
        );
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
