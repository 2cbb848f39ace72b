//! Adds measurements up by resource, instrument and set of attributes.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Weak};
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;
use spandrel_model::{
    Attribute, AttributeSet, Instrument, InstrumentKind, Ledger, Measured, Measurement, Resource,
    SpanRecord, UnixTime, ledger::Reason,
};

use super::cardinality::{OverflowReport, Watch};
use super::recent::Recent;
use super::series::{Entry, Series};
use super::{ExplicitBounds, Metric, MetricData, MetricsBatch, ResourceMetrics, Temporality};
use crate::observed::Timings;

/// Which histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum HistogramSettings {
    /// Base-2 exponential.
    Exponential {
        /// Most buckets of a series.
        max_size: usize,
        /// Highest resolution, at most 20.
        max_scale: i32,
    },
    /// Explicit bounds.
    Explicit(ExplicitBounds),
}

impl Default for HistogramSettings {
    fn default() -> Self {
        Self::Exponential {
            max_size: 160,
            max_scale: 20,
        }
    }
}

/// How to aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregatorSettings {
    /// Which histogram.
    pub histogram: HistogramSettings,
    /// Delta or cumulative.
    pub temporality: Temporality,
    /// Most series of one instrument and resource, the overflow series included.
    pub cardinality_limit: usize,
    /// Most series in all, overflow series included; bounds the memory. Beyond it the longest idle ones end.
    pub max_series: usize,
    /// Whether points carry the span behind their greatest value.
    pub exemplars: bool,
}

impl Default for AggregatorSettings {
    fn default() -> Self {
        Self {
            histogram: HistogramSettings::default(),
            temporality: Temporality::default(),
            cardinality_limit: 2000,
            max_series: 20_000,
            exemplars: true,
        }
    }
}

/// What the aggregator holds and what it had to do to stay within its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggregatorStats {
    /// Series held now.
    pub series: usize,
    /// Resources held now.
    pub resources: usize,
    /// Measurements that went into an overflow series.
    pub overflowed: u64,
    /// Measurements left out: negative or not finite.
    pub refused: u64,
    /// Series that ended because their resource is gone or, with delta, because nothing was measured.
    pub ended: u64,
    /// Series that ended for want of room while their resource was there.
    pub evicted: u64,
}

/// From the points of a series to the next ones, so that between them there is a millisecond at which it can begin anew: there
/// are backends that count in milliseconds.
pub(super) const APART: u64 = 2_000_000;
/// Why a measurement is not counted: it is negative or no finite number.
const INVALID_VALUE: Reason = "metrics.invalid_value";

