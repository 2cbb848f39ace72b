//! `spandrel run`: the agent.

use std::sync::Arc;
use std::time::Instant;

use spandrel_exporter::self_telemetry::SelfTelemetry;
use spandrel_model::Ledger;

use super::sources::Sources;
use super::{Exports, LedgerFile, capture_into, close_ledger, exporting, has_nothing_to_do, load};
use crate::agent::{self, Life, Stop};
use crate::cli::Run;
use crate::exit::Exit;
use crate::settings;
use crate::sink::OtlpSink;

/// Captures and exports until a signal; drains within the configured time.
pub(super) fn execute(arguments: Run) -> anyhow::Result<Exit> {
    let stop = Stop::on_signals()?;
    let config = load(arguments.config.as_deref(), Exports::Yes)?.config;
    if has_nothing_to_do(&config) {
        return Ok(Exit::Done);
    }
    let ledger_file = LedgerFile::create(arguments.files.ledger.as_deref())?;
    let attached = agent::attach(settings::capture(&config)?)?;
    let ledger = Arc::new(Ledger::default());
    let otlp = OtlpSink::start(settings::export(&config, true), &ledger)?;
    let (runtime, deadline) = (otlp.runtime(), otlp.deadline());
    let (overflows, collections) = (otlp.overflow_reports(), otlp.collections());
    let observed = otlp.observed();
    let sources = Sources::start(&config)?;
    let of_agent = sources.identities.of_agent();
    let own = settings::self_telemetry(&config, of_agent).and_then(|settings| {
        SelfTelemetry::start(settings, &ledger, runtime.handle())
            .inspect(|own| {
                own.observe_overflows(overflows);
                own.observe_collections(&collections);
                if let Some(observed) = &observed {
                    own.observe_exporter(observed);
                }
                sources.observe(own);
            })
            .inspect_err(|error| tracing::warn!("the agent's own metrics are off: {error}"))
            .ok()
    });
    let sink = exporting(otlp, true, &config, &ledger)?;
    let life = Life {
        stop: &stop,
        duration: None,
        shutdown_timeout: config.shutdown_timeout,
        ledger: &ledger,
    };
    let result = capture_into(attached, sink, &config, &life, &arguments.files, sources);
    // After the spans and points, for the last numbers, and in what is left of their time.
    if let Some(own) = own
        && let Err(error) = own.shutdown(deadline.left(Instant::now()))
    {
        tracing::warn!("the agent's own last metrics were not sent: {error}");
    }
    close_ledger(&ledger, ledger_file)?;
    result.map(|()| Exit::Done)
}
