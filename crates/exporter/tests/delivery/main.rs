//! What is handed to the exporter arrives once, or is counted with its reason: against a scripted OTLP server.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the server and the builders are tests too, though they bear no attribute"
)]

mod destinations;
mod durable;
mod metrics;
mod other_metrics;
mod own_metrics;
mod rules;
mod sdk;
mod server;
mod stream;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use server::{Answer, Server};
use spandrel_exporter::{
    BatchSettings, Compression, DestinationSettings, Exporter, OtlpSettings, Protocol,
    QueueSettings, RetrySettings, Target, reason,
};
use spandrel_model::ledger::Snapshot;
use spandrel_model::{
    Attribute, Ledger, ProcessKey, Resource, SpanId, SpanKind, SpanRecord, SpanStatus, TraceId,
    UnixTime,
};
use tokio::runtime::Handle;
use tonic::Code;

fn resource(name: &'static str) -> Arc<Resource> {
    Arc::new(Resource::new(vec![Attribute::new("service.name", name)]))
}

fn span(name: impl Into<String>) -> SpanRecord {
    SpanRecord {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        parent_span_id: None,
        parent_is_remote: false,
        trace_begun_here: false,
        trace_flags: 1,
        trace_state: "".into(),
        name: name.into().into(),
        kind: SpanKind::Server,
        start: UnixTime(1_700_000_000_000_000_000),
        end: UnixTime(1_700_000_000_001_000_000),
        attributes: vec![Attribute::new("http.request.method", "GET")],
        dropped_attributes: 0,
        status: SpanStatus::Unset,
        process: ProcessKey {
            tgid: 1,
            started: 1,
        },
        cgroup: 0,
    }
}

fn grpc(server: &Server) -> OtlpSettings {
    OtlpSettings::new(Protocol::Grpc, format!("http://{}", server.address))
}

fn http(server: &Server) -> OtlpSettings {
    OtlpSettings::new(
        Protocol::HttpProtobuf,
        format!("http://{}/v1/traces", server.address),
    )
}

/// Retries fast, so that a test is over in time; the shape of the waits is tested where time stands still.
fn settings(traces: OtlpSettings) -> DestinationSettings {
    DestinationSettings {
        traces: Some(Target::Otlp(traces)),
        retry: RetrySettings {
            initial_interval: Duration::from_millis(20),
            max_interval: Duration::from_millis(100),
            ..RetrySettings::default()
        },
        ..DestinationSettings::default()
    }
}

struct Running {
    exporter: Exporter,
    ledger: Arc<Ledger>,
}

impl Running {
    fn start(settings: DestinationSettings) -> Self {
        let ledger = Arc::new(Ledger::default());
        let exporter = Exporter::start(settings, Arc::clone(&ledger), &Handle::current()).unwrap();
        Self { exporter, ledger }
    }

    /// Hands over spans of one service and sends them at once.
    fn send(&mut self, names: &[&str]) {
        let resource = resource("shop");
        self.exporter.export_spans(
            names
                .iter()
                .map(|name| (Arc::clone(&resource), span(*name))),
        );
        self.exporter.flush();
    }

    /// Waits until so many spans have been acknowledged. The ledger has no event to wait for.
    async fn settled(&self, count: u64) {
        let all = async {
            while self.ledger.spans.snapshot().settled < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), all).await;
        found.expect("they are acknowledged within 20 s");
    }

    async fn end(self) -> Snapshot {
        self.end_within(Duration::from_secs(10)).await
    }

    async fn end_within(self, deadline: Duration) -> Snapshot {
        let report = self.exporter.shutdown(deadline).await;
        assert!(self.ledger.is_closed());
        let spans = self.ledger.spans.snapshot();
        assert_eq!(spans.in_flight, 0, "everything has ended");
        let lost = spans.dropped.get(reason::SHUTDOWN_DEADLINE).copied();
        assert_eq!(report.lost_spans, lost.unwrap_or(0));
        spans
    }
}

