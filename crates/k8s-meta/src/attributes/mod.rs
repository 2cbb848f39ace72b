//! Resource attributes of a container and its pod, by the names of the semantic conventions.
//!
//! What the pod does not tell is left out: no uid is made up, and no owner of an unknown kind gets a name of ours.

mod resource;
mod rules;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use spandrel_model::{Attribute, Value};

pub use self::rules::{BadPattern, KeyRules};
pub(crate) use self::service::{RESOURCE_PREFIX, SERVICE_LABELS};
use crate::owner::Kind;
use crate::store::Settings;
use crate::store::record::{Pairs, PodRecord};

/// A container and its pod, or a pod alone, with their resource attributes.
#[derive(Debug)]
pub struct Identity {
    namespace: Arc<str>,
    pod: Arc<str>,
    uid: String,
    container: Option<Arc<str>>,
    workload: Option<(Kind, Arc<str>)>,
    labels: Arc<Pairs>,
    annotations: Arc<Pairs>,
    variables: Arc<Pairs>,
    attributes: Vec<Attribute>,
}

/// Of these the API knows better than the environment of a program or an annotation.
const MEASURED: [&str; 2] = ["k8s.", "container."];

/// What selectors ask of an identity.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The namespace.
    pub namespace: String,
    /// The container's name.
    pub container: Option<String>,
    /// The workload.
    pub workload: Option<(Kind, String)>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Identity {
    /// One of which no more is known than what selectors ask: it has no pod name, no uid and no attributes.
    pub fn of_asked(asked: Asked) -> Self {
        let pairs = |pairs: BTreeMap<String, String>| {
            let pairs = pairs.into_iter();
            pairs
                .map(|(key, value)| (key.into(), value.into()))
                .collect()
        };
        Self {
            namespace: asked.namespace.into(),
            pod: "".into(),
            uid: String::new(),
            container: asked.container.map(Into::into),
            workload: asked.workload.map(|(kind, name)| (kind, name.into())),
            labels: pairs(asked.labels),
            annotations: pairs(asked.annotations),
            variables: Arc::new([]),
            attributes: Vec::new(),
        }
    }

    /// What selectors can ask of it.
    pub fn asked(&self) -> Asked {
        let pairs = |pairs: &Pairs| {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect()
        };
        Asked {
            namespace: self.namespace.to_string(),
            container: self.container.as_deref().map(str::to_owned),
            workload: self.workload().map(|(kind, name)| (kind, name.to_owned())),
            labels: pairs(&self.labels),
            annotations: pairs(&self.annotations),
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The pod's name.
    pub fn pod_name(&self) -> &str {
        &self.pod
    }

    /// The uid of the pod.
    pub fn pod_uid(&self) -> &str {
        &self.uid
    }

    /// The container's name, if it is one.
    pub fn container_name(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// The uppermost workload that is known: the Deployment and not its ReplicaSet.
    pub fn workload(&self) -> Option<(Kind, &str)> {
        self.workload.as_ref().map(|(kind, name)| (*kind, &**name))
    }

    /// A label, if it is one of those that are kept.
    pub fn label(&self, key: &str) -> Option<&str> {
        value(&self.labels, key)
    }

    /// An annotation, if it is one of those that are kept.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        value(&self.annotations, key)
    }

    /// The variables `OTEL_*` of the container that its pod's spec has the values of, by name. They hold for what a program has
    /// overwritten in its own memory, too.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (&**name, &**value))
    }

    /// `k8s.*`, `container.*`, `service.*` and what annotations add, in the order of their keys, each once.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The same with what the process itself declares (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`), which goes
    /// before annotations, labels and owners, but not before what the API has told of pod and container.
    pub fn attributes_with<'a>(
        &self,
        declared: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Vec<Attribute> {
        let declared = declared.into_iter().filter(|(key, value)| {
            !(value.is_empty() && key.starts_with("service.") || key.is_empty())
        });
        let (measured, free): (Vec<_>, Vec<_>) = declared.partition(|(key, _)| is_measured(key));
        let own = |(key, value): (&str, &str)| Attribute::new(key.to_owned(), value.to_owned());
        let all = free
            .into_iter()
            .map(own)
            .chain(self.attributes.iter().cloned());
        first_of_each(all.chain(measured.into_iter().map(own)).collect())
    }
}

fn is_measured(key: &str) -> bool {
    MEASURED.iter().any(|prefix| key.starts_with(prefix))
}

fn value<'a>(pairs: &'a Pairs, key: &str) -> Option<&'a str> {
    let at = pairs
        .binary_search_by(|(known, _)| (**known).cmp(key))
        .ok()?;
    pairs.get(at).map(|(_, value)| &**value)
}

fn first_of_each(mut attributes: Vec<Attribute>) -> Vec<Attribute> {
    attributes.sort_by(|left, right| left.key.cmp(&right.key));
    attributes.dedup_by(|later, earlier| later.key == earlier.key);
    attributes.shrink_to_fit();
    attributes
}

/// The identity of a pod, and of one of its containers by its place and that of its run.
pub(crate) fn identify(
    settings: &Settings,
    record: &PodRecord,
    run: Option<(usize, usize)>,
) -> Identity {
    let found = run.and_then(|(container, run)| {
        let container = record.containers.get(container)?;
        Some((container, container.runs.get(run)?))
    });
    let mut attributes = Vec::with_capacity(32);
    resource::of_pod(settings, record, &mut attributes);
    if let Some((container, run)) = found {
        resource::of_container(container, run, &mut attributes);
    }
    service::of(settings, record, found, &mut attributes);
    Identity {
        namespace: Arc::clone(&record.namespace),
        pod: Arc::clone(&record.name),
        uid: record.uid.to_text(),
        container: found.map(|(it, _)| Arc::clone(&it.name)),
        workload: record.owner.as_ref().map(|owner| {
            let (kind, name) = owner.workload();
            (kind, Arc::clone(name))
        }),
        labels: Arc::clone(&record.labels),
        annotations: Arc::clone(&record.annotations),
        variables: found.map_or_else(
            || Arc::new([]) as Arc<Pairs>,
            |(it, _)| Arc::clone(&it.variables),
        ),
        attributes: first_of_each(attributes),
    }
}

/// Attributes without text are none; a label or an annotation may be empty and is not put by this.
fn put(attributes: &mut Vec<Attribute>, key: &'static str, value: &str) {
    if !value.is_empty() {
        attributes.push(Attribute::new(key, Value::from(value.to_owned())));
    }
}
