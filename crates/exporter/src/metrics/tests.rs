//! Tests of the aggregator: what is recorded is what is collected, within the bounds, at the right times.

use std::sync::Arc;

use smallvec::smallvec;
use spandrel_model::{
    Attribute, Edge, Instrument, InstrumentKind, Ledger, Measured, Measurement, ProcessKey,
    Resource, SpanId, SpanKind, SpanRecord, SpanStatus, TraceId, UnixTime, Value,
};

use super::{
    Aggregator, AggregatorSettings, ExplicitBounds, ExponentialPoint, HistogramSettings,
    MetricData, MetricsBatch, Number, Temporality,
};

static DURATION: Instrument = Instrument {
    kind: InstrumentKind::Histogram,
    name: "http.server.request.duration",
    unit: "s",
    description: "Duration of HTTP server requests.",
};
static SIZE: Instrument = Instrument {
    kind: InstrumentKind::Histogram,
    name: "http.server.request.body.size",
    unit: "By",
    description: "Size of HTTP server request bodies.",
};

const SECOND: u64 = 1_000_000_000;
const START: u64 = SECOND;

fn resource(name: &'static str) -> Arc<Resource> {
    Arc::new(Resource::new(vec![Attribute::new("service.name", name)]))
}

fn measured(route: &str, value: f64) -> Measured {
    Measured {
        span: SpanRecord {
            trace_id: TraceId([7; 16]),
            span_id: SpanId([value as u8; 8]),
            parent_span_id: None,
            parent_is_remote: false,
            trace_begun_here: false,
            trace_flags: 1,
            trace_state: "".into(),
            name: "GET".into(),
            kind: SpanKind::Server,
            start: UnixTime(START),
            end: UnixTime(START + 500),
            attributes: Vec::new(),
            dropped_attributes: 0,
            status: SpanStatus::Unset,
            process: ProcessKey {
                tgid: 1,
                started: 1,
            },
            cgroup: 0,
        },
        ports: [None; 2],
        metric_attributes: [Attribute::new("http.route", route.to_owned())]
            .into_iter()
            .collect(),
        measurements: smallvec![
            Measurement {
                instrument: &DURATION,
                value
            },
            Measurement {
                instrument: &SIZE,
                value: value * 100.0
            }
        ],
        edge: None,
        caller: None,
    }
}

fn aggregator(temporality: Temporality) -> (Aggregator, Arc<Ledger>) {
    let settings = AggregatorSettings {
        temporality,
        ..AggregatorSettings::default()
    };
    with(settings)
}

fn with(settings: AggregatorSettings) -> (Aggregator, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    (Aggregator::new(settings, Arc::clone(&ledger)), ledger)
}

/// The points with a value, without those that say where a series begins.
fn points<'a>(batch: &'a MetricsBatch, name: &str) -> Vec<&'a ExponentialPoint> {
    let all = all_points(batch, name).into_iter();
    all.filter(|point| point.summary.count > 0).collect()
}

fn all_points<'a>(batch: &'a MetricsBatch, name: &str) -> Vec<&'a ExponentialPoint> {
    let metrics = batch
        .resources
        .iter()
        .flat_map(|resource| &resource.metrics);
    metrics
        .filter(|metric| metric.name == name)
        .flat_map(|metric| match &metric.data {
            MetricData::ExponentialHistogram(_, points) => points,
            other => panic!("not exponential: {other:?}"),
        })
        .collect()
}

fn route(point: &ExponentialPoint) -> &Value {
    &point.head.attributes[0].value
}

