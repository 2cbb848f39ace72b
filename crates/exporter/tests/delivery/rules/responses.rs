//! Rules 12 to 22: what each answer means.

use std::collections::BTreeMap;
use std::time::Duration;

use spandrel_exporter::{OtlpSettings, Protocol, ProxySettings, reason};
use tonic::Code;

use super::{PROTOCOLS, otlp, server};
use crate::server::{Answer, Server};
use crate::{Running, assert_account, free_address, settings};

/// What is not a count in a JSON or protobuf answer.
fn plain(status: u16) -> Answer {
    Answer::Http(status, Vec::new(), Vec::new())
}

#[tokio::test]
async fn rule_12_a_success_with_a_body_that_nobody_understands_is_not_sent_again() {
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        let bodies = [
            ("text/html", b"<p>hi".to_vec()),
            ("application/json", b"{\"partialSuccess\":".to_vec()),
            ("application/json", b"[[[[".to_vec()),
            ("application/x-protobuf", vec![0xff; 40]),
            ("", Vec::new()),
        ];
        let answer = |(kind, body): (&str, Vec<u8>)| {
            Answer::Http(200, vec![("content-type", kind.to_owned())], body)
        };
        let mut script: Vec<Answer> = bodies.into_iter().map(answer).collect();
        // No gzip, though it says so; and other kinds of success.
        let lies = vec![("content-encoding", "gzip".to_owned())];
        script.push(Answer::Http(200, lies, b"plain".to_vec()));
        script.extend([plain(202), plain(204)]);
        let count = script.len();
        let (server, otlp) = server(protocol, script).await;
        let mut running = Running::start(settings(otlp));
        for n in 1..=count {
            running.send(&["a"]);
            server.received(n).await;
        }
        assert_account(&running.end().await, count as u64, &[]);
        assert_eq!(server.so_far().len(), count);
    }
}

#[tokio::test]
async fn rule_13_what_a_partial_success_rejects_is_counted_and_nothing_is_sent_again() {
    for protocol in PROTOCOLS {
        let script = vec![
            Answer::Partial(2, "too old"),
            Answer::Partial(0, "slow down"),
            Answer::Partial(0, ""),
            // More than were sent, or fewer than none, is nonsense and not believed beyond what was sent.
            Answer::Partial(900, "all"),
            Answer::Partial(-5, "none"),
        ];
        let (server, otlp) = server(protocol, script).await;
        let mut running = Running::start(settings(otlp));
        for n in 1..=5 {
            running.send(&["a", "b", "c"]);
            server.received(n).await;
        }
        let expected = [(reason::REJECTED, 2 + 3)];
        assert_account(&running.end().await, 1 + 3 + 3 + 3, &expected);
        assert_eq!(server.so_far().len(), 5, "{protocol:?}");
    }
}

#[tokio::test]
async fn rule_14_grpc_statuses_are_retried_or_not_by_the_table_of_the_specification() {
    use Code::{
        Aborted, AlreadyExists, Cancelled, DataLoss, DeadlineExceeded, FailedPrecondition,
        Internal, InvalidArgument, NotFound, OutOfRange, PermissionDenied, ResourceExhausted,
        Unauthenticated, Unavailable, Unimplemented, Unknown,
    };
    let retried = [
        Cancelled,
        DeadlineExceeded,
        Aborted,
        OutOfRange,
        Unavailable,
        DataLoss,
    ];
    let mut script: Vec<Answer> = retried.map(|code| Answer::Status(code, None)).to_vec();
    script.push(Answer::Status(
        ResourceExhausted,
        Some(Duration::from_millis(1)),
    ));
    let attempts = script.len() + 1;
    let server = Server::grpc(script).await;
    let mut running = Running::start(settings(otlp(Protocol::Grpc, server.address)));
    running.send(&["a"]);
    server.received(attempts).await;
    assert_account(&running.end().await, 1, &[]);
    assert_eq!(server.so_far().len(), attempts);

    let classes = [
        (
            reason::PERMANENT_AUTH,
            vec![Unauthenticated, PermissionDenied],
        ),
        (
            reason::PERMANENT_REQUEST,
            vec![InvalidArgument, NotFound, AlreadyExists, FailedPrecondition],
        ),
        (
            reason::PERMANENT_SERVER,
            vec![Unimplemented, Internal, Unknown],
        ),
        (reason::PERMANENT_EXHAUSTED, vec![ResourceExhausted]),
    ];
    let codes = classes.iter().flat_map(|(_, codes)| codes);
    let script: Vec<Answer> = codes.map(|code| Answer::Status(*code, None)).collect();
    let count = script.len();
    let server = Server::grpc(script).await;
    let mut running = Running::start(settings(otlp(Protocol::Grpc, server.address)));
    for n in 1..=count {
        running.send(&["a", "b"]);
        server.received(n).await;
    }
    let expected: Vec<_> = classes
        .iter()
        .map(|(class, codes)| (*class, codes.len() as u64 * 2))
        .collect();
    assert_account(&running.end().await, 0, &expected);
    assert_eq!(
        server.so_far().len(),
        count,
        "none was sent again, and none was split"
    );
}

