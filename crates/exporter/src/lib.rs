//! Turns spans and metric points with their resource into OTLP.
#![forbid(unsafe_code)]