#[test]
fn points_are_separate_by_resource_instrument_and_attributes() {
    let (mut aggregator, ledger) = aggregator(Temporality::Delta);
    let (shop, bank) = (resource("shop"), resource("bank"));
    for (resource, route, value) in [
        (&shop, "/a", 1.0),
        (&bank, "/a", 2.0),
        (&shop, "/b", 3.0),
        (&shop, "/a", 4.0),
    ] {
        aggregator.record(resource, &measured(route, value));
    }
    let batch = aggregator.collect(UnixTime(START + SECOND)).unwrap();
    let names: Vec<_> = batch
        .resources
        .iter()
        .map(|r| r.resource.service_name())
        .collect();
    assert_eq!(names, ["shop", "bank"]);
    let sums: Vec<_> = points(&batch, DURATION.name)
        .iter()
        .map(|point| (route(point).clone(), point.summary.count, point.summary.sum))
        .collect();
    assert_eq!(
        sums,
        [
            ("/a".into(), 2, 5.0),
            ("/b".into(), 1, 3.0),
            ("/a".into(), 1, 2.0)
        ]
    );
    assert_eq!(points(&batch, SIZE.name)[0].summary.sum, 500.0);
    let account = ledger.metric_points.snapshot();
    assert_eq!((account.seen, account.in_flight), (6, 6));
    drop(batch);
    assert!(ledger.is_closed());
    assert_eq!(ledger.metric_points.snapshot().in_flight, 0);
}

#[test]
fn delta_windows_join_without_gap_and_forget_what_was_told() {
    let (mut aggregator, _) = aggregator(Temporality::Delta);
    let shop = resource("shop");
    aggregator.record(&shop, &measured("/a", 1.0));
    let first = aggregator.collect(UnixTime(START + SECOND)).unwrap();
    let head = &points(&first, DURATION.name)[0].head;
    assert_eq!(
        (head.start, head.time),
        (UnixTime(START), UnixTime(START + SECOND))
    );
    assert!(
        aggregator.collect(UnixTime(START + 2 * SECOND)).is_none(),
        "nothing new"
    );
    assert_eq!(aggregator.stats().series, 0);
    aggregator.record(&shop, &measured("/a", 8.0));
    let third = aggregator.collect(UnixTime(START + 3 * SECOND)).unwrap();
    let point = points(&third, DURATION.name)[0];
    assert_eq!(
        (point.head.start, point.head.time),
        (UnixTime(START + 2 * SECOND), UnixTime(START + 3 * SECOND))
    );
    assert_eq!(
        (point.summary.count, point.summary.min, point.summary.max),
        (1, 8.0, 8.0)
    );
}

#[test]
fn cumulative_series_keep_their_start_and_go_with_their_resource() {
    let (mut aggregator, _) = aggregator(Temporality::Cumulative);
    let shop = resource("shop");
    aggregator.record(&shop, &measured("/a", 1.0));
    drop(aggregator.collect(UnixTime(START + SECOND)));
    aggregator.record(&shop, &measured("/a", 2.0));
    aggregator.record(&shop, &measured("/late", 2.0));
    let second = aggregator.collect(UnixTime(START + 2 * SECOND)).unwrap();
    let heads: Vec<_> = points(&second, DURATION.name)
        .iter()
        .map(|point| (point.summary.count, point.head.start.0 - START))
        .collect();
    assert_eq!(heads, [(2, 0), (1, SECOND + 1_000_000)]);
    drop(second);
    // Idle, but its service is there: told again, unchanged.
    let third = aggregator.collect(UnixTime(START + 3 * SECOND)).unwrap();
    assert_eq!(points(&third, DURATION.name)[0].summary.count, 2);
    drop((third, shop));
    assert!(aggregator.collect(UnixTime(START + 4 * SECOND)).is_none());
    let stats = aggregator.stats();
    assert_eq!((stats.series, stats.resources, stats.ended), (0, 0, 4));
}

#[test]
fn more_sets_than_the_limit_go_into_one_overflow_series() {
    for temporality in [Temporality::Delta, Temporality::Cumulative] {
        let (mut aggregator, _) = with(AggregatorSettings {
            cardinality_limit: 4,
            temporality,
            ..AggregatorSettings::default()
        });
        let (shop, bank) = (resource("shop"), resource("bank"));
        for n in 0..10 {
            aggregator.record(&shop, &measured(&format!("/{n}"), 1.0));
        }
        aggregator.record(&shop, &measured("/0", 1.0));
        aggregator.record(&bank, &measured("/0", 1.0));
        let batch = aggregator.collect(UnixTime(START + SECOND)).unwrap();
        let counts: Vec<_> = points(&batch, DURATION.name)
            .iter()
            .map(|point| (point.head.attributes[0].key.as_ref(), point.summary.count))
            .collect();
        assert_eq!(
            counts,
            [
                ("http.route", 2),
                ("http.route", 1),
                ("http.route", 1),
                ("otel.metric.overflow", 7),
                ("http.route", 1)
            ]
        );
        let overflow = &points(&batch, DURATION.name)[3].head.attributes;
        assert_eq!(
            overflow.to_vec(),
            [Attribute::new("otel.metric.overflow", true)]
        );
        assert_eq!(aggregator.stats().overflowed, 14, "of both instruments");
    }
}

