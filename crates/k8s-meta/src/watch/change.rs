//! What a watch says: objects that came, changed or went, and where a list begins and ends.

use std::borrow::Cow;
use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};

use super::failure::Failure;
use crate::peers::{Node, PeerPod, Service};
use crate::pod::Pod;

/// What a watch says. Boxed, since most of a channel's places are empty most of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<K> {
    /// A list begins: what comes until [`Change::ListComplete`] is all there is. May come again before that; then the list
    /// so far is void.
    ListBegan,
    /// The object is like this now.
    Apply(Box<K>),
    /// The object is gone; this was its last state.
    Delete(Box<K>),
    /// The list is complete: what was known before and did not come in it is gone.
    ListComplete,
    /// Something failed. The watch goes on by itself, and what is known stays known.
    Failed(Failure),
}

/// A kind of object that can be watched: deserialised from the API's JSON, cut down to what is used.
pub trait Object: Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    /// API group; empty for the core group.
    const GROUP: &'static str;
    /// Version, for example `v1`.
    const VERSION: &'static str;
    /// Kind, for example `Pod`.
    const KIND: &'static str;
    /// Name in URLs and in RBAC rules, for example `pods`.
    const PLURAL: &'static str;

    /// `metadata.resourceVersion`.
    fn resource_version(&self) -> &str;

    /// The field selector for objects of one node.
    fn of_node(node: &str) -> String;

    /// The field selector for the whole cluster; empty for all objects.
    const OF_CLUSTER: &'static str = "";

    /// When (RFC 3339) the newest thing happened to it whose telling should be quick.
    fn newest_event(&self) -> Option<&str> {
        None
    }
}

impl Object for Pod {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";

    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    fn of_node(node: &str) -> String {
        format!("spec.nodeName={node}")
    }

    fn newest_event(&self) -> Option<&str> {
        let statuses = self.status.container_statuses.iter();
        let started =
            statuses.filter_map(|status| status.state.running.as_ref()?.started_at.as_deref());
        // All in UTC and of the same form: text sorts as time does.
        started.max()
    }
}

impl Object for PeerPod {
    const GROUP: &'static str = Pod::GROUP;
    const VERSION: &'static str = Pod::VERSION;
    const KIND: &'static str = Pod::KIND;
    const PLURAL: &'static str = Pod::PLURAL;
    /// Finished pods have no address any more; a pod that finishes is told as deleted.
    const OF_CLUSTER: &'static str = "status.phase!=Succeeded,status.phase!=Failed";

    fn resource_version(&self) -> &str {
        &self.metadata().resource_version
    }

    fn of_node(node: &str) -> String {
        Pod::of_node(node)
    }
}

impl Object for Service {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Service";
    const PLURAL: &'static str = "services";

    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// Services are of no node: no selector, all of them.
    fn of_node(_: &str) -> String {
        String::new()
    }
}

impl Object for Node {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";

    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    fn of_node(node: &str) -> String {
        format!("metadata.name={node}")
    }
}

/// An [`Object`] in the form in which kube asks for it. Only `resourceVersion` is ever read of its metadata.
#[derive(Clone, Debug)]
pub struct Item<K> {
    meta: ObjectMeta,
    /// The object.
    pub object: K,
}

impl<'de, K: Object> Deserialize<'de> for Item<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = K::deserialize(deserializer)?;
        let meta = ObjectMeta {
            resource_version: Some(object.resource_version().to_owned()),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, object })
    }
}

impl<K: Object> kube::Resource for Item<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        K::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
