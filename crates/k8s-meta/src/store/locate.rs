//! Look-ups: by the place of a process, by container id, by what names the pod.

use std::sync::Arc;

use spandrel_model::UnixTime;

use super::key::{ContainerKey, Uid, config_hash};
use super::lookup::{Ended, Lookup, Waiting};
use super::record::PodRecord;
use super::{Store, nanos};
use crate::attributes;
use crate::cgroup::{Placement, PodRef, Runtime};

/// Containers are named by people with some runtimes, so their ids are used again; start times are cut to seconds.
const SLACK: u64 = 2_000_000_000;

impl Store {
    /// Who the process at this place is, of something that happened at `at`.
    pub fn locate(&mut self, place: &Placement, at: UnixTime) -> Lookup {
        let foreign = |runtime: Option<Runtime>| {
            matches!(runtime, Some(Runtime::Lxc | Runtime::Podman)) && place.pod.is_none()
        };
        match (&place.container, &place.pod) {
            _ if place.is_host() => Lookup::NotInPod,
            (None, None) => Lookup::NotInPod,
            (Some(container), _) if foreign(container.runtime) => Lookup::NotInPod,
            (Some(container), pod) => self.container_in(&container.id, pod.as_ref(), at),
            (None, Some(pod)) => match self.pod(pod, at) {
                Lookup::Found(identity) => Lookup::NoContainer(identity),
                other => other,
            },
        }
    }

    /// Who the container with this id is, of something that happened at `at`.
    pub fn container(&mut self, id: &str, at: UnixTime) -> Lookup {
        self.container_in(id, None, at)
    }

    /// Which pod this is, of something that happened at `at`; the identity has no container.
    pub fn pod(&mut self, pod: &PodRef, at: UnixTime) -> Lookup {
        let Some(slot) = self.slot_by_ref(pod, at.0) else {
            return self.unknown();
        };
        let Self {
            slots, settings, ..
        } = self;
        let Some(Some(record)) = slots.get_mut(slot as usize) else {
            return self.unknown();
        };
        if at.0 >= record.gone.saturating_add(nanos(settings.grace)) {
            return Lookup::Gone(Ended::PodDeleted);
        }
        if let Some(identity) = record.identity.upgrade() {
            return Lookup::Found(identity);
        }
        let identity = Arc::new(attributes::identify(settings, record, None));
        record.identity = Arc::downgrade(&identity);
        Lookup::Found(identity)
    }

    fn container_in(&mut self, id: &str, pod: Option<&PodRef>, at: UnixTime) -> Lookup {
        let key = ContainerKey::new(id);
        if let Some((slot, container, run)) = self.find_container(&key, pod, at.0) {
            return self.of_run(slot, container, run, at.0);
        }
        let Some(pod) = pod else {
            return self.unknown();
        };
        match self.pod(pod, at) {
            Lookup::Found(identity) => {
                let told = self
                    .slot_by_ref(pod, at.0)
                    .and_then(|slot| self.record(slot))
                    .map_or(0, |it| it.told);
                if told >= at.0.saturating_add(nanos(self.settings.settle)) {
                    Lookup::NoContainer(identity)
                } else {
                    Lookup::NotYet(Waiting::ContainerUnknown(identity))
                }
            }
            other => other,
        }
    }

    /// Several pods have the same container where a static pod's mirror was made again.
    fn find_container(
        &self,
        key: &ContainerKey,
        pod: Option<&PodRef>,
        at: u64,
    ) -> Option<(u32, usize, usize)> {
        let found = self.containers.candidates(key).filter_map(|slot| {
            let record = self.record(slot)?;
            let (container, run) = record.find(key)?;
            let named = matches!(key, ContainerKey::Text(_));
            let started = record.containers.get(container)?.runs.get(run)?.started;
            let before = named && started > at.saturating_add(SLACK);
            let other = pod.is_some_and(|pod| !is_ref(record, pod));
            (!before && !other).then_some((slot, container, run))
        });
        found.max_by_key(|(slot, ..)| {
            self.record(*slot)
                .map(|it| (it.created <= at, it.created, it.is_alive()))
        })
    }

    fn of_run(&mut self, slot: u32, container: usize, run: usize, at: u64) -> Lookup {
        let Self {
            slots, settings, ..
        } = self;
        let grace = nanos(settings.grace);
        let Some(Some(record)) = slots.get_mut(slot as usize) else {
            return self.unknown();
        };
        if at >= record.gone.saturating_add(grace) {
            return Lookup::Gone(Ended::PodDeleted);
        }
        let Some(known) = record
            .containers
            .get(container)
            .and_then(|it| it.runs.get(run))
        else {
            return self.unknown();
        };
        if at >= known.ended.saturating_add(grace) {
            return Lookup::Gone(Ended::ContainerEnded);
        }
        if let Some(identity) = known.identity.upgrade() {
            return Lookup::Found(identity);
        }
        let identity = Arc::new(attributes::identify(
            settings,
            record,
            Some((container, run)),
        ));
        let cache = record
            .containers
            .get_mut(container)
            .and_then(|it| it.runs.get_mut(run));
        if let Some(known) = cache {
            known.identity = Arc::downgrade(&identity);
        }
        Lookup::Found(identity)
    }

    fn unknown(&self) -> Lookup {
        Lookup::NotYet(if self.synced {
            Waiting::PodUnknown
        } else {
            Waiting::NotSynced
        })
    }

    /// A static pod's hash outlives its mirror pod, so several may have it: the last that was made before `at`.
    fn slot_by_ref(&self, pod: &PodRef, at: u64) -> Option<u32> {
        match pod {
            PodRef::Uid(uid) => self.slot_of(&Uid::new(uid)),
            PodRef::ConfigHash(text) => {
                let hash = config_hash(text)?;
                let found = self
                    .hashes
                    .candidates(&hash)
                    .filter_map(|slot| Some((slot, self.record(slot)?)));
                found
                    .filter(|(_, record)| record.config_hash == Some(hash))
                    .max_by_key(|(_, it)| (it.created <= at, it.created, it.is_alive()))
                    .map(|(slot, _)| slot)
            }
        }
    }
}

fn is_ref(record: &PodRecord, pod: &PodRef) -> bool {
    match pod {
        PodRef::Uid(uid) => record.uid == Uid::new(uid),
        PodRef::ConfigHash(text) => record
            .config_hash
            .is_some_and(|hash| config_hash(text) == Some(hash)),
    }
}
