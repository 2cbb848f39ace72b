//! Which sequences have ended: ranges that join, so that it stays as small as the number of consumers.

use std::collections::BTreeMap;

/// Sequences beyond this were never given out: what claims one is damaged.
pub(crate) const MAX_SEQUENCE: u64 = 1 << 62;

/// A set of sequences.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// First to one past the last; no two touch.
    ranges: BTreeMap<u64, u64>,
}

impl Done {
    /// Adds `from` to `to`, without `to`.
    pub(crate) fn insert(&mut self, from: u64, to: u64) {
        if from >= to || to > MAX_SEQUENCE {
            return;
        }
        let (mut from, mut to) = (from, to);
        while let Some((&start, &end)) = self.ranges.range(..=to).next_back() {
            if end < from {
                break;
            }
            self.ranges.remove(&start);
            from = from.min(start);
            to = to.max(end);
        }
        self.ranges.insert(from, to);
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        self.ranges
            .range(..=sequence)
            .next_back()
            .is_some_and(|(_, &end)| sequence < end)
    }

    /// How many of `from` to `to` are not in it.
    pub(crate) fn missing(&self, from: u64, to: u64) -> u64 {
        if from >= to {
            return 0;
        }
        let before = self.ranges.range(..from).next_back();
        let inside = self.ranges.range(from..to);
        let covered: u64 = before
            .into_iter()
            .chain(inside)
            .map(|(&start, &end)| end.min(to).saturating_sub(start.max(from)))
            .sum();
        (to - from).saturating_sub(covered)
    }

    /// One past the greatest; 0 when empty.
    pub(crate) fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, &end)| end)
    }

    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(&from, &to)| (from, to))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(added in proptest::collection::vec((0u64..60, 0u64..8), 0..30)) {
            let (mut done, mut plain) = (Done::default(), BTreeSet::new());
            for (from, length) in added {
                done.insert(from, from + length);
                plain.extend(from..from + length);
            }
            for sequence in 0..80 {
                prop_assert_eq!(done.contains(sequence), plain.contains(&sequence));
            }
            let missing = (10..50).filter(|sequence| !plain.contains(sequence)).count();
            prop_assert_eq!(done.missing(10, 50), missing as u64);
            let ranges: Vec<_> = done.ranges().collect();
            prop_assert_eq!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), true);
            prop_assert_eq!(done.end(), plain.last().map_or(0, |last| last + 1));
        }
    }
}
