//! How many spans ask to leave in a second, by the chance that they had so far.

/// Chances below 2^-23 are counted as one kind.
const KINDS: usize = 24;

/// So many in one step are no chance any more.
const MANY: f64 = 30.0;

/// Spans that ask to leave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand {
    /// In the step that runs.
    running: Kinds,
    /// In the last step, if they were many.
    last: Option<Kinds>,
    /// In all before; what is a second old counts about half.
    usual: Option<Kinds>,
}

/// By how often the chance was halved already.
type Kinds = [Kind; KINDS];

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    count: f64,
    /// The sum of what each of them stands for.
    stands_for: f64,
}

impl Demand {
    /// One more asks, who came this far with this probability.
    pub(crate) fn ask(&mut self, probability: f64) {
        let kind = (-probability.log2()) as usize;
        if let Some(kind) = self.running.get_mut(kind.min(KINDS - 1)) {
            kind.count += 1.0;
            kind.stands_for += probability.recip();
        }
    }

    /// A step of so much time is over.
    pub(crate) fn pass(&mut self, seconds: f64) {
        let asked = std::mem::take(&mut self.running);
        let last = asked.map(|kind| Kind {
            count: kind.count / seconds,
            stands_for: kind.stands_for / seconds,
        });
        self.last = (sum(&asked) >= MANY).then_some(last);
        let weight = seconds / (1.0 + seconds);
        let usual = self.usual.get_or_insert(last);
        for (usual, last) in usual.iter_mut().zip(&last) {
            usual.count += weight * (last.count - usual.count);
            usual.stands_for += weight * (last.stands_for - usual.stands_for);
        }
    }

    /// As in the last step or as usual, whichever is more.
    pub(crate) fn per_second(&self) -> f64 {
        self.views().map(sum).fold(0.0, f64::max)
    }

    /// The greatest probability with which no more than `room` leave, if they ask as in the last step or as usual.
    pub(crate) fn probability_for(&self, room: f64) -> f64 {
        self.views()
            .map(|kinds| probability_for(kinds, room))
            .fold(1.0, f64::min)
    }

    fn views(&self) -> impl Iterator<Item = &Kinds> {
        self.last.iter().chain(&self.usual)
    }
}

fn sum(kinds: &Kinds) -> f64 {
    kinds.iter().map(|kind| kind.count).sum()
}

/// A span that came this far with a lesser probability is not thinned any more, so the others share what it leaves.
fn probability_for(kinds: &Kinds, mut room: f64) -> f64 {
    let mut stands_for: f64 = kinds.iter().map(|kind| kind.stands_for).sum();
    for kind in kinds.iter().rev().filter(|kind| kind.count > 0.0) {
        let probability = room / stands_for;
        if probability < kind.count / kind.stands_for {
            return probability.max(0.0);
        }
        room -= kind.count;
        stands_for -= kind.stands_for;
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(of: &[(u32, f64)]) -> Demand {
        let mut demand = Demand::default();
        for (count, probability) in of {
            for _ in 0..*count {
                demand.ask(*probability);
            }
        }
        demand.pass(1.0);
        demand
    }

    #[test]
    fn what_fits_is_not_thinned_and_what_does_not_is_thinned_to_fit() {
        assert_eq!(demand(&[(100, 1.0)]).probability_for(100.0), 1.0);
        assert_eq!(demand(&[(1000, 1.0)]).probability_for(100.0), 0.1);
        assert_eq!(demand(&[(1000, 1.0)]).probability_for(0.0), 0.0);
        assert_eq!(Demand::default().probability_for(1.0), 1.0);
    }

    #[test]
    fn those_who_were_thinned_before_are_not_thinned_twice() {
        // 100 of probability 1/16 stay as they are; the 900 others share the room for 90 that is left.
        let thin = demand(&[(900, 1.0), (100, 0.0625)]).probability_for(190.0);
        assert!((thin - 0.1).abs() < 1e-9, "{thin}");
        // With room for 25 all share it: they stand for 900 and for 1600.
        let all = demand(&[(900, 1.0), (100, 0.0625)]).probability_for(25.0);
        assert!((all - 0.01).abs() < 1e-9, "{all}");
    }

    #[test]
    fn a_burst_counts_at_once_and_is_forgotten_slowly() {
        let mut demand = demand(&[(100, 1.0)]);
        (0..500).for_each(|_| demand.ask(1.0));
        demand.pass(1.0);
        assert_eq!(demand.per_second(), 500.0);
        // 300 were usual; nobody asks any more.
        demand.pass(1.0);
        assert_eq!(demand.per_second(), 150.0);
        // As many in a longer time are fewer in a second.
        (0..500).for_each(|_| demand.ask(1.0));
        demand.pass(4.0);
        assert!((demand.per_second() - 130.0).abs() < 1e-9);
    }

    #[test]
    fn a_few_at_once_are_no_burst() {
        let mut demand = demand(&[(20, 1.0)]);
        (0..20).for_each(|_| demand.ask(1.0));
        demand.pass(0.1);
        // 200 a second in this step, but 20 may be chance: a tenth of the way from 20 to 200 or so.
        assert!((20.0..40.0).contains(&demand.per_second()));
    }
}
