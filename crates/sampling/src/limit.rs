//! A limit of spans in a second that stays an honest probability.
//!
//! Time goes in steps of a tenth of a second. Each has a threshold that follows from the steps before it, and an
//! allowance: its own tokens and half of those that were saved. In a burst that the steps before did not announce the
//! chance falls as the number of those who ask rises. Either way it is fixed before the randomness of the span is looked at, so a kept span
//! stands for exactly as many as its threshold says.

use crate::demand::Demand;
use crate::threshold::Threshold;

/// How often thresholds are looked at again; a step may be longer if nobody ticks.
pub(crate) const STEP_SECONDS: f64 = 0.1;
/// Tokens of this many seconds may be saved up for bursts.
const SAVED_SECONDS: f64 = 2.0;
/// How much of the limit is aimed at, so that chance alone does not use up the tokens.
const AIM: f64 = 0.95;
/// The part of missing tokens that is made good in one second.
const REPAID: f64 = 0.4;
/// The part of a step's allowance that may go before the chance falls.
const FREE: f64 = 0.75;
/// What is left to ordinary spans, however many errors there are: else nothing could be said of them.
const RESERVE: f64 = 0.3;
/// A chance is never less than this, so that everything can be rebuilt.
const LEAST: f64 = 1e-12;

/// What a span is for a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Errors and slow spans: first in the queue.
    Favoured,
    /// All others.
    Ordinary,
}

/// The demand of a class, and the threshold that it meets.
#[derive(Clone, Debug)]
struct Lane {
    demand: Demand,
    probability: f64,
    /// How often the probability is halved now, for a burst.
    halvings: i32,
    threshold: Threshold,
}

impl Lane {
    fn new() -> Self {
        Self {
            demand: Demand::default(),
            probability: 1.0,
            halvings: 0,
            threshold: Threshold::KEEP_ALL,
        }
    }

    fn set(&mut self, probability: f64, halvings: i32) {
        self.probability = probability;
        self.halvings = halvings;
        let now = (probability * f64::from(-halvings).exp2()).max(LEAST);
        // `LEAST` keeps something, so there is a threshold.
        self.threshold = Threshold::from_ratio(now).unwrap_or_default();
    }

    /// `expected` would have left by now, were it not for this: what is beyond the free part is thinned in proportion.
    fn thin(&mut self, expected: f64, allowance: f64) {
        let beyond = expected - FREE * allowance;
        if beyond > 0.0 {
            let share = 1.0 + beyond / ((1.0 - FREE) * allowance);
            let halvings = share.log2().ceil() as i32;
            if halvings != self.halvings {
                self.set(self.probability, halvings);
            }
        }
    }
}

/// One limit.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    per_second: f64,
    tokens: f64,
    /// What may leave in this step, and what has left.
    allowance: f64,
    left: f64,
    /// What was expected to leave of those who asked: favoured ones, and all.
    expected: (f64, f64),
    favoured: Lane,
    ordinary: Lane,
}

impl Limit {
    pub(crate) fn new(per_second: f64) -> Self {
        let mut limit = Self {
            per_second,
            tokens: capacity(per_second),
            allowance: 0.0,
            left: 0.0,
            expected: (0.0, 0.0),
            favoured: Lane::new(),
            ordinary: Lane::new(),
        };
        limit.allow();
        limit
    }

    /// One span asks, who came this far with this probability; the threshold it has to meet.
    pub(crate) fn ask(&mut self, class: Class, probability: f64) -> Threshold {
        let (favoured, all) = &mut self.expected;
        let (lane, expected) = match class {
            Class::Favoured => (&mut self.favoured, &mut *favoured),
            Class::Ordinary => (&mut self.ordinary, &mut *all),
        };
        lane.demand.ask(probability);
        let passes = (lane.probability / probability).min(1.0);
        *expected += passes;
        // Ordinary spans make room for favoured ones, not the other way round.
        lane.thin(*expected, self.allowance);
        let threshold = lane.threshold;
        if class == Class::Favoured {
            *all += passes;
        }
        threshold
    }

    /// One span has left.
    pub(crate) fn take(&mut self) {
        self.left += 1.0;
    }

