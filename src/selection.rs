//! Which messages are captured: the selectors' answer, remembered for each process.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use spandrel_model::{ConnectionId, ConnectionOpened, ProcessKey, SpanRecord, UnixTime, Value};

use crate::identity::{Candidate, Identities, PodOf};
use crate::selectors::{Selectors, Verdict};

/// Answers, and connections' ports, remembered; after that many the memory starts afresh.
const MAX_REMEMBERED: usize = 65_536;

/// Decides once for each process, or for each process and connection where selectors name ports.
pub struct Selection {
    selectors: Selectors,
    decided: HashMap<(ProcessKey, Option<ConnectionId>), bool, RandomState>,
    ports: HashMap<ConnectionId, Vec<u16>, RandomState>,
    /// What was decided of a process while its pod was this one.
    by_pod: HashMap<ProcessKey, (PodOf, Verdict), RandomState>,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the message is captured.
    pub allow: bool,
    /// The kernel side should hear it: it is new and holds for the whole process.
    pub tell_kernel: bool,
    /// It is new.
    pub first: bool,
}

/// Whether what was measured of a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Nothing is known of its pod yet.
    NotYet,
}

impl Selection {
    /// Decides by `selectors`.
    pub fn new(selectors: Selectors) -> Self {
        Self {
            selectors,
            decided: HashMap::default(),
            ports: HashMap::default(),
            by_pod: HashMap::default(),
        }
    }

    /// Remembers a connection's ports, where selectors ask for them.
    pub fn opened(&mut self, opened: &ConnectionOpened) {
        if self.selectors.depend_on_ports() {
            if self.ports.len() >= MAX_REMEMBERED {
                self.ports.clear();
            }
            let ports = [opened.local.port(), opened.peer.port()]
                .into_iter()
                .flatten()
                .collect();
            self.ports.insert(opened.connection, ports);
        }
    }

    /// The connection is gone.
    pub fn closed(&mut self, connection: ConnectionId) {
        self.ports.remove(&connection);
    }

    /// Whether a message of this process, in the control group of this id (0 if unknown), on this connection is captured.
    pub fn decide(
        &mut self,
        process: ProcessKey,
        cgroup: u64,
        connection: Option<ConnectionId>,
        identities: &mut Identities,
        at: UnixTime,
    ) -> Answer {
        let by_port = self.selectors.depend_on_ports();
        let key = (process, connection.filter(|_| by_port));
        if let Some(allow) = self.decided.get(&key) {
            return Answer {
                allow: *allow,
                tell_kernel: false,
                first: false,
            };
        }
        let ports = connection.and_then(|connection| self.ports.get(&connection));
        let ports = ports.cloned().unwrap_or_default();
        let allow = match self.verdict(process, cgroup, &ports, identities, at) {
            Verdict::Allow => true,
            Verdict::Deny => false,
            // Captured within the kernel side's bounds, and told only when its pod is known.
            Verdict::Wait => {
                return Answer {
                    allow: true,
                    tell_kernel: false,
                    first: false,
                };
            }
        };
        if self.decided.len() >= MAX_REMEMBERED {
            self.decided.clear();
        }
        self.decided.insert(key, allow);
        Answer {
            allow,
            tell_kernel: !by_port,
            first: true,
        }
    }

    /// Whether what was measured of a process is told, where that depends on its pod: messages were let through while
    /// nothing was known of it.
    pub fn told(&mut self, span: &SpanRecord, identities: &mut Identities) -> Told {
        if !self.selectors.depend_on_pods() {
            return Told::Yes;
        }
        let ports = match self.selectors.depend_on_ports() {
            true => ports_of(span),
            false => Vec::new(),
        };
        match self.verdict(span.process, span.cgroup, &ports, identities, span.end) {
            Verdict::Allow => Told::Yes,
            Verdict::Deny => Told::No,
            Verdict::Wait => Told::NotYet,
        }
    }

    /// Decides anew where the pod is another one than before: its labels may be others, or it is known now.
    fn verdict(
        &mut self,
        process: ProcessKey,
        cgroup: u64,
        ports: &[u16],
        identities: &mut Identities,
        at: UnixTime,
    ) -> Verdict {
        identities.in_group(process, cgroup);
        identities.as_of(process, at);
        let by_pod = self.selectors.depend_on_pods();
        let pod = match by_pod {
            true => identities.pod_of(process, at),
            false => PodOf::Nobody,
        };
        let remember = by_pod && !self.selectors.depend_on_ports();
        if remember
            && let Some((known, verdict)) = self.by_pod.get(&process)
            && *known == pod
        {
            return *verdict;
        }
        let candidate = Candidate {
            pod: pod.clone(),
            ..identities.decide(process)
        };
        let verdict = self.selectors.decide(&candidate, ports).verdict;
        if remember {
            if self.by_pod.len() >= MAX_REMEMBERED {
                self.by_pod.clear();
            }
            self.by_pod.insert(process, (pod, verdict));
        }
        verdict
    }

    /// The process executed another program or is gone.
    pub fn forget(&mut self, process: ProcessKey) {
        self.by_pod.remove(&process);
        if self.selectors.depend_on_ports() {
            self.decided.retain(|(known, _), _| *known != process);
        } else {
            self.decided.remove(&(process, None));
        }
    }
}

/// The ports that a span names, for selectors.
fn ports_of(span: &SpanRecord) -> Vec<u16> {
    [
        "server.port",
        "client.port",
        "network.local.port",
        "network.peer.port",
    ]
    .into_iter()
    .filter_map(|key| match span.attribute(key) {
        Some(Value::I64(port)) => u16::try_from(*port).ok(),
        _ => None,
    })
    .collect()
}
