//! Which messages are captured: the selectors' answer, remembered for each process.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use spandrel_model::{ConnectionId, ConnectionOpened, ProcessKey};

use crate::identity::Identities;
use crate::selectors::{Selectors, Verdict};

/// Answers, and connections' ports, remembered; after that many the memory starts afresh.
const MAX_REMEMBERED: usize = 65_536;

/// Decides once for each process, or for each process and connection where selectors name ports.
pub struct Selection {
    selectors: Selectors,
    decided: HashMap<(ProcessKey, Option<ConnectionId>), bool, RandomState>,
    ports: HashMap<ConnectionId, Vec<u16>, RandomState>,
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

impl Selection {
    /// Decides by `selectors`.
    pub fn new(selectors: Selectors) -> Self {
        Self {
            selectors,
            decided: HashMap::default(),
            ports: HashMap::default(),
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

    /// Whether a message of this process on this connection is captured.
    pub fn decide(
        &mut self,
        process: ProcessKey,
        connection: Option<ConnectionId>,
        identities: &mut Identities,
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
        let decision = self.selectors.decide(
            &identities.decide(process),
            ports.map_or(&[], Vec::as_slice),
        );
        let allow = decision.verdict == Verdict::Allow;
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

    /// The process executed another program or is gone.
    pub fn forget(&mut self, process: ProcessKey) {
        if self.selectors.depend_on_ports() {
            self.decided.retain(|(known, _), _| *known != process);
        } else {
            self.decided.remove(&(process, None));
        }
    }
}
