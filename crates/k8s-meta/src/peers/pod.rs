//! A pod as peers need it: what is not named here is skipped while it is read, and never takes memory.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::owner::LABELS as OWNER_LABELS;
use crate::pod::{
    ContainerState, ContainerStatus, Metadata, OwnerReference, Pod, PodIp, PodSpec, PodStatus,
};

/// Annotations that name the service.
pub(super) const NAME_ANNOTATION: &str = "resource.opentelemetry.io/service.name";
pub(super) const NAMESPACE_ANNOTATION: &str = "resource.opentelemetry.io/service.namespace";
/// Labels that do so where the settings allow it, the first one first.
pub(super) const NAME_LABELS: [&str; 2] = ["app.kubernetes.io/instance", "app.kubernetes.io/name"];

/// What the containers of a pod say in their environment of the service that they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Declared {
    /// Nothing.
    #[default]
    Nothing,
    /// All of them the same name.
    Name(String),
    /// Not all of them the same, or something that is not in the pod: nobody knows which name counts.
    Unclear,
}

impl Declared {
    fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Unclear }
    }
}

/// A pod of any node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPod {
    pub(super) pod: Pod,
    pub(super) declared: Declared,
}

impl From<Pod> for PeerPod {
    fn from(pod: Pod) -> Self {
        Self {
            pod,
            declared: Declared::Nothing,
        }
    }
}

impl PeerPod {
    /// Name, namespace, uid, version and owner.
    pub fn metadata(&self) -> &Metadata {
        &self.pod.metadata
    }
}

impl<'de> Deserialize<'de> for PeerPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Lean {
            metadata,
            spec,
            status,
        } = Lean::deserialize(deserializer)?;
        // Init containers have ended, but for native sidecars.
        let sidecars = spec.init_containers.into_iter();
        let sidecars = sidecars.filter(|it| it.restart_policy.as_deref() == Some("Always"));
        let all = spec.containers.into_iter().chain(sidecars);
        let states = |list: Vec<LeanStatus>| {
            let status = |it: LeanStatus| ContainerStatus {
                state: it.state,
                ..ContainerStatus::default()
            };
            list.into_iter().map(status).collect()
        };
        Ok(Self {
            declared: all
                .map(|it| it.env)
                .reduce(Declared::and)
                .unwrap_or_default(),
            pod: Pod {
                metadata: Metadata {
                    name: metadata.name,
                    namespace: metadata.namespace,
                    uid: metadata.uid,
                    resource_version: metadata.resource_version,
                    labels: metadata.labels,
                    annotations: metadata.annotations,
                    owner_references: metadata.owner_references,
                    creation_timestamp: metadata.creation_timestamp,
                    deletion_timestamp: metadata.deletion_timestamp,
                },
                spec: PodSpec {
                    node_name: spec.node_name,
                    host_network: spec.host_network,
                    restart_policy: spec.restart_policy,
                    ..PodSpec::default()
                },
                status: PodStatus {
                    phase: status.phase,
                    host_ip: status.host_ip,
                    pod_ips: status.pod_ips,
                    container_statuses: states(status.container_statuses),
                    init_container_statuses: states(status.init_container_statuses),
                    ..PodStatus::default()
                },
            },
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lean {
    metadata: LeanMetadata,
    spec: LeanSpec,
    status: LeanPodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LeanMetadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    #[serde(deserialize_with = "labels")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
    owner_references: Vec<OwnerReference>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LeanSpec {
    node_name: String,
    host_network: bool,
    restart_policy: Option<String>,
    containers: Vec<LeanContainer>,
    init_containers: Vec<LeanContainer>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LeanContainer {
    restart_policy: Option<String>,
    #[serde(deserialize_with = "declared")]
    env: Declared,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LeanPodStatus {
    phase: String,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    container_statuses: Vec<LeanStatus>,
    init_container_statuses: Vec<LeanStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LeanStatus {
    state: ContainerState,
}

fn labels<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    from.deserialize_map(Kept(&|key| {
        OWNER_LABELS.contains(&key) || NAME_LABELS.contains(&key)
    }))
}

fn annotations<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    from.deserialize_map(Kept(&|key| {
        [NAME_ANNOTATION, NAMESPACE_ANNOTATION].contains(&key)
    }))
}

/// Pairs whose key is wanted.
struct Kept<'a>(&'a dyn Fn(&str) -> bool);

impl<'de> Visitor<'de> for Kept<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kept = BTreeMap::new();
        while let Some(key) = map.next_key_seed(Key(self.0))? {
            match key {
                Some(key) => drop(kept.insert(key, map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(kept)
    }
}

/// A key, copied only where it is wanted.
struct Key<'a>(&'a dyn Fn(&str) -> bool);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok((self.0)(key).then(|| key.to_owned()))
    }
}

/// The name of a variable.
#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
enum Name {
    #[serde(rename = "OTEL_SERVICE_NAME")]
    Service,
    #[serde(rename = "OTEL_RESOURCE_ATTRIBUTES")]
    Resource,
    #[default]
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Field {
    Name,
    Value,
    ValueFrom,
    #[serde(other)]
    Other,
}

#[derive(Default)]
struct Variable {
    name: Name,
    value: String,
    from_elsewhere: bool,
}

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Variable;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a variable")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Variable, A::Error> {
                let mut variable = Variable::default();
                let mut named = false;
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Name => (variable.name, named) = (map.next_value()?, true),
                        // The API writes the name first: the values of all others are never copied.
                        Field::Value if !(named && variable.name == Name::Other) => {
                            variable.value = map.next_value()?;
                        }
                        Field::ValueFrom => {
                            map.next_value::<IgnoredAny>()?;
                            variable.from_elsewhere = true;
                        }
                        Field::Value | Field::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(variable)
            }
        }

        from.deserialize_map(Fields)
    }
}

