//! Blanks credentials in the bytes of messages, so that a recording can be handed on.
//!
//! Each byte of a value becomes `x`: lengths and positions stay, and a replay gives the same spans. Lines are looked at
//! whatever the protocol is. Bodies stay as they are, as far as they were copied.

use bytes::Bytes;
use memchr::memchr;
use spandrel_model::{ConnectionId, Direction, Message};

use crate::recent::Recent;

/// Directions of connections of which it is remembered where in a line they are.
const MAX_DIRECTIONS: usize = 32_768;
/// Most bytes of a line that are kept to tell what it is, should it go on in the next message.
const MAX_START: usize = 64;
/// What the name of a field with a credential has in it: rather one too many than one too few.
const SECRET_NAMES: [&[u8]; 10] = [
    b"auth",
    b"cookie",
    b"token",
    b"secret",
    b"key",
    b"passw",
    b"credential",
    b"session",
    b"jwt",
    b"signature",
];

/// What the bytes of a line are.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// So far these; what it is does not show yet.
    Begun(Vec<u8>),
    /// Nothing in it is secret.
    Open,
    /// All of it to its end is.
    Secret,
    /// A request's target, or its query, goes on.
    Target { in_query: bool },
}

/// Where a direction is.
#[derive(Debug)]
struct Place {
    next: u64,
    line: Line,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            next: 0,
            line: Line::Begun(Vec::new()),
        }
    }
}

/// Blanks credentials, message by message.
#[derive(Debug)]
pub(crate) struct Credentials {
    places: Recent<(ConnectionId, Direction), Place>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            places: Recent::new(MAX_DIRECTIONS),
        }
    }
}

impl Credentials {
    /// Blanks the credentials in what was copied of a message.
    pub(crate) fn blank(&mut self, message: &mut Message) {
        let place = self
            .places
            .get_or_default((message.connection, message.direction));
        let payload = &message.payload;
        let method = (1..20).contains(&payload.len()) && payload.iter().all(u8::is_ascii_uppercase);
        if begins_a_head(payload) || (method && !matches!(place.line, Line::Begun(_))) {
            // A body before it need not end with a line.
            place.line = Line::Begun(Vec::new());
        } else if place.next != message.position {
            // What came before is not known: this may be the rest of any line.
            place.line = Line::Secret;
        }
        place.next = message.position + u64::from(message.length);
        blank_bytes(&mut message.payload, &mut place.line);
        let seen = message.payload.len() + message.tail.len();
        if seen < message.length as usize {
            place.line = Line::Secret;
        }
        blank_bytes(&mut message.tail, &mut place.line);
    }
}

/// A request line or a status line, by its first word.
fn begins_a_head(bytes: &[u8]) -> bool {
    let word = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase())
        .count();
    match bytes.get(word) {
        Some(b' ') => (3..=20).contains(&word),
        Some(b'/') => bytes.starts_with(b"HTTP/"),
        _ => false,
    }
}

fn blank_bytes(bytes: &mut Bytes, line: &mut Line) {
    if bytes.is_empty() {
        return;
    }
    let mut blanked = bytes.to_vec();
    let mut at = 0;
    while at < blanked.len() {
        let rest = blanked.get_mut(at..).unwrap_or_default();
        let end = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let whole = rest.get(end.saturating_sub(1)) == Some(&b'\n');
        blank_line(rest.get_mut(..end).unwrap_or_default(), line);
        if whole {
            *line = Line::Begun(Vec::new());
        }
        at += end;
    }
    if blanked != bytes[..] {
        *bytes = Bytes::from(blanked);
    }
}

