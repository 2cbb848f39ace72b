//! Spandrel, the agent: wires capture, parsing, identity and export together.
//!
//! ```text
//! probes ──events──> pipeline ──exchanges──> + resource ──> sink: terminal, lines, OTLP
//!  (kernel)          (protocols, identity)                   (sampling, exporter)
//! ```
#![forbid(unsafe_code)]

pub mod agent;
pub mod alarm;
pub mod by_reason;
pub mod cli;
pub mod commands;
mod credentials;
pub mod exit;
pub mod identity;
pub mod kubernetes;
pub mod logging;
pub mod notify;
pub mod pipeline;
pub mod recent;
pub mod recorder;
pub mod sampling;
pub mod selection;
pub mod selectors;
pub mod settings;
pub mod sink;
pub mod standard_error;
