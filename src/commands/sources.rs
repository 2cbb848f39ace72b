//! Whom a run asks what its processes are: the API server, and the runtimes of containers.

use std::sync::Arc;

use spandrel_config::Config;
use spandrel_container_runtime::{Counters, Names};
use spandrel_exporter::self_telemetry::SelfTelemetry;
use spandrel_exporter::self_telemetry::catalogue::{Entry, Kind};

use super::{Watching, say_counts};
use crate::{kubernetes, settings};

const OUTCOME: &str = "spandrel.container_runtime.outcome";
const QUESTIONS: Entry = Entry {
    name: "spandrel.container_runtime.questions",
    kind: Kind::Counter,
    unit: "{question}",
    attributes: &[OUTCOME],
    description: "Questions to container runtimes, one for each container, by how they ended.",
};

/// What the configuration, and the machine, allow of both.
pub(super) struct Sources {
    pub(super) pods: Option<Watching>,
    pub(super) containers: Option<Names>,
}

impl Sources {
    /// Starts to watch pods. Container runtimes are asked when a container is seen.
    pub(super) fn start(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_metric_of_container_runtimes_as_it_is() {
        let text = include_str!("../../docs/self-telemetry.md");
        let row = QUESTIONS.row();
        assert!(
            text.lines().any(|line| line == row),
            "it should have:\n{row}"
        );
    }
}
