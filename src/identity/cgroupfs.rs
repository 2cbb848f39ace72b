//! Control groups by their ids, for processes that are gone before anybody looked: the id was captured in the kernel, and
//! it is the inode number of the group's directory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use spandrel_k8s_meta::cgroup::{self, Placement};

/// Directories that are looked at at most; a node with 250 pods has some 1,500.
const MAX_DIRECTORIES: usize = 20_000;

/// Where the version 2 hierarchy is mounted, alone or beside those of version 1.
pub(super) fn unified_root() -> Option<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .map(PathBuf::from)
        .find(|root| root.join("cgroup.controllers").is_file())
}

/// The groups below `root` (where the version 2 hierarchy is mounted) that are in containers, by id.
pub(super) fn containers(root: &Path) -> Vec<(u64, Placement)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    let mut looked = 0;
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            looked += 1;
            if looked > MAX_DIRECTORIES {
                return found;
            }
            let path = entry.path();
            let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
            if let (Some(relative), Ok(metadata)) = (relative, entry.metadata()) {
                let placement = cgroup::parse_path(&format!("/{relative}"));
                if placement.container.is_some() {
                    found.push((metadata.ino(), placement));
                }
            }
            open.push(path);
        }
    }
    found
}
