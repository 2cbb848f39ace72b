//! Answers that no server should give: none of them makes us panic, hang, or send a second copy of what was taken.

use std::time::Duration;

use spandrel_exporter::{OtlpSettings, Protocol, reason};

use super::otlp;
use super::peer::{Peer, RawAnswer};
use crate::{Running, assert_account, settings};

const OK: [(&str, &str); 1] = [("grpc-status", "0")];
const GRPC: [(&str, &str); 1] = [("content-type", "application/grpc")];

#[tokio::test]
async fn a_success_over_http_that_breaks_off_or_never_ends_is_not_sent_again() {
    for (answer, closes) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"[..],
            true,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            true,
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nslow", false),
    ] {
        for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
            let peer = Peer::raw_http(vec![answer], closes).await;
            let mut running = Running::start(settings(OtlpSettings {
                timeout: Duration::from_millis(300),
                ..otlp(protocol, peer.address)
            }));
            running.send(&["a"]);
            peer.seen(1).await;
            assert_account(&running.end().await, 1, &[]);
            assert_eq!(peer.so_far().len(), 1);
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_over_http_is_tried_again() {
    let ok = &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..];
    for broken in [
        &b""[..],
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"\x00\x01\x02\x03 what is this\r\n\r\n",
        b"HTTP/1.1 999999 Much\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
    ] {
        let peer = Peer::raw_http(vec![broken, ok], true).await;
        let mut running = Running::start(settings(otlp(Protocol::HttpProtobuf, peer.address)));
        running.send(&["a"]);
        peer.seen(2).await;
        assert_account(&running.end().await, 1, &[]);
        assert_eq!(
            peer.so_far().len(),
            2,
            "{:?}",
            String::from_utf8_lossy(broken)
        );
    }
}

#[tokio::test]
async fn a_grpc_success_is_a_success_whatever_its_message_is() {
    let with = |body: &[u8]| RawAnswer {
        headers: GRPC.to_vec(),
        body: body.to_vec(),
        trailers: OK.to_vec(),
        ..RawAnswer::default()
    };
    let mut compressed = with(&[1, 0, 0, 0, 3, 9, 9, 9]);
    compressed.headers.push(("grpc-encoding", "gzip"));
    let answers = vec![
        with(&[]),
        with(&[0, 0, 0, 0, 0]),
        with(&[0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]),
        // Shorter than it says, compressed by nothing known, and not compressed though it says so.
        with(&[0, 0xff, 0xff, 0xff, 0xff, 1]),
        with(&[1, 0, 0, 0, 3, 9, 9, 9]),
        compressed,
        with(b"<html>"),
        // The status in the head, as if it were an error, and no body at all.
        RawAnswer {
            headers: [GRPC, OK].concat(),
            ..RawAnswer::default()
        },
    ];
    let count = answers.len();
    let peer = Peer::raw_grpc(answers).await;
    let mut running = Running::start(settings(otlp(Protocol::Grpc, peer.address)));
    for n in 1..=count {
        running.send(&["a"]);
        peer.seen(n).await;
    }
    assert_account(&running.end().await, count as u64, &[]);
    assert_eq!(peer.so_far().len(), count);
}

