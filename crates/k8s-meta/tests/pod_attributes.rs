//! Pods as the API server gives them, and the attributes of each of their containers, as text to be reviewed.
//! `BLESS=1 cargo test -p spandrel-k8s-meta --test pod_attributes` writes the expected files.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use spandrel_k8s_meta::attributes::KeyRules;
use spandrel_k8s_meta::cgroup::PodRef;
use spandrel_k8s_meta::pod::{ContainerStatus, Pod};
use spandrel_k8s_meta::store::{Lookup, Node, Settings, Store};
use spandrel_model::{UnixTime, Value};

/// 2025-11-23T10:05:00Z, when all of these pods have started.
const NOW: UnixTime = UnixTime(1_763_892_300_000_000_000);

/// Three and a half minutes before, when those that have ended since were alive.
const AT: UnixTime = UnixTime(NOW.0 - 210_000_000_000);

fn settings() -> Settings {
    Settings {
        cluster_name: Some("eu-1".into()),
        cluster_uid: Some("b5f1c3a0-0000-4000-8000-000000000001".into()),
        node: Some(Node {
            name: "worker-1".into(),
            uid: "b5f1c3a0-0000-4000-8000-000000000002".into(),
        }),
        labels: KeyRules::new(["tier", "app.kubernetes.io/*"]).unwrap(),
        annotations: KeyRules::new(["team.example.com/*"]).unwrap(),
        ..Settings::default()
    }
}

#[test]
fn containers_have_the_attributes_that_their_pods_tell() {
    let mut wrong = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .collect();
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let pod: Pod = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let text = describe(&pod);
        let expected = file.with_extension("out.txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &text).unwrap();
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(format!("{}\n{text}", expected.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pods")
}

fn describe(pod: &Pod) -> String {
    let mut store = Store::new(settings());
    let _ = store.apply(pod, NOW);
    let mut text = String::new();
    let pod_ref = PodRef::Uid(pod.metadata.uid.clone());
    section(&mut text, "the pod", &store.pod(&pod_ref, AT));
    for (name, id) in ids(pod) {
        section(&mut text, &name, &store.container(&id, AT));
    }
    let mut by_label = Store::new(Settings {
        service_from_labels: true,
        labels: KeyRules::default(),
        ..settings()
    });
    let _ = by_label.apply(pod, NOW);
    if let Some((name, id)) = ids(pod).into_iter().next() {
        let found = by_label.container(&id, AT);
        writeln!(text, "== {name}, where labels may name the service").unwrap();
        for line in lines(&found)
            .iter()
            .filter(|line| line.starts_with("service."))
        {
            writeln!(text, "{line}").unwrap();
        }
    }
    text
}

fn section(text: &mut String, name: &str, found: &Lookup) {
    writeln!(text, "== {name}: {}", found.outcome()).unwrap();
    for line in lines(found) {
        writeln!(text, "{line}").unwrap();
    }
    text.push('\n');
}

fn lines(found: &Lookup) -> Vec<String> {
    let attributes = found.identity().map_or(&[][..], |it| it.attributes());
    let each = attributes.iter().map(|it| {
        let value = match &it.value {
            Value::Str(text) => text.to_string(),
            Value::I64(number) => number.to_string(),
            Value::StrArray(texts) => format!("[{}]", texts.join(", ")),
            other => format!("{other:?}"),
        };
        format!("{} = {value}", it.key).trim_end().to_owned()
    });
    each.collect()
}

/// The id of each container, and that of the run before where there is one.
fn ids(pod: &Pod) -> Vec<(String, String)> {
    let status = &pod.status;
    let all = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses)
        .chain(&status.ephemeral_container_statuses);
    let bare = |id: &str| id.split_once("://").map_or(id, |(_, id)| id).to_owned();
    let both = |it: &ContainerStatus| {
        let before = it.last_state.terminated.as_ref();
        let before =
            before.map(|before| (format!("{} before", it.name), bare(&before.container_id)));
        [Some((it.name.clone(), bare(&it.container_id))), before]
    };
    all.filter(|it| !it.container_id.is_empty())
        .flat_map(both)
        .flatten()
        .collect()
}
