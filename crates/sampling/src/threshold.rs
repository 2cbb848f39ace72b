//! Randomness and threshold of OpenTelemetry's consistent probability sampling, both of 56 bits.

use std::fmt;

use spandrel_model::TraceId;

/// 2^56, one more than the greatest randomness.
const ONE: u64 = 1 << 56;
const DIGITS: u32 = 14;
/// Hexadecimal digits that a probability is told with, after those that are `f`.
const PRECISION: u32 = 4;

/// How many of 2^56 equally probable values of a trace are turned down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u64);

impl Threshold {
    /// Nothing is turned down.
    pub const KEEP_ALL: Self = Self(0);

    /// The threshold that keeps this share of all traces, to four digits; `None` if it keeps nothing.
    pub fn from_ratio(ratio: f64) -> Option<Self> {
        if ratio.is_nan() || ratio <= 0.0 {
            return None;
        }
        // The cast saturates, and a share of more than one is all.
        let turned_down = ((1.0 - ratio) * ONE as f64).round() as u64;
        let greatest_digits =
            (ONE - 1).saturating_sub(turned_down).leading_zeros() - (64 - 4 * DIGITS);
        let digits = (greatest_digits / 4 + PRECISION).min(DIGITS);
        let unit = 1_u64 << (4 * (DIGITS - digits));
        let rounded = (turned_down + unit / 2) / unit * unit;
        Some(Self(rounded.min(ONE - unit)))
    }

    /// Reads the value of `th`: up to 14 lower-case digits, without the zeros at the end.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = u32::try_from(text.len()).ok()?;
        if digits == 0 || digits > DIGITS {
            return None;
        }
        Some(Self(hexadecimal(text)? << (4 * (DIGITS - digits))))
    }

    /// The share of all traces that is kept; never 0.
    pub fn probability(self) -> f64 {
        (ONE - self.0) as f64 / ONE as f64
    }

    /// How many a kept one stands for.
    pub fn adjusted_count(self) -> f64 {
        self.probability().recip()
    }

    /// Whether a trace is kept.
    pub fn keeps(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let zeros = self.0.trailing_zeros() / 4;
        let width = (DIGITS - zeros) as usize;
        write!(f, "{:0width$x}", self.0 >> (4 * zeros))
    }
}

/// What all who see a trace know of it and nobody has chosen: 56 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Randomness(u64);

impl Randomness {
    /// The last seven bytes of a trace id. Without the random flag of W3C trace context level 2 they are taken for
    /// random all the same, as the specification asks.
    pub fn of_trace(trace_id: TraceId) -> Self {
        let id = u128::from_be_bytes(trace_id.0);
        Self((id as u64) & (ONE - 1))
    }

    /// Reads the value of `rv`: exactly 14 lower-case digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == DIGITS as usize)
            .then(|| hexadecimal(text))
            .flatten()
            .map(Self)
    }

    /// Other bits that follow from these, and that a decision by these says nothing of.
    pub(crate) fn independent(self) -> Self {
        let mut word = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((word ^ (word >> 31)) & (ONE - 1))
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !text.bytes().all(lower) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_those_of_the_specification() {
        // Worked out by the rule of the specification: 2^56 * (1 - ratio), four digits after those that are f.
        for (ratio, th) in [
            (1.0, "0"),
            (0.5, "8"),
            (0.25, "c"),
            (0.1, "e666"),
            (0.01, "fd70a"),
            (0.001, "ffbe77"),
            (1.0 / 3.0, "aaab"),
            (2.0 / 3.0, "5555"),
        ] {
            assert_eq!(Threshold::from_ratio(ratio).unwrap().to_string(), th);
        }
        assert_eq!(Threshold::from_ratio(0.0), None);
        assert_eq!(Threshold::from_ratio(f64::NAN), None);
        assert_eq!(Threshold::from_ratio(7.0), Some(Threshold::KEEP_ALL));
    }

    #[test]
    fn the_least_ratio_still_keeps_something_and_stands_for_much() {
        let least = Threshold::from_ratio(1e-300).unwrap();
        assert_eq!(least.to_string(), "ffffffffffffff");
        assert!(least.keeps(Randomness(ONE - 1)) && !least.keeps(Randomness(ONE - 2)));
    }

    #[test]
    fn what_is_no_threshold_or_no_randomness_is_unknown() {
        for bad in ["", "g", "E", "-1", "+1", "123456789012345", "é"] {
            assert_eq!(Threshold::parse(bad), None, "{bad}");
        }
        for bad in ["", "1234567890123", "123456789012345", "1234567890123G"] {
            assert_eq!(Randomness::parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_threshold_is_told_exactly_and_is_near_its_ratio(ratio in 1e-9_f64..1.0) {
            let threshold = Threshold::from_ratio(ratio).unwrap();
            assert_eq!(Threshold::parse(&threshold.to_string()), Some(threshold));
            let error = (threshold.probability() / ratio - 1.0).abs();
            assert!(error < 2e-4, "{ratio} {threshold} {error}");
        }

        #[test]
        fn the_greater_threshold_keeps_a_part_of_what_the_lesser_keeps(
            one in 0.0_f64..1.0, other in 0.0_f64..1.0, random in 0..ONE
        ) {
            let of = |ratio| Threshold::from_ratio(ratio).unwrap_or(Threshold(ONE - 1));
            let (low, high) = (of(one.max(other)), of(one.min(other)));
            assert!(!high.keeps(Randomness(random)) || low.keeps(Randomness(random)));
        }
    }
}
