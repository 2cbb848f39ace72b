//! `spandrel trace`: requests on the terminal as they end.

use std::sync::Arc;

use anyhow::Context;
use spandrel_model::{ClockOffset, Ledger};
use spandrel_protocols::Tracker;

use super::{close_ledger, load, printer};
use crate::agent::{self, Stop};
use crate::cli::Trace;
use crate::exit::Exit;
use crate::pipeline::Pipeline;
use crate::recorder::Recorder;
use crate::settings;

/// Captures what the selection names until a signal or the end of `--duration`.
pub(super) fn execute(arguments: Trace) -> anyhow::Result<Exit> {
    let stop = Stop::on_signals()?;
    let mut config = load(arguments.config.as_deref())?.config;
    settings::narrow(&mut config, &arguments);
    let ledger = Arc::new(Ledger::default());
    let seed = settings::id_seed();
    let result = agent::capture(
        settings::capture(&config)?,
        arguments.duration,
        &stop,
        &ledger,
        |control| {
            let mut pipeline = Pipeline::new(
                Tracker::new(settings::protocols(&config), seed, Arc::clone(&ledger)),
                settings::identities(&config),
                settings::selection(&config)?,
                printer(arguments.output, true, &config, &ledger)?,
                Box::new(control),
                Arc::clone(&ledger),
            );
            if let Some(file) = &arguments.files.record {
                let recorder = Recorder::create(file, ClockOffset::default(), seed)
                    .with_context(|| format!("cannot create {}", file.display()))?;
                pipeline.record_to(recorder);
            }
            Ok(pipeline)
        },
    );
    close_ledger(&ledger, arguments.files.ledger.as_deref())?;
    result.map(|()| Exit::Done)
}
