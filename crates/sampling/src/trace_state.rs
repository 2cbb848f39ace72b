//! The `ot` member of a `tracestate`: what others have decided, and what we did.

use std::fmt::Write;

use spandrel_model::{SpanRecord, Value};

use crate::span_sampler::ADJUSTED_COUNT;
use crate::threshold::{Randomness, Threshold};

/// Most members of a `tracestate` by W3C.
const MAX_MEMBERS: usize = 32;
/// Longest value of `ot` by OpenTelemetry.
const MAX_VALUE: usize = 256;

/// What `ot` says of sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OtMember {
    /// The threshold; `None` if there is none that can be read.
    pub(crate) threshold: Option<Threshold>,
    /// Randomness that was chosen for the trace.
    pub(crate) randomness: Option<Randomness>,
    /// Whether there is a `th` at all, readable or not.
    pub(crate) has_threshold: bool,
}

impl OtMember {
    pub(crate) fn parse(trace_state: &str) -> Self {
        let mut found = Self::default();
        for (key, value) in parts(trace_state) {
            match key {
                "th" if !found.has_threshold => {
                    found.has_threshold = true;
                    found.threshold = Threshold::parse(value);
                }
                "rv" if found.randomness.is_none() => found.randomness = Randomness::parse(value),
                _ => {}
            }
        }
        found
    }
}

/// The value of the first `ot`; of more than one only the first counts.
fn value(trace_state: &str) -> &str {
    members(trace_state)
        .find_map(|member| member.strip_prefix("ot="))
        .unwrap_or("")
}

fn members(trace_state: &str) -> impl Iterator<Item = &str> {
    trace_state
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

fn parts(trace_state: &str) -> impl Iterator<Item = (&str, &str)> {
    value(trace_state)
        .split(';')
        .filter_map(|part| part.split_once(':'))
}

/// The `tracestate` with this threshold, or with none. What is changed comes first, as W3C asks.
pub(crate) fn with_threshold(trace_state: &str, threshold: Option<Threshold>) -> String {
    let mut ours = String::with_capacity(trace_state.len() + 24);
    let mut put = |key: &str, value: &dyn std::fmt::Display| {
        let before = ours.len();
        let separator = if before == 0 { "ot=" } else { ";" };
        let written = write!(ours, "{separator}{key}:{value}");
        if written.is_err() || ours.len() > MAX_VALUE + 3 {
            ours.truncate(before);
        }
    };
    if let Some(threshold) = threshold {
        put("th", &threshold);
    }
    for (key, value) in parts(trace_state).filter(|(key, _)| *key != "th") {
        put(key, &value);
    }
    let room = MAX_MEMBERS - usize::from(!ours.is_empty());
    for member in members(trace_state)
        .filter(|member| !member.starts_with("ot="))
        .take(room)
    {
        if !ours.is_empty() {
            ours.push(',');
        }
        ours.push_str(member);
    }
    ours
}

/// How many exchanges an exported span stands for: by its threshold, else by its attribute, else one.
pub fn adjusted_count(span: &SpanRecord) -> f64 {
    if let Some(threshold) = OtMember::parse(&span.trace_state).threshold {
        return threshold.adjusted_count();
    }
    match span.attribute(ADJUSTED_COUNT) {
        Some(Value::F64(count)) => *count,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threshold_and_randomness_are_read_from_the_first_ot_member() {
        let found = OtMember::parse("vendor=1, ot=xy:z;th:c;rv:9b8233f7e3a151 ,ot=th:8");
        assert_eq!(found.threshold, Threshold::from_ratio(0.25));
        assert_eq!(found.randomness, Randomness::parse("9b8233f7e3a151"));
        for none in ["", "ot=", "vendor=th:8", "ot=th", "not=th:8"] {
            assert_eq!(OtMember::parse(none), OtMember::default(), "{none}");
        }
        let bad = OtMember::parse("ot=th:XYZ;rv:1");
        assert_eq!(
            (bad.threshold, bad.randomness, bad.has_threshold),
            (None, None, true)
        );
    }

    #[test]
    fn a_new_threshold_stands_first_and_all_else_is_forwarded() {
        let half = Threshold::from_ratio(0.5);
        for (before, after) in [
            ("", "ot=th:8"),
            ("a=1,b=2", "ot=th:8,a=1,b=2"),
            (
                "a=1,ot=rv:9b8233f7e3a151;th:0;p:8,b=2",
                "ot=th:8;rv:9b8233f7e3a151;p:8,a=1,b=2",
            ),
        ] {
            assert_eq!(with_threshold(before, half), after);
        }
        assert_eq!(with_threshold("a=1,ot=th:8", None), "a=1");
        assert_eq!(
            with_threshold("ot=th:8;rv:9b8233f7e3a151", None),
            "ot=rv:9b8233f7e3a151"
        );
    }

    #[test]
    fn the_bounds_of_the_specifications_are_kept() {
        let many: Vec<String> = (0..40).map(|n| format!("k{n}=v")).collect();
        let made = with_threshold(&many.join(","), Some(Threshold::KEEP_ALL));
        assert_eq!(made.split(',').count(), 32);
        let long = format!("ot=long:{};rv:9b8233f7e3a151", "x".repeat(300));
        assert_eq!(
            with_threshold(&long, Some(Threshold::KEEP_ALL)),
            "ot=th:0;rv:9b8233f7e3a151"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_and_what_is_written_is_read_again(text in ".{0,200}", ratio in 1e-6_f64..1.0) {
            let threshold = Threshold::from_ratio(ratio);
            let made = with_threshold(&text, threshold);
            assert_eq!(OtMember::parse(&made).threshold, threshold, "{made}");
        }
    }
}
