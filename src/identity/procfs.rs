//! A process as `/proc` shows it, read with bounds and checked against the reuse of its id.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use spandrel_k8s_meta::cgroup::{self, Placement};
use spandrel_model::ProcessKey;
use spandrel_probes::GoroutineLayout;
use spandrel_probes::cgroup::version1;

use super::environment::Declared;
use super::{golang, interpreter};

/// Length of a clock tick of `/proc/<pid>/stat` in nanoseconds: `USER_HZ` is 100 wherever Linux runs today.
pub(super) const TICK: u64 = 10_000_000;
const MAX_ENVIRON: u64 = 128 * 1024;
const MAX_ARGUMENTS: u64 = 32 * 1024;
const MAX_SMALL: u64 = 16 * 1024;

/// What `/proc` says about a process. What cannot be read is missing, never an error.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) parent: Option<u32>,
    pub(super) comm: String,
    pub(super) executable: Option<PathBuf>,
    pub(super) arguments: Vec<String>,
    pub(super) directory: Option<PathBuf>,
    /// The program that it is a part of, where its own command line does not tell that.
    pub(super) part_of: Option<CommandLine>,
    pub(super) declared: Declared,
    pub(super) placement: Placement,
    /// Where its group in the version 2 hierarchy alone tells the container.
    pub(super) unified: Option<Placement>,
    /// The same of its group of version 1 in the hierarchy that is taken there.
    pub(super) version1: Option<Placement>,
    pub(super) uid: Option<u32>,
    /// Its arguments and its environment, which are in its memory, were passed over.
    pub(super) memory_passed: bool,
}

/// What names a program.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    pub(super) executable: Option<PathBuf>,
    pub(super) arguments: Vec<String>,
    pub(super) directory: Option<PathBuf>,
}

/// How many generations above a process its program is looked for.
const MAX_GENERATIONS: usize = 4;

/// Reads a process, or `None` when it is gone or its id now belongs to another one. Its `memory` may stand still.
pub(super) fn observe(root: &Path, key: ProcessKey, memory: bool) -> Option<Observed> {
    let folder = root.join(key.tgid.to_string());
    let before = Stat::read(&folder).filter(|stat| stat.is(key))?;
    let cgroup = text(&folder.join("cgroup"), MAX_SMALL).unwrap_or_default();
    let of_memory = |name, limit| {
        let file = memory.then(|| folder.join(name));
        file.and_then(|file| bytes(&file, limit))
    };
    let CommandLine {
        executable,
        arguments,
        directory,
    } = command_line(&folder, memory);
    let program = executable.as_deref().and_then(file_name);
    let environ = of_memory("environ", MAX_ENVIRON).unwrap_or_default();
    let declared = Declared::of_program(program, &arguments, &environ);
    let part_of = program
        .filter(|program| interpreter::is_child_of_python(program, &arguments))
        .and_then(|_| parent_program(root, before.parent, executable.as_deref()));
    let observed = Observed {
        parent: Some(before.parent),
        comm: before.comm,
        executable,
        arguments,
        directory,
        part_of,
        memory_passed: !memory,
        declared,
        placement: cgroup::parse(&cgroup),
        unified: cgroup::unified_path(&cgroup)
            .map(cgroup::parse_path)
            .filter(|placement| placement.container.is_some()),
        version1: version1()
            .and_then(|chosen| cgroup::controller_path(&cgroup, &chosen.controller))
            .map(cgroup::parse_path)
            .filter(|placement| placement.container.is_some()),
        uid: text(&folder.join("status"), MAX_SMALL).and_then(|status| real_uid(&status)),
    };
    // The id may have changed hands while the files were read, and it may have lost its parent.
    let after = Stat::read(&folder).filter(|stat| stat.is(key))?;
    let same_parent = Some(after.parent) == observed.parent;
    Some(Observed {
        part_of: observed.part_of.filter(|_| same_parent),
        ..observed
    })
}

fn command_line(folder: &Path, memory: bool) -> CommandLine {
    let read = memory.then(|| bytes(&folder.join("cmdline"), MAX_ARGUMENTS));
    CommandLine {
        executable: link(&folder.join("exe")),
        arguments: read.flatten().map(|it| arguments(&it)).unwrap_or_default(),
        directory: link(&folder.join("cwd")),
    }
}

/// The nearest ancestor, from `parent` on, that multiprocessing has not made, while all of them run the same executable.
fn parent_program(root: &Path, parent: u32, executable: Option<&Path>) -> Option<CommandLine> {
    let mut pid = parent;
    for _ in 0..MAX_GENERATIONS {
        let folder = root.join(pid.to_string());
        let found = command_line(&folder, true);
        let program = found
            .executable
            .as_deref()
            .filter(|it| Some(*it) == executable);
        let program = program.and_then(file_name)?;
        if !interpreter::is_child_of_python(program, &found.arguments) {
            return Some(found);
        }
        pid = Stat::read(&folder)?.parent;
    }
    None
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Where a process keeps its goroutines' numbers: of all that is read of it, only this is in a file that anybody may have
/// put on a mount that stands still.
pub(super) fn goroutines(root: &Path, key: ProcessKey) -> Option<GoroutineLayout> {
    let folder = root.join(key.tgid.to_string());
    let layout = golang::layout(&folder.join("exe"))?;
    Stat::read(&folder).filter(|stat| stat.is(key))?;
    Some(layout)
}

/// The key of the process that has this id now; its start is known to the clock tick only.
pub(super) fn key_of(root: &Path, pid: u32) -> Option<ProcessKey> {
    let stat = Stat::read(&root.join(pid.to_string()))?;
    Some(ProcessKey {
        tgid: pid,
        started: stat.start_ticks.checked_mul(TICK)?,
    })
}

struct Stat {
    comm: String,
    parent: u32,
    start_ticks: u64,
}

impl Stat {
    fn read(folder: &Path) -> Option<Self> {
        let stat = String::from_utf8_lossy(&bytes(&folder.join("stat"), MAX_SMALL)?).into_owned();
        // The name may hold blanks and parentheses itself: the last one closes it.
        let open = stat.find('(')?;
        let close = stat.rfind(')').filter(|close| *close > open)?;
        let mut fields = stat.get(close + 1..)?.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        // From the 4th field, the parent, to the 22nd.
        let start_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self {
            comm: stat.get(open + 1..close)?.to_owned(),
            parent,
            start_ticks,
        })
    }

    fn is(&self, key: ProcessKey) -> bool {
        (key.started / TICK).abs_diff(self.start_ticks) <= 1
    }
}

fn bytes(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    File::open(path)
        .ok()?
        .take(limit)
        .read_to_end(&mut read)
        .ok()?;
    Some(read)
}

/// The first `limit` bytes of a text file.
pub(super) fn text(path: &Path, limit: u64) -> Option<String> {
    Some(String::from_utf8_lossy(&bytes(path, limit)?).into_owned())
}

fn link(path: &Path) -> Option<PathBuf> {
    let target = std::fs::read_link(path).ok()?;
    let text = target.to_str()?;
    Some(PathBuf::from(
        text.strip_suffix(" (deleted)").unwrap_or(text),
    ))
}

/// A program that sets its title leaves zeros behind it, so the empty arguments at the end are not its own.
fn arguments(read: &[u8]) -> Vec<String> {
    let mut arguments: Vec<String> = read
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    while arguments.last().is_some_and(String::is_empty) {
        arguments.pop();
    }
    arguments
}

fn real_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
