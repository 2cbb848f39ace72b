//! What selectors say of one process, as far as it does not depend on what comes later: the ports of a connection, and
//! what is not known of the process yet.

use std::ops::RangeInclusive;

/// Whether a process, or one of its connections, is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Allow,
    /// It is not.
    Deny,
    /// A selector names what is not known of it yet.
    Wait,
    /// The ports of each connection decide, or are not known.
    ByPort,
}

/// A selector whose conditions on the process hold, or may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which one of its list.
    pub(super) at: usize,
    /// The ports for which it holds; `None`: whatever the ports.
    pub(super) ports: Option<RangeInclusive<u16>>,
    /// Whether all is known that it asks of the process.
    pub(super) known: bool,
}

#[derive(PartialEq)]
enum Holds {
    No,
    Yes,
    IfKnown,
    IfPort,
}

impl Condition {
    fn holds(&self, ports: Option<&[u16]>) -> Holds {
        let at_port = match (&self.ports, ports) {
            (None, _) => Some(true),
            (Some(wanted), Some(ports)) => Some(ports.iter().any(|port| wanted.contains(port))),
            (Some(_), None) => None,
        };
        match at_port {
            Some(false) => Holds::No,
            _ if !self.known => Holds::IfKnown,
            Some(true) => Holds::Yes,
            None => Holds::IfPort,
        }
    }
}

/// The selectors that are left for one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub(super) exclude: Vec<Condition>,
    pub(super) include: Vec<Condition>,
    /// There is no include selector: what is not excluded is seen.
    pub(super) all: bool,
}

/// The selector that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Exclude(usize),
    Include(usize),
    Neither,
}

impl Rules {
    /// Decides about a connection with these ports, or with `None` about all connections at once.
    pub fn decide(&self, ports: Option<&[u16]>) -> Verdict {
        self.decide_for(ports).0
    }

    pub(super) fn decide_for(&self, ports: Option<&[u16]>) -> (Verdict, Cause) {
        let find = |list: &[Condition], holds| {
            let found = list
                .iter()
                .find(|condition| condition.holds(ports) == holds);
            found.map(|condition| condition.at)
        };
        if let Some(at) = find(&self.exclude, Holds::Yes) {
            return (Verdict::Deny, Cause::Exclude(at));
        }
        let included = find(&self.include, Holds::Yes);
        let if_known = find(&self.include, Holds::IfKnown);
        let by_port = find(&self.include, Holds::IfPort);
        if !self.all && included.or(if_known).or(by_port).is_none() {
            return (Verdict::Deny, Cause::Neither);
        }
        let unknown = match find(&self.exclude, Holds::IfKnown) {
            Some(at) => Some(Cause::Exclude(at)),
            None => if_known.filter(|_| included.is_none()).map(Cause::Include),
        };
        if let Some(cause) = unknown {
            return (Verdict::Wait, cause);
        }
        if let Some(at) = find(&self.exclude, Holds::IfPort) {
            return (Verdict::ByPort, Cause::Exclude(at));
        }
        match (included, by_port) {
            (Some(at), _) => (Verdict::Allow, Cause::Include(at)),
            (None, Some(at)) => (Verdict::ByPort, Cause::Include(at)),
            (None, None) => (Verdict::Allow, Cause::Neither),
        }
    }
}
