//! Pauses between tries: each twice as long as the one before, with jitter, back to the first after a good time.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(super) struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
    /// When the last pause was asked for, and how long it was.
    last: Option<(Instant, Duration)>,
}

impl Backoff {
    pub(super) fn new(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            next: initial.min(max),
            last: None,
        }
    }

    /// How long to wait now that something failed: between half of the step and the whole of it.
    pub(super) fn pause(&mut self, now: Instant) -> Duration {
        self.pause_up_to(self.max, now)
    }

    /// The same, with a step that is no longer than this.
    pub(super) fn pause_up_to(&mut self, longest: Duration, now: Instant) -> Duration {
        if let Some((then, pause)) = self.last
            && now.saturating_duration_since(then) > pause + self.max
        {
            self.next = self.initial.min(self.max);
        }
        let step = self.next.min(longest);
        self.next = (step * 2).min(self.max);
        let pause = step / 2 + random(step / 2);
        self.last = Some((now, pause));
        pause
    }
}

/// Evenly from zero up to `limit`. Good enough to spread requests, not for secrets.
pub(super) fn random(limit: Duration) -> Duration {
    let seed = RandomState::new().hash_one(0_u8);
    limit.mul_f64(f64::from((seed >> 32) as u32) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew_after_a_good_time() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 8 * second);
        let start = Instant::now();
        for step in [1, 2, 4, 8, 8, 8] {
            let pause = backoff.pause(start);
            assert!(
                pause >= second * step / 2 && pause <= second * step,
                "{pause:?}"
            );
        }
        assert!(backoff.pause(start + 100 * second) <= second);
    }

    #[test]
    fn pauses_while_the_api_server_is_away_stay_short_and_others_after_them_do_not() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 30 * second);
        let now = Instant::now();
        for _ in 0..20 {
            assert!(backoff.pause_up_to(3 * second, now) <= 3 * second);
        }
        assert!(backoff.pause(now) > 3 * second);
    }

    #[test]
    fn an_hour_away_costs_few_tries() {
        let mut backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(30));
        let (start, mut now, mut tries) = (Instant::now(), Instant::now(), 0);
        while now.duration_since(start) < Duration::from_secs(3600) {
            now += backoff.pause(now);
            tries += 1;
        }
        assert!((120..=260).contains(&tries), "{tries}");
    }

    #[test]
    fn random_stays_below_its_limit_and_is_not_always_the_same() {
        let limit = Duration::from_secs(2);
        let first = random(limit);
        assert!((0..100).all(|_| random(limit) <= limit));
        assert!((0..100).any(|_| random(limit) != first));
    }
}
