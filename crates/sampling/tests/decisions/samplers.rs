//! What each sampler and each rule decides, and what it writes into the span.

use crate::population::{Random, child, failed, lasting, resource, root};
use spandrel_model::{KernelTime, SpanId, SpanKind, SpanRecord, TraceId};
use spandrel_sampling::{
    ADJUSTED_COUNT, Decision, KeepSlow, NOT_SAMPLED, ParentBased, RATE_LIMITED, RateLimit, Sampler,
    SamplingSettings, SpanSampler, adjusted_count,
};

fn sampler(sampler: Sampler) -> SpanSampler {
    with(SamplingSettings {
        sampler,
        ..SamplingSettings::default()
    })
}

fn with(settings: SamplingSettings) -> SpanSampler {
    SpanSampler::new(settings)
}

/// The decision and the `tracestate` that goes out with it.
fn decide(sampler: &mut SpanSampler, span: SpanRecord) -> (Decision, String, SpanRecord) {
    let mut span = span;
    let decision = sampler.decide(&resource("shop"), &mut span);
    (decision, span.trace_state.to_string(), span)
}

/// A trace whose 56 random bits are these.
fn trace(randomness: u64) -> TraceId {
    TraceId((0xab_u128 << 120 | u128::from(randomness)).to_be_bytes())
}

const HALF: u64 = 1 << 55;
const DROP: Decision = Decision::Drop(NOT_SAMPLED);

fn parent_based(root: Sampler) -> Sampler {
    Sampler::ParentBased(Box::new(ParentBased {
        root,
        ..ParentBased::default()
    }))
}

#[test]
fn always_on_alone_leaves_every_span_as_it_is() {
    let mut on = sampler(Sampler::AlwaysOn);
    for span in [
        root(trace(0)),
        child(trace(0), 0, "a=1,ot=rv:00000000000001"),
    ] {
        assert_eq!(
            decide(&mut on, span.clone()),
            (Decision::Keep, span.trace_state.to_string(), span)
        );
    }
    // The parent stood for two; we see every one of these and stand for ourselves.
    let (_, state, _) = decide(&mut on, child(trace(HALF), 1, "a=1,ot=th:8"));
    assert_eq!(state, "ot=th:0,a=1");
}

#[test]
fn always_off_drops_every_span_and_takes_its_sampled_flag() {
    let (decision, _, span) = decide(
        &mut sampler(Sampler::AlwaysOff),
        child(trace(!0 >> 8), 1, ""),
    );
    assert_eq!((decision, span.trace_flags), (DROP, 0));
}

#[test]
fn a_ratio_keeps_the_traces_with_the_most_randomness_and_says_so() {
    let mut half = sampler(Sampler::Ratio(0.5));
    let (kept, state, span) = decide(&mut half, root(trace(HALF)));
    assert_eq!(
        (kept, state.as_str(), span.trace_flags),
        (Decision::Keep, "ot=th:8", 1)
    );
    assert_eq!(adjusted_count(&span), 2.0);
    assert_eq!(decide(&mut half, root(trace(HALF - 1))).0, DROP);
    // What a parent decided is not asked for.
    assert_eq!(
        decide(&mut half, child(trace(HALF), 0, "")).0,
        Decision::Keep
    );
    assert_eq!(
        decide(&mut sampler(Sampler::Ratio(0.0)), root(trace(!0 >> 8))).0,
        DROP
    );
}

#[test]
fn explicit_randomness_wins_over_the_trace_id() {
    let mut half = sampler(Sampler::Ratio(0.5));
    let (kept, state, _) = decide(&mut half, child(trace(0), 1, "ot=rv:80000000000000"));
    assert_eq!(
        (kept, state.as_str()),
        (Decision::Keep, "ot=th:8;rv:80000000000000")
    );
    assert_eq!(
        decide(&mut half, child(trace(HALF), 1, "ot=rv:7fffffffffffff")).0,
        DROP
    );
    // Not 14 digits: as if it were not there.
    assert_eq!(
        decide(&mut half, child(trace(HALF), 1, "ot=rv:7f")).0,
        Decision::Keep
    );
}

#[test]
fn a_sampled_parent_hands_its_threshold_on_and_an_unsampled_one_its_refusal() {
    let mut sampler = sampler(parent_based(Sampler::Ratio(0.5)));
    let state = "ot=th:c;rv:e0000000000000,a=1";
    assert_eq!(decide(&mut sampler, child(trace(0), 1, state)).1, state);
    assert_eq!(decide(&mut sampler, child(trace(HALF), 0, "")).0, DROP);
    assert_eq!(decide(&mut sampler, root(trace(HALF - 1))).0, DROP);
    assert_eq!(decide(&mut sampler, root(trace(HALF))).1, "ot=th:8");
}