#[track_caller]
fn assert_account(spans: &Snapshot, settled: u64, dropped: &[(&'static str, u64)]) {
    assert_eq!(spans.settled, settled, "{spans:?}");
    assert_eq!(
        spans.dropped,
        dropped.iter().copied().collect(),
        "{spans:?}"
    );
}

#[tokio::test]
async fn spans_arrive_over_grpc_with_headers_and_user_agent() {
    for compression in [Compression::None, Compression::Gzip] {
        let server = Server::grpc(Vec::new()).await;
        let mut running = Running::start(settings(OtlpSettings {
            headers: vec![("Api-Key".into(), "secret".into())],
            compression,
            ..grpc(&server)
        }));
        running.send(&["a", "b"]);
        let received = server.received(1).await;
        assert_eq!(received[0].span_names(), ["a", "b"]);
        let headers = &received[0].headers;
        assert_eq!(headers["api-key"], "secret");
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            headers["user-agent"],
            format!("spandrel/{version} OTel-OTLP-Exporter-Rust/{version}").as_str()
        );
        let encoding = headers
            .get("grpc-encoding")
            .map(|value| value.to_str().unwrap());
        assert_eq!(encoding == Some("gzip"), compression == Compression::Gzip);
        assert_account(&running.end().await, 2, &[]);
    }
}

#[tokio::test]
async fn spans_arrive_over_http_with_headers_and_user_agent() {
    for compression in [Compression::None, Compression::Gzip] {
        let server = Server::http(Vec::new()).await;
        let mut running = Running::start(settings(OtlpSettings {
            headers: vec![("api-key".into(), "secret".into())],
            compression,
            ..http(&server)
        }));
        let names = vec!["a"; 100];
        running.send(&names);
        let received = server.received(1).await;
        assert_eq!(received[0].span_names(), names);
        assert_eq!(received[0].path, "/v1/traces");
        let headers = &received[0].headers;
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers["api-key"], "secret");
        assert!(
            headers["user-agent"]
                .to_str()
                .unwrap()
                .starts_with("spandrel/")
        );
        match compression {
            Compression::None => assert!(!headers.contains_key("content-encoding")),
            _ => {
                assert_eq!(headers["content-encoding"], "gzip");
                assert!(received[0].wire_len < 1000, "{}", received[0].wire_len);
            }
        }
        assert_account(&running.end().await, 100, &[]);
    }
}

#[tokio::test]
async fn many_services_share_one_request() {
    let server = Server::grpc(Vec::new()).await;
    let mut running = Running::start(settings(grpc(&server)));
    let names = ["one", "two", "three"];
    let resources: Vec<_> = names.into_iter().map(resource).collect();
    let spans = (0..30).map(|n| (Arc::clone(&resources[n % 3]), span(format!("{n}"))));
    running.exporter.export_spans(spans);
    running.exporter.flush();
    let received = server.received(1).await;
    let blocks = &received[0].traces().resource_spans;
    assert_eq!(blocks.len(), 3);
    assert!(
        blocks
            .iter()
            .all(|block| block.scope_spans[0].spans.len() == 10)
    );
    assert_account(&running.end().await, 30, &[]);
    assert_eq!(server.so_far().len(), 1, "and no empty request followed");
}

#[tokio::test]
async fn what_a_partial_success_rejects_is_counted_and_not_sent_again() {
    for is_grpc in [true, false] {
        let script = vec![
            Answer::Partial(2, "too old"),
            Answer::Partial(0, "slow down"),
        ];
        let (server, otlp) = if is_grpc {
            let server = Server::grpc(script).await;
            let otlp = grpc(&server);
            (server, otlp)
        } else {
            let server = Server::http(script).await;
            let otlp = http(&server);
            (server, otlp)
        };
        let mut running = Running::start(settings(otlp));
        running.send(&["a", "b", "c"]);
        server.received(1).await;
        running.send(&["d"]);
        assert_account(&running.end().await, 2, &[(reason::REJECTED, 2)]);
        assert_eq!(server.so_far().len(), 2);
    }
}

#[tokio::test]
async fn a_retryable_grpc_status_is_retried_until_it_works() {
    use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, Unavailable};
    let codes = [
        Unavailable,
        Cancelled,
        DeadlineExceeded,
        Aborted,
        OutOfRange,
        DataLoss,
    ];
    let script = codes.map(|code| Answer::Status(code, None)).to_vec();
    let server = Server::grpc(script).await;
    let mut running = Running::start(settings(grpc(&server)));
    running.send(&["a"]);
    let received = server.received(codes.len() + 1).await;
    assert!(received.iter().all(|request| request.span_names() == ["a"]));
    assert_account(&running.end().await, 1, &[]);
}

