//! Messages lost under overload, by whose they were.

/// Most cgroups that are told apart.
const MAX_CGROUPS: usize = 10;

/// Of the lost messages: so many cgroups that lost most, and all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LossesByCgroup {
    /// Id and count, the most first.
    pub most: Vec<(u64, u64)>,
    /// The rest.
    pub others: u64,
}

impl LossesByCgroup {
    /// Of `total` lost messages, as far as it is known whose they were.
    pub fn new(known: impl IntoIterator<Item = (u64, u64)>, total: u64) -> Self {
        let mut most: Vec<(u64, u64)> = known.into_iter().filter(|(_, lost)| *lost > 0).collect();
        most.sort_unstable_by_key(|(cgroup, lost)| (std::cmp::Reverse(*lost), *cgroup));
        most.truncate(MAX_CGROUPS);
        let named: u64 = most.iter().map(|(_, lost)| lost).sum();
        Self {
            most,
            others: total.saturating_sub(named),
        }
    }

    /// Whether nothing was lost.
    pub fn is_empty(&self) -> bool {
        self.most.is_empty() && self.others == 0
    }

    /// Name and count of each, `others` last.
    pub fn rows(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        self.most
            .iter()
            .map(|(cgroup, lost)| (cgroup.to_string(), *lost))
            .chain([("others".to_owned(), self.others)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroups_that_lose_most_are_named_and_the_others_make_up_the_sum() {
        let losses = LossesByCgroup::new((1..=12).map(|cgroup| (cgroup, cgroup * 10)), 800);
        let named: Vec<u64> = losses.most.iter().map(|(cgroup, _)| *cgroup).collect();
        assert_eq!(named, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]);
        assert_eq!(losses.rows().map(|(_, lost)| lost).sum::<u64>(), 800);
        assert!(LossesByCgroup::new([(9, 0)], 0).is_empty());
    }
}
