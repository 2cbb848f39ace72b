//! Threads that read what may stand still: files of a process whose memory or executable is on a stalled mount, and the
//! whole tree of control groups. Whoever asks never waits.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use spandrel_k8s_meta::cgroup::Placement;
use spandrel_model::ProcessKey;
use spandrel_probes::GoroutineLayout;

use super::cgroupfs::{Root, Search};
use super::procfs::{self, Observed};

/// Threads at most that get on. They start when there is a question that no other one is free for.
const MAX_THREADS: usize = 4;
/// One that reads for longer than this stands still: another one takes its place.
const STANDS_STILL: Duration = Duration::from_millis(500);
/// Threads at most, with those that stand still. The last of them reads no process' memory, so that processes are read
/// whatever stands still there.
const ALL_THREADS: usize = 32;
/// How many of them may read executables, which are the files that anybody can put on a mount of their own: the others
/// go on with what names a process.
const MAX_EXECUTABLES: usize = 2;
/// Processes, and searches for groups, that are not read yet at most; and executables of processes that are.
const MAX_OPEN: usize = 4096;

/// Answers that nobody has taken yet at most: a thread with one more waits.
const MAX_ANSWERS: usize = 256;

/// What is asked for.
#[derive(Debug)]
enum Question {
    Process(ProcessKey),
    Goroutines(ProcessKey),
    Groups(Vec<Root>),
}

/// An answer.
#[derive(Debug)]
pub(super) enum Told {
    /// What a process is; `None` if it is gone.
    Process(ProcessKey, Option<Box<Observed>>),
    /// Where a process keeps its goroutines' numbers, if it has any.
    Goroutines(ProcessKey, Option<GoroutineLayout>),
    /// An executable is not read: too many newer ones wait.
    Passed,
    /// All control groups.
    Groups(Vec<(u64, Placement)>),
}

/// A number that a question has, and its answer.
pub(super) type Ticket = u64;

/// The threads; they end with their owner, but for those that stand still.
#[derive(Debug)]
pub(super) struct Readers {
    shared: Arc<Shared>,
    answers: Receiver<(Ticket, Told)>,
    tell: SyncSender<(Ticket, Told)>,
    tickets: Ticket,
    open: usize,
}

#[derive(Debug)]
struct Shared {
    proc_root: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Ticket, Question)>,
    executables: VecDeque<(Ticket, Question)>,
    reading_executables: usize,
    reading_memory: usize,
    /// For each thread since when it reads, if it does.
    threads: Vec<Option<Instant>>,
    closed: bool,
}

impl State {
    /// Whether one more thread is of use.
    fn needs_thread(&self) -> bool {
        let idle = self.threads.iter().filter(|it| it.is_none()).count();
        let still = self.threads.iter().flatten();
        let still = still
            .filter(|since| since.elapsed() >= STANDS_STILL)
            .count();
        self.waiting.len() > idle
            && self.threads.len() < ALL_THREADS
            && self.threads.len() - still < MAX_THREADS
    }

    fn reads(&mut self, thread: usize, since: Option<Instant>) {
        if let Some(it) = self.threads.get_mut(thread) {
            *it = since;
        }
    }