/// Blanks a line, or the part of it that is here.
fn blank_line(part: &mut [u8], line: &mut Line) {
    match line {
        Line::Open => {}
        Line::Secret => cover(part),
        Line::Target { in_query } => *line = cover_target(part, 0, *in_query),
        Line::Begun(start) => {
            let before = start.len();
            let room = MAX_START.saturating_sub(before).min(part.len());
            start.extend_from_slice(part.get(..room).unwrap_or_default());
            let kind = kind_of(start);
            match kind {
                // A folded line is the value of the field before, which may be secret.
                Kind::Folded => {
                    cover(part);
                    *line = Line::Secret;
                }
                Kind::Field { secret, value } => {
                    if secret {
                        cover(
                            part.get_mut(value.saturating_sub(before)..)
                                .unwrap_or_default(),
                        );
                        *line = Line::Secret;
                    } else {
                        *line = Line::Open;
                    }
                }
                Kind::Request => {
                    let method = memchr(b' ', start).map_or(0, |at| at + 1);
                    *line = cover_target(part, method.saturating_sub(before), false);
                }
                Kind::Other => *line = Line::Open,
                Kind::NotKnown => {}
            }
        }
    }
}

/// What a line is, by its first bytes.
enum Kind {
    NotKnown,
    Folded,
    Field { secret: bool, value: usize },
    Request,
    Other,
}

fn kind_of(start: &[u8]) -> Kind {
    match start {
        [] => return Kind::NotKnown,
        [b' ' | b'\t', ..] => return Kind::Folded,
        _ => {}
    }
    let name = start
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        .count();
    match start.get(name) {
        Some(b':') => {
            let lower = start.get(..name).unwrap_or_default().to_ascii_lowercase();
            let secret = SECRET_NAMES
                .iter()
                .any(|part| memchr::memmem::find(&lower, part).is_some());
            Kind::Field {
                secret,
                value: name + 1,
            }
        }
        Some(b' ') if begins_a_head(start) => Kind::Request,
        None if name < MAX_START => Kind::NotKnown,
        _ => Kind::Other,
    }
}

