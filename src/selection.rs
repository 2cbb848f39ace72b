//! Which messages are captured: the selectors' answer, remembered for each process.

use spandrel_model::{ConnectionId, ConnectionOpened, Measured, ProcessKey, UnixTime};

use crate::identity::{Candidate, Identities, PodOf};
use crate::recent::Recent;
use crate::selectors::{Rules, Selectors, Verdict};

/// Processes whose rules are remembered; those of another one are made again when it is seen again.
const MAX_PROCESSES: usize = 16_384;

/// Decides once for each process; where selectors name ports, for each of its connections by what is left of them.
pub struct Selection {
    selectors: Selectors,
    by_pod: bool,
    by_port: bool,
    by_program: bool,
    ruled: Recent<ProcessKey, Ruled>,
    ports: Recent<ConnectionId, Vec<u16>>,
}

/// What holds of a process.
#[derive(Clone)]
struct Ruled {
    rules: Rules,
    /// Of all its connections.
    verdict: Verdict,
    /// While its pod is this one.
    pod: PodOf,
    /// Nobody has read yet what the process is.
    unread: bool,
    /// That was so before: messages were let through.
    was_unread: bool,
    /// It was gone before that could be read: its rules if it might be anything.
    gone: Option<Rules>,
}

impl Ruled {
    /// Why it is left out at these ports.
    fn denied(&self, ports: Option<&[u16]>) -> &'static str {
        match &self.gone {
            Some(rules) if rules.decide(ports) == Verdict::Wait => "selection.process_gone",
            _ => "selection.denied",
        }
    }
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Why the message is not captured; `None` if it is.
    pub left_out: Option<&'static str>,
    /// What the kernel side should hear of the whole process: it is new.
    pub tell_kernel: Option<bool>,
}

/// Whether what was measured of a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is.
    Yes,
    /// It is not, for this reason.
    No(&'static str),
    /// Nothing is known of its pod yet.
    NotYet,
}

/// What the kernel side does with a process. It captures an undecided one within its bounds.
fn word(verdict: Verdict) -> Option<bool> {
    match verdict {
        Verdict::Allow | Verdict::ByPort => Some(true),
        Verdict::Deny => Some(false),
        Verdict::Wait => None,
    }
}

impl Selection {
    /// Decides by `selectors`, about at most so many connections at a time where these name ports.
    pub fn new(selectors: Selectors, max_connections: usize) -> Self {
        Self {
            by_pod: selectors.depend_on_pods(),
            by_port: selectors.depend_on_ports(),
            by_program: selectors.depend_on_programs(),
            selectors,
            ruled: Recent::new(MAX_PROCESSES),
            ports: Recent::new(max_connections),
        }
    }

