//! What the agent's own metrics say of pods.

use std::sync::Arc;

use spandrel_exporter::self_telemetry::catalogue::{Entry, Kind};
use spandrel_exporter::self_telemetry::{SelfTelemetry, Tell};
use spandrel_k8s_meta::watch::{Figures, Reason};

use super::peers::{PeerOutcomes, PeerSnapshot};
use super::{Outcomes, Snapshot};

/// Each with what it reads.
macro_rules! entries {
    ($($constant:ident: $kind:ident, $name:literal, $unit:literal, $attributes:expr, $description:literal;)*) => {
        $(
            const $constant: Entry = Entry {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                attributes: $attributes,
                description: $description,
            };
        )*
        /// All of them, in the order of the documentation.
        #[cfg(test)]
        const ALL: &[Entry] = &[$($constant),*];
    };
}

const OUTCOME: &str = "spandrel.kubernetes.outcome";
const VERB: &str = "spandrel.kubernetes.verb";
const ERROR: &str = "error.type";
/// Which watches: those of the own node's pods, or those of the whole cluster for peers.
const SCOPE: &str = "spandrel.kubernetes.scope";

entries! {
    LOOKUPS: Counter, "spandrel.kubernetes.lookups", "{span}", &[OUTCOME],
        "Spans by how the look-up of their pod ended.";
    HELD: UpDownCounter, "spandrel.kubernetes.held", "{span}", &[],
        "Spans that wait for their pod.";
    PODS: UpDownCounter, "spandrel.kubernetes.pods", "{pod}", &[],
        "Pods that are known, those that are gone but still answer among them.";
    REFUSED: Counter, "spandrel.kubernetes.pods.refused", "{pod}", &[],
        "Changes of pods that were not taken in, as there are max_pods already.";
    OVERSIZED: Counter, "spandrel.kubernetes.metadata.oversized", "{item}", &[],
        "Labels and annotations left out for their size or number, each time that a pod was told.";
    PEER_LOOKUPS: Counter, "spandrel.kubernetes.peer.lookups", "{span}", &[OUTCOME],
        "Spans by how the look-up of their other end ended.";
    PEER_OBJECTS: UpDownCounter, "spandrel.kubernetes.peer.objects", "{object}", &[],
        "Pods, Services and nodes of the cluster that are known.";
    PEER_REFUSED: Counter, "spandrel.kubernetes.peer.refused", "{object}", &[],
        "Changes of them that were not taken in, as there are max_objects already.";
    REQUESTS: Counter, "spandrel.kubernetes.watch.requests", "{request}", &[SCOPE, VERB],
        "Requests to the API server.";
    BYTES: Counter, "spandrel.kubernetes.watch.bytes", "By", &[SCOPE],
        "Bytes of the API server's answers.";
    CHANGES: Counter, "spandrel.kubernetes.watch.changes", "{change}", &[SCOPE],
        "Objects that came, changed or went.";
    LISTS: Counter, "spandrel.kubernetes.watch.lists", "{list}", &[SCOPE],
        "Lists that were begun, as streams or in pages.";
    FAILURES: Counter, "spandrel.kubernetes.watch.failures", "{failure}", &[SCOPE, ERROR],
        "Requests that failed; the watch goes on after each.";
    LAG: Gauge, "spandrel.kubernetes.watch.lag", "s", &[],
        "From the last start of a container until its status was here, in whole seconds.";
}

/// Tells all of it from now on; of peers where they are looked up.
pub fn observe(own: &SelfTelemetry, outcomes: &Arc<Outcomes>, peers: Option<&Arc<PeerOutcomes>>) {
    observe_pods(own, outcomes);
    if let Some(peers) = peers {
        observe_peers(own, peers);
    }
    let watches = Watches {
        node: Arc::clone(outcomes),
        cluster: peers.cloned(),
    };
    observe_watches(own, &watches);
    let of = Arc::clone(outcomes);
    own.observe_seconds(&LAG, move |tell| {
        if let Some(lag) = of.figures().and_then(|now| now.lag_ms) {
            tell(lag as f64 / 1e3, &[]);
        }
    });
}

