//! The agent as a library.
#![forbid(unsafe_code)]

pub mod identity;
pub mod selectors;
