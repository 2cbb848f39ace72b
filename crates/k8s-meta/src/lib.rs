//! Answers: which container, pod and workload is this process?
//!
//! [`cgroup`] reads the container and the pod from the path of a control group. [`store`] keeps what the API server says
//! about pods and answers who a container was at a time, with the resource [`attributes`] of both. The two are joined by
//! container id first, then by [`cgroup::PodRef`]; never by an address. [`watch`] asks the API server.
#![forbid(unsafe_code)]

pub mod attributes;
pub mod cgroup;
pub mod image;
pub mod owner;
pub mod peers;
pub mod pod;
pub mod store;
mod timestamp;
pub mod watch;
