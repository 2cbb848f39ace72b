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
    /// The views of the metrics that the destinations want, by index; none for no metrics at all.
    pub views: Vec<MetricsView>,
    /// How long the end may take.
    pub shutdown_timeout: Duration,
    /// Send by the clock as well as by size. Off in a replay, whose output must not depend on when it runs.
    pub timed: bool,
}

/// One way to make points of measurements. Destinations that want the same share it.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsView {
    /// How measurements become points.
    pub aggregator: AggregatorSettings,
    /// How often points are collected.
    pub interval: Duration,
}

struct View {
    aggregator: Aggregator,
    interval: u64,
    collected: Option<KernelTime>,
}

/// Hands spans and metric points to the exporter, which never blocks a live pipeline.
pub struct OtlpSink {
    exporter: Option<Exporter>,
    views: Vec<View>,
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
            views: settings
                .views
                .into_iter()
                .map(|view| View {
                    aggregator: Aggregator::new(view.aggregator, Arc::clone(ledger)),
                    interval: u64::try_from(view.interval.as_nanos()).unwrap_or(u64::MAX),
                    collected: None,
                })
                .collect(),
            shutdown_timeout: settings.shutdown_timeout,
            timed: settings.timed,
            runtime: Arc::new(runtime),
        })
    }

    /// The runtime of the export thread.
    pub fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(&self.runtime)
    }

    /// Hands over the points of the views that are due at `kernel`, or of all of them.
    fn collect(&mut self, kernel: Option<KernelTime>, unix: UnixTime) {
        let Some(exporter) = &mut self.exporter else {
            return;
        };
        for (index, view) in self.views.iter_mut().enumerate() {
            if let Some(kernel) = kernel {
                if kernel.since(*view.collected.get_or_insert(kernel)) < view.interval {
                    continue;
                }
                view.collected = Some(kernel);
            }
            if let Some(batch) = view.aggregator.collect(unix) {
                exporter.export_view(index, batch);
            }
        }
    }
}

impl Sink for OtlpSink {
    fn accept(&mut self, resource: &Arc<Resource>, measured: Measured) -> io::Result<()> {
        for view in &mut self.views {
            view.aggregator.record(resource, &measured);
        }
        if let Some(exporter) = &mut self.exporter {
            exporter.export_spans([(Arc::clone(resource), measured.span)]);
        }
        Ok(())
    }

    fn tick(&mut self, kernel: KernelTime, unix: UnixTime) -> io::Result<()> {
        self.collect(Some(kernel), unix);
        if self.timed
            && let Some(exporter) = &mut self.exporter
        {
            exporter.tick(Instant::now());
        }
        Ok(())
    }

    fn finish(&mut self, unix: UnixTime) -> io::Result<()> {
        self.collect(None, unix);
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
