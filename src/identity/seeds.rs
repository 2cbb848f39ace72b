//! What a recording says of processes.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use foldhash::fast::RandomState;
use spandrel_k8s_meta::attributes::{Asked, Identity};
use spandrel_k8s_meta::owner::Kind;
use spandrel_model::recording::{RecordedIdentity, RecordedPod, RecordedWorkload};
use spandrel_model::{ProcessKey, Resource, UnixTime};

use super::instances::Instances;
use super::{Candidate, Known, PodOf};

/// The identities of the processes of a recording.
#[derive(Debug, Default)]
pub(super) struct Seeds(HashMap<ProcessKey, Of, RandomState>);

/// Those of one process, in the order in which they hold.
#[derive(Debug, Default)]
struct Of {
    seeds: VecDeque<Seed>,
    /// The one that holds now.
    now: usize,
    used: bool,
}

#[derive(Debug)]
struct Seed {
    recorded: RecordedIdentity,
    /// Made when it is asked for, so that the order of the file shows nowhere.
    made: Option<(Arc<Resource>, PodOf)>,
}

impl Seeds {
    pub(super) fn add(&mut self, recorded: RecordedIdentity) {
        let of = self.0.entry(recorded.process).or_default();
        of.seeds.push_back(Seed {
            recorded,
            made: None,
        });
    }

    /// The process executed a program: of those without a time, the next one counts.
    pub(super) fn started(&mut self, process: ProcessKey) {
        if let Some(of) = self.0.get_mut(&process)
            && of.used
            && of
                .seeds
                .get(1)
                .is_some_and(|next| next.recorded.since.is_none())
        {
            of.seeds.pop_front();
            of.used = false;
        }
    }

    /// Turns to the one that held at a time. Whether that is another one.
    pub(super) fn turn_to(&mut self, process: ProcessKey, at: UnixTime) -> bool {
        let Some(of) = self.0.get_mut(&process) else {
            return false;
        };
        let holds = |seed: &Seed| seed.recorded.since.is_some_and(|since| since <= at);
        let now = of.seeds.iter().rposition(holds).unwrap_or(0);
        std::mem::replace(&mut of.now, now) != now
    }

    /// What is known by the one that holds now.
    pub(super) fn known(
        &mut self,
        process: ProcessKey,
        instances: &mut Instances,
    ) -> Option<Known> {
        let of = self.0.get_mut(&process)?;
        of.used = true;
        let seed = of.seeds.get_mut(of.now)?;
        let (resource, pod) = seed.made.get_or_insert_with(|| {
            let attributes = std::mem::take(&mut seed.recorded.attributes);
            let pod = match seed.recorded.pod.take() {
                Some(pod) => PodOf::Pod(Arc::new(Identity::of_asked(asked(pod)))),
                None if seed.recorded.pod_unknown => PodOf::NotYet,
                None => PodOf::Nobody,
            };
            (instances.resource(attributes), pod)
        });
        let text = |key| resource.text(key);
        Some(Known {
            candidate: Candidate {
                process,
                executable: text("process.executable.path").map(|path| Path::new(path).to_owned()),
                container_id: text("container.id").map(str::to_owned),
                pod: pod.clone(),
                unread: false,
                gone: false,
            },
            resource: Arc::clone(resource),
            goroutines: None,
            placement: None,
            declared: Vec::new(),
            names_itself: false,
            in_container: None,
            in_pod: None,
            unsearched: false,
            unread: false,
        })
    }
}

fn asked(pod: RecordedPod) -> Asked {
    Asked {
        namespace: pod.namespace,
        container: pod.container,
        // A kind that this version does not know is no kind that a selector can name.
        workload: pod
            .workload
            .and_then(|it| Some((Kind::of_name(&it.kind)?, it.name))),
        labels: pod.labels,
        annotations: pod.annotations,
    }
}

/// What is recorded of a process from a time on.
pub(crate) fn recorded(
    process: ProcessKey,
    since: UnixTime,
    resource: &Resource,
    pod: &PodOf,
) -> RecordedIdentity {
    let known = match pod {
        PodOf::Pod(identity) => Some(identity.asked()),
        PodOf::Nobody | PodOf::NotYet => None,
    };
    RecordedIdentity {
        process,
        since: Some(since),
        attributes: resource.attributes().to_vec(),
        pod: known.map(|asked| RecordedPod {
            namespace: asked.namespace,
            container: asked.container,
            workload: asked.workload.map(|(kind, name)| RecordedWorkload {
                kind: kind.name().to_owned(),
                name,
            }),
            labels: asked.labels,
            annotations: asked.annotations,
        }),
        pod_unknown: matches!(pod, PodOf::NotYet),
    }
}
