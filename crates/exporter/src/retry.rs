//! When a destination may be tried again: one gate for all its workers, so that backpressure holds for all of them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::settings::RetrySettings;

#[derive(Debug)]
struct State {
    open_at: Instant,
    /// The next wait of our own, before it is varied.
    interval: Duration,
    /// How often the gate was shut; an attempt that began before the last time does not shut it again.
    generation: u64,
    failing: bool,
    asked_by_server: bool,
    random: Random,
    failures: u64,
}

/// A gate at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GateStats {
    /// Until the next attempt may be made.
    pub(crate) wait: Duration,
    /// Whether that is the server's wish.
    pub(crate) throttled: bool,
    /// Attempts that failed and may be made again.
    pub(crate) failed: u64,
}

/// SplitMix64: a seed gives the same waits again, and no attacker gains from guessing one.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Lets attempts through, or makes them wait.
#[derive(Debug)]
pub(crate) struct Gate {
    settings: RetrySettings,
    state: Mutex<State>,
    moved: Notify,
}

/// An attempt that was let through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass(u64);

impl Gate {
    pub(crate) fn new(settings: RetrySettings) -> Self {
        // Different in each process and for each destination: agents that failed together do not return together.
        Self::seeded(settings, RandomState::new().build_hasher().finish())
    }

    fn seeded(settings: RetrySettings, seed: u64) -> Self {
        let interval = settings.initial_interval;
        Self {
            settings,
            state: Mutex::new(State {
                open_at: Instant::now(),
                interval,
                generation: 0,
                failing: false,
                asked_by_server: false,
                random: Random(seed),
                failures: 0,
            }),
            moved: Notify::new(),
        }
    }

    pub(crate) fn settings(&self) -> &RetrySettings {
        &self.settings
    }

