//! Measurements into any `PushMetricExporter` of the SDK: the SDK aggregates in place of our aggregator.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use spandrel_model::{Attribute, Instrument, InstrumentKind, Measured, Measurement, Resource};

use super::{key_value, resource};
use crate::otlp::SCOPE_NAME;

/// One exporter for the providers of many resources.
#[derive(Debug)]
struct Shared<E>(Arc<E>);

impl<E: PushMetricExporter> PushMetricExporter for Shared<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.0.export(metrics).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        // The end of one resource's provider is not the end of the others'.
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        self.0.temporality()
    }
}

#[derive(Debug)]
struct Provider {
    provider: SdkMeterProvider,
    meter: Meter,
    instruments: HashMap<&'static str, Made>,
    used: u64,
}

#[derive(Debug)]
enum Made {
    Histogram(Histogram<f64>),
    Counter(Counter<u64>),
}

impl Made {
    fn new(instrument: &Instrument, meter: &Meter) -> Self {
        match instrument.kind {
            InstrumentKind::Histogram => Self::Histogram(
                meter
                    .f64_histogram(instrument.name)
                    .with_unit(instrument.unit)
                    .with_description(instrument.description)
                    .build(),
            ),
            InstrumentKind::Counter => Self::Counter(
                meter
                    .u64_counter(instrument.name)
                    .with_unit(instrument.unit)
                    .with_description(instrument.description)
                    .build(),
            ),
        }
    }
}

impl Provider {
    fn record(&mut self, measurements: &[Measurement], attributes: &[KeyValue]) {
        for measurement in measurements {
            let instrument = measurement.instrument;
            let meter = &self.meter;
            let made = self.instruments.entry(instrument.name);
            match made.or_insert_with(|| Made::new(instrument, meter)) {
                Made::Histogram(histogram) => histogram.record(measurement.value, attributes),
                Made::Counter(counter) => counter.add(1, attributes),
            }
        }
    }
}

/// Records measurements with the SDK, a meter provider for each resource, because a provider knows one at a time.
///
/// At most `capacity` resources have one: the one that was not used for longest is flushed and ends for a new one.
#[derive(Debug)]
pub struct SdkMetricSink<E> {
    exporter: Arc<E>,
    interval: Duration,
    capacity: usize,
    providers: HashMap<u64, Provider>,
    clock: u64,
}

impl<E: PushMetricExporter> SdkMetricSink<E> {
    /// A sink in front of an exporter, which gets each resource's metrics at every interval.
    pub fn new(exporter: E, interval: Duration, capacity: usize) -> Self {
        Self {
            exporter: Arc::new(exporter),
            interval,
            capacity: capacity.max(1),
            providers: HashMap::new(),
            clock: 0,
        }
    }

    /// Adds the measurements of one exchange.
    pub fn record(&mut self, owner: &Arc<Resource>, measured: &Measured) {
        self.clock += 1;
        let clock = self.clock;
        if !self.providers.contains_key(&owner.id()) && self.providers.len() >= self.capacity {
            self.end_the_oldest();
        }
        let (exporter, interval) = (&self.exporter, self.interval);
        let provider = self.providers.entry(owner.id()).or_insert_with(|| {
            let reader = PeriodicReader::builder(Shared(Arc::clone(exporter)))
                .with_interval(interval)
                .build();
            let provider = SdkMeterProvider::builder()
                .with_resource(resource(owner))
                .with_reader(reader)
                .build();
            Provider {
                meter: provider.meter(SCOPE_NAME),
                provider,
                instruments: HashMap::new(),
                used: clock,
            }
        });
        provider.used = clock;
        let of = |set: &[Attribute]| set.iter().cloned().map(key_value).collect::<Vec<_>>();
        provider.record(&measured.measurements, &of(&measured.metric_attributes));
        if let Some(edge) = &measured.edge {
            provider.record(&edge.measurements, &of(&edge.attributes));
        }
    }

    /// Exports now. Blocks: not for a thread of a runtime.
    pub fn flush(&self) -> OTelSdkResult {
        self.providers
            .values()
            .map(|provider| provider.provider.force_flush())
            .fold(Ok(()), Result::and)
    }

    /// Exports a last time and ends. Blocks: not for a thread of a runtime.
    pub fn shutdown(mut self) -> OTelSdkResult {
        let ended = self
            .providers
            .drain()
            .map(|(_, provider)| provider.provider.shutdown())
            .fold(Ok(()), Result::and);
        ended.and(self.exporter.shutdown())
    }

    fn end_the_oldest(&mut self) {
        let oldest = self.providers.iter().min_by_key(|(_, each)| each.used);
        let Some(id) = oldest.map(|(id, _)| *id) else {
            return;
        };
        if let Some(ended) = self.providers.remove(&id)
            && let Err(error) = ended.provider.shutdown()
        {
            tracing::warn!(%error, "the last metrics of a resource were not exported");
        }
    }
}
