//! Log records in the OpenTelemetry data model, as they are exported.

use std::sync::Arc;

use spandrel_model::{Attribute, Resource, SpanId, Text, TraceId, UnixTime, Value};

/// One log record (OpenTelemetry logs data model).
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// When it happened; `None` if the source does not tell.
    pub time: Option<UnixTime>,
    /// When it was observed.
    pub observed: UnixTime,
    /// 1 to 24; 0 if it has none.
    pub severity_number: u8,
    /// The severity as the source spells it.
    pub severity_text: Text,
    /// The message.
    pub body: Option<Value>,
    /// Attributes, keys unique.
    pub attributes: Vec<Attribute>,
    /// Attributes left out for a limit.
    pub dropped_attributes: u32,
    /// The span in which it was written, with its trace flags.
    pub span: Option<(TraceId, SpanId, u8)>,
    /// Name of the event; empty if it is none.
    pub event_name: Text,
}

/// The log records of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceLogs {
    /// Whose they are.
    pub resource: Arc<Resource>,
    /// Records in the order in which they were observed.
    pub records: Vec<LogRecord>,
}