/// Counts and times of the points of the durations, in the order in which they are told.
fn told(batch: &MetricsBatch) -> Vec<(u64, u64, u64)> {
    let points = all_points(batch, DURATION.name).into_iter();
    points
        .map(|point| {
            let head = &point.head;
            (
                point.summary.count,
                head.start.0 - START,
                head.time.0 - START,
            )
        })
        .collect()
}

#[test]
fn a_cumulative_series_begins_with_zero_at_its_start_whatever_its_kind() {
    for histogram in [
        HistogramSettings::default(),
        HistogramSettings::Explicit(ExplicitBounds::default()),
    ] {
        let (mut aggregator, ledger) = with(AggregatorSettings {
            histogram: histogram.clone(),
            ..AggregatorSettings::default()
        });
        let shop = resource("shop");
        aggregator.record(&shop, &with_edge("cart"));
        let batch = aggregator.collect(UnixTime(START + SECOND)).unwrap();
        let mut kinds = 0;
        for metric in &batch.resources[0].metrics {
            let values: Vec<(u64, u64, u64)> = match &metric.data {
                MetricData::ExponentialHistogram(_, points) => points
                    .iter()
                    .map(|point| {
                        let counted = point.counts.iter().sum::<u64>() + point.zero_count;
                        assert_eq!(counted, point.summary.count);
                        assert_eq!(point.scale, points[0].scale, "no finer than what follows");
                        (counted, point.head.start.0, point.head.time.0)
                    })
                    .collect(),
                MetricData::Histogram(_, points) => points
                    .iter()
                    .map(|point| {
                        assert_eq!(point.counts.len(), point.bounds.len() + 1);
                        let counted = point.counts.iter().sum::<u64>();
                        assert_eq!(counted, point.summary.count);
                        (counted, point.head.start.0, point.head.time.0)
                    })
                    .collect(),
                MetricData::Sum(_, _, points) => points
                    .iter()
                    .map(|point| {
                        let Number::I64(value) = point.value else {
                            panic!("{point:?}");
                        };
                        (value as u64, point.head.start.0, point.head.time.0)
                    })
                    .collect(),
                other => panic!("{other:?}"),
            };
            for pair in values.chunks(2) {
                assert_eq!(pair, [(0, START, START), (1, START, START + SECOND)]);
                kinds += 1;
            }
        }
        // Duration and size of the exchange, and count and duration of the edge.
        assert_eq!(kinds, 4);
        drop(batch);
        let again = aggregator.collect(UnixTime(START + 2 * SECOND)).unwrap();
        assert_eq!(again.points(), 4, "zero is told once");
        drop(again);
        assert!(ledger.is_closed());
    }
}

#[test]
fn a_resource_that_several_aggregators_know_ends_in_each_of_them() {
    let (mut first, _) = aggregator(Temporality::Cumulative);
    let (mut second, _) = aggregator(Temporality::Cumulative);
    let shop = resource("shop");
    first.record(&shop, &measured("/a", 1.0));
    second.record(&shop, &measured("/a", 1.0));
    drop(shop);
    // What was measured is told once more, also when nobody else holds the resource.
    for aggregator in [&mut first, &mut second] {
        assert!(aggregator.collect(UnixTime(START + SECOND)).is_some());
    }
    for aggregator in [&mut first, &mut second] {
        assert!(aggregator.collect(UnixTime(START + 2 * SECOND)).is_none());
        let stats = aggregator.stats();
        assert_eq!((stats.series, stats.resources, stats.ended), (0, 0, 2));
    }
}

