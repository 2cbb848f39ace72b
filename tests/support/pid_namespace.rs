//! A pid namespace with its own /proc, as the containers of a pod with `shareProcessNamespace` have it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::cgroup::{Cgroup, wrap};
use super::machine::wait_until;
use super::process::Process;

const CAPABILITIES: &str = "--bounding-set=-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search";

/// The namespace; everything in it ends with it.
pub(crate) struct PidNamespace {
    holder: Process,
    pid: u32,
}

impl PidNamespace {
    /// Its first process lives in `cgroup`, which is the root of a cgroup namespace.
    pub(crate) fn new(cgroup: &Cgroup) -> Self {
        let unshare = "unshare --pid --fork --kill-child --mount-proc --cgroup sleep infinity";
        let holder = Process::start(&mut cgroup.command(unshare));
        let mut pid = None;
        wait_until(
            "first process of the namespace",
            Duration::from_secs(30),
            || {
                let of = child(holder.pid()).filter(|pid| numbers(*pid).last() == Some(&1));
                // Its /proc is mounted before it executes the program.
                pid = of.filter(|pid| executable(*pid).ends_with("sleep"));
                pid.is_some()
            },
        );
        let pid = pid.expect("it was waited for");
        Self { holder, pid }
    }

    /// What runs a program inside; it waits for its end.
    pub(crate) fn enter(&self, options: &[&str]) -> Vec<String> {
        let target = format!("--target={}", self.pid);
        let enter = ["nsenter", &target, "--pid", "--mount"];
        let words = enter.iter().chain(options).map(|word| (*word).to_owned());
        words.collect()
    }

    /// Makes a command of the machine one of the namespaces' own, with the capabilities of deploy/kubernetes/sidecar.yaml and
    /// no others.
    pub(crate) fn put(&self, command: &mut Command) {
        let mut words = self.enter(&["--cgroup"]);
        words.extend(["setpriv", CAPABILITIES].map(str::to_owned));
        wrap(command, &words);
    }
}

/// The one child of a process.
pub(crate) fn child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

/// The numbers of a process, from the machine's to that of its own namespace.
pub(crate) fn numbers(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = line.unwrap_or_default().split_ascii_whitespace();
    numbers.filter_map(|number| number.parse().ok()).collect()
}

fn executable(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}
