//! One time series: an instrument's histogram for one set of attributes of one resource.

use std::sync::Arc;

use spandrel_model::{Attribute, Instrument, InstrumentKind, SpanRecord, UnixTime, Value};

use super::aggregator::HistogramSettings;
use super::explicit::Explicit;
use super::exponential::Exponential;
use super::{
    Exemplar, ExponentialPoint, HistogramPoint, MetricData, Number, NumberPoint, PointHead,
    Summary, Temporality,
};

const EMPTY: Summary = Summary {
    count: 0,
    sum: 0.0,
    min: f64::INFINITY,
    max: f64::NEG_INFINITY,
};

/// The series of one set of attributes, one for each instrument that was measured with it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) resource_id: u64,
    pub(super) attributes: Arc<[Attribute]>,
    pub(super) series: Vec<Series>,
}

impl Entry {
    pub(super) fn is(&self, resource_id: u64, attributes: &[Attribute]) -> bool {
        self.resource_id == resource_id
            && self.attributes.len() == attributes.len()
            && self
                .attributes
                .iter()
                .zip(attributes)
                .all(|(left, right)| left.key == right.key && same(&left.value, &right.value))
    }
}

/// Equal as attribute values; a NaN equals itself, or each one would be a new series.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::F64(left), Value::F64(right)) => left.to_bits() == right.to_bits(),
        _ => left == right,
    }
}

#[derive(Debug)]
enum Buckets {
    Exponential(Exponential),
    Explicit(Explicit),
    /// None: the summary has the count.
    Counter,
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) instrument: &'static Instrument,
    /// `None` in the window in which the aggregator itself began.
    start: Option<UnixTime>,
    summary: Summary,
    buckets: Buckets,
    /// The one with the greatest value of this window: slow calls are what one looks for.
    exemplar: Option<Exemplar>,
    pub(super) touched: bool,
}

impl Series {
    pub(super) fn new(
        instrument: &'static Instrument,
        start: Option<UnixTime>,
        settings: &HistogramSettings,
    ) -> Self {
        let buckets = match (instrument.kind, settings) {
            (InstrumentKind::Counter, _) => Buckets::Counter,
            (InstrumentKind::Histogram, HistogramSettings::Exponential { max_scale, .. }) => {
                Buckets::Exponential(Exponential::new(*max_scale))
            }
            (InstrumentKind::Histogram, HistogramSettings::Explicit(bounds)) => {
                Buckets::Explicit(Explicit::new(bounds.for_unit(instrument.unit)))
            }
        };
        Self {
            instrument,
            start,
            summary: EMPTY,
            buckets,
            exemplar: None,
            touched: false,
        }
    }

    #[inline]
    pub(super) fn record(&mut self, value: f64, max_size: usize, example: Option<&SpanRecord>) {
        self.touched = true;
        self.summary.count += 1;
        self.summary.sum += value;
        self.summary.min = self.summary.min.min(value);
        self.summary.max = self.summary.max.max(value);
        match &mut self.buckets {
            Buckets::Exponential(histogram) => histogram.record(value, max_size),
            Buckets::Explicit(histogram) => histogram.record(value),
            Buckets::Counter => return,
        }
        if let Some(span) = example
            && self.exemplar.is_none_or(|kept| kept.value < value)
        {
            self.exemplar = Some(Exemplar {
                time: span.end,
                value,
                trace_id: span.trace_id,
                span_id: span.span_id,
            });
        }
    }

    /// Adds this series' point to the points of its instrument.
    pub(super) fn collect(
        &mut self,
        attributes: &Arc<[Attribute]>,
        window: (UnixTime, UnixTime),
        temporality: Temporality,
        data: &mut MetricData,
    ) {
        let start = match temporality {
            Temporality::Delta => window.0,
            Temporality::Cumulative => *self.start.get_or_insert(window.0),
        };
        let head = PointHead {
            attributes: Arc::clone(attributes),
            start,
            time: window.1,
            exemplars: self.exemplar.take().into_iter().collect(),
        };
        let summary = self.summary;
        match (&self.buckets, data) {
            (Buckets::Exponential(histogram), MetricData::ExponentialHistogram(_, points)) => {
                points.push(ExponentialPoint {
                    head,
                    summary,
                    scale: histogram.scale(),
                    zero_count: histogram.zero_count(),
                    offset: histogram.offset(),
                    counts: histogram.counts(),
                });
            }
            (Buckets::Explicit(histogram), MetricData::Histogram(_, points)) => {
                points.push(HistogramPoint {
                    head,
                    summary,
                    bounds: Arc::clone(&histogram.bounds),
                    counts: histogram.counts.clone(),
                });
            }
            (Buckets::Counter, MetricData::Sum(_, _, points)) => {
                points.push(NumberPoint {
                    head,
                    value: Number::I64(i64::try_from(summary.count).unwrap_or(i64::MAX)),
                });
            }
            // The aggregator makes all its series and all its metrics of the same kind.
            _ => {}
        }
    }

    /// Begins the next window.
    pub(super) fn reset(&mut self, settings: &HistogramSettings) {
        self.summary = EMPTY;
        match (&mut self.buckets, settings) {
            (Buckets::Exponential(histogram), HistogramSettings::Exponential { max_scale, .. }) => {
                histogram.clear(*max_scale);
            }
            (Buckets::Exponential(_), HistogramSettings::Explicit(_)) | (Buckets::Counter, _) => {}
            (Buckets::Explicit(histogram), _) => histogram.clear(),
        }
    }
}
