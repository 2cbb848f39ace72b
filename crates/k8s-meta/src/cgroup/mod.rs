//! Where a process lives, read from the text of `/proc/<pid>/cgroup`.
//!
//! Paths are read from the right: the last container id is the one the process runs in, whatever node container,
//! slice or `/..` of a private cgroup namespace stands to the left of it.

mod segment;
mod unit;

use segment::Segment;
pub use unit::unescape_unit;

/// What manages the container, as far as its control group tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// containerd, through the CRI or by nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Docker Engine.
    Docker,
    /// LXC; the id is the container's name.
    Lxc,
    /// Podman.
    Podman,
}

impl Runtime {
    /// The name as `container.runtime.name` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Docker => "docker",
            Self::Lxc => "lxc",
            Self::Podman => "podman",
        }
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// 64 hexadecimal digits; the name with [`Runtime::Lxc`].
    pub id: String,
    /// The runtime, where the path names it.
    pub runtime: Option<Runtime>,
}

/// How the path names the pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PodRef {
    /// `metadata.uid` of the pod, with dashes.
    Uid(String),
    /// Static pods: the hash in the annotation `kubernetes.io/config.hash`, not the uid of any API object.
    ConfigHash(String),
}

impl PodRef {
    /// The uid or the hash.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Uid(text) | Self::ConfigHash(text) => text,
        }
    }
}

/// What kind of place the control group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A container.
    Container,
    /// A pod, but none of its containers.
    Pod,
    /// The monitor of a container (conmon, lxc-start): a process of the host, not a workload.
    Monitor,
    /// Neither container nor pod: a service, a user's session, a slice.
    Host,
    /// The root of the reader's cgroup namespace or something above it. For a reader in the host's namespace it is
    /// the host; otherwise the path hides where the process lives.
    #[default]
    Root,
}

/// Where a process lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    /// The kind of place.
    pub kind: Kind,
    /// The innermost container.
    pub container: Option<Container>,
    /// The pod around it.
    pub pod: Option<PodRef>,
    /// The innermost systemd service or scope, as systemd names it (still escaped). Inside a container it is a
    /// unit of that container's own systemd.
    pub unit: Option<String>,
}

impl Placement {
    /// The process belongs to the host: it will never appear in a pod's status.
    pub fn is_host(&self) -> bool {
        matches!(self.kind, Kind::Host | Kind::Monitor)
    }
}

/// Reads `/proc/<pid>/cgroup`: version 1, version 2 or both.
///
/// The controllers of version 1 may disagree (inside kind most of them stop at the node's container), so the line
/// that knows most counts.
pub fn parse(text: &str) -> Placement {
    let mut best: Option<(Rank, Placement)> = None;
    for (controllers, path) in text.lines().filter_map(split_line) {
        let (placement, containers) = place(path);
        let rank = Rank {
            knows: knows(&placement),
            containers,
            hierarchy: match controllers {
                "" => 2,
                "name=systemd" => 1,
                _ => 0,
            },
        };
        if best.as_ref().is_none_or(|(known, _)| rank > *known) {
            best = Some((rank, placement));
        }
    }
    best.map(|(_, placement)| placement).unwrap_or_default()
}

/// Reads one path of a control group.
pub fn parse_path(path: &str) -> Placement {
    place(path).0
}

/// The path in the version 2 hierarchy, to which the ids of control groups in events refer.
pub fn unified_path(text: &str) -> Option<&str> {
    text.lines()
        .filter_map(split_line)
        .find_map(|(controllers, path)| controllers.is_empty().then_some(path))
}

/// The path in the version 1 hierarchy of a controller.
pub fn controller_path<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(split_line)
        .find_map(|(controllers, path)| {
            let mut all = controllers.split(',');
            all.any(|one| one == controller).then_some(path)
        })
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    knows: u8,
    containers: usize,
    hierarchy: u8,
}

/// A monitor stands above all: none of its lines makes it a workload.
fn knows(placement: &Placement) -> u8 {
    match placement.kind {
        Kind::Monitor => 5,
        Kind::Container if placement.pod.is_some() => 4,
        Kind::Container => 3,
        Kind::Pod => 2,
        Kind::Host => 1 + u8::from(placement.unit.is_some()),
        Kind::Root => 0,
    }
}

/// `id:controllers:path`; only the first two colons separate, a path may contain more.
fn split_line(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.splitn(3, ':');
    let id = fields.next()?;
    let controllers = fields.next()?;
    let path = fields.next()?;
    let numbered = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    (numbered && path.starts_with('/')).then_some((controllers, path))
}

/// The placement and how many container ids the path holds.
fn place(path: &str) -> (Placement, usize) {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "." | ".."))
        .collect();
    let mut found = Placement {
        kind: if names.is_empty() {
            Kind::Root
        } else {
            Kind::Host
        },
        ..Placement::default()
    };
    let mut containers = 0;
    for (index, name) in names.iter().enumerate().rev() {
        let parent = index.checked_sub(1).and_then(|above| names.get(above));
        let (pod, segment) = segment::classify(name, parent.copied());
        match segment {
            Segment::Container(container) => {
                containers += 1;
                // To the left of a pod stand its node and what that runs in.
                if found.container.is_none() && matches!(found.kind, Kind::Host) {
                    let payload = name.starts_with("libpod-payload-");
                    found.unit = found.unit.take().or_else(|| {
                        // Podman under systemd: the service around the payload is the container's own.
                        parent
                            .filter(|_| payload)
                            .and_then(|above| unit::service_or_scope(above))
                    });
                    found.container = Some(container);
                    found.kind = Kind::Container;
                }
            }
            Segment::Monitor if matches!(found.kind, Kind::Host) => {
                found.kind = Kind::Monitor;
                found.unit = unit::service_or_scope(name);
            }
            Segment::Unit if matches!(found.kind, Kind::Host) && found.unit.is_none() => {
                found.unit = unit::service_or_scope(name);
            }
            Segment::Monitor | Segment::Unit | Segment::Other => {}
        }
        if let Some(pod) = pod.filter(|_| found.pod.is_none()) {
            if matches!(found.kind, Kind::Host) {
                found.kind = Kind::Pod;
            }
            found.pod = Some(pod);
        }
    }
    (found, containers)
}