    /// Waits until an attempt may be made.
    pub(crate) async fn pass(&self) -> Pass {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            let (open_at, generation) = {
                let state = self.lock();
                (state.open_at, state.generation)
            };
            if Instant::now() >= open_at {
                return Pass(generation);
            }
            tokio::select! {
                () = tokio::time::sleep_until(open_at) => {}
                () = moved => {}
            }
        }
    }

    /// An attempt failed and may be made again. Returns the wait if this is the first failure after a success.
    pub(crate) fn failed(&self, pass: Pass, asked: Option<Duration>) -> Option<Duration> {
        let mut state = self.lock();
        state.failures += 1;
        if state.generation != pass.0 && asked.is_none() {
            return None;
        }
        let settings = &self.settings;
        let spread = settings.randomization_factor.clamp(0.0, 1.0);
        let random = state.random.next();
        let delay = match asked {
            // At least as long as the server asks for, and not all agents at the same moment.
            Some(asked) if !asked.is_zero() => {
                asked
                    + asked
                        .min(Duration::from_secs(1))
                        .mul_f64(spread * random / 10.0)
            }
            _ => state.interval.mul_f64(1.0 - spread + 2.0 * spread * random),
        };
        let open_at = Instant::now() + delay.min(LONGEST);
        state.open_at = match asked {
            Some(_) => state.open_at.max(open_at),
            None => open_at,
        };
        let grown = state.interval.as_secs_f64() * settings.multiplier.clamp(1.0, 10.0);
        state.interval = Duration::try_from_secs_f64(grown)
            .unwrap_or(settings.max_interval)
            .max(asked.unwrap_or_default())
            .min(settings.max_interval);
        state.generation += 1;
        state.asked_by_server = asked.is_some();
        let first = !state.failing;
        state.failing = true;
        first.then_some(delay)
    }

    /// An attempt succeeded. Returns whether the one before had failed.
    pub(crate) fn succeeded(&self) -> bool {
        let mut state = self.lock();
        state.interval = self.settings.initial_interval;
        std::mem::take(&mut state.failing)
    }

    /// Time is short: try again now, unless the server asked to wait.
    pub(crate) fn hurry(&self) {
        let mut state = self.lock();
        state.interval = self.settings.initial_interval;
        if !state.asked_by_server {
            state.open_at = Instant::now();
        }
        drop(state);
        self.moved.notify_waiters();
    }

    pub(crate) fn stats(&self) -> GateStats {
        let state = self.lock();
        let wait = state.open_at.saturating_duration_since(Instant::now());
        GateStats {
            wait,
            throttled: state.asked_by_server && !wait.is_zero(),
            failed: state.failures,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No server can silence us for longer: an absurd delay must not overflow the clock.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(RetrySettings {
            randomization_factor: 0.0,
            ..RetrySettings::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn rule_19_waits_have_jitter_over_their_whole_range_and_grow() {
        let settings = RetrySettings::default();
        let (mut first, mut third) = (Vec::new(), Vec::new());
        for seed in 0..2000 {
            let gate = Gate::seeded(settings.clone(), seed);
            let mut waits = Vec::new();
            for _ in 0..3 {
                let pass = gate.pass().await;
                let before = Instant::now();
                gate.failed(pass, None);
                waits.push((gate.lock().open_at - before).as_secs_f64());
            }
            first.push(waits[0]);
            third.push(waits[2]);
        }
        let mean = |waits: &[f64]| waits.iter().sum::<f64>() / waits.len() as f64;
        // Uniform over 0.5 to 1.5 s: its deviation is 0.29 s, that of the mean of 2000 is 0.0065 s.
        assert!((mean(&first) - 1.0).abs() < 0.03, "{}", mean(&first));
        assert!((mean(&third) - 2.25).abs() < 0.07, "{}", mean(&third));
        for part in 0..10 {
            let from = 0.5 + f64::from(part) / 10.0;
            let inside = first
                .iter()
                .filter(|wait| (from..from + 0.1).contains(*wait));
            // 200 expected; 60 is more than four deviations.
            assert!(inside.count().abs_diff(200) < 60, "tenth {part}");
        }
        assert!(first.iter().all(|wait| (0.5..=1.5).contains(wait)));
    }

    async fn waited(gate: &Gate) -> (Pass, Duration) {
        let before = Instant::now();
        let pass = gate.pass().await;
        (pass, before.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_up_to_the_limit_and_begin_anew_after_a_success() {
        let gate = gate();
        let (mut pass, mut last) = (gate.pass().await, Duration::ZERO);
        for failure in 0..12 {
            gate.failed(pass, None);
            let (next, wait) = waited(&gate).await;
            assert!(
                wait >= last.min(Duration::from_secs(30)),
                "{failure}: {wait:?}"
            );
            assert!(wait <= Duration::from_millis(30_001));
            (pass, last) = (next, wait);
        }
        assert!(last >= Duration::from_secs(30));
        gate.succeeded();
        gate.failed(pass, None);
        assert!(waited(&gate).await.1 <= Duration::from_millis(1001));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_made_side_by_side_shut_the_gate_once() {
        let gate = gate();
        let passes = [gate.pass().await, gate.pass().await, gate.pass().await];
        for pass in passes {
            gate.failed(pass, None);
        }
        assert!(waited(&gate).await.1 <= Duration::from_millis(1001));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_less_than_before_does_not_open_the_gate_sooner() {
        let gate = gate();
        let passes = [gate.pass().await, gate.pass().await];
        // Two answers to requests that were on their way together.
        for (pass, seconds) in passes.into_iter().zip([60, 1]) {
            gate.failed(pass, Some(Duration::from_secs(seconds)));
        }
        let (_, wait) = waited(&gate).await;
        assert!(wait >= Duration::from_secs(60), "{wait:?}");
        // It counts from the answer on, so a later wish may end later.
        let passes = [gate.pass().await, gate.pass().await];
        gate.failed(passes[0], Some(Duration::from_secs(60)));
        tokio::time::sleep(Duration::from_secs(50)).await;
        gate.failed(passes[1], Some(Duration::from_secs(30)));
        let (_, wait) = waited(&gate).await;
        let seconds = Duration::from_secs;
        assert!((seconds(30)..seconds(31)).contains(&wait), "{wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_may_ask_for_more_than_our_longest_wait_and_is_not_hurried() {
        let gate = gate();
        let pass = gate.pass().await;
        gate.failed(pass, Some(Duration::from_secs(60)));
        gate.hurry();
        assert!(waited(&gate).await.1 >= Duration::from_secs(60));
        gate.failed(gate.pass().await, None);
        gate.hurry();
        assert_eq!(waited(&gate).await.1, Duration::ZERO);
    }
}
