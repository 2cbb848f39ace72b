//! Tests of the encoder against opentelemetry-proto: what we write must decode to what prost would have written.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::metrics::v1 as pm;
use opentelemetry_proto::tonic::resource::v1 as pr;
use opentelemetry_proto::tonic::trace::v1 as pt;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use prost::Message;
use spandrel_model::{
    Attribute, Ledger, ProcessKey, Resource, SpanId, SpanKind, SpanRecord, SpanStatus, TraceId,
    UnixTime, Value,
};

use crate::batch::SpanBatcher;
use crate::metrics::{
    Exemplar, ExponentialPoint, HistogramPoint, Metric, MetricData, Number, NumberPoint, PointHead,
    ResourceMetrics, Summary, Temporality,
};
use crate::otlp::{
    Form, ResourceCache, SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION, encode_metrics, metrics_json,
};
use crate::queue::Request;
use crate::settings::BatchSettings;

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z.]{1,20}",
        "\\PC{0,200}",
        "[\u{0}-\u{7f}]{0,10}"
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        number().prop_map(Value::F64),
        text().prop_map(Value::from),
        proptest::collection::vec(text(), 0..4)
            .prop_map(|texts| Value::StrArray(texts.into_iter().map(Into::into).collect())),
    ]
}

pub(crate) fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
    proptest::collection::vec((text(), value()), 0..14).prop_map(|pairs| {
        pairs
            .into_iter()
            .map(|(k, v)| Attribute::new(k, v))
            .collect()
    })
}

fn span() -> impl Strategy<Value = SpanRecord> {
    let ids = (
        any::<[u8; 16]>(),
        any::<[u8; 8]>(),
        any::<Option<[u8; 8]>>(),
    );
    let flags = (any::<bool>(), any::<u8>(), any::<u32>());
    // Zero would be left out by prost, and is no time.
    let times = (1..=u64::MAX, 1..=u64::MAX);
    let kind = prop_oneof![
        Just(SpanKind::Internal),
        Just(SpanKind::Server),
        Just(SpanKind::Client),
        Just(SpanKind::Producer),
        Just(SpanKind::Consumer),
    ];
    let status = prop_oneof![
        Just(SpanStatus::Unset),
        text().prop_map(|text| SpanStatus::Error(text.into())),
    ];
    (
        (ids, flags, times),
        (text(), text()),
        kind,
        status,
        attributes(),
    )
        .prop_map(
            |((ids, flags, times), (state, name), kind, status, attributes)| SpanRecord {
                trace_id: TraceId(ids.0),
                span_id: SpanId(ids.1),
                parent_span_id: ids.2.map(SpanId),
                parent_is_remote: flags.0,
                trace_begun_here: false,
                trace_flags: flags.1,
                trace_state: state.into(),
                name: name.into(),
                kind,
                start: UnixTime(times.0),
                end: UnixTime(times.1),
                attributes,
                dropped_attributes: flags.2,
                status,
                process: ProcessKey {
                    tgid: 1,
                    started: 1,
                },
                cgroup: 0,
            },
        )
}

fn proto_text(text: &str) -> common::AnyValue {
    common::AnyValue {
        value: Some(common::any_value::Value::StringValue(text.into())),
    }
}

pub(crate) fn proto_attributes(attributes: &[Attribute]) -> Vec<common::KeyValue> {
    attributes
        .iter()
        .map(|attribute| common::KeyValue {
            key: attribute.key.to_string(),
            value: Some(proto_value(&attribute.value)),
            ..Default::default()
        })
        .collect()
}

pub(crate) fn proto_value(value: &Value) -> common::AnyValue {
    use common::any_value::Value as P;
    common::AnyValue {
        value: Some(match value {
            Value::Bool(value) => P::BoolValue(*value),
            Value::I64(value) => P::IntValue(*value),
            Value::F64(value) => P::DoubleValue(*value),
            Value::Str(value) => P::StringValue(value.to_string()),
            Value::StrArray(values) => P::ArrayValue(common::ArrayValue {
                values: values.iter().map(|text| proto_text(text)).collect(),
            }),
        }),
    }
}

