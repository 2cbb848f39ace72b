//! Turns bytes into exchanges, and exchanges into spans and measurements.
//!
//! ```text
//! Event ─> Tracker ─> Stream (one per direction: order by position, gaps explicit)
//!                        └─> Parser (chosen by detection, one per connection) ─> Exchange ─> Measured
//! ```
//!
//! Words: a *message* is what one read or write carried, a *chunk* is what of it is new, an *exchange* is a request
//! with its response. There is no clock here: time comes with events and with [`Tracker::tick`], so that a replay
//! gives the same result. All input is hostile: nothing panics, and everything that is held is bounded.
#![forbid(unsafe_code)]

mod connection;
mod forwarding;
pub mod http1;
mod idle;
mod protocol;
mod registry;
pub mod route;
mod route_tree;
mod socks;
mod stream;
mod trace_context;
mod tracker;

#[cfg(test)]
mod fixture;

use std::time::Duration;

/// How the heads of the protocols look, each with its own name for the length.
pub fn heads() -> impl Iterator<Item = Heads> {
    let all = registry::PROTOCOLS.iter().map(|protocol| protocol.heads());
    all.filter(|heads| !heads.signs.is_empty())
}

pub use protocol::{Heads, Output};
pub use tracker::Tracker;

/// Bounds and choices of a [`Tracker`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections that are tracked at a time: for one more, the one that is idle for the longest is forgotten.
    pub max_connections: usize,
    /// Bytes held for one connection; with more it starts anew, and its open exchanges are counted as `exchange.memory`.
    pub max_buffered_bytes_per_connection: usize,
    /// Bytes held in all; with more, the connections that hold most start anew.
    pub max_buffered_bytes: usize,
    /// After this long without an event a connection is forgotten.
    pub idle_timeout: Duration,
    /// By how much messages may be reported late: what is still missing after this is taken for lost.
    pub settle: Duration,
    /// HTTP/1.
    pub http: http1::Settings,
    /// Route templates.
    pub routes: route::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_buffered_bytes_per_connection: 256 * 1024,
            max_buffered_bytes: 16 * 1024 * 1024,
            idle_timeout: Duration::from_secs(3600),
            settle: Duration::from_millis(100),
            http: http1::Settings::default(),
            routes: route::Settings::default(),
        }
    }
}
