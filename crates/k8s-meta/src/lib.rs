//! Answers: which container, pod and workload is this process?
//!
//! [`cgroup`] reads the container and the pod from the path of a control group. What the API server knows about
//! that pod will be a second module; the two are joined by container id first, then by [`cgroup::PodRef`].
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod pod;
