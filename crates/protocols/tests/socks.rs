//! HTTP behind a SOCKS handshake, at both ends, however the handshake is cut.
#![allow(clippy::unwrap_used)]

mod script;

use spandrel_protocols::Settings;

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// What a client and a server say before the first request.
const HANDSHAKES: [(&[u8], &[u8]); 3] = [
    (
        b"\x05\x01\x00\x05\x01\x00\x03\x04shop\x00\x50",
        b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
    ),
    (
        b"\x05\x02\x00\x02\x01\x02me\x03you\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
        b"\x05\x02\x01\x00\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x00\x50",
    ),
    (
        b"\x04\x01\x00\x50\x00\x00\x00\x01me\x00shop\x00",
        b"\x00\x5a\x00\x50\x00\x00\x00\x01",
    ),
];

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// One request and its response behind a handshake, in pieces of this size.
fn conversation(handshake: (&[u8], &[u8]), role: &str, size: usize, reply_first: bool) -> String {
    let (ask, answer) = match role {
        "server" => ("read", "write"),
        _ => ("write", "read"),
    };
    let requests = [handshake.0, REQUEST].concat();
    let responses = [handshake.1, RESPONSE].concat();
    let lines = |verb: &str, bytes: &[u8], time: u32| {
        let pieces = bytes.chunks(size);
        let line = |piece| format!("{verb} 1 {time} \"{}\"\n", escaped(piece));
        pieces.map(line).collect::<String>()
    };
    let (first, second) = (lines(ask, &requests, 1000), lines(answer, &responses, 2000));
    let both = if reply_first {
        second + &first
    } else {
        first + &second
    };
    format!("open 1 {role} 10.0.0.1:1080 10.0.0.2:4000\n{both}close 1 3000\n")
}

#[test]
fn a_request_behind_a_handshake_is_seen_at_both_ends_however_it_is_cut() {
    for handshake in HANDSHAKES {
        for role in ["server", "client"] {
            for size in [1, 2, 3, 5, 7, 11, 19, 1000] {
                for reply_first in [false, true] {
                    let text = conversation(handshake, role, size, reply_first);
                    let outcome = script::run_steps(&script::parse(&text), Settings::default());
                    let lines = outcome.lines();
                    let kind =
                        ["Client GET 204", "Server GET /a 204"][usize::from(role == "server")];
                    assert_eq!(lines.len(), 1, "{role} {size}\n{text}");
                    assert!(lines[0].starts_with(kind), "{lines:?}");
                }
            }
        }
    }
}

#[test]
fn a_handshake_that_is_refused_or_none_leaves_the_connection_to_detection() {
    for (bytes, answer) in [
        (HANDSHAKES[0].0, &b"\x05\xff"[..]),
        (HANDSHAKES[2].0, b"\x00\x5b\x00\x00\x00\x00\x00\x00"),
    ] {
        let text = format!(
            "open 1 server 10.0.0.1:80 10.0.0.2:4000\nread 1 1000 \"{}\"\nwrite 1 2000 \"{}\"\n\
             read 1 3000 \"GET /b HTTP/1.1\\r\\n\\r\\n\"\nwrite 1 4000 \"HTTP/1.1 204 x\\r\\n\\r\\n\"\ntick 300000",
            escaped(bytes),
            escaped(answer)
        );
        let outcome = script::run_steps(&script::parse(&text), Settings::default());
        assert_eq!(outcome.lines().len(), 1);
    }
}

#[test]
fn what_waits_for_the_end_of_a_handshake_is_bounded() {
    let mut text = format!(
        "open 1 server 10.0.0.1:80 10.0.0.2:4000\nread 1 1000 \"{}\"\n",
        escaped(HANDSHAKES[0].0)
    );
    for number in 0..2000 {
        text += &format!("read 1 {} \"{}\"\n", 1001 + number, "a".repeat(100));
    }
    let settings = Settings {
        max_buffered_bytes_per_connection: 64 * 1024,
        ..Settings::default()
    };
    // `run_steps` checks that nothing is held at the end and that the ledger closes.
    let outcome = script::run_steps(&script::parse(&text), settings);
    assert!(outcome.lines().is_empty());
    assert!(outcome.ledger.messages.snapshot().dropped["stream.ignored"] > 1000);
}
