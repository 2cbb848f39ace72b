//! The commands, a file each.

mod check;
mod config;
mod explain;
mod replay;
mod run;
mod sources;
mod trace;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use spandrel_config::{Config, Loaded};
use spandrel_container_runtime::Names;
use spandrel_model::{Ledger, ledger};
use spandrel_protocols::Tracker;

use crate::agent::{self, Attached, Life};
use crate::cli::{Command, Files, Output};
use crate::exit::{Exit, Failure};
use crate::kubernetes::{Hold, Kubernetes, Outcomes};
use crate::pipeline::Pipeline;
use crate::recorder::Recorder;
use crate::sink::{
    Deadline, Lines, OtlpSink, Patience, RequestJsonLines, Sink, TextConsole, TextTable,
};
use crate::standard_error::{has_colours, say};
use crate::{alarm, logging, settings};
use sources::Sources;

/// Carries a command out.
pub fn execute(command: Command) -> anyhow::Result<Exit> {
    alarm::arm();
    let exit = match command.without_empty_file() {
        Command::Run(arguments) => run::execute(arguments),
        Command::Trace(arguments) => trace::execute(arguments),
        Command::Replay(arguments) => replay::execute(&arguments),
        Command::Check(arguments) => check::execute(&arguments),
        Command::Explain(arguments) => explain::execute(&arguments),
        Command::Config(arguments) => config::execute(arguments),
    }?;
    // Threads go on while a command ends.
    agent::all_lived().map(|()| exit)
}

/// Most variables that a warning names.
const MAX_NAMED: usize = 20;

/// The variables of the specification among these, in order; `None` if there are none.
fn ignored_variables(names: impl Iterator<Item = String>) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut ignored: Vec<String> = names
        .filter(|name| name.starts_with("OTEL_") && name.chars().all(plain))
        // The one that chooses the file.
        .filter(|name| name != "OTEL_CONFIG_FILE")
        .collect();
    if ignored.is_empty() {
        return None;
    }
    ignored.sort_unstable();
    let more = ignored.len().saturating_sub(MAX_NAMED);
    ignored.truncate(MAX_NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Some(ignored.join(", ") + &more)
}

/// Whether a command sends spans to where the configuration says, and not to standard output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exports {
    Yes,
    No,
}

/// The configuration of a file, or that of the environment; warnings go to standard error.
fn load(file: Option<&Path>, exports: Exports) -> anyhow::Result<Loaded> {
    let asked = RefCell::new(BTreeSet::new());
    let environment = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        std::env::var(name).ok()
    };
    let loaded = match file {
        Some(file) => spandrel_config::load(file, &environment)
            .map_err(|problems| Failure::usage(problems.to_string().trim_end()))?,
        None => spandrel_config::from_env(&environment),
    };
    if let Some(file) = file {
        let names = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|_| !value.is_empty());
            name.filter(|name| !asked.borrow().contains(name))
        });
        if let Some(ignored) = ignored_variables(names) {
            say(format_args!(
                "{}: warning: with a file these variables have no effect: {ignored}\n   \
                 help: name one in the file, as ${{NAME}}, or unset it",
                file.display()
            ));
        }
    }
    let given = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for warning in spandrel_config::misspelt(given.filter(|name| !asked.borrow().contains(name))) {
        say(format_args!("{warning}"));
    }
    let warnings = loaded.warnings.iter();
    for warning in warnings.filter(|it| exports == Exports::Yes || !it.is_about_exports()) {
        say(format_args!("{warning}"));
    }
    logging::set_level(settings::log_level(&loaded.config));
    Ok(loaded)
}

/// Says so where the configuration leaves nothing to do.
fn has_nothing_to_do(config: &Config) -> bool {
    let why = why_nothing(config);
    if let Some(why) = why {
        say(format_args!("{why}: nothing to do"));
    }
    why.is_some()
}

/// Why a configuration lets no process be seen, if it does.
fn why_nothing(config: &Config) -> Option<&'static str> {
    if config.disabled {
        Some("disabled: true is set")
    } else if !config.http.enabled {
        Some("protocols.http.enabled is false and HTTP is the only protocol")
    } else {
        None
    }
}

