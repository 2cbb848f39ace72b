//! HTTP/1.0 and HTTP/1.1 (RFC 9112): requests and responses from the bytes of both directions.

mod body;
mod detect;
mod exchange;
mod fields;
mod gather;
mod half;
mod head;
mod known;
mod metric;
mod pairing;
mod parser;
mod query;
mod request;
mod response;
mod span;
mod target;

use spandrel_model::Direction;

use crate::protocol::{Detection, Facts, Heads, Parser, Protocol};

pub(crate) use known::KnownHeads;
pub(crate) use metric::MetricAttributes;
pub use query::QueryValues;

/// Bounds and choices of the HTTP/1 parser.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest head that is put together from several messages, in bytes; of longer ones the start line is used.
    pub max_head_bytes: usize,
    /// Requests of one connection that may wait for their responses.
    pub max_pipelined: usize,
    /// Heads that do not parse, without an exchange between, until the connection is taken for something else.
    pub max_failures: u32,
    /// Which values of query strings are shown.
    pub query_values: QueryValues,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_head_bytes: 64 * 1024,
            max_pipelined: 256,
            max_failures: 4,
            query_values: QueryValues::Redacted,
        }
    }
}

/// The protocol's entry in the registry.
pub(crate) struct Http1Protocol;

impl Protocol for Http1Protocol {
    fn name(&self) -> &'static str {
        "http1"
    }

    fn heads(&self) -> Heads {
        Heads {
            signs: head::SIGNS,
            length_label: "content-length:",
        }
    }

    fn detect(&self, bytes: &[u8]) -> Detection {
        detect::detect(bytes)
    }

    fn open(&self, facts: &Facts, requests: Direction) -> Box<dyn Parser> {
        Box::new(parser::Http1::new(facts, requests))
    }
}
