//! The parts of a request together are the request: for traces, metrics and logs of any nesting.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, metric,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use prost::Message;

use super::*;

/// Resources of scopes of groups, each of so many items. Only metrics have groups within a scope.
type Nesting = Vec<Vec<Vec<(u8, u8)>>>;

fn nesting() -> impl Strategy<Value = Nesting> {
    let items = (0_u8..5, prop_oneof![Just(1), Just(2), 0_u8..40]);
    vec(vec(vec(items, 0..4), 0..3), 0..4)
}

fn text(key: &str, text: String) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }),
        ..KeyValue::default()
    }
}

fn resource(at: usize) -> Option<Resource> {
    Some(Resource {
        attributes: vec![text("service.name", format!("service {at}"))],
        ..Resource::default()
    })
}

fn scope(at: usize) -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: format!("scope {at}"),
        ..InstrumentationScope::default()
    })
}

fn traces(nesting: &Nesting) -> ExportTraceServiceRequest {
    let spans = |groups: &Vec<(u8, u8)>| {
        let count = groups.iter().map(|(_, count)| u64::from(*count)).sum();
        let span = |n: u64| Span {
            name: format!("span {n}"),
            start_time_unix_nano: n,
            ..Span::default()
        };
        (0..count).map(span).collect()
    };
    let scopes = |scopes: &Vec<Vec<_>>| {
        let scope = |(at, groups): (usize, &Vec<_>)| ScopeSpans {
            scope: scope(at),
            spans: spans(groups),
            schema_url: format!("https://scope/{at}"),
        };
        scopes.iter().enumerate().map(scope).collect()
    };
    let resource_spans = nesting.iter().enumerate().map(|(at, all)| ResourceSpans {
        resource: resource(at),
        scope_spans: scopes(all),
        schema_url: format!("https://resource/{at}"),
    });
    ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    }
}

fn logs(nesting: &Nesting) -> ExportLogsServiceRequest {
    let resource_logs = traces(nesting)
        .resource_spans
        .into_iter()
        .map(|of| ResourceLogs {
            resource: of.resource,
            scope_logs: of
                .scope_spans
                .into_iter()
                .map(|of| ScopeLogs {
                    scope: of.scope,
                    log_records: of
                        .spans
                        .into_iter()
                        .map(|span| LogRecord {
                            time_unix_nano: span.start_time_unix_nano,
                            body: text("", span.name).value,
                            ..LogRecord::default()
                        })
                        .collect(),
                    schema_url: of.schema_url,
                })
                .collect(),
            schema_url: of.schema_url,
        });
    ExportLogsServiceRequest {
        resource_logs: resource_logs.collect(),
    }
}

fn metric_of(at: usize, kind: u8, count: u8) -> Metric {
    let times = 0..u64::from(count);
    let numbers = || {
        let point = |time_unix_nano| NumberDataPoint {
            time_unix_nano,
            ..NumberDataPoint::default()
        };
        times.clone().map(point).collect()
    };
    let data = match kind {
        0 => metric::Data::Gauge(Gauge {
            data_points: numbers(),
        }),
        1 => metric::Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        2 => metric::Data::Histogram(Histogram {
            data_points: times
                .map(|time_unix_nano| HistogramDataPoint {
                    time_unix_nano,
                    bucket_counts: vec![1, 2, 3],
                    ..HistogramDataPoint::default()
                })
                .collect(),
            aggregation_temporality: 1,
        }),
        3 => metric::Data::ExponentialHistogram(ExponentialHistogram {
            data_points: times
                .map(|time_unix_nano| ExponentialHistogramDataPoint {
                    time_unix_nano,
                    scale: -3,
                    ..ExponentialHistogramDataPoint::default()
                })
                .collect(),
            aggregation_temporality: 1,
        }),
        _ => metric::Data::Summary(Summary {
            data_points: times
                .map(|time_unix_nano| SummaryDataPoint {
                    time_unix_nano,
                    ..SummaryDataPoint::default()
                })
                .collect(),
        }),
    };
    Metric {
        name: format!("metric {at}"),
        unit: "s".into(),
        data: Some(data),
        ..Metric::default()
    }
}

fn metrics(nesting: &Nesting) -> ExportMetricsServiceRequest {
    let scopes = |scopes: &Vec<Vec<(u8, u8)>>| {
        let scope = |(at, of): (usize, &Vec<(u8, u8)>)| ScopeMetrics {
            scope: scope(at),
            metrics: of
                .iter()
                .enumerate()
                .map(|(at, (kind, count))| metric_of(at, *kind, *count))
                .collect(),
            schema_url: String::new(),
        };
        scopes.iter().enumerate().map(scope).collect()
    };
    let resource_metrics = nesting.iter().enumerate().map(|(at, all)| ResourceMetrics {
        resource: resource(at),
        scope_metrics: scopes(all),
        schema_url: "https://schema".into(),
    });
    ExportMetricsServiceRequest {
        resource_metrics: resource_metrics.collect(),
    }
}

