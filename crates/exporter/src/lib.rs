//! Turns spans and metric points with their resource into OTLP, and delivers them.
//!
//! ```text
//! SpanRecord ──> batch (encoded as they come) ──┐
//!                                               ├──> queue ──> workers ──> sender (gRPC, HTTP, stream)
//! Measured ──> metrics::Aggregator ──> requests ┘      bytes     retry
//! ```
//!
//! The pipeline's thread encodes and never waits; the workers are tasks of the runtime. Each request carries its
//! share of the ledger with it ([`Carried`]), so what is not acknowledged is always counted with a reason
//! ([`reason`]).
#![forbid(unsafe_code)]

mod batch;
mod carried;
mod durable;
mod error;
mod exporter;
mod limits;
pub mod logs;
pub mod metrics;
mod observed;
mod operation;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod oracle_logs;
pub mod otlp;
mod queue;
pub mod reason;
mod retry;
pub mod sdk;
pub mod self_telemetry;
mod sender;
mod settings;
mod worker;

pub use carried::{Carried, Signal};
pub use error::ExporterError;
pub use exporter::{Exporter, ShutdownReport};
pub use limits::AttributeLimits;
pub use observed::{Observed, Timings};
pub use sender::USER_AGENT;
pub use settings::{
    BatchSettings, Compression, ConsoleFormat, DestinationSettings, ExporterSettings, OtlpSettings,
    Protocol, ProxySettings, QueueSettings, RetrySettings, StorageSettings, Target, TlsSettings,
};
pub use spandrel_disk_queue::SyncPolicy;