#[test]
fn a_ratio_below_the_parents_lowers_the_chance_and_one_above_it_does_not_raise_it() {
    for (ratio, out) in [(0.125, "ot=th:e"), (0.75, "ot=th:c")] {
        let mut sampler = sampler(Sampler::ParentBased(Box::new(ParentBased {
            remote_parent_sampled: Sampler::Ratio(ratio),
            ..ParentBased::default()
        })));
        let (kept, state, _) = decide(&mut sampler, child(trace(!0 >> 8), 1, "ot=th:c"));
        assert_eq!((kept, state.as_str()), (Decision::Keep, out));
    }
}

#[test]
fn the_five_cases_of_a_parent_have_a_sampler_each() {
    let rules = ParentBased {
        root: Sampler::AlwaysOff,
        remote_parent_sampled: Sampler::AlwaysOff,
        remote_parent_not_sampled: Sampler::AlwaysOff,
        local_parent_sampled: Sampler::AlwaysOff,
        local_parent_not_sampled: Sampler::AlwaysOff,
    };
    let on = Sampler::AlwaysOn;
    let spans = |remote, flags| SpanRecord {
        parent_is_remote: remote,
        ..child(trace(5), flags, "")
    };
    let cases = [
        (
            ParentBased {
                root: on.clone(),
                ..rules.clone()
            },
            root(trace(5)),
        ),
        (
            ParentBased {
                remote_parent_sampled: on.clone(),
                ..rules.clone()
            },
            spans(true, 1),
        ),
        (
            ParentBased {
                remote_parent_not_sampled: on.clone(),
                ..rules.clone()
            },
            spans(true, 2),
        ),
        (
            ParentBased {
                local_parent_sampled: on.clone(),
                ..rules.clone()
            },
            spans(false, 3),
        ),
        (
            ParentBased {
                local_parent_not_sampled: on,
                ..rules
            },
            spans(false, 0),
        ),
    ];
    for (at, (rules, _)) in cases.iter().enumerate() {
        let mut sampler = sampler(Sampler::ParentBased(Box::new(rules.clone())));
        for (other, (_, span)) in cases.iter().enumerate() {
            let kept = decide(&mut sampler, span.clone()).0 == Decision::Keep;
            assert_eq!(kept, at == other, "sampler {at}, span {other}");
        }
    }
}

#[test]
fn a_threshold_that_contradicts_the_sampled_flag_is_taken_out() {
    let mut sampler = sampler(parent_based(Sampler::AlwaysOn));
    for state in ["ot=th:c,a=1", "ot=th:nonsense,a=1"] {
        let (kept, state, span) = decide(&mut sampler, child(trace(HALF), 1, state));
        assert_eq!((kept, state.as_str()), (Decision::Keep, "a=1"));
        assert_eq!(span.attribute(ADJUSTED_COUNT), None);
    }
}

#[test]
fn where_the_parents_chance_is_unknown_an_attribute_counts_what_its_spans_stand_for() {
    let rules = ParentBased {
        remote_parent_sampled: Sampler::Ratio(0.25),
        remote_parent_not_sampled: Sampler::Ratio(0.25),
        ..ParentBased::default()
    };
    let mut sampler = sampler(Sampler::ParentBased(Box::new(rules)));
    let mut random = Random(9);
    for flags in [0, 1] {
        let mut total = 0.0;
        for _ in 0..40_000 {
            // Parents that keep by the same bits: below the half they are not sampled, above it they are.
            let bits = (random.next() >> 9) | if flags == 1 { HALF } else { 0 };
            let (kept, state, span) = decide(&mut sampler, child(trace(bits), flags, ""));
            if kept == Decision::Keep {
                assert_eq!((state.as_str(), adjusted_count(&span)), ("", 4.0));
                total += adjusted_count(&span);
            }
        }
        assert!((total / 40_000.0 - 1.0_f64).abs() < 0.02, "{flags} {total}");
    }
}

