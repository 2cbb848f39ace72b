//! From the configuration to what is asked about pods, peers and containers.

use std::path::{Path, PathBuf};

use spandrel_config::Config;
use spandrel_config::settings::PodSelector as PodSelectorConfig;
use spandrel_k8s_meta::attributes::KeyRules;
use spandrel_k8s_meta::{peers, store, watch};

use super::clamp;
use crate::exit::Failure;
use crate::kubernetes::{self, Hold};

/// A pod's token, where it may ask the API server. The path is the same in every pod.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether this is a pod: the kubelet tells each where the API server is, whether it may ask it or not.
fn is_pod() -> bool {
    variable("KUBERNETES_SERVICE_HOST").is_some()
}

/// The node that the agent runs on, where it runs on Kubernetes.
pub(super) fn node_name(config: &Config) -> Option<String> {
    let wanted = &config.kubernetes;
    let on_kubernetes = is_pod() || wanted.kubeconfig.is_some() || wanted.enabled == Some(true);
    let told = || variable("K8S_NODE_NAME").or_else(|| variable("NODE_NAME"));
    let told = || on_kubernetes.then(told).flatten();
    wanted.node_name.clone().or_else(told)
}

/// How pods are known; `None` where they are not asked for.
pub fn kubernetes(config: &Config) -> anyhow::Result<Option<kubernetes::Settings>> {
    let wanted = &config.kubernetes;
    let access = match &wanted.kubeconfig {
        Some(file) => watch::Access::Kubeconfig(file.into()),
        None => watch::Access::InCluster,
    };
    let in_cluster = is_pod() && Path::new(TOKEN).is_file();
    let asked = wanted.kubeconfig.is_some() || in_cluster;
    if !wanted.enabled.unwrap_or(asked) {
        if wanted.peers.enabled {
            tracing::warn!("kubernetes.peers.enabled has no effect: the API server is not asked");
        }
        return Ok(None);
    }
    let Some(node) = node_name(config) else {
        let problem = "kubernetes.node_name is not set, and neither is K8S_NODE_NAME: the pods of which node? \
                       In a DaemonSet, set K8S_NODE_NAME from the field spec.nodeName";
        if wanted.enabled == Some(true) {
            return Err(Failure::usage(problem).into());
        }
        tracing::warn!("pods are not known: {problem}");
        return Ok(None);
    };
    let rules =
        |keys: &[String]| KeyRules::new(keys.iter().map(String::as_str)).map_err(Failure::usage);
    let selectors = || config.capture.include.iter().chain(&config.capture.exclude);
    let keys = |of: fn(&PodSelectorConfig) -> &[(String, String)]| -> Vec<String> {
        let pairs = selectors().flat_map(|selector| of(&selector.pod));
        pairs.map(|(key, _)| key.clone()).collect()
    };
    let peers = wanted.peers.enabled.then(|| kubernetes::peers::Settings {
        watch: watch::Settings::new(access.clone(), watch::Scope::Cluster),
        tables: peers::Settings {
            grace: wanted.grace,
            max_objects: clamp(wanted.peers.max_objects),
            service_from_labels: wanted.service_from_labels,
        },
        hold: wanted.hold,
        service_graph: wanted.peers.service_graph,
        node: Some(node.clone()),
    });
    Ok(Some(kubernetes::Settings {
        watch: watch::Settings::new(access, watch::Scope::Node(node)),
        peers,
        store: store::Settings {
            cluster_name: wanted.cluster_name.clone(),
            labels: rules(&wanted.pod_labels)?,
            annotations: rules(&wanted.pod_annotations)?,
            kept_labels: rules(&keys(|pod| &pod.labels))?,
            kept_annotations: rules(&keys(|pod| &pod.annotations))?,
            service_from_labels: wanted.service_from_labels,
            grace: wanted.grace,
            max_pods: clamp(wanted.max_pods),
            ..store::Settings::default()
        },
        hold: wanted.hold,
        hold_bytes: clamp(wanted.hold_bytes),
    }))
}

/// How container runtimes are asked; `None` where they are not.
pub fn containers(config: &Config) -> Option<spandrel_container_runtime::Settings> {
    let wanted = &config.containers;
    let sockets: Vec<PathBuf> = wanted.sockets.iter().map(PathBuf::from).collect();
    let asks = wanted.enabled && !sockets.is_empty();
    asks.then_some(spandrel_container_runtime::Settings {
        sockets,
        hold: wanted.hold,
    })
}

/// Where what a new container does waits for its name, if nothing waits for pods.
pub fn container_hold(config: &Config) -> Hold {
    Hold::new(config.containers.hold, clamp(config.kubernetes.hold_bytes))
}
