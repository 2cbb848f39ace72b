//! Answers: which container, pod and workload is this process?
#![forbid(unsafe_code)]
