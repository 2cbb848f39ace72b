//! `spandrel trace`: requests on the terminal as they end.

use std::sync::Arc;

use spandrel_model::Ledger;

use super::sources::Sources;
use super::{Exports, LedgerFile, capture_into, close_ledger, has_nothing_to_do, load, printer};
use crate::agent::{self, Life, Stop};
use crate::cli::Trace;
use crate::exit::Exit;
use crate::settings;

/// Captures what the selection names until a signal or the end of `--duration`.
pub(super) fn execute(arguments: Trace) -> anyhow::Result<Exit> {
    let stop = Stop::on_signals()?;
    let mut config = load(arguments.config.as_deref(), Exports::No)?.config;
    if has_nothing_to_do(&config) {
        return Ok(Exit::Done);
    }
    settings::narrow(&mut config, &arguments);
    let ledger_file = LedgerFile::create(arguments.files.ledger.as_deref())?;
    let attached = agent::attach(settings::capture(&config)?)?;
    let ledger = Arc::new(Ledger::default());
    let sink = printer(arguments.output, true, &config, &ledger)?;
    let sources = Sources::start(&config)?;
    let life = Life {
        stop: &stop,
        duration: arguments.duration,
        shutdown_timeout: config.shutdown_timeout,
        ledger: &ledger,
    };
    let result = capture_into(attached, sink, &config, &life, &arguments.files, sources);
    close_ledger(&ledger, ledger_file)?;
    result.map(|()| Exit::Done)
}
