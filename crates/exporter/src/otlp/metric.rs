//! Metric points as protobuf, cut into requests that are not larger than they may be.

use bytes::Bytes;
use spandrel_model::Attribute;

use super::resource::ResourceCache;
use super::span::{KeyValue, Scope};
use super::wire::{Message, Sink, field_len, length_of};
use super::{Length, SCHEMA_URL};
use crate::metrics::{
    Exemplar, ExponentialPoint, HistogramPoint, Metric, MetricData, Number, NumberPoint, PointHead,
    ResourceMetrics, Summary, Temporality,
};

/// One `ExportMetricsServiceRequest` and how many points are in it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedMetrics {
    /// The request.
    pub body: Bytes,
    /// Points in it.
    pub points: u64,
}

struct Attributes<'a>(&'a [Attribute], u32);

impl Attributes<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        for attribute in self.0 {
            sink.message(self.1, &KeyValue(attribute));
        }
    }
}

struct ExemplarMessage<'a>(&'a Exemplar);

impl Message for ExemplarMessage<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.fixed64(2, self.0.time.0);
        sink.double(3, self.0.value);
        sink.bytes(4, &self.0.span_id.0);
        sink.bytes(5, &self.0.trace_id.0);
    }
}

fn times<S: Sink>(head: &PointHead, sink: &mut S) {
    sink.fixed64(2, head.start.0);
    sink.fixed64(3, head.time.0);
}

fn exemplars<S: Sink>(head: &PointHead, field: u32, sink: &mut S) {
    for exemplar in &head.exemplars {
        sink.message(field, &ExemplarMessage(exemplar));
    }
}

fn extremes<S: Sink>(summary: &Summary, min: u32, sink: &mut S) {
    // A point without values has no least and no greatest one.
    if summary.count > 0 {
        sink.double(min, summary.min);
        sink.double(min + 1, summary.max);
    }
}

impl Message for NumberPoint {
    fn write<S: Sink>(&self, sink: &mut S) {
        times(&self.head, sink);
        if let Number::F64(value) = self.value {
            sink.double(4, value);
        }
        exemplars(&self.head, 5, sink);
        if let Number::I64(value) = self.value {
            sink.fixed64(6, value as u64);
        }
        Attributes(&self.head.attributes, 7).write(sink);
    }
}

impl Message for HistogramPoint {
    fn write<S: Sink>(&self, sink: &mut S) {
        times(&self.head, sink);
        sink.fixed64(4, self.summary.count);
        sink.double(5, self.summary.sum);
        packed64(6, self.counts.len(), self.counts.iter().copied(), sink);
        packed64(
            7,
            self.bounds.len(),
            self.bounds.iter().map(|bound| bound.to_bits()),
            sink,
        );
        exemplars(&self.head, 8, sink);
        Attributes(&self.head.attributes, 9).write(sink);
        extremes(&self.summary, 11, sink);
    }
}

fn packed64<S: Sink>(field: u32, len: usize, values: impl Iterator<Item = u64>, sink: &mut S) {
    if len == 0 {
        return;
    }
    sink.tag(field, 2);
    sink.varint(len as u64 * 8);
    for value in values {
        sink.raw(&value.to_le_bytes());
    }
}

impl Message for ExponentialPoint {
    fn write<S: Sink>(&self, sink: &mut S) {
        Attributes(&self.head.attributes, 1).write(sink);
        times(&self.head, sink);
        sink.fixed64(4, self.summary.count);
        sink.double(5, self.summary.sum);
        sink.signed(6, self.scale);
        sink.fixed64(7, self.zero_count);
        if !self.counts.is_empty() {
            sink.message(8, &Buckets(self));
        }
        exemplars(&self.head, 11, sink);
        extremes(&self.summary, 12, sink);
    }
}

struct Buckets<'a>(&'a ExponentialPoint);

impl Message for Buckets<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.signed(1, self.0.offset);
        sink.tag(2, 2);
        let mut length = Length::default();
        for count in &self.0.counts {
            length.varint(*count);
        }
        sink.varint(length.0 as u64);
        for count in &self.0.counts {
            sink.varint(*count);
        }
    }
}

impl Metric {
    fn names<S: Sink>(&self, sink: &mut S) {
        sink.text(1, &self.name);
        sink.text(2, &self.description);
        sink.text(3, &self.unit);
    }
}

/// Field of `Metric`, fields after the points within it.
struct Kind {
    field: u32,
    temporality: Option<Temporality>,
    monotonic: bool,
}

impl Kind {
    fn of(data: &MetricData) -> Self {
        let (field, temporality, monotonic) = match data {
            MetricData::Gauge(_) => (5, None, false),
            MetricData::Sum(temporality, monotonic, _) => (7, Some(*temporality), *monotonic),
            MetricData::Histogram(temporality, _) => (9, Some(*temporality), false),
            MetricData::ExponentialHistogram(temporality, _) => (10, Some(*temporality), false),
        };
        Self {
            field,
            temporality,
            monotonic,
        }
    }