#[tokio::test]
async fn a_grpc_status_is_read_from_the_head_with_details_that_are_broken_and_text_that_is_encoded()
{
    for (headers, class) in [
        // Details that are no base64 have brought clients down.
        (
            vec![
                ("grpc-status", "3"),
                ("grpc-status-details-bin", "%%%not base64%%%"),
            ],
            reason::PERMANENT_REQUEST,
        ),
        (
            vec![("grpc-status", "16"), ("grpc-message", "no%20key%zz%ff")],
            reason::PERMANENT_AUTH,
        ),
        (vec![("grpc-status", "999")], reason::PERMANENT_SERVER),
        (vec![("grpc-status", "soon")], reason::PERMANENT_SERVER),
        (vec![("grpc-status", "-1")], reason::PERMANENT_SERVER),
        (vec![("grpc-status", "")], reason::PERMANENT_SERVER),
    ] {
        for in_head in [true, false] {
            let answer = match in_head {
                true => RawAnswer {
                    headers: [&GRPC[..], &headers].concat(),
                    ..RawAnswer::default()
                },
                false => RawAnswer {
                    headers: GRPC.to_vec(),
                    trailers: headers.clone(),
                    ..RawAnswer::default()
                },
            };
            let peer = Peer::raw_grpc(vec![answer]).await;
            let mut running = Running::start(settings(otlp(Protocol::Grpc, peer.address)));
            running.send(&["a"]);
            peer.seen(1).await;
            assert_account(&running.end().await, 0, &[(class, 1)]);
            assert_eq!(peer.so_far().len(), 1, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn a_grpc_answer_without_a_status_is_tried_again() {
    let answer = |hangs| RawAnswer {
        headers: GRPC.to_vec(),
        body: vec![0, 0, 0, 0, 0],
        hangs,
        ..RawAnswer::default()
    };
    let good = RawAnswer {
        trailers: OK.to_vec(),
        ..answer(false)
    };
    let peer = Peer::raw_grpc(vec![answer(false), answer(true), good]).await;
    let mut running = Running::start(settings(OtlpSettings {
        timeout: Duration::from_millis(300),
        ..otlp(Protocol::Grpc, peer.address)
    }));
    running.send(&["a"]);
    peer.seen(3).await;
    assert_account(&running.end().await, 1, &[]);
    assert_eq!(peer.so_far().len(), 3);
}

#[tokio::test]
async fn an_answer_to_grpc_by_something_else_is_judged_by_its_http_status() {
    let answer = |status| RawAnswer {
        status,
        headers: vec![("content-type", "text/html")],
        body: b"<html>".to_vec(),
        ..RawAnswer::default()
    };
    for (status, class) in [
        (200, reason::PERMANENT_SERVER),
        (302, reason::PERMANENT_REDIRECT),
        (401, reason::PERMANENT_AUTH),
        (403, reason::PERMANENT_AUTH),
        (404, reason::PERMANENT_SERVER),
        (413, reason::PERMANENT_SIZE),
        (500, reason::PERMANENT_SERVER),
    ] {
        let peer = Peer::raw_grpc(vec![answer(status)]).await;
        let mut running = Running::start(settings(otlp(Protocol::Grpc, peer.address)));
        running.send(&["a"]);
        peer.seen(1).await;
        assert_account(&running.end().await, 0, &[(class, 1)]);
    }
    let good = RawAnswer {
        headers: [GRPC, OK].concat(),
        ..RawAnswer::default()
    };
    let mut answers: Vec<_> = [429, 502, 503, 504].map(answer).to_vec();
    answers.push(good);
    let peer = Peer::raw_grpc(answers).await;
    let mut running = Running::start(settings(otlp(Protocol::Grpc, peer.address)));
    running.send(&["a"]);
    peer.seen(5).await;
    assert_account(&running.end().await, 1, &[]);
}

#[tokio::test]
async fn a_compressed_grpc_answer_is_not_inflated_beyond_the_limit() {
    let message = {
        let mut zstd = zstd::stream::encode_all(&vec![0_u8; 1_000_000][..], 1).unwrap();
        let length = u32::try_from(zstd.len()).unwrap().to_be_bytes();
        let mut framed = vec![1];
        framed.extend(length);
        framed.append(&mut zstd);
        framed
    };
    let mut answer = RawAnswer {
        headers: GRPC.to_vec(),
        body: message,
        trailers: OK.to_vec(),
        ..RawAnswer::default()
    };
    answer.headers.push(("grpc-encoding", "zstd"));
    let peer = Peer::raw_grpc(vec![answer]).await;
    let mut running = Running::start(settings(OtlpSettings {
        max_response_size: 10_000,
        ..otlp(Protocol::Grpc, peer.address)
    }));
    running.send(&["a"]);
    peer.seen(1).await;
    assert_account(&running.end().await, 0, &[(reason::PERMANENT_RESPONSE, 1)]);
}