/// Each item with all that stands around it.
fn items(shape: Shape, body: &[u8]) -> Vec<Vec<u8>> {
    let total = count(shape.0, body).unwrap();
    let only = |at: usize| {
        let (from, to) = (at, at + 1);
        let mut out = Vec::new();
        copy(shape.0, body, &mut Cursor { at: 0, from, to }, &mut out).unwrap();
        out
    };
    (0..total).map(only).collect()
}

fn decoded<M: Message + Default>(bodies: impl IntoIterator<Item = Vec<u8>>) -> Vec<M> {
    let decode = |body: Vec<u8>| M::decode(&*body).unwrap();
    bodies.into_iter().map(decode).collect()
}

/// Cuts until nothing can be cut; every part is a valid request without empty envelopes, and their items, each
/// decoded with its surroundings, are those of the whole in the same order.
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(
    shape: Shape,
    whole: &M,
    has_empty: fn(&M) -> bool,
) {
    let body = whole.encode_to_vec();
    let expected: Vec<M> = decoded(items(shape, &body));
    let mut parts = vec![body];
    let mut singles: Vec<Vec<u8>> = Vec::new();
    while let Some(part) = parts.pop() {
        match split_in_two(shape, &part) {
            Some([first, second]) => {
                assert!(first.items.abs_diff(second.items) <= 1);
                for half in [&first, &second] {
                    assert_eq!(count(shape.0, &half.body), Some(half.items));
                    assert!(!has_empty(&M::decode(&*half.body).unwrap()));
                }
                parts.push(second.body.to_vec());
                parts.push(first.body.to_vec());
            }
            None => singles.extend(items(shape, &part)),
        }
    }
    assert_eq!(decoded::<M>(singles), expected);
}

proptest::proptest! {
    #[test]
    fn the_parts_of_traces_decode_to_the_whole(nesting in nesting()) {
        check(Shape::TRACES, &traces(&nesting), |request| {
            request.resource_spans.iter().any(|of| {
                of.scope_spans.is_empty() || of.scope_spans.iter().any(|of| of.spans.is_empty())
            })
        });
    }

    #[test]
    fn the_parts_of_metrics_decode_to_the_whole(nesting in nesting()) {
        check(Shape::METRICS, &metrics(&nesting), |request| {
            request.resource_metrics.iter().any(|of| {
                of.scope_metrics.is_empty() || of.scope_metrics.iter().any(|of| of.metrics.is_empty())
            })
        });
    }

    #[test]
    fn the_parts_of_logs_decode_to_the_whole(nesting in nesting()) {
        check(Shape::LOGS, &logs(&nesting), |request| {
            request.resource_logs.iter().any(|of| {
                of.scope_logs.is_empty() || of.scope_logs.iter().any(|of| of.log_records.is_empty())
            })
        });
    }

    #[test]
    fn what_is_no_request_is_not_cut(bytes in vec(any::<u8>(), 0..200)) {
        for shape in [Shape::TRACES, Shape::METRICS] {
            if let Some([first, second]) = split_in_two(shape, &bytes) {
                assert!(first.items > 0 && second.items > 0);
            }
        }
    }
}

#[test]
fn the_items_of_a_whole_are_all_there_with_their_surroundings() {
    // The oracle of the properties above must itself see what prost sees.
    let request = traces(&vec![vec![vec![(0, 2)], vec![(0, 1)]], vec![vec![(0, 3)]]]);
    let singles: Vec<ExportTraceServiceRequest> =
        decoded(items(Shape::TRACES, &request.encode_to_vec()));
    assert_eq!(singles.len(), 6);
    let second = &request.resource_spans[0].scope_spans[1];
    let found = &singles[2].resource_spans[0];
    assert_eq!(found.resource, request.resource_spans[0].resource);
    assert_eq!(found.schema_url, request.resource_spans[0].schema_url);
    assert_eq!(found.scope_spans, std::slice::from_ref(second));
    let metrics = metrics(&vec![vec![vec![(0, 2), (1, 2), (2, 1), (3, 1), (4, 1)]]]);
    let total = count(Shape::METRICS.0, &metrics.encode_to_vec());
    assert_eq!(total, Some(7));
}