#[test]
fn new_processes_have_metrics_however_many_were_there_before() {
    for temporality in [Temporality::Delta, Temporality::Cumulative] {
        let (mut aggregator, ledger) = with(AggregatorSettings {
            max_series: 16,
            temporality,
            ..AggregatorSettings::default()
        });
        // All of them stay, and each has two series.
        let services: Vec<_> = (0..100).map(|_| resource("shop")).collect();
        let mut counted = 0;
        for (at, service) in (1..).zip(&services) {
            aggregator.record(service, &measured("/", 1.0));
            let batch = aggregator.collect(UnixTime(START + at * SECOND)).unwrap();
            let points = points(&batch, DURATION.name);
            let newest = points.iter().rev().find(|point| point.summary.count > 0);
            counted += newest.unwrap().summary.count;
            let resources = batch.resources.iter();
            let told = resources.filter(|each| Arc::ptr_eq(&each.resource, service));
            assert_eq!(told.count(), 1, "the newest is told");
        }
        assert_eq!(counted, 100);
        let stats = aggregator.stats();
        assert!(stats.series <= 16, "{stats:?}");
        assert_eq!(stats.refused, 0);
        if temporality == Temporality::Cumulative {
            assert_eq!(stats.evicted, 2 * (100 - 8), "{stats:?}");
        }
        assert!(ledger.is_closed());
        assert_eq!(ledger.measurements.snapshot().settled, 200);
    }
}

#[test]
fn series_of_ended_processes_make_room_before_those_of_running_ones() {
    let (mut aggregator, _) = with(AggregatorSettings {
        max_series: 16,
        ..AggregatorSettings::default()
    });
    let running: Vec<_> = (0..4).map(|_| resource("running")).collect();
    for service in &running {
        aggregator.record(service, &measured("/", 1.0));
    }
    let ended: Vec<_> = (0..4).map(|_| resource("ended")).collect();
    for service in &ended {
        aggregator.record(service, &measured("/", 1.0));
    }
    aggregator.collect(UnixTime(START + SECOND));
    drop(ended);
    let new: Vec<_> = (0..4).map(|_| resource("new")).collect();
    for service in &new {
        aggregator.record(service, &measured("/", 1.0));
    }
    assert_eq!(aggregator.stats().evicted, 0);
    let batch = aggregator.collect(UnixTime(START + 2 * SECOND)).unwrap();
    let names = batch
        .resources
        .iter()
        .map(|each| each.resource.service_name());
    let expected = [["running"; 4], ["new"; 4]].concat();
    assert_eq!(names.collect::<Vec<_>>(), expected);
}

#[test]
fn the_longest_idle_series_make_room_not_the_ones_that_were_there_first() {
    let (mut aggregator, _) = with(AggregatorSettings {
        max_series: 16,
        ..AggregatorSettings::default()
    });
    let services: Vec<_> = (0..9).map(|_| resource("shop")).collect();
    let (newest, first) = services.split_last().unwrap();
    for service in first {
        aggregator.record(service, &measured("/", 1.0));
    }
    aggregator.collect(UnixTime(START + SECOND));
    aggregator.record(&services[0], &measured("/", 1.0));
    aggregator.record(newest, &measured("/", 1.0));
    let batch = aggregator.collect(UnixTime(START + 2 * SECOND)).unwrap();
    let told = |service| {
        let mut all = batch.resources.iter();
        all.any(|each| Arc::ptr_eq(&each.resource, service))
    };
    let still: Vec<bool> = services.iter().map(told).collect();
    assert_eq!(
        (still[0], still[1], still[8]),
        (true, false, true),
        "{still:?}"
    );
    assert_eq!(still.iter().filter(|told| **told).count(), 8);
}

