//! Takes requests from a queue and sends each one until it has ended, one way or the other.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::carried::{Carried, Signal};
use crate::observed::Timings;
use crate::operation::Operation;
use crate::otlp::split::{Part, Shape, split_in_two};
use crate::queue::{Queue, Request};
use crate::reason;
use crate::retry::Gate;
use crate::sender::{Outcome, Prepared, Sender, StreamWriter};

/// Sends to an endpoint until the queue is closed and empty.
pub(crate) async fn run(
    queue: Arc<Queue>,
    sender: Arc<Sender>,
    gate: Arc<Gate>,
    operations: Timings,
) {
    while let Some((request, ticket)) = queue.pop().await {
        deliver(&sender, &gate, &operations, request).await;
        queue.done(ticket).await;
    }
}

/// Writes to a stream until the queue is closed and empty.
pub(crate) async fn write(queue: Arc<Queue>, mut stream: StreamWriter) {
    while let Some((request, ticket)) = queue.pop().await {
        match stream.write(request.body).await {
            Ok(()) => request.carried.settle(),
            Err(error) => {
                let signal = request.signal;
                tracing::warn!(%error, items = request.carried.count(), "cannot write {}", signal.item());
                request.carried.drop_for(reason::WRITE_FAILED);
            }
        }
        queue.done(ticket).await;
    }
}

/// Sends a request, or the parts that it has to be cut into, in their order.
async fn deliver(sender: &Sender, gate: &Gate, operations: &Timings, request: Request) {
    let signal = request.signal;
    // Each cut halves the items: what waits here is never more than a few parts.
    let mut parts = vec![(request.body, request.carried)];
    while let Some((body, carried)) = parts.pop() {
        let Some(plain) = sender.in_form(&body) else {
            tracing::error!(
                items = carried.count(),
                "{} cannot be encoded",
                signal.item()
            );
            carried.drop_for(reason::ENCODE_FAILED);
            continue;
        };
        let size = plain.len();
        let halves = || split_in_two(Shape::of(signal), &body);
        if size > sender.split_above()
            && let Some(halves) = halves()
        {
            share(&mut parts, halves, carried);
            continue;
        }
        if size > sender.max_request_size() {
            tracing::error!(
                size,
                "a request with a single one of the {} is too large to send",
                signal.item()
            );
            carried.drop_for(reason::TOO_LARGE);
            continue;
        }
        let prepared = match sender.prepare(plain) {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(%error, items = carried.count(), "{} cannot be compressed", signal.item());
                carried.drop_for(reason::ENCODE_FAILED);
                continue;
            }
        };
        let operation = Operation::new(operations);
        if let Some((carried, message)) =
            send(sender, gate, operation, signal, &prepared, carried).await
        {
            match halves() {
                Some(halves) => {
                    tracing::debug!(
                        size,
                        message,
                        "the backend refused the size: it gets the halves"
                    );
                    share(&mut parts, halves, carried);
                }
                None => {
                    tracing::error!(
                        size,
                        message,
                        "the backend refused the size of a single one of the {}",
                        signal.item()
                    );
                    carried.drop_for(reason::PERMANENT_SIZE);
                }
            }
        }
    }
}

/// Puts both halves on top, the first one last, and gives each its share of the items.
fn share(parts: &mut Vec<(Bytes, Carried)>, [first, second]: [Part; 2], mut carried: Carried) {
    let of_first = carried.split(first.items as u64);
    parts.push((second.body, carried));
    parts.push((first.body, of_first));
}

/// Sends until it has ended. Gives the items back, with the server's words, if they are too many for the server.
async fn send(
    sender: &Sender,
    gate: &Gate,
    mut operation: Operation<'_>,
    signal: Signal,
    request: &Prepared,
    mut carried: Carried,
) -> Option<(Carried, String)> {
    let began = Instant::now();
    loop {
        let pass = gate.pass().await;
        operation.attempt();
        let (outcome, status) = sender.attempt(request).await;
        operation.answered(status);
        match outcome {
            Outcome::Accepted => {
                recovered(gate, signal);
                operation.succeeded();
                carried.settle();
                return None;
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
                    operation.failed(reason::REJECTED);
                    carried.split(partial.rejected).drop_for(reason::REJECTED);
                } else {
                    tracing::warn!(
                        message = partial.message,
                        "the backend accepted with a warning"
                    );
                    operation.succeeded();
                }
                carried.settle();
                return None;
            }
            Outcome::Permanent { reason, message } => {
                // The destination answers, so the others need not wait.
                gate.succeeded();
                operation.failed(reason);
                if reason == reason::PERMANENT_SIZE {
                    return Some((carried, message));
                }
                tracing::error!(
                    reason,
                    message,
                    items = carried.count(),
                    "{} are lost: the backend refused them for good",
                    signal.item()
                );
                carried.drop_for(reason);
                return None;
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
                    operation.failed(reason::RETRY_EXHAUSTED);
                    carried.drop_for(reason::RETRY_EXHAUSTED);
                    return None;
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
