//! Our OTLP/JSON of an encoded request, read by opentelemetry-proto, is what prost reads from the request.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use prost::Message;
use serde::de::DeserializeOwned;

use super::*;

/// The oracle reads decimals to the last bit only where they are short, and wants a key to be there.
fn double() -> impl Strategy<Value = f64> {
    any::<i32>().prop_map(|eighths| f64::from(eighths) / 8.0)
}

fn key() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| format!("k{text}"))
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        any::<String>().prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        double().prop_map(Value::DoubleValue),
        vec(any::<u8>(), 0..9).prop_map(Value::BytesValue),
    ];
    let wrap = |value| AnyValue { value: Some(value) };
    leaf.prop_map(wrap).prop_recursive(3, 12, 3, move |inner| {
        let pair = (key(), inner.clone()).prop_map(|(key, value)| KeyValue {
            key,
            value: Some(value),
            ..KeyValue::default()
        });
        prop_oneof![
            vec(inner, 1..3).prop_map(move |values| wrap(Value::ArrayValue(ArrayValue { values }))),
            vec(pair, 1..3)
                .prop_map(move |values| wrap(Value::KvlistValue(KeyValueList { values }))),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = (key(), any_value()).prop_map(|(key, value)| KeyValue {
        key,
        value: Some(value),
        ..KeyValue::default()
    });
    vec(pair, 0..3)
}

fn id() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), vec(any::<u8>(), 16)]
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    let entity = Just(vec![EntityRef {
        schema_url: "https://schema".into(),
        r#type: "service".into(),
        id_keys: vec!["service.name".into(), "service.namespace".into()],
        description_keys: vec!["service.version".into()],
    }]);
    let some = (attributes(), any::<u32>(), entity).prop_map(|(attributes, dropped, refs)| {
        Some(Resource {
            attributes,
            dropped_attributes_count: dropped,
            entity_refs: refs,
        })
    });
    prop_oneof![Just(None), some]
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    (any::<String>(), attributes()).prop_map(|(name, attributes)| {
        Some(InstrumentationScope {
            name,
            version: "1".into(),
            attributes,
            dropped_attributes_count: 1,
        })
    })
}

fn span() -> impl Strategy<Value = Span> {
    (
        (id(), any::<String>(), attributes(), attributes()),
        (any::<u64>(), any::<u32>(), 0..6, 0..3),
    )
        .prop_map(
            |((id, text, one, other), (time, number, kind, code))| Span {
                trace_id: id.clone(),
                span_id: id.iter().copied().take(8).collect(),
                trace_state: text.clone(),
                parent_span_id: id.iter().copied().skip(8).collect(),
                flags: number,
                name: text.clone(),
                kind,
                start_time_unix_nano: time,
                end_time_unix_nano: u64::MAX - time,
                attributes: one,
                dropped_attributes_count: number,
                events: vec![Event {
                    time_unix_nano: time,
                    name: text.clone(),
                    attributes: other.clone(),
                    dropped_attributes_count: number,
                }],
                dropped_events_count: number,
                links: vec![Link {
                    trace_id: id.clone(),
                    span_id: id,
                    trace_state: text.clone(),
                    attributes: other,
                    dropped_attributes_count: number,
                    flags: number,
                }],
                dropped_links_count: number,
                status: Some(Status {
                    message: text,
                    code,
                }),
            },
        )
}

fn traces() -> impl Strategy<Value = ExportTraceServiceRequest> {
    (resource(), scope(), vec(span(), 1..3)).prop_map(|(resource, scope, spans)| {
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource,
                scope_spans: vec![ScopeSpans {
                    scope,
                    spans,
                    schema_url: "https://scope".into(),
                }],
                schema_url: "https://resource".into(),
            }],
        }
    })
}

fn metric_data() -> impl Strategy<Value = metric::Data> {
    let kinds = 0..6_u8;
    let numbers = (any::<u64>(), any::<i64>(), double(), any::<i32>());
    (kinds, numbers, attributes(), id(), vec(any::<u64>(), 0..5)).prop_map(
        |(kind, (time, whole, double, scale), attributes, id, counts)| {
            let exemplars = vec![
                Exemplar {
                    filtered_attributes: attributes.clone(),
                    time_unix_nano: time,
                    span_id: id.clone(),
                    trace_id: id,
                    value: Some(exemplar::Value::AsInt(whole)),
                },
                Exemplar {
                    value: Some(exemplar::Value::AsDouble(double)),
                    ..Exemplar::default()
                },
            ];
            let number = |value| NumberDataPoint {
                attributes: attributes.clone(),
                start_time_unix_nano: time,
                time_unix_nano: time,
                exemplars: exemplars.clone(),
                flags: 1,
                value: Some(value),
            };
            let buckets = |offset| Buckets {
                offset,
                bucket_counts: counts.clone(),
            };
            match kind {
                0 => metric::Data::Gauge(Gauge {
                    data_points: vec![number(number_data_point::Value::AsInt(whole))],
                }),
                1 => metric::Data::Sum(Sum {
                    data_points: vec![number(number_data_point::Value::AsDouble(double))],
                    aggregation_temporality: 2,
                    is_monotonic: true,
                }),
                2 => metric::Data::Histogram(Histogram {
                    data_points: vec![HistogramDataPoint {
                        attributes: attributes.clone(),
                        time_unix_nano: time,
                        count: time,
                        sum: Some(double),
                        explicit_bounds: vec![0.005, 0.25, double],
                        bucket_counts: counts,
                        exemplars,
                        min: Some(double),
                        max: None,
                        ..HistogramDataPoint::default()
                    }],
                    aggregation_temporality: 1,
                }),
                3 => metric::Data::Summary(Summary {
                    data_points: vec![SummaryDataPoint {
                        attributes,
                        count: time,
                        sum: double,
                        quantile_values: vec![ValueAtQuantile {
                            quantile: 0.5,
                            value: double,
                        }],
                        ..SummaryDataPoint::default()
                    }],
                }),
                _ => metric::Data::ExponentialHistogram(ExponentialHistogram {
                    data_points: vec![ExponentialHistogramDataPoint {
                        attributes: attributes.clone(),
                        time_unix_nano: time,
                        count: time,
                        sum: Some(double),
                        scale,
                        zero_count: time,
                        positive: Some(buckets(scale)),
                        negative: Some(buckets(-1)),
                        exemplars,
                        max: Some(double),
                        zero_threshold: 1e-9,
                        ..ExponentialHistogramDataPoint::default()
                    }],
                    aggregation_temporality: 1,
                }),
            }
        },
    )
}