proptest::proptest! {
    #[test]
    fn nothing_is_lost_and_no_times_overlap_where_series_end_for_want_of_room(
        records in proptest::collection::vec((0_u8..40, 0_u64..3_000_000, 0_u8..30), 1..300),
        delta: bool,
    ) {
        let temporality = if delta { Temporality::Delta } else { Temporality::Cumulative };
        let (mut aggregator, ledger) = with(AggregatorSettings {
            max_series: 16,
            temporality,
            ..AggregatorSettings::default()
        });
        let shop = resource("shop");
        let mut now = START;
        let mut all: Vec<MetricsBatch> = Vec::new();
        for (route, pause, then) in &records {
            now += pause;
            let mut one = measured(&format!("/{route}"), 1.0);
            one.span.end = UnixTime(now);
            aggregator.record(&shop, &one);
            all.extend(aggregator.take_last_points());
            assert!(aggregator.stats().series <= 16);
            if *then == 0 {
                all.extend(aggregator.collect(UnixTime(now)));
            }
        }
        all.extend(aggregator.collect(UnixTime(now)));
        let mut series: std::collections::BTreeMap<String, Vec<(u64, u64, u64)>> =
            std::collections::BTreeMap::new();
        for batch in &all {
            for (point, told) in all_points(batch, DURATION.name).into_iter().zip(told(batch)) {
                series.entry(format!("{:?}", route(point))).or_default().push(told);
            }
        }
        let mut total = 0;
        for told in series.values() {
            let (mut count, mut last) = (0, None);
            for (at, (counted, start, time)) in told.iter().enumerate() {
                assert!(last.is_none_or(|last| last < *time), "{told:?}");
                if delta {
                    assert!(last.is_none_or(|last| last <= *start), "{told:?}");
                    count += counted;
                } else if at == 0 || told[at - 1].1 != *start {
                    assert_eq!((*counted, *start), (0, *time), "begins with zero: {told:?}");
                    let one_before = at.checked_sub(1).and_then(|before| told.get(before));
                    count += one_before.map_or(0, |before| before.0);
                } else {
                    assert!(told[at - 1].0 <= *counted, "only grows: {told:?}");
                }
                last = Some(*time);
            }
            total += count + if delta { 0 } else { told.last().map_or(0, |last| last.0) };
        }
        assert_eq!(total, records.len() as u64);
        drop(all);
        assert!(ledger.is_closed());
    }
}

#[test]
fn the_exemplar_is_the_sampled_span_of_the_greatest_value() {
    let (mut aggregator, _) = aggregator(Temporality::Delta);
    let shop = resource("shop");
    for value in [3.0, 9.0, 4.0] {
        aggregator.record(&shop, &measured("/a", value));
    }
    let mut unsampled = measured("/a", 50.0);
    unsampled.span.trace_flags = 0;
    aggregator.record(&shop, &unsampled);
    let batch = aggregator.collect(UnixTime(START + SECOND)).unwrap();
    let exemplars = &points(&batch, DURATION.name)[0].head.exemplars;
    assert_eq!(exemplars.len(), 1);
    assert_eq!(
        (exemplars[0].value, exemplars[0].span_id),
        (9.0, SpanId([9; 8]))
    );
    assert_eq!(exemplars[0].time, UnixTime(START + 500));
}

#[test]
fn a_series_that_is_known_costs_no_allocation() {
    let (mut aggregator, _) = aggregator(Temporality::Cumulative);
    let shop = resource("shop");
    let values = [
        measured("/a", 0.001),
        measured("/a", 9.0),
        measured("/a", 0.5),
    ];
    for value in &values {
        aggregator.record(&shop, value);
    }
    let heap = allocation_counter::measure(|| {
        for value in &values {
            aggregator.record(&shop, value);
        }
    });
    assert_eq!(heap.count_total, 0);
}

#[test]
fn values_that_no_histogram_can_hold_are_refused() {
    let (mut aggregator, ledger) = aggregator(Temporality::Delta);
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        aggregator.record(&resource("shop"), &measured("/a", value));
    }
    assert!(aggregator.collect(UnixTime(START + SECOND)).is_none());
    assert_eq!(aggregator.stats().refused, 6);
    let account = ledger.measurements.snapshot();
    assert_eq!((account.seen, account.settled), (6, 0));
    assert_eq!(account.dropped["metrics.invalid_value"], 6);
    assert!(ledger.is_closed());
    let said = aggregator.overflow_report().read();
    assert!(
        said.to_string().starts_with("6 measurements were left out"),
        "{said}"
    );
}

