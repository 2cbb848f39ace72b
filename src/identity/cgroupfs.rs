//! Control groups by their ids, for processes that are gone before anybody looked: the id was captured in the kernel, and
//! it is the inode number of the group's directory.

use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spandrel_k8s_meta::cgroup::{self, Placement};
use spandrel_probes::cgroup::{VERSION1, version1};

/// Directories that are looked at at most; a node with 250 pods has some 1,500.
const MAX_DIRECTORIES: usize = 16_384;

/// A thread that searches on its own does so in one go.
const SLICE: Duration = Duration::from_secs(1);

/// Where the version 2 hierarchy is mounted, alone or beside those of version 1: the node's in a pod, whose own view has
/// no other groups than its own.
pub(super) fn unified_root() -> Option<PathBuf> {
    [
        "/host/sys/fs/cgroup",
        "/host/sys/fs/cgroup/unified",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|root| root.join("cgroup.controllers").is_file())
}

/// A mounted hierarchy, and what is added to the inode numbers of its directories to make the ids of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Added to inode numbers.
    pub mark: u64,
}

/// Where the hierarchies are mounted to which the ids of groups refer.
pub(super) fn roots() -> Vec<Root> {
    let unified = unified_root().map(|path| Root { path, mark: 0 });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let version1 = version1()
        .and_then(|chosen| version1_root(&mounts, &chosen.controller))
        .map(|path| Root {
            path,
            mark: VERSION1,
        });
    unified.into_iter().chain(version1).collect()
}

/// By the text of `/proc/self/mountinfo`: the whole hierarchy, not a part of it that a container sees.
fn version1_root(mounts: &str, controller: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next()?;
        let controllers = filesystem.nth(1)?;
        let has_it = controllers.split(',').any(|one| one == controller);
        (kind == "cgroup" && root == "/" && has_it).then(|| PathBuf::from(point))
    })
}

/// A walk through the groups of the hierarchies, of containers and of the host, so that it is known of a process of the host
/// too that it is one.
#[derive(Debug)]
pub(super) struct Search {
    roots: Vec<Root>,
    /// Directories that are not looked at yet, each with its root's place in the list.
    open: Vec<(usize, PathBuf)>,
    looked: usize,
}

impl Search {
    /// From where the hierarchies are mounted.
    pub(super) fn new(roots: &[Root]) -> Self {
        let open = roots.iter().map(|root| root.path.clone()).enumerate();
        Self {
            open: open.collect(),
            roots: roots.to_vec(),
            looked: 0,
        }
    }

    /// Whether all groups have been looked at, or as many as are looked at at most.
    pub(super) fn has_ended(&self) -> bool {
        self.open.is_empty() || self.looked > MAX_DIRECTORIES
    }

    /// All groups that there are, or as many as are looked at at most, with their ids.
    pub(super) fn all(mut self) -> Vec<(u64, Placement)> {
        let mut found = Vec::new();
        while !self.has_ended() {
            found.extend(self.look(Instant::now() + SLICE));
        }
        found
    }

    /// The next groups, with their ids.
    pub(super) fn look(&mut self, until: Instant) -> Vec<(u64, Placement)> {
        let mut found = Vec::new();
        if self.looked == 0 {
            let roots = self.roots.iter().filter_map(|root| {
                let metadata = fs::metadata(&root.path).ok()?;
                Some((metadata.ino() | root.mark, cgroup::parse_path("/")))
            });
            found.extend(roots);
        }
        while let Some((place, directory)) = self.open.pop() {
            self.looked += 1;
            let Some(root) = self.roots.get(place) else {
                continue;
            };
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                // A container may make as many groups in one as it likes.
                if self.open.len() >= MAX_DIRECTORIES {
                    break;
                }
                let path = entry.path();
                if let Some(relative) = path.strip_prefix(&root.path).ok().and_then(Path::to_str) {
                    let placement = cgroup::parse_path(&format!("/{relative}"));
                    // The directory above has told the id: no further question to the kernel.
                    found.push((entry.ino() | root.mark, placement));
                }
                self.open.push((place, path));
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
    fn the_whole_hierarchy_of_a_controller_is_taken_and_no_part_of_it() {
        let mounts = "\
            25 1 0:22 /docker/x /part rw - cgroup cgroup rw,memory\n\
            26 1 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
            27 1 0:22 / /sys/fs/cgroup/memory rw,nosuid master:9 - cgroup cgroup rw,memory\n\
            28 1 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let root = |controller| version1_root(mounts, controller);
        assert_eq!(root("memory"), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(root("cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(root("pids"), None);
    }

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
        let mut search = Search::new(&[Root {
            path: root.path().to_owned(),
            mark: 0,
        }]);
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
