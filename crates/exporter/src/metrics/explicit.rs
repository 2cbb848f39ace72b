//! Histogram with explicit bounds, chosen by the unit of the instrument.

use std::sync::Arc;

/// Upper bounds by unit.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplicitBounds {
    /// For instruments in seconds. The defaults add bounds below 5 ms to those of the semantic conventions:
    /// most calls within a cluster end there.
    pub seconds: Arc<[f64]>,
    /// For everything else, which is bytes.
    pub bytes: Arc<[f64]>,
}

impl Default for ExplicitBounds {
    fn default() -> Self {
        Self {
            seconds: Arc::from([
                0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25,
                0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
            ]),
            bytes: Arc::from([
                0.0,
                128.0,
                256.0,
                512.0,
                1024.0,
                4096.0,
                16384.0,
                65536.0,
                262_144.0,
                1_048_576.0,
                4_194_304.0,
                16_777_216.0,
            ]),
        }
    }
}

impl ExplicitBounds {
    pub(crate) fn for_unit(&self, unit: &str) -> &Arc<[f64]> {
        if unit == "s" {
            &self.seconds
        } else {
            &self.bytes
        }
    }
}

/// The buckets of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Explicit {
    pub(crate) bounds: Arc<[f64]>,
    pub(crate) counts: Vec<u64>,
}

impl Explicit {
    pub(crate) fn new(bounds: &Arc<[f64]>) -> Self {
        Self {
            bounds: Arc::clone(bounds),
            counts: vec![0; bounds.len() + 1],
        }
    }

    pub(crate) fn record(&mut self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let mut histogram = Explicit::new(&Arc::from([1.0, 2.0]));
        for value in [0.5, 1.0, 1.5, 2.0, 3.0] {
            histogram.record(value);
        }
        assert_eq!(histogram.counts, [2, 2, 1]);
    }

    #[test]
    fn the_default_bounds_grow_and_tell_calls_below_five_milliseconds_apart() {
        let bounds = ExplicitBounds::default();
        for list in [&bounds.seconds, &bounds.bytes] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
        }
        assert!(
            bounds
                .seconds
                .iter()
                .filter(|bound| **bound < 0.005)
                .count()
                >= 4
        );
    }
}
