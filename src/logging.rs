//! The agent's own log: standard error; the level from SPANDREL_LOG, else from the configuration.

use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

const VARIABLE: &str = "SPANDREL_LOG";

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging with warnings and errors; a second call changes nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| filter("warn"));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    if tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .is_ok()
    {
        FILTER.get_or_init(|| handle);
    }
}

/// From this level on. kube's own crates are not asked: they log each failed request, which the watch says better and once,
/// and the whole text of an answer that they cannot read.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!("{level},kube_client=off,kube_runtime=off"))
}

/// Logs from this level on, unless SPANDREL_LOG says otherwise.
pub fn set_level(level: &str) {
    if std::env::var_os(VARIABLE).is_none()
        && let Some(handle) = FILTER.get()
        && let Err(error) = handle.reload(filter(level))
    {
        tracing::warn!("cannot set the log level to {level}: {error}");
    }
}
