//! The decision on a span, and what is written into those that are kept.

use spandrel_model::ledger::Reason;
use spandrel_model::{Attribute, KernelTime, Resource, SpanRecord, SpanStatus};

use crate::limit::{Class, Limit, STEP_SECONDS};
use crate::sampler::{Chance, Origin, SAMPLED, Sampler};
use crate::service::Services;
use crate::settings::SamplingSettings;
use crate::threshold::Threshold;
use crate::trace_state::{OtMember, with_threshold};

/// The sampler left the span out.
pub const NOT_SAMPLED: Reason = "sampling.not_sampled";
/// A rate limit left the span out.
pub const RATE_LIMITED: Reason = "sampling.rate_limited";

/// The attribute that says how many exchanges a span stands for where no threshold can.
pub const ADJUSTED_COUNT: &str = "spandrel.sampling.adjusted_count";

/// One step of the limits, in nanoseconds.
const STEP: u64 = (STEP_SECONDS * 1e9) as u64;

/// What happens to a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is exported.
    Keep,
    /// It is not, for a reason.
    Drop(Reason),
}

/// Decides span by span, in bounded memory.
#[derive(Debug)]
pub struct SpanSampler {
    settings: SamplingSettings,
    /// Whether anything could be left out at all.
    active: bool,
    services: Option<Services>,
    limit: Option<Limit>,
    step_began: Option<KernelTime>,
    halved: KernelTime,
}

impl SpanSampler {
    /// A sampler that knows of no span yet.
    pub fn new(settings: SamplingSettings) -> Self {
        let limits = settings.rate_limit;
        let by_service = limits.spans_per_second_per_service;
        let active = settings.sampler != Sampler::AlwaysOn
            || limits.spans_per_second > 0.0
            || by_service > 0.0;
        let follows_services = active && (by_service > 0.0 || settings.keep_slow.is_some());
        Self {
            services: follows_services
                .then(|| Services::new(settings.max_services.max(1), by_service)),
            limit: (limits.spans_per_second > 0.0).then(|| Limit::new(limits.spans_per_second)),
            settings,
            active,
            step_began: None,
            halved: KernelTime::default(),
        }
    }

    /// Time has passed; call it ten times a second or more.
    pub fn tick(&mut self, now: KernelTime) {
        if self.step_began.is_none_or(|began| began > now) {
            self.step_began = Some(now);
            self.halved = now;
        }
        let over = self.step_began.map_or(0, |began| now.since(began));
        if !self.active || over < STEP {
            return;
        }
        self.step_began = Some(now);
        let seconds = over as f64 / 1e9;
        if let Some(limit) = &mut self.limit {
            limit.step(seconds);
        }
        let Some(services) = &mut self.services else {
            return;
        };
        for limit in services.each().filter_map(|service| service.limit.as_mut()) {
            limit.step(seconds);
        }
        services.forget_quiet(seconds);
        if let Some(slow) = &self.settings.keep_slow
            && u128::from(now.since(self.halved)) >= slow.half_life.as_nanos()
        {
            self.halved = now;
            services.halve_latencies();
        }
    }

    /// Decides on a span and writes into it what was decided.
    ///
    /// The sampled flag says afterwards whether the span is exported, so that no exemplar names one that is not.
    pub fn decide(&mut self, resource: &Resource, span: &mut SpanRecord) -> Decision {
        if !self.active {
            correct_received(span);
            return Decision::Keep;
        }
        let origin = Origin::of(span);
        let decision = self.chance(resource, span, &origin);
        match decision {
            Ok(chance) => {
                span.trace_flags |= SAMPLED;
                write(chance, &origin.received, span);
                Decision::Keep
            }
            Err(reason) => {
                span.trace_flags &= !SAMPLED;
                Decision::Drop(reason)
            }
        }
    }

    /// The chance with which the span was kept, or why it was not.
    fn chance(
        &mut self,
        resource: &Resource,
        span: &SpanRecord,
        origin: &Origin,
    ) -> Result<Chance, Reason> {
        let name = resource.service_name();
        let mut service = self.services.as_mut().map(|services| services.get(name));
        let error = self.settings.keep_errors && matches!(span.status, SpanStatus::Error(_));
        // Fast ones must be seen too, or nobody knows what slow means.
        let slow = match (&self.settings.keep_slow, &mut service) {
            (Some(slow), Some(service)) => service
                .latencies(span.kind)
                .is_slow(span.duration_nanos(), slow.quantile),
            _ => false,
        };
        let (class, mut chance) = if error || slow {
            (Class::Favoured, Chance::certain(origin))
        } else {
            let chance = self.settings.sampler.chance(origin).ok_or(NOT_SAMPLED)?;
            (Class::Ordinary, chance)
        };
        if !chance.is_kept() {
            return Err(NOT_SAMPLED);
        }
        let of_service = service.and_then(|service| service.limit.as_mut());
        let mut limits = [of_service, self.limit.as_mut()];
        for limit in limits.iter_mut().flatten() {
            let threshold = limit.ask(class, chance.threshold.probability());
            chance = chance.limited(threshold);
            if !chance.is_kept() {
                return Err(RATE_LIMITED);
            }
        }
        limits.into_iter().flatten().for_each(Limit::take);
        Ok(chance)
    }
}

/// Where nothing is left out a span stands for itself, whatever its parent stood for.
fn correct_received(span: &mut SpanRecord) {
    if span.trace_state.is_empty() {
        return;
    }
    let received = OtMember::parse(&span.trace_state);
    if received.has_threshold && received.threshold != Some(Threshold::KEEP_ALL) {
        span.trace_state = with_threshold(&span.trace_state, Some(Threshold::KEEP_ALL)).into();
    }
}

fn write(chance: Chance, received: &OtMember, span: &mut SpanRecord) {
    let threshold = chance.known.then_some(chance.threshold);
    let as_received = match threshold {
        Some(_) => received.threshold == threshold,
        None => !received.has_threshold,
    };
    if !as_received {
        span.trace_state = with_threshold(&span.trace_state, threshold).into();
    }
    if !chance.known && chance.threshold != Threshold::KEEP_ALL {
        let count = chance.threshold.adjusted_count();
        span.attributes.push(Attribute::new(ADJUSTED_COUNT, count));
    }
}
