//! Runs the iterator over TCP sockets in every network namespace, so that older connections are announced.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libbpf_rs::{Iter, Link};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Visits each namespace that a process is in once; returns how many could not be entered. Call it from a thread that ends
/// after it: the thread stays in the last namespace.
pub(crate) fn announce(link: &Link) -> usize {
    let (mut visited, mut refused) = (BTreeSet::new(), BTreeSet::new());
    // The thread is in this one already, which needs no right to enter it.
    if let Ok(own) = identity(Path::new("/proc/thread-self/ns/net"))
        && run(link).is_ok()
    {
        visited.insert(own);
    }
    for path in processes().map(|process| process.join("ns/net")) {
        // The process may have ended, or may be one that the agent must not look at.
        let Ok(namespace) = identity(&path) else {
            continue;
        };
        if visited.contains(&namespace) {
            continue;
        }
        match enter(&path).and_then(|()| run(link)) {
            Ok(()) => visited.insert(namespace),
            Err(_) => refused.insert(namespace),
        };
    }
    refused.difference(&visited).count()
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Only one of them is open at a time: there may be more than the agent may have open.
fn enter(path: &Path) -> io::Result<()> {
    let namespace = File::open(path)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn run(link: &Link) -> io::Result<()> {
    let mut discarded = Vec::new();
    let mut iterator = Iter::new(link).map_err(io::Error::other)?;
    iterator.read_to_end(&mut discarded)?;
    Ok(())
}

/// The directory of each process in `/proc`.
fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .map(|entry| entry.path())
}
