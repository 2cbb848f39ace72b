//! Several destinations: each gets everything it is for, and none waits for another.

use std::sync::Arc;
use std::time::Duration;

use spandrel_exporter::{
    DestinationSettings, Exporter, ExporterSettings, QueueSettings, Target, reason,
};
use spandrel_model::Ledger;
use tokio::runtime::Handle;
use tonic::Code;

use crate::server::{Answer, Server};
use crate::{grpc, http, resource, settings, span};

fn named(name: &str, destination: DestinationSettings) -> DestinationSettings {
    DestinationSettings {
        name: name.to_owned(),
        ..destination
    }
}

fn start(destinations: Vec<DestinationSettings>) -> (Exporter, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let settings = ExporterSettings { destinations };
    let exporter = Exporter::start(settings, Arc::clone(&ledger), &Handle::current()).unwrap();
    (exporter, ledger)
}

fn export(exporter: &mut Exporter, name: &str) {
    exporter.export_spans([(resource("shop"), span(name.to_owned()))]);
    exporter.flush();
}

#[tokio::test]
async fn a_destination_that_hangs_refuses_or_throttles_delays_no_other() {
    let hanging = Server::grpc(vec![Answer::Hang; 8]).await;
    let refusing = Server::http(vec![Answer::Http(403, Vec::new(), Vec::new()); 3]).await;
    let throttle = Answer::Status(Code::Unavailable, Some(Duration::from_secs(3600)));
    let throttling = Server::grpc(vec![throttle; 3]).await;
    let healthy = Server::http(Vec::new()).await;
    let (mut exporter, ledger) = start(vec![
        named("hanging", settings(grpc(&hanging))),
        named("refusing", settings(http(&refusing))),
        named("throttling", settings(grpc(&throttling))),
        named("healthy", settings(http(&healthy))),
    ]);
    export(&mut exporter, "first");
    // The others have met their fate before the next spans come.
    hanging.received(1).await;
    throttling.received(1).await;
    refusing.received(1).await;
    healthy.received(1).await;
    for (n, name) in ["second", "third"].into_iter().enumerate() {
        export(&mut exporter, name);
        assert_eq!(
            healthy.received(n + 2).await[n + 1].span_names(),
            [name],
            "in order, each at once"
        );
    }
    refusing.received(3).await;
    exporter.shutdown(Duration::from_millis(300)).await;
    assert!(ledger.is_closed());
    let of = |name: &str| ledger.destination(name).spans.snapshot();
    assert_eq!(of("healthy").settled, 3);
    assert_eq!(of("refusing").dropped[reason::PERMANENT_AUTH], 3);
    assert_eq!(of("hanging").dropped[reason::SHUTDOWN_DEADLINE], 3);
    assert_eq!(of("throttling").dropped[reason::SHUTDOWN_DEADLINE], 3);
    let all = ledger.spans.snapshot();
    assert_eq!(
        (all.seen, all.settled),
        (12, 3),
        "once for each destination"
    );
}

#[tokio::test]
async fn a_full_queue_loses_only_its_own_destinations_spans() {
    let stuck = Server::grpc(vec![Answer::Hang; 8]).await;
    let healthy = Server::grpc(Vec::new()).await;
    let small = QueueSettings {
        queue_size: 600,
        num_consumers: 1,
        ..QueueSettings::default()
    };
    let (mut exporter, ledger) = start(vec![
        named(
            "stuck",
            DestinationSettings {
                queue: small,
                ..settings(grpc(&stuck))
            },
        ),
        named("healthy", settings(grpc(&healthy))),
    ]);
    export(&mut exporter, "0");
    stuck.received(1).await;
    for n in 1..20 {
        export(&mut exporter, &n.to_string());
    }
    healthy.received(20).await;
    exporter.shutdown(Duration::from_millis(100)).await;
    assert!(ledger.is_closed());
    let stuck = ledger.destination("stuck").spans.snapshot();
    assert!(stuck.dropped[reason::QUEUE_FULL] > 10, "{stuck:?}");
    let healthy = ledger.destination("healthy").spans.snapshot();
    assert_eq!((healthy.seen, healthy.settled), (20, 20));
}

#[tokio::test]
async fn signals_go_only_where_they_are_routed() {
    let (traces, metrics) = (
        Server::grpc(Vec::new()).await,
        Server::grpc(Vec::new()).await,
    );
    let only_metrics = DestinationSettings {
        traces: None,
        metrics: Some(Target::Otlp(grpc(&metrics))),
        view: 1,
        ..settings(grpc(&metrics))
    };
    let (mut exporter, ledger) = start(vec![
        named("traces", settings(grpc(&traces))),
        named("metrics", only_metrics),
    ]);
    export(&mut exporter, "a");
    traces.received(1).await;
    exporter.export_view(1, crate::metrics::batch(2, &ledger));
    exporter.export_view(0, crate::metrics::batch(5, &ledger));
    metrics.received(1).await;
    assert!(exporter.shutdown(Duration::from_secs(10)).await.drained);
    assert!(ledger.is_closed());
    let points = ledger.metric_points.snapshot();
    assert_eq!(points.settled, 2);
    assert_eq!(
        points.dropped[reason::NO_DESTINATION],
        5,
        "nobody wants view 0"
    );
    assert_eq!(ledger.destination("metrics").spans.snapshot().seen, 0);
    assert_eq!(
        ledger.destination("traces").metric_points.snapshot().seen,
        0
    );
}
