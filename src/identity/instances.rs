//! Service instances: what all processes of a service in one place share, which is what its metrics are of.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use spandrel_model::{Attribute, Resource};

/// Fewer are not worth the search for those that are gone.
const FEW: usize = 1024;

/// The instances of which a process is known, each once. What bounds the processes bounds them.
#[derive(Debug)]
pub(super) struct Instances {
    /// Each process is one of its own.
    per_process: bool,
    known: HashMap<u64, Weak<Resource>, RandomState>,
    hasher: RandomState,
    /// With so many it is time to forget those that are gone.
    full: usize,
}

impl Instances {
    pub(super) fn new(per_process: bool) -> Self {
        Self {
            per_process,
            known: HashMap::default(),
            hasher: RandomState::default(),
            full: FEW,
        }
    }

    /// The resource of a process with these attributes.
    pub(super) fn resource(&mut self, attributes: Vec<Attribute>) -> Arc<Resource> {
        if self.per_process {
            return Arc::new(Resource::new(attributes));
        }
        let shared = attributes
            .iter()
            .filter(|it| !it.key.starts_with("process."));
        let instance = Resource::new(shared.cloned().collect());
        let instance = self.known(instance);
        Arc::new(Resource::of_process(attributes, instance))
    }

    /// The one that is there already, so that two processes never make the same series twice.
    fn known(&mut self, made: Resource) -> Arc<Resource> {
        let hash = self.hash(made.attributes());
        let found = self.known.get(&hash).and_then(Weak::upgrade);
        if let Some(found) = found.filter(|it| it.attributes() == made.attributes()) {
            return found;
        }
        if self.known.len() >= self.full {
            self.known.retain(|_, it| it.strong_count() > 0);
            self.full = FEW.max(2 * self.known.len());
        }
        let made = Arc::new(made);
        self.known.insert(hash, Arc::downgrade(&made));
        made
    }

    fn hash(&self, attributes: &[Attribute]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for attribute in attributes {
            attribute.feed(&mut hasher);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pid: u32, name: &str) -> Vec<Attribute> {
        let name = Attribute::new("service.name", name.to_owned());
        vec![name, Attribute::new("process.pid", pid)]
    }

    #[test]
    fn processes_of_one_service_share_an_instance_unless_each_is_to_be_its_own() {
        let mut instances = Instances::new(false);
        let (first, second) = (
            instances.resource(of(1, "shop")),
            instances.resource(of(2, "shop")),
        );
        assert_ne!(first.id(), second.id());
        assert!(Arc::ptr_eq(first.instance(), second.instance()));
        let keys = first.instance().attributes().iter().map(|it| &*it.key);
        assert_eq!(keys.collect::<Vec<_>>(), ["service.name"]);
        let other = instances.resource(of(2, "cart"));
        assert!(!Arc::ptr_eq(first.instance(), other.instance()));

        let alone = Instances::new(true).resource(of(1, "shop"));
        assert!(Arc::ptr_eq(&alone, alone.instance()));
    }

    #[test]
    fn instances_without_processes_are_forgotten() {
        let mut instances = Instances::new(false);
        let kept = instances.resource(of(0, "kept"));
        for pid in 1..10_000 {
            drop(instances.resource(of(pid, &format!("shop-{pid}"))));
        }
        assert!(instances.known.len() <= FEW, "{}", instances.known.len());
        let again = instances.resource(of(1, "kept"));
        assert!(Arc::ptr_eq(kept.instance(), again.instance()));
    }
}
