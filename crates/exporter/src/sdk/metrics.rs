//! Measurements into any `PushMetricExporter` of the SDK: the SDK aggregates in place of our aggregator.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use spandrel_model::{Measured, Resource};

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
    histograms: HashMap<&'static str, Histogram<f64>>,
    used: u64,
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
        let attributes: Vec<KeyValue> = measured
            .metric_attributes
            .iter()
            .cloned()
            .map(key_value)
            .collect();
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
                histograms: HashMap::new(),
                used: clock,
            }
        });
        provider.used = clock;
        for measurement in &measured.measurements {
            let instrument = measurement.instrument;
            let meter = &provider.meter;
            provider
                .histograms
                .entry(instrument.name)
                .or_insert_with(|| {
                    meter
                        .f64_histogram(instrument.name)
                        .with_unit(instrument.unit)
                        .with_description(instrument.description)
                        .build()
                })
                .record(measurement.value, &attributes);
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