    fn next(&mut self) -> Option<(Ticket, Question)> {
        if let Some(question) = self.waiting.pop_front() {
            return Some(question);
        }
        if self.reading_executables >= MAX_EXECUTABLES {
            return None;
        }
        let question = self.executables.pop_front()?;
        self.reading_executables += 1;
        Some(question)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readers {
    /// Starts no thread yet.
    pub(super) fn new(proc_root: &Path) -> Self {
        let (tell, answers) = sync_channel(MAX_ANSWERS);
        Self {
            shared: Arc::new(Shared {
                proc_root: proc_root.to_owned(),
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
            answers,
            tell,
            tickets: 0,
            open: 0,
        }
    }

    /// Asks what a process is; `None` if too many questions are open. The answer about its goroutines follows the one
    /// about itself, with the same ticket, and nobody waits for it.
    pub(super) fn ask_process(&mut self, process: ProcessKey) -> Option<Ticket> {
        self.ask(Question::Process(process))
    }

    /// Asks for all control groups.
    pub(super) fn ask_groups(&mut self, roots: &[Root]) -> Option<Ticket> {
        self.ask(Question::Groups(roots.to_vec()))
    }

    fn ask(&mut self, question: Question) -> Option<Ticket> {
        if self.open >= MAX_OPEN {
            return None;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let mut state = self.shared.lock();
        state.waiting.push_back((ticket, question));
        self.open += 1;
        self.start_thread(state);
        self.shared.changed.notify_one();
        Some(ticket)
    }

    fn start_thread(&self, mut state: MutexGuard<'_, State>) {
        if !state.needs_thread() {
            return;
        }
        let (shared, tell) = (Arc::clone(&self.shared), self.tell.clone());
        let number = state.threads.len();
        let started = thread::Builder::new()
            .name("identity".to_owned())
            .spawn(move || read(&shared, &tell, number));
        match started {
            Ok(_) => state.threads.push(None),
            Err(error) => tracing::warn!("cannot start a thread that reads processes: {error}"),
        }
    }

    /// An answer, if there is one.
    pub(super) fn told(&mut self) -> Option<(Ticket, Told)> {
        if self.open > 0 {
            self.start_thread(self.shared.lock());
        }
        let told = self.answers.try_recv().ok()?;
        self.close(&told.1);
        Some(told)
    }

    /// The same, and waits for it until a time.
    pub(super) fn told_until(&mut self, until: Instant) -> Option<(Ticket, Told)> {
        if self.open == 0 {
            return None;
        }
        let left = until.saturating_duration_since(Instant::now());
        let told = self.answers.recv_timeout(left.max(Duration::ZERO)).ok()?;
        self.close(&told.1);
        Some(told)
    }

    fn close(&mut self, told: &Told) {
        let is_asked = matches!(told, Told::Process(..) | Told::Groups(_));
        self.open -= usize::from(is_asked);
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

fn read(shared: &Shared, tell: &SyncSender<(Ticket, Told)>, number: usize) {
    let mut state = shared.lock();
    loop {
        if state.closed {
            return;
        }
        let Some((ticket, question)) = state.next() else {
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.reads(number, Some(Instant::now()));
        let of_process = matches!(question, Question::Process(_));
        let memory = of_process && state.reading_memory + 1 < ALL_THREADS;
        state.reading_memory += usize::from(memory);
        drop(state);
        let (told, next) = match question {
            Question::Process(process) => {
                let seen = procfs::observe(&shared.proc_root, process, memory).map(Box::new);
                let next = seen.is_some().then_some(Question::Goroutines(process));
                (Told::Process(process, seen), next)
            }
            Question::Goroutines(process) => {
                let layout = procfs::goroutines(&shared.proc_root, process);
                (Told::Goroutines(process, layout), None)
            }
            Question::Groups(roots) => (Told::Groups(Search::new(&roots).all()), None),
        };
        let of_executable = matches!(told, Told::Goroutines(..));
        // Nobody listens any more only at the end.
        drop(tell.send((ticket, told)));
        state = shared.lock();
        state.reads(number, None);
        state.reading_memory -= usize::from(memory);
        if of_executable {
            state.reading_executables -= 1;
        }
        let Some(next) = next else { continue };
        if state.executables.len() >= MAX_OPEN
            && let Some((passed, _)) = state.executables.pop_front()
        {
            drop(tell.send((passed, Told::Passed)));
        }
        state.executables.push_back((ticket, next));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn executables_that_stand_still_refuse_no_later_process() {
        let root = tempfile::tempdir().unwrap();
        let (folder, fifo) = (root.path().join("42"), root.path().join("executable"));
        fs::create_dir(&folder).unwrap();
        let zeros = "0 ".repeat(17);
        let stat = format!("42 (shop) S 7 {zeros}500 0\n");
        fs::write(folder.join("stat"), stat).unwrap();
        // Whoever opens it waits until somebody writes to it.
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlink(&fifo, folder.join("exe")).unwrap();
        let process = ProcessKey {
            tgid: 42,
            started: 500 * procfs::TICK,
        };
        let mut readers = Readers::new(root.path());
        let until = Instant::now() + Duration::from_secs(60);
        for number in 0..2 * MAX_OPEN {
            assert!(readers.ask_process(process).is_some(), "the {number}th");
            let told = loop {
                match readers.told_until(until) {
                    Some((_, Told::Process(_, seen))) => break seen,
                    Some(_) => {}
                    None => break None,
                }
            };
            assert!(told.is_some(), "the {number}th is read");
        }
        assert!(readers.shared.lock().executables.len() <= MAX_OPEN);
        drop(readers);
        // Unblocks the threads, and waits for none of them.
        drop(OpenOptions::new().read(true).write(true).open(&fifo));
    }
}
