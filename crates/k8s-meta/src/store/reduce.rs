//! From the API's pod to the record that is kept.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use super::intern::Interner;
use super::key::{Uid, config_hash};
use super::record::{ContainerRecord, Image, NEVER, Pairs, PodRecord};
use super::runs;
use super::settings::Settings;
use crate::attributes::{RESOURCE_PREFIX, SERVICE_LABELS};
use crate::image;
use crate::owner::Owner;
use crate::pod::{ContainerSpec, ContainerStatus, Pod};
use crate::timestamp;

/// Annotations may have 256 KiB together, but what describes a service is short.
const MAX_VALUE: usize = 4096;
/// Most labels, and most annotations, kept of one pod.
const MAX_PAIRS: usize = 128;
/// Most containers kept of one pod.
const MAX_CONTAINERS: usize = 64;
/// Static pods: the hash that their control groups have in place of the uid.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// The values that pods share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    texts: Interner<str>,
    pairs: Interner<Pairs>,
    owners: Interner<Owner>,
    images: Interner<Image>,
}

impl Shared {
    pub(crate) fn sweep(&mut self) {
        self.pairs.sweep();
        self.owners.sweep();
        self.images.sweep();
        // The last, as those above hold texts.
        self.texts.sweep();
    }

    /// The record, and how many labels and annotations were left out for their size.
    pub(crate) fn reduce(
        &mut self,
        pod: &Pod,
        old: Option<&PodRecord>,
        settings: &Settings,
        now: u64,
    ) -> (PodRecord, u64) {
        let meta = &pod.metadata;
        let (labels, left_out) = self.pairs(meta.labels.iter().filter(|(key, _)| {
            settings.labels.matches(key)
                || settings.kept_labels.matches(key)
                || (settings.service_from_labels && SERVICE_LABELS.contains(&key.as_str()))
        }));
        let (annotations, more) = self.pairs(meta.annotations.iter().filter(|(key, _)| {
            key.starts_with(RESOURCE_PREFIX)
                || settings.annotations.matches(key)
                || settings.kept_annotations.matches(key)
        }));
        let owner = Owner::of(meta).map(|owner| self.owners.intern_made(Arc::new(owner)));
        let ips = pod
            .status
            .pod_ips
            .iter()
            .filter_map(|it| it.ip.parse::<IpAddr>().ok());
        let time = |text: &Option<String>| text.as_deref().and_then(timestamp::parse).unwrap_or(0);
        let name = match old {
            Some(old) if *old.name == *meta.name => Arc::clone(&old.name),
            _ => meta.name.as_str().into(),
        };
        let mut record = PodRecord {
            uid: Uid::new(&meta.uid),
            config_hash: meta
                .annotations
                .get(CONFIG_HASH)
                .and_then(|it| config_hash(it)),
            name,
            namespace: self.texts.intern(&meta.namespace),
            node: self.texts.intern(&pod.spec.node_name),
            hostname: pod
                .spec
                .hostname
                .as_deref()
                .filter(|it| !it.is_empty())
                .map(Arc::from),
            ips: ips.collect(),
            owner,
            labels,
            annotations,
            created: time(&meta.creation_timestamp),
            started: time(&pod.status.start_time),
            version: meta.resource_version.parse().unwrap_or(0),
            told: now,
            gone: NEVER,
            only_missing: false,
            list: 0,
            containers: self.containers(pod, old, settings, now),
            identity: Weak::new(),
        };
        if let Some(old) = old {
            keep_what_is_no_longer_told(&mut record, old);
        }
        (record, left_out + more)
    }

    fn pairs<'a>(
        &mut self,
        chosen: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> (Arc<Pairs>, u64) {
        let mut left_out = 0;
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for (key, value) in chosen {
            if pairs.len() < MAX_PAIRS && value.len() <= MAX_VALUE {
                pairs.push((self.texts.intern(key), self.texts.intern(value)));
            } else {
                left_out += 1;
            }
        }
        (self.pairs.intern(&pairs), left_out)
    }

    fn containers(
        &mut self,
        pod: &Pod,
        old: Option<&PodRecord>,
        settings: &Settings,
        now: u64,
    ) -> Box<[ContainerRecord]> {
        let (spec, status) = (&pod.spec, &pod.status);
        let grace = super::nanos(settings.grace);
        let mut found = Vec::with_capacity(spec.containers.len() + spec.init_containers.len());
        for (specs, statuses) in [
            (&spec.init_containers, &status.init_container_statuses),
            (&spec.containers, &status.container_statuses),
            (
                &spec.ephemeral_containers,
                &status.ephemeral_container_statuses,
            ),
        ] {
            let only_in_status = statuses
                .iter()
                .filter(|status| !specs.iter().any(|spec| spec.name == status.name));
            let names = specs
                .iter()
                .map(|spec| (Some(spec), statuses.iter().find(|it| it.name == spec.name)))
                .chain(only_in_status.map(|status| (None, Some(status))));
            for (spec, status) in names {
                let Some(name) = spec.map(|it| &it.name).or(status.map(|it| &it.name)) else {
                    continue;
                };
                let before = old
                    .and_then(|old| old.containers.iter().find(|it| *it.name == **name))
                    .map_or(&[][..], |it| &it.runs);
                let image = self.image(spec, status);
                let mut runs = runs::merge(status, &image, before, now, grace);
                if runs.len() <= 1 {
                    runs.shrink_to_fit();
                }
                let variables = spec.map_or(&[][..], |it| &it.env).iter();
                let variables = variables.map(|(name, value)| (name, value));
                found.push(ContainerRecord {
                    name: self.texts.intern(name),
                    variables: self.pairs(variables).0,
                    runs,
                });
            }
        }
        found.truncate(MAX_CONTAINERS);
        found.into()
    }

    fn image(
        &mut self,
        spec: Option<&ContainerSpec>,
        status: Option<&ContainerStatus>,
    ) -> Arc<Image> {
        let asked = spec.map_or("", |it| it.image.as_str());
        let (image, id) = status.map_or(("", ""), |it| (&it.image, &it.image_id));
        let image = Image {
            reference: image::running(asked, image, id).into(),
            id: id.into(),
        };
        self.images.intern_made(Arc::new(image))
    }
}

/// The last words about a pod often have no addresses and no start; both were true all the same.
fn keep_what_is_no_longer_told(record: &mut PodRecord, old: &PodRecord) {
    if record.ips.is_empty() {
        record.ips.clone_from(&old.ips);
    }
    if record.started == 0 {
        record.started = old.started;
    }
    if record.node.is_empty() {
        record.node = Arc::clone(&old.node);
    }
}
