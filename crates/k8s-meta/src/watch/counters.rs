//! What the watch costs and how often it fails, counted where requests go out and answers come in.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower::{BoxError, Service};

use super::failure::Reason;
use super::gate::Gate;

/// How an answer beyond its limit is told from a broken connection.
pub(super) const OVER_LIMIT: &str = "longer than the limit of";

/// Counters of one or more watches; each only grows, but the lag.
#[derive(Debug, Default)]
pub struct Counters {
    lists: AtomicU64,
    watches: AtomicU64,
    gets: AtomicU64,
    bytes: AtomicU64,
    events: AtomicU64,
    relists: AtomicU64,
    pub(super) failures: [AtomicU64; Reason::ALL.len()],
    /// One more than the lag; 0 before the first.
    lag_ms: AtomicU64,
    lag_max_ms: AtomicU64,
}

/// What the counters say at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests for a list, each page counted.
    pub lists: u64,
    /// Requests for a watch; the first list as a stream is one too.
    pub watches: u64,
    /// Requests for one object.
    pub gets: u64,
    /// Bytes of all answers.
    pub bytes: u64,
    /// Objects that came, changed or went.
    pub events: u64,
    /// Lists that were begun, in either way.
    pub relists: u64,
    /// What failed, by reason.
    pub failures: [u64; Reason::ALL.len()],
    /// From the last start of a container until its status was here, once there was one. Whole seconds, as Kubernetes gives
    /// no more.
    pub lag_ms: Option<u64>,
    /// The longest such time.
    pub lag_max_ms: u64,
}

impl Figures {
    /// How often this failed.
    pub fn failed(&self, reason: Reason) -> u64 {
        self.failures.get(reason as usize).copied().unwrap_or(0)
    }
}

impl Counters {
    /// All at this moment.
    pub fn figures(&self) -> Figures {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            lists: get(&self.lists),
            watches: get(&self.watches),
            gets: get(&self.gets),
            bytes: get(&self.bytes),
            events: get(&self.events),
            relists: get(&self.relists),
            failures: std::array::from_fn(|at| self.failures.get(at).map_or(0, get)),
            lag_ms: get(&self.lag_ms).checked_sub(1),
            lag_max_ms: get(&self.lag_max_ms),
        }
    }

    pub(super) fn failure(&self, reason: Reason) {
        if let Some(counter) = self.failures.get(reason as usize) {
            add(counter, 1);
        }
    }

    pub(super) fn event(&self) {
        add(&self.events, 1);
    }

    pub(super) fn relist(&self) {
        add(&self.relists, 1);
    }

    pub(super) fn lag(&self, milliseconds: u64) {
        let more = milliseconds.saturating_add(1);
        self.lag_ms.store(more, Ordering::Relaxed);
        self.lag_max_ms.fetch_max(milliseconds, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// How much of an answer is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) line: usize,
    pub(super) body: usize,
}

/// A client's service with the counters around it.
#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    inner: S,
    counters: Arc<Counters>,
    gate: Arc<Gate>,
    limits: Limits,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, counters: Arc<Counters>, gate: Arc<Gate>, limits: Limits) -> Self {
        Self {
            inner,
            counters,
            gate,
            limits,
        }
    }
}

type Answer<B, E> = Pin<Box<dyn Future<Output = Result<Response<CountedBody<B>>, E>> + Send>>;

impl<S, R, B> Service<Request<R>> for Counted<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<CountedBody<B>>;
    type Error = S::Error;
    type Future = Answer<B, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let is = |word: &str| {
            request
                .uri()
                .query()
                .is_some_and(|query| query.contains(word))
        };
        let watch = is("watch=true");
        let counter = if watch {
            &self.counters.watches
        } else if request.uri().path().contains("/namespaces/") {
            &self.counters.gets
        } else {
            &self.counters.lists
        };
        add(counter, 1);
        let counters = Arc::clone(&self.counters);
        let (limit, lines) = if watch {
            (self.limits.line, true)
        } else {
            (self.limits.body, false)
        };
        let gate = watch.then(|| Arc::clone(&self.gate));
        let pause = gate.as_ref().map_or(Duration::ZERO, |gate| gate.pause());
        // Nothing is sent before this is polled.
        let answer = self.inner.call(request);
        Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let wrap = |inner| CountedBody {
                inner,
                counters,
                limit,
                lines,
                unbroken: 0,
            };
            let response = answer.await?;
            if let Some(gate) = gate.filter(|_| response.status().is_success()) {
                gate.open();
            }
            Ok(response.map(wrap))
        })
    }
}

/// A body that is counted, and that ends with an error where a line of it, or all of it, is too long.
#[derive(Debug)]
pub(super) struct CountedBody<B> {
    inner: B,
    counters: Arc<Counters>,
    limit: usize,
    lines: bool,
    unbroken: usize,
}

impl<B> Body for CountedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        if let Some(data) = frame.data_ref() {
            add(&self.counters.bytes, data.len() as u64);
            let end = data
                .iter()
                .rposition(|byte| *byte == b'\n')
                .filter(|_| self.lines);
            self.unbroken = match end {
                Some(at) => data.len() - at - 1,
                None => self.unbroken.saturating_add(data.len()),
            };
            if self.unbroken > self.limit {
                let message = format!("it is {OVER_LIMIT} {} bytes", self.limit);
                return Poll::Ready(Some(Err(message.into())));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
