//! Totals that are rebuilt from the spans that were kept are the totals of all spans.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::population::{Random, failed, lasting, resource, root};
use spandrel_model::{KernelTime, Resource, SpanId, SpanKind, SpanRecord, SpanStatus};
use spandrel_sampling::{
    Decision, KeepSlow, ParentBased, RateLimit, Sampler, SamplingSettings, SpanSampler,
    adjusted_count,
};

/// Counts by whatever one may ask for.
#[derive(Default)]
struct Totals {
    of: BTreeMap<String, (f64, f64)>,
    kept: u64,
}

impl Totals {
    fn see(&mut self, service: &str, span: &SpanRecord, kept: bool) {
        let count = if kept { adjusted_count(span) } else { 0.0 };
        self.kept += u64::from(kept);
        let status = match span.status {
            SpanStatus::Error(_) => "error",
            SpanStatus::Unset => "unset",
        };
        let all = [
            "all".to_owned(),
            format!("service {service}"),
            format!("status {status}"),
        ];
        for key in all {
            let (seen, rebuilt) = self.of.entry(key).or_default();
            *seen += 1.0;
            *rebuilt += count;
        }
    }

    fn assert_rebuilt(&self, within: f64) {
        for (key, (seen, rebuilt)) in &self.of {
            let error = (rebuilt / seen - 1.0).abs();

            assert!(
                error < within,
                "{key}: {rebuilt} for {seen}, of which {} were kept",
                self.kept
            );
        }
    }
}

/// Five services that call each other, for so many seconds: each exchange is a server's span and a client's span of
/// one trace. There are bursts, slow ones, and a time in which one service answers with errors only.
fn traffic(
    seconds: u64,
    seed: u64,
    mut each: impl FnMut(Option<KernelTime>, &str, &Resource, SpanRecord),
) {
    let services = [
        ("web", 1500),
        ("shop", 800),
        ("bank", 400),
        ("mail", 250),
        ("search", 250),
    ];
    let resources = services.map(|(name, _)| resource(name));
    let mut random = Random(seed);
    for tick in 0..seconds * 50 {
        let second = tick / 50;
        each(
            Some(KernelTime((tick + 1) * 20_000_000)),
            "",
            &resources[0],
            root(random.trace_id()),
        );
        for (at, (name, rate)) in services.into_iter().enumerate() {
            let burst = if second % 37 < 3 && at < 2 { 4 } else { 1 };
            let count = rate * burst / 50 + u64::from(random.next() % 50 < rate * burst % 50);
            for _ in 0..count {
                let storm = name == "bank" && (seconds / 3..seconds / 2).contains(&second);
                let fails = random.unit() < if storm { 1.0 } else { 0.02 };
                let nanos = (1e6 / (1.0 - random.unit()).powf(0.7)) as u64 * (at as u64 + 1);
                let mut server = lasting(root(random.trace_id()), nanos);
                server.kind = SpanKind::Server;
                if fails {
                    server = failed(server);
                }
                let client = SpanRecord {
                    kind: SpanKind::Client,
                    ..lasting(server.clone(), nanos + 90_000)
                };
                server.parent_span_id = Some(SpanId([1; 8]));
                server.parent_is_remote = true;
                let caller = (at + 1) % services.len();
                each(None, name, &resources[at], server);
                each(None, services[caller].0, &resources[caller], client);
            }
        }
    }
}

fn rebuild(settings: SamplingSettings, seconds: u64, seed: u64) -> Totals {
    let mut sampler = SpanSampler::new(settings);
    let mut totals = Totals::default();
    traffic(seconds, seed, |tick, name, resource, mut span| match tick {
        Some(now) => sampler.tick(now),
        None => {
            let kept = sampler.decide(resource, &mut span) == Decision::Keep;
            totals.see(name, &span, kept);
        }
    });
    totals
}

fn rules(sampler: Sampler) -> SamplingSettings {
    SamplingSettings {
        sampler,
        keep_errors: true,
        keep_slow: Some(KeepSlow {
            quantile: 0.99,
            half_life: Duration::from_secs(60),
        }),
        ..SamplingSettings::default()
    }
}

fn parent_based(ratio: f64) -> Sampler {
    Sampler::ParentBased(Box::new(ParentBased {
        root: Sampler::Ratio(ratio),
        ..ParentBased::default()
    }))
}

#[test]
fn totals_are_rebuilt_with_a_ratio_and_with_errors_and_slow_spans_kept() {
    let totals = rebuild(rules(parent_based(0.2)), 120, 1);
    assert!(totals.kept < 300_000, "{}", totals.kept);
    totals.assert_rebuilt(0.02);
}

#[test]
fn totals_are_rebuilt_under_rate_limits_of_all_and_of_each_service_with_errors_slow_spans_and_bursts()
 {
    let seconds = 240;
    let settings = SamplingSettings {
        rate_limit: RateLimit {
            spans_per_second: 2000.0,
            spans_per_second_per_service: 600.0,
        },
        ..rules(parent_based(0.5))
    };
    let totals = rebuild(settings, seconds, 2);
    // The limit holds, but for what is saved up at the start.
    assert!(totals.kept <= 2000 * seconds + 4000, "{}", totals.kept);
    totals.assert_rebuilt(0.02);
}

#[test]
fn a_burst_that_nobody_announced_is_counted_right_on_average() {
    let limited = SamplingSettings {
        rate_limit: RateLimit {
            spans_per_second: 200.0,
            ..RateLimit::default()
        },
        ..SamplingSettings::default()
    };
    let shop = resource("shop");
    let mut random = Random(77);
    let (mut seen, mut rebuilt) = (0.0, 0.0);
    for _ in 0..400 {
        let mut sampler = SpanSampler::new(limited.clone());
        for _ in 0..5000 {
            let mut span = root(random.trace_id());
            seen += 1.0;
            if sampler.decide(&shop, &mut span) == Decision::Keep {
                rebuilt += adjusted_count(&span);
            }
        }
    }
    assert!(
        (rebuilt / seen - 1.0_f64).abs() < 0.02,
        "{rebuilt} for {seen}"
    );
}

#[test]
fn a_replay_decides_as_it_did_the_first_time() {
    let settings = SamplingSettings {
        rate_limit: RateLimit {
            spans_per_second: 100.0,
            spans_per_second_per_service: 50.0,
        },
        ..rules(parent_based(0.5))
    };
    let (once, again) = (rebuild(settings.clone(), 5, 4), rebuild(settings, 5, 4));
    assert_eq!((once.kept, once.of), (again.kept, again.of));
}
