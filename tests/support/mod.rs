//! What whole-agent tests are made of: the agent, real servers and clients, a real Collector, network namespaces.
//!
//! Each test file takes what it needs, so some of it is unused in each. A failure here fails the test: panics are meant.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unused_macros,
    unused_imports,
    clippy::let_underscore_must_use
)]

pub(crate) mod agent;
pub(crate) mod backends;
pub(crate) mod certificates;
pub(crate) mod cgroup;
pub(crate) mod collector;
pub(crate) mod containers;
pub(crate) mod docker;
pub(crate) mod haproxy;
pub(crate) mod ledger;
pub(crate) mod machine;
pub(crate) mod netns;
pub(crate) mod nginx;
pub(crate) mod otlp;
pub(crate) mod pid_namespace;
pub(crate) mod plain_server;
pub(crate) mod podnet;
pub(crate) mod process;
pub(crate) mod proto;
pub(crate) mod relay;
pub(crate) mod sending;
pub(crate) mod traffic;
