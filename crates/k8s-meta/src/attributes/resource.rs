//! `k8s.*` and `container.*`.

use spandrel_model::{Attribute, Value};

use super::put;
use crate::image::{self, Reference};
use crate::store::Settings;
use crate::store::record::{ContainerRecord, PodRecord, Run};
use crate::timestamp;

pub(super) fn of_pod(settings: &Settings, record: &PodRecord, to: &mut Vec<Attribute>) {
    put(
        to,
        "k8s.cluster.name",
        settings.cluster_name.as_deref().unwrap_or(""),
    );
    put(
        to,
        "k8s.cluster.uid",
        settings.cluster_uid.as_deref().unwrap_or(""),
    );
    put(to, "k8s.node.name", &record.node);
    if let Some(node) = settings
        .node
        .as_ref()
        .filter(|node| *node.name == *record.node)
    {
        put(to, "k8s.node.uid", &node.uid);
    }
    put(to, "k8s.namespace.name", &record.namespace);
    put(to, "k8s.pod.name", &record.name);
    put(to, "k8s.pod.uid", &record.uid.to_text());
    put(
        to,
        "k8s.pod.hostname",
        record.hostname.as_deref().unwrap_or(""),
    );
    if let Some(address) = record.ips.first() {
        put(to, "k8s.pod.ip", &address.to_string());
    }
    if record.started != 0 {
        put(to, "k8s.pod.start_time", &timestamp::format(record.started));
    }
    if let Some(owner) = &record.owner {
        let (name, uid) = owner.kind.keys();
        put(to, name, &owner.name);
        put(to, uid, &owner.uid);
        if let Some((kind, above)) = &owner.above {
            put(to, kind.keys().0, above);
        }
    }
    for (key, value) in record
        .labels
        .iter()
        .filter(|(key, _)| settings.labels.matches(key))
    {
        to.push(Attribute::new(
            format!("k8s.pod.label.{key}"),
            Value::from(value.as_ref().to_owned()),
        ));
    }
    let chosen = |key: &str| settings.annotations.matches(key);
    for (key, value) in record.annotations.iter().filter(|(key, _)| chosen(key)) {
        to.push(Attribute::new(
            format!("k8s.pod.annotation.{key}"),
            Value::from(value.as_ref().to_owned()),
        ));
    }
}

/// `container.name` is left out: it is the runtime's own name of the container, which the API does not have.
pub(super) fn of_container(container: &ContainerRecord, run: &Run, to: &mut Vec<Attribute>) {
    put(to, "k8s.container.name", &container.name);
    if let Some(restarts) = run.restarts {
        to.push(Attribute::new(
            "k8s.container.restart_count",
            i64::from(restarts),
        ));
    }
    put(to, "container.id", &run.key.to_text());
    put(
        to,
        "container.runtime.name",
        run.runtime.map_or("", |it| it.name()),
    );
    let Some(image) = &run.image else {
        return;
    };
    if let Some(reference) = Reference::parse(&image.reference) {
        put(to, "container.image.name", reference.name);
        // Without a tag and a digest runtimes take this one.
        let latest = reference.digest.is_none().then_some("latest");
        if let Some(tag) = reference.tag.or(latest) {
            put_list(to, "container.image.tags", tag);
        }
    }
    if let Some(digest) = image::repo_digest(&image.id) {
        put_list(to, "container.image.repo_digests", digest);
    }
}

fn put_list(to: &mut Vec<Attribute>, key: &'static str, only: &str) {
    to.push(Attribute::new(
        key,
        Value::StrArray(vec![only.to_owned().into()]),
    ));
}