fn observe_pods(own: &SelfTelemetry, outcomes: &Arc<Outcomes>) {
    counts(own, &LOOKUPS, outcomes, |now, tell| {
        for (outcome, count) in now.by_reason {
            tell(count, &[(OUTCOME, outcome)]);
        }
    });
    counts(own, &HELD, outcomes, |now, tell| tell(now.held, &[]));
    counts(own, &PODS, outcomes, |now, tell| {
        tell(u64::try_from(now.pods).unwrap_or(u64::MAX), &[]);
    });
    counts(own, &REFUSED, outcomes, |now, tell| tell(now.refused, &[]));
    counts(own, &OVERSIZED, outcomes, |now, tell| {
        tell(now.oversized, &[]);
    });
}

fn observe_peers(own: &SelfTelemetry, peers: &Arc<PeerOutcomes>) {
    let of_peers = |entry, read: fn(PeerSnapshot, &mut Tell<'_, u64>)| {
        let peers = Arc::clone(peers);
        own.observe_counts(entry, move |tell| read(peers.snapshot(), tell));
    };
    of_peers(&PEER_LOOKUPS, |now, tell| {
        for (outcome, count) in now.by_reason {
            tell(count, &[(OUTCOME, outcome)]);
        }
    });
    of_peers(&PEER_OBJECTS, |now, tell| {
        tell(u64::try_from(now.objects).unwrap_or(u64::MAX), &[]);
    });
    of_peers(&PEER_REFUSED, |now, tell| tell(now.refused, &[]));
}

/// Whose figures are told.
#[derive(Clone)]
struct Watches {
    node: Arc<Outcomes>,
    cluster: Option<Arc<PeerOutcomes>>,
}

impl Watches {
    fn each(&self, mut tell: impl FnMut(&'static str, Figures)) {
        if let Some(now) = self.node.figures() {
            tell("node", now);
        }
        if let Some(peers) = &self.cluster {
            tell("cluster", peers.figures());
        }
    }
}

fn observe_watches(own: &SelfTelemetry, watches: &Watches) {
    figures(own, &REQUESTS, watches, |scope, now, tell| {
        for (verb, count) in [
            ("list", now.lists),
            ("watch", now.watches),
            ("get", now.gets),
        ] {
            tell(count, &[(SCOPE, scope), (VERB, verb)]);
        }
    });
    figures(own, &BYTES, watches, |scope, now, tell| {
        tell(now.bytes, &[(SCOPE, scope)]);
    });
    figures(own, &CHANGES, watches, |scope, now, tell| {
        tell(now.events, &[(SCOPE, scope)]);
    });
    figures(own, &LISTS, watches, |scope, now, tell| {
        tell(now.relists, &[(SCOPE, scope)]);
    });
    figures(own, &FAILURES, watches, |scope, now, tell| {
        for reason in Reason::ALL {
            match now.failed(reason) {
                0 => {}
                count => tell(count, &[(SCOPE, scope), (ERROR, reason.as_str())]),
            }
        }
    });
}

fn counts(
    own: &SelfTelemetry,
    entry: &Entry,
    outcomes: &Arc<Outcomes>,
    read: fn(Snapshot, &mut Tell<'_, u64>),
) {
    let outcomes = Arc::clone(outcomes);
    own.observe_counts(entry, move |tell| read(outcomes.snapshot(), tell));
}

fn figures(
    own: &SelfTelemetry,
    entry: &Entry,
    watches: &Watches,
    read: fn(&'static str, Figures, &mut Tell<'_, u64>),
) {
    let watches = watches.clone();
    own.observe_counts(entry, move |tell| {
        watches.each(|scope, now| read(scope, now, tell));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_metric_of_pods_as_it_is() {
        let text = include_str!("../../docs/self-telemetry.md");
        let documented: Vec<&str> = text
            .lines()
            .skip_while(|line| *line != "## Pods")
            .skip_while(|line| !line.starts_with("| metric"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let expected: Vec<String> = ALL.iter().map(Entry::row).collect();
        assert_eq!(
            documented,
            expected,
            "the table should be:\n{}",
            expected.join("\n")
        );
    }
}