    fn tail<S: Sink>(&self, sink: &mut S) {
        sink.number(
            2,
            self.temporality.map_or(0, |temporality| temporality as u64),
        );
        sink.number(3, u64::from(self.monotonic));
    }
}

/// A request that is being filled. Points, metrics and resources are closed from the inside out.
struct Request {
    max_bytes: usize,
    body: Vec<u8>,
    metrics: Vec<u8>,
    points: Vec<u8>,
    count: u64,
    open: u64,
    done: Vec<EncodedMetrics>,
}

/// What the two outer messages and the tail of a metric may add: tags and lengths.
const FRAME: usize = 64;

impl Request {
    fn point<M: Message>(&mut self, resource: &Bytes, metric: &Metric, point: &M) -> bool {
        let mut names = Length::default();
        metric.names(&mut names);
        let point_len = field_len(1, length_of(point));
        let fixed = resource.len() + names.0 + 2 * SCHEMA_URL.len() + FRAME + scope_len();
        if fixed + point_len > self.max_bytes {
            return false;
        }
        let filled = self.body.len() + self.metrics.len() + self.points.len();
        if filled + fixed + point_len > self.max_bytes {
            self.close(resource, metric);
            self.finish();
        }
        self.points.message(1, point);
        self.open += 1;
        true
    }

    fn close_metric(&mut self, metric: &Metric) {
        if self.points.is_empty() {
            return;
        }
        let kind = Kind::of(&metric.data);
        let mut fixed = Length::default();
        kind.tail(&mut fixed);
        let data_len = self.points.len() + fixed.0;
        let mut names = Length::default();
        metric.names(&mut names);
        let out = &mut self.metrics;
        out.tag(2, 2);
        out.varint((names.0 + field_len(kind.field, data_len)) as u64);
        metric.names(out);
        out.tag(kind.field, 2);
        out.varint(data_len as u64);
        out.raw(&self.points);
        kind.tail(out);
        self.points.clear();
        self.count += self.open;
        self.open = 0;
    }

    fn close_resource(&mut self, resource: &Bytes) {
        if self.metrics.is_empty() {
            return;
        }
        resource_envelope(resource, &self.metrics, &mut self.body);
        self.metrics.clear();
    }

    fn close(&mut self, resource: &Bytes, metric: &Metric) {
        self.close_metric(metric);
        self.close_resource(resource);
    }

    fn finish(&mut self) {
        if !self.body.is_empty() {
            self.done.push(EncodedMetrics {
                body: std::mem::take(&mut self.body).into(),
                points: std::mem::take(&mut self.count),
            });
        }
    }
}

fn scope_len() -> usize {
    field_len(1, length_of(&Scope))
}

/// Appends `ResourceSpans` or `ResourceMetrics`, which have the same shape, as field 1 of the request.
pub(crate) fn resource_envelope(resource: &Bytes, items: &[u8], out: &mut Vec<u8>) {
    let schema = field_len(3, SCHEMA_URL.len());
    let scope = scope_len() + items.len() + schema;
    let length = resource.len() + field_len(2, scope) + schema;
    out.reserve(field_len(1, length));
    out.tag(1, 2);
    out.varint(length as u64);
    out.raw(resource);
    out.tag(2, 2);
    out.varint(scope as u64);
    out.message(1, &Scope);
    out.raw(items);
    out.text(3, SCHEMA_URL);
    out.text(3, SCHEMA_URL);
}

/// What [`resource_envelope`] adds to the items of one resource, at most.
pub(crate) fn envelope_overhead(resource: &Bytes) -> usize {
    resource.len() + scope_len() + 2 * field_len(3, SCHEMA_URL.len()) + 24
}

/// Encodes points into requests of at most `max_bytes`. A point that does not fit into one is left out: the sum of
/// the requests' points is then less than what was given.
pub fn encode_metrics(
    batch: &[ResourceMetrics],
    cache: &mut ResourceCache,
    max_bytes: usize,
) -> Vec<EncodedMetrics> {
    let mut request = Request {
        max_bytes,
        body: Vec::new(),
        metrics: Vec::new(),
        points: Vec::new(),
        count: 0,
        open: 0,
        done: Vec::new(),
    };
    for resource in batch {
        let block = cache.get(&resource.resource).0;
        for metric in &resource.metrics {
            match &metric.data {
                MetricData::Gauge(points) | MetricData::Sum(_, _, points) => {
                    add(&mut request, &block, metric, points);
                }
                MetricData::Histogram(_, points) => add(&mut request, &block, metric, points),
                MetricData::ExponentialHistogram(_, points) => {
                    add(&mut request, &block, metric, points);
                }
            }
            request.close_metric(metric);
        }
        request.close_resource(&block);
    }
    request.finish();
    request.done
}

fn add<M: Message>(request: &mut Request, block: &Bytes, metric: &Metric, points: &[M]) {
    for point in points {
        request.point(block, metric, point);
    }
}
