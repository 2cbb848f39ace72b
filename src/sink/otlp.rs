//! OTLP: spans as they end, metrics at their interval; over the network, or as JSON lines into a stream.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use spandrel_exporter::metrics::{Aggregator, AggregatorSettings, OverflowReport};
use spandrel_exporter::reason::{SHUTDOWN_DEADLINE, WRITE_FAILED};
use spandrel_exporter::{Exporter, ExporterSettings, Observed, Target, Timings};
use spandrel_model::ledger::{Account, DestinationAccounts};
use spandrel_model::{KernelTime, Ledger, Measured, Resource, UnixTime};
use spandrel_sampling::{Decision, SamplingSettings, SpanSampler};
use tokio::runtime::{Builder, Handle, Runtime};

use super::first_error::FirstError;
use super::{Deadline, Sink};

/// What the sink is told.
pub struct OtlpSinkSettings {
    /// Destinations, batches, queue and retries.
    pub exporter: ExporterSettings,
    /// Which spans are exported; what is measured of them counts in any case.
    pub sampling: SamplingSettings,
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
    sampler: SpanSampler,
    ledger: Arc<Ledger>,
    views: Vec<View>,
    deadline: Deadline,
    timed: bool,
    /// The destinations that are streams: a reader that stands still is told of.
    streams: Vec<(String, Arc<DestinationAccounts>)>,
    console: FirstError,
    runtime: Arc<ExportRuntime>,
}

/// The export threads. A write to a stream whose reader stands still never ends: the end does not wait for it.
pub struct ExportRuntime {
    handle: Handle,
    owned: Option<Runtime>,
}

impl ExportRuntime {
    /// To start tasks on it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for ExportRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.owned.take() {
            runtime.shutdown_background();
        }
    }
}

fn watched(target: Target, console: &FirstError) -> Target {
    match target {
        Target::Console(stream, format) => Target::Console(console.watch(stream), format),
        other => other,
    }
}

fn is_stream(target: Option<&Target>) -> bool {
    matches!(target, Some(Target::Console(..) | Target::File(_)))
}

