//! The words of the house: events, exchanges, spans, metric points, resources and the ledger.
//!
//! Data flows one way, and each arrow is one of the types below:
//!
//! ```text
//! Event ──> (bytes of a stream) ──> Exchange ──> Measured { SpanRecord, measurements } ──> + Resource ──> OTLP
//! probes    protocols               protocols    protocols                                root          exporter
//! ```
//!
//! The crate knows no kernel, no protocol, no Kubernetes and no wire format. Every other crate of
//! the workspace depends on it and on none of its siblings.
#![forbid(unsafe_code)]

pub mod attribute;
pub mod connection;
pub mod event;
pub mod ledger;
pub mod losses;
pub mod metric;
pub mod process;
pub mod recording;
pub mod redaction;
pub mod resource;
pub mod span;
pub mod text;
pub mod time;

pub use attribute::{Attribute, AttributeSet, Value};
pub use connection::{CapturePolicy, ConnectionId, Direction, Endpoint, Origin, Role, Transport};
pub use event::{
    ConnectionClosed, ConnectionHalfClosed, ConnectionOpened, Event, Lineage, Message,
    MessageFlags, Passed, ProcessExited, ProcessStarted, Stamp,
};
pub use ledger::{Account, DestinationAccounts, Ledger};
pub use losses::LossesByCgroup;
pub use metric::{Caller, Edge, Instrument, InstrumentKind, Measured, Measurement};
pub use process::ProcessKey;
pub use resource::Resource;
pub use span::{SpanId, SpanKind, SpanRecord, SpanStatus, TraceId};
pub use text::Text;
pub use time::{ClockOffset, KernelTime, UnixTime};
