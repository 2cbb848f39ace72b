//! Turns kernel activity into events.
//!
//! [`Capture::start`] loads the programs that this kernel takes, and sends batches of
//! [`Event`](spandrel_model::Event)s. Overload is lost in one place, the ring, and counted there.
//! What is in the kernel, and what each program is for: `docs/probes.md`.

mod abi;
mod asked;
mod batch;
mod capture;
pub mod cgroup;
mod clock;
mod control;
mod counters;
mod decode;
mod existing;
mod handover;
mod kept;
mod load;
mod memory_map;
mod misses;
mod pid_namespace;
mod preflight;
mod ring;
mod settings;
mod skeleton;

pub use asked::{Asked, Asks};
pub use batch::{Batch, Group};
pub use capture::Capture;
pub use control::{Control, ControlError, GoroutineLayout, Verdict};
pub use counters::Counters;
pub use load::{
    Backend, CaptureError, Feature, Status, URING, URING_RECEIVES, URING_SENDS, features,
};
pub use preflight::{Finding, preflight};
pub use settings::{BackendChoice, CaptureSettings, HeadRule};
