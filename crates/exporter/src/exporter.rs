//! The exporter as the pipeline sees it: takes spans and points, never blocks, and ends with a closed ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spandrel_model::{DestinationAccounts, Ledger, Resource, SpanRecord, redaction};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::batch::SpanBatcher;
use crate::carried::{Carried, Signal};
use crate::durable::DurableQueue;
use crate::error::ExporterError;
use crate::limits::{AttributeLimits, Limiter};
use crate::logs::ResourceLogs;
use crate::metrics::{MetricsBatch, ResourceMetrics};
use crate::observed::{Observed, Observing, Remote, Timings};
use crate::otlp::{Form, ResourceCache, encode_logs, encode_metrics, logs_json, metrics_json};
use crate::queue::{MemoryQueue, Queue, Request};
use crate::reason;
use crate::retry::Gate;
use crate::sender::{Outcome, Sender, StreamWriter};
use crate::settings::{
    BatchSettings, Compression, DestinationSettings, ExporterSettings, OtlpSettings, Protocol,
    QueueSettings, RetrySettings, Target,
};
use crate::worker;

/// One signal of one destination: what waits for it.
#[derive(Debug)]
struct Lane {
    destination: Arc<DestinationAccounts>,
    signal: Signal,
    form: Form,
    queue: Arc<Queue>,
    gate: Option<Arc<Gate>>,
    remote: Remote,
    operations: Timings,
}

impl Lane {
    fn push(&self, mut request: Request) {
        request.carried.hand_to(&self.destination);
        self.queue.push(request);
    }
}

/// Hands a request to each lane; the encoded bytes are shared.
fn ship(lanes: &[Arc<Lane>], request: Request) {
    let Some((last, others)) = lanes.split_last() else {
        return request.carried.drop_for(reason::NO_DESTINATION);
    };
    for lane in others {
        lane.push(request.fork());
    }
    last.push(request);
}

/// Hands one line of JSON to each lane, if there is anything in it.
fn ship_line(lanes: &[Arc<Lane>], signal: Signal, mut body: Vec<u8>, carried: Carried) {
    if !body.is_empty() {
        body.push(b'\n');
        let body = body.into();
        let request = Request {
            signal,
            body,
            carried,
        };
        ship(lanes, request);
    }
}

/// Hands encoded requests, each with the number of its items, to each lane. What is in none of them was too large.
fn ship_parts(
    lanes: &[Arc<Lane>],
    signal: Signal,
    parts: impl Iterator<Item = (Bytes, u64)>,
    mut carried: Carried,
) {
    for (body, items) in parts {
        let request = Request {
            signal,
            body,
            carried: carried.split(items),
        };
        ship(lanes, request);
    }
    carried.drop_for(reason::TOO_LARGE);
}

/// Lanes that want the same bytes of the spans.
#[derive(Debug)]
struct SpanGroup {
    settings: BatchSettings,
    limiter: Limiter,
    batcher: SpanBatcher,
    lanes: Vec<Arc<Lane>>,
}

/// Lanes that want the same bytes of the points of one view.
#[derive(Debug)]
struct PointGroup {
    view: usize,
    max_request_bytes: usize,
    limiter: Limiter,
    cache: ResourceCache,
    lanes: Vec<Arc<Lane>>,
}

impl PointGroup {
    fn send(&mut self, resources: &[ResourceMetrics], carried: Carried) {
        let resources = &*self.limiter.metrics(resources);
        let signal = Signal::Metrics;
        if self.cache.form() == Form::Json {
            return ship_line(&self.lanes, signal, metrics_json(resources), carried);
        }
        let parts = encode_metrics(resources, &mut self.cache, self.max_request_bytes);
        let parts = parts.into_iter().map(|part| (part.body, part.points));
        ship_parts(&self.lanes, signal, parts, carried);
    }
}

