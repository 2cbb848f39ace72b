//! What waits to be sent, in memory: bounded in bytes, the oldest goes first, also when there is no room.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spandrel_disk_queue::Position;
use tokio::sync::Notify;

use crate::carried::{Carried, Signal};
use crate::durable::DurableQueue;
use crate::reason;
use crate::settings::QueueSettings;

/// One encoded export request with what is in it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) signal: Signal,
    pub(crate) body: Bytes,
    pub(crate) carried: Carried,
}

impl Request {
    /// The same bytes for another destination.
    pub(crate) fn fork(&self) -> Self {
        Self {
            signal: self.signal,
            body: self.body.clone(),
            carried: self.carried.fork(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// With the time at which each came.
    waiting: VecDeque<(Instant, Request)>,
    bytes: usize,
    /// Requests that wait or are being sent.
    outstanding: usize,
    closed: bool,
}

/// Names a request that was handed out, to the queue that it came from.
pub(crate) type Ticket = Option<Position>;

/// A queue at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueStats {
    /// That wait, and that may.
    pub(crate) bytes: u64,
    pub(crate) capacity: u64,
    pub(crate) requests: u64,
    pub(crate) oldest_age: Duration,
    /// Where it is on disk.
    pub(crate) disk: Option<spandrel_disk_queue::Stats>,
}

/// The queue between the pipeline's thread and the workers of one destination.
#[derive(Debug)]
pub(crate) enum Queue {
    Memory(MemoryQueue),
    Disk(DurableQueue),
}

impl Queue {
    /// Takes a request in. Drops the oldest ones, or waits, where there is no room.
    pub(crate) fn push(&self, request: Request) {
        match self {
            Self::Memory(queue) => queue.push(request),
            Self::Disk(queue) => queue.push(request),
        }
    }

    /// The next request; `None` when the queue is closed and empty. Each one is to be followed by [`Self::done`].
    pub(crate) async fn pop(&self) -> Option<(Request, Ticket)> {
        match self {
            Self::Memory(queue) => queue.pop().await.map(|request| (request, None)),
            Self::Disk(queue) => queue.pop().await,
        }
    }

    /// A request has ended, in whatever way.
    pub(crate) async fn done(&self, ticket: Ticket) {
        match self {
            Self::Memory(queue) => queue.done(),
            Self::Disk(queue) => queue.done(ticket).await,
        }
    }

    /// No more requests; what waits is still handed out.
    pub(crate) fn close(&self) {
        match self {
            Self::Memory(queue) => queue.close(),
            Self::Disk(queue) => queue.close(),
        }
    }

    /// Forgets what waits in memory; what is on disk stays there. May wait for the disk.
    pub(crate) fn clear(&self) {
        match self {
            Self::Memory(queue) => queue.clear(),
            Self::Disk(queue) => queue.clear(),
        }
    }

    /// Waits until everything that was pushed has ended; whether it has, in time.
    pub(crate) fn wait_until_done(&self, timeout: Duration) -> bool {
        match self {
            Self::Memory(queue) => queue.wait_until_done(timeout),
            Self::Disk(queue) => queue.wait_until_done(timeout),
        }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Memory(queue) => queue.bytes(),
            Self::Disk(queue) => queue.bytes(),
        }
    }

    /// What the agent's own metrics tell of it.
    pub(crate) fn stats(&self) -> QueueStats {
        match self {
            Self::Memory(queue) => queue.stats(),
            Self::Disk(queue) => queue.stats(),
        }
    }
}

/// The queue in memory.
#[derive(Debug)]
pub(crate) struct MemoryQueue {
    settings: QueueSettings,
    state: Mutex<State>,
    filled: Notify,
    changed: Condvar,
}

impl MemoryQueue {
    pub(crate) fn new(settings: QueueSettings) -> Self {
        Self {
            settings,
            state: Mutex::default(),
            filled: Notify::new(),
            changed: Condvar::new(),
        }
    }

    /// Takes a request in. Drops the oldest ones, or waits, where there is no room.
    pub(crate) fn push(&self, mut request: Request) {
        // What still waits when the workers are gone was lost to the shutdown.
        request.carried.lost_as(reason::SHUTDOWN_DEADLINE);
        let size = request.body.len();
        let mut lost = Vec::new();
        let mut state = self.lock();
        if state.closed {
            return;
        }
        while !self.settings.enabled && state.outstanding >= self.settings.num_consumers.max(1) {
            if !self.settings.block_on_overflow {
                drop(state);
                return request.carried.drop_for(reason::QUEUE_FULL);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return;
            }
        }
        // A request larger than the whole queue is let in alone: it is bounded by max_request_bytes.
        while state.bytes + size > self.settings.queue_size && !state.waiting.is_empty() {
            if self.settings.block_on_overflow && !state.closed {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            } else if let Some((_, oldest)) = state.waiting.pop_front() {
                state.bytes -= oldest.body.len();
                state.outstanding -= 1;
                lost.push(oldest);
            }
        }
        state.bytes += size;
        state.outstanding += 1;
        state.waiting.push_back((Instant::now(), request));
        drop(state);
        self.filled.notify_one();
        for request in lost {
            request.carried.drop_for(reason::QUEUE_FULL);
        }
    }

    /// The next request; `None` when the queue is closed and empty. Each one is to be followed by [`Self::done`].
    pub(crate) async fn pop(&self) -> Option<Request> {
        loop {
            let mut filled = pin!(self.filled.notified());
            filled.as_mut().enable();
            {
                let mut state = self.lock();
                if let Some((_, request)) = state.waiting.pop_front() {
                    state.bytes -= request.body.len();
                    self.changed.notify_all();
                    return Some(request);
                }
                if state.closed {
                    return None;
                }
            }
            filled.await;
        }
    }

    pub(crate) fn done(&self) {
        let mut state = self.lock();
        state.outstanding = state.outstanding.saturating_sub(1);
        self.changed.notify_all();
    }

    /// No more requests; what waits is still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_waiters();
        self.changed.notify_all();
    }

    /// Forgets what waits.
    pub(crate) fn clear(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }

    /// Waits until everything that was pushed has ended; whether it has, in time.
    pub(crate) fn wait_until_done(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.lock();
        while state.outstanding > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(crate) fn stats(&self) -> QueueStats {
        let state = self.lock();
        let oldest = state.waiting.front().map(|(since, _)| since.elapsed());
        QueueStats {
            bytes: state.bytes as u64,
            capacity: self.settings.queue_size as u64,
            requests: state.waiting.len() as u64,
            oldest_age: oldest.unwrap_or_default(),
            disk: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
