//! OTLP/JSON: hex ids, lowerCamelCase keys, 64-bit integers as strings, always in the same order.

use std::fmt::Write;

use spandrel_model::{Attribute, Resource, SpanRecord, SpanStatus, Text, Value};

use super::span::flags;
use super::{SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION};
use crate::metrics::{
    Exemplar, ExponentialPoint, HistogramPoint, Metric, MetricData, Number, NumberPoint, PointHead,
    ResourceMetrics, Summary,
};

/// Writes text into bytes; formatting into a vector cannot fail.
pub(super) struct Out<'a>(pub(super) &'a mut Vec<u8>);

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Out<'_> {
    pub(super) fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn fmt(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Only the display of a value could fail, and none of ours does.
        self.write_fmt(arguments).unwrap_or_default();
    }

    pub(super) fn string(&mut self, text: &str) {
        self.raw("\"");
        for character in text.chars() {
            match character {
                '"' => self.raw("\\\""),
                '\\' => self.raw("\\\\"),
                '\n' => self.raw("\\n"),
                '\r' => self.raw("\\r"),
                '\t' => self.raw("\\t"),
                control if control < ' ' => {
                    self.fmt(format_args!("\\u{:04x}", u32::from(control)));
                }
                other => self.raw(other.encode_utf8(&mut [0; 4])),
            }
        }
        self.raw("\"");
    }

    pub(super) fn double(&mut self, value: f64) {
        if value.is_finite() {
            // The debug form is the shortest that reads back as the same number, and valid JSON.
            self.fmt(format_args!("{value:?}"));
        } else if value.is_nan() {
            self.raw("\"NaN\"");
        } else if value > 0.0 {
            self.raw("\"Infinity\"");
        } else {
            self.raw("\"-Infinity\"");
        }
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut Self, T)) {
        self.raw("[");
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.raw(",");
            }
            each(self, item);
        }
        self.raw("]");
    }

    fn texts(&mut self, texts: &[Text]) {
        self.raw("{\"arrayValue\":{\"values\":");
        self.list(texts, |out, text| {
            out.raw("{\"stringValue\":");
            out.string(text);
            out.raw("}");
        });
        self.raw("}}");
    }

    pub(super) fn attributes(&mut self, attributes: &[Attribute]) {
        self.raw("\"attributes\":");
        self.list(attributes, |out, attribute| {
            out.raw("{\"key\":");
            out.string(&attribute.key);
            out.raw(",\"value\":");
            out.value(&attribute.value);
            out.raw("}");
        });
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => self.fmt(format_args!("{{\"boolValue\":{value}}}")),
            Value::I64(value) => self.fmt(format_args!("{{\"intValue\":\"{value}\"}}")),
            Value::F64(value) => {
                self.raw("{\"doubleValue\":");
                self.double(*value);
                self.raw("}");
            }
            Value::Str(text) => {
                self.raw("{\"stringValue\":");
                self.string(text);
                self.raw("}");
            }
            Value::StrArray(texts) => self.texts(texts),
        }
    }

    fn head(&mut self, head: &PointHead) {
        self.attributes(&head.attributes);
        self.fmt(format_args!(
            ",\"startTimeUnixNano\":\"{}\",\"timeUnixNano\":\"{}\"",
            head.start.0, head.time.0
        ));
    }

    fn exemplars(&mut self, exemplars: &[Exemplar]) {
        if exemplars.is_empty() {
            return;
        }
        self.raw(",\"exemplars\":");
        self.list(exemplars, |out, exemplar| {
            out.fmt(format_args!(
                "{{\"timeUnixNano\":\"{}\",\"asDouble\":",
                exemplar.time.0
            ));
            out.double(exemplar.value);
            out.fmt(format_args!(
                ",\"spanId\":\"{}\",\"traceId\":\"{}\"}}",
                exemplar.span_id, exemplar.trace_id
            ));
        });
    }

    fn summary(&mut self, summary: &Summary) {
        self.fmt(format_args!(",\"count\":\"{}\",\"sum\":", summary.count));
        self.double(summary.sum);
        if summary.count > 0 {
            self.raw(",\"min\":");
            self.double(summary.min);
            self.raw(",\"max\":");
            self.double(summary.max);
        }
    }

    fn counts(&mut self, counts: &[u64]) {
        self.raw("\"bucketCounts\":");
        self.list(counts, |out, count| out.fmt(format_args!("\"{count}\"")));
    }

    fn number_point(&mut self, point: &NumberPoint) {
        self.raw("{");
        self.head(&point.head);
        match point.value {
            Number::I64(value) => self.fmt(format_args!(",\"asInt\":\"{value}\"")),
            Number::F64(value) => {
                self.raw(",\"asDouble\":");
                self.double(value);
            }
        }
        self.exemplars(&point.head.exemplars);
        self.raw("}");
    }

    fn histogram_point(&mut self, point: &HistogramPoint) {
        self.raw("{");
        self.head(&point.head);
        self.summary(&point.summary);
        self.raw(",");
        self.counts(&point.counts);
        self.raw(",\"explicitBounds\":");
        self.list(point.bounds.iter(), |out, bound| out.double(*bound));
        self.exemplars(&point.head.exemplars);
        self.raw("}");
    }

    fn exponential_point(&mut self, point: &ExponentialPoint) {
        self.raw("{");
        self.head(&point.head);
        self.summary(&point.summary);
        self.fmt(format_args!(
            ",\"scale\":{},\"zeroCount\":\"{}\"",
            point.scale, point.zero_count
        ));
        if !point.counts.is_empty() {
            self.fmt(format_args!(",\"positive\":{{\"offset\":{},", point.offset));
            self.counts(&point.counts);
            self.raw("}");
        }
        self.exemplars(&point.head.exemplars);
        self.raw("}");
    }

    fn metric(&mut self, metric: &Metric) {
        self.raw("{\"name\":");
        self.string(&metric.name);
        self.raw(",\"description\":");
        self.string(&metric.description);
        self.raw(",\"unit\":");
        self.string(&metric.unit);
        let temporality = match &metric.data {
            MetricData::Gauge(points) => {
                self.raw(",\"gauge\":{\"dataPoints\":");
                self.list(points, Self::number_point);
                None
            }
            MetricData::Sum(temporality, monotonic, points) => {
                self.fmt(format_args!(
                    ",\"sum\":{{\"isMonotonic\":{monotonic},\"dataPoints\":"
                ));
                self.list(points, Self::number_point);
                Some(temporality)
            }
            MetricData::Histogram(temporality, points) => {
                self.raw(",\"histogram\":{\"dataPoints\":");
                self.list(points, Self::histogram_point);
                Some(temporality)
            }
            MetricData::ExponentialHistogram(temporality, points) => {
                self.raw(",\"exponentialHistogram\":{\"dataPoints\":");
                self.list(points, Self::exponential_point);
                Some(temporality)
            }
        };
        if let Some(temporality) = temporality {
            self.fmt(format_args!(
                ",\"aggregationTemporality\":{}",
                *temporality as u8
            ));
        }
        self.raw("}}");
    }
}

