//! The ledger as metrics.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use spandrel_model::{Account, Ledger};

use super::catalogue::{self, Entry};

type Select = fn(&Ledger) -> &Account;

/// The accounts with their short names.
const ACCOUNTS: [(&str, Entry, Select); 6] = [
    ("messages", catalogue::LEDGER_MESSAGES, |l| &l.messages),
    ("exchanges", catalogue::LEDGER_EXCHANGES, |l| &l.exchanges),
    ("spans", catalogue::LEDGER_SPANS, |l| &l.spans),
    ("measurements", catalogue::LEDGER_MEASUREMENTS, |l| {
        &l.measurements
    }),
    ("metric_points", catalogue::LEDGER_POINTS, |l| {
        &l.metric_points
    }),
    ("log_records", catalogue::LEDGER_RECORDS, |l| &l.log_records),
];

pub(super) fn observe(meter: &Meter, ledger: &Arc<Ledger>) {
    for (_, entry, account) in ACCOUNTS {
        let ledger = Arc::clone(ledger);
        entry.counter(meter, move |observer| {
            let now = account(&ledger).snapshot();
            observer.observe(now.seen, &[KeyValue::new("spandrel.state", "seen")]);
            observer.observe(now.settled, &[KeyValue::new("spandrel.state", "settled")]);
            for (reason, count) in now.dropped {
                let state = KeyValue::new("spandrel.state", "dropped");
                observer.observe(count, &[state, KeyValue::new("spandrel.reason", reason)]);
            }
        });
    }
    let of_all = Arc::clone(ledger);
    catalogue::LEDGER_IN_FLIGHT.up_down(meter, move |observer| {
        for (short, _, account) in ACCOUNTS {
            let now = account(&of_all).snapshot().in_flight;
            observer.observe(signed(now), &[KeyValue::new("spandrel.account", short)]);
        }
    });
    let of_all = Arc::clone(ledger);
    // Not monotonic: who loses more than one of the ten takes its place, and that one goes to the others.
    catalogue::LOST_MESSAGES.up_down(meter, move |observer| {
        let lost = of_all.lost();
        if lost.is_empty() {
            return;
        }
        for (cgroup, lost) in lost.rows() {
            observer.observe(signed(lost), &[KeyValue::new("spandrel.cgroup.id", cgroup)]);
        }
    });
    let of_all = Arc::clone(ledger);
    catalogue::UNSEARCHED.counter(meter, move |observer| {
        observer.observe(of_all.unsearched().0, &[]);
    });
    let of_all = Arc::clone(ledger);
    catalogue::BROKEN_PAIRINGS.counter(meter, move |observer| {
        observer.observe(of_all.unsearched().1, &[]);
    });
}

/// What can go down is signed in OpenTelemetry.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
