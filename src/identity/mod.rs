//! Whose telemetry it is: the resource of the service instance behind a process.
//!
//! A process is looked at when it starts or its first message asks for it, and only believed when its start time is that
//! of the key: a reused process id is never mistaken for the process before it. What cannot be read is left out. In a
//! live run other threads read, and until they have answered the process is unread: what is known is what its start told.

mod ahead;
mod attributes;
mod cgroupfs;
mod containers;
mod environment;
mod golang;
mod groups;
mod host;
mod instances;
mod interpreter;
mod naming;
mod pods;
mod procfs;
mod readers;
mod reading;
mod seeds;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use foldhash::fast::RandomState;
use spandrel_container_runtime::{Description, Names};
use spandrel_k8s_meta::attributes::Identity;
use spandrel_k8s_meta::cgroup::{self, Placement};
use spandrel_model::recording::RecordedIdentity;
use spandrel_model::{
    Attribute, KernelTime, ProcessExited, ProcessKey, ProcessStarted, Resource, UnixTime, Value,
};
use spandrel_probes::cgroup::VERSION1;
use spandrel_probes::{GoroutineLayout, Group};

use ahead::{Ahead, MAX_AHEAD};
pub use cgroupfs::Root as CgroupRoot;
use groups::{Found, Groups};
use host::Host;
use instances::Instances;
pub use pods::{PodOf, Whose};
use procfs::Observed;
use readers::Readers;
use reading::Reading;
pub use reading::{News, Reads};
use seeds::Seeds;
pub(crate) use seeds::recorded;

use crate::kubernetes::Kubernetes;
use crate::recent::Recent;

/// How identities are found out.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where `/proc` is; `None` in a replay, which knows only what was recorded.
    pub proc_root: Option<PathBuf>,
    /// Where the hierarchies of control groups are mounted to which the ids in events refer: version 2, and that of
    /// version 1 that is taken where a process is in the root of version 2.
    pub cgroup_roots: Vec<CgroupRoot>,
    /// Where the host's `/etc` is.
    pub etc: PathBuf,
    /// The node of the cluster that this host is, where it is one.
    pub node: Option<String>,
    /// Report `process.command_args`. Off by default: command lines carry secrets.
    pub command_args: bool,
    /// Each process is a service instance of its own, in its metrics as well.
    pub per_process: bool,
    /// Most processes, and most control groups, remembered at once.
    pub max_processes: usize,
    /// Attributes added to every resource that does not have them by itself.
    pub extra: Vec<Attribute>,
    /// How long an ended process is remembered for events that arrive late, in nanoseconds.
    pub grace: u64,
    /// Read processes on threads of their own, so that a file that stands still holds nothing else up.
    pub beside: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proc_root: Some(PathBuf::from("/proc")),
            cgroup_roots: cgroupfs::roots(),
            etc: PathBuf::from("/etc"),
            node: None,
            command_args: false,
            per_process: false,
            extra: Vec::new(),
            max_processes: 16_384,
            grace: 30_000_000_000,
            beside: false,
        }
    }
}

impl Settings {
    /// For a replay: nothing of this machine is looked at.
    pub fn replay() -> Self {
        Self {
            proc_root: None,
            ..Self::default()
        }
    }
}

/// What selectors decide by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The process.
    pub process: ProcessKey,
    /// The executable, if it could be read.
    pub executable: Option<PathBuf>,
    /// The container, if it runs in one.
    pub container_id: Option<String>,
    /// Its pod, as far as it is known.
    pub pod: PodOf,
    /// Nobody has read yet which executable and container it is.
    pub unread: bool,
    /// It was gone before anybody could read that.
    pub gone: bool,
}

/// What is left of a process that nobody looked at in time.
#[derive(Debug, Default)]
struct Hint {
    comm: String,
    filename: Option<String>,
    executable: Option<String>,
    parent: u32,
    cgroup: u64,
}

#[derive(Debug)]
struct Known {
    resource: Arc<Resource>,
    candidate: Candidate,
    /// Where it lives, if that could be read.
    placement: Option<Arc<Placement>>,
    /// What it declares of itself, which goes before what its pod says.
    declared: Vec<(String, String)>,
    /// Whether that is its name, too, in whichever way.
    names_itself: bool,
    /// The resource with what its pod says.
    in_pod: Option<(Arc<Identity>, Arc<Resource>)>,
    /// The resource with what the runtime of its container says.
    in_container: Option<(Arc<Description>, Arc<Resource>)>,
    goroutines: Option<GoroutineLayout>,
    /// Its control group is not known, and was not searched for yet.
    unsearched: bool,
    /// It was not read yet.
    unread: bool,
}

