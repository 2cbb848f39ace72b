//! The batches that spans wait in: `otel.sdk.processor.span.*`.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::catalogue;
use super::destinations::error_type;
use super::ledger::signed;
use crate::batch::BatchStats;
use crate::reason;

pub(super) fn observe(meter: &Meter, batches: &[Arc<BatchStats>]) {
    let all: Arc<[(Arc<BatchStats>, [KeyValue; 2])]> = batches
        .iter()
        .enumerate()
        .map(|(at, stats)| {
            (
                Arc::clone(stats),
                super::component("batching_span_processor", at),
            )
        })
        .collect();
    let each = Arc::clone(&all);
    catalogue::PROCESSOR_QUEUE_SIZE.up_down(meter, move |observer| {
        for (stats, component) in each.iter() {
            observer.observe(signed(stats.pending()), component);
        }
    });
    let each = Arc::clone(&all);
    catalogue::PROCESSOR_QUEUE_CAPACITY.up_down(meter, move |observer| {
        for (stats, component) in each.iter() {
            observer.observe(signed(stats.capacity()), component);
        }
    });
    let each = all;
    catalogue::PROCESSOR_PROCESSED.counter(meter, move |observer| {
        for (stats, component) in each.iter() {
            observer.observe(stats.processed(), component);
            if stats.too_large() > 0 {
                let [first, second] = component.clone();
                let error = KeyValue::new("error.type", error_type(reason::TOO_LARGE));
                observer.observe(stats.too_large(), &[first, second, error]);
            }
        }
    });
}
