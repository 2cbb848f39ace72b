//! What was handed to the exporter, as the types of opentelemetry-proto say it: what a Collector has to have written down.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::logs::v1 as pl;
use opentelemetry_proto::tonic::metrics::v1 as pm;
use opentelemetry_proto::tonic::resource::v1 as pr;
use opentelemetry_proto::tonic::trace::v1 as pt;
use spandrel_exporter::logs::{LogRecord, ResourceLogs};
use spandrel_exporter::metrics::{
    ExponentialPoint, HistogramPoint, MetricData, Number, NumberPoint, PointHead, ResourceMetrics,
};
use spandrel_exporter::otlp::{SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION};
use spandrel_model::{Attribute, Resource, SpanKind, SpanRecord, SpanStatus, Value};

/// One item of a signal with everything that it is sent under.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item<T> {
    pub(crate) resource: Option<pr::Resource>,
    pub(crate) scope: Option<common::InstrumentationScope>,
    pub(crate) schema_urls: [String; 2],
    pub(crate) item: T,
}

impl<T> Item<T> {
    /// Sent by this agent for a resource.
    fn of(resource: &Resource, item: T) -> Self {
        Self {
            resource: Some(pr::Resource {
                attributes: attributes(resource.attributes()),
                ..Default::default()
            }),
            scope: Some(common::InstrumentationScope {
                name: SCOPE_NAME.into(),
                version: SCOPE_VERSION.into(),
                ..Default::default()
            }),
            schema_urls: [SCHEMA_URL.into(), SCHEMA_URL.into()],
            item,
        }
    }
}

/// What should be written of a span.
pub(crate) fn span_item(resource: &Resource, span: &SpanRecord) -> Item<pt::Span> {
    Item::of(resource, self::span(span))
}

/// What should be written of metrics, a metric at a time.
pub(crate) fn metric_items(batch: &[ResourceMetrics]) -> Vec<Item<pm::Metric>> {
    let mut items = Vec::new();
    for each in batch {
        for metric in &each.metrics {
            let metric = pm::Metric {
                name: metric.name.to_string(),
                unit: metric.unit.to_string(),
                description: metric.description.to_string(),
                data: Some(data(&metric.data)),
                ..Default::default()
            };
            items.push(Item::of(&each.resource, metric));
        }
    }
    items
}

/// What should be written of log records.
pub(crate) fn log_items(batch: &[ResourceLogs]) -> Vec<Item<pl::LogRecord>> {
    let mut items = Vec::new();
    for each in batch {
        items.extend(
            each.records
                .iter()
                .map(|log| Item::of(&each.resource, self::log(log))),
        );
    }
    items
}

/// The spans of requests, in their order.
pub(crate) fn spans_of(requests: Vec<ExportTraceServiceRequest>) -> Vec<Item<pt::Span>> {
    let mut items = Vec::new();
    for group in requests
        .into_iter()
        .flat_map(|request| request.resource_spans)
    {
        for scope in group.scope_spans {
            for mut item in scope.spans {
                // In JSON, an empty object where there is none.
                item.status = item
                    .status
                    .filter(|status| *status != pt::Status::default());
                items.push(Item {
                    resource: group.resource.clone(),
                    scope: scope.scope.clone(),
                    schema_urls: [group.schema_url.clone(), scope.schema_url.clone()],
                    item,
                });
            }
        }
    }
    items
}

/// The metrics of requests, in their order.
pub(crate) fn metrics_of(requests: Vec<ExportMetricsServiceRequest>) -> Vec<Item<pm::Metric>> {
    let mut items = Vec::new();
    for group in requests
        .into_iter()
        .flat_map(|request| request.resource_metrics)
    {
        for scope in group.scope_metrics {
            for mut item in scope.metrics {
                without_empty_halves(&mut item);
                items.push(Item {
                    resource: group.resource.clone(),
                    scope: scope.scope.clone(),
                    schema_urls: [group.schema_url.clone(), scope.schema_url.clone()],
                    item,
                });
            }
        }
    }
    items
}

/// In JSON, a histogram without negative values has an empty object for them.
fn without_empty_halves(metric: &mut pm::Metric) {
    if let Some(pm::metric::Data::ExponentialHistogram(histogram)) = &mut metric.data {
        for point in &mut histogram.data_points {
            point.negative = point
                .negative
                .take()
                .filter(|half| !half.bucket_counts.is_empty());
        }
    }
}

/// The log records of requests, in their order.
pub(crate) fn logs_of(requests: Vec<ExportLogsServiceRequest>) -> Vec<Item<pl::LogRecord>> {
    let mut items = Vec::new();
    for group in requests
        .into_iter()
        .flat_map(|request| request.resource_logs)
    {
        for scope in group.scope_logs {
            for item in scope.log_records {
                items.push(Item {
                    resource: group.resource.clone(),
                    scope: scope.scope.clone(),
                    schema_urls: [group.schema_url.clone(), scope.schema_url.clone()],
                    item,
                });
            }
        }
    }
    items
}

fn text(text: &str) -> common::AnyValue {
    common::AnyValue {
        value: Some(common::any_value::Value::StringValue(text.into())),
    }
}

