//! Metrics of other parts of the agent, of which this crate knows no more than their entries.

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;

use super::SelfTelemetry;
use super::catalogue::{Entry, Kind};
use super::ledger::signed;
use crate::otlp::SCOPE_NAME;

/// Takes one point: its number, and its attributes by the keys of the entry. No two points of a metric have the same.
pub type Tell<'a, N> = dyn FnMut(N, &[(&'static str, &str)]) + 'a;

impl SelfTelemetry {
    /// Also exports counts of another part of the agent, read each time that they are sent. A histogram has no such
    /// numbers and is not exported.
    pub fn observe_counts(
        &self,
        entry: &Entry,
        read: impl Fn(&mut Tell<'_, u64>) + Send + Sync + 'static,
    ) {
        let meter = self.provider.meter(SCOPE_NAME);
        match entry.kind {
            Kind::Counter => entry.counter(&meter, move |observer| {
                read(&mut |count, of| observer.observe(count, &key_values(of)));
            }),
            Kind::UpDownCounter => entry.up_down(&meter, move |observer| {
                read(&mut |count, of| observer.observe(signed(count), &key_values(of)));
            }),
            Kind::Gauge => entry.gauge(&meter, move |observer| {
                read(&mut |count, of| observer.observe(count, &key_values(of)));
            }),
            Kind::Histogram => debug_assert!(false, "{} is a histogram", entry.name),
        }
    }

    /// The same of a time in seconds, which is a gauge.
    pub fn observe_seconds(
        &self,
        entry: &Entry,
        read: impl Fn(&mut Tell<'_, f64>) + Send + Sync + 'static,
    ) {
        let meter = self.provider.meter(SCOPE_NAME);
        entry.duration(&meter, move |observer| {
            read(&mut |seconds, of| observer.observe(seconds, &key_values(of)));
        });
    }
}

fn key_values(of: &[(&'static str, &str)]) -> Vec<KeyValue> {
    let pair = |(key, value): &(&'static str, &str)| KeyValue::new(*key, (*value).to_owned());
    of.iter().map(pair).collect()
}
