//! Control groups by their ids, for processes that are gone before anybody looked: the id was captured in the kernel, and
//! it is the inode number of the group's directory.

use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use spandrel_k8s_meta::cgroup::{self, Placement};

/// Directories that are looked at at most; a node with 250 pods has some 1,500.
const MAX_DIRECTORIES: usize = 16_384;

/// Where the version 2 hierarchy is mounted, alone or beside those of version 1.
pub(super) fn unified_root() -> Option<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .map(PathBuf::from)
        .find(|root| root.join("cgroup.controllers").is_file())
}

/// A walk through the groups of a hierarchy, of containers and of the host, so that it is known of a process of the host
/// too that it is one.
#[derive(Debug)]
pub(super) struct Search {
    root: PathBuf,
    open: Vec<PathBuf>,
    looked: usize,
}

impl Search {
    /// From where the version 2 hierarchy is mounted.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            open: vec![root.to_owned()],
            looked: 0,
        }
    }

    /// Whether all groups have been looked at, or as many as are looked at at most.
    pub(super) fn has_ended(&self) -> bool {
        self.open.is_empty() || self.looked > MAX_DIRECTORIES
    }

    /// The next groups, with their ids.
    pub(super) fn look(&mut self, until: Instant) -> Vec<(u64, Placement)> {
        let mut found = Vec::new();
        if self.looked == 0
            && let Ok(metadata) = fs::metadata(&self.root)
        {
            found.push((metadata.ino(), cgroup::parse_path("/")));
        }
        while let Some(directory) = self.open.pop() {
            self.looked += 1;
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                // A container may make as many groups in one as it likes.
                if self.open.len() >= MAX_DIRECTORIES {
                    break;
                }
                let path = entry.path();
                if let Some(relative) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) {
                    let placement = cgroup::parse_path(&format!("/{relative}"));
                    // The directory above has told the id: no further question to the kernel.
                    found.push((entry.ino(), placement));
                }
                self.open.push(path);
            }
            if self.looked > MAX_DIRECTORIES || Instant::now() >= until {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_search_goes_on_where_it_stopped_and_finds_each_group_once() {
        let root = tempfile::tempdir().unwrap();
        let id = "0a".repeat(32);
        let paths = [
            String::new(),
            "system.slice/cron.service".to_owned(),
            format!("system.slice/docker-{id}.scope/init"),
            "user.slice".to_owned(),
        ];
        let mut expected = BTreeSet::new();
        for path in &paths {
            let directory = root.path().join(path);
            fs::create_dir_all(&directory).unwrap();
            for group in directory
                .ancestors()
                .take_while(|it| it.starts_with(root.path()))
            {
                expected.insert(fs::metadata(group).unwrap().ino());
            }
        }
        let mut search = Search::new(root.path());
        let mut found = Vec::new();
        let mut slices = 0;
        while !search.has_ended() {
            // No time: a directory each.
            found.extend(search.look(Instant::now()));
            slices += 1;
        }
        assert_eq!(slices, expected.len());
        let ids: BTreeSet<u64> = found.iter().map(|(id, _)| *id).collect();
        assert_eq!((ids, found.len()), (expected, slices));
        let containers = found
            .iter()
            .filter(|(_, placement)| placement.container.is_some());
        assert_eq!(containers.count(), 2, "its own group and the one below");
    }
}