fn candidate(process: ProcessKey, seen: &Observed) -> Candidate {
    let container = seen.placement.container.as_ref();
    Candidate {
        process,
        container_id: container.map(|container| container.id.clone()),
        executable: seen.executable.clone(),
        pod: PodOf::Nobody,
        unread: false,
        gone: false,
    }
}

#[derive(Debug, Default)]
struct Entry {
    hint: Hint,
    /// The search for its control group that is waited for.
    search: Option<u64>,
    reading: Reading,
    known: Option<Known>,
    exited: Option<KernelTime>,
    used: u64,
}

impl Entry {
    fn in_group(&mut self, cgroup: u64) {
        if cgroup != 0 && self.hint.cgroup == 0 {
            self.hint.cgroup = cgroup;
            self.known = self.known.take().filter(|known| known.placement.is_some());
        }
    }
}

/// The identities of the processes of this host, bounded.
#[derive(Debug)]
pub struct Identities {
    settings: Settings,
    host: Host,
    entries: HashMap<ProcessKey, Entry, RandomState>,
    seeds: Seeds,
    instances: Instances,
    groups: Groups,
    readers: Option<Readers>,
    /// What was read before the events came that ask for it.
    ahead: Recent<ProcessKey, Ahead>,
    /// Processes of which something was read since the last time that somebody asked.
    news: Vec<News>,
    reads: Arc<Reads>,
    kubernetes: Option<Kubernetes>,
    containers: Option<Names>,
    exits: VecDeque<(KernelTime, ProcessKey)>,
    uses: u64,
    evicted: u64,
}

impl Identities {
    /// Reads the host; processes are read when they are asked for.
    pub fn new(settings: Settings) -> Self {
        let node = settings.node.as_deref();
        let host = settings
            .proc_root
            .as_deref()
            .map(|proc_root| Host::read(proc_root, &settings.etc, node, &settings.extra))
            .unwrap_or_default();
        let live = settings.proc_root.is_some();
        let roots = if live {
            settings.cgroup_roots.clone()
        } else {
            Vec::new()
        };
        let groups = Groups::new(roots, settings.max_processes);
        let proc_root = settings.proc_root.as_deref().filter(|_| settings.beside);
        let readers = proc_root.map(Readers::new);
        Self {
            instances: Instances::new(settings.per_process),
            settings,
            host,
            entries: HashMap::default(),
            seeds: Seeds::default(),
            groups,
            readers,
            ahead: Recent::new(MAX_AHEAD),
            news: Vec::new(),
            reads: Arc::default(),
            kubernetes: None,
            containers: None,
            exits: VecDeque::new(),
            uses: 0,
            evicted: 0,
        }
    }

    /// A process executed a program: what was known about the one before no longer holds.
    pub fn started(&mut self, event: &ProcessStarted) {
        self.forget_ended(event.stamp.time);
        self.seeds.started(event.process);
        let entry = self.entry(event.process);
        entry.known = None;
        entry.search = None;
        entry.reading = Reading::NotAsked;
        entry.exited = None;
        entry.hint = Hint {
            comm: event.comm.clone(),
            filename: event.filename.clone(),
            executable: event.executable.clone(),
            parent: event.parent,
            cgroup: event.cgroup,
        };
        self.take_ahead(event.process, Some(event.stamp.time));
    }

    /// A process ended. It stays known for the time of grace.
    pub fn exited(&mut self, event: &ProcessExited) {
        let now = event.stamp.time;
        self.forget_ended(now);
        self.ahead.remove(&event.process);
        if let Some(entry) = self.entries.get_mut(&event.process)
            && entry.exited.replace(now).is_none()
        {
            self.exits.push_back((now, event.process));
        }
    }

    /// Gives a process what was recorded of it; several count from their times on, or in the order of its programs.
    pub fn seed(&mut self, recorded: RecordedIdentity) {
        self.seeds.add(recorded);
    }

    /// Whether all that is known comes from a recording.
    pub(crate) fn are_recorded(&self) -> bool {
        self.settings.proc_root.is_none()
    }

    /// Turns to what was recorded of a process for a time. Without a recording nothing changes.
    pub(crate) fn as_of(&mut self, process: ProcessKey, at: UnixTime) {
        if self.seeds.turn_to(process, at)
            && let Some(entry) = self.entries.get_mut(&process)
        {
            entry.known = None;
        }
    }

    /// The resource of a process in the control group of this id (0 if unknown). Always the same `Arc` until the
    /// process executes another program or is forgotten.
    pub fn resource(&mut self, process: ProcessKey, cgroup: u64) -> Arc<Resource> {
        self.uses += 1;
        // Nearly always: every span asks.
        if let Some(entry) = self.entries.get_mut(&process)
            && let Some(known) = &entry.known
        {
            entry.used = self.uses;
            return Arc::clone(&known.resource);
        }
        Arc::clone(&self.known(process, cgroup).resource)
    }

