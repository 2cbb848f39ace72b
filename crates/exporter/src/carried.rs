//! Items on their way: whatever happens to them, the ledger hears of it.

use std::sync::Arc;

use spandrel_model::ledger::Reason;
use spandrel_model::{Account, DestinationAccounts, Ledger};

use crate::reason;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metric points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// The name that OTLP and the configuration use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// What one item is called.
    pub fn item(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "metric points",
            Self::Logs => "log records",
        }
    }
}

/// A number of spans or points that are in flight in the ledger. What has not ended otherwise when this is
/// dropped is counted as lost, so the ledger's equation holds however a task ends.
#[derive(Debug)]
pub struct Carried {
    ledger: Arc<Ledger>,
    destination: Option<Arc<DestinationAccounts>>,
    signal: Signal,
    count: u64,
    /// `None`: these stay in flight, as something else than this process keeps them.
    reason_if_lost: Option<Reason>,
}

impl Carried {
    /// Nothing yet.
    pub fn new(ledger: Arc<Ledger>, signal: Signal) -> Self {
        Self {
            ledger,
            destination: None,
            signal,
            count: 0,
            reason_if_lost: Some(reason::ABANDONED),
        }
    }

    /// How many are on their way.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// `n` more were made and are on their way.
    pub fn see(&mut self, n: u64) {
        for account in self.accounts() {
            account.see(n);
            account.depart(n);
        }
        self.count += n;
    }

    /// As many again, for another destination.
    pub(crate) fn fork(&self) -> Self {
        let mut other = Self::new(Arc::clone(&self.ledger), self.signal);
        other.reason_if_lost = self.reason_if_lost;
        other.see(self.count);
        other
    }

    /// From now on these count for a destination as well.
    pub(crate) fn hand_to(&mut self, destination: &Arc<DestinationAccounts>) {
        debug_assert!(self.destination.is_none(), "handed over once");
        self.destination = Some(Arc::clone(destination));
        for account in self.accounts().skip(1) {
            account.see(self.count);
            account.depart(self.count);
        }
    }

    /// Moves `n` of these into a carrier of their own.
    pub fn split(&mut self, n: u64) -> Self {
        let n = n.min(self.count);
        self.count -= n;
        Self {
            ledger: Arc::clone(&self.ledger),
            destination: self.destination.clone(),
            signal: self.signal,
            count: n,
            reason_if_lost: self.reason_if_lost,
        }
    }

    /// All that is left has arrived.
    pub fn settle(mut self) {
        for account in self.accounts() {
            account.settle(self.count);
            account.land(self.count);
        }
        self.count = 0;
    }

    /// All that is left is lost for a reason.
    pub fn drop_for(mut self, reason: Reason) {
        self.reason_if_lost = Some(reason);
    }

    /// What to call it if nothing else happens to these.
    pub(crate) fn lost_as(&mut self, reason: Reason) {
        self.reason_if_lost = Some(reason);
    }

    /// If nothing else happens to these, they stay in flight: they are on the disk, for the next start.
    pub(crate) fn stays_if_lost(&mut self) {
        self.reason_if_lost = None;
    }

    /// `n` that stayed in flight when they were let go of are here again.
    pub(crate) fn regain(&mut self, n: u64) {
        self.count += n;
    }

    /// Takes others of the same signal and destination in.
    pub(crate) fn join(&mut self, mut others: Self) {
        self.count += std::mem::take(&mut others.count);
    }

    /// That of all, and that of the destination.
    fn accounts(&self) -> impl Iterator<Item = &Account> {
        let of_destination = self.destination.as_ref().map(|each| match self.signal {
            Signal::Traces => &each.spans,
            Signal::Metrics => &each.metric_points,
            Signal::Logs => &each.log_records,
        });
        let of_all = match self.signal {
            Signal::Traces => &self.ledger.spans,
            Signal::Metrics => &self.ledger.metric_points,
            Signal::Logs => &self.ledger.log_records,
        };
        std::iter::once(of_all).chain(of_destination)
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if self.count > 0
            && let Some(reason) = self.reason_if_lost
        {
            for account in self.accounts() {
                account.drop_for(reason, self.count);
                account.land(self.count);
            }
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

    #[test]
    fn what_is_for_two_destinations_ends_once_for_each() {
        let ledger = Arc::new(Ledger::default());
        let (a, b) = (ledger.destination("a"), ledger.destination("b"));
        let mut first = Carried::new(Arc::clone(&ledger), Signal::Traces);
        first.see(4);
        let mut second = first.fork();
        first.hand_to(&a);
        second.hand_to(&b);
        second.split(1).drop_for(reason::REJECTED);
        second.settle();
        drop(first);
        assert!(ledger.is_closed());
        assert_eq!(ledger.spans.snapshot().seen, 8);
        assert_eq!(a.spans.snapshot().dropped[reason::ABANDONED], 4);
        let b = b.spans.snapshot();
        assert_eq!((b.seen, b.settled, b.dropped[reason::REJECTED]), (4, 3, 1));
    }
}