/// Lanes that want the same bytes of the log records.
#[derive(Debug)]
struct LogGroup {
    max_request_bytes: usize,
    cache: ResourceCache,
    lanes: Vec<Arc<Lane>>,
}

impl LogGroup {
    fn send(&mut self, logs: &[ResourceLogs], carried: Carried) {
        let signal = Signal::Logs;
        if self.cache.form() == Form::Json {
            return ship_line(&self.lanes, signal, logs_json(logs), carried);
        }
        let parts = encode_logs(logs, &mut self.cache, self.max_request_bytes);
        let parts = parts.into_iter().map(|part| (part.body, part.records));
        ship_parts(&self.lanes, signal, parts, carried);
    }
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
    /// Log records lost to the deadline.
    pub lost_logs: u64,
}

/// Takes spans and metric points and delivers them to each destination.
#[derive(Debug)]
pub struct Exporter {
    ledger: Arc<Ledger>,
    spans: Vec<SpanGroup>,
    points: Vec<PointGroup>,
    logs: Vec<LogGroup>,
    lanes: Vec<Arc<Lane>>,
    workers: Vec<JoinHandle<()>>,
}

impl Exporter {
    /// Reads certificates, opens files, starts the workers. Connects to nothing yet.
    /// The runtime needs its timers and its IO enabled.
    pub fn start(
        settings: impl Into<ExporterSettings>,
        ledger: Arc<Ledger>,
        runtime: &Handle,
    ) -> Result<Self, ExporterError> {
        let mut exporter = Self {
            ledger,
            spans: Vec::new(),
            points: Vec::new(),
            logs: Vec::new(),
            lanes: Vec::new(),
            workers: Vec::new(),
        };
        for destination in settings.into().destinations {
            exporter.add(destination, runtime)?;
        }
        Ok(exporter)
    }

    fn add(&mut self, to: DestinationSettings, runtime: &Handle) -> Result<(), ExporterError> {
        let mut starter = Starter {
            ledger: Arc::clone(&self.ledger),
            destination: self.ledger.destination(&to.name),
            retry: to.retry,
            queue: to.queue,
            max_request_bytes: to.batch.max_request_bytes,
            runtime,
            workers: &mut self.workers,
        };
        let traces = match to.traces {
            Some(Target::SameStream) => return Err(ExporterError::NoStreamToShare),
            Some(target) => Some(Arc::new(starter.lane(target, Signal::Traces)?)),
            None => None,
        };
        let metrics = starter.beside(to.metrics, traces.as_deref(), Signal::Metrics)?;
        let logs = starter.beside(to.logs, traces.as_deref(), Signal::Logs)?;
        if let Some(lane) = traces {
            self.lanes.push(Arc::clone(&lane));
            self.join_spans(&to.batch, to.limits, lane);
        }
        if let Some(lane) = logs.map(Arc::new) {
            self.lanes.push(Arc::clone(&lane));
            self.join_logs(&to.batch, lane);
        }
        if let Some(lane) = metrics.map(Arc::new) {
            self.lanes.push(Arc::clone(&lane));
            self.join_points(to.view, &to.batch, to.limits, lane);
        }
        Ok(())
    }

    fn join_spans(&mut self, settings: &BatchSettings, limits: AttributeLimits, lane: Arc<Lane>) {
        let same = |group: &&mut SpanGroup| {
            group.settings == *settings
                && group.limiter.limits() == limits
                && group.batcher.form() == lane.form
        };
        if let Some(group) = self.spans.iter_mut().find(same) {
            group.limiter.counts_for(&lane.destination);
            return group.lanes.push(lane);
        }
        let mut limiter = Limiter::new(limits, settings.resource_cache_size);
        limiter.counts_for(&lane.destination);
        self.spans.push(SpanGroup {
            batcher: SpanBatcher::new(settings.clone(), lane.form, Arc::clone(&self.ledger)),
            settings: settings.clone(),
            limiter,
            lanes: vec![lane],
        });
    }

