//! What overflows in the metrics of the services.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::catalogue;
use crate::metrics::OverflowReport;

/// Bounded by what an aggregator reports: 64 metrics with 16 attributes each.
pub(super) fn observe(meter: &Meter, reports: &Arc<[OverflowReport]>) {
    let all = |reports: &Arc<[OverflowReport]>| {
        let reports = Arc::clone(reports);
        move || reports.iter().map(OverflowReport::read).collect::<Vec<_>>()
    };
    let name_of = |metric: &'static str, service: &str| {
        [
            KeyValue::new("spandrel.metric.name", metric),
            KeyValue::new("spandrel.service.name", service.to_owned()),
        ]
    };
    let read = all(reports);
    catalogue::CARDINALITY.gauge(meter, move |observer| {
        // Several views of the metrics have one row: the greatest number.
        let mut rows: BTreeMap<_, u64> = BTreeMap::new();
        let read = read();
        for offender in read.iter().flat_map(|report| &report.offenders) {
            for (key, values) in &offender.keys {
                let row = rows.entry((offender.metric, &offender.service, key));
                let most = row.or_default();
                *most = (*most).max(*values);
            }
        }
        for ((metric, service, key), values) in rows {
            let [metric, service] = name_of(metric, service);
            let key = KeyValue::new("spandrel.attribute.key", key.to_string());
            observer.observe(values, &[metric, service, key]);
        }
    });
    let read = all(reports);
    catalogue::OVERFLOW.counter(meter, move |observer| {
        let mut rows: BTreeMap<_, u64> = BTreeMap::new();
        let read = read();
        for offender in read.iter().flat_map(|report| &report.offenders) {
            *rows
                .entry((offender.metric, &offender.service))
                .or_default() += offender.overflowed;
        }
        for ((metric, service), overflowed) in rows {
            observer.observe(overflowed, &name_of(metric, service));
        }
    });
    let read = all(reports);
    catalogue::REFUSED.counter(meter, move |observer| {
        let refused = read().iter().map(|report| report.refused).sum();
        observer.observe(refused, &[]);
    });
    let read = all(reports);
    catalogue::EVICTED.counter(meter, move |observer| {
        let evicted = read().iter().map(|report| report.evicted).sum();
        observer.observe(evicted, &[]);
    });
}