fn proto_span(span: &SpanRecord) -> pt::Span {
    pt::Span {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        trace_state: span.trace_state.to_string(),
        parent_span_id: span
            .parent_span_id
            .map(|id| id.0.to_vec())
            .unwrap_or_default(),
        flags: u32::from(span.trace_flags) + if span.parent_is_remote { 0x300 } else { 0x100 },
        name: span.name.to_string(),
        kind: match span.kind {
            SpanKind::Internal => pt::span::SpanKind::Internal,
            SpanKind::Server => pt::span::SpanKind::Server,
            SpanKind::Client => pt::span::SpanKind::Client,
            SpanKind::Producer => pt::span::SpanKind::Producer,
            SpanKind::Consumer => pt::span::SpanKind::Consumer,
        }
        .into(),
        start_time_unix_nano: span.start.0,
        end_time_unix_nano: span.end.0,
        attributes: proto_attributes(&span.attributes),
        dropped_attributes_count: span.dropped_attributes,
        status: match &span.status {
            SpanStatus::Unset => None,
            SpanStatus::Error(message) => Some(pt::Status {
                message: message.to_string(),
                code: pt::status::StatusCode::Error.into(),
            }),
        },
        ..Default::default()
    }
}

pub(crate) fn proto_resource(resource: &Resource) -> Option<pr::Resource> {
    Some(pr::Resource {
        attributes: proto_attributes(resource.attributes()),
        ..Default::default()
    })
}

pub(crate) fn proto_scope() -> Option<common::InstrumentationScope> {
    Some(common::InstrumentationScope {
        name: SCOPE_NAME.into(),
        version: SCOPE_VERSION.into(),
        ..Default::default()
    })
}

/// The request that prost would make of spans grouped by resource in order of appearance.
fn proto_request(spans: &[(Arc<Resource>, SpanRecord)]) -> ExportTraceServiceRequest {
    let mut groups: Vec<(Arc<Resource>, Vec<pt::Span>)> = Vec::new();
    for (resource, span) in spans {
        match groups
            .iter_mut()
            .find(|(other, _)| other.id() == resource.id())
        {
            Some((_, group)) => group.push(proto_span(span)),
            None => groups.push((Arc::clone(resource), vec![proto_span(span)])),
        }
    }
    ExportTraceServiceRequest {
        resource_spans: groups
            .into_iter()
            .map(|(resource, spans)| pt::ResourceSpans {
                resource: proto_resource(&resource),
                scope_spans: vec![pt::ScopeSpans {
                    scope: proto_scope(),
                    spans,
                    schema_url: SCHEMA_URL.into(),
                }],
                schema_url: SCHEMA_URL.into(),
            })
            .collect(),
    }
}

fn batch(
    form: Form,
    max_request_bytes: usize,
    spans: &[(Arc<Resource>, SpanRecord)],
) -> (Vec<Request>, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let settings = BatchSettings {
        max_request_bytes,
        ..BatchSettings::default()
    };
    let mut batcher = SpanBatcher::new(settings, form, Arc::clone(&ledger));
    let mut requests: Vec<Request> = spans
        .iter()
        .filter_map(|(resource, span)| batcher.push(resource, span))
        .collect();
    requests.extend(batcher.flush());
    (requests, ledger)
}

