//! `spandrel replay`: a recording through the same pipeline, in the time of its events.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use anyhow::Context;
use spandrel_model::Ledger;
use spandrel_model::recording::Recording;
use spandrel_protocols::Tracker;

use super::{close_ledger, exporting, load, printer};
use crate::cli::Replay;
use crate::exit::{Exit, Failure};
use crate::pipeline::{NoSteering, Pipeline};
use crate::settings;
use crate::sink::{OtlpSink, Sink};

/// Reads, sorts and runs the recording.
pub(super) fn execute(arguments: &Replay) -> anyhow::Result<Exit> {
    let file = &arguments.recording;
    let config = load(arguments.config.as_deref())?.config;
    let input = File::open(file)
        .map_err(|error| Failure::usage(format!("cannot open {}: {error}", file.display())))?;
    let recording = Recording::read(BufReader::with_capacity(1 << 18, input))
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let ledger = Arc::new(Ledger::default());
    let seed = recording.header.id_seed;

    let mut identities = settings::recorded_identities(&config);
    for recorded in recording.identities {
        identities.seed(recorded);
    }
    let sink: Box<dyn Sink> = match (&arguments.config, arguments.output) {
        (Some(_), None) => exporting(
            OtlpSink::start(settings::export(&config, false), &ledger)?,
            false,
            &config,
            &ledger,
        )?,
        (_, output) => printer(output.unwrap_or_default(), false, &config, &ledger)?,
    };
    let mut pipeline = Pipeline::new(
        Tracker::new(settings::protocols(&config), seed, Arc::clone(&ledger)),
        identities,
        settings::selection(&config)?,
        sink,
        Box::new(NoSteering),
        Arc::clone(&ledger),
    );
    let result = pipeline
        .replay(recording.header.clock_offset, &recording.events)
        .context("cannot write the output");
    close_ledger(&ledger, arguments.ledger.as_deref())?;
    result.map(|()| Exit::Done)
}
