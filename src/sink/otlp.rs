//! OTLP: spans as they end, metrics at their interval; over the network, or as JSON lines into a stream.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use spandrel_exporter::metrics::{Aggregator, AggregatorSettings};
use spandrel_exporter::{Exporter, ExporterSettings};
use spandrel_model::{KernelTime, Ledger, Measured, Resource, UnixTime};
use tokio::runtime::{Builder, Runtime};

use super::Sink;

/// What the sink is told.
pub struct OtlpSinkSettings {
    /// Destinations, batches, queue and retries.
    pub exporter: ExporterSettings,
    /// How measurements become points.
    pub aggregator: AggregatorSettings,
    /// How often metrics are collected; `None` for no metrics at all.
    pub interval: Option<Duration>,
    /// How long the end may take.
    pub shutdown_timeout: Duration,
    /// Send by the clock as well as by size. Off in a replay, whose output must not depend on when it runs.
    pub timed: bool,
}

/// Hands spans and metric points to the exporter, which never blocks a live pipeline.
pub struct OtlpSink {
    exporter: Option<Exporter>,
    aggregator: Option<Aggregator>,
    interval: u64,
    collected: Option<KernelTime>,
    shutdown_timeout: Duration,
    timed: bool,
    runtime: Arc<Runtime>,
}

impl OtlpSink {
    /// Starts the exporter.
    pub fn start(settings: OtlpSinkSettings, ledger: &Arc<Ledger>) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("export")
            .enable_all()
            .build()
            .context("cannot start the export thread")?;
        let exporter = Exporter::start(settings.exporter, Arc::clone(ledger), runtime.handle())?;
        Ok(Self {
            exporter: Some(exporter),
            aggregator: settings
                .interval
                .map(|_| Aggregator::new(settings.aggregator, Arc::clone(ledger))),
            interval: settings.interval.map_or(u64::MAX, |interval| {
                u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)
            }),
            collected: None,
            shutdown_timeout: settings.shutdown_timeout,
            timed: settings.timed,
            runtime: Arc::new(runtime),
        })
    }

    /// The runtime of the export thread.
    pub fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(&self.runtime)
    }

    fn collect(&mut self, unix: UnixTime) {
        if let (Some(aggregator), Some(exporter)) = (&mut self.aggregator, &mut self.exporter)
            && let Some(batch) = aggregator.collect(unix)
        {
            exporter.export_metrics(batch);
        }
    }
}

impl Sink for OtlpSink {
    fn accept(&mut self, resource: &Arc<Resource>, measured: Measured) -> io::Result<()> {
        if let Some(aggregator) = &mut self.aggregator {
            aggregator.record(resource, &measured);
        }
        if let Some(exporter) = &mut self.exporter {
            exporter.export_spans([(Arc::clone(resource), measured.span)]);
        }
        Ok(())
    }

    fn tick(&mut self, kernel: KernelTime, unix: UnixTime) -> io::Result<()> {
        if kernel.since(*self.collected.get_or_insert(kernel)) >= self.interval {
            self.collected = Some(kernel);
            self.collect(unix);
        }
        if self.timed
            && let Some(exporter) = &mut self.exporter
        {
            exporter.tick(Instant::now());
        }
        Ok(())
    }

    fn finish(&mut self, unix: UnixTime) -> io::Result<()> {
        self.collect(unix);
        if let Some(exporter) = self.exporter.take() {
            let report = self
                .runtime
                .block_on(exporter.shutdown(self.shutdown_timeout));
            if !report.drained {
                tracing::warn!(
                    "{} spans and {} metric points were not sent within {:?} and are lost; \
                     raise shutdown_timeout to wait longer",
                    report.lost_spans,
                    report.lost_points,
                    self.shutdown_timeout
                );
            }
        }
        Ok(())
    }
}