/// The object of a resource.
pub(crate) fn resource_json(resource: &Resource, out: &mut Vec<u8>) {
    let mut out = Out(out);
    out.raw("{");
    out.attributes(resource.attributes());
    out.raw("}");
}

/// Appends `,"scope<Items>":[{"scope":{...},"<items>":[ITEMS],"schemaUrl":...}],"schemaUrl":...`.
pub(crate) fn scope_json(scopes: &str, items: &str, encoded: &[u8], out: &mut Vec<u8>) {
    let mut out = Out(out);
    out.fmt(format_args!(
        ",\"{scopes}\":[{{\"scope\":{{\"name\":\"{SCOPE_NAME}\",\"version\":\"{SCOPE_VERSION}\"}},\"{items}\":["
    ));
    out.0.extend_from_slice(encoded);
    out.fmt(format_args!(
        "],\"schemaUrl\":\"{SCHEMA_URL}\"}}],\"schemaUrl\":\"{SCHEMA_URL}\""
    ));
}

/// Appends one span object.
pub fn span_json(span: &SpanRecord, out: &mut Vec<u8>) {
    let mut out = Out(out);
    out.fmt(format_args!(
        "{{\"traceId\":\"{}\",\"spanId\":\"{}\",",
        span.trace_id, span.span_id
    ));
    if !span.trace_state.is_empty() {
        out.raw("\"traceState\":");
        out.string(&span.trace_state);
        out.raw(",");
    }
    if let Some(parent) = &span.parent_span_id {
        out.fmt(format_args!("\"parentSpanId\":\"{parent}\","));
    }
    out.fmt(format_args!("\"flags\":{},\"name\":", flags(span)));
    out.string(&span.name);
    out.fmt(format_args!(
        ",\"kind\":{},\"startTimeUnixNano\":\"{}\",\"endTimeUnixNano\":\"{}\",",
        span.kind as u8, span.start.0, span.end.0
    ));
    out.attributes(&span.attributes);
    if span.dropped_attributes > 0 {
        out.fmt(format_args!(
            ",\"droppedAttributesCount\":{}",
            span.dropped_attributes
        ));
    }
    out.raw(",\"status\":{");
    if let SpanStatus::Error(text) = &span.status {
        if !text.is_empty() {
            out.raw("\"message\":");
            out.string(text);
            out.raw(",");
        }
        out.raw("\"code\":2");
    }
    out.raw("}}");
}

/// One `ExportMetricsServiceRequest` as a line without its end; empty if there is nothing to tell.
pub fn metrics_json(batch: &[ResourceMetrics]) -> Vec<u8> {
    let mut body = Vec::new();
    if batch.is_empty() {
        return body;
    }
    body.extend_from_slice(b"{\"resourceMetrics\":[");
    for (at, resource) in batch.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(b"{\"resource\":");
        resource_json(&resource.resource, &mut body);
        let mut items = Vec::new();
        for (at, metric) in resource.metrics.iter().enumerate() {
            if at > 0 {
                items.push(b',');
            }
            Out(&mut items).metric(metric);
        }
        scope_json("scopeMetrics", "metrics", &items, &mut body);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}
