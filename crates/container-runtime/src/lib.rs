//! What a container is called and which image it runs, asked of containerd, of the Docker API (Docker Engine, Podman) and
//! of CRI-O where their sockets can be used.
//!
//! A container is asked about once, when it is first seen, by a thread of its own that starts with the first question.
//! The caller never waits: [`Names::look_up`] says what is known now. Questions, answers and memory are bounded; a socket
//! that is missing, refuses or is slow is left alone for a while, and each question ends in one counter.

mod answered;
mod containerd;
mod counters;
mod cri;
mod description;
mod docker;
mod failure;
mod grpc;
mod names;
mod sockets;
mod worker;

pub use answered::Answered;
pub use counters::Counters;
pub use description::{Description, InPod};
pub use names::{Answer, Names, Settings};
pub use sockets::Api;
