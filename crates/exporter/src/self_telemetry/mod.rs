//! The agent's own metrics, by opentelemetry_sdk and opentelemetry-otlp, under the agent's own resource.

mod batches;
pub mod catalogue;
mod destinations;
mod disk;
mod ledger;
mod others;
mod overflow;
mod process;
#[cfg(test)]
mod tests;
mod transport;

pub(crate) use destinations::error_type;
pub use others::Tell;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use spandrel_model::{Attribute, Ledger};
use tokio::runtime::Handle;

use crate::error::ExporterError;
use crate::metrics::OverflowReport;
use crate::observed::{Observed, Timings};
use crate::otlp::{SCHEMA_URL, SCOPE_NAME};
use crate::sdk;
use crate::settings::{OtlpSettings, Protocol};

/// Where the agent's own metrics go, and how often.
#[derive(Clone, Debug)]
pub struct SelfTelemetrySettings {
    /// The endpoint; for HTTP the full URL of the metrics signal.
    pub endpoint: OtlpSettings,
    /// Time between two exports.
    pub interval: Duration,
    /// Resource attributes beside `service.name` and `service.version`.
    pub attributes: Vec<Attribute>,
}

/// The agent's own metrics while they are exported.
#[derive(Debug)]
pub struct SelfTelemetry {
    provider: SdkMeterProvider,
}

impl SelfTelemetry {
    /// Starts to export the numbers of the ledger and of the process.
    pub fn start(
        settings: SelfTelemetrySettings,
        ledger: &Arc<Ledger>,
        runtime: &Handle,
    ) -> Result<Self, ExporterError> {
        // Connections belong to the runtime; the SDK's reader has a thread of its own.
        let _entered = runtime.enter();
        let exporter = match settings.endpoint.protocol {
            Protocol::Grpc => transport::grpc_exporter(&settings.endpoint)?,
            // The SDK's own metrics are protobuf also where the services' are JSON: servers take both.
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                transport::http_exporter(&settings.endpoint, runtime)?
            }
        };
        let reader = PeriodicReader::builder(exporter)
            .with_interval(settings.interval)
            .build();
        let attributes = settings.attributes.into_iter().map(sdk::key_value);
        let own = [
            KeyValue::new("service.name", "spandrel"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let resource = opentelemetry_sdk::Resource::builder_empty()
            .with_schema_url(attributes.chain(own), SCHEMA_URL)
            .build();
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(reader)
            .build();
        let meter = provider.meter(SCOPE_NAME);
        ledger::observe(&meter, ledger);
        process::observe(&meter);
        Ok(Self { provider })
    }

    /// Also exports what overflows in these aggregators.
    pub fn observe_overflows(&self, reports: Vec<OverflowReport>) {
        overflow::observe(&self.provider.meter(SCOPE_NAME), &Arc::from(reports));
    }

    /// Also exports what an exporter does. Once: of two, the second one's numbers would be lost.
    pub fn observe_exporter(&self, observed: &Observed) {
        let meter = self.provider.meter(SCOPE_NAME);
        let operations = catalogue::OPERATION_DURATION.histogram(&meter, &OPERATION_BOUNDS);
        for lane in observed.exported.iter() {
            for timings in &lane.operations {
                timings.listen(&operations, lane.attributes.clone());
            }
        }
        destinations::observe(&meter, observed);
        disk::observe(&meter, &observed.exported);
        batches::observe(&meter, &observed.batches);
    }

    /// Also exports how long the collections of these aggregators take, each a reader of its own.
    pub fn observe_collections(&self, collections: &[Timings]) {
        let meter = self.provider.meter(SCOPE_NAME);
        let histogram = catalogue::COLLECTION_DURATION.histogram(&meter, &COLLECTION_BOUNDS);
        for (number, timings) in collections.iter().enumerate() {
            timings.listen(
                &histogram,
                component("periodic_metric_reader", number).to_vec(),
            );
        }
    }

    /// Exports now. Blocks: not for a thread of the runtime.
    pub fn flush(&self) -> Result<(), ExporterError> {
        self.provider
            .force_flush()
            .map_err(|error| ExporterError::SelfTelemetry(error.to_string()))
    }

    /// Exports a last time and ends, both within this time. Blocks: not for a thread of the runtime.
    pub fn shutdown(self, within: Duration) -> Result<(), ExporterError> {
        let failed = |message: String| Err(ExporterError::SelfTelemetry(message));
        // The SDK's reader waits for its last export by a clock of its own, whatever it is told.
        let (done, end) = sync_channel(1);
        let ending = thread::Builder::new().name("own-metrics".to_owned());
        let provider = self.provider;
        let started = ending.spawn(move || {
            // Nobody listens any more where the time was over before.
            drop(done.send(provider.shutdown_with_timeout(within)));
        });
        if let Err(error) = started {
            return failed(format!("cannot start a thread: {error}"));
        }
        match end.recv_timeout(within) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => failed(error.to_string()),
            Err(_) => failed(format!("no end within {within:?}")),
        }
    }
}

/// Bounds of the time of a collection, in seconds.
const COLLECTION_BOUNDS: [f64; 9] = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];

/// Bounds of the time of an export, in seconds: from one on the same machine to hours of retries.
const OPERATION_BOUNDS: [f64; 14] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0,
];

/// A part of the agent, by the conventions: numbered within its type, so that a restart gives the same names.
pub(crate) fn component(kind: &str, number: usize) -> [KeyValue; 2] {
    [
        KeyValue::new("otel.component.type", kind.to_owned()),
        KeyValue::new("otel.component.name", format!("{kind}/{number}")),
    ]
}
