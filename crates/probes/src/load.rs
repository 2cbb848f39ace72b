//! Chooses a backend, loads its programs, and says what could not be had and why.

use std::fmt;
use std::mem::MaybeUninit;

use libbpf_rs::btf::Btf;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Link, OpenObject, ProgramInput};

use crate::cgroup;
use crate::memory_map;
use crate::pid_namespace;
use crate::settings::{BackendChoice, CaptureSettings, HeadRule};
use crate::skeleton::{CaptureSkel, CaptureSkelBuilder};

/// A backend that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Socket-length tracepoints.
    Socket,
    /// `fentry` and `fexit`.
    Fexit,
    /// Ends of system calls.
    Syscall,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "socket",
            Self::Fexit => "fexit",
            Self::Syscall => "syscall",
        })
    }
}

/// One thing the capture can do, and whether it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What.
    pub feature: &'static str,
    /// Whether it works here.
    pub available: bool,
    /// Why not; empty where it works.
    pub reason: String,
}

/// Which backend, why, and what works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The backend in use.
    pub backend: Backend,
    /// Why this one.
    pub why: String,
    /// Every feature.
    pub features: Vec<Feature>,
}

/// Why a capture did not start.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No backend can be loaded.
    #[error("no capture backend works on this kernel: {0}")]
    NoBackend(String),
    /// The one that was asked for cannot be loaded; others were not tried.
    #[error("the backend that `capture.backend` names does not work on this kernel: {0}")]
    Refused(String),
    /// The kernel or libbpf refused something all backends need.
    #[error("cannot {action}: {problem}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// What came back.
        problem: String,
    },
}

impl CaptureError {
    pub(crate) fn kernel(action: &'static str, problem: impl fmt::Display) -> Self {
        Self::Kernel {
            action,
            problem: problem.to_string(),
        }
    }
}

/// A program: its name in the object, the kernel type it hangs on, and the feature lost without it.
struct Program {
    name: &'static str,
    needs: &'static str,
    feature: &'static str,
}

const fn program(name: &'static str, needs: &'static str, feature: &'static str) -> Program {
    Program {
        name,
        needs,
        feature,
    }
}

/// Programs that every backend uses and that can each be missing.
const SHARED: &[Program] = &[
    program(
        "tcp_state",
        "btf_trace_inet_sock_set_state",
        "connection life",
    ),
    program(
        "tcp_destroy",
        "btf_trace_tcp_destroy_sock",
        "close after the last read",
    ),
    program(
        "tcp_destroy_twin",
        "btf_trace_tcp_destroy_sock",
        "close in an interrupt of another close",
    ),
    program("send_start", "btf_trace_tcp_sendmsg_locked", SENDS),
    program(
        "data_ready",
        "btf_trace_sk_data_ready",
        "arrival of received data",
    ),
    program(
        "process_exec",
        "btf_trace_sched_process_exec",
        "process starts",
    ),
    program(
        "process_exit",
        "btf_trace_sched_process_exit",
        "process exits",
    ),
    program(
        "existing_tcp",
        "bpf_iter_tcp",
        "connections older than the agent",
    ),
    program("uring_copy", "bpf_dynptr_from_skb", URING_RECEIVES),
    program(
        "uring_submit",
        "btf_trace_io_uring_submit_req",
        URING_SUBMITS,
    ),
    program("who_calls", "", "process ids across pid namespaces"),
];

/// What io_uring receives is seen with its bytes.
pub const URING_RECEIVES: &str = "bytes that io_uring receives";
const URING_SUBMITS: &str = "requests of io_uring";
/// What io_uring sends is: the start of a send shows its message, or the request does.
pub const URING_SENDS: &str = "bytes that io_uring sends";
const SENDS: &str = "start of sends";

