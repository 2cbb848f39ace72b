//! Whether bytes are a head, told from its first line.

use super::head::{METHODS, blanks, is_known, split_method, start_line};
use crate::protocol::{Detection, Sign};

/// Longest unknown method token.
pub(super) const MAX_METHOD: usize = 32;

/// Length of a PROXY protocol header (version 1 or 2) that a balancer puts before the first request.
pub(crate) fn proxy_header(bytes: &[u8]) -> Option<usize> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    // The longest line of version 1 has 107 bytes.
    if bytes.starts_with(b"PROXY TCP") || bytes.starts_with(b"PROXY UNKNOWN") {
        let line = bytes.get(..bytes.len().min(107))?;
        return memchr::memchr(b'\n', line).map(|end| end + 1);
    }
    let [high, low] = *bytes.strip_prefix(SIGNATURE)?.get(2..4)? else {
        return None;
    };
    Some(SIGNATURE.len() + 4 + usize::from(u16::from_be_bytes([high, low])))
}

/// Whether bytes at a message's beginning can be a head.
pub(crate) fn detect(bytes: &[u8]) -> Detection {
    let proxied = proxy_header(bytes).unwrap_or(0);
    let bytes = bytes.get(proxied..).unwrap_or_default();
    let bytes = bytes.get(blanks(bytes)..).unwrap_or_default();
    if bytes.is_empty() {
        return Detection::More;
    }
    let prefix = b"HTTP/1.";
    if bytes.starts_with(prefix) {
        return match bytes.get(7..12) {
            Some([b'0'..=b'9', b' ', status @ ..]) if status.iter().all(u8::is_ascii_digit) => {
                Detection::found(100, Sign::Response)
            }
            Some(_) => Detection::No,
            None => Detection::More,
        };
    }
    if prefix.starts_with(bytes) {
        return Detection::More;
    }
    let line = memchr::memchr(b'\n', bytes).and_then(|end| bytes.get(..end));
    if let Some(line) = line {
        return if start_line(line).is_some() {
            Detection::found(100, Sign::Request)
        } else {
            Detection::No
        };
    }
    match split_method(bytes) {
        Some((method, [])) if is_known(method) => Detection::More,
        Some((method, [first, ..])) if is_known(method) => match first {
            b'/' | b'*' | b'h' | b'H' => Detection::found(60, Sign::Request),
            b' ' | b'\t' => Detection::More,
            _ if method == "CONNECT" => Detection::More,
            _ => Detection::No,
        },
        Some(_) => Detection::More,
        None if bytes.len() <= MAX_METHOD && bytes.iter().all(u8::is_ascii_alphabetic) => {
            Detection::More
        }
        None => Detection::No,
    }
}

/// What a message that begins with some bytes may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    Yes,
    /// There are too few bytes to tell.
    Perhaps,
    No,
}

/// Whether bytes begin a head of this kind, where nothing else tells that one begins there.
pub(crate) fn begins(bytes: &[u8], sign: Sign) -> Begins {
    let head = bytes.get(blanks(bytes)..).unwrap_or_default();
    match (detect(head), sign) {
        (Detection::Found { sign: found, .. }, _) if found != sign => Begins::No,
        (Detection::Found { .. }, Sign::Request) if has_torn_method(head) => Begins::No,
        (Detection::Found { .. }, _) => Begins::Yes,
        (Detection::More, Sign::Response) if !b"HTTP/1.".starts_with(head) => {
            if head.starts_with(b"HTTP/1.") {
                Begins::Perhaps
            } else {
                Begins::No
            }
        }
        (Detection::More, _) => Begins::Perhaps,
        (Detection::No, _) => Begins::No,
    }
}

/// Whether bytes begin with a method that the conventions list.
pub(super) fn names_known_method(bytes: &[u8]) -> bool {
    split_method(bytes).is_some_and(|(method, _)| is_known(method))
}

/// Whether the method is a known one less its first bytes: those are elsewhere, or lost.
fn has_torn_method(bytes: &[u8]) -> bool {
    split_method(bytes).is_some_and(|(method, _)| {
        let torn = |known: &&str| known.len() > method.len() && known.ends_with(method);
        METHODS.iter().any(torn)
    })
}