/// Covers user and password of a URL, and values of a query, in a target that begins or goes on at `from`; what the line is
/// behind them.
fn cover_target(part: &mut [u8], from: usize, in_query: bool) -> Line {
    let rest = part.get_mut(from..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
    let target = match end {
        Some(end) => rest.get_mut(..end).unwrap_or_default(),
        None => rest,
    };
    let query = if in_query {
        Some(0)
    } else {
        memchr(b'?', target)
    };
    let (path, query_bytes) = target.split_at_mut(query.unwrap_or(target.len()));
    if let Some(at) = memchr::memrchr(b'@', path)
        && !path.starts_with(b"/")
    {
        let scheme = memchr::memmem::find(path, b"://").map_or(0, |at| at + 3);
        cover(path.get_mut(scheme..at).unwrap_or_default());
    }
    if in_query {
        // Whether a key or a value goes on is not known.
        cover(query_bytes);
    } else {
        let pairs = query_bytes.get_mut(1..).unwrap_or_default();
        for pair in pairs.split_mut(|byte| *byte == b'&') {
            let value = memchr(b'=', pair).map_or(0, |at| at + 1);
            // What has an empty value may be padded base64.
            let padded = pair.iter().skip(value).all(|byte| *byte == b'=');
            cover(
                pair.get_mut(if padded { 0 } else { value }..)
                    .unwrap_or_default(),
            );
        }
    }
    match end {
        Some(_) => Line::Open,
        None => Line::Target {
            in_query: query.is_some(),
        },
    }
}

fn cover(bytes: &mut [u8]) {
    for byte in bytes {
        if !matches!(byte, b'\r' | b'\n') {
            *byte = b'x';
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use spandrel_model::{KernelTime, Lineage, ProcessKey, Stamp};

    use super::*;

    fn message(position: u64, payload: &str, tail: &str, hidden: usize) -> Message {
        Message {
            stamp: Stamp {
                time: KernelTime(position),
                cpu: 0,
                sequence: position,
            },
            connection: ConnectionId(1),
            direction: Direction::Ingress,
            position,
            length: u32::try_from(payload.len() + hidden + tail.len()).unwrap(),
            unseen: 0,
            payload: payload.as_bytes().to_vec().into(),
            tail: tail.as_bytes().to_vec().into(),
            started: None,
            arrived: None,
            process: ProcessKey {
                tgid: 1,
                started: 1,
            },
            tid: 1,
            lineage: Lineage::Thread(1),
            cgroup: 0,
            srtt_us: 0,
            retransmits: 0,
            flags: Default::default(),
        }
    }

    /// What is left of the messages of one direction; `~` in a text stands for so many bytes that were not copied.
    fn blanked(texts: &[&str]) -> Vec<String> {
        let mut credentials = Credentials::default();
        let mut position = 0;
        let mut found = Vec::new();
        for text in texts {
            let (payload, tail) = text.split_once('~').unwrap_or((text, ""));
            let hidden = if text.contains('~') { 1000 } else { 0 };
            let mut message = message(position, payload, tail, hidden);
            position += u64::from(message.length);
            credentials.blank(&mut message);
            let text = [&message.payload[..], &message.tail[..]].concat();
            found.push(String::from_utf8(text).unwrap());
        }
        found
    }

    #[test]
    fn fields_with_credentials_are_covered_and_the_others_are_not() {
        let head = "GET /a HTTP/1.1\r\nHost: x\r\nauthorization: Basic c2Vj\r\nCookie: a=1;\r\n\
                    traceparent: 00-1\r\nX-Api-Key:k\r\n\r\nbody";
        let expected = "GET /a HTTP/1.1\r\nHost: x\r\nauthorization:xxxxxxxxxxx\r\nCookie:xxxxx\r\n\
                        traceparent: 00-1\r\nX-Api-Key:x\r\n\r\nbody";
        assert_eq!(blanked(&[head]), [expected]);
    }

    #[test]
    fn a_value_is_covered_however_it_is_cut() {
        let head =
            "GET /a?k=canary HTTP/1.1\r\nCookie: canary\r\n folded canary\r\nHost: x\r\n\r\n";
        for at in 1..head.len() {
            let (first, second) = head.split_at(at);
            let said = blanked(&[first, second]).concat();
            assert!(!said.contains("canary"), "{at}: {said}");
            for part in ["can", "nary"] {
                assert!(!said.contains(part), "{at}: {said}");
            }
            assert!(
                said.ends_with("Host: x\r\n\r\n") && said.len() == head.len(),
                "{at}: {said}"
            );
        }
    }

    #[test]
    fn behind_bytes_that_are_not_known_a_line_is_covered_to_its_end() {
        let said = blanked(&[
            "GET / HTTP/1.1\r\nCookie: a~canary\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ]);
        assert_eq!(
            said,
            [
                "GET / HTTP/1.1\r\nCookie:xxxxxxxx\r\n\r\n",
                "GET / HTTP/1.1\r\n\r\n"
            ]
        );
        // A body without a line end is no reason to cover the next head.
        let said = blanked(&[
            "HTTP/1.1 200 OK\r\n\r\nbody~body",
            "HTTP/1.1 404 Not Found\r\n\r\n",
        ]);
        assert_eq!(said[1], "HTTP/1.1 404 Not Found\r\n\r\n");
    }

    #[test]
    fn users_in_a_target_and_values_of_a_query_are_covered() {
        let said = blanked(&[
            "GET http://user:pw@host/a?token=canary&c2Vj=&Yw== HTTP/1.1\r\n\r\n",
            "GET user:pw@host HTTP/1.1\r\n\r\n",
            "GET /@x/a?b=c HTTP/1.1\r\n\r\n",
        ]);
        assert_eq!(
            said,
            [
                "GET http://xxxxxxx@host/a?token=xxxxxx&xxxxx&xxxx HTTP/1.1\r\n\r\n",
                "GET xxxxxxx@host HTTP/1.1\r\n\r\n",
                "GET /@x/a?b=x HTTP/1.1\r\n\r\n",
            ]
        );
    }
}
