//! Resources as they are on the wire, made once each.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use spandrel_model::Resource;

use super::wire::Sink;
use super::{json, span};

/// How a resource is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Protobuf,
    Json,
}

/// One resource, encoded: for protobuf the `resource` field with tag and length, for JSON the object.
#[derive(Clone, Debug)]
pub struct ResourceBlock(pub(crate) Bytes);

impl ResourceBlock {
    /// The protobuf field `resource = 1` of `ResourceSpans` and of `ResourceMetrics`.
    pub fn protobuf(resource: &Resource) -> Self {
        let mut out = Vec::new();
        out.message(1, &span::Resource(resource.attributes()));
        Self(out.into())
    }

    fn json(resource: &Resource) -> Self {
        let mut out = Vec::new();
        json::resource_json(resource, &mut out);
        Self(out.into())
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it, which never happens.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Encoded resources by id, in two generations: when the young one is full it becomes the old one, and what was
/// only in the old one is forgotten. Holds at most twice its capacity, and keeps what is in use.
#[derive(Debug)]
pub struct ResourceCache {
    form: Form,
    capacity: usize,
    young: HashMap<u64, ResourceBlock, foldhash::fast::RandomState>,
    old: HashMap<u64, ResourceBlock, foldhash::fast::RandomState>,
}

impl ResourceCache {
    pub(crate) fn new(form: Form, capacity: usize) -> Self {
        Self {
            form,
            capacity: capacity.max(1),
            young: HashMap::default(),
            old: HashMap::default(),
        }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// The block of a resource, encoded now if it is not known.
    pub fn get(&mut self, resource: &Arc<Resource>) -> ResourceBlock {
        let id = resource.id();
        if let Some(found) = self.young.get(&id) {
            return found.clone();
        }
        let block = match self.old.remove(&id) {
            Some(found) => found,
            None if self.form == Form::Json => ResourceBlock::json(resource),
            None => ResourceBlock::protobuf(resource),
        };
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, block.clone());
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_forgets_what_is_not_used_and_stays_small() {
        let mut cache = ResourceCache::new(Form::Protobuf, 4);
        let kept = Arc::new(Resource::new(Vec::new()));
        for _ in 0..100 {
            cache.get(&kept);
            cache.get(&Arc::new(Resource::new(Vec::new())));
            assert!(cache.young.len() + cache.old.len() <= 8);
            assert!(
                cache.young.contains_key(&kept.id()) || cache.old.contains_key(&kept.id()),
                "a resource in use is not forgotten"
            );
        }
    }
}
