//! What becomes of the telemetry at each destination: `otel.sdk.exporter.*`, and queues, waits and drops.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use spandrel_model::ledger::Reason;

use super::catalogue::{self, Entry};
use super::ledger::signed;
use crate::carried::Signal;
use crate::observed::{Exported, Observed};

pub(super) fn observe(meter: &Meter, observed: &Observed) {
    let lanes = &observed.exported;
    for (signal, exported, in_flight) in [
        (
            Signal::Traces,
            catalogue::SPAN_EXPORTED,
            catalogue::SPAN_INFLIGHT,
        ),
        (
            Signal::Metrics,
            catalogue::POINT_EXPORTED,
            catalogue::POINT_INFLIGHT,
        ),
        (
            Signal::Logs,
            catalogue::LOG_EXPORTED,
            catalogue::LOG_INFLIGHT,
        ),
    ] {
        exports(meter, lanes, signal, &exported, &in_flight);
    }
    drops(meter, lanes);
    queues(meter, lanes);
    gates(meter, lanes);
    cuts(meter, lanes);
}

/// By the semantic conventions of SDK metrics.
fn exports(
    meter: &Meter,
    lanes: &Arc<[Exported]>,
    signal: Signal,
    exported: &Entry,
    in_flight: &Entry,
) {
    let of_signal = move |lanes: &Arc<[Exported]>| {
        let lanes = Arc::clone(lanes);
        move |tell: &mut dyn FnMut(&Exported)| {
            lanes
                .iter()
                .filter(|lane| lane.signal == signal)
                .for_each(tell);
        }
    };
    let each = of_signal(lanes);
    exported.counter(meter, move |observer| {
        each(&mut |lane| {
            let now = lane.account().snapshot();
            observer.observe(now.settled, &lane.attributes);
            for (reason, count) in now.dropped {
                let mut attributes = lane.attributes.clone();
                attributes.push(KeyValue::new("error.type", error_type(reason)));
                observer.observe(count, &attributes);
            }
        });
    });
    let each = of_signal(lanes);
    in_flight.up_down(meter, move |observer| {
        each(&mut |lane| {
            let now = lane.account().snapshot().in_flight;
            observer.observe(signed(now), &lane.attributes);
        });
    });
}

/// The ledger's reason in the words of the conventions: those of the exporter need no prefix.
pub(crate) fn error_type(reason: Reason) -> String {
    let class = reason.strip_prefix("export.").unwrap_or(reason);
    class.replace('.', "_")
}

fn drops(meter: &Meter, lanes: &Arc<[Exported]>) {
    let lanes = Arc::clone(lanes);
    catalogue::DROPPED.counter(meter, move |observer| {
        for lane in lanes.iter() {
            for (reason, count) in lane.account().snapshot().dropped {
                let [destination, signal] = lane.names();
                let reason = KeyValue::new("spandrel.reason", reason);
                observer.observe(count, &[destination, signal, reason]);
            }
        }
    });
}

fn queues(meter: &Meter, lanes: &Arc<[Exported]>) {
    for (entry, select) in [
        (
            catalogue::QUEUE_SIZE,
            (|queue| queue.bytes) as fn(&crate::queue::QueueStats) -> u64,
        ),
        (catalogue::QUEUE_CAPACITY, |queue| queue.capacity),
        (catalogue::QUEUE_REQUESTS, |queue| queue.requests),
    ] {
        let lanes = Arc::clone(lanes);
        entry.up_down(meter, move |observer| {
            for lane in lanes.iter().filter(|lane| !lane.queues.is_empty()) {
                let sum = lane.queues.iter().map(|queue| select(&queue.stats())).sum();
                observer.observe(signed(sum), &lane.names());
            }
        });
    }
    let lanes = Arc::clone(lanes);
    catalogue::QUEUE_AGE.duration(meter, move |observer| {
        for lane in lanes.iter() {
            let ages = lane.queues.iter().map(|queue| queue.stats().oldest_age);
            if let Some(oldest) = ages.max() {
                observer.observe(oldest.as_secs_f64(), &lane.names());
            }
        }
    });
}

fn gates(meter: &Meter, lanes: &Arc<[Exported]>) {
    let all = Arc::clone(lanes);
    catalogue::BACKOFF.duration(meter, move |observer| {
        for lane in all.iter() {
            if let Some(wait) = lane.gates.iter().map(|gate| gate.stats().wait).max() {
                observer.observe(wait.as_secs_f64(), &lane.names());
            }
        }
    });
    let all = Arc::clone(lanes);
    catalogue::THROTTLED.gauge(meter, move |observer| {
        for lane in all.iter() {
            if let Some(throttled) = lane.gates.iter().map(|gate| gate.stats().throttled).max() {
                observer.observe(u64::from(throttled), &lane.names());
            }
        }
    });
    let all = Arc::clone(lanes);
    catalogue::FAILED_ATTEMPTS.counter(meter, move |observer| {
        for lane in all.iter().filter(|lane| !lane.gates.is_empty()) {
            let failed = lane.gates.iter().map(|gate| gate.stats().failed).sum();
            observer.observe(failed, &lane.names());
        }
    });
}

fn cuts(meter: &Meter, lanes: &Arc<[Exported]>) {
    for (entry, select) in [
        (
            catalogue::CUT_ATTRIBUTES,
            (|counts| counts.0) as fn((u64, u64)) -> u64,
        ),
        (catalogue::CUT_VALUES, |counts| counts.1),
    ] {
        let lanes = Arc::clone(lanes);
        entry.counter(meter, move |observer| {
            for lane in lanes.iter().filter(|lane| lane.first_of_destination) {
                let [destination, _] = lane.names();
                observer.observe(select(lane.destination.cut_counts()), &[destination]);
            }
        });
    }
}
