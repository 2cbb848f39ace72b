//! Control groups of version 1, for machines where version 2 does not tell containers apart: there every process is in its
//! root, and one of the hierarchies of version 1 has its group.

use std::fs;
use std::sync::OnceLock;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Enum;

/// Added to the id of a group of version 1: each hierarchy counts its own ids. Below 2^53, so that JSON keeps it exactly.
pub const VERSION1: u64 = 1 << 52;

/// Where groups of version 1 are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version1 {
    /// The controller whose hierarchy it is.
    pub controller: String,
    /// Its number in the kernel.
    index: u32,
}

impl Version1 {
    /// As the kernel side wants it: 0 is none.
    pub(crate) fn number(&self) -> u32 {
        self.index + 1
    }
}

/// Where ties are decided: engines and systemd put each container and service into a group of these.
const PREFERRED: [&str; 5] = ["pids", "memory", "cpu", "devices", "blkio"];

/// The hierarchy of version 1 with the most groups when this was first asked; `None` where there is none.
pub fn version1() -> Option<&'static Version1> {
    static CHOSEN: OnceLock<Option<Version1>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let controller = choose(&fs::read_to_string("/proc/cgroups").ok()?)?.to_owned();
        let index = number_of(&controller)?;
        Some(Version1 { controller, index })
    });
    chosen.as_ref()
}

/// By the text of `/proc/cgroups`.
fn choose(text: &str) -> Option<&str> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let controller = fields.next().filter(|name| !name.starts_with('#'))?;
            let hierarchy: u32 = fields.next()?.parse().ok()?;
            let groups: u64 = fields.next()?.parse().ok()?;
            let place = PREFERRED.iter().position(|name| *name == controller);
            let rank = PREFERRED.len() - place.unwrap_or(PREFERRED.len());
            // Hierarchy 0 is that of version 2.
            (hierarchy != 0).then_some((groups, rank, controller))
        })
        .max()
        .map(|(_, _, controller)| controller)
}

/// The kernel's number of a controller.
fn number_of(controller: &str) -> Option<u32> {
    let btf = Btf::from_vmlinux().ok()?;
    let controllers: Enum<'_> = btf.type_by_name("cgroup_subsys_id")?;
    // The one with another name than its files have.
    let name = if controller == "blkio" {
        "io"
    } else {
        controller
    };
    let wanted = format!("{name}_cgrp_id");
    let found = controllers
        .iter()
        .find(|member| member.name.is_some_and(|name| *name == *wanted))?;
    u32::try_from(found.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";

    #[test]
    fn the_hierarchy_with_the_most_groups_is_taken_and_pids_among_equals() {
        let text =
            format!("{HEAD}cpuset\t3\t9\t1\nmemory\t4\t9\t1\npids\t8\t9\t1\nfreezer\t6\t2\t1\n");
        assert_eq!(choose(&text), Some("pids"));
        let text = format!("{HEAD}cpuset\t3\t1\t1\nmemory\t4\t61\t1\npids\t8\t1\t1\n");
        assert_eq!(choose(&text), Some("memory"));
    }

    #[test]
    fn controllers_of_version_2_are_no_hierarchy_of_version_1() {
        let text = format!("{HEAD}cpuset\t0\t90\t1\nmemory\t0\t90\t1\npids\t0\t90\t1\n");
        assert_eq!(choose(&text), None);
    }
}