fn metrics() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let metric =
        (any::<String>(), attributes(), metric_data()).prop_map(|(name, metadata, data)| Metric {
            description: name.clone(),
            unit: "By".into(),
            name,
            metadata,
            data: Some(data),
        });
    (resource(), scope(), vec(metric, 1..3)).prop_map(|(resource, scope, metrics)| {
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource,
                scope_metrics: vec![ScopeMetrics {
                    scope,
                    metrics,
                    schema_url: String::new(),
                }],
                schema_url: "https://resource".into(),
            }],
        }
    })
}

fn logs() -> impl Strategy<Value = ExportLogsServiceRequest> {
    (
        resource(),
        scope(),
        id(),
        any_value(),
        attributes(),
        any::<u64>(),
    )
        .prop_map(
            |(resource, scope, id, body, attributes, time)| ExportLogsServiceRequest {
                resource_logs: vec![ResourceLogs {
                    resource,
                    scope_logs: vec![ScopeLogs {
                        scope,
                        log_records: vec![LogRecord {
                            time_unix_nano: time,
                            observed_time_unix_nano: time,
                            severity_number: 9,
                            severity_text: "INFO".into(),
                            body: Some(body),
                            attributes,
                            dropped_attributes_count: 1,
                            flags: 257,
                            trace_id: id.clone(),
                            span_id: id,
                            event_name: "event".into(),
                        }],
                        schema_url: String::new(),
                    }],
                    schema_url: String::new(),
                }],
            },
        )
}

fn check<M: Message + DeserializeOwned + PartialEq + std::fmt::Debug>(root: Root, request: &M) {
    let json = json_of(root, &request.encode_to_vec()).unwrap();
    let read: M = serde_json::from_slice(&json)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json)));
    assert_eq!(&read, request);
}

proptest::proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn traces_as_json_are_read_as_they_were(request in traces()) {
        check(Root::TRACES, &request);
    }

    #[test]
    fn metrics_as_json_are_read_as_they_were(request in metrics()) {
        check(Root::METRICS, &request);
    }

    #[test]
    fn logs_as_json_are_read_as_they_were(request in logs()) {
        check(Root::LOGS, &request);
    }

    #[test]
    fn any_bytes_give_json_or_nothing(bytes in vec(any::<u8>(), 0..300)) {
        for root in [Root::TRACES, Root::METRICS, Root::LOGS] {
            if let Some(json) = json_of(root, &bytes) {
                serde_json::from_slice::<serde_json::Value>(&json).unwrap();
            }
        }
    }
}

#[test]
fn rule_33_to_36_ids_are_hex_enums_numbers_keys_camel_case_and_64_bit_integers_strings() {
    let text = |key: &str, value| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: vec![Span {
                    trace_id: vec![0xAB; 16],
                    span_id: vec![0x0c; 8],
                    name: "GET \"/\"".into(),
                    kind: 3,
                    start_time_unix_nano: u64::MAX,
                    attributes: vec![
                        text("n", Value::IntValue(-1)),
                        text("bytes", Value::BytesValue(vec![0xff, 0xfe])),
                        text("nan", Value::DoubleValue(f64::NAN)),
                    ],
                    status: Some(Status {
                        code: 2,
                        ..Status::default()
                    }),
                    ..Span::default()
                }],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let json = json_of(Root::TRACES, &request.encode_to_vec()).unwrap();
    assert_eq!(
        String::from_utf8(json).unwrap(),
        concat!(
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"abababababababababababababababab","#,
            r#""spanId":"0c0c0c0c0c0c0c0c","name":"GET \"/\"","kind":3,"startTimeUnixNano":"18446744073709551615","#,
            r#""attributes":[{"key":"n","value":{"intValue":"-1"}},{"key":"bytes","value":{"bytesValue":"//4="}},"#,
            r#"{"key":"nan","value":{"doubleValue":"NaN"}}],"status":{"code":2}}]}]}]}"#
        )
    );
    assert_eq!(json_of(Root::TRACES, b"").unwrap(), b"{}");
}

#[test]
fn a_value_nested_without_end_is_refused_and_not_followed() {
    let mut value = AnyValue::default();
    for _ in 0..1000 {
        value = AnyValue {
            value: Some(Value::ArrayValue(ArrayValue {
                values: vec![value],
            })),
        };
    }
    let log = LogRecord {
        body: Some(value),
        ..LogRecord::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![log],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    assert_eq!(json_of(Root::LOGS, &request.encode_to_vec()), None);
}
