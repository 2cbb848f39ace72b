//! The time that the end of a run may take.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The time that everything on its way has after the end: it runs from the first that asks to end.
#[derive(Clone, Debug)]
pub struct Deadline {
    timeout: Duration,
    began: Arc<OnceLock<Instant>>,
}

impl Deadline {
    /// So much time, from whenever it begins.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            began: Arc::default(),
        }
    }

    /// What is left of the time at `now`, which is when it begins for the first that asks.
    pub fn left(&self, now: Instant) -> Duration {
        let began = *self.began.get_or_init(|| now);
        self.timeout
            .saturating_sub(now.saturating_duration_since(began))
    }

    /// All of the time.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_ends_shares_one_deadline_from_the_first_that_asks() {
        let seconds = Duration::from_secs;
        let first = Deadline::new(seconds(5));
        let second = first.clone();
        let began = Instant::now();
        assert_eq!(first.left(began), seconds(5));
        assert_eq!(second.left(began + seconds(2)), seconds(3));
        assert_eq!(second.left(began + seconds(5)), seconds(0));
        assert_eq!(first.left(began + seconds(60)), seconds(0));
    }
}
