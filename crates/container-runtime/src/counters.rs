//! How questions ended: one counter for each reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts each question about a container once, when it has ended: `found`, `not_found`, `unavailable`, `denied`, `timeout`,
/// `malformed`, `too_large`, `refused`; and `busy` for those that were put off because too many waited.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<&'static str, u64>>);

impl Counters {
    pub(crate) fn count(&self, reason: &'static str) {
        *self.lock().entry(reason).or_insert(0) += 1;
    }

    /// The numbers now; reasons that never came up are not in it.
    pub fn snapshot(&self) -> BTreeMap<&'static str, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