#[tokio::test]
async fn rule_14_exhausted_without_retry_info_is_retried_where_the_settings_say_so() {
    let script = vec![Answer::Status(Code::ResourceExhausted, None); 3];
    let server = Server::grpc(script).await;
    let mut running = Running::start(settings(OtlpSettings {
        retry_resource_exhausted: true,
        ..otlp(Protocol::Grpc, server.address)
    }));
    running.send(&["a", "b"]);
    let received = server.received(4).await;
    assert!(received.iter().all(|one| one.span_names() == ["a", "b"]));
    assert_account(&running.end().await, 2, &[]);
    // What speaks of the size is split all the same: it would be refused for ever.
    let server = Server::grpc(vec![Answer::RefuseAbove(1)]).await;
    let mut running = Running::start(settings(OtlpSettings {
        retry_resource_exhausted: true,
        ..otlp(Protocol::Grpc, server.address)
    }));
    running.send(&["a", "b"]);
    assert_account(&running.end().await, 2, &[]);
}

#[tokio::test]
async fn rule_15_and_16_only_four_http_statuses_are_retried_and_all_others_are_dropped_and_counted()
{
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        let retried = [429, 502, 503, 504];
        let (busy, otlp) = server(protocol, retried.map(plain).to_vec()).await;
        let mut running = Running::start(settings(otlp));
        running.send(&["a"]);
        busy.received(retried.len() + 1).await;
        assert_account(&running.end().await, 1, &[]);

        let refused: Vec<u16> = (400..=599)
            .filter(|status| !retried.contains(status))
            .collect();
        let script = refused.iter().map(|status| plain(*status)).collect();
        let (server, otlp) = server(protocol, script).await;
        let mut running = Running::start(settings(otlp));
        let mut expected = BTreeMap::new();
        for (at, status) in refused.iter().enumerate() {
            running.send(&["a"]);
            server.received(at + 1).await;
            let class = match status {
                401 | 403 => reason::PERMANENT_AUTH,
                413 => reason::PERMANENT_SIZE,
                400..=499 => reason::PERMANENT_REQUEST,
                _ => reason::PERMANENT_SERVER,
            };
            *expected.entry(class).or_insert(0) += 1;
        }
        let expected: Vec<_> = expected.into_iter().collect();
        assert_account(&running.end().await, 0, &expected);
        assert_eq!(server.so_far().len(), refused.len());
    }
}

#[tokio::test]
async fn rule_17_retry_info_is_waited_out_and_the_waits_grow_from_there() {
    let delay = Duration::from_millis(400);
    let script = vec![
        Answer::Status(Code::Unavailable, Some(delay)),
        Answer::Status(Code::Unavailable, None),
        Answer::Status(Code::Unavailable, Some(Duration::ZERO)),
    ];
    let server = Server::grpc(script).await;
    let mut settings = settings(otlp(Protocol::Grpc, server.address));
    settings.retry.max_interval = Duration::from_secs(5);
    settings.retry.randomization_factor = 0.0;
    let mut running = Running::start(settings);
    running.send(&["a"]);
    let at: Vec<_> = server.received(4).await.iter().map(|one| one.at).collect();
    assert!(at[1] - at[0] >= delay, "{:?}", at[1] - at[0]);
    // Our own next wait would have been 30 ms; it grows from what the server asked for. Zero is no wish.
    assert!(at[2] - at[1] >= delay, "{:?}", at[2] - at[1]);
    assert!(at[3] - at[2] >= delay, "{:?}", at[3] - at[2]);
    assert_account(&running.end().await, 1, &[]);
}