#[test]
fn explicit_bounds_depend_on_the_unit() {
    let (mut aggregator, _) = with(AggregatorSettings {
        histogram: HistogramSettings::Explicit(ExplicitBounds::default()),
        ..AggregatorSettings::default()
    });
    aggregator.record(&resource("shop"), &measured("/a", 0.003));
    let batch = aggregator.collect(UnixTime(START + SECOND)).unwrap();
    let bounds: Vec<_> = batch.resources[0]
        .metrics
        .iter()
        .map(|metric| match &metric.data {
            MetricData::Histogram(Temporality::Cumulative, points) => {
                let point = points.last().unwrap();
                let at = point.counts.iter().position(|count| *count == 1).unwrap();
                (point.bounds[at - 1], point.bounds[at])
            }
            other => panic!("not explicit: {other:?}"),
        })
        .collect();
    assert_eq!(bounds, [(0.0025, 0.005), (0.0, 128.0)]);
}

proptest::proptest! {
    #[test]
    fn no_value_is_lost_or_counted_twice_whatever_the_order(
        records in proptest::collection::vec((0_usize..3, 0_u8..6, 0.0_f64..10.0, 0_u8..8), 1..200),
        delta: bool,
    ) {
        let temporality = if delta { Temporality::Delta } else { Temporality::Cumulative };
        let (mut aggregator, ledger) = aggregator(temporality);
        let resources = [resource("a"), resource("b"), resource("c")];
        let (mut count, mut now) = (0, START);
        for (at, route, value, then) in &records {
            aggregator.record(&resources[*at], &measured(&format!("/{route}"), *value));
            // Now and then the window ends.
            if *then == 0 {
                now += SECOND;
                let batch = aggregator.collect(UnixTime(now)).unwrap();
                let here: u64 =
                    points(&batch, DURATION.name).iter().map(|point| point.summary.count).sum();
                count = if delta { count + here } else { here };
            }
        }
        now += SECOND;
        if let Some(batch) = aggregator.collect(UnixTime(now)) {
            let all = points(&batch, DURATION.name);
            let here: u64 = all.iter().map(|point| point.summary.count).sum();
            for point in all {
                let buckets: u64 = point.counts.iter().sum();
                assert_eq!(buckets + point.zero_count, point.summary.count);
                assert!(point.head.start < point.head.time);
            }
            count = if delta { count + here } else { here };
        }
        assert_eq!(count, records.len() as u64);
        assert!(ledger.is_closed());
    }
}

#[test]
fn an_overflowing_metric_is_reported_with_the_attribute_that_has_the_most_values() {
    let (mut aggregator, _) = with(AggregatorSettings {
        cardinality_limit: 10,
        ..AggregatorSettings::default()
    });
    let report = aggregator.overflow_report();
    let (shop, bank) = (resource("shop"), resource("bank"));
    for n in 0..500 {
        let mut one = measured(&format!("/users/{n}"), 1.0);
        let method = if n % 2 == 0 { "GET" } else { "PUT" };
        let attribute = Attribute::new("http.request.method", method);
        let rest = one.metric_attributes.iter().cloned();
        one.metric_attributes = std::iter::once(attribute).chain(rest).collect();
        one.measurements.truncate(1);
        aggregator.record(&shop, &one);
        aggregator.record(&bank, &measured("/", 1.0));
    }
    assert_eq!(report.read(), super::Overflows::default());
    aggregator.collect(UnixTime(START + SECOND)).unwrap();
    let overflows = report.read();
    // Nine series and the overflow series fit.
    assert_eq!((overflows.overflowed, overflows.refused), (491, 0));
    let [offender] = &overflows.offenders[..] else {
        panic!("{overflows:?}");
    };
    assert_eq!(
        (offender.metric, offender.service.as_str()),
        (DURATION.name, "shop")
    );
    assert_eq!((offender.overflowed, offender.limit), (491, 10));
    let [(route, routes), (method, methods)] = &offender.keys[..] else {
        panic!("{offender:?}");
    };
    assert_eq!(
        (route.as_ref(), method.as_ref()),
        ("http.route", "http.request.method")
    );
    assert!((450..=550).contains(routes), "{routes}");
    assert_eq!(*methods, 2);
    let text = overflows.to_string();
    assert!(text.contains("http.server.request.duration of shop: 491 measurements beyond 10 series; values: http.route"), "{text}");
}

