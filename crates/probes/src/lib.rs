//! Turns kernel activity into events.