    /// A step of so many seconds is over: the next one's probabilities.
    pub(crate) fn step(&mut self, seconds: f64) {
        let full = capacity(self.per_second);
        self.tokens = (self.tokens + seconds * self.per_second - self.left).min(full);
        let (favoured, ordinary) = (&mut self.favoured, &mut self.ordinary);
        for lane in [&mut *favoured, &mut *ordinary] {
            lane.demand.pass(seconds);
        }
        let missing = (full / 2.0 - self.tokens).max(0.0);
        let room = AIM * self.per_second - REPAID * missing;
        let reserve = ordinary.demand.per_second().min(RESERVE * room);
        let first = favoured.demand.probability_for(room - reserve);
        // Those who come with a lesser chance already are counted as if they were thinned: never too many.
        let used = favoured.demand.per_second().min(room - reserve);
        let second = ordinary.demand.probability_for(room - used);
        favoured.set(first, 0);
        ordinary.set(second, 0);
        self.allow();
    }

    /// A step may use up half of what was saved, beside its own.
    fn allow(&mut self) {
        self.allowance = (self.per_second * STEP_SECONDS + self.tokens / 2.0).max(1.0);
        self.left = 0.0;
        self.expected = (0.0, 0.0);
    }
}

fn capacity(per_second: f64) -> f64 {
    (per_second * SAVED_SECONDS).max(SAVED_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threshold::Randomness;

    /// Randomness of one trace after the other, evenly spread.
    struct Traces(u64);

    impl Traces {
        fn next(&mut self) -> Randomness {
            self.0 = self.0.wrapping_add(1);
            Randomness::parse(&format!("{:014x}", self.0))
                .unwrap()
                .independent()
        }
    }

    /// Offers so many spans of each class a second, evenly; kept by class and second.
    fn run(limit: &mut Limit, traces: &mut Traces, rates: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut kept = Vec::new();
        for (favoured, ordinary) in rates {
            let mut now = (0, 0);
            for step in 0..10 {
                let part = |rate: u32| (rate * (step + 1) / 10) - (rate * step / 10);
                for (class, count, kept) in [
                    (Class::Favoured, part(*favoured), &mut now.0),
                    (Class::Ordinary, part(*ordinary), &mut now.1),
                ] {
                    for _ in 0..count {
                        if limit.ask(class, 1.0).keeps(traces.next()) {
                            limit.take();
                            *kept += 1;
                        }
                    }
                }
                limit.step(STEP_SECONDS);
            }
            kept.push(now);
        }
        kept
    }

    #[test]
    fn a_rate_below_the_limit_passes_whole() {
        let mut limit = Limit::new(100.0);
        for kept in run(&mut limit, &mut Traces(0), &[(0, 90); 20]) {
            assert_eq!(kept, (0, 90));
        }
    }

    #[test]
    fn a_steady_excess_is_thinned_to_the_limit() {
        let mut limit = Limit::new(100.0);
        let kept = run(&mut limit, &mut Traces(0), &[(0, 5000); 60]);
        let total: u32 = kept.iter().map(|second| second.1).sum();
        // Tokens bound it from above: the limit in each second, and what was saved up. From below the aim does.
        assert!((5200..=6200).contains(&total), "{total} {kept:?}");
    }

    #[test]
    fn a_sudden_burst_cannot_take_more_than_was_saved_up_and_a_little() {
        let mut limit = Limit::new(100.0);
        let mut traces = Traces(0);
        run(&mut limit, &mut traces, &[(0, 10); 10]);
        let kept = run(&mut limit, &mut traces, &[(0, 200_000)]);
        assert!((150..=300).contains(&kept[0].1), "{kept:?}");
    }

    #[test]
    fn errors_come_first_but_leave_a_part_and_keep_to_the_limit() {
        let mut limit = Limit::new(100.0);
        let mut traces = Traces(0);
        let few = run(&mut limit, &mut traces, &[(40, 1000); 30]);
        assert!(few[5..].iter().all(|second| second.0 == 40), "{few:?}");
        let many = run(&mut limit, &mut traces, &[(4000, 1000); 30]);
        let sum = |pick: fn(&(u32, u32)) -> u32| many[5..].iter().map(pick).sum::<u32>() / 25;
        let (favoured, ordinary) = (sum(|second| second.0), sum(|second| second.1));
        assert!((55..=70).contains(&favoured), "{favoured}");
        assert!((22..=35).contains(&ordinary), "{ordinary}");
    }
}
