//! The pods that the API has told about, by container id, by uid, and in time.
//!
//! Nothing here asks anybody or waits: whoever watches the API calls [`Store::apply`] and [`Store::delete`], whoever
//! has a process calls [`Store::locate`]. Ids of containers and uids of pods are never used again, so an answer that
//! rests on them is right whatever came late, twice or in another order; what is not known is said to be unknown.

mod index;
mod intern;
mod key;
mod locate;
mod lookup;
pub(crate) mod record;
mod reduce;
mod runs;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use spandrel_model::UnixTime;

pub(crate) use self::index::Index;
pub(crate) use self::intern::Interner;
pub(crate) use self::key::Uid;
pub use self::lookup::{Ended, Lookup, Waiting};
pub(crate) use self::record::NEVER;
use self::record::PodRecord;
use self::reduce::Shared;
pub use self::settings::{Node, Settings};
use crate::pod::Pod;

/// Deletions of pods that were not known are remembered, in case that what they end comes after them.
const MAX_DELETED: usize = 1024;

/// What became of a pod that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was not known.
    Added,
    /// Something may be new.
    Updated,
    /// The version that was known.
    Repeated,
    /// An older version than was known, or one of a pod that was deleted.
    Stale,
    /// There are [`Settings::max_pods`] already.
    Refused,
    /// It has no uid.
    Invalid,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pods that became known.
    pub added: u64,
    /// Changes of known pods.
    pub updated: u64,
    /// The same again.
    pub repeated: u64,
    /// Told too late.
    pub stale: u64,
    /// More than are kept.
    pub refused: u64,
    /// Without a uid.
    pub invalid: u64,
    /// Deleted in so many words.
    pub deleted: u64,
    /// Missing in a complete list.
    pub missing: u64,
    /// Forgotten after the grace period.
    pub expired: u64,
    /// Labels and annotations left out for their size or number.
    pub oversized: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Store {
    settings: Settings,
    shared: Shared,
    slots: Vec<Option<Box<PodRecord>>>,
    free: Vec<u32>,
    pods: Index,
    hashes: Index,
    containers: Index,
    deleted: VecDeque<(Uid, u64)>,
    list: u32,
    listing: bool,
    synced: bool,
    counters: Counters,
}

impl Store {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// A pod as it is now: from a list, or added or changed in a watch.
    pub fn apply(&mut self, pod: &Pod, now: UnixTime) -> Applied {
        let applied = self.applied(pod, now.0);
        let counter = match applied {
            Applied::Added => &mut self.counters.added,
            Applied::Updated => &mut self.counters.updated,
            Applied::Repeated => &mut self.counters.repeated,
            Applied::Stale => &mut self.counters.stale,
            Applied::Refused => &mut self.counters.refused,
            Applied::Invalid => &mut self.counters.invalid,
        };
        *counter += 1;
        if applied == Applied::Refused && self.counters.refused == 1 {
            tracing::warn!(
                max_pods = self.settings.max_pods,
                "there are more pods than may be kept: the others are unknown; raise kubernetes.max_pods"
            );
        }
        applied
    }

    fn applied(&mut self, pod: &Pod, now: u64) -> Applied {
        if pod.metadata.uid.is_empty() {
            return Applied::Invalid;
        }
        let uid = Uid::new(&pod.metadata.uid);
        if let Some(slot) = self.slot_of(&uid) {
            return self.update(slot, pod, now);
        }
        if self.deleted.iter().any(|(deleted, _)| *deleted == uid) {
            return Applied::Stale;
        }
        if self.len() >= self.settings.max_pods {
            self.expire(UnixTime(now));
        }
        if self.len() >= self.settings.max_pods && !self.evict_longest_gone() {
            return Applied::Refused;
        }
        let (mut record, left_out) = self.shared.reduce(pod, None, &self.settings, now);
        self.counters.oversized += left_out;
        record.list = self.list;
        self.insert(record);
        Applied::Added
    }

    /// Makes room at the expense of the pod that has been gone for longest, before its grace is over; whether there is one.
    fn evict_longest_gone(&mut self) -> bool {
        let slots = (0_u32..).zip(&self.slots);
        let gone = slots.filter_map(|(slot, record)| Some((record.as_ref()?.gone, slot)));
        let Some((gone, slot)) = gone.filter(|(gone, _)| *gone != NEVER).min() else {
            return false;
        };
        // What comes late of it does not bring it back, unless nobody said that it was deleted.
        if let Some(record) = self.record(slot)
            && !record.only_missing
        {
            let uid = record.uid.clone();
            self.remember_deleted(uid, gone);
        }
        self.remove(slot);
        self.counters.expired += 1;
        true
    }

