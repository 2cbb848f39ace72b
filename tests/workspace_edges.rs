//! Which crate of the workspace may depend on which: data goes one way, and siblings do not know each other.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crate and the crates of ours that it may name, in any kind of dependency.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("spandrel-model", &[]),
    ("spandrel-config", &["spandrel-model"]),
    ("spandrel-container-runtime", &[]),
    ("spandrel-disk-queue", &[]),
    (
        "spandrel-exporter",
        &["spandrel-disk-queue", "spandrel-model"],
    ),
    ("spandrel-k8s-meta", &["spandrel-model"]),
    ("spandrel-probes", &["spandrel-model"]),
    ("spandrel-protocols", &["spandrel-model"]),
    ("spandrel-sampling", &["spandrel-model"]),
    (
        "spandrel",
        &[
            "spandrel-config",
            "spandrel-container-runtime",
            "spandrel-exporter",
            "spandrel-k8s-meta",
            "spandrel-model",
            "spandrel-probes",
            "spandrel-protocols",
            "spandrel-sampling",
        ],
    ),
];

/// Heavy dependencies and the only crates that may name them for the program itself. Tests and benches may name more:
/// there opentelemetry-proto is an oracle and hyper a server. deny.toml says the same of what is built.
const HOMES: [(&str, &[&str]); 10] = [
    ("libbpf-rs", &["spandrel-probes"]),
    ("libbpf-cargo", &["spandrel-probes"]),
    ("kube", &["spandrel-k8s-meta"]),
    ("kube-runtime", &["spandrel-k8s-meta"]),
    ("k8s-openapi", &["spandrel-k8s-meta"]),
    (
        "tonic",
        &["spandrel-container-runtime", "spandrel-exporter"],
    ),
    (
        "hyper",
        &["spandrel-container-runtime", "spandrel-exporter"],
    ),
    ("opentelemetry-otlp", &["spandrel-exporter"]),
    ("yaml_serde", &["spandrel-config"]),
    ("serde_yaml", &["spandrel-config"]),
];

#[test]
fn the_workspace_has_only_the_allowed_edges() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into();
    let mut wrong = Vec::new();
    for (name, dependencies) in packages() {
        let Some(may) = allowed.get(name.as_str()) else {
            panic!("{name} is a new crate: say in tests/workspace_edges.rs what it may depend on");
        };
        for (dependency, _) in dependencies {
            if allowed.contains_key(dependency.as_str()) && !may.contains(&dependency.as_str()) {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that are not allowed: {wrong:?}");
}

#[test]
fn heavy_dependencies_stay_in_their_crate() {
    let homes: BTreeMap<&str, &[&str]> = HOMES.into();
    let mut wrong = Vec::new();
    for (name, dependencies) in packages() {
        for (dependency, kind) in dependencies {
            let home = homes.get(dependency.as_str());
            if kind != "dev" && home.is_some_and(|home| !home.contains(&name.as_str())) {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "dependencies outside of their crate: {wrong:?}"
    );
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for manifest in manifests() {
        let text = std::fs::read_to_string(&manifest).unwrap();
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{manifest} does not take the workspace's lints"
        );
    }
}

/// Each package with the names of its dependencies and their kind: "normal", "dev" or "build".
fn packages() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    members()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let names = dependencies.iter().map(|dependency| {
                let kind = text(&dependency["kind"]).unwrap_or_else(|| "normal".to_owned());
                (text(&dependency["name"]).unwrap(), kind)
            });
            (text(&package["name"]).unwrap(), names.collect())
        })
        .collect()
}

fn manifests() -> Vec<String> {
    members()
        .iter()
        .map(|package| package["manifest_path"].as_str().unwrap().to_owned())
        .collect()
}

fn members() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert_eq!(
        packages.len(),
        ALLOWED.len(),
        "crates that the list does not know, or that are gone"
    );
    packages
}