const SOCKET: &[Program] = &[
    program("socket_send", "btf_trace_sock_send_length", "messages"),
    program("socket_recv", "btf_trace_sock_recv_length", "messages"),
];
/// More programs of backend `socket`.
const SOCKET_MORE: &[Program] = &[program(
    "socket_unseen",
    "btf_trace_tcp_rcv_space_adjust",
    "splice from sockets",
)];
const FEXIT: &[Program] = &[
    program("fexit_send", "tcp_sendmsg", "messages"),
    program("fexit_recv", "tcp_recvmsg", "messages"),
];
/// More programs of backend `fexit`: what this kernel needs of them, and in place of tracepoints.
const FEXIT_MORE: &[Program] = &[
    program("fexit_start", "tcp_sendmsg", SENDS),
    program(
        "fexit_ready",
        "sock_def_readable",
        "arrival of received data",
    ),
    program("fexit_send_page", "tcp_sendpage", SENDFILE),
    program("fexit_splice", "tcp_splice_read", "splice from sockets"),
    program(
        "fexit_unix_send",
        "unix_stream_sendmsg",
        "messages sent on Unix streams",
    ),
    program(
        "fexit_unix_recv",
        "unix_stream_recvmsg",
        "messages read on Unix streams",
    ),
];
/// Nothing is lost where the kernel has no function of its own for it.
const SENDFILE: &str = "sendfile";
const SYSCALL: &[Program] = &[program("syscall_exit", "bpf_rdonly_cast", "messages")];
const SYSCALL_READ: &[Program] = &[program(
    "syscall_exit_read",
    "btf_trace_sys_exit",
    "messages",
)];

/// Backend `syscall` sees what system calls do; io_uring does it later.
const SYSCALL_MORE: &[Program] = &[
    program("uring_send", "btf_trace_sock_send_length", URING),
    program("uring_recv", "btf_trace_sock_recv_length", URING),
];
/// It is seen at all.
pub const URING: &str = "messages of io_uring";

/// Programs in the place of those that a kernel has not or refuses, for the same features.
const INSTEAD: &[Program] = &[
    program(
        "uring_copy_read",
        "btf_trace_skb_copy_datagram_iovec",
        URING_RECEIVES,
    ),
    program(
        "uring_submit_sqe",
        "btf_trace_io_uring_submit_sqe",
        URING_SUBMITS,
    ),
];

/// The program in the place of another one; why there is none, if anything can be said of it.
fn instead(
    program: &Program,
    known: impl Fn(&str) -> bool,
) -> Result<&'static Program, Option<String>> {
    let other = INSTEAD
        .iter()
        .find(|other| other.feature == program.feature && other.name != program.name)
        .filter(|other| known(other.needs))
        .ok_or(None)?;
    if other.feature == URING_RECEIVES {
        memory_map::variables().map_err(|problem| Some(problem.to_string()))?;
    }
    Ok(other)
}

/// Why a program is missing, and the one in its place, too.
fn both_missing(reason: String, other: Option<String>) -> String {
    match other {
        Some(other) => format!("{reason}; without it: {other}"),
        None => reason,
    }
}

/// A loaded object with its attached programs.
pub(crate) struct Loaded<'obj> {
    pub(crate) skeleton: CaptureSkel<'obj>,
    pub(crate) links: Vec<Link>,
    pub(crate) status: Status,
}

/// A backend to try: the programs without which it is none, and those it can do without.
#[derive(Clone, Copy)]
struct Rung {
    backend: Backend,
    needed: &'static [Program],
    more: &'static [Program],
}

/// The backends to try, in order.
fn ladder(choice: BackendChoice) -> Vec<Rung> {
    let rung = |backend, needed, more| Rung {
        backend,
        needed,
        more,
    };
    let socket = rung(Backend::Socket, SOCKET, SOCKET_MORE);
    let fexit = rung(Backend::Fexit, FEXIT, FEXIT_MORE);
    let syscall = rung(Backend::Syscall, SYSCALL, SYSCALL_MORE);
    let syscall_read = rung(Backend::Syscall, SYSCALL_READ, SYSCALL_MORE);
    match choice {
        BackendChoice::Auto => vec![socket, fexit, syscall, syscall_read],
        BackendChoice::Socket => vec![socket],
        BackendChoice::Fexit => vec![fexit],
        BackendChoice::Syscall => vec![syscall, syscall_read],
    }
}

/// Scratches of the kernel side for the programs of a backend (`enum program_slot`).
const fn slots(backend: Backend) -> u32 {
    match backend {
        Backend::Socket => 3,
        Backend::Fexit => 6,
        Backend::Syscall => 3,
    }
}

/// What the kernel side must know of this machine.
#[derive(Clone, Copy, Default)]
struct Host {
    /// In the pid namespace that `/proc` shows.
    own_tgid: u32,
    /// That namespace, where it is not the initial one; 0 otherwise.
    pid_namespace: u32,
    pid_level: u32,
    /// Of `tcp_recvmsg`; 0: unknown.
    recv_arguments: u32,
    can_cast: bool,
    /// Of a program's registers in its task's stack; 0: unknown.
    registers_offset: u32,
}

