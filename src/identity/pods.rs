//! Identity from Kubernetes: the pod around a process, joined by the container of its control group.

use std::sync::Arc;

use spandrel_k8s_meta::attributes::Identity;
use spandrel_k8s_meta::store::Lookup;
use spandrel_model::{Attribute, ProcessKey, Resource, UnixTime};

use super::Identities;
use super::environment::Declared;
use crate::kubernetes::Kubernetes;

/// Whose something is.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Of this resource.
    Known(Arc<Resource>),
    /// Of a pod of which nothing is known yet: ask again a little later.
    NotYet,
}

/// The pod of a process, for selectors.
#[derive(Clone, Debug, Default)]
pub enum PodOf {
    /// None, or none that the API server will ever tell of.
    #[default]
    Nobody,
    /// One of which nothing is known yet.
    NotYet,
    /// This one.
    Pod(Arc<Identity>),
}

impl PartialEq for PodOf {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nobody, Self::Nobody) | (Self::NotYet, Self::NotYet) => true,
            (Self::Pod(left), Self::Pod(right)) => Arc::ptr_eq(left, right),
            _ => false,
        }
    }
}

impl Eq for PodOf {}

impl Identities {
    /// From now on the pods of this node are known as well.
    pub fn with_pods(&mut self, kubernetes: Kubernetes) {
        self.kubernetes = Some(kubernetes);
    }

    /// What is known of pods.
    pub fn pods(&mut self) -> Option<&mut Kubernetes> {
        self.kubernetes.as_mut()
    }

    /// Whose something is that a process did at a time. With `last` it is told what is known, in place of waiting; how
    /// the look-up ended is counted once, with the answer.
    pub fn whose(&mut self, process: ProcessKey, cgroup: u64, at: UnixTime, last: bool) -> Whose {
        let (whose, outcome) = self.ask(process, cgroup, at, last);
        if let (Whose::Known(_), Some(kubernetes), Some(outcome)) =
            (&whose, &self.kubernetes, outcome)
        {
            kubernetes.count(outcome);
        }
        whose
    }

    /// The same of something that is left out: it is not counted.
    pub(crate) fn whose_left_out(
        &mut self,
        process: ProcessKey,
        cgroup: u64,
        at: UnixTime,
    ) -> Option<Arc<Resource>> {
        match self.ask(process, cgroup, at, true) {
            (Whose::Known(resource), _) => Some(resource),
            (Whose::NotYet, _) => None,
        }
    }

    /// The answer, and how the look-up ended where pods are known.
    fn ask(
        &mut self,
        process: ProcessKey,
        cgroup: u64,
        at: UnixTime,
        last: bool,
    ) -> (Whose, Option<&'static str>) {
        self.as_of(process, at);
        let known = self.known(process, cgroup);
        let (alone, place) = (Arc::clone(&known.resource), known.placement.clone());
        let unsearched = known.unsearched;
        if known.unread {
            if !last {
                return (Whose::NotYet, None);
            }
            self.count_unanswered();
        }
        let Some(kubernetes) = &mut self.kubernetes else {
            return (
                self.in_container(process, place.as_deref(), alone, last),
                None,
            );
        };
        if unsearched && !last {
            return (Whose::NotYet, None);
        }
        let Some(place) = place else {
            return (Whose::Known(alone), Some("no_cgroup"));
        };
        let found = kubernetes.locate(&place, at);
        let settling = found.identity().is_some() && kubernetes.is_settling();
        if (found.is_waiting() || settling) && !last {
            if found.identity().is_none() {
                // The runtime is asked meanwhile, in case that nothing comes.
                self.in_container(process, Some(&place), alone, false);
            }
            return (Whose::NotYet, None);
        }
        let whose = match found.identity() {
            Some(identity) => Whose::Known(self.in_pod(process, identity)),
            None => self.in_container(process, Some(&place), alone, last),
        };
        (whose, Some(found.outcome()))
    }

    /// The pod of a process, as far as it is known at a time.
    pub fn pod_of(&mut self, process: ProcessKey, at: UnixTime) -> PodOf {
        self.as_of(process, at);
        let known = self.known(process, 0);
        let (recorded, place) = (known.candidate.pod.clone(), known.placement.clone());
        let unsearched = known.unsearched || known.unread;
        let Some(kubernetes) = &mut self.kubernetes else {
            return recorded;
        };
        let Some(place) = place else {
            return match unsearched {
                true => PodOf::NotYet,
                false => PodOf::Nobody,
            };
        };
        match kubernetes.locate(&place, at) {
            Lookup::Found(identity) | Lookup::NoContainer(identity) => PodOf::Pod(identity),
            Lookup::NotYet(_) => PodOf::NotYet,
            Lookup::Gone(_) | Lookup::NotInPod => PodOf::Nobody,
        }
    }

    /// The resource of a process in a pod: always the same until the process or what is known of its pod changes.
    fn in_pod(&mut self, process: ProcessKey, identity: &Arc<Identity>) -> Arc<Resource> {
        let known = self.known(process, 0);
        if let Some((of, resource)) = &known.in_pod
            && Arc::ptr_eq(of, identity)
        {
            return Arc::clone(resource);
        }
        // A program that sets its title, as nginx does, overwrites its environment: its pod's spec still has it.
        // What it takes over from elsewhere only the kubelet knows.
        let mut of_spec = Declared::from_variables(identity.variables()).pairs();
        of_spec.retain(|(_, value)| !value.contains("$("));
        let declared = known.declared.iter().chain(&of_spec);
        let declared = declared.map(|(key, value)| (key.as_str(), value.as_str()));
        let mut attributes = identity.attributes_with(declared);
        // Of equal keys the first counts, and what names the process alone is not what names it in its pod.
        let alone = known.resource.attributes().iter();
        attributes.extend(alone.filter(|attribute| is_of_process(attribute)).cloned());
        attributes.extend(self.settings.extra.iter().cloned());
        let resource = self.instances.resource(attributes);
        let kept = Arc::clone(&resource);
        if let Some(entry) = self.entries.get_mut(&process)
            && let Some(known) = &mut entry.known
        {
            known.in_pod = Some((Arc::clone(identity), kept));
        }
        resource
    }
}

/// All but the names that were derived from the program: those come from the pod now, or from what is declared.
fn is_of_process(attribute: &Attribute) -> bool {
    !attribute.key.starts_with("service.")
}
