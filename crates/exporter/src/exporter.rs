//! The exporter as the pipeline sees it: takes spans and points, never blocks, and ends with a closed ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spandrel_model::{Ledger, Resource, SpanRecord};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::batch::SpanBatcher;
use crate::carried::{Carried, Signal};
use crate::error::ExporterError;
use crate::metrics::MetricsBatch;
use crate::otlp::{Form, ResourceCache, encode_metrics, metrics_json};
use crate::queue::{Queue, Request};
use crate::reason;
use crate::retry::Gate;
use crate::sender::{Outcome, Sender, StreamWriter};
use crate::settings::{
    Compression, Destination, ExporterSettings, OtlpSettings, Protocol, QueueSettings,
    RetrySettings,
};
use crate::worker;

/// One destination: what waits for it and who sends it.
#[derive(Debug)]
struct Lane {
    form: Form,
    queue: Arc<Queue>,
    gate: Option<Arc<Gate>>,
}

/// What was not delivered when the exporter ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Whether everything had ended before the deadline.
    pub drained: bool,
    /// Spans lost to the deadline.
    pub lost_spans: u64,
    /// Metric points lost to the deadline.
    pub lost_points: u64,
}

/// Takes spans and metric points and delivers them.
#[derive(Debug)]
pub struct Exporter {
    ledger: Arc<Ledger>,
    max_request_bytes: usize,
    batcher: Option<SpanBatcher>,
    points: ResourceCache,
    traces: Option<Lane>,
    metrics: Option<Lane>,
    workers: Vec<JoinHandle<()>>,
}

impl Exporter {
    /// Reads certificates, opens files, starts the workers. Connects to nothing yet.
    /// The runtime needs its timers and its IO enabled.
    pub fn start(
        settings: ExporterSettings,
        ledger: Arc<Ledger>,
        runtime: &Handle,
    ) -> Result<Self, ExporterError> {
        let ExporterSettings {
            traces,
            metrics,
            batch,
            queue,
            retry,
        } = settings;
        let mut starter = Starter {
            queue,
            retry,
            runtime,
            workers: Vec::new(),
        };
        let traces = match traces {
            Some(Destination::SameStream) => return Err(ExporterError::NoStreamToShare),
            Some(destination) => Some(starter.lane(destination, Signal::Traces)?),
            None => None,
        };
        let metrics = match (metrics, &traces) {
            (None, _) => None,
            (Some(Destination::SameStream), Some(lane)) if lane.form == Form::Json => Some(Lane {
                form: Form::Json,
                queue: Arc::clone(&lane.queue),
                gate: None,
            }),
            (Some(Destination::SameStream), _) => return Err(ExporterError::NoStreamToShare),
            (Some(destination), _) => Some(starter.lane(destination, Signal::Metrics)?),
        };
        Ok(Self {
            max_request_bytes: batch.max_request_bytes,
            points: ResourceCache::new(Form::Protobuf, batch.resource_cache_size),
            batcher: traces
                .as_ref()
                .map(|lane| SpanBatcher::new(batch, lane.form, Arc::clone(&ledger))),
            ledger,
            traces,
            metrics,
            workers: starter.workers,
        })
    }

    /// Takes spans. Never waits (unless `block_on_overflow` says so); call [`Self::tick`] afterwards.
    pub fn export_spans(&mut self, spans: impl IntoIterator<Item = (Arc<Resource>, SpanRecord)>) {
        let (Some(batcher), Some(lane)) = (&mut self.batcher, &self.traces) else {
            let mut lost = Carried::new(Arc::clone(&self.ledger), Signal::Traces);
            lost.see(spans.into_iter().count() as u64);
            return lost.drop_for(reason::NO_DESTINATION);
        };
        for (resource, span) in spans {
            if let Some(request) = batcher.push(&resource, &span) {
                lane.queue.push(request);
            }
        }
    }

    /// Takes the points of one collection.
    pub fn export_metrics(&mut self, batch: MetricsBatch) {
        let MetricsBatch {
            resources,
            mut carried,
        } = batch;
        let Some(lane) = &self.metrics else {
            return carried.drop_for(reason::NO_DESTINATION);
        };
        let push = |body: Bytes, carried: Carried| {
            lane.queue.push(Request {
                signal: Signal::Metrics,
                body,
                carried,
            });
        };
        if lane.form == Form::Json {
            let mut body = metrics_json(&resources);
            if !body.is_empty() {
                body.push(b'\n');
                push(body.into(), carried);
            }
            return;
        }
        for request in encode_metrics(&resources, &mut self.points, self.max_request_bytes) {
            push(request.body, carried.split(request.points));
        }
        carried.drop_for(reason::TOO_LARGE);
    }