#[test]
fn client_and_server_of_one_exchange_are_kept_or_dropped_together() {
    let mut sampler = sampler(parent_based(Sampler::Ratio(0.3)));
    let mut random = Random(3);
    let (mut kept, mut dropped) = (0, 0);
    for _ in 0..1000 {
        let client = root(random.trace_id());
        // No header was carried: the server's span was given the trace and the span of the client.
        let server = SpanRecord {
            parent_span_id: Some(SpanId([1; 8])),
            parent_is_remote: true,
            kind: SpanKind::Server,
            ..client.clone()
        };
        let server = decide(&mut sampler, server);
        let client = decide(&mut sampler, client);
        assert_eq!((server.0, &server.1), (client.0, &client.1));
        if client.0 == Decision::Keep {
            kept += 1;
        } else {
            dropped += 1;
        }
    }
    assert!(kept > 200 && dropped > 600, "{kept} {dropped}");
}

#[test]
fn two_agents_decide_alike_on_a_trace_and_the_lower_ratio_keeps_a_part_of_the_other() {
    let (mut one, mut same) = (sampler(Sampler::Ratio(0.5)), sampler(Sampler::Ratio(0.5)));
    let mut less = sampler(Sampler::Ratio(0.1));
    let mut random = Random(11);
    for _ in 0..2000 {
        let span = root(random.trace_id());
        let kept = decide(&mut one, span.clone()).0;
        assert_eq!(decide(&mut same, span.clone()).0, kept);
        assert!(decide(&mut less, span).0 == DROP || kept == Decision::Keep);
    }
}

#[test]
fn errors_are_kept_whatever_the_sampler_says_and_stand_for_themselves() {
    for sampler in [
        Sampler::AlwaysOff,
        Sampler::Ratio(0.01),
        parent_based(Sampler::AlwaysOff),
    ] {
        let mut sampler = with(SamplingSettings {
            sampler,
            keep_errors: true,
            ..SamplingSettings::default()
        });
        let (kept, state, span) = decide(&mut sampler, failed(child(trace(0), 0, "ot=th:8")));
        assert_eq!(
            (kept, state.as_str(), span.trace_flags),
            (Decision::Keep, "ot=th:0", 1)
        );
        assert_eq!(decide(&mut sampler, root(trace(0))).0, DROP);
    }
}

#[test]
fn slow_spans_are_kept_by_the_measure_of_their_own_service_and_direction() {
    let mut sampler = with(SamplingSettings {
        sampler: Sampler::AlwaysOff,
        keep_slow: Some(KeepSlow {
            quantile: 0.99,
            half_life: std::time::Duration::from_secs(300),
        }),
        ..SamplingSettings::default()
    });
    let (fast, slow) = (resource("fast"), resource("slow"));
    let mut kept = [0; 2];
    for n in 0..20_000_u64 {
        // In each hundred: one of ten times the usual duration.
        let factor = if n % 100 == 99 { 10 } else { 1 };
        for (at, (resource, usual)) in [(&fast, 1_000_000), (&slow, 1_000_000_000)]
            .into_iter()
            .enumerate()
        {
            let jitter = n * 7919 % 1000 * usual / 4000;
            let mut span = lasting(root(trace(n)), (usual + jitter) * factor);
            if sampler.decide(resource, &mut span) == Decision::Keep {
                assert_eq!(span.trace_state, "ot=th:0");
                kept[at] += u32::from(factor == 10);
            }
        }
    }
    // The first hundred of each teach what is usual.
    assert!(
        kept.iter().all(|kept| (198..=200).contains(kept)),
        "{kept:?}"
    );
    // What is long for an answer of `fast` says nothing of how long it waits for others.
    let mut served = SpanRecord {
        kind: SpanKind::Server,
        ..lasting(root(trace(1)), 10_000_000)
    };
    assert_eq!(sampler.decide(&fast, &mut served), DROP);
}

#[test]
fn a_limit_of_one_service_leaves_the_others_alone() {
    let mut sampler = with(SamplingSettings {
        rate_limit: RateLimit {
            spans_per_second_per_service: 10.0,
            ..RateLimit::default()
        },
        ..SamplingSettings::default()
    });
    let (loud, quiet) = (resource("loud"), resource("quiet"));
    let mut random = Random(5);
    let mut kept = (0, 0);
    for tick in 0..1000_u64 {
        sampler.tick(KernelTime(tick * 20_000_000));
        for _ in 0..20 {
            let mut span = root(random.trace_id());
            match sampler.decide(&loud, &mut span) {
                Decision::Keep => kept.0 += 1,
                Decision::Drop(reason) => assert_eq!(reason, RATE_LIMITED),
            }
        }
        if tick % 10 == 0 && sampler.decide(&quiet, &mut root(random.trace_id())) == Decision::Keep
        {
            kept.1 += 1;
        }
    }
    assert!((170..=230).contains(&kept.0), "{kept:?}");
    assert_eq!(kept.1, 100);
}
