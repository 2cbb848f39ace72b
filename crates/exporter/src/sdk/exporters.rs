//! Our sender as exporters of the OpenTelemetry SDK: for programs that make spans, metrics and logs with the SDK and
//! want this crate's queues, retries, destinations and ledger behind it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::logs::tonic::group_logs_by_resource_and_scope;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prost::Message;

use crate::carried::Signal;
use crate::exporter::Exporter;

/// Longest time that a flush waits for the destinations.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// An [`Exporter`] that several providers of the SDK share. A clone is the same exporter for another signal; it ends with
/// the shutdown of the last one.
///
/// `export` returns as soon as the queues have the data: what happens then is in the ledger. `force_flush` waits for
/// the destinations. Requests go to the destinations that speak OTLP, as they are: profiles' limits on attributes hold
/// for what Spandrel itself makes.
pub struct SharedExporter {
    exporter: Arc<Mutex<Option<Exporter>>>,
    /// How many shares have not been shut down.
    live: Arc<AtomicUsize>,
    ended: AtomicBool,
    runtime: tokio::runtime::Handle,
    resource: Resource,
    temporality: Temporality,
}

impl Clone for SharedExporter {
    fn clone(&self) -> Self {
        self.live.fetch_add(1, Ordering::Relaxed);
        Self {
            exporter: Arc::clone(&self.exporter),
            live: Arc::clone(&self.live),
            ended: AtomicBool::new(false),
            runtime: self.runtime.clone(),
            resource: self.resource.clone(),
            temporality: self.temporality,
        }
    }
}

impl Drop for SharedExporter {
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            self.live.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl fmt::Debug for SharedExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedExporter")
    }
}

impl SharedExporter {
    /// Shares an exporter whose workers run on `runtime`.
    pub fn new(exporter: Exporter, runtime: tokio::runtime::Handle) -> Self {
        Self {
            exporter: Arc::new(Mutex::new(Some(exporter))),
            live: Arc::new(AtomicUsize::new(1)),
            ended: AtomicBool::new(false),
            runtime,
            resource: Resource::builder_empty().build(),
            temporality: Temporality::Cumulative,
        }
    }

    /// The same with another temporality of metrics: delta for backends that take nothing else.
    #[must_use]
    pub fn with_temporality(mut self, temporality: Temporality) -> Self {
        self.temporality = temporality;
        self
    }

    fn schema(&self) -> ResourceAttributesWithSchema {
        (&self.resource).into()
    }

    fn hand_over(&self, signal: Signal, body: Vec<u8>, items: usize) -> OTelSdkResult {
        if self.ended.load(Ordering::Relaxed) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        if items == 0 {
            return Ok(());
        }
        match self.lock().as_mut() {
            Some(exporter) => {
                exporter.export_encoded(signal, Bytes::from(body), items as u64);
                Ok(())
            }
            None => Err(OTelSdkError::AlreadyShutdown),
        }
    }

    /// Waits until everything that was handed over has ended. Not for a thread of the runtime.
    fn flush(&self) -> OTelSdkResult {
        let until = Instant::now() + FLUSH_TIMEOUT;
        // Waits without the lock: the other signals go on.
        let Some(queues) = self.lock().as_mut().map(Exporter::flush_queues) else {
            return Err(OTelSdkError::AlreadyShutdown);
        };
        let left = || until.saturating_duration_since(Instant::now());
        if queues.iter().all(|queue| queue.wait_until_done(left())) {
            Ok(())
        } else {
            Err(OTelSdkError::Timeout(FLUSH_TIMEOUT))
        }
    }

    /// Ends this share, and the exporter with the last one. Not for a thread of the runtime.
    fn end(&self, timeout: Duration) -> OTelSdkResult {
        if self.ended.swap(true, Ordering::Relaxed) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        if self.live.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let Some(exporter) = self.lock().take() else {
            return Err(OTelSdkError::AlreadyShutdown);
        };
        if self.runtime.block_on(exporter.shutdown(timeout)).drained {
            Ok(())
        } else {
            Err(OTelSdkError::Timeout(timeout))
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Exporter>> {
        self.exporter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpanExporter for SharedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let items = batch.len();
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.schema());
        let request = ExportTraceServiceRequest { resource_spans };
        self.hand_over(Signal::Traces, request.encode_to_vec(), items)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.end(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.clone();
    }
}

impl LogExporter for SharedExporter {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let items = batch.iter().count();
        let resource_logs = group_logs_by_resource_and_scope(&batch, &self.schema());
        let request = ExportLogsServiceRequest { resource_logs };
        self.hand_over(Signal::Logs, request.encode_to_vec(), items)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.end(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.clone();
    }
}

impl PushMetricExporter for SharedExporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let request = ExportMetricsServiceRequest::from(metrics);
        let items = request
            .resource_metrics
            .iter()
            .flat_map(|resource| &resource.scope_metrics)
            .flat_map(|scope| &scope.metrics)
            .map(|metric| match &metric.data {
                Some(Data::Gauge(data)) => data.data_points.len(),
                Some(Data::Sum(data)) => data.data_points.len(),
                Some(Data::Histogram(data)) => data.data_points.len(),
                Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
                Some(Data::Summary(data)) => data.data_points.len(),
                None => 0,
            })
            .sum();
        self.hand_over(Signal::Metrics, request.encode_to_vec(), items)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.end(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.temporality
    }
}
