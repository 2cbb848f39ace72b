//! Control groups of tests.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use spandrel_probes::cgroup::{VERSION1, version1};

/// A cgroup of this test, wherever its hierarchy is mounted.
pub struct Cgroup {
    path: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug)]
pub enum Version {
    One,
    Two,
}

impl Cgroup {
    pub fn new(name: &str, version: Version) -> Self {
        let controller = version1().map_or("", |chosen| chosen.controller.as_str());
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| match version {
                Version::One => {
                    fields[2] == "cgroup" && fields[3].split(',').any(|one| one == controller)
                }
                Version::Two => fields[2] == "cgroup2",
            })
            .expect("the hierarchy of cgroups is mounted")[1]
            .to_owned();
        let path = PathBuf::from(root).join(format!("spandrel-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self { path, version }
    }

    pub fn id(&self) -> u64 {
        let id = std::fs::metadata(&self.path).unwrap().ino();
        match self.version {
            Version::One => id | VERSION1,
            Version::Two => id,
        }
    }

    /// One in it.
    pub fn below(&self, name: &str) -> Self {
        let path = self.path.join(name);
        std::fs::create_dir(&path).unwrap();
        Self {
            path,
            version: self.version,
        }
    }

    pub fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that still is in it leaves with the test.
        drop(std::fs::remove_dir(&self.path));
    }
}
