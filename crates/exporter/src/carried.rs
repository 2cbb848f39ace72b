//! Items on their way: whatever happens to them, the ledger hears of it.

use std::sync::Arc;

use spandrel_model::ledger::Reason;
use spandrel_model::{Account, Ledger};

use crate::reason;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metric points.
    Metrics,
}

impl Signal {
    /// The name that OTLP and the configuration use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// What one item is called.
    pub fn item(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "metric points",
        }
    }
}

/// A number of spans or points that are in flight in the ledger. What has not ended otherwise when this is
/// dropped is counted as lost, so the ledger's equation holds however a task ends.
#[derive(Debug)]
pub struct Carried {
    ledger: Arc<Ledger>,
    signal: Signal,
    count: u64,
    reason_if_lost: Reason,
}

impl Carried {
    /// Nothing yet.
    pub fn new(ledger: Arc<Ledger>, signal: Signal) -> Self {
        Self {
            ledger,
            signal,
            count: 0,
            reason_if_lost: reason::ABANDONED,
        }
    }

    /// How many are on their way.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// `n` more were made and are on their way.
    pub fn see(&mut self, n: u64) {
        self.account().see(n);
        self.account().depart(n);
        self.count += n;
    }

    /// Moves `n` of these into a carrier of their own.
    pub fn split(&mut self, n: u64) -> Self {
        let n = n.min(self.count);
        self.count -= n;
        Self {
            ledger: Arc::clone(&self.ledger),
            signal: self.signal,
            count: n,
            reason_if_lost: self.reason_if_lost,
        }
    }

    /// All that is left has arrived.
    pub fn settle(mut self) {
        self.account().settle(self.count);
        self.account().land(self.count);
        self.count = 0;
    }

    /// All that is left is lost for a reason.
    pub fn drop_for(mut self, reason: Reason) {
        self.reason_if_lost = reason;
    }

    /// What to call it if nothing else happens to these.
    pub(crate) fn lost_as(&mut self, reason: Reason) {
        self.reason_if_lost = reason;
    }

    fn account(&self) -> &Account {
        match self.signal {
            Signal::Traces => &self.ledger.spans,
            Signal::Metrics => &self.ledger.metric_points,
        }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if self.count > 0 {
            self.account().drop_for(self.reason_if_lost, self.count);
            self.account().land(self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_what_was_carried_ends_in_its_own_counter() {
        let ledger = Arc::new(Ledger::default());
        let mut carried = Carried::new(Arc::clone(&ledger), Signal::Traces);
        carried.see(10);
        carried.split(3).drop_for(reason::REJECTED);
        carried.split(5).settle();
        drop(carried);
        let spans = ledger.spans.snapshot();
        assert!(spans.is_closed());
        assert_eq!((spans.seen, spans.settled, spans.in_flight), (10, 5, 0));
        assert_eq!(spans.dropped[reason::REJECTED], 3);
        assert_eq!(spans.dropped[reason::ABANDONED], 2);
    }
}
