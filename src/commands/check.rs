//! `spandrel check`: what works here, what does not, and why.

use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use spandrel_container_runtime::Names;
use spandrel_exporter::Exporter;
use spandrel_probes::{Capture, CaptureError, CaptureSettings};

use super::{Exports, load};
use crate::cli::{Check, Report};
use crate::exit::{Exit, unless_gone};
use crate::settings;

/// A runtime that does not answer at all ends its question in 2 s.
const ANSWER: Duration = Duration::from_secs(10);

/// One line of the report.
struct Line {
    section: &'static str,
    what: String,
    state: State,
    detail: String,
    remedy: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Works,
    /// Something is missing that the agent does without.
    Missing,
    Fails,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Works => "ok",
            Self::Missing => "missing",
            Self::Fails => "fails",
        }
    }
}

/// Looks at the machine, attaches for a moment, and asks each backend of the configuration.
pub(super) fn execute(arguments: &Check) -> anyhow::Result<Exit> {
    let config = load(arguments.config.as_deref(), Exports::Yes)?.config;
    let mut lines = machine();
    let captures = capture(settings::capture(&config)?, &mut lines);
    if let Some(settings) = settings::containers(&config) {
        lines.extend(runtimes(&settings));
    }
    let exports = if arguments.config.is_some() || names_an_endpoint() {
        backends(&config, &mut lines)?
    } else {
        true
    };
    // A reader that has gone changes nothing of what was found.
    unless_gone(match arguments.output {
        Report::Text => write_text(&lines),
        Report::Json => write_json(&lines),
    })
    .context("cannot write the report to standard output")?;
    Ok(match (captures, exports) {
        (false, _) => Exit::Machine,
        (true, false) => Exit::Failed,
        (true, true) => Exit::Done,
    })
}

fn machine() -> Vec<Line> {
    spandrel_probes::preflight()
        .into_iter()
        .map(|finding| Line {
            section: "machine",
            what: finding.what,
            state: if finding.ok {
                State::Works
            } else {
                State::Missing
            },
            detail: finding.detail,
            remedy: finding.remedy,
        })
        .collect()
}

/// Which container runtimes answer. That there is none is fine: then containers keep their ids.
fn runtimes(settings: &spandrel_container_runtime::Settings) -> Vec<Line> {
    let line = |what: String, state, detail: &str, remedy: &str| Line {
        section: "containers",
        what,
        state,
        detail: detail.to_owned(),
        remedy: remedy.to_owned(),
    };
    let mut found = Vec::new();
    for socket in &settings.sockets {
        let what = format!("runtime {}", socket.display());
        match reason_of(socket) {
            "no_socket" => {}
            "not_found" => found.push(line(what, State::Works, "it answers", "")),
            reason => found.push(line(
                what,
                State::Missing,
                &format!("it does not tell of containers: {reason}"),
                "run as root or in the group of the socket, or leave it out of containers.sockets",
            )),
        }
    }
    if found.is_empty() {
        let what = "runtimes".to_owned();
        let detail = "none of containers.sockets is there: containers keep their ids";
        found.push(line(what, State::Works, detail, ""));
    }
    found
}

/// How a question about a container that cannot be ends.
fn reason_of(socket: &Path) -> &'static str {
    let mut names = Names::new(spandrel_container_runtime::Settings {
        sockets: vec![socket.to_owned()],
        hold: Duration::ZERO,
    });
    names.look_up(&"0".repeat(64), None);
    let reason = |names: &Names| names.counters().snapshot().into_keys().next();
    // What nobody has to be asked for is counted already.
    if let Some(reason) = reason(&names) {
        return reason;
    }
    names.answered().wait(0, ANSWER);
    names.take_in(1);
    reason(&names).unwrap_or("timeout")
}

/// Whether capture attaches; what it says of its backend and features.
fn capture(settings: CaptureSettings, lines: &mut Vec<Line>) -> bool {
    let (sender, receiver) = sync_channel(1);
    // Events of the moment are of no interest; taking them keeps the poll thread from waiting.
    let sponge = thread::spawn(move || receiver.iter().for_each(drop));
    let capture = match Capture::start(settings, sender) {
        Ok(capture) => capture,
        Err(error) => {
            lines.push(Line {
                section: "capture",
                what: "backend".to_owned(),
                state: State::Fails,
                detail: error.to_string(),
                remedy: match error {
                    CaptureError::Refused(_) => "set capture.backend to auto, which takes one that works",
                    _ => "run as root, or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_PTRACE",
                }
                .to_owned(),
            });
            return false;
        }
    };
    let status = capture.status().clone();
    lines.push(Line {
        section: "capture",
        what: format!("backend {}", status.backend),
        state: State::Works,
        detail: status.why.clone(),
        remedy: String::new(),
    });
    for feature in status.features {
        lines.push(Line {
            section: "capture",
            what: feature.feature.to_owned(),
            state: if feature.available {
                State::Works
            } else {
                State::Missing
            },
            detail: feature.reason,
            remedy: String::new(),
        });
    }
    drop(capture.stop());
    drop(sponge.join());
    true
}

/// Whether the environment says where to export: without that the default endpoint is nobody's wish.
fn names_an_endpoint() -> bool {
    std::env::vars_os().any(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("OTEL_EXPORTER_OTLP_") && name.ends_with("ENDPOINT")
    })
}

/// Whether every backend of the configuration answers.
fn backends(config: &spandrel_config::Config, lines: &mut Vec<Line>) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut all = true;
    for (what, signal, settings) in settings::endpoints(config) {
        let result = runtime.block_on(Exporter::probe(&settings, signal));
        all &= result.is_ok();
        let (state, detail) = match result {
            Ok(detail) => (State::Works, detail),
            Err(error) => (State::Fails, error.to_string()),
        };
        lines.push(Line {
            section: "backend",
            what,
            state,
            detail,
            remedy: String::new(),
        });
    }
    Ok(all)
}

fn write_text(lines: &[Line]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut section = "";
    for line in lines {
        if line.section != section {
            section = line.section;
            writeln!(stdout, "{section}")?;
        }
        writeln!(
            stdout,
            "  {:<8} {:<28} {}",
            line.state.name(),
            line.what,
            line.detail
        )?;
        if line.state != State::Works && !line.remedy.is_empty() {
            writeln!(stdout, "  {:<8} {:<28} -> {}", "", "", line.remedy)?;
        }
    }
    stdout.flush()
}

fn write_json(lines: &[Line]) -> io::Result<()> {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| {
            json!({
                "section": line.section,
                "what": line.what,
                "state": line.state.name(),
                "detail": line.detail,
                "remedy": line.remedy,
            })
        })
        .collect();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", json!({ "findings": lines }))?;
    stdout.flush()
}
