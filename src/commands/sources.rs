//! Whom a run asks what its processes are: `/proc`, the API server, and the runtimes of containers.

use std::sync::Arc;

use spandrel_config::Config;
use spandrel_container_runtime::{Counters, Names};
use spandrel_exporter::self_telemetry::SelfTelemetry;
use spandrel_exporter::self_telemetry::catalogue::{Entry, Kind};

use super::{Watching, say_counts};
use crate::identity::{Identities, Reads};
use crate::{kubernetes, settings, standard_error};

const OUTCOME: &str = "spandrel.container_runtime.outcome";
const QUESTIONS: Entry = Entry {
    name: "spandrel.container_runtime.questions",
    kind: Kind::Counter,
    unit: "{question}",
    attributes: &[OUTCOME],
    description: "Questions to container runtimes, one for each container, by how they ended.",
};

const READ: &str = "spandrel.identity.outcome";
const READS: Entry = Entry {
    name: "spandrel.identity.reads",
    kind: Kind::Counter,
    unit: "{read}",
    attributes: &[READ],
    description: "Looks at processes in /proc, by how they ended; `unanswered` counts what was told without waiting longer for one.",
};

const LOST_LINES: Entry = Entry {
    name: "spandrel.log.lost",
    kind: Kind::Counter,
    unit: "{line}",
    attributes: &[],
    description: "Lines of the log that were lost because nobody read standard error.",
};

/// What the configuration, and the machine, allow of all of them.
pub(super) struct Sources {
    pub(super) identities: Identities,
    pub(super) pods: Option<Watching>,
    pub(super) containers: Option<Names>,
}

impl Sources {
    /// Starts to watch pods. Container runtimes are asked when a container is seen.
    pub(super) fn start(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            identities: settings::identities(config, true),
            pods: Watching::start(config)?,
            containers: settings::containers(config).map(Names::new),
        })
    }

    /// Tells in the agent's own metrics how that goes.
    pub(super) fn observe(&self, own: &SelfTelemetry) {
        if let Some(watching) = &self.pods {
            kubernetes::observe(
                own,
                &watching.outcomes(),
                watching.kubernetes.peer_outcomes().as_ref(),
            );
        }
        own.observe_counts(&LOST_LINES, |tell| tell(standard_error::lost(), &[]));
        let reads = self.identities.reads();
        own.observe_counts(&READS, move |tell| {
            for (outcome, count) in reads.snapshot() {
                tell(count, &[(READ, outcome)]);
            }
        });
        if let Some(names) = &self.containers {
            let counters = names.counters();
            own.observe_counts(&QUESTIONS, move |tell| {
                for (outcome, count) in counters.snapshot() {
                    tell(count, &[(OUTCOME, outcome)]);
                }
            });
        }
    }
}

/// How questions in this run ended. A machine without a runtime has nothing to tell.
pub(super) fn say_asked(counters: &Arc<Counters>) {
    let asked = counters.snapshot();
    if asked.keys().any(|reason| *reason != "no_socket") {
        say_counts("container runtimes: containers asked about", &asked);
    }
}

/// How looks at processes in this run ended, where something was told without one, or with less than it tells.
pub(super) fn say_read(reads: &Reads) {
    let read = reads.snapshot();
    let less = ["unanswered", "busy", "executable_passed", "memory_passed"];
    if less.iter().any(|outcome| read.contains_key(outcome)) {
        say_counts("processes: looks at them", &read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_these_metrics_as_they_are() {
        let text = include_str!("../../docs/self-telemetry.md");
        for row in [QUESTIONS.row(), READS.row(), LOST_LINES.row()] {
            assert!(
                text.lines().any(|line| line == row),
                "it should have:\n{row}"
            );
        }
    }
}