/// A `live` one waits for no reader, and at the end until the deadline.
fn stdout(live: Option<Deadline>, ledger: &Arc<Ledger>) -> anyhow::Result<Lines> {
    let patience = live.map_or(Patience::Waits, Patience::Drops);
    Lines::start(io::stdout(), patience, Arc::clone(ledger))
        .context("cannot start the thread that writes to standard output")
}

fn table(live: Option<Deadline>, ledger: &Arc<Ledger>) -> anyhow::Result<TextTable> {
    let lines = stdout(live, ledger)?;
    let colours = has_colours(&io::stdout());
    Ok(TextTable::new(lines, Arc::clone(ledger), colours))
}

/// The sink that a configuration describes, around the one that exports.
fn exporting(
    otlp: OtlpSink,
    live: bool,
    config: &Config,
    ledger: &Arc<Ledger>,
) -> anyhow::Result<Box<dyn Sink>> {
    if settings::spans_as_text(config) {
        let others = settings::spans_beside_console(config);
        let table = table(live.then(|| otlp.deadline()), ledger)?;
        return Ok(Box::new(TextConsole::new(table, otlp, others)));
    }
    Ok(Box::new(otlp))
}

/// The sink that prints to standard output; a `live` one writes by the clock as well, and waits for no reader.
fn printer(
    output: Output,
    live: bool,
    config: &Config,
    ledger: &Arc<Ledger>,
) -> anyhow::Result<Box<dyn Sink>> {
    let deadline = live.then(|| Deadline::new(config.shutdown_timeout));
    Ok(match output {
        Output::Text => Box::new(table(deadline, ledger)?),
        Output::Json => {
            let lines = stdout(deadline, ledger)?;
            Box::new(RequestJsonLines::new(lines, Arc::clone(ledger)))
        }
        Output::OtlpJson => Box::new(OtlpSink::start(settings::console(config, live), ledger)?),
    })
}

/// Captures into a sink until the end of `life`; writes the recording that the arguments ask for.
fn capture_into(
    attached: Attached,
    sink: Box<dyn Sink>,
    config: &Config,
    life: &Life<'_>,
    files: &Files,
    sources: Sources,
) -> anyhow::Result<()> {
    let ledger = life.ledger;
    let Sources {
        identities,
        pods: watching,
        containers,
    } = sources;
    let reads = identities.reads();
    let outcomes = watching.as_ref().map(Watching::outcomes);
    let of_peers = watching
        .as_ref()
        .and_then(|watching| watching.kubernetes.peer_outcomes());
    let (runtime, mut watching) = match watching {
        Some(Watching {
            runtime,
            kubernetes,
            hold,
        }) => (Some(runtime), Some((kubernetes, hold))),
        None => (None, None),
    };
    let asked = containers.as_ref().map(Names::counters);
    let mut names = containers.map(|names| (names, settings::container_hold(config)));
    let result = agent::capture(attached, life, |control| {
        let seed = settings::id_seed();
        let mut pipeline = Pipeline::new(
            Tracker::new(settings::protocols(config), seed, Arc::clone(ledger)),
            identities,
            settings::selection(config)?,
            sink,
            Box::new(control),
            Arc::clone(ledger),
        );
        if let Some(file) = &files.record {
            let shown = file.display();
            let with_credentials = files.record_credentials;
            let recorder = Recorder::create(file, with_credentials, agent::clock_offset(), seed)
                .with_context(|| format!("--record {shown}"))?;
            say(format_args!(
                "recording to {shown}, readable by its owner alone; {}",
                if with_credentials {
                    "it holds credentials"
                } else {
                    "credentials in fields and queries are blanked, bodies are not"
                }
            ));
            pipeline.record_to(recorder);
        }
        if let Some((kubernetes, hold)) = watching.take() {
            pipeline.with_pods(kubernetes, hold);
        }
        if let Some((names, hold)) = names.take() {
            pipeline.with_containers(names, hold);
        }
        Ok(pipeline)
    });
    if let Some(runtime) = runtime {
        // A watch never ends by itself.
        runtime.shutdown_background();
    }
    if let Some(outcomes) = outcomes {
        say_counts(
            "kubernetes: spans by their pod",
            &outcomes.snapshot().by_reason,
        );
    }
    if let Some(outcomes) = of_peers {
        say_counts(
            "kubernetes: spans by their peer",
            &outcomes.snapshot().by_reason,
        );
    }
    sources::say_read(&reads);
    if let Some(counters) = asked {
        sources::say_asked(&counters);
    }
    result
}

