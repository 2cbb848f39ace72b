//! Reads the configuration and says exactly what is wrong with it.
//!
//! The root of a file follows the OpenTelemetry declarative configuration; what is only Spandrel's
//! stands under `distribution.spandrel`. Nothing here reads the environment or the command line by
//! itself: both come in as arguments.
#![forbid(unsafe_code)]

mod compose;
mod defaults;
mod destinations;
mod diagnostic;
#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod effects;
mod environment;
mod extract;
mod json_schema;
mod list;
mod misspelt;
mod node;
mod pipeline;
mod print;
pub mod profile;
mod read;
mod sampler;
mod scalar;
mod schema;
pub mod settings;
mod substitute;
mod suggest;
mod units;
mod validate;

pub use diagnostic::{Diagnostic, Position, Problems, Severity};
pub use environment::from_env;
pub use json_schema::json_schema;
pub use misspelt::misspelt;
pub use print::print;
pub use profile::Profile;
pub use read::{load, load_str};
pub use settings::Config;
pub use substitute::Env;

/// A usable configuration and what is odd about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to run with.
    pub config: Config,
    /// What has no effect or looks wrong; all of severity warning.
    pub warnings: Vec<Diagnostic>,
}