fn value(value: &Value) -> common::AnyValue {
    use common::any_value::Value as P;
    common::AnyValue {
        value: Some(match value {
            Value::Bool(value) => P::BoolValue(*value),
            Value::I64(value) => P::IntValue(*value),
            Value::F64(value) => P::DoubleValue(*value),
            Value::Str(value) => P::StringValue(value.to_string()),
            Value::StrArray(values) => P::ArrayValue(common::ArrayValue {
                values: values.iter().map(|each| text(each)).collect(),
            }),
        }),
    }
}

fn attributes(attributes: &[Attribute]) -> Vec<common::KeyValue> {
    let pair = |attribute: &Attribute| common::KeyValue {
        key: attribute.key.to_string(),
        value: Some(value(&attribute.value)),
        ..Default::default()
    };
    attributes.iter().map(pair).collect()
}

fn span(span: &SpanRecord) -> pt::Span {
    let kind = match span.kind {
        SpanKind::Internal => pt::span::SpanKind::Internal,
        SpanKind::Server => pt::span::SpanKind::Server,
        SpanKind::Client => pt::span::SpanKind::Client,
        SpanKind::Producer => pt::span::SpanKind::Producer,
        SpanKind::Consumer => pt::span::SpanKind::Consumer,
    };
    pt::Span {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        trace_state: span.trace_state.to_string(),
        parent_span_id: span.parent_span_id.map_or(Vec::new(), |id| id.0.to_vec()),
        // Whether the parent is remote is always known.
        flags: u32::from(span.trace_flags) + if span.parent_is_remote { 0x300 } else { 0x100 },
        name: span.name.to_string(),
        kind: kind.into(),
        start_time_unix_nano: span.start.0,
        end_time_unix_nano: span.end.0,
        attributes: attributes(&span.attributes),
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

fn log(log: &LogRecord) -> pl::LogRecord {
    pl::LogRecord {
        time_unix_nano: log.time.map_or(0, |time| time.0),
        observed_time_unix_nano: log.observed.0,
        severity_number: log.severity_number.into(),
        severity_text: log.severity_text.to_string(),
        body: log.body.as_ref().map(value),
        attributes: attributes(&log.attributes),
        dropped_attributes_count: log.dropped_attributes,
        flags: log.span.map_or(0, |(_, _, flags)| flags.into()),
        trace_id: log
            .span
            .map_or(Vec::new(), |(trace, _, _)| trace.0.to_vec()),
        span_id: log.span.map_or(Vec::new(), |(_, span, _)| span.0.to_vec()),
        event_name: log.event_name.to_string(),
    }
}

fn exemplars(head: &PointHead) -> Vec<pm::Exemplar> {
    let exemplars = head.exemplars.iter().map(|exemplar| pm::Exemplar {
        time_unix_nano: exemplar.time.0,
        span_id: exemplar.span_id.0.to_vec(),
        trace_id: exemplar.trace_id.0.to_vec(),
        value: Some(pm::exemplar::Value::AsDouble(exemplar.value)),
        ..Default::default()
    });
    exemplars.collect()
}

fn number(point: &NumberPoint) -> pm::NumberDataPoint {
    use pm::number_data_point::Value as P;
    pm::NumberDataPoint {
        attributes: attributes(&point.head.attributes),
        start_time_unix_nano: point.head.start.0,
        time_unix_nano: point.head.time.0,
        exemplars: exemplars(&point.head),
        value: Some(match point.value {
            Number::I64(value) => P::AsInt(value),
            Number::F64(value) => P::AsDouble(value),
        }),
        ..Default::default()
    }
}

fn histogram(point: &HistogramPoint) -> pm::HistogramDataPoint {
    pm::HistogramDataPoint {
        attributes: attributes(&point.head.attributes),
        start_time_unix_nano: point.head.start.0,
        time_unix_nano: point.head.time.0,
        exemplars: exemplars(&point.head),
        count: point.summary.count,
        sum: Some(point.summary.sum),
        min: Some(point.summary.min),
        max: Some(point.summary.max),
        bucket_counts: point.counts.clone(),
        explicit_bounds: point.bounds.to_vec(),
        ..Default::default()
    }
}

fn exponential(point: &ExponentialPoint) -> pm::ExponentialHistogramDataPoint {
    pm::ExponentialHistogramDataPoint {
        attributes: attributes(&point.head.attributes),
        start_time_unix_nano: point.head.start.0,
        time_unix_nano: point.head.time.0,
        exemplars: exemplars(&point.head),
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

fn data(data: &MetricData) -> pm::metric::Data {
    use pm::metric::Data;
    match data {
        MetricData::Gauge(points) => Data::Gauge(pm::Gauge {
            data_points: points.iter().map(number).collect(),
        }),
        MetricData::Sum(temporality, is_monotonic, points) => Data::Sum(pm::Sum {
            data_points: points.iter().map(number).collect(),
            aggregation_temporality: *temporality as i32,
            is_monotonic: *is_monotonic,
        }),
        MetricData::Histogram(temporality, points) => Data::Histogram(pm::Histogram {
            data_points: points.iter().map(histogram).collect(),
            aggregation_temporality: *temporality as i32,
        }),
        MetricData::ExponentialHistogram(temporality, points) => {
            Data::ExponentialHistogram(pm::ExponentialHistogram {
                data_points: points.iter().map(exponential).collect(),
                aggregation_temporality: *temporality as i32,
            })
        }
    }
}
