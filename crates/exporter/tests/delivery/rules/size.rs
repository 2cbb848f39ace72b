//! Rules 1 to 3: how large requests and answers may be, and what is split.

use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use spandrel_exporter::{DestinationSettings, Exporter, OtlpSettings, Protocol, Target, reason};
use spandrel_model::Ledger;
use tokio::runtime::Handle;

use super::{PROTOCOLS, server};
use crate::server::{Answer, Received};
use crate::{Running, assert_account, settings};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("span {n}")).collect()
}

fn send(running: &mut Running, names: &[String]) {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    running.send(&names);
}

/// Names in the requests that were not refused.
fn taken(received: &[Received], most: usize) -> Vec<String> {
    let kept = received.iter().map(Received::span_names);
    kept.filter(|names| names.len() <= most).flatten().collect()
}

#[tokio::test]
async fn rule_01_what_is_over_the_request_limit_is_not_sent_and_is_counted() {
    for protocol in PROTOCOLS {
        let (server, otlp) = server(protocol, Vec::new()).await;
        let mut running = Running::start(settings(OtlpSettings {
            max_request_size: 1500,
            ..otlp
        }));
        let giant = "x".repeat(3000);
        running.send(&["a", &giant, "b"]);
        assert_account(&running.end().await, 2, &[(reason::TOO_LARGE, 1)]);
        assert_eq!(taken(&server.so_far(), 3), ["a", "b"], "{protocol:?}");
    }
}

#[tokio::test]
async fn rule_02_an_answer_over_the_limit_ends_the_request_compressed_or_not() {
    for protocol in PROTOCOLS {
        for is_compressed in [false, true] {
            let script = vec![
                Answer::Lengthy(200_000, is_compressed),
                Answer::Lengthy(900, is_compressed),
            ];
            let (server, otlp) = server(protocol, script).await;
            let mut running = Running::start(settings(OtlpSettings {
                max_response_size: 10_000,
                // The server answers in the encoding of the request.
                compression: match is_compressed {
                    true => spandrel_exporter::Compression::Gzip,
                    false => spandrel_exporter::Compression::None,
                },
                ..otlp
            }));
            running.send(&["a"]);
            server.received(1).await;
            running.send(&["b"]);
            let expected = [(reason::PERMANENT_RESPONSE, 1)];
            assert_account(&running.end().await, 1, &expected);
            assert_eq!(server.so_far().len(), 2, "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn rule_03_a_request_that_is_refused_for_its_size_is_split_until_it_is_taken_in_order() {
    for protocol in PROTOCOLS {
        let (server, otlp) = server(protocol, vec![Answer::RefuseAbove(7)]).await;
        let mut settings = settings(otlp);
        settings.queue.num_consumers = 1;
        let mut running = Running::start(settings);
        let names = names(100);
        send(&mut running, &names);
        assert_account(&running.end().await, 100, &[]);
        assert_eq!(taken(&server.so_far(), 7), names, "{protocol:?}");
    }
}

#[tokio::test]
async fn rule_03_the_collectors_400_for_a_body_that_is_too_large_is_understood() {
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        let large = b"http: request body too large\n".to_vec();
        let script = vec![
            Answer::Http(400, Vec::new(), large),
            Answer::Accept,
            Answer::Http(400, Vec::new(), b"bad span".to_vec()),
        ];
        let (server, otlp) = server(protocol, script).await;
        let mut running = Running::start(settings(otlp));
        running.send(&["a", "b"]);
        let expected = [(reason::PERMANENT_REQUEST, 1)];
        assert_account(&running.end().await, 1, &expected);
        let sent: Vec<_> = server.so_far().iter().map(Received::span_names).collect();
        assert_eq!(sent, [vec!["a", "b"], vec!["a"], vec!["b"]]);
    }
}

#[tokio::test]
async fn rule_03_a_single_span_that_is_refused_for_its_size_is_dropped_and_the_others_are_not() {
    for protocol in PROTOCOLS {
        let (server, otlp) = server(protocol, vec![Answer::RefuseName("giant")]).await;
        let mut running = Running::start(settings(otlp));
        running.send(&["a", "b", "giant", "c", "d"]);
        assert_account(&running.end().await, 4, &[(reason::PERMANENT_SIZE, 1)]);
        let received = server.so_far();
        let alone = received.iter().filter(|one| one.span_names() == ["giant"]);
        assert_eq!(alone.count(), 1, "it is tried alone, once");
    }
}

#[tokio::test]
async fn rule_03_a_request_larger_than_the_destination_takes_is_split_before_it_is_sent() {
    for protocol in PROTOCOLS {
        let (server, otlp) = server(protocol, Vec::new()).await;
        let mut running = Running::start(settings(OtlpSettings {
            max_request_bytes: Some(4000),
            ..otlp
        }));
        let mut expected = names(200);
        // What cannot be split is left to the backend to decide.
        expected.push("x".repeat(5000));
        send(&mut running, &expected);
        assert_account(&running.end().await, 201, &[]);
        let received = server.so_far();
        let mut names = taken(&received, 200);
        names.sort();
        expected.sort();
        assert_eq!(names, expected);
        for request in &received {
            let size = match protocol {
                Protocol::Grpc => request.traces().encoded_len(),
                // Without compression the request's own form is what counts.
                _ => request.wire_len,
            };
            assert!(size <= 4000 || request.span_names().len() == 1, "{size}");
        }
    }
}

#[tokio::test]
async fn rule_03_a_batch_that_is_too_large_only_as_json_is_split() {
    let (server, otlp) = server(Protocol::HttpJson, Vec::new()).await;
    let mut settings = settings(otlp);
    settings.batch.max_request_bytes = 4000;
    let mut running = Running::start(settings);
    send(&mut running, &names(200));
    assert_account(&running.end().await, 200, &[]);
    let sizes: Vec<usize> = server.so_far().iter().map(|one| one.wire_len).collect();
    assert!(sizes.iter().all(|size| *size <= 4000), "{sizes:?}");
}

#[tokio::test]
async fn rule_03_metric_points_are_split_within_a_metric() {
    for protocol in PROTOCOLS {
        let (server, mut otlp) = server(protocol, vec![Answer::RefuseAbove(6)]).await;
        otlp.endpoint = otlp.endpoint.replace("traces", "metrics");
        let ledger = Arc::new(Ledger::default());
        let settings = DestinationSettings {
            metrics: Some(Target::Otlp(otlp)),
            ..DestinationSettings::default()
        };
        let runtime = Handle::current();
        let mut exporter = Exporter::start(settings, Arc::clone(&ledger), &runtime).unwrap();
        exporter.export_metrics(crate::metrics::batch(50, &ledger));
        exporter.shutdown(std::time::Duration::from_secs(10)).await;
        assert!(ledger.is_closed());
        assert_eq!(ledger.metric_points.snapshot().settled, 50, "{protocol:?}");
        let mut points = 0;
        for request in server.so_far() {
            let metric = &request.metrics().resource_metrics[0].scope_metrics[0].metrics[0];
            let Some(Data::Gauge(gauge)) = &metric.data else {
                panic!("{metric:?}");
            };
            assert_eq!((metric.name.as_str(), metric.unit.as_str()), ("m", "1"));
            if gauge.data_points.len() <= 6 {
                points += gauge.data_points.len();
            }
        }
        assert_eq!(points, 50);
    }
}
