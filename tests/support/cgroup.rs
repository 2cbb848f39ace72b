//! Control groups of tests' own, named as container runtimes name them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::containers::fresh_id;
use super::machine::wait_until;

const LIMIT: Duration = Duration::from_secs(30);

/// Where the version 2 hierarchy is: the one whose ids events have, and whose groups have tokens.
pub(crate) fn unified() -> Option<PathBuf> {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    roots
        .into_iter()
        .find(|root| root.join("cgroup.controllers").is_file())
}

/// A control group, removed when dropped.
pub(crate) struct Cgroup {
    /// Of the container that it is named after.
    pub(crate) id: String,
    root: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// All are siblings, as those of the containers of a pod.
    pub(crate) fn new() -> Self {
        let id = fresh_id();
        Self::at(&format!("spandrel-tests/{id}"), &id)
    }

    /// At a path from the root, for a container with this id.
    pub(crate) fn at(path: &str, id: &str) -> Self {
        let root = unified().unwrap_or_else(|| "/sys/fs/cgroup/pids".into());
        let path = root.join(path);
        // Another test may remove a parent that is empty for a moment.
        wait_until("a control group", LIMIT, || {
            fs::create_dir_all(&path).is_ok()
        });
        Self {
            id: id.to_owned(),
            root,
            path,
        }
    }

    /// A command of the shell whose process lives in it.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]);
        self.put(&mut command);
        command
    }

    /// Makes the process of a command live in it, with the number that it has without.
    pub(crate) fn put(&self, command: &mut Command) {
        let procs = self.path.join("cgroup.procs");
        let enter = format!("echo $$ > {} && exec \"$@\"", procs.display());
        wrap(command, &["sh", "-c", &enter, "sh"].map(str::to_owned));
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        wait_until("end of the processes of a control group", LIMIT, || {
            !self.path.exists() || fs::remove_dir(&self.path).is_ok()
        });
        let above = self.path.ancestors().skip(1);
        for parent in above.take_while(|parent| *parent != self.root) {
            // Another test may use it.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Puts words before a command.
pub(crate) fn wrap(command: &mut Command, words: &[String]) {
    let mut outer = Command::new(&words[0]);
    outer
        .args(&words[1..])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    *command = outer;
}