#[derive(Debug)]
pub(super) struct ResourceState {
    /// Not held: several aggregators and the owner of the resource must not wait for each other.
    pub(super) resource: Weak<Resource>,
    pub(super) counts: SmallVec<[(&'static Instrument, usize); 4]>,
}

/// The aggregator. Order of output is the order of first appearance, so equal input gives equal output.
#[derive(Debug)]
pub struct Aggregator {
    pub(super) settings: AggregatorSettings,
    max_size: usize,
    pub(super) ledger: Arc<Ledger>,
    hasher: RandomState,
    pub(super) entries: Vec<Entry>,
    pub(super) index: HashTable<usize>,
    pub(super) recent: Recent,
    pub(super) resources: HashMap<u64, ResourceState, RandomState>,
    overflow: [Attribute; 1],
    /// Start of the window that runs; unknown in the first one.
    window_start: Option<UnixTime>,
    /// The earliest start of a span in the first window.
    first_seen: UnixTime,
    /// The latest end of a span.
    pub(super) latest: UnixTime,
    /// The last time that points were made for; what is new begins after it.
    pub(super) told_until: Option<UnixTime>,
    /// How many sets of measurements there were: the order in which entries were used.
    uses: u64,
    /// How many series there are.
    pub(super) held: usize,
    pub(super) stats: AggregatorStats,
    /// Measurements since the last collection, and those of them that were left out.
    measured: u64,
    refused: u64,
    pub(super) last_points: Vec<MetricsBatch>,
    pub(super) watch: Watch,
    collections: Timings,
}

impl Aggregator {
    /// An empty aggregator. Points are counted in the ledger when they are made.
    pub fn new(mut settings: AggregatorSettings, ledger: Arc<Ledger>) -> Self {
        // Room for one series at least, or nothing could ever be counted.
        settings.max_series = settings.max_series.max(1);
        let mut bound = usize::MAX;
        if let HistogramSettings::Exponential {
            max_size,
            max_scale,
        } = &mut settings.histogram
        {
            *max_size = (*max_size).max(2);
            *max_scale = (*max_scale).clamp(-10, 20);
            bound = *max_size;
        }
        Self {
            settings,
            max_size: bound,
            ledger,
            hasher: RandomState::default(),
            entries: Vec::new(),
            index: HashTable::new(),
            recent: Recent::default(),
            resources: HashMap::default(),
            overflow: [Attribute::new("otel.metric.overflow", true)],
            window_start: None,
            first_seen: UnixTime(u64::MAX),
            latest: UnixTime(0),
            told_until: None,
            uses: 0,
            held: 0,
            stats: AggregatorStats::default(),
            measured: 0,
            refused: 0,
            last_points: Vec::new(),
            watch: Watch::default(),
            collections: Timings::default(),
        }
    }

    /// What overflows and why, as others may read it; made anew at each collection.
    pub fn overflow_report(&self) -> OverflowReport {
        self.watch.report()
    }

    /// How long its collections take, as others may hear of it.
    pub fn collections(&self) -> Timings {
        self.collections.clone()
    }

    /// What it holds and what it left out.
    pub fn stats(&self) -> AggregatorStats {
        AggregatorStats {
            series: self.held,
            resources: self.resources.len(),
            ..self.stats
        }
    }

    /// Adds the measurements of one exchange.
    pub fn record(&mut self, resource: &Arc<Resource>, measured: &Measured) {
        let span = &measured.span;
        let set = &measured.metric_attributes;
        self.record_set(resource, span, set, &measured.measurements);
        if let Some(edge) = &measured.edge {
            self.record_set(resource, span, &edge.attributes, &edge.measurements);
        }
    }

    /// Adds measurements that share their attributes.
    fn record_set(
        &mut self,
        resource: &Arc<Resource>,
        span: &SpanRecord,
        set: &AttributeSet,
        measurements: &[Measurement],
    ) {
        let attributes: &[Attribute] = set;
        if self.window_start.is_none() {
            self.first_seen = self.first_seen.min(span.start);
        }
        self.latest = self.latest.max(span.end);
        self.uses += 1;
        self.measured += measurements.len() as u64;
        let example = (self.settings.exemplars && span.trace_flags & 1 == 1).then_some(span);
        let mut known = self.recent.get(resource.id(), set.id());
        for measurement in measurements {
            let value = measurement.value;
            if !(value.is_finite() && value >= 0.0) {
                self.refused += 1;
                continue;
            }
            let instrument = measurement.instrument;
            let here = known.and_then(|entry| {
                let series = &self.entries.get(entry)?.series;
                Some((entry, position_of(series, instrument)?))
            });
            let place = here.or_else(|| {
                let hash = self.hash(resource.id(), attributes);
                match self.find(hash, resource.id(), attributes, instrument) {
                    (Some(entry), Some(series)) => {
                        self.recent.put(resource.id(), set.id(), entry);
                        known = Some(entry);
                        Some((entry, series))
                    }
                    (entry, _) => {
                        // What makes room for it may move the others.
                        known = None;
                        self.add(resource, hash, attributes, instrument, entry)
                    }
                }
            });
            let Some((entry, series)) =
                place.and_then(|(entry, series)| Some((self.entries.get_mut(entry)?, series)))
            else {
                continue;
            };
            entry.used = self.uses;
            if entry.held.is_none() {
                entry.held = Some(Arc::clone(resource));
            }
            if let Some(series) = entry.series.get_mut(series) {
                series.record(value, self.max_size, example);
            }
        }
    }

    /// The points of the window that ends now, counted in the ledger as made and in flight; `None` if there are none.
    pub fn collect(&mut self, now: UnixTime) -> Option<MetricsBatch> {
        let began = Instant::now();
        let batch = self.collect_until(now);
        self.collections.record(began.elapsed(), []);
        batch
    }

    fn collect_until(&mut self, now: UnixTime) -> Option<MetricsBatch> {
        let start = self.start_of_window(now);
        // Whatever the clock does.
        let earliest = self.told_until.map_or(start.0.saturating_add(1), |told| {
            told.0.saturating_add(APART)
        });
        let now = now.max(UnixTime(earliest));
        let cumulative = self.settings.temporality == Temporality::Cumulative;
        let resources = self.points((start, now), |_, series| series.touched || cumulative);
        self.account();
        self.end_window();
        self.window_start = Some(now);
        self.told_until = Some(now);
        if resources.is_empty() {
            return None;
        }
        Some(MetricsBatch::new(resources, Arc::clone(&self.ledger)))
    }

    /// When the window began, if it ends at `now`.
    pub(super) fn start_of_window(&self, now: UnixTime) -> UnixTime {
        self.window_start.unwrap_or(self.first_seen.min(now))
    }

    /// Counts and reports what has come in since the last collection.
    fn account(&mut self) {
        let (measured, refused) = (
            std::mem::take(&mut self.measured),
            std::mem::take(&mut self.refused),
        );
        let account = &self.ledger.measurements;
        account.see(measured);
        account.settle(measured.saturating_sub(refused));
        account.drop_for(INVALID_VALUE, refused);
        self.stats.refused += refused;
        self.watch.publish(&self.stats, &self.settings);
    }

    /// The points of the window of those series for which `is_due` says so, by the place of their entry.
    pub(super) fn points(
        &mut self,
        window: (UnixTime, UnixTime),
        is_due: impl Fn(usize, &Series) -> bool,
    ) -> Vec<ResourceMetrics> {
        let temporality = self.settings.temporality;
        let mut positions: HashMap<u64, usize, RandomState> = HashMap::default();
        let mut out: Vec<ResourceMetrics> = Vec::new();
        for (place, entry) in self.entries.iter_mut().enumerate() {
            let weak = self.resources.get(&entry.resource_id);
            let resource = match &entry.held {
                Some(held) => Some(Arc::clone(held)),
                None => weak.and_then(|state| state.resource.upgrade()),
            };
            // Of a resource that is gone everything is told: it was held while there was something new.
            let Some(resource) = resource else {
                continue;
            };
            for series in &mut entry.series {
                if !is_due(place, series) {
                    continue;
                }
                let at = *positions.entry(entry.resource_id).or_insert_with(|| {
                    out.push(ResourceMetrics {
                        resource: Arc::clone(&resource),
                        metrics: Vec::new(),
                    });
                    out.len() - 1
                });
                if let Some(found) = out.get_mut(at) {
                    let data = metric_of(found, series.instrument, &self.settings);
                    series.collect(&entry.attributes, window, temporality, data);
                }
            }
        }
        out
    }

    #[inline]
    fn hash(&self, resource_id: u64, attributes: &[Attribute]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(resource_id);
        for attribute in attributes {
            attribute.feed(&mut hasher);
        }
        hasher.finish()
    }

    #[inline]
    fn find(
        &self,
        hash: u64,
        resource_id: u64,
        attributes: &[Attribute],
        instrument: &'static Instrument,
    ) -> (Option<usize>, Option<usize>) {
        let entries = &self.entries;
        let found = self.index.find(hash, |at| {
            entries
                .get(*at)
                .is_some_and(|entry| entry.hash == hash && entry.is(resource_id, attributes))
        });
        let series = found
            .and_then(|at| entries.get(*at))
            .and_then(|entry| position_of(&entry.series, instrument));
        (found.copied(), series)
    }

    /// Makes a series, or finds the overflow series where the limit is reached.
    #[cold]
    fn add(
        &mut self,
        resource: &Arc<Resource>,
        hash: u64,
        attributes: &[Attribute],
        instrument: &'static Instrument,
        entry: Option<usize>,
    ) -> Option<(usize, usize)> {
        let limit = self.settings.cardinality_limit.max(1);
        let state = self.resources.get(&resource.id());
        let used = state
            .and_then(|state| {
                let mut counts = state.counts.iter();
                counts.find(|(other, _)| std::ptr::eq(*other, instrument) || *other == instrument)
            })
            .map_or(0, |(_, count)| *count);
        if used + 1 < limit {
            return self.insert(resource, hash, attributes, instrument, entry);
        }
        self.stats.overflowed += 1;
        let entries = self.entries.iter();
        self.watch.overflow(resource, instrument, attributes, || {
            entries
                .filter(|entry| entry.resource_id == resource.id())
                .filter(|entry| position_of(&entry.series, instrument).is_some())
                .map(|entry| &*entry.attributes)
        });
        let overflow = self.overflow.clone();
        let hash = self.hash(resource.id(), &overflow);
        match self.find(hash, resource.id(), &overflow, instrument) {
            (Some(entry), Some(series)) => Some((entry, series)),
            (entry, _) => self.insert(resource, hash, &overflow, instrument, entry),
        }
    }

    fn insert(
        &mut self,
        resource: &Arc<Resource>,
        hash: u64,
        attributes: &[Attribute],
        instrument: &'static Instrument,
        entry: Option<usize>,
    ) -> Option<(usize, usize)> {
        let mut entry = entry;
        if self.held >= self.settings.max_series {
            self.make_room();
            entry = self.find(hash, resource.id(), attributes, instrument).0;
        }
        self.held += 1;
        let state = self
            .resources
            .entry(resource.id())
            .or_insert_with(|| ResourceState {
                resource: Arc::downgrade(resource),
                counts: SmallVec::new(),
            });
        match count_of(&mut state.counts, instrument) {
            Some(count) => *count += 1,
            None => state.counts.push((instrument, 1)),
        }
        let at = entry.unwrap_or_else(|| {
            let at = self.entries.len();
            self.entries.push(Entry {
                hash,
                resource_id: resource.id(),
                held: None,
                used: self.uses,
                attributes: attributes.into(),
                series: Vec::with_capacity(2),
            });
            let entries = &self.entries;
            self.index.insert_unique(hash, at, |other| {
                entries.get(*other).map_or(0, |entry| entry.hash)
            });
            at
        });
        let entry = self.entries.get_mut(at)?;
        entry.series.push(Series::new(
            instrument,
            self.told_until,
            &self.settings.histogram,
        ));
        Some((at, entry.series.len() - 1))
    }
}

fn position_of(series: &[Series], instrument: &'static Instrument) -> Option<usize> {
    let mut found = series.iter();
    let by_address = found.position(|series| std::ptr::eq(series.instrument, instrument));
    by_address.or_else(|| {
        series
            .iter()
            .position(|series| series.instrument == instrument)
    })
}

pub(super) fn count_of<'a>(
    counts: &'a mut SmallVec<[(&'static Instrument, usize); 4]>,
    instrument: &'static Instrument,
) -> Option<&'a mut usize> {
    counts
        .iter_mut()
        .find(|(other, _)| std::ptr::eq(*other, instrument) || *other == instrument)
        .map(|(_, count)| count)
}

/// The metric of an instrument within a resource's metrics, made if it is not there.
fn metric_of<'a>(
    metrics: &'a mut ResourceMetrics,
    instrument: &'static Instrument,
    settings: &AggregatorSettings,
) -> &'a mut MetricData {
    let metrics = &mut metrics.metrics;
    let found = metrics
        .iter()
        .position(|metric| metric.name == instrument.name && metric.unit == instrument.unit);
    let at = found.unwrap_or(metrics.len());
    if found.is_none() {
        metrics.push(Metric {
            name: instrument.name.into(),
            unit: instrument.unit.into(),
            description: instrument.description.into(),
            data: match (instrument.kind, &settings.histogram) {
                (InstrumentKind::Counter, _) => {
                    MetricData::Sum(settings.temporality, true, Vec::new())
                }
                (InstrumentKind::Histogram, HistogramSettings::Exponential { .. }) => {
                    MetricData::ExponentialHistogram(settings.temporality, Vec::new())
                }
                (InstrumentKind::Histogram, HistogramSettings::Explicit(_)) => {
                    MetricData::Histogram(settings.temporality, Vec::new())
                }
            },
        });
    }
    &mut metrics[at].data
}