fn with_resources(
    resources: Vec<Vec<Attribute>>,
    spans: Vec<(usize, SpanRecord)>,
) -> Vec<(Arc<Resource>, SpanRecord)> {
    let resources: Vec<_> = resources
        .into_iter()
        .map(|attributes| Arc::new(Resource::new(attributes)))
        .collect();
    spans
        .into_iter()
        .map(|(at, span)| (Arc::clone(&resources[at % resources.len()]), span))
        .collect()
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    #[test]
    fn a_request_decodes_to_what_prost_would_have_sent(
        resources in proptest::collection::vec(attributes(), 1..4),
        spans in proptest::collection::vec((0_usize..4, span()), 1..12),
    ) {
        let spans = with_resources(resources, spans);
        let (requests, _) = batch(Form::Protobuf, 1 << 30, &spans);
        assert_eq!(requests.len(), 1);
        let decoded = ExportTraceServiceRequest::decode(&*requests[0].body).unwrap();
        assert_eq!(decoded, proto_request(&spans));
        // Each resource was written once, in one piece.
        assert_eq!(decoded.encoded_len(), requests[0].body.len());
    }

    #[test]
    fn json_says_the_same_as_protobuf(
        resources in proptest::collection::vec(attributes(), 1..4),
        spans in proptest::collection::vec((0_usize..4, span()), 1..6),
    ) {
        let spans = with_resources(resources, spans);
        let (requests, _) = batch(Form::Json, 1 << 30, &spans);
        let line = std::str::from_utf8(&requests[0].body).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let mut decoded: ExportTraceServiceRequest = serde_json::from_str(line).unwrap();
        for span in decoded.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans).flat_map(|s| &mut s.spans) {
            // The JSON has an empty status object where there is none.
            span.status = span.status.take().filter(|status| status.code != 0);
        }
        assert_eq!(decoded, proto_request(&spans));
    }

    #[test]
    fn requests_stay_within_their_bytes_and_lose_no_span_unnoticed(
        resources in proptest::collection::vec(attributes(), 1..4),
        spans in proptest::collection::vec((0_usize..4, span()), 1..40),
        max in 600_usize..8000,
        json in any::<bool>(),
    ) {
        let spans = with_resources(resources, spans);
        let form = if json { Form::Json } else { Form::Protobuf };
        let (requests, ledger) = batch(form, max, &spans);
        let mut sent = 0;
        for request in &requests {
            assert!(request.body.len() <= max, "{} > {max}", request.body.len());
            assert!(request.carried.count() > 0);
            let decoded: ExportTraceServiceRequest = if json {
                serde_json::from_slice(&request.body).unwrap()
            } else {
                ExportTraceServiceRequest::decode(&*request.body).unwrap()
            };
            let count: usize = decoded.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
            assert_eq!(count as u64, request.carried.count());
            sent += count as u64;
        }
        let account = ledger.spans.snapshot();
        assert!(account.is_closed());
        assert_eq!(account.seen, spans.len() as u64);
        let lost = account.dropped.get(crate::reason::TOO_LARGE).copied().unwrap_or(0);
        assert_eq!(sent + lost, account.seen);
    }

    #[test]
    fn metrics_decode_to_what_prost_would_have_sent(
        batch in proptest::collection::vec(resource_metrics(), 1..4),
        max in 900_usize..20_000,
    ) {
        let mut cache = ResourceCache::new(Form::Protobuf, 8);
        let whole = encode_metrics(&batch, &mut cache, 1 << 30);
        let expected = proto_metrics(&batch);
        if expected.resource_metrics.is_empty() {
            assert!(whole.is_empty());
        } else {
            let decoded = ExportMetricsServiceRequest::decode(&*whole[0].body).unwrap();
            assert_eq!(decoded, expected);
            let json: ExportMetricsServiceRequest =
                serde_json::from_slice(&metrics_json(&batch)).unwrap();
            assert_eq!(json, expected);
        }
        for part in encode_metrics(&batch, &mut cache, max) {
            assert!(part.body.len() <= max);
            let decoded = ExportMetricsServiceRequest::decode(&*part.body).unwrap();
            assert_eq!(points_of(&decoded), part.points);
            assert!(part.points > 0);
        }
    }
}

