//! What the tests of the watch share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod admin;
pub mod cluster;
pub mod listener;
pub mod scripted;
