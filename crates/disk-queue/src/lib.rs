//! A queue of opaque records on disk: bounded in bytes, in order, and at least once.
//!
//! ```text
//! push ──> memory ──> writer's thread ──> segments ──> writer's thread ──> next ──> ack
//!          bounded                        bounded       reads ahead
//! ```
//!
//! A push returns when its record is written; a kill then does not lose it. Where the disk fails, records stay in memory,
//! which is bounded, and go past the disk to the consumers; where it is full, or the cap is reached, the oldest go and are
//! counted. Damaged bytes cost the records that they are in, and nothing else. docs/disk-queue.md says what that means
//! for who runs it, and has the format.
#![forbid(unsafe_code)]

mod acks;
mod clock;
mod count;
mod done;
mod error;
mod fault;
mod format;
mod name;
mod quarantine;
mod queue;
mod recover;
mod segment;
mod settings;
mod state;
mod store;
mod syncer;
#[cfg(test)]
mod tests;
mod writer;

pub use count::{Count, Counts};
pub use error::{OpenError, PushError};
pub use queue::{CloseReport, Delivery, DiskQueue, Held, Position};
pub use settings::{DropReason, OnDrop, Settings, SyncPolicy};
pub use state::{Condition, Stats};
