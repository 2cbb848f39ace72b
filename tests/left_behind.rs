//! What is left of a test that panics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use support::containers::{Containerd, cgroup, fresh_id, groups};
use support::machine::{has, is_root, wait_until};

/// Processes whose command line holds this.
fn processes(of: &str) -> Vec<String> {
    let numbered = fs::read_dir("/proc").unwrap().flatten();
    let lines = numbered.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(of)).collect()
}

#[test]
fn a_test_that_panics_leaves_no_container_shim_or_control_group() {
    const TEST: &str = "a_test_that_panics_leaves_no_container_shim_or_control_group";
    if !(is_root(TEST) && has(TEST, &["containerd", "ctr", "runc"])) {
        return;
    }
    for it_runs in [true, false] {
        let (id, uid) = (fresh_id(), fresh_id());
        let path = cgroup(&uid, &id);
        let mut place = PathBuf::new();
        // A command line that no other test has.
        let time = format!("600.{}", std::process::id());
        let program = ["/usr/bin/sleep", &time];
        let running = || processes(&program.join(" "));
        let mut shims = 0;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let containerd = Containerd::start();
            place = containerd.socket().parent().unwrap().to_owned();
            let _container = containerd.run(&id, &path, &[], &program);
            if it_runs {
                wait_until("program of the container", Duration::from_secs(60), || {
                    // ctr and runc have it behind their own names.
                    running().iter().any(|line| line.starts_with(program[0]))
                });
                // As a program that manages groups itself makes them: then runc cannot remove the container's.
                for group in groups(&path) {
                    drop(fs::create_dir(group.join("inner")));
                }
                shims = processes(place.to_str().unwrap())
                    .iter()
                    .filter(|line| line.contains("containerd-shim"))
                    .count();
            }
            panic!("as a test that fails");
        }));
        assert!(panicked.is_err());
        assert_eq!(shims, usize::from(it_runs));
        let pod = path.strip_suffix(&format!("/{id}")).unwrap();
        assert_eq!(groups(pod), Vec::<PathBuf>::new(), "control groups");
        let left = processes(place.to_str().unwrap());
        assert_eq!(left, Vec::<String>::new(), "containerd, its shims, ctr");
        assert_eq!(processes(&id), Vec::<String>::new(), "runc");
        assert_eq!(running(), Vec::<String>::new(), "its program");
        assert!(!place.exists(), "{} is mounted", place.display());
    }
}
