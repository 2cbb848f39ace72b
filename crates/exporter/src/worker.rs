//! Takes requests from a queue and sends each one until it has ended, one way or the other.

use std::sync::Arc;

use tokio::time::Instant;

use crate::carried::Signal;
use crate::queue::{Queue, Request};
use crate::reason;
use crate::retry::Gate;
use crate::sender::{Outcome, Sender, StreamWriter};

/// Sends to an endpoint until the queue is closed and empty.
pub(crate) async fn run(queue: Arc<Queue>, sender: Arc<Sender>, gate: Arc<Gate>) {
    while let Some(request) = queue.pop().await {
        deliver(&sender, &gate, request).await;
        queue.done();
    }
}

/// Writes to a stream until the queue is closed and empty.
pub(crate) async fn write(queue: Arc<Queue>, mut stream: StreamWriter) {
    while let Some(request) = queue.pop().await {
        match stream.write(request.body).await {
            Ok(()) => request.carried.settle(),
            Err(error) => {
                let signal = request.signal;
                tracing::warn!(%error, items = request.carried.count(), "cannot write {}", signal.item());
                request.carried.drop_for(reason::WRITE_FAILED);
            }
        }
        queue.done();
    }
}

async fn deliver(sender: &Sender, gate: &Gate, request: Request) {
    let Request {
        signal,
        body,
        mut carried,
    } = request;
    let began = Instant::now();
    loop {
        let pass = gate.pass().await;
        match sender.send(&body).await {
            Outcome::Accepted => {
                recovered(gate, signal);
                return carried.settle();
            }
            Outcome::Partial(partial) => {
                recovered(gate, signal);
                if partial.rejected > 0 {
                    tracing::warn!(
                        rejected = partial.rejected,
                        message = partial.message,
                        "the backend rejected some {}",
                        signal.item()
                    );
                    carried.split(partial.rejected).drop_for(reason::REJECTED);
                } else {
                    tracing::warn!(
                        message = partial.message,
                        "the backend accepted with a warning"
                    );
                }
                return carried.settle();
            }
            Outcome::Permanent { reason, message } => {
                // The destination answers, so the others need not wait.
                gate.succeeded();
                tracing::error!(
                    reason,
                    message,
                    items = carried.count(),
                    "{} are lost: the backend refused them for good",
                    signal.item()
                );
                return carried.drop_for(reason);
            }
            Outcome::Retryable { after, message } => {
                let settings = gate.settings();
                let limit = settings.max_elapsed_time;
                if let Some(delay) = gate.failed(pass, after) {
                    tracing::warn!(
                        message,
                        ?delay,
                        "cannot export {}, will try again",
                        signal.name()
                    );
                } else {
                    tracing::debug!(message, "cannot export {}", signal.name());
                }
                if !settings.enabled || (!limit.is_zero() && began.elapsed() >= limit) {
                    tracing::error!(
                        message,
                        items = carried.count(),
                        "{} are lost",
                        signal.item()
                    );
                    return carried.drop_for(reason::RETRY_EXHAUSTED);
                }
            }
        }
    }
}

fn recovered(gate: &Gate, signal: Signal) {
    if gate.succeeded() {
        tracing::info!("{} are exported again", signal.item());
    }
}