fn points_of(request: &ExportMetricsServiceRequest) -> u64 {
    use pm::metric::Data;
    let metrics = request
        .resource_metrics
        .iter()
        .flat_map(|r| &r.scope_metrics)
        .flat_map(|s| &s.metrics);
    metrics
        .map(|metric| match metric.data.as_ref().unwrap() {
            Data::Gauge(data) => data.data_points.len(),
            Data::Sum(data) => data.data_points.len(),
            Data::Histogram(data) => data.data_points.len(),
            Data::ExponentialHistogram(data) => data.data_points.len(),
            Data::Summary(_) => panic!("no summaries are made"),
        } as u64)
        .sum()
}

fn number() -> impl Strategy<Value = f64> {
    // Short in decimal: serde_json reads longer ones with an error in the last place.
    any::<i32>().prop_map(|n| f64::from(n) / 256.0)
}

fn head() -> impl Strategy<Value = PointHead> {
    let exemplar = (any::<u64>(), number(), any::<[u8; 16]>(), any::<[u8; 8]>()).prop_map(
        |(time, value, trace, span)| Exemplar {
            time: UnixTime(time),
            value,
            trace_id: TraceId(trace),
            span_id: SpanId(span),
        },
    );
    let exemplars = proptest::collection::vec(exemplar, 0..3);
    (attributes(), any::<u64>(), any::<u64>(), exemplars).prop_map(
        |(attributes, start, time, exemplars)| PointHead {
            attributes: attributes.into(),
            start: UnixTime(start),
            time: UnixTime(time),
            exemplars,
        },
    )
}

fn summary() -> impl Strategy<Value = Summary> {
    (1..u64::MAX, number(), number(), number()).prop_map(|(count, sum, min, max)| Summary {
        count,
        sum,
        min,
        max,
    })
}

fn data() -> impl Strategy<Value = MetricData> {
    let numbers = || {
        let value = prop_oneof![
            any::<i64>().prop_map(Number::I64),
            number().prop_map(Number::F64)
        ];
        let point = (head(), value).prop_map(|(head, value)| NumberPoint { head, value });
        proptest::collection::vec(point, 1..4)
    };
    let temporality = || prop_oneof![Just(Temporality::Delta), Just(Temporality::Cumulative)];
    let counts = || proptest::collection::vec(any::<u64>(), 1..40);
    let histogram = (
        head(),
        summary(),
        proptest::collection::vec(number(), 1..6),
        counts(),
    )
        .prop_map(|(head, summary, bounds, counts)| HistogramPoint {
            head,
            summary,
            bounds: bounds.into(),
            counts,
        });
    let scale = (-10..21, any::<u64>(), any::<i32>());
    let exponential = (head(), summary(), scale, counts()).prop_map(
        |(head, summary, (scale, zero_count, offset), counts)| ExponentialPoint {
            head,
            summary,
            scale,
            zero_count,
            offset,
            counts,
        },
    );
    prop_oneof![
        numbers().prop_map(MetricData::Gauge),
        (temporality(), any::<bool>(), numbers()).prop_map(|(t, m, p)| MetricData::Sum(t, m, p)),
        (temporality(), proptest::collection::vec(histogram, 1..3))
            .prop_map(|(t, p)| MetricData::Histogram(t, p)),
        (temporality(), proptest::collection::vec(exponential, 1..3))
            .prop_map(|(t, p)| MetricData::ExponentialHistogram(t, p)),
    ]
}

fn resource_metrics() -> impl Strategy<Value = ResourceMetrics> {
    let metric =
        (text(), text(), text(), data()).prop_map(|(name, unit, description, data)| Metric {
            name: name.into(),
            unit: unit.into(),
            description: description.into(),
            data,
        });
    (attributes(), proptest::collection::vec(metric, 1..4)).prop_map(|(attributes, metrics)| {
        ResourceMetrics {
            resource: Arc::new(Resource::new(attributes)),
            metrics,
        }
    })
}

