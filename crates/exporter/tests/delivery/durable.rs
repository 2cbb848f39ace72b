//! A queue on disk: what one exporter could not deliver, the next one does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spandrel_exporter::{
    DestinationSettings, Exporter, QueueSettings, StorageSettings, SyncPolicy, reason,
};
use spandrel_model::Ledger;
use tokio::runtime::Handle;
use tonic::Code;

use crate::server::{Answer, Server};
use crate::{Running, grpc, resource, settings, span};

pub(crate) fn stored(directory: &Path, server: &Server) -> DestinationSettings {
    DestinationSettings {
        name: "main".to_owned(),
        queue: QueueSettings {
            num_consumers: 1,
            storage: Some(StorageSettings {
                fsync: SyncPolicy::Never,
                ..StorageSettings::new(directory)
            }),
            ..QueueSettings::default()
        },
        ..settings(grpc(server))
    }
}

#[tokio::test]
async fn what_a_shutdown_leaves_on_disk_is_in_flight_and_is_sent_by_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let hanging = Server::grpc(vec![Answer::Hang; 8]).await;
    let mut running = Running::start(stored(directory.path(), &hanging));
    running.send(&["a", "b"]);
    hanging.received(1).await;
    running.send(&["c"]);
    running.send(&["d"]);
    let report = running.exporter.shutdown(Duration::from_millis(100)).await;
    assert!(!report.drained);
    assert_eq!(report.lost_spans, 0);
    let spans = running.ledger.spans.snapshot();
    assert!(running.ledger.is_closed());
    assert_eq!((spans.seen, spans.settled, spans.in_flight), (4, 0, 4));

    let healthy = Server::grpc(Vec::new()).await;
    let mut running = Running::start(stored(directory.path(), &healthy));
    running.send(&["e"]);
    let received = healthy.received(4).await;
    let names: Vec<_> = received.iter().flat_map(|each| each.span_names()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let ledger = Arc::clone(&running.ledger);
    let spans = running.end().await;
    assert_eq!((spans.seen, spans.settled), (5, 5));
    let own = ledger.destination("main").spans.snapshot();
    assert_eq!((own.seen, own.settled, own.in_flight), (5, 5, 0));

    let running = Running::start(stored(directory.path(), &healthy));
    assert_eq!(running.end().await.seen, 0, "nothing is sent twice");
    assert_eq!(healthy.so_far().len(), 4);
}

#[tokio::test]
async fn what_a_backend_refuses_for_good_is_counted_and_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = Answer::Status(Code::InvalidArgument, None);
    let server = Server::grpc(vec![refusal]).await;
    let mut running = Running::start(stored(directory.path(), &server));
    running.send(&["a", "b"]);
    running.send(&["c"]);
    let ledger = Arc::clone(&running.ledger);
    let spans = running.end().await;
    assert!(ledger.is_closed());
    assert_eq!((spans.seen, spans.settled), (3, 1));
    assert_eq!(spans.dropped[reason::PERMANENT_REQUEST], 2);
    let running = Running::start(stored(directory.path(), &server));
    assert_eq!(running.end().await.seen, 0);
}

#[tokio::test]
async fn at_its_cap_the_oldest_on_disk_go_and_the_ledger_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let hanging = Server::grpc(vec![Answer::Hang; 8]).await;
    let mut destination = stored(directory.path(), &hanging);
    if let Some(storage) = &mut destination.queue.storage {
        storage.max_size = 20_000;
    }
    let mut running = Running::start(destination);
    running.send(&["first"]);
    hanging.received(1).await;
    for number in 0..300 {
        running.send(&[&format!("{number}")]);
    }
    running.exporter.shutdown(Duration::from_millis(50)).await;
    assert!(running.ledger.is_closed());
    let spans = running.ledger.spans.snapshot();
    assert_eq!(spans.seen, 301);
    let full = spans.dropped[reason::QUEUE_FULL];
    // It was in the hands of the worker when its segment went.
    assert_eq!(spans.dropped[reason::SHUTDOWN_DEADLINE], 1);
    assert_eq!(spans.in_flight + full + 1, 301);
    let next = Running::start(stored(directory.path(), &hanging));
    assert_eq!(next.ledger.spans.snapshot().seen, spans.in_flight);
    assert!(full > 100 && spans.in_flight > 50, "{spans:?}");
}

#[tokio::test]
async fn two_exporters_cannot_share_a_queue() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::grpc(Vec::new()).await;
    let mut running = Running::start(stored(directory.path(), &server));
    running
        .exporter
        .export_spans([(resource("shop"), span("a"))]);
    let ledger = Arc::new(Ledger::default());
    let second = Exporter::start(
        stored(directory.path(), &server),
        ledger,
        &Handle::current(),
    );
    let error = second.err().unwrap().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    assert_eq!(running.end().await.settled, 1);
}