    fn join_points(
        &mut self,
        view: usize,
        settings: &BatchSettings,
        limits: AttributeLimits,
        lane: Arc<Lane>,
    ) {
        let max_request_bytes = settings.max_request_bytes;
        let same = |group: &&mut PointGroup| {
            group.view == view
                && group.max_request_bytes == max_request_bytes
                && group.limiter.limits() == limits
                && group.cache.form() == lane.form
        };
        if let Some(group) = self.points.iter_mut().find(same) {
            group.limiter.counts_for(&lane.destination);
            return group.lanes.push(lane);
        }
        let mut limiter = Limiter::new(limits, settings.resource_cache_size);
        limiter.counts_for(&lane.destination);
        self.points.push(PointGroup {
            view,
            max_request_bytes,
            limiter,
            cache: ResourceCache::new(lane.form, settings.resource_cache_size),
            lanes: vec![lane],
        });
    }

    fn join_logs(&mut self, settings: &BatchSettings, lane: Arc<Lane>) {
        let max_request_bytes = settings.max_request_bytes;
        let same = |group: &&mut LogGroup| {
            group.max_request_bytes == max_request_bytes && group.cache.form() == lane.form
        };
        if let Some(group) = self.logs.iter_mut().find(same) {
            return group.lanes.push(lane);
        }
        self.logs.push(LogGroup {
            max_request_bytes,
            cache: ResourceCache::new(lane.form, settings.resource_cache_size),
            lanes: vec![lane],
        });
    }

    /// Takes spans. Never waits (unless `block_on_overflow` says so); call [`Self::tick`] afterwards.
    pub fn export_spans(&mut self, spans: impl IntoIterator<Item = (Arc<Resource>, SpanRecord)>) {
        if self.spans.is_empty() {
            let mut lost = Carried::new(Arc::clone(&self.ledger), Signal::Traces);
            lost.see(spans.into_iter().count() as u64);
            return lost.drop_for(reason::NO_DESTINATION);
        }
        for (resource, span) in spans {
            for group in &mut self.spans {
                let resource = group.limiter.resource(&resource);
                let span = group.limiter.span(&span);
                if let Some(request) = group.batcher.push(&resource, &span) {
                    ship(&group.lanes, request);
                }
            }
        }
    }

    /// Takes the points of one collection, for the destinations of view 0.
    pub fn export_metrics(&mut self, batch: MetricsBatch) {
        self.export_view(0, batch);
    }

    /// Takes the points of one collection, for the destinations that want this view of the metrics.
    pub fn export_view(&mut self, view: usize, batch: MetricsBatch) {
        let MetricsBatch { resources, carried } = batch;
        let mut groups = self.points.iter_mut().filter(|group| group.view == view);
        let Some(first) = groups.next() else {
            return carried.drop_for(reason::NO_DESTINATION);
        };
        for other in groups {
            other.send(&resources, carried.fork());
        }
        first.send(&resources, carried);
    }

    /// Takes log records and hands them to the workers at once.
    pub fn export_logs(&mut self, logs: &[ResourceLogs]) {
        let mut carried = Carried::new(Arc::clone(&self.ledger), Signal::Logs);
        let records: usize = logs.iter().map(|each| each.records.len()).sum();
        carried.see(records as u64);
        let Some((first, others)) = self.logs.split_first_mut() else {
            return carried.drop_for(reason::NO_DESTINATION);
        };
        for other in others {
            other.send(logs, carried.fork());
        }
        first.send(logs, carried);
    }

    /// Takes one whole `Export*ServiceRequest` in protobuf that was made elsewhere, with so many items in it, for the
    /// destinations that speak OTLP.
    pub(crate) fn export_encoded(&mut self, signal: Signal, body: Bytes, items: u64) {
        let mut carried = Carried::new(Arc::clone(&self.ledger), signal);
        carried.see(items);
        let lanes: Vec<_> = self
            .lanes
            .iter()
            .filter(|lane| lane.signal == signal && lane.form == Form::Protobuf)
            .cloned()
            .collect();
        let request = Request {
            signal,
            body,
            carried,
        };
        ship(&lanes, request);
    }

