//! Control groups are named by the kernel, whether their directories are still there or not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod observed;

use std::process::Command;

use observed::cgroup::{Cgroup, Version};
use observed::{Running, Traffic, backends, settings};
use spandrel_probes::cgroup::version1;

#[test]
fn a_group_is_named_by_its_path_from_the_root_before_it_is_gone() {
    groups_are_named(Version::Two);
}

#[test]
fn a_group_of_version_1_is_named_as_well() {
    if version1().is_none() {
        eprintln!("skipped: no hierarchy of control groups of version 1 is mounted");
        return;
    }
    groups_are_named(Version::One);
}

fn groups_are_named(version: Version) {
    for backend in backends() {
        let running = Running::start(settings(backend));
        let outer = Cgroup::new("named", version);
        let (speaks, starts) = (outer.below("speaks"), outer.below("starts"));
        Traffic::start("neighbour", speaks.path()).finish();
        // This one says nothing: it executes a program.
        let script = format!("echo $$ > {}/cgroup.procs && exec true", starts.path());
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.unwrap().success());
        let expected = [&speaks, &starts].map(|group| {
            let path = format!("/{}/{}", outer.name(), group.name());
            (group.id(), path, false)
        });
        drop((speaks, starts, outer));
        let seen = running.finish(Traffic::start("neighbour", ""));
        for one in expected {
            let told = seen.groups.iter().filter(|group| group.id == one.0);
            let told: Vec<_> = told
                .map(|group| (group.id, group.path.clone(), group.cut))
                .collect();
            assert_eq!(told, [one], "{backend:?}: once");
        }
    }
}
