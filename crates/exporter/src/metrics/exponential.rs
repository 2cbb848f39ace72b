//! Base-2 exponential histogram for values that are not negative, with a bounded number of buckets.

/// The buckets of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exponential {
    scale: i32,
    /// `2^scale / ln 2`, so that the index of a value is a product.
    factor: f64,
    zero_count: u64,
    offset: i32,
    counts: Counts,
}

/// Most series never reach four billion in one bucket; those that do take twice the room.
#[derive(Clone, Debug, PartialEq)]
enum Counts {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

impl Counts {
    fn len(&self) -> usize {
        match self {
            Self::Narrow(counts) => counts.len(),
            Self::Wide(counts) => counts.len(),
        }
    }

    #[inline]
    fn increment(&mut self, index: usize) {
        match self {
            Self::Narrow(counts) => {
                if let Some(count) = counts.get_mut(index) {
                    match count.checked_add(1) {
                        Some(sum) => *count = sum,
                        None => {
                            *self = Self::Wide(self.to_vec());
                            self.increment(index);
                        }
                    }
                }
            }
            Self::Wide(counts) => {
                if let Some(count) = counts.get_mut(index) {
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    fn to_vec(&self) -> Vec<u64> {
        match self {
            Self::Narrow(counts) => counts.iter().map(|&count| count.into()).collect(),
            Self::Wide(counts) => counts.clone(),
        }
    }

    fn from_wide(counts: Vec<u64>) -> Self {
        match counts.iter().map(|&count| u32::try_from(count)).collect() {
            Ok(narrow) => Self::Narrow(narrow),
            Err(_) => Self::Wide(counts),
        }
    }

    fn grow(&mut self, front: usize, back: usize) {
        match self {
            Self::Narrow(counts) => grow(counts, front, back),
            Self::Wide(counts) => grow(counts, front, back),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Narrow(counts) => counts.clear(),
            Self::Wide(_) => *self = Self::Narrow(Vec::new()),
        }
    }
}

fn grow<T: Default + Clone>(counts: &mut Vec<T>, front: usize, back: usize) {
    counts.resize(counts.len() + back, T::default());
    if front > 0 {
        counts.splice(0..0, std::iter::repeat_n(T::default(), front));
    }
}

impl Exponential {
    pub(crate) fn new(max_scale: i32) -> Self {
        Self {
            scale: max_scale,
            factor: factor(max_scale),
            zero_count: 0,
            offset: 0,
            counts: Counts::Narrow(Vec::new()),
        }
    }

    pub(crate) fn scale(&self) -> i32 {
        self.scale
    }

    pub(crate) fn zero_count(&self) -> u64 {
        self.zero_count
    }

    pub(crate) fn offset(&self) -> i32 {
        self.offset
    }

    pub(crate) fn counts(&self) -> Vec<u64> {
        self.counts.to_vec()
    }

    /// Starts again, with the memory it has.
    pub(crate) fn clear(&mut self, max_scale: i32) {
        self.scale = max_scale;
        self.factor = factor(max_scale);
        self.zero_count = 0;
        self.offset = 0;
        self.counts.clear();
    }

    /// `value` must be finite and not negative.
    #[inline]
    pub(crate) fn record(&mut self, value: f64, max_size: usize) {
        if value == 0.0 {
            self.zero_count += 1;
            return;
        }
        let mut index = self.index(value);
        let len = self.counts.len();
        if len == 0 {
            self.offset = index;
            self.counts.grow(0, 1);
        } else if index < self.offset || index as i64 >= i64::from(self.offset) + len as i64 {
            index = self.widen(value, index, max_size.max(2));
        }
        let position = (i64::from(index) - i64::from(self.offset)) as usize;
        self.counts.increment(position);
    }

    /// Makes room for an index outside the buckets, at a lower resolution if need be.
    #[cold]
    fn widen(&mut self, value: f64, index: i32, max_size: usize) -> i32 {
        let mut low = i64::from(self.offset.min(index));
        let last = i64::from(self.offset) + self.counts.len() as i64 - 1;
        let mut high = last.max(i64::from(index));
        let mut shift = 0;
        while high - low >= max_size as i64 {
            low >>= 1;
            high >>= 1;
            shift += 1;
        }
        self.downscale(shift);
        let index = self.index(value);
        let first = i64::from(self.offset);
        let last = first + self.counts.len() as i64 - 1;
        let front = (first - i64::from(index)).max(0);
        let back = (i64::from(index) - last).max(0);
        self.counts.grow(front as usize, back as usize);
        self.offset = self.offset.min(index);
        index
    }

    fn downscale(&mut self, shift: i32) {
        if shift == 0 {
            return;
        }
        let offset = self.offset >> shift;
        let mut merged = vec![0_u64; 0];
        for (position, count) in self.counts.to_vec().into_iter().enumerate() {
            let index = ((i64::from(self.offset) + position as i64) >> shift) - i64::from(offset);
            merged.resize(merged.len().max(index as usize + 1), 0);
            if let Some(bucket) = merged.get_mut(index as usize) {
                *bucket += count;
            }
        }
        self.counts = Counts::from_wide(merged);
        self.offset = offset;
        self.scale -= shift;
        self.factor = factor(self.scale);
    }

    /// The bucket of a value: bucket `i` holds `base^i < value <= base^(i + 1)`.
    #[inline]
    fn index(&self, value: f64) -> i32 {
        let bits = value.to_bits();
        let biased = ((bits >> 52) & 0x7ff) as i32;
        let mantissa = bits & ((1 << 52) - 1);
        if biased == 0 {
            // Below the smallest normal number all values share its bucket.
            return shifted(-1023, self.scale);
        }
        let exponent = biased - 1023;
        if mantissa == 0 {
            // A power of two is the upper bound of its bucket, which a logarithm may miss by a rounding.
            return if self.scale > 0 {
                (exponent << self.scale) - 1
            } else {
                (exponent - 1) >> -self.scale
            };
        }
        if self.scale <= 0 {
            return exponent >> -self.scale;
        }
        let estimate = (value.ln() * self.factor).ceil() as i32 - 1;
        // The mantissa lies strictly between two powers of two, and so does the bucket.
        estimate.clamp(exponent << self.scale, ((exponent + 1) << self.scale) - 1)
    }
}

fn shifted(exponent: i32, scale: i32) -> i32 {
    if scale > 0 {
        exponent << scale
    } else {
        exponent >> -scale
    }
}

fn factor(scale: i32) -> f64 {
    std::f64::consts::LOG2_E * f64::from(scale).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(scale: i32, index: i64) -> f64 {
        (index as f64 * (-f64::from(scale)).exp2()).exp2()
    }

    #[test]
    fn a_power_of_two_is_the_upper_bound_of_its_bucket_at_every_scale() {
        for scale in -10..=20 {
            let mut histogram = Exponential::new(scale);
            histogram.record(4.0, 160);
            let upper = bound(scale, i64::from(histogram.offset()) + 1);
            let lower = bound(scale, histogram.offset().into());
            assert!(lower < 4.0 && 4.0 <= upper, "{scale}: {lower} {upper}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_value_lies_within_the_bounds_of_the_buckets(
            values in proptest::collection::vec(1e-9_f64..1e9, 1..200),
            max_size in 2_usize..170,
        ) {
            let mut histogram = Exponential::new(20);
            for value in &values {
                histogram.record(*value, max_size);
            }
            let counts = histogram.counts();
            assert!(counts.len() <= max_size);
            assert_eq!(counts.iter().sum::<u64>(), values.len() as u64);
            let mut expected = vec![0_u64; counts.len()];
            for value in &values {
                // Independent of the implementation: walk the bounds until the value fits.
                let bucket = (0..counts.len())
                    .find(|&at| {
                        let upper = bound(
                            histogram.scale(),
                            i64::from(histogram.offset()) + at as i64 + 1,
                        );
                        *value <= upper * (1.0 + 1e-9)
                    })
                    .expect("no value is above the last bound");
                expected[bucket] += 1;
            }
            // A value at a bound may be counted on either side of it, by one rounding.
            let moved: u64 = counts.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).sum();
            assert!(moved <= values.len() as u64 / 20, "{counts:?} {expected:?}");
            assert!(counts[0] > 0 && counts[counts.len() - 1] > 0, "no empty bucket at an end");
        }
    }

    #[test]
    fn extreme_values_and_a_full_bucket_are_counted() {
        let mut histogram = Exponential::new(20);
        for value in [f64::MIN_POSITIVE, 5e-324, f64::MAX, 1.0, 0.0] {
            histogram.record(value, 160);
        }
        assert_eq!(histogram.zero_count(), 1);
        assert_eq!(histogram.counts().iter().sum::<u64>(), 4);

        let mut counts = Counts::Narrow(vec![u32::MAX]);
        counts.increment(0);
        assert_eq!(counts.to_vec(), vec![u64::from(u32::MAX) + 1]);
    }
}
