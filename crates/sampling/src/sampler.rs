//! The samplers of OpenTelemetry's declarative configuration, as thresholds.

use spandrel_model::SpanRecord;

use crate::threshold::{Randomness, Threshold};
use crate::trace_state::OtMember;

/// The sampled bit of the trace flags.
pub(crate) const SAMPLED: u8 = 1;

/// A sampler, by its name in the declarative configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Sampler {
    /// `always_on`
    #[default]
    AlwaysOn,
    /// `always_off`
    AlwaysOff,
    /// `trace_id_ratio_based` and `probability/development`: this share of all traces.
    Ratio(f64),
    /// `parent_based`
    ParentBased(Box<ParentBased>),
}

/// What decides, by what is known of the parent.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentBased {
    /// The trace began with this span, or with another that was made here.
    pub root: Sampler,
    /// The parent is in another process and is sampled.
    pub remote_parent_sampled: Sampler,
    /// The parent is in another process and is not sampled.
    pub remote_parent_not_sampled: Sampler,
    /// The parent is in the same process and is sampled.
    pub local_parent_sampled: Sampler,
    /// The parent is in the same process and is not sampled.
    pub local_parent_not_sampled: Sampler,
}

impl Default for ParentBased {
    fn default() -> Self {
        Self {
            root: Sampler::AlwaysOn,
            remote_parent_sampled: Sampler::AlwaysOn,
            remote_parent_not_sampled: Sampler::AlwaysOff,
            local_parent_sampled: Sampler::AlwaysOn,
            local_parent_not_sampled: Sampler::AlwaysOff,
        }
    }
}

/// What is known of a span before anybody has decided on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    parent: Option<Parent>,
    pub(crate) received: OtMember,
    pub(crate) randomness: Randomness,
}

#[derive(Clone, Copy, Debug)]
struct Parent {
    remote: bool,
    sampled: bool,
}

impl Origin {
    pub(crate) fn of(span: &SpanRecord) -> Self {
        let received = OtMember::parse(&span.trace_state);
        // Of a trace that was begun here nobody else has decided: each of its spans is decided on like the first.
        let decided = span.parent_span_id.is_some() && !span.trace_begun_here;
        Self {
            parent: decided.then_some(Parent {
                remote: span.parent_is_remote,
                sampled: span.trace_flags & SAMPLED == SAMPLED,
            }),
            received,
            randomness: received
                .randomness
                .unwrap_or_else(|| Randomness::of_trace(span.trace_id)),
        }
    }
}

/// A chance to be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chance {
    pub(crate) threshold: Threshold,
    pub(crate) randomness: Randomness,
    /// Whether the threshold is the whole truth. It is not if a parent decided in a way that nobody knows.
    pub(crate) known: bool,
}

impl Chance {
    /// Kept for certain.
    pub(crate) fn certain(origin: &Origin) -> Self {
        Self {
            threshold: Threshold::KEEP_ALL,
            randomness: origin.randomness,
            known: true,
        }
    }

    /// The same with a lesser chance; a threshold never falls.
    pub(crate) fn limited(mut self, threshold: Threshold) -> Self {
        self.threshold = self.threshold.max(threshold);
        self
    }

    pub(crate) fn is_kept(self) -> bool {
        self.threshold.keeps(self.randomness)
    }
}

impl Sampler {
    /// The chance of a span; `None` for none at all.
    pub(crate) fn chance(&self, origin: &Origin) -> Option<Chance> {
        self.after(origin, Chance::certain(origin))
    }

    fn after(&self, origin: &Origin, before: Chance) -> Option<Chance> {
        match self {
            Self::AlwaysOn => Some(before),
            Self::AlwaysOff => None,
            Self::Ratio(ratio) => Threshold::from_ratio(*ratio).map(|own| before.limited(own)),
            Self::ParentBased(rules) => {
                let Some(parent) = origin.parent else {
                    return rules.root.after(origin, before);
                };
                let next = match (parent.remote, parent.sampled) {
                    (true, true) => &rules.remote_parent_sampled,
                    (true, false) => &rules.remote_parent_not_sampled,
                    (false, true) => &rules.local_parent_sampled,
                    (false, false) => &rules.local_parent_not_sampled,
                };
                next.after(origin, before.given(parent, origin))
            }
        }
    }
}

impl Chance {
    /// The chance of a span whose parent was decided on.
    fn given(self, parent: Parent, origin: &Origin) -> Self {
        match origin.received.threshold {
            // A threshold that would have turned the trace down cannot be the one that has kept it.
            Some(threshold) if parent.sampled && threshold.keeps(origin.randomness) => {
                self.limited(threshold)
            }
            // The parent's decision may have looked at these very bits: what is left of their randomness is unknown.
            _ => Self {
                randomness: origin.randomness.independent(),
                known: false,
                ..self
            },
        }
    }
}