    /// What selectors decide by.
    pub fn decide(&mut self, process: ProcessKey) -> Candidate {
        self.known(process, 0).candidate.clone()
    }

    /// The resource of the agent itself, without its name: the host, and which of all agents it is.
    pub fn of_agent(&self) -> Vec<Attribute> {
        let root = self.settings.proc_root.as_deref();
        let own = root.and_then(|root| procfs::key_of(root, std::process::id()));
        let instance = own.and_then(|own| attributes::instance_of_process(own, &self.host));
        let host = self.host.attributes.iter().cloned();
        instance.into_iter().chain(host).collect()
    }

    /// Where the process keeps its goroutines' numbers, if it is a Go program.
    pub fn goroutines(&mut self, process: ProcessKey) -> Option<GoroutineLayout> {
        self.known(process, 0).goroutines
    }

    /// The process that has this id now, for `explain`. Its start is exact to the clock tick only.
    pub fn find(&self, pid: u32) -> Option<ProcessKey> {
        procfs::key_of(self.settings.proc_root.as_deref()?, pid)
    }

    /// Processes remembered now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no process is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Processes forgotten for want of room since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// A process is in the control group of this id (0 if unknown). What was found out without it is found out anew.
    pub(crate) fn in_group(&mut self, process: ProcessKey, cgroup: u64) {
        self.entry(process).in_group(cgroup);
    }

    fn known(&mut self, process: ProcessKey, cgroup: u64) -> &Known {
        let again = self.is_search_due();
        let entry = self.entry(process);
        entry.in_group(cgroup);
        let group = entry.hint.cgroup;
        let (search, asked) = (entry.search, matches!(entry.reading, Reading::Asked(_)));
        let kept = entry.known.take();
        let again = again || self.groups.has_searched(search);
        // The kernel has told since where its group is.
        let is_placed = kept.as_ref().is_none_or(|it| it.placement.is_some());
        let is_named = !is_placed && self.groups.known(group).is_some();
        let known = match kept {
            Some(known) if known.unread && asked => known,
            Some(known) if !(known.unread || is_named || known.unsearched && again) => known,
            _ => self.look(process, cgroup),
        };
        self.entry(process).known.insert(known)
    }

    fn look(&mut self, process: ProcessKey, cgroup: u64) -> Known {
        if let Some(known) = self.seeds.known(process, &mut self.instances) {
            return known;
        }
        if self.readers.is_some() {
            return self.look_beside(process, cgroup);
        }
        let root = self.settings.proc_root.as_deref();
        let seen = root.and_then(|root| procfs::observe(root, process, true));
        let layout = root
            .filter(|_| seen.is_some())
            .and_then(|root| procfs::goroutines(root, process));
        let mut known = self.of_reading(process, cgroup, seen);
        known.goroutines = layout;
        known
    }

    /// What is known of a process by what was read, `None` if it is gone.
    fn of_reading(&mut self, process: ProcessKey, cgroup: u64, seen: Option<Observed>) -> Known {
        let hinted = |entry: &Entry| entry.hint.cgroup;
        let cgroup = if cgroup == 0 {
            self.entries.get(&process).map_or(0, hinted)
        } else {
            cgroup
        };
        let Some(seen) = seen else {
            return self.of_gone(process, cgroup);
        };
        let asked = attributes::Asked {
            host: &self.host,
            configured: self.configured_name(),
            arguments: self.settings.command_args,
            per_process: self.settings.per_process,
        };
        let nothing = Hint::default();
        let entry = self.entries.get(&process);
        let hint = entry.map_or(&nothing, |entry| &entry.hint);
        let attributes = attributes::of_observed(process, &seen, hint, &asked);
        let ending = seen.executable.is_none() && hint.executable.is_some();
        let names_itself = seen.declared.name().is_some();
        let known = Known {
            resource: self.made_of(attributes),
            candidate: Candidate {
                gone: ending && !self.are_recorded(),
                ..candidate(process, &seen)
            },
            goroutines: None,
            declared: seen.declared.pairs(),
            names_itself,
            placement: Some(Arc::new(seen.placement)),
            in_pod: None,
            in_container: None,
            unsearched: false,
            unread: false,
        };
        let in_group = if cgroup & VERSION1 == 0 {
            seen.unified
        } else {
            seen.version1
        };
        if let Some(placement) = in_group.filter(|_| cgroup != 0) {
            self.groups.remember(cgroup, Arc::new(placement));
        }
        known
    }