impl OtlpSink {
    /// Starts the exporter.
    pub fn start(mut settings: OtlpSinkSettings, ledger: &Arc<Ledger>) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("export")
            .enable_all()
            .build()
            .context("cannot start the export thread")?;
        let destinations = settings.exporter.destinations.iter();
        let streams = destinations
            .filter(|to| is_stream(to.traces.as_ref()) || is_stream(to.metrics.as_ref()))
            .map(|to| (to.name.clone(), ledger.destination(&to.name)))
            .collect();
        let console = FirstError::default();
        for to in &mut settings.exporter.destinations {
            for target in [&mut to.traces, &mut to.metrics] {
                *target = target.take().map(|it| watched(it, &console));
            }
        }
        let exporter = Exporter::start(settings.exporter, Arc::clone(ledger), runtime.handle())?;
        Ok(Self {
            exporter: Some(exporter),
            sampler: SpanSampler::new(settings.sampling),
            ledger: Arc::clone(ledger),
            views: settings
                .views
                .into_iter()
                .map(|view| View {
                    aggregator: Aggregator::new(view.aggregator, Arc::clone(ledger)),
                    interval: u64::try_from(view.interval.as_nanos()).unwrap_or(u64::MAX),
                    collected: None,
                })
                .collect(),
            deadline: Deadline::new(settings.shutdown_timeout),
            timed: settings.timed,
            streams,
            console,
            runtime: Arc::new(ExportRuntime {
                handle: runtime.handle().clone(),
                owned: Some(runtime),
            }),
        })
    }

    /// The runtime of the export thread.
    pub fn runtime(&self) -> Arc<ExportRuntime> {
        Arc::clone(&self.runtime)
    }

    /// The deadline of the end, for what ends together with this sink.
    pub fn deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    /// What overflows in the metrics of each view.
    pub fn overflow_reports(&self) -> Vec<OverflowReport> {
        let views = self.views.iter();
        views
            .map(|view| view.aggregator.overflow_report())
            .collect()
    }

    /// How long the collections of each view take.
    pub fn collections(&self) -> Vec<Timings> {
        let views = self.views.iter();
        views.map(|view| view.aggregator.collections()).collect()
    }

    /// The exporter, for the agent's own metrics; there is none any more after the end.
    pub fn observed(&self) -> Option<Observed> {
        self.exporter.as_ref().map(Exporter::observed)
    }

    /// Takes a request into the metrics, and leaves its span to others.
    pub fn measure(&mut self, resource: &Arc<Resource>, measured: &Measured) {
        let resource = resource.instance();
        for (index, view) in self.views.iter_mut().enumerate() {
            view.aggregator.record(resource, measured);
            let last_points = view.aggregator.take_last_points();
            if let Some(exporter) = &mut self.exporter {
                for batch in last_points {
                    exporter.export_view(index, batch);
                }
            }
        }
    }

    /// A stream is on this machine: one that stands still or cannot be written is a failure of this run.
    fn streams_end(&self) -> io::Result<()> {
        self.console.check()?;
        let of = |account: &Account, reason| {
            let dropped = account.snapshot().dropped;
            dropped.get(reason).copied().unwrap_or(0)
        };
        let lost_for = |to: &DestinationAccounts, reason| {
            of(&to.spans, reason) + of(&to.metric_points, reason)
        };
        for (name, to) in &self.streams {
            let lost = lost_for(to, WRITE_FAILED);
            if lost > 0 {
                return Err(io::Error::other(format!(
                    "`{name}` could not be written, as the log says: {lost} spans and metric points are lost"
                )));
            }
        }
        let streams = self.streams.iter();
        let lost: u64 = streams.map(|(_, to)| lost_for(to, SHUTDOWN_DEADLINE)).sum();
        if lost == 0 {
            return Ok(());
        }
        let timeout = self.deadline.timeout();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "nobody reads the output: {lost} spans and metric points were not written within {timeout:?}"
            ),
        ))
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
    fn accept(&mut self, resource: &Arc<Resource>, mut measured: Measured) -> io::Result<()> {
        // First the decision, so that no exemplar names a span that is not exported. The measurements all count.
        let decision = self.sampler.decide(resource, &mut measured.span);
        self.measure(resource, &measured);
        match (decision, &mut self.exporter) {
            (Decision::Drop(reason), _) => {
                self.ledger.spans.see(1);
                self.ledger.spans.drop_for(reason, 1);
            }
            (Decision::Keep, Some(exporter)) => {
                exporter.export_spans([(Arc::clone(resource), measured.span)]);
            }
            (Decision::Keep, None) => {}
        }
        Ok(())
    }

    fn tick(&mut self, kernel: KernelTime, unix: UnixTime) -> io::Result<()> {
        self.sampler.tick(kernel);
        self.collect(Some(kernel), unix);
        if self.timed
            && let Some(exporter) = &mut self.exporter
        {
            exporter.tick(Instant::now());
        }
        self.console.check()
    }

    fn finish(&mut self, unix: UnixTime) -> io::Result<()> {
        self.collect(None, unix);
        for report in self.overflow_reports() {
            let overflows = report.read();
            if !overflows.is_nothing() {
                tracing::warn!("in this run {overflows}");
            }
        }
        if let Some(exporter) = self.exporter.take() {
            let left = self.deadline.left(Instant::now());
            let report = self.runtime.handle().block_on(exporter.shutdown(left));
            // What is left on disk is not lost, and the queue has told of it.
            let lost = report.lost_spans + report.lost_points;
            if !report.drained && lost > 0 {
                tracing::warn!(
                    "{} spans and {} metric points were not sent within {:?} and are lost; \
                     raise shutdown_timeout to wait longer",
                    report.lost_spans,
                    report.lost_points,
                    self.deadline.timeout()
                );
            }
            return self.streams_end();
        }
        Ok(())
    }
}
