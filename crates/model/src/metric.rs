//! Measurements: what one exchange adds to the metrics.

use smallvec::SmallVec;

use crate::attribute::AttributeSet;
use crate::span::SpanRecord;

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
}
