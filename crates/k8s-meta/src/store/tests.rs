//! The store in time.
