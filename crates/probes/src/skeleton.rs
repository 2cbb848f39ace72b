//! The generated skeleton of the kernel side.

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_imports,
    clippy::undocumented_unsafe_blocks,
    clippy::semicolon_if_nothing_returned,
    missing_docs,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_qualifications,
    dead_code
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/capture.skel.rs"));
}

pub(crate) use generated::{CaptureSkel, CaptureSkelBuilder, OpenCaptureSkel};
