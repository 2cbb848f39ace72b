//! What overflows in the metrics of the services.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::catalogue;
use crate::metrics::{Offender, OverflowReport};

/// Bounded by what an aggregator reports: 64 metrics with 16 attributes each.
pub(super) fn observe(meter: &Meter, reports: &Arc<[OverflowReport]>) {
    let all = |reports: &Arc<[OverflowReport]>| {
        let reports = Arc::clone(reports);
        move || reports.iter().map(OverflowReport::read).collect::<Vec<_>>()
    };
    let name_of = |offender: &Offender| {
        [
            KeyValue::new("spandrel.metric.name", offender.metric),
            KeyValue::new("spandrel.service.name", offender.service.clone()),
        ]
    };
    let read = all(reports);
    catalogue::CARDINALITY.gauge(meter, move |observer| {
        for offender in read().iter().flat_map(|report| &report.offenders) {
            for (key, values) in &offender.keys {
                let [metric, service] = name_of(offender);
                let key = KeyValue::new("spandrel.attribute.key", key.to_string());
                observer.observe(*values, &[metric, service, key]);
            }
        }
    });
    let read = all(reports);
    catalogue::OVERFLOW.counter(meter, move |observer| {
        for offender in read().iter().flat_map(|report| &report.offenders) {
            observer.observe(offender.overflowed, &name_of(offender));
        }
    });
    let read = all(reports);
    catalogue::REFUSED.counter(meter, move |observer| {
        let refused = read().iter().map(|report| report.refused).sum();
        observer.observe(refused, &[]);
    });
}
