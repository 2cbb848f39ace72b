//! Queues on disk.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use spandrel_disk_queue::{Condition, DropReason, Stats};

use super::catalogue;
use super::ledger::signed;
use crate::observed::Exported;

type Tell<'a> = dyn FnMut(&Exported, &Stats) + 'a;
type Select = fn(&Stats) -> u64;

/// What there is of the disk at each destination and signal that has one.
fn disks(lanes: &Arc<[Exported]>) -> impl Fn(&mut Tell<'_>) + use<> {
    let lanes = Arc::clone(lanes);
    move |tell| {
        for lane in lanes.iter() {
            // Destinations that share a name share no queue on disk: the second one would not have started.
            if let Some(stats) = lane.queues.iter().find_map(|queue| queue.stats().disk) {
                tell(lane, &stats);
            }
        }
    }
}

pub(super) fn observe(meter: &Meter, lanes: &Arc<[Exported]>) {
    let each = disks(lanes);
    catalogue::DISK_SIZE.up_down(meter, move |observer| {
        each(&mut |lane, stats| observer.observe(signed(stats.disk_bytes), &lane.names()));
    });
    let counters: [(_, Select); 3] = [
        (catalogue::DISK_CORRUPT, corrupt),
        (catalogue::DISK_QUARANTINED, |stats| stats.quarantined),
        (catalogue::DISK_TORN, |stats| stats.torn_bytes),
    ];
    for (entry, select) in counters {
        let each = disks(lanes);
        entry.counter(meter, move |observer| {
            each(&mut |lane, stats| observer.observe(select(stats), &lane.names()));
        });
    }
    let each = disks(lanes);
    catalogue::DISK_ERRORS.counter(meter, move |observer| {
        each(&mut |lane, stats| {
            for (operation, count) in [("write", stats.write_errors), ("sync", stats.sync_errors)] {
                let [destination, signal] = lane.names();
                let operation = KeyValue::new("spandrel.disk.operation", operation);
                observer.observe(count, &[destination, signal, operation]);
            }
        });
    });
    let each = disks(lanes);
    catalogue::DISK_WORKING.gauge(meter, move |observer| {
        each(&mut |lane, stats| {
            let working = stats.condition == Condition::Working;
            observer.observe(u64::from(working), &lane.names());
        });
    });
}

/// With those whose head is damaged, so that nobody knows what was in them.
fn corrupt(stats: &Stats) -> u64 {
    let dropped = stats.dropped.iter();
    let known = dropped.filter(|((reason, _), _)| *reason == DropReason::Corrupt);
    stats.lost_records + known.map(|(_, count)| count.records).sum::<u64>()
}
