//! The selectors of every file that is shipped, against paths and pods as they are on real nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_yaml::Value;
use spandrel_k8s_meta::attributes::{Asked, Identity};
use spandrel_k8s_meta::owner::Kind;
use spandrel_model::ProcessKey;

use super::*;
use crate::identity::{Candidate, PodOf};
use crate::selectors::Verdict;

/// Programs of a node itself: kubeadm's and minikube's kubelet, runtimes, and the Collector's distributions.
const NODES_OWN: [&str; 14] = [
    "/usr/bin/kubelet",
    "/usr/local/bin/kubelet",
    "/var/lib/minikube/binaries/v1.36.0/kubelet",
    "/home/kubernetes/bin/kubelet",
    "/usr/bin/containerd",
    "/usr/local/bin/containerd",
    "/usr/bin/containerd-shim-runc-v2",
    "/var/lib/rancher/k3s/data/0b1c2d3e/bin/containerd-shim-runc-v2",
    "/usr/bin/crio",
    "/usr/bin/dockerd",
    "/otelcol",
    "/otelcol-contrib",
    "/otelcol-k8s",
    "/usr/bin/otelcol-contrib",
];

/// Programs of services.
const SERVICES: [&str; 7] = [
    "/usr/sbin/nginx",
    "/usr/bin/python3.13",
    "/usr/local/bin/node",
    "/app/containerd-ui/server",
    "/usr/lib/jvm/java-21-openjdk-amd64/bin/java",
    "/srv/otelcol-proxy/bin/proxy",
    "/kubelet-exporter",
];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of each shipped configuration: the files, and those in manifests.
fn shipped() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["config", "config/examples", "deploy/kubernetes"] {
        for entry in fs::read_dir(repository(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).unwrap();
            if text.contains("file_format:") && !text.contains("apiVersion:") {
                found.push((name, text));
                continue;
            }
            for document in text.split("\n---\n") {
                let document: Value = serde_yaml::from_str(document).unwrap();
                for (_, value) in document["data"].as_mapping().into_iter().flatten() {
                    found.push((name.clone(), value.as_str().unwrap().to_owned()));
                }
            }
        }
    }
    found
}

/// The entries that `config/spandrel.yaml` shows as comments take the place of its empty list.
fn with_examples(text: &str) -> String {
    let (before, rest) = text.split_once("      selectors:\n").unwrap();
    let (examples, after) = rest.split_once("        include: []\n").unwrap();
    let entries = examples
        .lines()
        .filter_map(|line| line.strip_prefix("        # "));
    let entries: Vec<_> = entries
        .skip_while(|line| !line.starts_with("- "))
        .map(|line| format!("          {line}\n"))
        .collect();
    assert!(entries.len() >= 5, "{entries:?}");
    format!(
        "{before}      selectors:\n        include:\n{}{after}",
        entries.concat()
    )
}

fn read(name: &str, text: &str) -> Config {
    let loaded = spandrel_config::load_str(name, text, &|_| None);
    loaded
        .unwrap_or_else(|problems| panic!("{name}: {problems}"))
        .config
}

fn process(executable: &str) -> Candidate {
    Candidate {
        process: ProcessKey {
            tgid: 4711,
            started: 1,
        },
        executable: Some(executable.into()),
        container_id: None,
        pod: PodOf::Nobody,
        unread: false,
        gone: false,
    }
}

fn candidates() -> Vec<Candidate> {
    let pod = Asked {
        namespace: "shop-eu".to_owned(),
        container: Some("app".to_owned()),
        workload: Some((Kind::of_name("Deployment").unwrap(), "web-front".to_owned())),
        labels: [("tier".to_owned(), "front".to_owned())].into(),
        annotations: [("example.com/traced".to_owned(), "true".to_owned())].into(),
    };
    let in_pod = Candidate {
        container_id: Some("3f2a".repeat(16)),
        pod: PodOf::Pod(Arc::new(Identity::of_asked(pod))),
        unread: false,
        gone: false,
        ..process("/usr/bin/java")
    };
    let paths = NODES_OWN.iter().chain(&SERVICES);
    let other = Candidate {
        process: ProcessKey {
            tgid: 1,
            started: 1,
        },
        ..process("/sbin/init")
    };
    paths
        .map(|path| process(path))
        .chain([in_pod, other])
        .collect()
}

#[test]
fn each_selector_of_each_shipped_file_holds_for_what_it_is_meant_for_and_not_for_all() {
    let mut tried = 0;
    for (name, text) in shipped() {
        let text = match name.ends_with("config/spandrel.yaml") {
            true => with_examples(&text),
            false => text,
        };
        let Selectors { include, exclude } = selectors(&read(&name, &text)).unwrap();
        for selector in include.into_iter().chain(exclude) {
            let about = format!("{name}: {selector}");
            let one = Selectors {
                include: vec![selector],
                exclude: Vec::new(),
            };
            let holds = |ports: &[u16]| {
                let candidates = candidates();
                let seen = candidates.iter().filter(|candidate| {
                    one.decide(candidate, Some(ports)).verdict == Verdict::Allow
                });
                seen.count()
            };
            let all = candidates().len();
            assert!(holds(&[8080]) > 0, "it holds for nothing: {about}");
            assert!(holds(&[1]) < all, "it holds for everything: {about}");
            tried += 1;
        }
    }
    assert!(tried >= 12, "{tried}");
}

#[test]
fn the_shipped_daemonset_leaves_the_nodes_own_programs_out_and_sees_services() {
    let (_, text) = shipped()
        .into_iter()
        .find(|(name, _)| name.ends_with("deploy/kubernetes/configmap.yaml"))
        .unwrap();
    let selectors = selectors(&read("configmap.yaml", &text)).unwrap();
    let verdict = |path: &str| selectors.decide(&process(path), None).verdict;
    for path in NODES_OWN {
        assert_eq!(verdict(path), Verdict::Deny, "{path}");
    }
    for path in SERVICES {
        assert_eq!(verdict(path), Verdict::Allow, "{path}");
    }
}
