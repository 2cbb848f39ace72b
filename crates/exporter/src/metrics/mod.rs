//! From measurements to metric points: an aggregator per resource, instrument and set of attributes.

mod aggregator;
mod cardinality;
mod eviction;
mod explicit;
mod exponential;
mod recent;
mod series;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use spandrel_model::{Attribute, Resource, SpanId, Text, TraceId, UnixTime};

pub use aggregator::{Aggregator, AggregatorSettings, AggregatorStats, HistogramSettings};
pub use cardinality::{Offender, OverflowReport, Overflows};
pub use explicit::ExplicitBounds;

use crate::carried::Carried;

/// Whether points tell of the time since the last collection or since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// Since the last collection.
    Delta = 1,
    /// Since the start.
    #[default]
    Cumulative = 2,
}

/// Metric points of any number of resources, counted in the ledger as in flight.
#[derive(Debug)]
pub struct MetricsBatch {
    /// By resource; none of them without points.
    pub resources: Vec<ResourceMetrics>,
    pub(crate) carried: Carried,
}

impl MetricsBatch {
    /// A batch of points made elsewhere; all of them are counted as made.
    pub fn new(resources: Vec<ResourceMetrics>, ledger: Arc<spandrel_model::Ledger>) -> Self {
        let mut carried = Carried::new(ledger, crate::Signal::Metrics);
        let points: usize = resources
            .iter()
            .flat_map(|resource| &resource.metrics)
            .map(|metric| metric.data.len())
            .sum();
        carried.see(points as u64);
        Self { resources, carried }
    }

    /// How many points are in it.
    pub fn points(&self) -> u64 {
        self.carried.count()
    }
}

/// The metrics of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceMetrics {
    /// Whose they are.
    pub resource: Arc<Resource>,
    /// One for each instrument.
    pub metrics: Vec<Metric>,
}

/// The points of one instrument.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name.
    pub name: Text,
    /// UCUM unit.
    pub unit: Text,
    /// Description.
    pub description: Text,
    /// Points.
    pub data: MetricData,
}

/// The points of a metric, by the kind of metric.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricData {
    /// Base-2 exponential histogram.
    ExponentialHistogram(Temporality, Vec<ExponentialPoint>),
    /// Histogram with explicit bounds.
    Histogram(Temporality, Vec<HistogramPoint>),
    /// Sum; the flag says whether it only grows.
    Sum(Temporality, bool, Vec<NumberPoint>),
    /// Last value.
    Gauge(Vec<NumberPoint>),
}

impl MetricData {
    /// How many points.
    pub fn len(&self) -> usize {
        match self {
            Self::ExponentialHistogram(_, points) => points.len(),
            Self::Histogram(_, points) => points.len(),
            Self::Sum(_, _, points) | Self::Gauge(points) => points.len(),
        }
    }

    /// Whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What every point has.
#[derive(Clone, Debug, PartialEq)]
pub struct PointHead {
    /// The set of attributes.
    pub attributes: Arc<[Attribute]>,
    /// Start of the time that the point tells of.
    pub start: UnixTime,
    /// End of it.
    pub time: UnixTime,
    /// Examples.
    pub exemplars: Vec<Exemplar>,
}

/// One measured value with the span in which it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// When it was measured.
    pub time: UnixTime,
    /// The value.
    pub value: f64,
    /// Trace.
    pub trace_id: TraceId,
    /// Span.
    pub span_id: SpanId,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Integer.
    I64(i64),
    /// Double.
    F64(f64),
}

/// A point of a sum or a gauge.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberPoint {
    /// Attributes and times.
    pub head: PointHead,
    /// The value.
    pub value: Number,
}

/// What both kinds of histogram have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// A point of a histogram with explicit bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramPoint {
    /// Attributes and times.
    pub head: PointHead,
    /// Count, sum, min, max.
    pub summary: Summary,
    /// Upper bounds, inclusive.
    pub bounds: Arc<[f64]>,
    /// One more than bounds.
    pub counts: Vec<u64>,
}

/// A point of an exponential histogram; values are never negative here.
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialPoint {
    /// Attributes and times.
    pub head: PointHead,
    /// Count, sum, min, max.
    pub summary: Summary,
    /// Resolution: the base is 2^(2^-scale).
    pub scale: i32,
    /// How many values were zero.
    pub zero_count: u64,
    /// Index of the first bucket.
    pub offset: i32,
    /// The buckets from there.
    pub counts: Vec<u64>,
}
