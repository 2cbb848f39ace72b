//! One time series: an instrument's histogram for one set of attributes of one resource.

use std::sync::Arc;

use spandrel_model::{
    Attribute, Instrument, InstrumentKind, Resource, SpanRecord, UnixTime, Value,
};

use super::aggregator::HistogramSettings;
use super::explicit::Explicit;
use super::exponential::Exponential;
use super::{
    Exemplar, ExponentialPoint, HistogramPoint, MetricData, Number, NumberPoint, PointHead,
    Summary, Temporality,
};

const MILLISECOND: u64 = 1_000_000;

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
    /// From the first measurement of a window to its end, so that a resource that goes meanwhile is told once more.
    pub(super) held: Option<Arc<Resource>>,
    /// When it was measured last, as the aggregator counts.
    pub(super) used: u64,
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
    /// The last time that points were made for when it was made; `None` in the aggregator's first window.
    after: Option<UnixTime>,
    /// Of a cumulative series, once it has been told.
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
        after: Option<UnixTime>,
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
            after,
            start: None,
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

    /// Adds this series' point to the points of its instrument. Before the first point of a cumulative series comes one of
    /// zero at its start: backends that know no start times see by it that the first value is an increase.
    pub(super) fn collect(
        &mut self,
        attributes: &Arc<[Attribute]>,
        window: (UnixTime, UnixTime),
        temporality: Temporality,
        data: &mut MetricData,
    ) {
        let head = |start, time, exemplars| PointHead {
            attributes: Arc::clone(attributes),
            start,
            time,
            exemplars,
        };
        let start = match (temporality, self.start) {
            (Temporality::Delta, _) => self.after.map_or(window.0, |after| after.max(window.0)),
            (Temporality::Cumulative, Some(start)) => start,
            (Temporality::Cumulative, None) => {
                let start = self.begin(window.0);
                self.start = Some(start);
                self.push_zero(head(start, start, Vec::new()), data);
                start
            }
        };
        let exemplars = self.exemplar.take().into_iter().collect();
        self.push(head(start, window.1, exemplars), data);
    }

    /// When a new series began. Not at the time of the points before it: the last one of a series that ended and came back may
    /// be among them.
    fn begin(&self, start: UnixTime) -> UnixTime {
        self.after
            .map_or(start, |after| UnixTime(after.0.saturating_add(MILLISECOND)))
    }

    fn push_zero(&self, head: PointHead, data: &mut MetricData) {
        let summary = EMPTY;
        match (&self.buckets, data) {
            (Buckets::Exponential(histogram), MetricData::ExponentialHistogram(_, points)) => {
                points.push(ExponentialPoint {
                    head,
                    summary,
                    // That of the value which follows: a finer one would look like another beginning.
                    scale: histogram.scale(),
                    zero_count: 0,
                    offset: 0,
                    counts: Vec::new(),
                });
            }
            (Buckets::Explicit(histogram), MetricData::Histogram(_, points)) => {
                points.push(HistogramPoint {
                    head,
                    summary,
                    bounds: Arc::clone(&histogram.bounds),
                    counts: vec![0; histogram.counts.len()],
                });
            }
            (Buckets::Counter, MetricData::Sum(_, _, points)) => points.push(NumberPoint {
                head,
                value: Number::I64(0),
            }),
            // The aggregator makes all its series and all its metrics of the same kind.
            _ => {}
        }
    }

    fn push(&self, head: PointHead, data: &mut MetricData) {
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
            (Buckets::Counter, MetricData::Sum(_, _, points)) => points.push(NumberPoint {
                head,
                value: Number::I64(i64::try_from(summary.count).unwrap_or(i64::MAX)),
            }),
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
