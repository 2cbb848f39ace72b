//! `service.*`, in the order of OpenTelemetry's "Specify resource attributes using Kubernetes annotations".

use spandrel_model::{Attribute, Value};

use super::{is_measured, put, value};
use crate::image::Reference;
use crate::owner::Kind;
use crate::store::Settings;
use crate::store::record::{ContainerRecord, PodRecord, Run};

/// Annotations with this prefix are resource attributes.
pub(crate) const RESOURCE_PREFIX: &str = "resource.opentelemetry.io/";

const INSTANCE: &str = "app.kubernetes.io/instance";
const NAME: &str = "app.kubernetes.io/name";
const VERSION: &str = "app.kubernetes.io/version";
/// Labels that name services where the settings allow it.
pub(crate) const SERVICE_LABELS: [&str; 3] = [INSTANCE, NAME, VERSION];

/// Appended in the order in which they count: of equal keys the first.
pub(super) fn of(
    settings: &Settings,
    record: &PodRecord,
    container: Option<(&ContainerRecord, &Run)>,
    to: &mut Vec<Attribute>,
) {
    let annotated = record.annotations.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(RESOURCE_PREFIX)?;
        let hollow = name.is_empty() || (value.is_empty() && name.starts_with("service."));
        (!hollow).then_some((name, value))
    });
    let (measured, free): (Vec<_>, Vec<_>) = annotated.partition(|(name, _)| is_measured(name));
    let own = |(name, value): (&str, &std::sync::Arc<str>)| {
        Attribute::new(name.to_owned(), Value::from(value.as_ref().to_owned()))
    };
    to.extend(free.into_iter().map(own));
    let label = |key: &str| {
        let allowed = settings.service_from_labels.then_some(&record.labels);
        allowed
            .and_then(|labels| value(labels, key))
            .filter(|it| !it.is_empty())
    };
    put(to, "service.namespace", &record.namespace);
    let by_label = label(INSTANCE).or_else(|| label(NAME));
    put(
        to,
        "service.name",
        by_label
            .or_else(|| by_owner(record))
            .unwrap_or(&record.name),
    );
    let version = label(VERSION)
        .map(str::to_owned)
        .or_else(|| Reference::parse(&container?.1.image.as_ref()?.reference)?.version());
    put(to, "service.version", version.as_deref().unwrap_or(""));
    if let Some((container, _)) = container {
        let instance = format!("{}.{}.{}", record.namespace, record.name, container.name);
        put(to, "service.instance.id", &instance);
    }
    to.extend(measured.into_iter().map(own));
}

fn by_owner(record: &PodRecord) -> Option<&str> {
    let owner = record.owner.as_ref()?;
    let (kind, name) = owner.workload();
    // The convention's order has no ReplicationController; the pod's name is next.
    (kind != Kind::ReplicationController).then_some(name)
}