fn proto_exemplars(head: &PointHead) -> Vec<pm::Exemplar> {
    head.exemplars
        .iter()
        .map(|exemplar| pm::Exemplar {
            time_unix_nano: exemplar.time.0,
            span_id: exemplar.span_id.0.to_vec(),
            trace_id: exemplar.trace_id.0.to_vec(),
            value: Some(pm::exemplar::Value::AsDouble(exemplar.value)),
            ..Default::default()
        })
        .collect()
}

fn proto_number(point: &NumberPoint) -> pm::NumberDataPoint {
    pm::NumberDataPoint {
        attributes: proto_attributes(&point.head.attributes),
        start_time_unix_nano: point.head.start.0,
        time_unix_nano: point.head.time.0,
        exemplars: proto_exemplars(&point.head),
        value: Some(match point.value {
            Number::I64(value) => pm::number_data_point::Value::AsInt(value),
            Number::F64(value) => pm::number_data_point::Value::AsDouble(value),
        }),
        ..Default::default()
    }
}

fn proto_histogram(point: &HistogramPoint) -> pm::HistogramDataPoint {
    pm::HistogramDataPoint {
        attributes: proto_attributes(&point.head.attributes),
        start_time_unix_nano: point.head.start.0,
        time_unix_nano: point.head.time.0,
        exemplars: proto_exemplars(&point.head),
        count: point.summary.count,
        sum: Some(point.summary.sum),
        min: Some(point.summary.min),
        max: Some(point.summary.max),
        bucket_counts: point.counts.clone(),
        explicit_bounds: point.bounds.to_vec(),
        ..Default::default()
    }
}

fn proto_exponential(point: &ExponentialPoint) -> pm::ExponentialHistogramDataPoint {
    pm::ExponentialHistogramDataPoint {
        attributes: proto_attributes(&point.head.attributes),
        start_time_unix_nano: point.head.start.0,
        time_unix_nano: point.head.time.0,
        exemplars: proto_exemplars(&point.head),
        count: point.summary.count,
        sum: Some(point.summary.sum),
        min: Some(point.summary.min),
        max: Some(point.summary.max),
        scale: point.scale,
        zero_count: point.zero_count,
        positive: Some(pm::exponential_histogram_data_point::Buckets {
            offset: point.offset,
            bucket_counts: point.counts.clone(),
        }),
        ..Default::default()
    }
}

fn proto_data(data: &MetricData) -> pm::metric::Data {
    match data {
        MetricData::Gauge(points) => pm::metric::Data::Gauge(pm::Gauge {
            data_points: points.iter().map(proto_number).collect(),
        }),
        MetricData::Sum(temporality, is_monotonic, points) => pm::metric::Data::Sum(pm::Sum {
            data_points: points.iter().map(proto_number).collect(),
            aggregation_temporality: *temporality as i32,
            is_monotonic: *is_monotonic,
        }),
        MetricData::Histogram(temporality, points) => pm::metric::Data::Histogram(pm::Histogram {
            data_points: points.iter().map(proto_histogram).collect(),
            aggregation_temporality: *temporality as i32,
        }),
        MetricData::ExponentialHistogram(temporality, points) => {
            pm::metric::Data::ExponentialHistogram(pm::ExponentialHistogram {
                data_points: points.iter().map(proto_exponential).collect(),
                aggregation_temporality: *temporality as i32,
            })
        }
    }
}

fn proto_metrics(batch: &[ResourceMetrics]) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: batch
            .iter()
            .map(|resource| pm::ResourceMetrics {
                resource: proto_resource(&resource.resource),
                scope_metrics: vec![pm::ScopeMetrics {
                    scope: proto_scope(),
                    metrics: resource
                        .metrics
                        .iter()
                        .map(|metric| pm::Metric {
                            name: metric.name.to_string(),
                            unit: metric.unit.to_string(),
                            description: metric.description.to_string(),
                            data: Some(proto_data(&metric.data)),
                            ..Default::default()
                        })
                        .collect(),
                    schema_url: SCHEMA_URL.into(),
                }],
                schema_url: SCHEMA_URL.into(),
            })
            .collect(),
    }
}
