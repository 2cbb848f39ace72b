//! OTLP on the wire: an encoder of our own for protobuf and JSON, and a reader for the answers.
//!
//! Nothing is built in memory before it is written: a span goes from [`spandrel_model::SpanRecord`]
//! to bytes in one pass over its fields, into a buffer that is used again for the next batch.

mod fields;
mod json;
mod log;
mod log_json;
mod metric;
mod resource;
pub mod response;
mod schema;
mod span;
pub mod split;
pub mod transcode;
mod wire;

pub(crate) use json::scope_json;
pub use json::{metrics_json, span_json};
pub use log::{EncodedLogs, encode_logs};
pub use log_json::logs_json;
pub use metric::{EncodedMetrics, encode_metrics};
pub(crate) use metric::{envelope_overhead, resource_envelope};
pub(crate) use resource::Form;
pub use resource::{ResourceBlock, ResourceCache};
pub(crate) use span::Span;
pub use span::encode_span;
pub(crate) use wire::{Length, Sink, field_len, length_of};

/// Name of the instrumentation scope of everything that Spandrel makes.
pub const SCOPE_NAME: &str = "spandrel";
/// Version of that scope: the crate's own.
pub const SCOPE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Schema of the attribute names, which is the one of the semantic conventions in use.
pub const SCHEMA_URL: &str = opentelemetry_semantic_conventions::SCHEMA_URL;
