//! Metrics of another part of the agent go out with the agent's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spandrel_exporter::self_telemetry::catalogue::{Entry, Kind};
use spandrel_exporter::self_telemetry::{SelfTelemetry, SelfTelemetrySettings};
use tokio::runtime::Handle;

use crate::grpc;
use crate::own_metrics::samples;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_another_part_of_the_agent_are_told_as_they_are_when_they_are_sent() {
    let entry = |name, kind, unit| Entry {
        name,
        kind,
        unit,
        attributes: &["spandrel.letter"],
        description: "Some.",
    };
    let asks = entry("spandrel.asks", Kind::Counter, "{ask}");
    let open = entry("spandrel.open", Kind::UpDownCounter, "{ask}");
    let lag = entry("spandrel.lag", Kind::Gauge, "s");
    let server = Server::grpc(Vec::new()).await;
    let endpoint = grpc(&server);
    let settings = SelfTelemetrySettings {
        endpoint,
        interval: Duration::from_secs(3600),
        attributes: Vec::new(),
    };
    let own = SelfTelemetry::start(settings, &Arc::default(), &Handle::current()).unwrap();
    let count = Arc::new(AtomicU64::new(1));
    let read = || {
        let count = Arc::clone(&count);
        move || count.load(Ordering::Relaxed)
    };
    let now = read();
    own.observe_counts(&asks, move |tell| {
        tell(now(), &[("spandrel.letter", "a")]);
        tell(now() + 1, &[("spandrel.letter", "b")]);
    });
    let now = read();
    own.observe_counts(&open, move |tell| tell(9 - now(), &[]));
    let now = read();
    own.observe_seconds(&lag, move |tell| tell(now() as f64 / 2.0, &[]));
    count.store(5, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || own.flush())
        .await
        .unwrap()
        .unwrap();
    let told = samples(&server.received(1).await[0]);
    let mut told: Vec<_> = told
        .iter()
        .filter(|it| ["spandrel.asks", "spandrel.open", "spandrel.lag"].contains(&&*it.name))
        .map(|it| {
            let letter = it
                .attributes
                .get("spandrel.letter")
                .map_or("", String::as_str);
            (&*it.name, it.kind, &*it.unit, letter, it.value)
        })
        .collect();
    told.sort_by_key(|it| (it.0, it.3));
    assert_eq!(
        told,
        [
            ("spandrel.asks", "counter", "{ask}", "a", 5.0),
            ("spandrel.asks", "counter", "{ask}", "b", 6.0),
            ("spandrel.lag", "gauge", "s", "", 2.5),
            ("spandrel.open", "updowncounter", "{ask}", "", 4.0),
        ]
    );
}