    fn update(&mut self, slot: u32, pod: &Pod, now: u64) -> Applied {
        let Some(mut old) = self.take(slot) else {
            return Applied::Stale;
        };
        old.list = self.list;
        let version = pod.metadata.resource_version.parse().unwrap_or(0);
        let known = old.version;
        let compared = (version != 0 && known != 0).then(|| version.cmp(&known));
        let applied = match compared {
            _ if !old.is_alive() && !old.only_missing => Applied::Stale,
            Some(std::cmp::Ordering::Less) => Applied::Stale,
            Some(std::cmp::Ordering::Equal) => Applied::Repeated,
            Some(std::cmp::Ordering::Greater) | None => Applied::Updated,
        };
        if old.only_missing {
            // The list that lacked it was an old one.
            (old.gone, old.only_missing) = (NEVER, false);
        }
        if applied != Applied::Updated {
            self.put(slot, old);
            return applied;
        }
        let (mut new, left_out) = self.shared.reduce(pod, Some(&old), &self.settings, now);
        self.counters.oversized += left_out;
        new.list = self.list;
        for key in old.keys().filter(|key| new.find(key).is_none()) {
            self.containers.remove(key, slot);
        }
        for key in new.keys() {
            self.containers.insert(key, slot);
        }
        if old.config_hash != new.config_hash {
            if let Some(hash) = &old.config_hash {
                self.hashes.remove(hash, slot);
            }
            if let Some(hash) = &new.config_hash {
                self.hashes.insert(hash, slot);
            }
        }
        *old = new;
        self.put(slot, old);
        Applied::Updated
    }

    /// A pod was deleted. Apply its last state first where the watch gives it: it has the times at which its
    /// containers ended.
    pub fn delete(&mut self, uid: &str, now: UnixTime) {
        self.counters.deleted += 1;
        let uid = Uid::new(uid);
        let slot = self.slot_of(&uid);
        match slot.and_then(|slot| self.slots.get_mut(slot as usize)?.as_mut()) {
            Some(record) => {
                record.gone = record.gone.min(now.0);
                record.only_missing = false;
            }
            None => self.remember_deleted(uid, now.0),
        }
    }

    fn remember_deleted(&mut self, uid: Uid, at: u64) {
        if self.deleted.len() >= MAX_DELETED {
            self.deleted.pop_front();
        }
        self.deleted.push_back((uid, at));
    }

    /// A list of all pods begins; what is applied from here to [`Store::end_list`] is in it. A list that was begun
    /// before and not ended proves nothing about what it lacked.
    pub fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
        self.listing = true;
    }

    /// The list is complete: what was not in it is gone. Without a list that was begun nothing happens.
    pub fn end_list(&mut self, now: UnixTime) {
        if !std::mem::take(&mut self.listing) {
            return;
        }
        self.synced = true;
        for record in self.slots.iter_mut().flatten() {
            if record.is_alive() && record.list != self.list {
                (record.gone, record.only_missing) = (now.0, true);
                self.counters.missing += 1;
            }
        }
    }

    /// Whether a list was complete once.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Forgets what ended longer ago than the grace period. Call it every few seconds.
    pub fn expire(&mut self, now: UnixTime) {
        let grace = nanos(self.settings.grace);
        let over = |at: u64| at.saturating_add(grace) <= now.0;
        self.deleted.retain(|(_, at)| !over(*at));
        let mut changed = false;
        for slot in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            let Some(Some(record)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            if over(record.gone) {
                self.remove(slot);
                self.counters.expired += 1;
                changed = true;
                continue;
            }
            let containers = &mut self.containers;
            for container in &mut record.containers {
                container.runs.retain(|run| {
                    let keep = run.listed || !over(run.ended);
                    if !keep {
                        containers.remove(&run.key, slot);
                    }
                    keep
                });
            }
        }
        if changed {
            self.shared.sweep();
        }
    }

    /// `k8s.cluster.uid`, once it is known.
    pub fn set_cluster_uid(&mut self, uid: Option<String>) {
        self.settings.cluster_uid = uid;
        self.forget_identities();
    }

    /// The uid of the node, once it is known.
    pub fn set_node(&mut self, node: Option<Node>) {
        self.settings.node = node;
        self.forget_identities();
    }

    fn forget_identities(&mut self) {
        for record in self.slots.iter_mut().flatten() {
            record.forget_identities();
        }
    }

    /// How many pods are kept, those that are gone but still answer among them.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often what happened.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn record(&self, slot: u32) -> Option<&PodRecord> {
        self.slots.get(slot as usize)?.as_deref()
    }

    fn slot_of(&self, uid: &Uid) -> Option<u32> {
        self.pods
            .candidates(uid)
            .find(|slot| self.record(*slot).is_some_and(|record| record.uid == *uid))
    }

    fn insert(&mut self, record: PodRecord) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.pods.insert(&record.uid, slot);
        if let Some(hash) = &record.config_hash {
            self.hashes.insert(hash, slot);
        }
        for key in record.keys() {
            self.containers.insert(key, slot);
        }
        self.put(slot, Box::new(record));
    }

    fn remove(&mut self, slot: u32) {
        let Some(record) = self.take(slot) else {
            return;
        };
        self.pods.remove(&record.uid, slot);
        if let Some(hash) = &record.config_hash {
            self.hashes.remove(hash, slot);
        }
        for key in record.keys() {
            self.containers.remove(key, slot);
        }
        self.free.push(slot);
    }

    fn take(&mut self, slot: u32) -> Option<Box<PodRecord>> {
        self.slots.get_mut(slot as usize)?.take()
    }

    fn put(&mut self, slot: u32, record: Box<PodRecord>) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(record);
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
