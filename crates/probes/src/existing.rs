//! Runs the iterator over TCP sockets in every network namespace, so that older connections are announced.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use libbpf_rs::{Iter, Link};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Visits each namespace once; returns how many could not be entered. Call it from a thread that ends after it: the
/// thread stays in the last namespace.
pub(crate) fn announce(link: &Link) -> usize {
    let mut visited = BTreeSet::new();
    let mut failed = 0;
    for namespace in namespaces(&mut visited) {
        let entered =
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
        if entered.is_err() || run(link).is_err() {
            failed += 1;
        }
    }
    failed
}

fn run(link: &Link) -> Result<(), Box<dyn std::error::Error>> {
    let mut discarded = Vec::new();
    Iter::new(link)?.read_to_end(&mut discarded)?;
    Ok(())
}

/// One open file for each network namespace that a process is in.
fn namespaces(visited: &mut BTreeSet<(u64, u64)>) -> Vec<File> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit())
        })
        .filter_map(|entry| {
            let path = entry.path().join("ns/net");
            let found = fs::metadata(&path).ok()?;
            visited
                .insert((found.dev(), found.ino()))
                .then(|| File::open(path).ok())?
        })
        .collect()
}
