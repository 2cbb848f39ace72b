//! Rules 4 to 11: concurrency, connections, shutdown, compression and what every request says of itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use spandrel_exporter::{
    Compression, DestinationSettings, OtlpSettings, Protocol, QueueSettings, reason,
};

use super::{PROTOCOLS, server};
use crate::server::Answer;
use crate::{Running, assert_account, settings};

#[tokio::test]
async fn rule_04_as_many_requests_are_under_way_as_are_configured() {
    for protocol in PROTOCOLS {
        for consumers in [1, 3] {
            let (server, otlp) = server(protocol, vec![Answer::Hang; 8]).await;
            let mut running = Running::start(DestinationSettings {
                queue: QueueSettings {
                    num_consumers: consumers,
                    ..QueueSettings::default()
                },
                ..settings(otlp)
            });
            for name in ["a", "b", "c", "d", "e"] {
                running.send(&[name]);
            }
            server.received(consumers).await;
            let spans = running.end_within(Duration::from_millis(200)).await;
            assert_account(&spans, 0, &[(reason::SHUTDOWN_DEADLINE, 5)]);
            assert_eq!(server.so_far().len(), consumers, "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn rule_05_many_requests_go_over_one_connection() {
    for protocol in PROTOCOLS {
        let (server, otlp) = server(protocol, Vec::new()).await;
        // One worker: two at a time would be two connections of HTTP/1.1, and rightly so.
        let mut settings = settings(otlp);
        settings.queue.num_consumers = 1;
        let mut running = Running::start(settings);
        for n in 1..=20 {
            running.send(&["a"]);
            running.settled(n).await;
        }
        let peers: BTreeSet<_> = server.so_far().iter().map(|one| one.peer).collect();
        assert_eq!(peers.len(), 1, "{protocol:?}: {peers:?}");
        assert_account(&running.end().await, 20, &[]);
    }
}

#[tokio::test]
async fn rule_05_parallel_requests_of_grpc_share_a_connection() {
    let (server, otlp) = server(Protocol::Grpc, vec![Answer::Hang; 4]).await;
    let mut running = Running::start(settings(otlp));
    for name in ["a", "b", "c", "d"] {
        running.send(&[name]);
    }
    let received = server.received(4).await;
    // The first calls may have raced to connect; hyper closes what it does not need.
    let peers: BTreeSet<_> = received.iter().map(|one| one.peer).collect();
    assert_eq!(peers.len(), 1, "{peers:?}");
    running.end_within(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn rule_06_waiting_for_acknowledgements_at_shutdown_has_a_limit_and_can_be_off() {
    for protocol in PROTOCOLS {
        for limit in [Duration::ZERO, Duration::from_millis(300)] {
            let (server, otlp) = server(protocol, vec![Answer::Hang]).await;
            let mut running = Running::start(settings(otlp));
            running.send(&["a"]);
            server.received(1).await;
            let began = Instant::now();
            let spans = running.end_within(limit).await;
            let took = began.elapsed();
            assert!(
                took >= limit && took < limit + Duration::from_secs(3),
                "{took:?}"
            );
            assert_account(&spans, 0, &[(reason::SHUTDOWN_DEADLINE, 1)]);
        }
        // And with time, what was handed over last is still acknowledged.
        let (server, otlp) = server(protocol, Vec::new()).await;
        let mut running = Running::start(settings(otlp));
        running.send(&["a", "b"]);
        assert_account(&running.end().await, 2, &[]);
        assert_eq!(server.so_far().len(), 1);
    }
}

#[tokio::test]
async fn rule_08_no_request_and_no_part_of_one_is_empty() {
    for protocol in PROTOCOLS {
        let (server, otlp) = server(protocol, vec![Answer::RefuseAbove(1)]).await;
        let mut running = Running::start(settings(otlp));
        running.exporter.flush();
        running.send(&[]);
        let resources = ["one", "two", "three"].map(crate::resource);
        let spans = resources.map(|resource| (resource, crate::span("a")));
        running.exporter.export_spans(spans);
        assert_account(&running.end().await, 3, &[]);
        for request in server.so_far() {
            let blocks = &request.traces().resource_spans;
            assert!(!blocks.is_empty());
            for block in blocks {
                assert_eq!(block.scope_spans.len(), 1);
                assert!(!block.scope_spans[0].spans.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn rule_09_requests_go_plain_or_compressed_by_gzip_or_zstd() {
    let names = vec!["the same name again and again"; 200];
    for protocol in PROTOCOLS {
        for (compression, level) in [
            (Compression::None, None),
            (Compression::Gzip, None),
            (Compression::Gzip, Some(9)),
            (Compression::Zstd, None),
            (Compression::Zstd, Some(9)),
        ] {
            let (server, otlp) = server(protocol, vec![Answer::Unavailable]).await;
            let mut running = Running::start(settings(OtlpSettings {
                compression,
                compression_level: level,
                ..otlp
            }));
            running.send(&names);
            // The second time it is the same bytes again.
            for request in server.received(2).await {
                assert_eq!(request.span_names(), names, "{protocol:?} {compression:?}");
                let header = match protocol {
                    Protocol::Grpc => "grpc-encoding",
                    _ => "content-encoding",
                };
                let encoding = request
                    .headers
                    .get(header)
                    .map(|value| value.to_str().unwrap());
                let expected = match compression {
                    Compression::None => None,
                    Compression::Gzip => Some("gzip"),
                    Compression::Zstd => Some("zstd"),
                };
                assert_eq!(encoding, expected);
                if protocol != Protocol::Grpc {
                    let is_small = request.wire_len < 2500;
                    assert_eq!(is_small, expected.is_some(), "{}", request.wire_len);
                    assert_eq!(request.headers["accept-encoding"], "gzip");
                }
            }
            assert_account(&running.end().await, 200, &[]);
        }
    }
}

#[tokio::test]
async fn rule_10_and_11_every_request_names_its_content_and_its_sender() {
    let version = env!("CARGO_PKG_VERSION");
    let agent = format!("spandrel/{version} OTel-OTLP-Exporter-Rust/{version}");
    for (protocol, content) in [
        (Protocol::Grpc, "application/grpc"),
        (Protocol::HttpProtobuf, "application/x-protobuf"),
        (Protocol::HttpJson, "application/json"),
    ] {
        let (server, otlp) = server(protocol, Vec::new()).await;
        let mut running = Running::start(settings(OtlpSettings {
            // Ours win: a content type that is wrong helps nobody.
            headers: vec![
                ("Content-Type".into(), "text/plain".into()),
                ("User-Agent".into(), "other".into()),
                ("x-scope".into(), "a".into()),
            ],
            ..otlp
        }));
        running.send(&["a"]);
        let headers = &server.received(1).await[0].headers;
        assert_eq!(headers["user-agent"], agent.as_str());
        assert_eq!(headers["x-scope"], "a");
        assert_eq!(headers["content-type"], content);
        if protocol == Protocol::Grpc {
            assert_eq!(headers["te"], "trailers");
            assert_eq!(headers["grpc-timeout"], "10000m");
        }
        assert_account(&running.end().await, 1, &[]);
    }
}

#[tokio::test]
async fn an_attempt_without_a_timeout_waits_for_a_slow_answer() {
    for protocol in PROTOCOLS {
        let slow = Answer::AcceptAfter(Duration::from_millis(400));
        let (server, otlp) = server(protocol, vec![slow]).await;
        let mut running = Running::start(settings(OtlpSettings {
            timeout: Duration::ZERO,
            ..otlp
        }));
        running.send(&["a"]);
        assert_account(&running.end().await, 1, &[]);
        assert_eq!(server.so_far().len(), 1);
        if protocol == Protocol::Grpc {
            assert!(!server.so_far()[0].headers.contains_key("grpc-timeout"));
        }
    }
}
