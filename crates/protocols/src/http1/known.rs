//! Heads that were read before: programs send the same fields again and again.
//!
//! A table of fixed size; what it holds is a function of the bytes alone, so it never changes a result.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use memchr::memmem::Finder;

/// Places in a table.
const SLOTS: usize = 512;
/// Longest bytes that are kept.
const MAX_BYTES: usize = 1024;

#[derive(Debug)]
enum Slot<T> {
    Empty,
    /// Bytes with this hash were seen: many heads are never seen again, and copying those would be in vain.
    Once(u64),
    Kept {
        hash: u64,
        bytes: Box<[u8]>,
        value: T,
    },
}

/// Values by the bytes they were read from.
#[derive(Debug)]
pub(crate) struct Known<T> {
    slots: Vec<Slot<T>>,
    hasher: FixedState,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            hasher: FixedState::default(),
        }
    }
}

impl<T> Known<T> {
    fn place(hash: u64) -> usize {
        hash as usize % SLOTS
    }

    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    /// What was read from these bytes.
    pub(super) fn get(&self, hash: u64, bytes: &[u8]) -> Option<&T> {
        match self.slots.get(Self::place(hash))? {
            Slot::Kept {
                hash: other,
                bytes: kept,
                value,
            } if *other == hash && **kept == *bytes => Some(value),
            _ => None,
        }
    }

    /// Remembers what was read from these bytes, if they are seen for the second time.
    pub(super) fn learn(&mut self, hash: u64, bytes: &[u8], value: impl FnOnce() -> T) {
        if bytes.len() > MAX_BYTES {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || Slot::Empty);
        }
        if let Some(slot) = self.slots.get_mut(Self::place(hash)) {
            *slot = match slot {
                Slot::Once(other) if *other == hash => Slot::Kept {
                    hash,
                    bytes: bytes.into(),
                    value: value(),
                },
                _ => Slot::Once(hash),
            };
        }
    }
}

/// The tables of requests' fields and of responses' heads.
#[derive(Debug)]
pub(crate) struct KnownHeads {
    pub(super) requests: Known<std::sync::Arc<super::fields::RequestFields>>,
    pub(super) responses: Known<super::head::ResponseFields>,
    blank_line: Finder<'static>,
}

impl Default for KnownHeads {
    fn default() -> Self {
        Self {
            requests: Known::default(),
            responses: Known::default(),
            blank_line: Finder::new(b"\r\n\r\n"),
        }
    }
}

impl KnownHeads {
    /// The bytes up to the first empty line, and that line.
    pub(super) fn block<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let near = bytes.get(..bytes.len().min(MAX_BYTES))?;
        bytes.get(..self.blank_line.find(near)? + 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::{read_request, read_response};

    #[test]
    fn a_head_that_was_read_before_reads_the_same() {
        let fields =
            "Host: shop:81\r\nUser-Agent: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
        let mut known = KnownHeads::default();
        for line in [
            "GET /a HTTP/1.1\r\n",
            "GET /a HTTP/1.1\r\n",
            "POST /b?c HTTP/1.0\r\n",
            "POST /b?c HTTP/1.1\n",
            "M-SEARCH * HTTP/1.1\r\n",
            "GET /a b HTTP/1.1\r\n",
            "GET /a HTTP/2.0\r\n",
            "no head\r\n",
            "\r\n",
        ] {
            for rest in ["", "abcGET /next HTTP/1.1\r\n\r\n"] {
                let bytes = [line, fields, rest].concat();
                let fresh = read_request(bytes.as_bytes(), &mut KnownHeads::default());
                let again = read_request(bytes.as_bytes(), &mut known);
                assert_eq!(format!("{again:?}"), format!("{fresh:?}"), "{bytes:?}");
            }
        }
        let hash = known.requests.hash(fields.as_bytes());
        assert!(known.requests.get(hash, fields.as_bytes()).is_some());
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        for _ in 0..3 {
            for method in ["GET", "HEAD", "CONNECT"] {
                let fresh = read_response(head, method, &mut KnownHeads::default());
                let again = read_response(head, method, &mut known);
                assert_eq!(format!("{again:?}"), format!("{fresh:?}"));
            }
        }
        assert!(
            known
                .responses
                .get(known.responses.hash(head), head)
                .is_some()
        );
    }

    #[test]
    fn trace_context_is_never_taken_from_another_request() {
        let mut known = KnownHeads::default();
        let head = b"GET / HTTP/1.1\r\n\
            traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
        for _ in 0..3 {
            assert!(format!("{:?}", read_request(head, &mut known)).contains("trace_parent: Some"));
        }
        let block = &head[16..];
        assert!(
            known
                .requests
                .get(known.requests.hash(block), block)
                .is_none()
        );
    }

    #[test]
    fn bytes_are_kept_when_they_come_again_and_only_so_many() {
        let mut known = Known::default();
        let hash = known.hash(b"a");
        known.learn(hash, b"a", || 1);
        assert_eq!(known.get(hash, b"a"), None);
        known.learn(hash, b"a", || 2);
        assert_eq!(known.get(hash, b"a"), Some(&2));
        // The same hash is not the same bytes.
        assert_eq!(known.get(hash, b"b"), None);
        for number in 0..10_000_u32 {
            let bytes = number.to_be_bytes();
            let hash = known.hash(&bytes);
            known.learn(hash, &bytes, || 0);
            known.learn(hash, &bytes, || 0);
        }
        assert_eq!(known.slots.len(), SLOTS);
        let long = [0; MAX_BYTES + 1];
        let hash = known.hash(&long);
        known.learn(hash, &long, || 1);
        known.learn(hash, &long, || 1);
        assert_eq!(known.get(hash, &long), None);
    }
}
