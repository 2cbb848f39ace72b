//! What the API server says of a pod, cut down to what is used. Read straight from its JSON: what is not named here is
//! skipped, and so never takes memory.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

/// A pod (`v1.Pod`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, namespace, uid, labels, owners.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: PodSpec,
    /// What is.
    pub status: PodStatus,
}

/// Part of `v1.ObjectMeta`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Uid; for static pods the mirror pod's.
    pub uid: String,
    /// `resourceVersion`, opaque.
    pub resource_version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Owners, of which at most one controls it.
    pub owner_references: Vec<OwnerReference>,
    /// RFC 3339.
    pub creation_timestamp: Option<String>,
    /// RFC 3339; present once it is to be deleted.
    pub deletion_timestamp: Option<String>,
}

/// `v1.OwnerReference`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version, for example `apps/v1`.
    pub api_version: String,
    /// Kind, for example `ReplicaSet`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Whether it controls the object.
    pub controller: bool,
}

/// Part of `v1.PodSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// The node it is bound to.
    pub node_name: String,
    /// Its own host name, where it has one.
    pub hostname: Option<String>,
    /// Whether it has the node's network, and so the node's addresses.
    pub host_network: bool,
    /// What follows when its containers end; unset is `Always`.
    pub restart_policy: Option<String>,
    /// Containers.
    pub containers: Vec<ContainerSpec>,
    /// Init containers; native sidecars are among them.
    pub init_containers: Vec<ContainerSpec>,
    /// Containers added for debugging.
    pub ephemeral_containers: Vec<ContainerSpec>,
}

/// Part of `v1.Container`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerSpec {
    /// Name.
    pub name: String,
    /// Image as it was asked for.
    pub image: String,
    /// `Always` marks a native sidecar among the init containers.
    pub restart_policy: Option<String>,
    /// Ports, for pods on the node's network.
    pub ports: Vec<ContainerPort>,
    /// Its variables of OpenTelemetry (`OTEL_*`) that are given as they are; of others only the API server knows the value.
    #[serde(deserialize_with = "literal")]
    pub env: Vec<(String, String)>,
}

/// Keeps what is used of `v1.EnvVar`s, whatever a pod has of others.
fn literal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Variable {
        name: String,
        value: Option<String>,
        value_from: Option<IgnoredAny>,
    }

    struct Variables;

    impl<'de> Visitor<'de> for Variables {
        type Value = Vec<(String, String)>;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("a list of variables")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut kept = Vec::new();
            while let Some(Variable {
                name,
                value,
                value_from,
            }) = from.next_element()?
            {
                if DECLARING.contains(&name.as_str()) && value_from.is_none() {
                    kept.push((name, value.unwrap_or_default()));
                }
            }
            Ok(kept)
        }
    }

    deserializer.deserialize_any(Variables)
}

/// The variables that say what a service is.
const DECLARING: [&str; 2] = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];

/// Part of `v1.ContainerPort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// Port in the container.
    pub container_port: u16,
    /// Port on the node, where there is one.
    pub host_port: Option<u16>,
}

/// Part of `v1.PodStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// When the kubelet accepted it, RFC 3339.
    pub start_time: Option<String>,
    /// Address of its node.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<String>,
    /// Its addresses, of both families.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
    /// Containers.
    pub container_statuses: Vec<ContainerStatus>,
    /// Init containers; native sidecars are among them.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Containers added for debugging.
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// `v1.PodIP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// Part of `v1.ContainerStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Name.
    pub name: String,
    /// `<runtime>://<id>`; empty before it runs.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Image as the runtime names it.
    pub image: String,
    /// Image by its digest, as far as the runtime tells.
    #[serde(rename = "imageID")]
    pub image_id: String,
    /// How often it was restarted.
    pub restart_count: u32,
    /// What it does now.
    pub state: ContainerState,
    /// What it did before its last restart: the id of the container before is here.
    pub last_state: ContainerState,
}

/// Part of `v1.ContainerState`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It runs.
    pub running: Option<Running>,
    /// It has ended.
    pub terminated: Option<Terminated>,
}

/// Part of `v1.ContainerStateRunning`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Running {
    /// RFC 3339.
    pub started_at: Option<String>,
}

/// Part of `v1.ContainerStateTerminated`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    /// Why.
    pub reason: Option<String>,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// RFC 3339.
    pub finished_at: Option<String>,
    /// `<runtime>://<id>`.
    #[serde(rename = "containerID")]
    pub container_id: String,
}