    /// Its neighbours in the same control group tell the container, or the group itself, if it is still there.
    fn of_gone(&mut self, process: ProcessKey, cgroup: u64) -> Known {
        let mut wanted = self.entries.get(&process).and_then(|entry| entry.search);
        let readers = self.readers.as_mut();
        let (placement, unsearched) = match self.groups.find(cgroup, &mut wanted, readers) {
            Found::There(placement) => (Some(placement), false),
            Found::Nowhere => (None, false),
            Found::NotYet => (None, true),
        };
        self.entry(process).search = wanted;
        self.of_hint(process, placement, unsearched)
    }

    /// What the start of a process told.
    fn of_hint(
        &mut self,
        process: ProcessKey,
        placement: Option<Arc<Placement>>,
        unsearched: bool,
    ) -> Known {
        let nothing = Hint::default();
        let entry = self.entries.get(&process);
        let hint = entry.map_or(&nothing, |entry| &entry.hint);
        let asked = attributes::Asked {
            host: &self.host,
            configured: self.configured_name(),
            arguments: false,
            per_process: self.settings.per_process,
        };
        let attributes = attributes::of_hint(process, hint, placement.as_deref(), &asked);
        let container = placement
            .as_ref()
            .and_then(|placement| placement.container.as_ref());
        Known {
            declared: Vec::new(),
            names_itself: false,
            in_pod: None,
            in_container: None,
            candidate: Candidate {
                process,
                executable: None,
                container_id: container.map(|container| container.id.clone()),
                pod: PodOf::Nobody,
                unread: false,
                gone: !self.are_recorded(),
            },
            resource: self.made_of(attributes),
            goroutines: None,
            placement,
            unsearched,
            unread: false,
        }
    }

    /// Another one whenever the pods of many processes may be other ones than before: those of the node, or groups, are.
    pub(crate) fn pods_version(&self) -> (u64, u64) {
        let pods = self.kubernetes.as_ref().map_or(0, Kubernetes::version);
        (pods, self.groups.version())
    }

    /// The kernel side tells where a group is. Whether that was not known.
    pub(crate) fn name_group(&mut self, group: &Group) -> bool {
        let placement = cgroup::parse_path(&group.path);
        // The innermost names tell the container; without the outermost nothing is known of who has none.
        if group.cut && placement.container.is_none() {
            return false;
        }
        self.groups.name(group.id, placement)
    }

    /// Whether the group of a process that is gone may be found now.
    pub(crate) fn is_search_due(&self) -> bool {
        self.groups.is_due()
    }

    /// What services are called that nobody else names: it goes before what is only derived from a unit or a program.
    fn configured_name(&self) -> Option<&str> {
        let mut extra = self.settings.extra.iter();
        let said = extra.find(|attribute| attribute.key == "service.name")?;
        match &said.value {
            Value::Str(name) if !name.is_empty() => Some(name),
            _ => None,
        }
    }

    fn made_of(&mut self, mut attributes: Vec<Attribute>) -> Arc<Resource> {
        attributes.extend_from_slice(&self.settings.extra);
        self.instances.resource(attributes)
    }

    fn entry(&mut self, process: ProcessKey) -> &mut Entry {
        if self.entries.len() >= self.settings.max_processes && !self.entries.contains_key(&process)
        {
            self.evict();
        }
        self.uses += 1;
        let entry = self.entries.entry(process).or_default();
        entry.used = self.uses;
        entry
    }

    /// Makes room for an eighth at once, so that the search for the least recently used is paid rarely.
    fn evict(&mut self) {
        let mut uses: Vec<u64> = self.entries.values().map(|entry| entry.used).collect();
        uses.sort_unstable();
        let Some(limit) = uses.get(uses.len() / 8).copied() else {
            return;
        };
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.used > limit);
        self.exits
            .retain(|(_, process)| self.entries.contains_key(process));
        self.evicted += u64::try_from(before - self.entries.len()).unwrap_or(u64::MAX);
    }

    /// Time comes from the events themselves, so that a replay forgets what the run forgot.
    fn forget_ended(&mut self, now: KernelTime) {
        while let Some((exited, process)) = self.exits.front().copied() {
            if now.since(exited) <= self.settings.grace {
                return;
            }
            self.exits.pop_front();
            // It may have been seen to start again: then it has not ended after all.
            if self
                .entries
                .get(&process)
                .is_some_and(|entry| entry.exited == Some(exited))
            {
                self.entries.remove(&process);
            }
        }
    }
}

#[cfg(test)]
mod containers_tests;
#[cfg(test)]
mod pods_tests;
#[cfg(test)]
mod reading_tests;
#[cfg(test)]
mod tests;
