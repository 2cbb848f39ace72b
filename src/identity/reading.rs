//! Processes that other threads read: asked for once, unread until the answer is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use spandrel_model::ProcessKey;
use spandrel_probes::GoroutineLayout;

use super::procfs::Observed;
use super::readers::{Ticket, Told};
use super::{Identities, Known};
use crate::by_reason::ByReason;

/// How the reading of processes ended, by reason.
pub type Reads = ByReason;

/// How far the reading of a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reading {
    #[default]
    NotAsked,
    Asked(Ticket),
    /// There is an answer; the one about its goroutines has the same ticket.
    Told(Ticket),
    /// It was gone before it was read.
    Gone,
}

/// Something that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// What the process is.
    Read(ProcessKey),
    /// Where it keeps its goroutines' numbers.
    Goroutines(ProcessKey, GoroutineLayout),
    /// What a process is whose events still wait.
    Ahead(ProcessKey),
}

/// How a look at a process ended.
pub(super) fn outcome(seen: Option<&Observed>) -> &'static str {
    match seen {
        Some(seen) if seen.memory_passed => "memory_passed",
        Some(_) => "read",
        None => "gone",
    }
}

impl Identities {
    /// How the reading of processes ended.
    pub fn reads(&self) -> Arc<Reads> {
        Arc::clone(&self.reads)
    }

    /// Whether a process is not read yet.
    pub fn is_unread(&self, process: ProcessKey) -> bool {
        let known = self.entries.get(&process).and_then(|it| it.known.as_ref());
        known.is_some_and(|known| known.unread)
    }

    /// What has been read since the last time.
    pub fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Asks for a process, unless its end was told already.
    pub(super) fn look_beside(&mut self, process: ProcessKey, cgroup: u64) -> Known {
        if self.entry(process).reading == Reading::NotAsked {
            self.take_ahead(process, None);
        }
        let entry = self.entry(process);
        if let Some(known) = entry.known.take() {
            return known;
        }
        match entry.reading {
            Reading::Gone => return self.of_gone_in(process, cgroup),
            Reading::NotAsked | Reading::Told(_) => {
                let asked = self.readers.as_mut().and_then(|it| it.ask_process(process));
                if asked.is_none() {
                    self.reads.count("busy");
                }
                self.entry(process).reading = asked.map_or(Reading::NotAsked, Reading::Asked);
            }
            Reading::Asked(_) => {}
        }
        let entry = self.entry(process);
        let cgroup = if cgroup == 0 {
            entry.hint.cgroup
        } else {
            cgroup
        };
        let placement = self.groups.known(cgroup);
        let mut known = self.of_hint(process, placement, false);
        known.unread = true;
        known.candidate.unread = true;
        known.candidate.gone = false;
        known
    }

    fn of_gone_in(&mut self, process: ProcessKey, cgroup: u64) -> Known {
        self.of_reading(process, cgroup, None)
    }

    /// Takes in what was read. Whether anything is new; `None` where nobody reads.
    pub(crate) fn take_in_reads(&mut self) -> Option<bool> {
        self.readers.as_ref()?;
        let mut is_new = false;
        while let Some((ticket, told)) = self.readers.as_mut().and_then(|it| it.told()) {
            is_new = true;
            self.told(ticket, told);
        }
        Some(is_new)
    }

    /// Waits until everything that was asked for is read, until a time at most.
    pub fn await_reads(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        while let Some((ticket, told)) = self.readers.as_mut().and_then(|it| it.told_until(until)) {
            self.told(ticket, told);
        }
    }

    fn told(&mut self, ticket: Ticket, told: Told) {
        match told {
            Told::Groups(found) => self.groups.told(ticket, found),
            Told::Passed => self.reads.count("executable_passed"),
            Told::Process(process, seen) => {
                // Another program runs in it by now, or it was forgotten: this is not about it.
                let entry = self.entries.get(&process);
                let Some(entry) = entry.filter(|it| it.reading == Reading::Asked(ticket)) else {
                    return self.told_ahead(ticket, process, seen);
                };
                let cgroup = entry.hint.cgroup;
                let reading = match &seen {
                    Some(_) => Reading::Told(ticket),
                    None => Reading::Gone,
                };
                self.reads.count(outcome(seen.as_deref()));
                let known = self.of_reading(process, cgroup, seen.map(|seen| *seen));
                if let Some(entry) = self.entries.get_mut(&process) {
                    entry.reading = reading;
                    entry.known = Some(known);
                    if entry.exited.is_none() {
                        self.news.push(News::Read(process));
                    }
                }
            }
            Told::Goroutines(process, layout) => {
                let Some(layout) = layout else { return };
                let entry = self.entries.get_mut(&process);
                let entry = entry.filter(|it| it.reading == Reading::Told(ticket));
                match entry.and_then(|it| it.known.as_mut()) {
                    Some(known) => {
                        known.goroutines = Some(layout);
                        self.news.push(News::Goroutines(process, layout));
                    }
                    None => self.told_goroutines_ahead(ticket, process, layout),
                }
            }
        }
    }

    /// Counts something that was told without waiting longer for who did it.
    pub(crate) fn count_unanswered(&self) {
        self.reads.count("unanswered");
    }
}
