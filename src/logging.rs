//! The agent's own log: standard error, level from SPANDREL_LOG.

use tracing_subscriber::EnvFilter;

/// Starts logging; a second call changes nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("SPANDREL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
    // Fails only where a logger is already there, which then serves as well.
    drop(started);
}
