//! `spandrel replay`: a recording through the same pipeline, in the time of its events.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use anyhow::Context;
use spandrel_config::Config;
use spandrel_config::settings::PodSelector;
use spandrel_model::Ledger;
use spandrel_model::recording::{RecordedIdentity, RecordedPod, Recording};
use spandrel_protocols::Tracker;

use super::{Exports, LedgerFile, close_ledger, exporting, has_nothing_to_do, load, printer};
use crate::cli::Replay;
use crate::exit::{Exit, Failure};
use crate::pipeline::{NoSteering, Pipeline};
use crate::settings;
use crate::sink::{OtlpSink, Sink};
use crate::standard_error::say;

/// Reads, sorts and runs the recording.
pub(super) fn execute(arguments: &Replay) -> anyhow::Result<Exit> {
    let file = &arguments.recording;
    let exports = match arguments.output {
        None => Exports::Yes,
        Some(_) => Exports::No,
    };
    let config = load(arguments.config.as_deref(), exports)?.config;
    if has_nothing_to_do(&config) {
        return Ok(Exit::Done);
    }
    let input = File::open(file)
        .map_err(|error| Failure::usage(format!("cannot open {}: {error}", file.display())))?;
    let recording = Recording::read(BufReader::with_capacity(1 << 18, input))
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let ledger_file = LedgerFile::create(arguments.ledger.as_deref())?;
    let ledger = Arc::new(Ledger::default());
    let seed = recording.header.id_seed;

    for warning in unrecorded(&config, &recording.identities) {
        say(format_args!("{}: warning: {warning}", file.display()));
    }
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
        settings::recorded_selection(&config)?,
        sink,
        Box::new(NoSteering),
        Arc::clone(&ledger),
    );
    let result = pipeline
        .replay(recording.header.clock_offset, &recording.events)
        .context("cannot write the output");
    close_ledger(&ledger, ledger_file)?;
    result.map(|()| Exit::Done)
}

/// What selectors ask of pods and the recording cannot answer: no such selector holds in this replay.
fn unrecorded(config: &Config, identities: &[RecordedIdentity]) -> Vec<String> {
    let capture = &config.capture;
    let asked = || {
        capture
            .include
            .iter()
            .chain(&capture.exclude)
            .map(|it| &it.pod)
    };
    let pods = || identities.iter().filter_map(|one| one.pod.as_ref());
    if pods().next().is_none() {
        let any = asked().any(|pod| *pod != PodSelector::default());
        let warning =
            "selectors name pods, but the recording knows of none: no such selector holds";
        return any.then(|| warning.to_owned()).into_iter().collect();
    }
    let keys = |of: fn(&PodSelector) -> &[(String, String)]| -> BTreeSet<String> {
        let pairs = asked().flat_map(of);
        pairs.map(|(key, _)| key.clone()).collect()
    };
    let warn = |kind: &str, keys: BTreeSet<String>, has: fn(&RecordedPod, &str) -> bool| {
        let missing = keys
            .into_iter()
            .filter(|key| !pods().any(|pod| has(pod, key)));
        let text = |key| {
            format!(
                "a selector names the {kind} `{key}`, which no pod of the recording has: it holds for none. A run records \
                 the {kind}s that it exports or that its own selectors name"
            )
        };
        missing.map(text).collect::<Vec<_>>()
    };
    let mut warnings = warn("label", keys(|pod| &pod.labels), |pod, key| {
        pod.labels.contains_key(key)
    });
    warnings.extend(warn(
        "annotation",
        keys(|pod| &pod.annotations),
        |pod, key| pod.annotations.contains_key(key),
    ));
    warnings
}
