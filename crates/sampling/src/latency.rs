//! Which spans of a service are slow: an online quantile in a fixed number of buckets that forgets.

/// Each bucket is a tenth wider than the one below it.
const GROWTH: f64 = 1.1;
/// Durations below a microsecond are all in the first bucket.
const LEAST: f64 = 1_000.0;
/// Up to about 1000 s.
const BUCKETS: usize = 220;
/// Before this many spans nothing is called slow.
const ENOUGH: u64 = 100;

/// Durations of one service, newer ones counting more.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    counts: Box<[u32; BUCKETS]>,
    total: u64,
    /// Durations in a bucket above this one are slow.
    limit: usize,
    /// How many must come until the limit is looked for again.
    until_next: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            total: 0,
            limit: BUCKETS,
            until_next: ENOUGH,
        }
    }
}

impl Latencies {
    /// Whether a duration is slow beside those before it; it counts from now on.
    pub(crate) fn is_slow(&mut self, nanos: u64, quantile: f64) -> bool {
        if self.until_next == 0 {
            self.limit = self.find(quantile);
            // Looking costs as much as a few spans: a hundredth of what is known may come in between.
            self.until_next = (self.total / 100).max(1);
        }
        let bucket = bucket(nanos);
        let slow = bucket > self.limit;
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
            self.total += 1;
            self.until_next -= 1;
        }
        slow
    }

    /// The bucket that the quantile is in; none is above the last while too little is known.
    fn find(&self, quantile: f64) -> usize {
        if self.total < ENOUGH {
            return BUCKETS;
        }
        let rank = (quantile * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return bucket;
            }
        }
        BUCKETS
    }

    /// Half of what was seen until now is forgotten.
    pub(crate) fn halve(&mut self) {
        self.total = 0;
        for count in self.counts.iter_mut() {
            *count /= 2;
            self.total += u64::from(*count);
        }
        // The limit of a service that becomes quiet stays until there is something better to say.
        self.until_next = self
            .until_next
            .min(self.total / 100 + 1)
            .max(ENOUGH.saturating_sub(self.total));
    }
}

fn bucket(nanos: u64) -> usize {
    // The cast saturates at both ends.
    let index = ((nanos as f64 / LEAST).ln() / GROWTH.ln()).ceil() as usize;
    index.min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The durations 1 ms, 2 ms ... 1 s, in an order without a trend.
    fn thousand() -> impl Iterator<Item = u64> {
        (0..1000_u64).map(|n| (n * 387 % 1000 + 1) * 1_000_000)
    }

    #[test]
    fn what_is_slow_lies_above_the_true_quantile_within_a_tenth() {
        let mut latencies = Latencies::default();
        for _ in 0..5 {
            for nanos in thousand() {
                latencies.is_slow(nanos, 0.9);
            }
        }
        let least_slow = (1..2000_u64)
            .find(|ms| latencies.clone().is_slow(ms * 1_000_000, 0.9))
            .unwrap();
        assert!((900..=990).contains(&least_slow), "{least_slow}");
    }

    #[test]
    fn nothing_is_slow_before_enough_is_known_nor_where_all_take_as_long() {
        let mut latencies = Latencies::default();
        let mut slow = 0;
        for nanos in (1..ENOUGH).map(|n| n * 1_000_000) {
            slow += u32::from(latencies.is_slow(nanos, 0.5));
        }
        assert_eq!(slow, 0);
        let mut equal = Latencies::default();
        assert!((0..10_000).all(|_| !equal.is_slow(7_000_000, 0.99)));
    }

    #[test]
    fn what_was_usual_long_ago_is_forgotten() {
        let mut latencies = Latencies::default();
        for _ in 0..10_000 {
            latencies.is_slow(1_000_000, 0.99);
        }
        assert!(latencies.clone().is_slow(10_000_000, 0.99));
        for _ in 0..20 {
            latencies.halve();
            for _ in 0..1000 {
                latencies.is_slow(10_000_000, 0.99);
            }
        }
        assert!(!latencies.is_slow(10_000_000, 0.99));
    }

    #[test]
    fn extreme_durations_have_a_bucket() {
        let mut latencies = Latencies::default();
        for nanos in [0, 1, 999, u64::MAX] {
            latencies.is_slow(nanos, 0.99);
        }
        assert_eq!(latencies.total, 4);
    }
}