#[tokio::test]
async fn a_final_grpc_status_is_counted_by_its_class_and_not_retried() {
    for (code, class) in [
        (Code::Unauthenticated, reason::PERMANENT_AUTH),
        (Code::PermissionDenied, reason::PERMANENT_AUTH),
        (Code::InvalidArgument, reason::PERMANENT_REQUEST),
        (Code::NotFound, reason::PERMANENT_REQUEST),
        (Code::FailedPrecondition, reason::PERMANENT_REQUEST),
        (Code::Unimplemented, reason::PERMANENT_SERVER),
        (Code::Internal, reason::PERMANENT_SERVER),
        (Code::Unknown, reason::PERMANENT_SERVER),
        (Code::ResourceExhausted, reason::PERMANENT_EXHAUSTED),
    ] {
        let server = Server::grpc(vec![Answer::Status(code, None)]).await;
        let mut running = Running::start(settings(grpc(&server)));
        running.send(&["a", "b"]);
        assert_account(&running.end().await, 0, &[(class, 2)]);
        assert_eq!(server.so_far().len(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn retry_info_makes_the_whole_destination_wait() {
    let delay = Duration::from_millis(700);
    let script = vec![Answer::Status(Code::ResourceExhausted, Some(delay))];
    let server = Server::grpc(script).await;
    let mut running = Running::start(settings(grpc(&server)));
    running.send(&["a"]);
    let first = server.received(1).await[0].at;
    // Long enough for the answer to be read, short against the delay.
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.send(&["b"]);
    let received = server.received(3).await;
    for later in &received[1..] {
        assert!(later.at - first >= delay, "{:?}", later.at - first);
    }
    assert_account(&running.end().await, 2, &[]);
}

#[tokio::test]
async fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    let date = || httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(3));
    for (status, is_date, least) in [(503, false, 1000), (429, true, 1000)] {
        let value = if is_date { date() } else { "1".to_owned() };
        let answer = Answer::Http(status, vec![("retry-after", value)], Vec::new());
        let server = Server::http(vec![answer]).await;
        let mut running = Running::start(settings(http(&server)));
        running.send(&["a"]);
        let received = server.received(2).await;
        let waited = received[1].at - received[0].at;
        assert!(
            waited >= Duration::from_millis(least),
            "{status}: {waited:?}"
        );
        assert_account(&running.end().await, 1, &[]);
    }
}

#[tokio::test]
async fn only_four_http_statuses_are_retried() {
    for status in [429, 502, 503, 504] {
        let server = Server::http(vec![Answer::Http(status, Vec::new(), Vec::new())]).await;
        let mut running = Running::start(settings(http(&server)));
        running.send(&["a"]);
        server.received(2).await;
        assert_account(&running.end().await, 1, &[]);
    }
    for (status, class) in [
        (400, reason::PERMANENT_REQUEST),
        (401, reason::PERMANENT_AUTH),
        (403, reason::PERMANENT_AUTH),
        (404, reason::PERMANENT_REQUEST),
        (408, reason::PERMANENT_REQUEST),
        (413, reason::PERMANENT_SIZE),
        (500, reason::PERMANENT_SERVER),
        (501, reason::PERMANENT_SERVER),
    ] {
        let server = Server::http(vec![Answer::Http(status, Vec::new(), Vec::new())]).await;
        let mut running = Running::start(settings(http(&server)));
        running.send(&["a"]);
        assert_account(&running.end().await, 0, &[(class, 1)]);
        assert_eq!(server.so_far().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::http(Vec::new()).await;
    let location = format!("http://{}/v1/traces", other.address);
    let answer = Answer::Http(307, vec![("location", location)], Vec::new());
    let server = Server::http(vec![answer]).await;
    let mut running = Running::start(settings(http(&server)));
    running.send(&["a"]);
    assert_account(&running.end().await, 0, &[(reason::PERMANENT_REDIRECT, 1)]);
    assert!(other.so_far().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_too_large_ends_the_request() {
    let huge = vec![0; 5 * 1024 * 1024];
    let server = Server::http(vec![Answer::Http(200, Vec::new(), huge)]).await;
    let mut running = Running::start(settings(http(&server)));
    running.send(&["a"]);
    assert_account(&running.end().await, 0, &[(reason::PERMANENT_RESPONSE, 1)]);

    let huge: &'static str = Box::leak("x".repeat(5 * 1024 * 1024).into_boxed_str());
    let server = Server::grpc(vec![Answer::Partial(0, huge)]).await;
    let mut running = Running::start(settings(grpc(&server)));
    running.send(&["a"]);
    assert_account(&running.end().await, 0, &[(reason::PERMANENT_RESPONSE, 1)]);
    assert_eq!(server.so_far().len(), 1);
}

#[tokio::test]
async fn a_success_with_a_body_that_nobody_understands_is_a_success() {
    let answer = Answer::Http(
        200,
        vec![("content-type", "text/html".into())],
        b"<p>hi".to_vec(),
    );
    let server = Server::http(vec![answer]).await;
    let mut running = Running::start(settings(http(&server)));
    running.send(&["a"]);
    assert_account(&running.end().await, 1, &[]);
    assert_eq!(server.so_far().len(), 1);
}

#[tokio::test]
async fn a_server_that_comes_up_later_gets_everything() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let address = free_address();
        let endpoint = match protocol {
            Protocol::Grpc => format!("http://{address}"),
            _ => format!("http://{address}/v1/traces"),
        };
        if protocol == Protocol::HttpProtobuf {
            // The scripted HTTP server chooses its own address: see that gRPC has covered the queue.
            let mut down = Running::start(settings(OtlpSettings::new(protocol, endpoint)));
            down.send(&["a"]);
            let spans = down.end_within(Duration::from_millis(300)).await;
            assert_account(&spans, 0, &[(reason::SHUTDOWN_DEADLINE, 1)]);
            continue;
        }
        let mut running = Running::start(settings(OtlpSettings::new(protocol, endpoint)));
        for n in 0..10 {
            running.send(&[&format!("{n}")]);
        }
        // The first attempts fail: nobody listens.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let server = Server::grpc_on(address, Vec::new(), None).await;
        let received = server.received(10).await;
        let mut names: Vec<String> = received.iter().flat_map(|r| r.span_names()).collect();
        names.sort();
        let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(names, expected);
        assert_account(&running.end().await, 10, &[]);
    }
}

fn free_address() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_dead_server_costs_the_oldest_spans_and_no_more_memory_than_allowed() {
    let endpoint = format!("http://{}", free_address());
    let queue_size = 20_000;
    let mut running = Running::start(DestinationSettings {
        queue: QueueSettings {
            queue_size,
            num_consumers: 2,
            ..QueueSettings::default()
        },
        ..settings(OtlpSettings::new(Protocol::Grpc, endpoint))
    });
    for n in 0..1000 {
        running.send(&[&format!("{n}")]);
        assert!(running.exporter.queued_bytes() <= queue_size);
    }
    let spans = running.ledger.spans.snapshot();
    assert!(spans.is_closed());
    let dropped = spans.dropped[reason::QUEUE_FULL];
    assert!(dropped > 800 && dropped < 1000, "{dropped}");
    assert_eq!(spans.in_flight, 1000 - dropped);
    let spans = running.end_within(Duration::from_millis(50)).await;
    let expected = [
        (reason::QUEUE_FULL, dropped),
        (reason::SHUTDOWN_DEADLINE, 1000 - dropped),
    ];
    assert_account(&spans, 0, &expected);
}

#[tokio::test]
async fn without_a_queue_only_a_free_consumer_takes_a_request() {
    let server = Server::grpc(vec![Answer::Hang, Answer::Hang]).await;
    let mut running = Running::start(DestinationSettings {
        queue: QueueSettings {
            enabled: false,
            num_consumers: 2,
            ..QueueSettings::default()
        },
        ..settings(grpc(&server))
    });
    running.send(&["a"]);
    running.send(&["b"]);
    server.received(2).await;
    // Both consumers wait for an answer.
    running.send(&["c", "d"]);
    running.send(&["e"]);
    assert_eq!(running.exporter.queued_bytes(), 0);
    let spans = running.end_within(Duration::from_millis(100)).await;
    let expected = [(reason::QUEUE_FULL, 3), (reason::SHUTDOWN_DEADLINE, 2)];
    assert_account(&spans, 0, &expected);
}

#[tokio::test]
async fn a_timeout_of_zero_is_no_limit() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let server = match protocol {
            Protocol::Grpc => Server::grpc(vec![]).await,
            _ => Server::http(vec![]).await,
        };
        let mut running = Running::start(settings(OtlpSettings {
            timeout: Duration::ZERO,
            ..match protocol {
                Protocol::Grpc => grpc(&server),
                _ => http(&server),
            }
        }));
        running.send(&["a"]);
        server.received(1).await;
        assert_account(&running.end().await, 1, &[]);
    }
}

#[tokio::test]
async fn a_request_is_cut_before_it_is_too_large() {
    let server = Server::grpc(Vec::new()).await;
    let mut running = Running::start(DestinationSettings {
        batch: BatchSettings {
            max_request_bytes: 10_000,
            max_export_batch_size: 1_000_000,
            ..BatchSettings::default()
        },
        ..settings(grpc(&server))
    });
    let resource = resource("shop");
    let many = (0..500).map(|_| (Arc::clone(&resource), span("x".repeat(100))));
    running.exporter.export_spans(many);
    let giant = (Arc::clone(&resource), span("x".repeat(20_000)));
    running.exporter.export_spans([giant]);
    let spans = running.end().await;
    assert_account(&spans, 500, &[(reason::TOO_LARGE, 1)]);
    use prost::Message;
    for request in server.so_far() {
        let len = request.traces().encoded_len();
        assert!(len <= 10_000, "{len}");
    }
}

#[tokio::test]
async fn the_first_span_of_a_quiet_service_arrives_within_a_second_by_default() {
    let server = Server::grpc(Vec::new()).await;
    let mut running = Running::start(DestinationSettings {
        traces: Some(Target::Otlp(grpc(&server))),
        ..DestinationSettings::default()
    });
    let began = Instant::now();
    assert_eq!(running.exporter.tick(began), None, "nothing waits");
    running
        .exporter
        .export_spans([(resource("shop"), span("first"))]);
    let mut now = began;
    while let Some(due) = running.exporter.tick(now) {
        tokio::time::sleep_until(due.into()).await;
        now = Instant::now();
    }
    let received = server.received(1).await;
    let took = received[0].at - began;
    assert!(took < Duration::from_secs(1), "{took:?}");

    // The next one, within the delay, waits for its turn.
    running
        .exporter
        .export_spans([(resource("shop"), span("second"))]);
    let due = running
        .exporter
        .tick(now + Duration::from_millis(1))
        .unwrap();
    assert_eq!(due, now + BatchSettings::default().schedule_delay);
    // After a quiet time a span goes at once again.
    assert_eq!(running.exporter.tick(due), None);
    let later = due + Duration::from_secs(60);
    running
        .exporter
        .export_spans([(resource("shop"), span("third"))]);
    assert_eq!(
        running.exporter.tick(later),
        Some(later + BatchSettings::default().linger)
    );
    assert_account(&running.end().await, 3, &[]);
}

#[tokio::test]
async fn a_hanging_server_does_not_hold_the_shutdown_up() {
    let server = Server::grpc(vec![Answer::Hang]).await;
    let mut running = Running::start(settings(grpc(&server)));
    running.send(&["a"]);
    server.received(1).await;
    let began = Instant::now();
    let spans = running.end_within(Duration::from_millis(300)).await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_account(&spans, 0, &[(reason::SHUTDOWN_DEADLINE, 1)]);
}

#[tokio::test]
async fn an_attempt_ends_with_its_timeout_and_is_made_again() {
    let server = Server::http(vec![Answer::Hang]).await;
    let mut running = Running::start(settings(OtlpSettings {
        timeout: Duration::from_millis(200),
        ..http(&server)
    }));
    running.send(&["a"]);
    server.received(2).await;
    assert_account(&running.end().await, 1, &[]);
}

#[tokio::test]
async fn retrying_ends_after_the_time_it_was_given() {
    let mut settings = settings(OtlpSettings::new(
        Protocol::HttpProtobuf,
        format!("http://{}/v1/traces", free_address()),
    ));
    settings.retry.max_elapsed_time = Duration::from_millis(100);
    let mut running = Running::start(settings);
    running.send(&["a"]);
    assert_account(&running.end().await, 0, &[(reason::RETRY_EXHAUSTED, 1)]);
}

#[tokio::test]
async fn spans_without_a_destination_are_counted() {
    let mut running = Running::start(DestinationSettings::default());
    running.send(&["a", "b"]);
    assert_account(&running.end().await, 0, &[(reason::NO_DESTINATION, 2)]);
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_is_no_reason_to_give_up() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/", listener.local_addr().unwrap());
        let mut running = Running::start(settings(OtlpSettings::new(protocol, endpoint)));
        running.send(&["a"]);
        // Reads a little, as a server that is killed at work, and is gone without an answer. Three attempts.
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 16];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut some)
                .await
                .unwrap();
        }
        drop(listener);
        let spans = running.end_within(Duration::from_millis(100)).await;
        assert_account(&spans, 0, &[(reason::SHUTDOWN_DEADLINE, 1)]);
    }
}