#[test]
fn reports_stay_bounded_however_many_services_overflow() {
    let (mut aggregator, _) = with(AggregatorSettings {
        cardinality_limit: 1,
        ..AggregatorSettings::default()
    });
    for number in 0..200 {
        let name = Attribute::new("service.name", format!("service-{number}"));
        let service = Arc::new(Resource::new(vec![name]));
        aggregator.record(&service, &measured("/", 1.0));
    }
    // Another process of the last one.
    let name = Attribute::new("service.name", "service-199");
    aggregator.record(&Arc::new(Resource::new(vec![name])), &measured("/", 1.0));
    aggregator.collect(UnixTime(START + SECOND)).unwrap();
    let overflows = aggregator.overflow_report().read();
    assert_eq!((overflows.offenders.len(), overflows.overflowed), (64, 402));
    let most = &overflows.offenders[0];
    assert_eq!((most.service.as_str(), most.overflowed), ("service-199", 2));
}

static REQUESTS: Instrument = Instrument {
    kind: InstrumentKind::Counter,
    name: "traces_service_graph_request_total",
    unit: "",
    description: "Requests.",
};

fn with_edge(server: &str) -> Measured {
    let mut one = measured("/a", 1.0);
    one.edge = Some(Box::new(Edge {
        attributes: [Attribute::new("server", server.to_owned())]
            .into_iter()
            .collect(),
        measurements: smallvec![
            Measurement {
                instrument: &REQUESTS,
                value: 1.0
            },
            Measurement {
                instrument: &DURATION,
                value: 1.0
            }
        ],
    }));
    one
}

fn sums(batch: &MetricsBatch) -> Vec<(String, i64)> {
    let metrics = batch.resources.iter().flat_map(|of| &of.metrics);
    let all = metrics.filter(|metric| metric.name == REQUESTS.name);
    all.flat_map(|metric| match &metric.data {
        MetricData::Sum(_, true, points) => points.clone(),
        other => panic!("no sum that only grows: {other:?}"),
    })
    .map(|point| {
        let Number::I64(value) = point.value else {
            panic!("{point:?}");
        };
        let [attribute] = &point.head.attributes[..] else {
            panic!("{point:?}");
        };
        (format!("{}={:?}", attribute.key, attribute.value), value)
    })
    .filter(|(_, value)| *value > 0)
    .collect()
}

#[test]
fn an_edge_of_the_service_graph_has_attributes_of_its_own_and_counts_as_a_sum() {
    for temporality in [Temporality::Delta, Temporality::Cumulative] {
        let (mut aggregator, ledger) = aggregator(temporality);
        let shop = resource("shop");
        for server in ["cart", "cart", "till"] {
            aggregator.record(&shop, &with_edge(server));
        }
        let first = aggregator.collect(UnixTime(START + SECOND)).unwrap();
        assert_eq!(
            sums(&first),
            [
                ("server=Str(\"cart\")".to_owned(), 2),
                ("server=Str(\"till\")".to_owned(), 1)
            ]
        );
        // The exchange's own series and those of two edges.
        assert_eq!(points(&first, DURATION.name).len(), 3);
        aggregator.record(&shop, &with_edge("cart"));
        let second = aggregator.collect(UnixTime(START + 2 * SECOND)).unwrap();
        let cart = sums(&second)[0].1;
        let delta = temporality == Temporality::Delta;
        assert_eq!(cart, if delta { 1 } else { 3 });
        drop((first, second));
        assert!(ledger.is_closed());
    }
}

#[test]
fn edges_beyond_the_limit_are_counted_in_the_overflow_series() {
    let (mut aggregator, _) = with(AggregatorSettings {
        cardinality_limit: 3,
        ..AggregatorSettings::default()
    });
    for _ in 0..50 {
        aggregator.record(&resource("shop"), &with_edge("cart"));
        let shop = resource("shop");
        for server in 0..10 {
            aggregator.record(&shop, &with_edge(&format!("server-{server}")));
        }
    }
    let batch = aggregator.collect(UnixTime(START + SECOND)).unwrap();
    let all = sums(&batch);
    let total: i64 = all.iter().map(|(_, count)| count).sum();
    assert_eq!(total, 550);
    let overflow = all.iter().filter(|(key, _)| key.contains("overflow"));
    assert_eq!(overflow.map(|(_, count)| count).sum::<i64>(), 400);
}
