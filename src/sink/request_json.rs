//! One JSON object a request, for scripts.

use std::io;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use spandrel_model::{KernelTime, Ledger, Measured, Resource, SpanKind, SpanStatus, UnixTime};

use super::{Lines, Sink};

/// Writes each request as an object of its span: times in Unix nanoseconds, attributes by their names.
pub struct RequestJsonLines {
    output: Lines,
    ledger: Arc<Ledger>,
}

impl RequestJsonLines {
    /// Lines go to `output`.
    pub fn new(output: Lines, ledger: Arc<Ledger>) -> Self {
        Self { output, ledger }
    }
}

impl Sink for RequestJsonLines {
    fn accept(&mut self, resource: &Arc<Resource>, measured: Measured) -> io::Result<()> {
        self.ledger.spans.see(1);
        let span = &measured.span;
        let attributes: Map<String, Value> = span
            .attributes
            .iter()
            .map(|attribute| (attribute.key.to_string(), json!(attribute.value)))
            .collect();
        let line = json!({
            "service": resource.service_name(),
            "pid": span.process.tgid,
            "name": span.name,
            "kind": kind_name(span.kind),
            "start_unix_nano": span.start.0,
            "end_unix_nano": span.end.0,
            "duration_ms": span.duration_nanos() as f64 / 1e6,
            "error": matches!(span.status, SpanStatus::Error(_)),
            "trace_id": span.trace_id.to_string(),
            "span_id": span.span_id.to_string(),
            "parent_span_id": span.parent_span_id.map(|id| id.to_string()),
            "attributes": attributes,
        });
        self.output.push(format!("{line}\n").as_bytes(), 1)
    }

    fn tick(&mut self, _kernel: KernelTime, _unix: UnixTime) -> io::Result<()> {
        self.output.flush()
    }

    fn finish(&mut self, _unix: UnixTime) -> io::Result<()> {
        self.output.finish()
    }
}

/// The kind as the specification spells it, in lower case.
pub(super) fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}
