//! Adds measurements up by resource, instrument and set of attributes.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;
use spandrel_model::{
    Attribute, AttributeSet, Instrument, InstrumentKind, Ledger, Measured, Measurement, Resource,
    SpanRecord, UnixTime, Value,
};

use super::cardinality::{OverflowReport, Watch};
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
    /// Most series in all, overflow series included; bounds the memory.
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
    /// Measurements left out: negative, not finite, or `max_series` was reached.
    pub refused: u64,
    /// Series given up because their resource is gone or, with delta, because nothing was measured.
    pub evicted: u64,
}

#[derive(Debug)]
struct ResourceState {
    resource: Arc<Resource>,
    counts: SmallVec<[(&'static Instrument, usize); 4]>,
}

/// The aggregator. Order of output is the order of first appearance, so equal input gives equal output.
#[derive(Debug)]
pub struct Aggregator {
    settings: AggregatorSettings,
    max_size: usize,
    ledger: Arc<Ledger>,
    hasher: RandomState,
    entries: Vec<Entry>,
    index: HashTable<usize>,
    recent: Recent,
    resources: HashMap<u64, ResourceState, RandomState>,
    overflow: [Attribute; 1],
    /// Start of the window that runs; unknown in the first one.
    window_start: Option<UnixTime>,
    /// The earliest start of a span in the first window.
    first_seen: UnixTime,
    /// How many series there are.
    held: usize,
    stats: AggregatorStats,
    watch: Watch,
    collections: Timings,
}

impl Aggregator {
    /// An empty aggregator. Points are counted in the ledger when they are made.
    pub fn new(mut settings: AggregatorSettings, ledger: Arc<Ledger>) -> Self {
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
            held: 0,
            stats: AggregatorStats::default(),
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
        let example = (self.settings.exemplars && span.trace_flags & 1 == 1).then_some(span);
        let mut known = self.recent.get(resource.id(), set.id());
        for measurement in measurements {
            let value = measurement.value;
            if !(value.is_finite() && value >= 0.0) {
                self.stats.refused += 1;
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
                    (entry, _) => self.add(resource, hash, attributes, instrument, entry),
                }
            });
            let series = place
                .and_then(|(entry, series)| self.entries.get_mut(entry)?.series.get_mut(series));
            match series {
                Some(series) => series.record(value, self.max_size, example),
                None => self.stats.refused += 1,
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
        let start = self.window_start.unwrap_or(self.first_seen.min(now));
        let now = now.max(start);
        let resources = self.points((start, now));
        let (overflowed, refused) = (self.stats.overflowed, self.stats.refused);
        let limit = self.settings.cardinality_limit;
        self.watch.publish(overflowed, refused, limit);
        self.evict();
        self.window_start = Some(now);
        if resources.is_empty() {
            return None;
        }
        Some(MetricsBatch::new(resources, Arc::clone(&self.ledger)))
    }

    fn points(&mut self, window: (UnixTime, UnixTime)) -> Vec<ResourceMetrics> {
        let temporality = self.settings.temporality;
        let mut positions: HashMap<u64, usize, RandomState> = HashMap::default();
        let mut out: Vec<ResourceMetrics> = Vec::new();
        for entry in &mut self.entries {
            let Some(state) = self.resources.get(&entry.resource_id) else {
                continue;
            };
            for series in &mut entry.series {
                let gone = Arc::strong_count(&state.resource) == 1;
                let due = match temporality {
                    Temporality::Delta => series.touched,
                    // The last point of a resource that is gone was sent already.
                    Temporality::Cumulative => series.touched || !gone,
                };
                if !due {
                    continue;
                }
                let at = *positions.entry(entry.resource_id).or_insert_with(|| {
                    out.push(ResourceMetrics {
                        resource: Arc::clone(&state.resource),
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

    /// Ends the window: forgets what will not be told again and starts the others anew.
    fn evict(&mut self) {
        let delta = self.settings.temporality == Temporality::Delta;
        let settings = &self.settings.histogram;
        let mut evicted = 0_usize;
        for entry in &mut self.entries {
            let Some(state) = self.resources.get_mut(&entry.resource_id) else {
                continue;
            };
            let gone = Arc::strong_count(&state.resource) == 1;
            entry.series.retain_mut(|series| {
                let keep = series.touched || !(delta || gone);
                if keep && delta {
                    series.reset(settings);
                }
                series.touched = false;
                if !keep {
                    evicted += 1;
                    if let Some(count) = count_of(&mut state.counts, series.instrument) {
                        *count = count.saturating_sub(1);
                    }
                }
                keep
            });
        }
        if evicted == 0 {
            return;
        }
        self.stats.evicted += evicted as u64;
        self.held = self.held.saturating_sub(evicted);
        self.entries.retain(|entry| !entry.series.is_empty());
        self.resources
            .retain(|_, state| state.counts.iter().any(|(_, count)| *count > 0));
        self.index.clear();
        self.recent = Recent::default();
        let entries = &self.entries;
        for (at, entry) in entries.iter().enumerate() {
            self.index.insert_unique(entry.hash, at, |other| {
                entries.get(*other).map_or(0, |entry| entry.hash)
            });
        }
    }

    #[inline]
    fn hash(&self, resource_id: u64, attributes: &[Attribute]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(resource_id);
        for attribute in attributes {
            hasher.write(attribute.key.as_bytes());
            match &attribute.value {
                Value::Str(text) => hasher.write(text.as_bytes()),
                Value::I64(value) => hasher.write_i64(*value),
                Value::Bool(value) => hasher.write_u8(u8::from(*value)),
                Value::F64(value) => hasher.write_u64(value.to_bits()),
                Value::StrArray(texts) => {
                    for text in texts {
                        hasher.write(text.as_bytes());
                    }
                }
            }
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
        if self.held >= self.settings.max_series {
            return None;
        }
        self.held += 1;
        let state = self
            .resources
            .entry(resource.id())
            .or_insert_with(|| ResourceState {
                resource: Arc::clone(resource),
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
            self.window_start,
            &self.settings.histogram,
        ));
        Some((at, entry.series.len() - 1))
    }
}

/// Pairs of resource and set of attributes whose entry is known without a look at the attributes.
#[derive(Debug, Default)]
struct Recent(Vec<(u64, u64, usize)>);

impl Recent {
    const PLACES: usize = 1024;

    #[inline]
    fn place(resource: u64, set: u64) -> usize {
        // Both are numbers in the order of their making: neighbours stay apart by themselves.
        (resource.wrapping_mul(37) ^ set) as usize % Self::PLACES
    }

    #[inline]
    fn get(&self, resource: u64, set: u64) -> Option<usize> {
        let (of, with, entry) = self.0.get(Self::place(resource, set))?;
        (*of == resource && *with == set).then_some(*entry)
    }

    fn put(&mut self, resource: u64, set: u64, entry: usize) {
        // No resource and no set has the number 0.
        self.0.resize(Self::PLACES, (0, 0, 0));
        if let Some(place) = self.0.get_mut(Self::place(resource, set)) {
            *place = (resource, set, entry);
        }
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

fn count_of<'a>(
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
