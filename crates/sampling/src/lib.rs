//! Decides which spans are exported, so that totals can be rebuilt from those that are.
//!
//! ```text
//! span ──> sampler of the configuration ──> errors and slow spans: kept ──> rate limits ──> kept, with its count
//!              (a threshold)                    (threshold 0)              (thresholds)
//! ```
//!
//! Every step is a threshold in the sense of OpenTelemetry's consistent probability sampling: a span is kept if the
//! randomness of its trace is at least as great as the greatest threshold. The threshold that decided goes out with
//! the span (`ot=th:` in its `tracestate`), and with it how many exchanges the span stands for. Agents that see the
//! same trace decide alike without talking to each other.
//!
//! There is no clock here: time comes with [`SpanSampler::tick`], so that a replay decides as it did the first time.
#![forbid(unsafe_code)]

mod demand;
mod latency;
mod limit;
mod sampler;
mod service;
mod settings;
mod span_sampler;
mod threshold;
mod trace_state;

pub use sampler::{ParentBased, Sampler};
pub use settings::{KeepSlow, RateLimit, SamplingSettings};
pub use span_sampler::{ADJUSTED_COUNT, Decision, NOT_SAMPLED, RATE_LIMITED, SpanSampler};
pub use threshold::{Randomness, Threshold};
pub use trace_state::adjusted_count;
