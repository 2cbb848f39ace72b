//! Resources: whose telemetry it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::attribute::{Attribute, Value};

/// A set of resource attributes, made once per process and shared as `Arc<Resource>`.
#[derive(Debug, PartialEq)]
pub struct Resource {
    id: u64,
    attributes: Vec<Attribute>,
    instance: Option<Arc<Resource>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Resource {
    /// A resource from its attributes, which are put in the order of their keys; of equal keys the first counts.
    pub fn new(mut attributes: Vec<Attribute>) -> Self {
        attributes.sort_by(|left, right| left.key.cmp(&right.key));
        attributes.dedup_by(|later, earlier| later.key == earlier.key);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            attributes,
            instance: None,
        }
    }

    /// The resource of a process, with that of the service instance that it is one of the processes of.
    pub fn of_process(attributes: Vec<Attribute>, instance: Arc<Self>) -> Self {
        Self {
            instance: Some(instance),
            ..Self::new(attributes)
        }
    }

    /// Whose its metrics are: a service instance lives longer than a process, so that short ones make no series of
    /// their own.
    pub fn instance(self: &Arc<Self>) -> &Arc<Self> {
        self.instance.as_ref().unwrap_or(self)
    }

    /// A number unique within this run: cheap to hash and compare. Not stable between runs.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The attributes in the order of their keys.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The value of a text attribute.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| attribute.key == key)
            .and_then(|found| match &found.value {
                Value::Str(text) => Some(text.as_ref()),
                _ => None,
            })
    }

    /// `service.name`, or `unknown_service` where there is none.
    pub fn service_name(&self) -> &str {
        self.text("service.name").unwrap_or("unknown_service")
    }
}
