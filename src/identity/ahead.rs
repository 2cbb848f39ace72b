//! Processes that the kernel side asks about, read before the pipeline comes to their events: one that lives shortly has
//! ended by then.

use spandrel_model::{KernelTime, ProcessKey};
use spandrel_probes::{Asked, GoroutineLayout};

use super::procfs::Observed;
use super::readers::Ticket;
use super::reading::{News, Reading, outcome};
use super::{Candidate, Identities, Known};

/// Most of them: as many as the kernel side asks about at once.
pub(super) const MAX_AHEAD: usize = 1024;

/// One of them.
#[derive(Debug)]
pub(super) struct Ahead {
    time: KernelTime,
    executed: bool,
    cgroup: u64,
    ticket: Ticket,
    /// What was read, nothing if it was gone.
    told: Option<Option<Box<Observed>>>,
    goroutines: Option<GoroutineLayout>,
}

impl Identities {
    /// Reads a process that is asked about, unless that is under way.
    pub(crate) fn ask_ahead(&mut self, asked: &Asked) {
        let process = asked.process;
        if !asked.executed {
            let entry = self.entries.get(&process);
            if entry.is_some_and(|it| it.reading != Reading::NotAsked) {
                return;
            }
            if let Some(ahead) = self.ahead.get(&process) {
                // What it was answered is not known where it is asked any more.
                if ahead.told.is_some() {
                    self.news.push(News::Ahead(process));
                }
                return;
            }
        }
        let Some(readers) = &mut self.readers else {
            return;
        };
        let Some(ticket) = readers.ask_process(process) else {
            return self.reads.count("busy");
        };
        let ahead = Ahead {
            time: asked.time,
            executed: asked.executed,
            cgroup: asked.cgroup,
            ticket,
            told: None,
            goroutines: None,
        };
        self.ahead.insert(process, ahead);
    }

    /// Whether a process is read ahead of its events.
    pub(crate) fn is_ahead(&mut self, process: ProcessKey) -> bool {
        self.ahead.get(&process).is_some()
    }

    /// What selectors decide by, of a process that was read ahead and is there.
    pub(crate) fn decide_ahead(
        &mut self,
        process: ProcessKey,
    ) -> Option<(Candidate, Option<GoroutineLayout>)> {
        let ahead = self.ahead.get(&process)?;
        let seen = ahead.told.as_ref()?.as_ref()?;
        Some((super::candidate(process, seen), ahead.goroutines))
    }

    /// Whether this answer is about one of them; if so it is taken.
    pub(super) fn told_ahead(
        &mut self,
        ticket: Ticket,
        process: ProcessKey,
        seen: Option<Box<Observed>>,
    ) {
        if let Some(ahead) = self.ahead.get(&process).filter(|it| it.ticket == ticket) {
            self.reads.count(outcome(seen.as_deref()));
            ahead.told = Some(seen);
            self.news.push(News::Ahead(process));
        }
    }

    pub(super) fn told_goroutines_ahead(
        &mut self,
        ticket: Ticket,
        process: ProcessKey,
        layout: GoroutineLayout,
    ) {
        if let Some(ahead) = self.ahead.get(&process).filter(|it| it.ticket == ticket) {
            ahead.goroutines = Some(layout);
            self.news.push(News::Ahead(process));
        }
    }

    /// The pipeline has come to the program that a process executed at a time, or to its first message: what was read ahead
    /// of that is what it is.
    pub(super) fn take_ahead(&mut self, process: ProcessKey, executed: Option<KernelTime>) {
        let is_it = |ahead: &mut Ahead| match executed {
            Some(time) => ahead.executed && ahead.time == time,
            None => !ahead.executed,
        };
        if !self.ahead.get(&process).is_some_and(is_it) {
            return;
        }
        let Some(ahead) = self.ahead.remove(&process) else {
            return;
        };
        let (reading, known) = match ahead.told {
            None => (Reading::Asked(ahead.ticket), None),
            Some(None) => (Reading::Gone, None),
            Some(Some(seen)) => {
                let known = self.of_reading(process, ahead.cgroup, Some(*seen));
                let known = Known {
                    goroutines: ahead.goroutines,
                    ..known
                };
                (Reading::Told(ahead.ticket), Some(known))
            }
        };
        let entry = self.entry(process);
        (entry.reading, entry.known) = (reading, known);
    }
}