/// `OTEL_SERVICE_NAME` goes before `service.name` of `OTEL_RESOURCE_ATTRIBUTES`, as for a container's own process.
fn declared<'de, D: Deserializer<'de>>(from: D) -> Result<Declared, D::Error> {
    struct Variables;

    impl<'de> Visitor<'de> for Variables {
        type Value = Declared;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of variables")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Declared, A::Error> {
            let (mut own, mut among) = (Declared::Nothing, Declared::Nothing);
            while let Some(variable) = list.next_element::<Variable>()? {
                match variable.name {
                    Name::Service => own = literal(variable, Some),
                    Name::Resource => among = literal(variable, name_among),
                    Name::Other => {}
                }
            }
            Ok(if own == Declared::Nothing { among } else { own })
        }

        fn visit_unit<E>(self) -> Result<Declared, E> {
            Ok(Declared::Nothing)
        }
    }

    from.deserialize_any(Variables)
}

fn literal(variable: Variable, name: fn(String) -> Option<String>) -> Declared {
    // `$(NAME)` stands for another variable, `%20` for a byte.
    if variable.from_elsewhere || variable.value.contains(['$', '%']) {
        return Declared::Unclear;
    }
    let name = name(variable.value).filter(|name| !name.is_empty());
    name.map_or(Declared::Nothing, Declared::Name)
}

fn name_among(pairs: String) -> Option<String> {
    let mut pairs = pairs.split(',').filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(key, _)| key.trim() == "service.name");
    found.map(|(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> PeerPod {
        serde_json::from_str(json).unwrap()
    }

    fn with_containers(containers: &str) -> Declared {
        read(&format!(r#"{{"spec":{{"containers":[{containers}]}}}}"#)).declared
    }

    #[test]
    fn only_what_names_a_peer_is_kept_of_its_pod() {
        let json = r#"{"kind":"Pod","metadata":{"name":"web-1","namespace":"shop","uid":"u","resourceVersion":"7",
            "labels":{"app":"web","pod-template-hash":"5d9c","app.kubernetes.io/name":"web","team":"a"},
            "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}","resource.opentelemetry.io/service.name":"checkout"},
            "ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-5d9c","controller":true}],
            "managedFields":[{"manager":"kubelet"}]},
            "spec":{"nodeName":"n1","hostNetwork":true,"containers":[{"name":"app","image":"i","env":null}],"tolerations":[{}]},
            "status":{"phase":"Running","hostIP":"192.0.2.1","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}],
            "conditions":[{"type":"Ready"}],
            "containerStatuses":[{"name":"app","containerID":"containerd://a","state":{"running":{"startedAt":"2025-11-23T10:00:04Z"}}}]}}"#;
        let PeerPod { pod, declared } = read(json);
        assert_eq!(declared, Declared::Nothing);
        let keys = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            keys(&pod.metadata.labels),
            ["app.kubernetes.io/name", "pod-template-hash"]
        );
        assert_eq!(keys(&pod.metadata.annotations), [NAME_ANNOTATION]);
        assert!(pod.spec.containers.is_empty() && pod.spec.host_network);
        let mut whole: Pod = serde_json::from_str(json).unwrap();
        // Of all else both readings are the same.
        whole.metadata.labels = pod.metadata.labels.clone();
        whole.metadata.annotations = pod.metadata.annotations.clone();
        whole.spec.containers.clear();
        for status in &mut whole.status.container_statuses {
            *status = ContainerStatus {
                state: status.state.clone(),
                ..ContainerStatus::default()
            };
        }
        assert_eq!(pod, whole);
    }

    #[test]
    fn the_environment_names_a_peer_only_where_all_its_containers_agree() {
        let named = |name: &str| {
            format!(
                r#"{{"env":[{{"name":"A","value":"b"}},{{"name":"OTEL_SERVICE_NAME","value":"{name}"}}]}}"#
            )
        };
        let (cart, till) = (named("cart"), named("till"));
        let from = r#"{"env":[{"name":"OTEL_SERVICE_NAME","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}]}"#;
        let among =
            r#"{"env":[{"name":"OTEL_RESOURCE_ATTRIBUTES","value":"a=b,service.name=cart"}]}"#;
        let name = |name: &str| Declared::Name(name.to_owned());
        for (containers, expected) in [
            (cart.clone(), name("cart")),
            (format!("{cart},{cart}"), name("cart")),
            (format!("{cart},{among}"), name("cart")),
            (among.to_owned(), name("cart")),
            (format!("{cart},{till}"), Declared::Unclear),
            (format!("{cart},{{}}"), Declared::Unclear),
            (from.to_owned(), Declared::Unclear),
            (named("$(POD)"), Declared::Unclear),
            (named(""), Declared::Nothing),
            ("{},{}".to_owned(), Declared::Nothing),
        ] {
            assert_eq!(with_containers(&containers), expected, "{containers}");
        }
        let sidecar = read(
            r#"{"spec":{"containers":[{"env":[{"name":"OTEL_SERVICE_NAME","value":"cart"}]}],
            "initContainers":[{"name":"once"},{"name":"mesh","restartPolicy":"Always"}]}}"#,
        );
        assert_eq!(sidecar.declared, Declared::Unclear);
    }
}