/// How often an object may be opened to be kept: each rung with all it can have, and the best one once more without
/// what the kernel refuses.
pub(crate) const ATTEMPTS: usize = 5;

/// Where opened objects are kept.
pub(crate) type Places = [MaybeUninit<OpenObject>; ATTEMPTS];

/// Sends libbpf's own lines to the log instead of standard error: what a refused program costs is said in [`Status`].
pub(crate) fn quiet_libbpf() {
    fn log(_level: libbpf_rs::PrintLevel, line: String) {
        tracing::debug!(target: "libbpf", "{}", line.trim_end());
    }
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Info, log)));
}

/// Loads the best backend that the kernel takes. Nothing is attached yet.
pub(crate) fn load<'obj>(
    settings: &CaptureSettings,
    places: &'obj mut Places,
) -> Result<Loaded<'obj>, CaptureError> {
    quiet_libbpf();
    let btf = Btf::from_vmlinux().map_err(|error| {
        let action = "read the kernel's type information (/sys/kernel/btf/vmlinux)";
        CaptureError::kernel(action, error)
    })?;
    let known = |name: &str| name.is_empty() || has_type(&btf, name);
    let host = Host {
        recv_arguments: arguments(&btf, "tcp_recvmsg").unwrap_or(0),
        can_cast: known("bpf_rdonly_cast"),
        ..ask_own_thread(settings).unwrap_or_else(|| Host {
            own_tgid: std::process::id(),
            ..Host::default()
        })
    };
    let mut places = places.iter_mut();
    let mut refused = Vec::new();
    for Rung {
        backend,
        needed: programs,
        more,
    } in ladder(settings.backend)
    {
        if let Some(missing) = programs.iter().find(|program| !known(program.needs)) {
            refused.push(format!("{backend}: the kernel has no {}", missing.needs));
            continue;
        }
        if backend == Backend::Fexit && !(4..=6).contains(&host.recv_arguments) {
            let count = host.recv_arguments;
            refused.push(format!(
                "fexit: tcp_recvmsg has {count} arguments, not 4 to 6"
            ));
            continue;
        }
        let more = more
            .iter()
            .filter(|more| settings.unix_sockets || !more.name.starts_with("fexit_unix"));
        let (mut present, absent): (Vec<&Program>, Vec<&Program>) =
            more.partition(|more| known(more.needs));
        let missing = |program: &Program| format!("the kernel has no {}", program.needs);
        let mut absent: Vec<Feature> = absent
            .into_iter()
            .filter(|program| program.feature != SENDFILE)
            .map(|program| feature(program, missing(program)))
            .collect();
        // A backend's own program for a feature takes the place of the shared one.
        for shared in SHARED {
            if present.iter().any(|own| own.feature == shared.feature) {
                continue;
            }
            if shared.name.starts_with("uring_") && absent.iter().any(|lost| lost.feature == URING)
            {
                absent.push(feature(shared, format!("without {URING}")));
                continue;
            }
            if known(shared.needs) {
                present.push(shared);
                continue;
            }
            match instead(shared, known) {
                Ok(other) => present.push(other),
                Err(why) => absent.push(feature(shared, both_missing(missing(shared), why))),
            }
        }
        absent.retain(|absent| present.iter().all(|own| own.feature != absent.feature));
        let mut lost = absent;
        let mut names: Vec<&str> = programs.iter().map(|program| program.name).collect();
        let needed = names.clone();
        names.extend(present.iter().map(|shared| shared.name));
        let mut attempt = |names: &[&str]| match places.next() {
            Some(place) => open(settings, host, backend, names, place).and_then(OpenSkel::load),
            None => Err(std::io::Error::other("too many attempts").into()),
        };
        let mut skeleton = attempt(&names);
        if skeleton.is_err() && try_load(settings, host, backend, &needed).is_ok() {
            // One of the others is refused: ask for each alone.
            names = needed;
            for place in &mut present {
                let alone = |name| try_load(settings, host, backend, &[name]);
                let refused = match alone(place.name) {
                    Ok(()) => {
                        names.push(place.name);
                        continue;
                    }
                    Err(error) => error.to_string(),
                };
                let other = instead(place, known).and_then(|other| match alone(other.name) {
                    Ok(()) => Ok(other),
                    Err(error) => Err(Some(error.to_string())),
                });
                match other {
                    Ok(other) => {
                        *place = other;
                        names.push(other.name);
                    }
                    Err(why) => lost.push(feature(place, both_missing(refused, why))),
                }
            }
            skeleton = attempt(&names);
        }
        match skeleton {
            Ok(skeleton) => {
                let taken = present.iter().filter(|taken| names.contains(&taken.name));
                let status = status(settings.backend, backend, &refused, taken, lost);
                return Ok(Loaded {
                    skeleton,
                    links: Vec::new(),
                    status,
                });
            }
            Err(error) => refused.push(format!("{backend}: {error:#}")),
        }
    }
    let refused = refused.join("; ");
    Err(match settings.backend {
        BackendChoice::Auto => CaptureError::NoBackend(refused),
        _ => CaptureError::Refused(refused),
    })
}

