//! Spans, ready to be encoded, without the resource they belong to.

use std::fmt;

use crate::attribute::Attribute;
use crate::process::ProcessKey;
use crate::text::Text;
use crate::time::UnixTime;

/// A W3C trace id. All zero is invalid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// A W3C span id (parent id). All zero is invalid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The kind of a span; the numbers are OTLP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Within a process.
    Internal = 1,
    /// Handles a request.
    Server = 2,
    /// Makes a request.
    Client = 3,
    /// Sends a message that is handled later.
    Producer = 4,
    /// Handles a message that was sent earlier.
    Consumer = 5,
}

/// The status of a span. `Ok` is left to the application's own code, as the specification asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SpanStatus {
    /// No error was seen.
    #[default]
    Unset,
    /// An error was seen; the text may be empty.
    Error(Text),
}

/// One finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRecord {
    /// Trace.
    pub trace_id: TraceId,
    /// This span.
    pub span_id: SpanId,
    /// Parent span, where there is one.
    pub parent_span_id: Option<SpanId>,
    /// The parent came in from another process.
    pub parent_is_remote: bool,
    /// The trace was begun by this agent, because no request of it carried a trace id: nobody else decides on it.
    pub trace_begun_here: bool,
    /// The sampled bit of the trace flags (W3C trace-flags, lowest 8 bits).
    pub trace_flags: u8,
    /// The `tracestate` header as received; empty if none.
    pub trace_state: Text,
    /// Low-cardinality name.
    pub name: Text,
    /// Kind.
    pub kind: SpanKind,
    /// Start.
    pub start: UnixTime,
    /// End, never before the start.
    pub end: UnixTime,
    /// Attributes, keys unique.
    pub attributes: Vec<Attribute>,
    /// Attributes left out for a limit.
    pub dropped_attributes: u32,
    /// Status.
    pub status: SpanStatus,
    /// The process at this end of the exchange, which decides the resource.
    pub process: ProcessKey,
    /// Its cgroup id, 0 if unknown.
    pub cgroup: u64,
}

impl SpanRecord {
    /// Duration in nanoseconds.
    pub fn duration_nanos(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&crate::Value> {
        self.attributes
            .iter()
            .find(|attribute| attribute.key == key)
            .map(|found| &found.value)
    }
}
