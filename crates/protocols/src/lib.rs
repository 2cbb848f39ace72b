//! Turns bytes into exchanges, and exchanges into spans and measurements.
#![forbid(unsafe_code)]
