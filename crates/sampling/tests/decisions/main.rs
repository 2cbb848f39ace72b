//! What is decided on spans, and what can be rebuilt from those that are kept.
#![allow(clippy::unwrap_used, clippy::panic)]

mod estimator;
mod population;
mod samplers;