    /// Remembers a connection's ports, where selectors ask for them.
    pub fn opened(&mut self, opened: &ConnectionOpened) {
        if self.by_port {
            let ports = [opened.local.port(), opened.peer.port()];
            let ports = ports.into_iter().flatten().collect();
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
        let mut tell_kernel = None;
        let known = self.ruled.get(&process);
        // News of its pod come by themselves, but in a recording they come with the time.
        let settled = known.as_ref().is_some_and(|known| {
            known.verdict != Verdict::Wait && !(self.by_pod && identities.are_recorded())
        });
        if !settled {
            let before = known.and_then(|known| word(known.verdict));
            identities.in_group(process, cgroup);
            let after = self.rule(process, identities, at);
            tell_kernel = word(after).filter(|after| before != Some(*after));
        }
        let left_out = match (self.ruled.get(&process), connection) {
            (Some(ruled), Some(connection)) => match ruled.verdict {
                Verdict::Allow | Verdict::Wait => None,
                Verdict::Deny => Some(ruled.denied(None)),
                Verdict::ByPort => {
                    let ports = self.ports.get(&connection).map(|ports| &**ports);
                    match ruled.rules.decide(ports) {
                        // Captured, and told only when its pod is known.
                        Verdict::Allow | Verdict::Wait => None,
                        Verdict::Deny => Some(ruled.denied(ports)),
                        Verdict::ByPort => Some("selection.ports_unknown"),
                    }
                }
            },
            _ => None,
        };
        Answer {
            left_out,
            tell_kernel,
        }
    }

    /// The process was read: what the kernel side should hear of it, if that is new.
    pub fn read(
        &mut self,
        process: ProcessKey,
        identities: &mut Identities,
        at: UnixTime,
    ) -> Option<bool> {
        let before = self.heard(process);
        let after = word(self.rule(process, identities, at));
        after.filter(|after| before != Some(*after))
    }

    /// Whether what was measured of a process is told, where that depends on its pod, or on what it is: messages were let
    /// through while nothing was known of it.
    pub fn told(&mut self, one: &Measured, identities: &mut Identities) -> Told {
        let span = &one.span;
        let pod = if self.by_pod {
            identities.in_group(span.process, span.cgroup);
            identities.pod_of(span.process, span.end)
        } else if self.by_program && !identities.are_recorded() {
            PodOf::Nobody
        } else {
            return Told::Yes;
        };
        let ports: Vec<u16> = one.ports.into_iter().flatten().collect();
        let (verdict, denied) = match self.ruled.get(&span.process) {
            // Nothing was let through that its verdict did not let through.
            Some(ruled) if !self.by_pod && !ruled.unread && !ruled.was_unread => return Told::Yes,
            Some(ruled) if ruled.pod == pod && !ruled.unread => {
                (ruled.rules.decide(Some(&ports)), ruled.denied(Some(&ports)))
            }
            // What held at its time is not what holds of its process now.
            _ => {
                let ruled = Self::ruling(&self.selectors, span.process, pod, identities);
                (ruled.rules.decide(Some(&ports)), ruled.denied(Some(&ports)))
            }
        };
        match verdict {
            Verdict::Allow => Told::Yes,
            Verdict::Wait => Told::NotYet,
            Verdict::Deny | Verdict::ByPort => Told::No(denied),
        }
    }

    /// Whether the spans of another process are told that has the same connection: one of them may be the parent.
    pub fn tells(
        &mut self,
        caller: ProcessKey,
        one: &Measured,
        identities: &mut Identities,
    ) -> Told {
        if !self.by_pod && !self.by_program {
            return Told::Yes;
        }
        let pod = match self.by_pod {
            true => identities.pod_of(caller, one.span.end),
            false => PodOf::Nobody,
        };
        let ports: Vec<u16> = one.ports.into_iter().flatten().collect();
        let known = self.ruled.get(&caller);
        let ruled = match known.filter(|ruled| ruled.pod == pod && !ruled.unread) {
            Some(ruled) => ruled.rules.decide(Some(&ports)),
            None => Self::ruling(&self.selectors, caller, pod, identities)
                .rules
                .decide(Some(&ports)),
        };
        match ruled {
            Verdict::Allow => Told::Yes,
            Verdict::Wait => Told::NotYet,
            Verdict::Deny | Verdict::ByPort => Told::No("selection.denied"),
        }
    }

    /// What the kernel side should hear of a process whose events still wait, if it is this; its pod is not looked for yet.
    pub fn foresee(&self, candidate: Candidate) -> Option<bool> {
        let pod = match self.by_pod && candidate.container_id.is_some() {
            true => PodOf::NotYet,
            false => candidate.pod,
        };
        let candidate = Candidate { pod, ..candidate };
        word(self.selectors.rules(&candidate).decide(None))
    }

    /// What the kernel side has heard of a process, if that still holds.
    pub fn heard(&mut self, process: ProcessKey) -> Option<bool> {
        self.ruled
            .get(&process)
            .and_then(|ruled| word(ruled.verdict))
    }

    /// Whether a process is captured, on all of its connections or on some.
    pub fn is_captured(&mut self, process: ProcessKey) -> bool {
        self.heard(process) == Some(true)
    }

    /// There are news of pods: decides anew where a process' pod is another one than before, because it is known now or its
    /// labels are others. What the kernel side should hear of that.
    pub fn look_again(
        &mut self,
        identities: &mut Identities,
        at: UnixTime,
    ) -> Vec<(ProcessKey, bool)> {
        if !self.by_pod {
            return Vec::new();
        }
        let mut news = Vec::new();
        for (process, ruled) in self.ruled.iter_mut() {
            let pod = identities.pod_of(*process, at);
            if pod == ruled.pod {
                continue;
            }
            let before = word(ruled.verdict);
            *ruled = Ruled {
                was_unread: ruled.unread || ruled.was_unread,
                ..Self::ruling(&self.selectors, *process, pod, identities)
            };
            if let Some(allow) = word(ruled.verdict).filter(|after| before != Some(*after)) {
                news.push((*process, allow));
            }
        }
        news
    }

    /// The process executed another program or is gone.
    pub fn forget(&mut self, process: ProcessKey) {
        self.ruled.remove(&process);
    }

    /// Finds out what holds of a process at a time, unless that is known.
    fn rule(&mut self, process: ProcessKey, identities: &mut Identities, at: UnixTime) -> Verdict {
        identities.as_of(process, at);
        let pod = match self.by_pod {
            true => identities.pod_of(process, at),
            false => PodOf::Nobody,
        };
        let known = self.ruled.get(&process);
        if let Some(ruled) = &known
            && ruled.pod == pod
            && !ruled.unread
        {
            return ruled.verdict;
        }
        let was_unread = known.is_some_and(|it| it.unread || it.was_unread);
        let ruled = Ruled {
            was_unread,
            ..Self::ruling(&self.selectors, process, pod, identities)
        };
        let verdict = ruled.verdict;
        self.ruled.insert(process, ruled);
        verdict
    }

    fn ruling(
        selectors: &Selectors,
        process: ProcessKey,
        pod: PodOf,
        identities: &mut Identities,
    ) -> Ruled {
        let candidate = Candidate {
            pod: pod.clone(),
            ..identities.decide(process)
        };
        let rules = selectors.rules(&candidate);
        let gone = candidate.gone.then(|| {
            selectors.rules(&Candidate {
                unread: true,
                ..candidate.clone()
            })
        });
        Ruled {
            gone,
            verdict: rules.decide(None),
            rules,
            pod,
            unread: candidate.unread,
            was_unread: false,
        }
    }
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
