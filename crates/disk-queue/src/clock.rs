//! How old a record is, when the system's clock may be wrong.
//!
//! Age is counted in ticks: nanoseconds of the queue's own clock, which never runs back and never jumps. While the
//! process runs, the monotonic clock moves it. Over a restart only the wall clock can tell how long the pause was; as it
//! may be wrong (no RTC, a first NTP step), a pause counts for at least nothing and at most [`LONGEST_PAUSE`]. So no
//! clock, however wrong, makes a whole queue expire at once: at worst what would have expired within the next hour.

use std::time::{Duration, Instant};

use crate::fault::Hook;

/// The most that a stop of the agent adds to the age of what waits.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What a record carries of the time at which it was pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds since 1970, as the system believed.
    pub(crate) wall: u64,
    /// Nanoseconds of the queue's clock.
    pub(crate) ticks: u64,
}

/// The queue's clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    hook: Hook,
    started: Instant,
    ticks_at_start: u64,
}

impl Clock {
    /// Goes on from the newest record that was found.
    pub(crate) fn resume(hook: Hook, newest: Option<Stamp>) -> Self {
        let (started, wall) = hook.now();
        let ticks_at_start = newest.map_or(0, |newest| {
            let pause = wall.saturating_sub(newest.wall);
            newest
                .ticks
                .saturating_add(pause.min(LONGEST_PAUSE.as_nanos() as u64))
        });
        Self {
            hook,
            started,
            ticks_at_start,
        }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        let (now, wall) = self.hook.now();
        let run = now.saturating_duration_since(self.started).as_nanos();
        let ticks = self
            .ticks_at_start
            .saturating_add(u64::try_from(run).unwrap_or(u64::MAX));
        Stamp { wall, ticks }
    }

    /// Time since `ticks`; never negative.
    pub(crate) fn age(&self, ticks: u64) -> Duration {
        Duration::from_nanos(self.stamp().ticks.saturating_sub(ticks))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn clock(wall: u64, newest: Option<Stamp>) -> Clock {
        let now = Instant::now();
        let hook = Hook {
            fault: None,
            now: Some(Arc::new(move || (now, wall))),
        };
        Clock::resume(hook, newest)
    }

    #[test]
    fn a_wrong_clock_at_start_ages_a_record_by_nothing_or_an_hour() {
        let second = 1_000_000_000;
        let newest = Stamp {
            wall: 1_000 * second,
            ticks: 50 * second,
        };
        let age = |wall| clock(wall * second, Some(newest)).age(newest.ticks);
        assert_eq!(age(1_010), Duration::from_secs(10));
        assert_eq!(age(3), Duration::ZERO);
        assert_eq!(age(4_000_000_000), LONGEST_PAUSE);
    }
}
