//! What the sampler is told.

use std::time::Duration;

use crate::sampler::Sampler;

/// Everything that decides on a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingSettings {
    /// The sampler of the declarative configuration.
    pub sampler: Sampler,
    /// Spans with an error are kept whatever the sampler says.
    pub keep_errors: bool,
    /// Slow spans are kept whatever the sampler says; `None` for no such rule.
    pub keep_slow: Option<KeepSlow>,
    /// How many spans may leave.
    pub rate_limit: RateLimit,
    /// Services whose latencies and rates are followed one by one; for another one the longest quiet are forgotten.
    pub max_services: usize,
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self {
            sampler: Sampler::AlwaysOn,
            keep_errors: false,
            keep_slow: None,
            rate_limit: RateLimit::default(),
            max_services: 1024,
        }
    }
}

/// Which spans are slow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeepSlow {
    /// A span is slow if it took longer than this share of the spans of its service before it, for example 0.99.
    pub quantile: f64,
    /// After this time a span counts half.
    pub half_life: Duration,
}

/// How many spans may leave in a second; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateLimit {
    /// Of all services together.
    pub spans_per_second: f64,
    /// Of each service.
    pub spans_per_second_per_service: f64,
}
