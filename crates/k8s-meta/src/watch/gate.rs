//! Holds back a watch that would be asked for again at once: kube-runtime does so, with no pause, whenever the API server
//! ends a watch without an error, and some proxies do that within milliseconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::backoff::Backoff;
use super::settings::Settings;

/// A watch that lived shorter than this was no good.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// Between a watch and its requests.
#[derive(Debug)]
pub(super) struct Gate {
    opened: Notify,
    state: Mutex<(Option<Instant>, Backoff)>,
}

impl Gate {
    pub(super) fn new(settings: &Settings) -> Self {
        let backoff = Backoff::new(settings.backoff_initial, settings.backoff_max);
        Self {
            opened: Notify::new(),
            state: Mutex::new((None, backoff)),
        }
    }

    /// How long the next request for a watch has to wait.
    pub(super) fn pause(&self) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match state.0.take() {
            Some(opened) if now.saturating_duration_since(opened) < SHORT_LIFE => {
                state.1.pause(now)
            }
            _ => Duration::ZERO,
        }
    }

    /// The API server has begun to answer a request for a watch.
    pub(super) fn open(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = Some(Instant::now());
        self.opened.notify_one();
    }

    /// Waits for [`Gate::open`].
    pub(super) async fn opened(&self) {
        self.opened.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{Access, Scope};

    #[test]
    fn a_watch_that_ended_at_once_is_asked_for_again_after_growing_pauses() {
        let access = Access::InCluster;
        let gate = Gate::new(&Settings::new(access, Scope::Cluster));
        assert!(gate.pause().is_zero(), "the first is not held back");
        assert!(gate.pause().is_zero(), "nor one after a refusal");
        gate.open();
        let first = gate.pause();
        assert!(!first.is_zero());
        for _ in 0..8 {
            gate.open();
            gate.pause();
        }
        gate.open();
        assert!(gate.pause() > 4 * first);
    }
}
