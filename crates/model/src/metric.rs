//! Measurements: what one exchange adds to the metrics.

use smallvec::SmallVec;

use crate::attribute::AttributeSet;
use crate::process::ProcessKey;
use crate::span::{SpanId, SpanRecord, TraceId};

/// What becomes of the values of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstrumentKind {
    /// Their distribution.
    Histogram,
    /// How many there were; the values themselves do not count.
    Counter,
}

/// An instrument of the semantic conventions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Instrument {
    /// What becomes of its values.
    pub kind: InstrumentKind,
    /// Name, for example `http.server.request.duration`.
    pub name: &'static str,
    /// UCUM unit, for example `s` or `By`.
    pub unit: &'static str,
    /// Description of the semantic conventions.
    pub description: &'static str,
}

/// One value for one instrument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// What was measured; compared by address first, so use a `static`.
    pub instrument: &'static Instrument,
    /// The value, in the instrument's unit.
    pub value: f64,
}

/// What an exchange adds to the graph of services: one edge of it, from a client to a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// The attributes that all its measurements share, in the order of their keys.
    pub attributes: AttributeSet,
    /// The measurements.
    pub measurements: SmallVec<[Measurement; 3]>,
}

/// A span with what it adds to the metrics, before sampling: metrics count every exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The span; also the exemplar of the measurements.
    pub span: SpanRecord,
    /// Ports of the connection's two ends, where it has any: they decide, not what the request says of itself.
    pub ports: [Option<u16>; 2],
    /// The attributes that all measurements share, in the order of their keys.
    pub metric_attributes: AttributeSet,
    /// The measurements.
    pub measurements: SmallVec<[Measurement; 3]>,
    /// Its edge in the graph of services, where that is asked for.
    pub edge: Option<Box<Edge>>,
    /// Who made the call that is the span's parent, where that is told by this agent, too.
    pub caller: Option<Caller>,
}

/// Whose span is the parent of another one, and what holds where that span is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The process of the parent span.
    pub process: ProcessKey,
    /// The trace without it.
    pub trace_id: TraceId,
    /// The parent without it.
    pub parent_span_id: Option<SpanId>,
}

impl Measured {
    /// The span of the caller is not told: what holds without it.
    pub fn leave_caller_out(&mut self) {
        if let Some(caller) = self.caller.take() {
            self.span.trace_id = caller.trace_id;
            self.span.parent_span_id = caller.parent_span_id;
            self.span.parent_is_remote = caller.parent_span_id.is_some();
        }
    }
}