/// What a capture with these settings can do on this machine. Nothing is attached.
pub fn features(settings: &CaptureSettings) -> Result<Status, CaptureError> {
    let mut places = [const { MaybeUninit::uninit() }; ATTEMPTS];
    load(settings, &mut places).map(|loaded| loaded.status)
}

fn status<'a>(
    choice: BackendChoice,
    backend: Backend,
    refused: &[String],
    taken: impl Iterator<Item = &'a &'static Program>,
    lost: Vec<Feature>,
) -> Status {
    let mut features = lost;
    let why = match (choice, refused.is_empty()) {
        (BackendChoice::Auto, true) => "the best one, and this kernel takes it".to_owned(),
        (BackendChoice::Auto, false) => refused.join("; "),
        _ => "asked for".to_owned(),
    };
    features.extend(taken.map(|program| feature(program, String::new())));
    // Either of them tells; without both the reason is that of the better one.
    let way = |name| features.iter().find(|one| one.feature == name).cloned();
    let (submits, shown) = (way(URING_SUBMITS), way(SENDS));
    let best = match shown {
        Some(shown) if shown.available => Some(shown),
        shown => submits.or(shown),
    };
    features.extend(best.map(|best| Feature {
        feature: URING_SENDS,
        ..best
    }));
    Status {
        backend,
        why,
        features,
    }
}

fn feature(program: &Program, reason: String) -> Feature {
    Feature {
        feature: program.feature,
        available: reason.is_empty(),
        reason,
    }
}

/// How many arguments a function of the kernel takes.
fn arguments(btf: &Btf<'_>, name: &str) -> Option<u32> {
    use libbpf_rs::ReferencesType as _;
    use libbpf_rs::btf::types::{Func, FuncProto};
    let function = btf.type_by_name::<Func<'_>>(name)?;
    let prototype: FuncProto<'_> = function.referenced_type().try_into().ok()?;
    u32::try_from(prototype.len()).ok()
}

fn has_type(btf: &Btf<'_>, name: &str) -> bool {
    use libbpf_rs::btf::types::{Func, Struct, Typedef};
    btf.type_by_name::<Typedef<'_>>(name).is_some()
        || btf.type_by_name::<Func<'_>>(name).is_some()
        || btf.type_by_name::<Struct<'_>>(name).is_some()
}

fn try_load(
    settings: &CaptureSettings,
    host: Host,
    backend: Backend,
    programs: &[&str],
) -> Result<(), libbpf_rs::Error> {
    let mut place = MaybeUninit::uninit();
    open(settings, host, backend, programs, &mut place)?
        .load()
        .map(drop)
}

