//! From what was observed to the resource attributes of a service instance.

use std::path::Path;

use spandrel_k8s_meta::cgroup::Placement;
use spandrel_model::{Attribute, ProcessKey};
use uuid::Uuid;

use super::host::Host;
use super::procfs::{Observed, TICK};
use super::{Hint, interpreter, naming};

/// Namespace of our instance ids (a random UUID, fixed for ever).
const INSTANCES: Uuid = Uuid::from_u128(0x7b1f_6a3e_42d9_4c58_9a0d_3e5c_81f7_b264);

/// Keys that the environment must not override: it is inherited by children, and these are measured.
const MEASURED: &[&str] = &["container.id", "process.", "telemetry."];

/// What is the same for all processes.
pub(super) struct Asked<'a> {
    pub(super) host: &'a Host,
    /// `service.name` of the configuration.
    pub(super) configured: Option<&'a str>,
    /// Whether command lines are told.
    pub(super) arguments: bool,
    /// Whether each process is a service instance of its own.
    pub(super) per_process: bool,
}

/// Attributes of a process that `/proc` still shows. One that is ending shows no executable any more: there its start tells.
pub(super) fn of_observed(
    key: ProcessKey,
    seen: &Observed,
    hint: &Hint,
    asked: &Asked<'_>,
) -> Vec<Attribute> {
    let host = asked.host;
    let executable = seen.executable.as_deref();
    let given = seen.declared.name().or(asked.configured);
    let name = given.map(str::to_owned).or_else(|| {
        let unit = seen.placement.unit.as_deref();
        unit.and_then(naming::from_unit)
            .or_else(|| program_name(seen))
            .or_else(|| naming::from_filename(hint.filename.as_deref()?))
            .or_else(|| (!seen.comm.is_empty()).then(|| seen.comm.clone()))
    });
    let mut attributes = Vec::with_capacity(24);
    let instance = instance(key, name.as_deref(), Some(&seen.placement), asked);
    attributes.extend(name.map(|name| Attribute::new("service.name", name)));
    // Of equal keys the first counts, so what the program declares goes before what is only derived.
    for (name, value) in &seen.declared.attributes {
        if name != "service.name" && !MEASURED.iter().any(|prefix| name.starts_with(prefix)) {
            attributes.push(Attribute::new(name.clone(), value.clone()));
        }
    }
    attributes.extend(instance);
    attributes.extend(process(key, seen.parent, executable));
    let told = hint.executable.clone().filter(|_| executable.is_none());
    attributes.extend(told.map(|it| Attribute::new("process.executable.name", it)));
    if let Some(runtime) = executable
        .and_then(file_name)
        .and_then(interpreter::runtime)
    {
        attributes.push(Attribute::new("process.runtime.name", runtime));
    }
    // Names of users are the host's; inside a container the same number is somebody else.
    if seen.placement.container.is_none()
        && let Some(owner) = seen.uid.and_then(|uid| host.user(uid))
    {
        attributes.push(Attribute::new("process.owner", owner.to_owned()));
    }
    if asked.arguments && !seen.arguments.is_empty() {
        let arguments = seen.arguments.iter().cloned().map(Into::into).collect();
        attributes.push(Attribute::new(
            "process.command_args",
            spandrel_model::Value::StrArray(arguments),
        ));
    }
    attributes.extend(container(&seen.placement));
    attributes.extend(host.attributes.iter().cloned());
    attributes.extend(distribution());
    attributes
}

fn program_name(seen: &Observed) -> Option<String> {
    let (executable, arguments, directory) = match &seen.part_of {
        Some(it) => (&it.executable, &it.arguments, &it.directory),
        None => (&seen.executable, &seen.arguments, &seen.directory),
    };
    naming::from_program(executable.as_deref(), arguments, directory.as_deref())
}

/// Attributes of a process that was gone before it was looked at.
pub(super) fn of_hint(
    key: ProcessKey,
    hint: &Hint,
    placement: Option<&Placement>,
    asked: &Asked<'_>,
) -> Vec<Attribute> {
    let unit = || naming::from_unit(placement?.unit.as_deref()?);
    let name = asked
        .configured
        .map(str::to_owned)
        .or_else(unit)
        .or_else(|| hint.filename.as_deref().and_then(naming::from_filename))
        .or_else(|| (!hint.comm.is_empty()).then(|| hint.comm.clone()))
        .unwrap_or_else(|| "unknown_service".to_owned());
    let instance = instance(key, Some(&name), placement, asked);
    let mut attributes = vec![Attribute::new("service.name", name)];
    attributes.extend(instance);
    // The path given to execve may be a script or a relative path: it does not tell where the executable is.
    attributes.extend(process(
        key,
        (hint.parent != 0).then_some(hint.parent),
        None,
    ));
    let executable = hint.executable.clone();
    attributes.extend(executable.map(|it| Attribute::new("process.executable.name", it)));
    attributes.extend(placement.and_then(container));
    attributes.extend(asked.host.attributes.iter().cloned());
    attributes.extend(distribution());
    attributes
}

/// The service instance that a process is a part of: its container, its systemd unit, or all that is called so on this
/// host. Processes come and go within it.
fn instance(
    key: ProcessKey,
    name: Option<&str>,
    placement: Option<&Placement>,
    asked: &Asked<'_>,
) -> Option<Attribute> {
    if asked.per_process {
        return instance_of_process(key, asked.host);
    }
    let machine = &asked.host.machine;
    let container = placement.and_then(|it| it.container.as_ref());
    // Sessions and scopes of one run are no place that lasts.
    let unit = placement.and_then(|it| it.unit.as_deref());
    let unit = unit.filter(|unit| naming::from_unit(unit).is_some());
    let place = match (container, unit) {
        (Some(container), _) => format!("container/{}", container.id),
        (None, Some(unit)) => format!("unit/{unit}"),
        (None, None) => format!("name/{}", name?),
    };
    (!machine.is_empty()).then(|| instance_id(&format!("{machine}/{place}")))
}

/// The same for the same process after a restart of the agent: the start counts in clock ticks, which is what
/// every source of it knows. Without a host to tell apart there is no id.
pub(super) fn instance_of_process(key: ProcessKey, host: &Host) -> Option<Attribute> {
    let start = key.started / TICK;
    let name = format!("{}/{}/{start}", host.namespace, key.tgid);
    (!host.namespace.is_empty()).then(|| instance_id(&name))
}

fn instance_id(name: &str) -> Attribute {
    let id = Uuid::new_v5(&INSTANCES, name.as_bytes());
    Attribute::new("service.instance.id", id.to_string())
}

fn process(
    key: ProcessKey,
    parent: Option<u32>,
    executable: Option<&Path>,
) -> impl Iterator<Item = Attribute> {
    let path = executable.and_then(Path::to_str);
    let name = executable.and_then(file_name);
    [
        Some(Attribute::new("process.pid", key.tgid)),
        parent.map(|parent| Attribute::new("process.parent_pid", parent)),
        path.map(|path| Attribute::new("process.executable.path", path.to_owned())),
        name.map(|name| Attribute::new("process.executable.name", name.to_owned())),
    ]
    .into_iter()
    .flatten()
}

fn container(placement: &Placement) -> Option<Attribute> {
    let container = placement.container.as_ref()?;
    Some(Attribute::new("container.id", container.id.clone()))
}

/// No SDK took part, so there is no `telemetry.sdk.*`.
fn distribution() -> [Attribute; 2] {
    [
        Attribute::new("telemetry.distro.name", "spandrel"),
        Attribute::new("telemetry.distro.version", env!("CARGO_PKG_VERSION")),
    ]
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}
