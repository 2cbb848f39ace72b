//! Reads the configuration and says exactly what is wrong with it.
#![forbid(unsafe_code)]
