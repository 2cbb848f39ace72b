//! What is known of containers, for the thread that must not wait.

use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::answered::Answered;
use crate::counters::Counters;
use crate::description::Description;
use crate::failure::Failure;
use crate::sockets::Api;
use crate::worker::{Question, Worker};

/// Containers that are remembered; when there are more, all are asked about again.
const MAX_CONTAINERS: usize = 4096;
/// After this time a container that nobody knew is asked about again, in nanoseconds. A runtime knows a container before its
/// first process runs, so this is for runtimes that were restarted.
const AGAIN_UNKNOWN: u64 = 60_000_000_000;
/// The same where no runtime could be asked.
const AGAIN_UNASKED: u64 = 5_000_000_000;

/// Where to ask, and how long something may wait for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Paths of sockets, asked in this order.
    pub sockets: Vec<PathBuf>,
    /// [`Answer::NotYet`] is said this long at most.
    pub hold: Duration,
}

/// What is known of a container now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Known(Arc<Description>),
    /// A runtime was asked and has not answered: look again a little later.
    NotYet,
    /// Nothing, and waiting does not help.
    Unknown,
}

#[derive(Debug)]
enum Entry {
    Asked { until: u64 },
    Known(Arc<Description>),
    Unknown { until: u64 },
}

/// The containers that were asked about. The caller's clock counts, in nanoseconds: see [`Names::take_in`].
#[derive(Debug)]
pub struct Names {
    settings: Settings,
    entries: HashMap<Arc<str>, Entry, RandomState>,
    /// When waits are over, the first to be over first.
    waits: VecDeque<(u64, Arc<str>)>,
    worker: Option<Worker>,
    answered: Answered,
    counters: Arc<Counters>,
    hold: u64,
    now: u64,
}

impl Names {
    /// Asks nothing yet, and starts no thread.
    pub fn new(settings: Settings) -> Self {
        Self {
            hold: u64::try_from(settings.hold.as_nanos()).unwrap_or(u64::MAX),
            settings,
            entries: HashMap::default(),
            waits: VecDeque::new(),
            worker: None,
            answered: Answered::default(),
            counters: Arc::default(),
            now: 0,
        }
    }

    /// How questions have ended.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// What tells that there is an answer to take in, for a caller that has time to wait for one.
    pub fn answered(&self) -> Answered {
        self.answered.clone()
    }

    /// What is known of the container with this id, which is 64 hexadecimal digits; of those that speak `api` only, if that
    /// is known. The first look-up asks.
    pub fn look_up(&mut self, id: &str, api: Option<Api>) -> Answer {
        let is_new = match self.entries.get(id) {
            Some(Entry::Known(description)) => return Answer::Known(Arc::clone(description)),
            Some(Entry::Asked { until }) if self.now < *until => return Answer::NotYet,
            Some(Entry::Asked { .. }) => return Answer::Unknown,
            Some(Entry::Unknown { until }) if self.now < *until => return Answer::Unknown,
            Some(Entry::Unknown { .. }) => false,
            None => true,
        };
        if !is_id(id) {
            return Answer::Unknown;
        }
        self.ask(Arc::from(id), api, is_new)
    }

    /// Takes in what runtimes have said until now, which is the caller's time. Whether there is something new: an answer, or a
    /// wait that is over.
    pub fn take_in(&mut self, now: u64) -> bool {
        if self.now == 0 {
            self.began(now);
        }
        self.now = self.now.max(now);
        let mut is_new = false;
        while let Some((id, outcome)) = self.worker.as_mut().and_then(Worker::told) {
            is_new = true;
            let entry = match outcome {
                Ok(description) => {
                    self.counters.count("found");
                    Entry::Known(Arc::new(description))
                }
                Err(failure) => {
                    self.counters.count(failure.reason());
                    let pause = match failure {
                        Failure::NotFound => AGAIN_UNKNOWN,
                        _ => AGAIN_UNASKED,
                    };
                    Entry::Unknown {
                        until: self.now.saturating_add(pause),
                    }
                }
            };
            self.entries.insert(id, entry);
        }
        while let Some((until, id)) = self.waits.front()
            && *until <= self.now
        {
            is_new |= matches!(self.entries.get(id), Some(Entry::Asked { .. }));
            self.waits.pop_front();
        }
        is_new
    }

    /// What was asked before the first time was told waits from then on.
    fn began(&mut self, now: u64) {
        let waits_until = now.saturating_add(self.hold);
        for entry in self.entries.values_mut() {
            match entry {
                Entry::Asked { until } => *until = waits_until,
                Entry::Unknown { until } => *until = until.saturating_add(now),
                Entry::Known(_) => {}
            }
        }
        for (until, _) in &mut self.waits {
            *until = waits_until;
        }
    }

    fn ask(&mut self, id: Arc<str>, api: Option<Api>, is_new: bool) -> Answer {
        let fits = |path: &&PathBuf| api.is_none_or(|api| Api::of(path) == api);
        let sockets = self.settings.sockets.iter();
        if !sockets.filter(fits).any(is_socket) {
            if is_new {
                self.counters.count("no_socket");
            }
            self.remember(
                id,
                Entry::Unknown {
                    until: self.now.saturating_add(AGAIN_UNASKED),
                },
            );
            return Answer::Unknown;
        }
        if self.worker.is_none() {
            self.worker = Worker::start(self.settings.sockets.clone(), self.answered.clone())
                .inspect_err(|error| tracing::debug!(%error, "containers keep their ids only"))
                .ok();
        }
        let question = Question {
            id: Arc::clone(&id),
            api,
        };
        if !self
            .worker
            .as_mut()
            .is_some_and(|worker| worker.ask(question))
        {
            self.counters.count("busy");
            self.remember(
                id,
                Entry::Unknown {
                    until: self.now.saturating_add(AGAIN_UNASKED),
                },
            );
            return Answer::Unknown;
        }
        let until = self.now.saturating_add(self.hold);
        self.waits.push_back((until, Arc::clone(&id)));
        self.remember(id, Entry::Asked { until });
        if self.hold == 0 {
            Answer::Unknown
        } else {
            Answer::NotYet
        }
    }

    /// Questions that are on their way stay: as many as the worker takes.
    fn remember(&mut self, id: Arc<str>, entry: Entry) {
        if self.entries.len() >= MAX_CONTAINERS && !self.entries.contains_key(&id) {
            self.entries
                .retain(|_, entry| matches!(entry, Entry::Asked { .. }));
        }
        self.entries.insert(id, entry);
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_socket(path: &PathBuf) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}