/// Opens the object with the settings in its read-only data and only these programs to be loaded.
fn open<'obj>(
    settings: &CaptureSettings,
    host: Host,
    backend: Backend,
    programs: &[&str],
    place: &'obj mut MaybeUninit<OpenObject>,
) -> Result<crate::skeleton::OpenCaptureSkel<'obj>, libbpf_rs::Error> {
    let mut open = CaptureSkelBuilder::default().open(place)?;
    let ring = settings.ring_bytes();
    if let Some(data) = open.maps.rodata_data.as_deref_mut() {
        data.self_tgid = host.own_tgid;
        data.pid_namespace = host.pid_namespace;
        data.pid_level = host.pid_level;
        data.recv_arguments = host.recv_arguments;
        data.can_cast = host.can_cast;
        data.registers_offset = host.registers_offset;
        data.cgroup_version1 = cgroup::version1().map_or(0, cgroup::Version1::number);
        data.use_storage = backend != Backend::Syscall;
        if programs.contains(&"uring_copy_read")
            && let Ok(variables) = memory_map::variables()
        {
            data.page_offset_at = variables.page_offset;
            data.vmemmap_at = variables.page_structs;
        }
        data.capture_unknown = settings.capture_unknown;
        data.unix_sockets = settings.unix_sockets;
        let any_ports = !settings.ports_include.is_empty() || !settings.ports_exclude.is_empty();
        data.any_ports = any_ports;
        data.only_included_ports = !settings.ports_include.is_empty();
        data.close_at_destroy = programs.contains(&"tcp_destroy");
        data.copy_bytes = settings.copy_bytes.min(crate::abi::COPY_MAX);
        data.head_bytes = settings.head_bytes.min(crate::abi::COPY_MAX);
        let rule = &settings.heads;
        for (place, sign) in data.head_signs.iter_mut().zip(&rule.signs) {
            *place = u32::from_ne_bytes(*sign);
        }
        data.head_sign_count = rule.signs.len().min(HeadRule::SIGNS) as u32;
        [
            data.head_label,
            data.head_label_used,
            data.head_label_letters,
        ] = rule.label();
        data.head_label_length = rule.length_label.len() as u32;
        data.unknown_budget = settings.unknown_messages;
        data.ring_bytes = ring.into();
        // Each CPU and program counts on its own: less than the ring between two wake-ups on a few of them.
        data.wake_bytes = (64 << 10).min(u64::from(ring) / 8);
        data.rate_per_second = settings.cgroup_messages_per_second;
        data.rate_burst = settings.cgroup_messages_per_second;
    }
    open.maps.events.set_max_entries(ring)?;
    open.maps.scratches.set_max_entries(slots(backend))?;
    open.maps.connections.set_max_entries(match backend {
        Backend::Syscall => settings.connections.max(1),
        Backend::Socket | Backend::Fexit => 1,
    })?;
    if settings.ports_include.is_empty() && settings.ports_exclude.is_empty() {
        open.maps.ports.set_max_entries(1)?;
    }
    for mut program in open.open_object_mut().progs_mut() {
        let wanted = program
            .name()
            .to_str()
            .is_some_and(|name| programs.contains(&name));
        program.set_autoload(wanted);
    }
    Ok(open)
}

/// Attaches every loaded program that is attached at all; messages last, so that what they are about is known.
pub(crate) fn attach(loaded: &mut Loaded<'_>) -> Result<(), CaptureError> {
    let mut programs: Vec<_> = loaded
        .skeleton
        .object()
        .progs_mut()
        .filter(|program| {
            program.autoload() && program.name() != "who_calls" && program.name() != "existing_tcp"
        })
        .collect();
    programs.sort_by_key(|program| {
        let name = program.name().to_string_lossy();
        ["socket_", "fexit_", "syscall_", "uring_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    for program in programs {
        let link = program.attach().map_err(|error| {
            CaptureError::kernel(
                "attach a program",
                format!("{:?}: {error:#}", program.name()),
            )
        })?;
        loaded.links.push(link);
    }
    if let Some(data) = loaded.skeleton.maps.bss_data.as_deref_mut() {
        data.attached_at = crate::clock::since_boot();
    }
    Ok(())
}

/// What the agent's own thread tells: its thread group id and its pid namespace as the kernel counts, and where the kernel
/// keeps a program's registers.
fn ask_own_thread(settings: &CaptureSettings) -> Option<Host> {
    let mut place = MaybeUninit::uninit();
    let mut skeleton = open(
        settings,
        Host::default(),
        Backend::Socket,
        &["who_calls"],
        &mut place,
    )
    .ok()?
    .load()
    .ok()?;
    skeleton.maps.bss_data.as_deref_mut()?.caller_below = pid_namespace::levels_below_proc();
    skeleton
        .progs
        .who_calls
        .test_run(ProgramInput::default())
        .ok()?;
    skeleton.maps.bss_data.as_deref().map(|data| Host {
        own_tgid: data.caller_tgid,
        pid_namespace: match data.caller_pid_level {
            0 => 0,
            _ => data.caller_pid_namespace,
        },
        pid_level: data.caller_pid_level,
        registers_offset: data.caller_registers,
        ..Host::default()
    })
}
