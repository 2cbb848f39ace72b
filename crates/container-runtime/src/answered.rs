//! Tells whoever waits that a runtime has answered.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How many questions have been answered, and who waits for the next answer.
#[derive(Clone, Debug, Default)]
pub struct Answered(Arc<(Mutex<u64>, Condvar)>);

impl Answered {
    /// Counts an answer that can be taken in from now on.
    pub(crate) fn tell(&self) {
        let (count, changed) = &*self.0;
        *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        changed.notify_all();
    }

    /// Waits for another answer than the first `seen`, for `limit` at most; returns how many there are then.
    pub fn wait(&self, seen: u64, limit: Duration) -> u64 {
        let (count, changed) = &*self.0;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(count, limit, |count| *count <= seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