    /// Sends what is due by now. Returns when it wants to be called next, if something waits for that time.
    /// Time reaches the batches only this way.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        let due = self.batcher.as_mut()?.due(now)?;
        if due > now {
            return Some(due);
        }
        self.flush();
        None
    }

    /// Hands what waits for more spans to the workers, now.
    pub fn flush(&mut self) {
        if let (Some(batcher), Some(lane)) = (&mut self.batcher, &self.traces)
            && let Some(request) = batcher.flush()
        {
            lane.queue.push(request);
        }
    }

    /// Flushes and waits until everything has ended; whether it has, in time. Not to be called on a runtime's thread.
    pub fn flush_blocking(&mut self, timeout: Duration) -> bool {
        self.flush();
        let until = Instant::now() + timeout;
        self.lanes().all(|lane| {
            lane.queue
                .wait_until_done(until.saturating_duration_since(Instant::now()))
        })
    }

    /// Bytes that wait in the queues.
    pub fn queued_bytes(&self) -> usize {
        self.lanes().map(|lane| lane.queue.bytes()).sum()
    }

    /// Flushes, lets the workers finish until the deadline, and counts what is left as lost. Afterwards every span and
    /// point that was taken has ended in the ledger.
    pub async fn shutdown(mut self, deadline: Duration) -> ShutdownReport {
        self.flush();
        for lane in self.lanes() {
            lane.queue.close();
            if let Some(gate) = &lane.gate {
                gate.hurry();
            }
        }
        let until = tokio::time::Instant::now() + deadline;
        let mut drained = true;
        for worker in &mut self.workers {
            if tokio::time::timeout_at(until, &mut *worker).await.is_err() {
                drained = false;
                worker.abort();
                // The task is gone once it has been waited for, and what it carried is counted.
                worker.await.unwrap_or_default();
            }
        }
        for lane in self.lanes() {
            lane.queue.clear();
        }
        let lost = |account: &spandrel_model::Account| {
            let dropped = account.snapshot().dropped;
            dropped.get(reason::SHUTDOWN_DEADLINE).copied().unwrap_or(0)
        };
        ShutdownReport {
            drained,
            lost_spans: lost(&self.ledger.spans),
            lost_points: lost(&self.ledger.metric_points),
        }
    }

    /// Sends one empty request, with the real headers and certificates, to find out whether the endpoint takes OTLP.
    /// Returns what was found, in words.
    pub async fn probe(settings: &OtlpSettings, signal: Signal) -> Result<String, ExporterError> {
        let mut settings = settings.clone();
        settings.compression = Compression::None;
        let outcome = Sender::new(&settings, signal)?.send(&Bytes::new()).await;
        let protocol = match settings.protocol {
            Protocol::Grpc => "grpc",
            Protocol::HttpProtobuf => "http/protobuf",
        };
        let failed = |message: String| ExporterError::Probe {
            endpoint: settings.endpoint.clone(),
            message,
        };
        match outcome {
            Outcome::Accepted | Outcome::Partial(_) => Ok(format!(
                "{}: takes {} over {protocol}",
                settings.endpoint,
                signal.name()
            )),
            // Some backends call an empty request wrong, but only after they have let us in.
            Outcome::Permanent { reason, message }
                if reason == reason::PERMANENT_REQUEST && is_about_content(&message) =>
            {
                Ok(format!(
                    "{}: answers over {protocol}, and refuses an empty request ({message})",
                    settings.endpoint
                ))
            }
            Outcome::Permanent { reason, message } if reason == reason::PERMANENT_AUTH => {
                Err(failed(format!(
                    "{message}; check the headers of the exporter, for example the API key"
                )))
            }
            Outcome::Permanent { message, .. } => Err(failed(format!(
                "{message}; check endpoint and protocol ({protocol} is set)"
            ))),
            Outcome::Retryable { message, .. } => Err(failed(message)),
        }
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.traces.iter().chain(&self.metrics)
    }
}

fn is_about_content(message: &str) -> bool {
    ["HTTP 400", "HTTP 422", "gRPC InvalidArgument"]
        .iter()
        .any(|prefix| message.starts_with(prefix))
}

struct Starter<'a> {
    queue: QueueSettings,
    retry: RetrySettings,
    runtime: &'a Handle,
    workers: Vec<JoinHandle<()>>,
}

impl Starter<'_> {
    fn lane(&mut self, destination: Destination, signal: Signal) -> Result<Lane, ExporterError> {
        let queue = Arc::new(Queue::new(self.queue.clone()));
        let stream = match destination {
            Destination::Otlp(settings) => {
                let sender = {
                    // The client's timers belong to the runtime.
                    let _entered = self.runtime.enter();
                    Arc::new(Sender::new(&settings, signal)?)
                };
                let gate = Arc::new(Gate::new(self.retry.clone()));
                for _ in 0..self.queue.num_consumers.max(1) {
                    let (queue, sender, gate) =
                        (Arc::clone(&queue), Arc::clone(&sender), Arc::clone(&gate));
                    let task = worker::run(queue, sender, gate);
                    self.workers.push(self.runtime.spawn(task));
                }
                return Ok(Lane {
                    form: Form::Protobuf,
                    queue,
                    gate: Some(gate),
                });
            }
            Destination::Console(stream, _) => StreamWriter::new(stream),
            Destination::File(path) => StreamWriter::append_to(&path)?,
            Destination::SameStream => return Err(ExporterError::NoStreamToShare),
        };
        let task = worker::write(Arc::clone(&queue), stream);
        self.workers.push(self.runtime.spawn(task));
        Ok(Lane {
            form: Form::Json,
            queue,
            gate: None,
        })
    }
}
