//! The agent's own log: standard error; the level from SPANDREL_LOG, else from the configuration.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::sync::OnceLock;
use std::{io, panic, thread};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::standard_error::{self, has_colours, say};

const VARIABLE: &str = "SPANDREL_LOG";

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Where the lines of the log go: each comes whole.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        standard_error::push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts logging with warnings and errors, and with the panics of all threads; a second call changes nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| filter("warn"));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer()
        .with_writer(|| Lines)
        .with_ansi(has_colours(&io::stderr()))
        .with_target(false);
    if tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .is_ok()
    {
        FILTER.get_or_init(|| handle);
        // The hook of the standard library would wait for a reader that stands still.
        panic::set_hook(Box::new(|panicked| {
            let thread = thread::current();
            let name = thread.name().unwrap_or("without a name");
            let place = panicked
                .location()
                .map_or_else(String::new, |at| format!(" at {at}"));
            let payload = panicked.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let message = text.unwrap_or("it does not say why");
            let backtrace = Backtrace::capture();
            say(format_args!("thread `{name}` panicked{place}: {message}"));
            if backtrace.status() == BacktraceStatus::Captured {
                say(format_args!("{backtrace}"));
            }
        }));
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
