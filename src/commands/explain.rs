//! `spandrel explain`: why a process is or is not seen.

use std::fs;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use spandrel_container_runtime::{Answered, Names};
use spandrel_model::{ProcessKey, Resource};
use spandrel_probes::{CaptureSettings, URING, URING_RECEIVES, URING_SENDS};

use super::{Exports, load, why_nothing};
use crate::agent;
use crate::cli::Explain;
use crate::exit::{Exit, Failure};
use crate::identity::{Identities, PodOf, Whose};
use crate::selectors::Verdict;
use crate::settings;

/// Libraries whose presence means that the process may encrypt what it says.
const TLS_LIBRARIES: [&str; 4] = ["libssl.so", "libgnutls.so", "libnss3.so", "libmbedtls.so"];

/// Prints what is known of the process and what follows from it.
pub(super) fn execute(arguments: &Explain) -> anyhow::Result<Exit> {
    let config = load(arguments.config.as_deref(), Exports::No)?.config;
    let pid = arguments.pid;
    let mut identities = settings::identities(&config, false);
    let asked = settings::containers(&config).map(|containers| {
        let hold = containers.hold;
        let names = Names::new(containers);
        let answered = names.answered();
        identities.with_containers(names);
        (answered, hold)
    });
    let Some(process) = identities.find(pid) else {
        return Err(Failure {
            exit: Exit::Failed,
            message: format!("there is no process {pid} here, or /proc/{pid} cannot be read"),
        }
        .into());
    };
    let mut candidate = identities.decide(process);
    let resource = resource(&mut identities, process, asked);
    let selectors = settings::selectors(&config)?;
    // Only a running agent asks the API server.
    if candidate.container_id.is_some() {
        candidate.pod = PodOf::NotYet;
    }
    let decision = selectors.decide(&candidate, None);

    let mut out = io::stdout().lock();
    let nothing = why_nothing(&config);
    let seen = match decision.verdict {
        _ if nothing.is_some() => "is not seen",
        Verdict::Allow => "is seen",
        Verdict::Deny => "is not seen",
        Verdict::ByPort => "is seen on some connections and not on others",
        Verdict::Wait => "is seen or not by its pod, which only a running agent knows",
    };
    let reason = nothing.unwrap_or(&decision.reason);
    writeln!(out, "process {pid} {seen}: {reason}")?;
    if pid == std::process::id() {
        writeln!(out, "  it is this program, which never looks at itself")?;
    }
    match &candidate.executable {
        Some(path) => writeln!(out, "  executable    {}", path.display())?,
        None => writeln!(
            out,
            "  executable    cannot be read (CAP_SYS_PTRACE is needed for other users)"
        )?,
    }
    match &candidate.container_id {
        Some(id) => writeln!(out, "  container     {id}")?,
        None => writeln!(out, "  container     none: a process of the host")?,
    }
    writeln!(out, "  encryption    {}", encryption(pid))?;
    writeln!(out, "  sockets       {}", sockets(pid))?;
    if let Some(rings) = io_uring(pid, &settings::capture(&config)?) {
        writeln!(out, "  io_uring      {rings}")?;
    }
    writeln!(out, "resource attributes")?;
    for attribute in resource.attributes() {
        let value = serde_json::to_string(&attribute.value)?;
        writeln!(out, "  {:<30} {value}", attribute.key)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// The resource of its spans but for what the API server would say; waits for a container runtime as long as its spans would.
fn resource(
    identities: &mut Identities,
    process: ProcessKey,
    asked: Option<(Answered, Duration)>,
) -> Arc<Resource> {
    let mut whose = |last| {
        let now = agent::clock_offset().to_unix(agent::now());
        identities.take_in(now);
        identities.whose(process, 0, now, last)
    };
    let known = match (whose(false), asked) {
        // There was one question, so that its answer or the end of the wait is the last word.
        (Whose::NotYet, Some((answered, hold))) => {
            answered.wait(0, hold);
            whose(true)
        }
        (known, _) => known,
    };
    match known {
        Whose::Known(resource) => resource,
        Whose::NotYet => identities.resource(process, 0),
    }
}

fn encryption(pid: u32) -> String {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return "unknown: its memory map cannot be read".to_owned();
    };
    let found = TLS_LIBRARIES.iter().find(|name| maps.contains(*name));
    found.map_or_else(
        || "no TLS library is loaded (a program may still carry its own)".to_owned(),
        |name| format!("{name} is loaded: what it encrypts is not seen"),
    )
}

/// For a process with a ring: how much of what it says by it is seen on this machine.
fn io_uring(pid: u32, settings: &CaptureSettings) -> Option<String> {
    let has_ring = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.to_string_lossy().contains("[io_uring]"));
    if !has_ring {
        return None;
    }
    let status = match spandrel_probes::features(settings) {
        Ok(status) => status,
        Err(error) => return Some(format!("is used; whether it is seen is unknown: {error}")),
    };
    let lacks = |wanted: &str| {
        status
            .features
            .iter()
            .find(|feature| feature.feature == wanted && !feature.available)
            .map(|feature| feature.reason.as_str())
    };
    if let Some(reason) = lacks(URING) {
        return Some(format!(
            "is used, and what goes through it is not seen: {reason}"
        ));
    }
    let part = |what: &str, feature| match lacks(feature) {
        None => format!("{what} it are seen"),
        Some(reason) => format!("{what} it have only their lengths ({reason})"),
    };
    Some(format!(
        "is used: {}, {}; RECV_ZC leaves only lengths",
        part("bytes received by", URING_RECEIVES),
        part("bytes sent by", URING_SENDS)
    ))
}

fn sockets(pid: u32) -> String {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return "unknown: its descriptors cannot be read".to_owned();
    };
    let open = descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count();
    if open == 0 {
        "none open: it talks to nobody now".to_owned()
    } else {
        format!("{open} open")
    }
}