/// How something ended in this run, and how often.
fn say_counts(what: &str, by_reason: &BTreeMap<&'static str, u64>) {
    let counts = by_reason
        .iter()
        .map(|(reason, count)| format!(" {count} {reason}"));
    say(format_args!("{what}:{}", counts.collect::<String>()));
}

/// The watch on the pods of this node, on a thread of its own.
struct Watching {
    runtime: tokio::runtime::Runtime,
    kubernetes: Kubernetes,
    hold: Hold,
}

impl Watching {
    /// Starts it where the configuration, or the pod that this process is in, asks for it.
    fn start(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(settings) = settings::kubernetes(config)? else {
            return Ok(None);
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // Lists of the whole cluster shall not hold up news of this node's pods.
            .worker_threads(if settings.peers.is_some() { 2 } else { 1 })
            .thread_name("kubernetes")
            .enable_all()
            .build()
            .context("cannot start the thread that watches pods")?;
        Ok(Some(Self {
            kubernetes: Kubernetes::start(&settings, runtime.handle()),
            hold: Hold::new(settings.hold, settings.hold_bytes),
            runtime,
        }))
    }

    fn outcomes(&self) -> Arc<Outcomes> {
        self.kubernetes.outcomes()
    }
}

/// Where `--ledger` says that the ledger goes. Opened at the start, so that a path that cannot be written to costs no run.
struct LedgerFile<'a> {
    path: &'a Path,
    output: fs::File,
}

impl<'a> LedgerFile<'a> {
    fn create(path: Option<&'a Path>) -> anyhow::Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let output = fs::File::create(path).map_err(|error| {
            let path = path.display();
            Failure::usage(format!(
                "cannot create {path}: {error}; --ledger takes a file that can be written to"
            ))
        })?;
        Ok(Some(Self { path, output }))
    }

    fn write(mut self, ledger: &Ledger) -> anyhow::Result<()> {
        writeln!(self.output, "{}", ledger.to_json())
            .with_context(|| format!("cannot write the ledger to {}", self.path.display()))
    }
}

/// Prints the ledger to standard error, and writes it where `--ledger` says.
fn close_ledger(ledger: &Ledger, file: Option<LedgerFile<'_>>) -> anyhow::Result<()> {
    let accounts = [
        ("messages", &ledger.messages, "delivered"),
        ("exchanges", &ledger.exchanges, "completed"),
        ("spans", &ledger.spans, "exported"),
        ("metric points", &ledger.metric_points, "exported"),
    ];
    for (name, account, settled) in accounts {
        say(format_args!(
            "ledger: {name}: {}",
            describe(&account.snapshot(), settled)
        ));
    }
    let measurements = ledger.measurements.snapshot();
    if !measurements.dropped.is_empty() {
        let text = describe(&measurements, "aggregated");
        say(format_args!("ledger: measurements: {text}"));
    }
    let lost = ledger.lost();
    if !lost.is_empty() {
        let rows: Vec<String> = lost
            .rows()
            .map(|(cgroup, lost)| format!("{cgroup}: {lost}"))
            .collect();
        say(format_args!(
            "ledger: messages lost under overload by cgroup id: {}",
            rows.join(", ")
        ));
    }
    file.map_or(Ok(()), |file| file.write(ledger))
}

fn describe(snapshot: &ledger::Snapshot, settled: &str) -> String {
    let mut text = format!("{} seen = {} {settled}", snapshot.seen, snapshot.settled);
    if snapshot.in_flight > 0 {
        text += &format!(" + {} in flight", snapshot.in_flight);
    }
    for (reason, count) in &snapshot.dropped {
        text += &format!(" + {count} {reason}");
    }
    text
}
