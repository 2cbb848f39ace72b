//! Services and nodes as the API gives them, cut down to their names and addresses.

use serde::Deserialize;

use crate::pod::Metadata;

/// A Service (`v1.Service`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name, namespace, uid.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: ServiceSpec,
    /// What is.
    pub status: ServiceStatus,
}

/// Part of `v1.ServiceSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Of both families; `None` in letters where the Service is headless.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// Addresses that somebody routes to the nodes.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// Part of `v1.ServicePort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Port on the addresses of all nodes, where it has one.
    pub node_port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`; TCP unless it is set.
    pub protocol: Option<String>,
}

/// Part of `v1.ServiceStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    /// What a load balancer has given it.
    pub load_balancer: LoadBalancer,
}

/// Part of `v1.LoadBalancerStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    /// Its points of entry.
    pub ingress: Vec<Ingress>,
}

/// Part of `v1.LoadBalancerIngress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ingress {
    /// The address; empty where it has a host name instead.
    pub ip: String,
}

/// A node (`v1.Node`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name, uid.
    pub metadata: Metadata,
    /// What is.
    pub status: NodeStatus,
}

/// Part of `v1.NodeStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its addresses and host names.
    pub addresses: Vec<NodeAddress>,
}

/// `v1.NodeAddress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname` or another.
    #[serde(rename = "type")]
    pub kind: String,
    /// An address or a name.
    pub address: String,
}
