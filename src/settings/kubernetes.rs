//! From the configuration to what is asked about pods, peers and containers.

use std::path::PathBuf;

use spandrel_config::Config;
use spandrel_config::settings::PodSelector as PodSelectorConfig;
use spandrel_k8s_meta::attributes::KeyRules;
use spandrel_k8s_meta::{peers, store, watch};

use super::clamp;
use crate::exit::Failure;
use crate::kubernetes::{self, Hold};

/// How pods are known; `None` where they are not asked for.
pub fn kubernetes(config: &Config) -> anyhow::Result<Option<kubernetes::Settings>> {
    let wanted = &config.kubernetes;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let access = match &wanted.kubeconfig {
        Some(file) => watch::Access::Kubeconfig(file.into()),
        None => watch::Access::InCluster,
    };
    let in_cluster = variable("KUBERNETES_SERVICE_HOST").is_some();
    let asked = wanted.kubeconfig.is_some() || in_cluster;
    if !wanted.enabled.unwrap_or(asked) {
        if wanted.peers.enabled {
            tracing::warn!("kubernetes.peers.enabled has no effect: the API server is not asked");
        }
        return Ok(None);
    }
    let node = wanted
        .node_name
        .clone()
        .or_else(|| variable("K8S_NODE_NAME"))
        .or_else(|| variable("NODE_NAME"));
    let Some(node) = node else {
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