    /// Sends what is due by now. Returns when it wants to be called next, if something waits for that time.
    /// Time reaches the batches only this way.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for group in &mut self.spans {
            match group.batcher.due(now) {
                Some(due) if due > now => next = Some(next.map_or(due, |next| next.min(due))),
                Some(_) => {
                    if let Some(request) = group.batcher.flush() {
                        ship(&group.lanes, request);
                    }
                }
                None => {}
            }
        }
        next
    }

    /// Hands what waits for more spans to the workers, now.
    pub fn flush(&mut self) {
        for group in &mut self.spans {
            if let Some(request) = group.batcher.flush() {
                ship(&group.lanes, request);
            }
        }
    }

    /// Flushes and waits until everything has ended; whether it has, in time. Not to be called on a runtime's thread.
    pub fn flush_blocking(&mut self, timeout: Duration) -> bool {
        self.flush();
        let until = Instant::now() + timeout;
        self.lanes.iter().all(|lane| {
            lane.queue
                .wait_until_done(until.saturating_duration_since(Instant::now()))
        })
    }

    /// Flushes, and tells the queues to wait for.
    pub(crate) fn flush_queues(&mut self) -> Vec<Arc<Queue>> {
        self.flush();
        let queues = self.lanes.iter().map(|lane| Arc::clone(&lane.queue));
        queues.collect()
    }

    /// Bytes that wait in the queues.
    pub fn queued_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.queue.bytes()).sum()
    }

    /// What the agent's own metrics tell of it, also after its end.
    pub fn observed(&self) -> Observed {
        let mut observing = Observing::default();
        for lane in &self.lanes {
            let (queue, gate) = (&lane.queue, lane.gate.as_ref());
            observing.lane(
                &lane.destination,
                lane.signal,
                &lane.remote,
                queue,
                gate,
                &lane.operations,
            );
        }
        let batches = self.spans.iter().map(|group| group.batcher.stats());
        observing.end(batches.cloned().collect())
    }

    /// Flushes, lets the workers finish until the deadline, and counts what is left as lost. Afterwards every span and
    /// point that was taken has ended in the ledger.
    pub async fn shutdown(mut self, deadline: Duration) -> ShutdownReport {
        self.flush();
        for lane in &self.lanes {
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
        let queues: Vec<_> = self
            .lanes
            .iter()
            .map(|lane| Arc::clone(&lane.queue))
            .collect();
        // A disk may have to be waited for.
        let cleared = tokio::task::spawn_blocking(move || {
            queues.iter().for_each(|queue| queue.clear());
        });
        if let Err(error) = cleared.await {
            tracing::error!(%error, "a queue could not be closed");
        }
        let lost = |account: &spandrel_model::Account| {
            let dropped = account.snapshot().dropped;
            dropped.get(reason::SHUTDOWN_DEADLINE).copied().unwrap_or(0)
        };
        ShutdownReport {
            drained,
            lost_spans: lost(&self.ledger.spans),
            lost_points: lost(&self.ledger.metric_points),
            lost_logs: lost(&self.ledger.log_records),
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
            Protocol::HttpJson => "http/json",
        };
        let shown = redaction::url(&settings.endpoint);
        let failed = |message: String| ExporterError::Probe {
            endpoint: shown.clone(),
            message,
        };
        match outcome {
            Outcome::Accepted | Outcome::Partial(_) => {
                Ok(format!("{shown}: takes {} over {protocol}", signal.name()))
            }
            // Some backends call an empty request wrong, but only after they have let us in.
            Outcome::Permanent { reason, message }
                if reason == reason::PERMANENT_REQUEST && is_about_content(&message) =>
            {
                Ok(format!(
                    "{shown}: answers over {protocol}, and refuses an empty request ({message})"
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
}

fn is_about_content(message: &str) -> bool {
    ["HTTP 400", "HTTP 422", "gRPC InvalidArgument"]
        .iter()
        .any(|prefix| message.starts_with(prefix))
}

struct Starter<'a> {
    ledger: Arc<Ledger>,
    destination: Arc<DestinationAccounts>,
    retry: RetrySettings,
    queue: QueueSettings,
    max_request_bytes: usize,
    runtime: &'a Handle,
    workers: &'a mut Vec<JoinHandle<()>>,
}

impl Starter<'_> {
    /// A lane of its own, or through the stream of the traces.
    fn beside(
        &mut self,
        target: Option<Target>,
        traces: Option<&Lane>,
        signal: Signal,
    ) -> Result<Option<Lane>, ExporterError> {
        match (target, traces) {
            (None, _) => Ok(None),
            (Some(Target::SameStream), Some(lane)) if lane.form == Form::Json => Ok(Some(Lane {
                destination: Arc::clone(&lane.destination),
                signal,
                form: Form::Json,
                queue: Arc::clone(&lane.queue),
                gate: None,
                remote: lane.remote.clone(),
                operations: Timings::default(),
            })),
            (Some(Target::SameStream), _) => Err(ExporterError::NoStreamToShare),
            (Some(target), _) => self.lane(target, signal).map(Some),
        }
    }

    fn endpoint_queue(&self, signal: Signal) -> Result<Queue, ExporterError> {
        // Without a queue nothing waits, on disk neither.
        let storage = self.queue.storage.as_ref().filter(|_| self.queue.enabled);
        let Some(storage) = storage else {
            return Ok(Queue::Memory(MemoryQueue::new(self.queue.clone())));
        };
        let memory = self.queue.queue_size;
        let mut kept = Carried::new(Arc::clone(&self.ledger), signal);
        kept.hand_to(&self.destination);
        DurableQueue::open(storage, memory, &self.destination.name, signal, kept).map(Queue::Disk)
    }

    fn lane(&mut self, target: Target, signal: Signal) -> Result<Lane, ExporterError> {
        let stream = match target {
            Target::Otlp(mut settings) => {
                // A batch is as large as it may be; as JSON it is larger, and so it is split.
                settings
                    .max_request_bytes
                    .get_or_insert(self.max_request_bytes);
                let queue = Arc::new(self.endpoint_queue(signal)?);
                let remote = Remote::of(&settings)?;
                let sender = {
                    // The client's timers belong to the runtime.
                    let _entered = self.runtime.enter();
                    Arc::new(Sender::new(&settings, signal)?)
                };
                // A gate for each signal: each has an endpoint of its own, which may refuse alone.
                let gate = Arc::new(Gate::new(self.retry.clone()));
                let operations = Timings::default();
                for _ in 0..self.queue.num_consumers.max(1) {
                    let (sender, gate) = (Arc::clone(&sender), Arc::clone(&gate));
                    let task = worker::run(Arc::clone(&queue), sender, gate, operations.clone());
                    self.workers.push(self.runtime.spawn(task));
                }
                return Ok(Lane {
                    destination: Arc::clone(&self.destination),
                    signal,
                    form: Form::Protobuf,
                    queue,
                    gate: Some(gate),
                    remote,
                    operations,
                });
            }
            Target::Console(stream, _) => StreamWriter::new(stream),
            Target::File(path) => StreamWriter::append_to(&path)?,
            Target::SameStream => return Err(ExporterError::NoStreamToShare),
        };
        let queue = Arc::new(Queue::Memory(MemoryQueue::new(self.queue.clone())));
        let task = worker::write(Arc::clone(&queue), stream);
        self.workers.push(self.runtime.spawn(task));
        Ok(Lane {
            destination: Arc::clone(&self.destination),
            signal,
            form: Form::Json,
            queue,
            gate: None,
            remote: Remote::stream(),
            operations: Timings::default(),
        })
    }
}