#[tokio::test]
async fn rule_18_retry_after_is_honoured_in_seconds_and_as_a_date() {
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        let date = std::time::SystemTime::now() + Duration::from_secs(3);
        let date = httpdate::fmt_http_date(date);
        for (status, value) in [(503, "1".to_owned()), (429, date)] {
            let answer = Answer::Http(status, vec![("retry-after", value)], Vec::new());
            let (server, otlp) = server(protocol, vec![answer]).await;
            let mut running = Running::start(settings(otlp));
            running.send(&["a"]);
            let received = server.received(2).await;
            let waited = received[1].at - received[0].at;
            assert!(waited >= Duration::from_secs(1), "{status}: {waited:?}");
            assert_account(&running.end().await, 1, &[]);
        }
    }
}

#[tokio::test]
async fn rule_19_what_cannot_connect_or_loses_its_connection_is_tried_again() {
    for protocol in PROTOCOLS {
        // Nobody listens; then somebody accepts and closes; then a server is there.
        let address = free_address();
        let mut running = Running::start(settings(otlp(protocol, address)));
        running.send(&["a"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 8];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut some)
                .await
                .unwrap();
        }
        drop(listener);
        let server = match protocol {
            Protocol::Grpc => Server::grpc_on(address, Vec::new(), None).await,
            _ => Server::http_on(address, Vec::new()).await,
        };
        assert_eq!(server.received(1).await[0].span_names(), ["a"]);
        assert_account(&running.end().await, 1, &[]);
        assert_eq!(server.so_far().len(), 1);
    }
}

#[tokio::test]
async fn rule_20_backpressure_holds_for_the_whole_destination() {
    let delay = Duration::from_millis(1500);
    for protocol in PROTOCOLS {
        let answer = match protocol {
            Protocol::Grpc => Answer::Status(Code::Unavailable, Some(delay)),
            _ => Answer::Http(429, vec![("retry-after", "2".into())], Vec::new()),
        };
        let (server, otlp) = server(protocol, vec![answer]).await;
        let mut running = Running::start(settings(otlp));
        running.send(&["a"]);
        let first = server.received(1).await[0].at;
        // Long enough for the answer to be read, short against the delay.
        tokio::time::sleep(Duration::from_millis(200)).await;
        for name in ["b", "c", "d", "e", "f"] {
            running.send(&[name]);
        }
        for later in &server.received(7).await[1..] {
            assert!(later.at - first >= delay, "{:?}", later.at - first);
        }
        assert_account(&running.end().await, 6, &[]);
    }
}

#[tokio::test]
async fn rule_21_no_redirect_is_followed_for_the_headers_may_hold_credentials() {
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        let other = Server::http(Vec::new()).await;
        let to = format!("http://{}/v1/traces", other.address);
        let statuses = [301, 302, 303, 307, 308];
        let answer = |status| Answer::Http(status, vec![("location", to.clone())], Vec::new());
        let (server, otlp) = server(protocol, statuses.map(answer).to_vec()).await;
        let mut running = Running::start(settings(OtlpSettings {
            headers: vec![("api-key".into(), "secret".into())],
            ..otlp
        }));
        for n in 1..=statuses.len() {
            running.send(&["a"]);
            server.received(n).await;
        }
        assert_account(&running.end().await, 0, &[(reason::PERMANENT_REDIRECT, 5)]);
        assert!(other.so_far().is_empty());
        assert_eq!(server.so_far().len(), 5);
    }
}

#[tokio::test]
async fn rule_22_after_a_lost_answer_the_very_same_request_is_sent_again() {
    for protocol in PROTOCOLS {
        let (server, otlp) = server(protocol, vec![Answer::Hang]).await;
        let mut running = Running::start(settings(OtlpSettings {
            timeout: Duration::from_millis(300),
            proxy: ProxySettings::Direct,
            ..otlp
        }));
        running.send(&["a", "b"]);
        let received = server.received(2).await;
        assert_eq!(received[0].traces(), received[1].traces());
        // What arrived twice is counted once.
        assert_account(&running.end().await, 2, &[]);
    }
}
