//! What a process declares, against what the API tells.

use spandrel_model::{UnixTime, Value};

use super::Identity;
use crate::pod::Pod;
use crate::store::{Settings, Store};

fn identity(annotations: &[(&str, &str)]) -> std::sync::Arc<Identity> {
    let mut pod = Pod::default();
    pod.metadata.uid = "u".into();
    pod.metadata.name = "web".into();
    pod.metadata.namespace = "shop".into();
    for (key, value) in annotations {
        pod.metadata
            .annotations
            .insert((*key).into(), (*value).into());
    }
    let mut store = Store::new(Settings::default());
    let _ = store.apply(&pod, UnixTime(1));
    let pod = crate::cgroup::PodRef::Uid("u".into());
    store.pod(&pod, UnixTime(1)).identity().unwrap().clone()
}

fn with(annotations: &[(&str, &str)], declared: &[(&str, &str)]) -> Vec<String> {
    let all = identity(annotations).attributes_with(declared.iter().copied());
    let line = |it: spandrel_model::Attribute| match it.value {
        Value::Str(text) => format!("{}={text}", it.key),
        other => format!("{}={other:?}", it.key),
    };
    all.into_iter().map(line).collect()
}

#[test]
fn what_a_process_declares_goes_before_annotations_but_not_before_the_api() {
    let annotations = [
        ("resource.opentelemetry.io/service.name", "annotated"),
        ("resource.opentelemetry.io/team", "a"),
    ];
    let declared = [
        ("service.name", "declared"),
        ("service.namespace", ""),
        ("team", "b"),
        ("k8s.pod.name", "another"),
        ("k8s.cluster.name", "only-declared"),
        ("", "nothing"),
    ];
    assert_eq!(
        with(&annotations, &declared),
        [
            "k8s.cluster.name=only-declared",
            "k8s.namespace.name=shop",
            "k8s.pod.name=web",
            "k8s.pod.uid=u",
            "service.name=declared",
            "service.namespace=shop",
            "team=b",
        ]
    );
    assert_eq!(
        with(&annotations, &[]).get(3).map(String::as_str),
        Some("service.name=annotated")
    );
}

#[test]
fn what_selectors_ask_of_an_identity_makes_one_that_answers_them_alike() {
    let annotated = identity(&[("resource.opentelemetry.io/team", "a"), ("other", "b")]);
    let again = Identity::of_asked(annotated.asked());
    assert_eq!(again.namespace(), "shop");
    assert_eq!((again.container_name(), again.workload()), (None, None));
    let annotation = |key| again.annotation(key);
    assert_eq!(annotation("resource.opentelemetry.io/team"), Some("a"));
    assert_eq!(annotation("other"), None, "it was not kept");
    assert!(again.attributes().is_empty());
}
