//! Identities of processes on a made-up proc tree, and of a real child.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use spandrel_model::recording::RecordedIdentity;
use spandrel_model::{Stamp, Value};
use tempfile::TempDir;

use super::*;

const CONTAINER: &str = "a4f1c3d5e7b9a4f1c3d5e7b9a4f1c3d5e7b9a4f1c3d5e7b9a4f1c3d5e7b9a4f1";

/// A host with nothing but the files a test writes.
pub(super) struct Tree(pub(super) TempDir);

pub(super) struct Seen<'a> {
    pub(super) pid: u32,
    pub(super) ticks: u64,
    pub(super) exe: &'a str,
    pub(super) cmdline: &'a str,
    pub(super) environ: &'a str,
    pub(super) cgroup: &'a str,
}

impl Default for Seen<'_> {
    fn default() -> Self {
        Self {
            pid: 42,
            ticks: 500,
            exe: "/usr/bin/shop",
            cmdline: "shop\0--password=hunter2\0",
            environ: "PATH=/bin\0",
            cgroup: "0::/user.slice\n",
        }
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        tree.write(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nshop:x:33:33::/:/bin/sh\n",
        );
        tree.write(
            "etc/os-release",
            "PRETTY_NAME=\"Debian\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n",
        );
        tree.write("proc/sys/kernel/hostname", "web-1\n");
        tree.write("proc/sys/kernel/random/boot_id", "b\n");
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn process(&self, seen: &Seen<'_>) {
        let folder = format!("proc/{}", seen.pid);
        self.stat(seen.pid, seen.ticks);
        self.write(&format!("{folder}/cmdline"), seen.cmdline);
        self.write(&format!("{folder}/environ"), seen.environ);
        self.write(&format!("{folder}/cgroup"), seen.cgroup);
        self.write(&format!("{folder}/status"), "Name:\tx\nUid:\t33\t0\t0\t0\n");
        let folder = self.0.path().join(folder);
        for (name, target) in [("exe", seen.exe), ("cwd", "/")] {
            drop(fs::remove_file(folder.join(name)));
            symlink(target, folder.join(name)).unwrap();
        }
    }

    fn without_executable(&self, pid: u32) {
        fs::remove_file(self.0.path().join(format!("proc/{pid}/exe"))).unwrap();
    }

    pub(super) fn stat(&self, pid: u32, ticks: u64) {
        let zeros = "0 ".repeat(17);
        let stat = format!("{pid} (a) b (c)) S 7 {zeros}{ticks} 0\n");
        self.write(&format!("proc/{pid}/stat"), &stat);
    }

    pub(super) fn end(&self, pid: u32) {
        fs::remove_dir_all(self.0.path().join(format!("proc/{pid}"))).unwrap();
    }

    fn cgroup_roots(&self) -> Vec<CgroupRoot> {
        let root = |name: &str, mark| CgroupRoot {
            path: self.0.path().join(name),
            mark,
        };
        vec![root("cgroup", 0), root("cgroup-v1", VERSION1)]
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            proc_root: Some(self.0.path().join("proc")),
            etc: self.0.path().join("etc"),
            cgroup_roots: self.cgroup_roots(),
            ..Settings::default()
        }
    }

    pub(super) fn identities(&self) -> Identities {
        Identities::new(self.settings())
    }
}

pub(super) fn key(tgid: u32, ticks: u64) -> ProcessKey {
    ProcessKey {
        tgid,
        started: ticks * procfs::TICK + 3_141_592,
    }
}

fn at(seconds: u64) -> Stamp {
    Stamp {
        time: KernelTime(seconds * 1_000_000_000),
        ..Stamp::default()
    }
}

pub(super) fn started(process: ProcessKey, comm: &str, filename: Option<&str>) -> ProcessStarted {
    ProcessStarted {
        stamp: at(1),
        process,
        parent: 7,
        comm: comm.to_owned(),
        filename: filename.map(str::to_owned),
        executable: filename.map(|it| it.rsplit('/').next().unwrap().to_owned()),
        cgroup: 0,
    }
}

fn exited(process: ProcessKey, seconds: u64) -> ProcessExited {
    ProcessExited {
        stamp: at(seconds),
        process,
    }
}

#[test]
fn a_process_is_described_by_what_proc_says_and_no_more() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let resource = tree.identities().resource(key(42, 500), 0);
    let found: Vec<String> = resource
        .attributes()
        .iter()
        .filter(|attribute| {
            ![
                "host.arch",
                "service.instance.id",
                "telemetry.distro.version",
            ]
            .contains(&attribute.key.as_ref())
        })
        .map(|attribute| match &attribute.value {
            Value::Str(text) => format!("{}={text}", attribute.key),
            Value::I64(number) => format!("{}={number}", attribute.key),
            other => format!("{}={other:?}", attribute.key),
        })
        .collect();
    assert_eq!(
        found,
        [
            "host.id=0123456789abcdef0123456789abcdef",
            "host.name=web-1",
            "os.name=Debian GNU/Linux",
            "os.type=linux",
            "os.version=12",
            "process.executable.name=shop",
            "process.executable.path=/usr/bin/shop",
            "process.owner=shop",
            "process.parent_pid=7",
            "process.pid=42",
            "service.name=shop",
            "telemetry.distro.name=spandrel",
        ]
    );
}

#[test]
fn on_kubernetes_the_host_is_the_node_whatever_the_agents_pod_is_called() {
    let tree = Tree::new();
    fs::remove_file(tree.0.path().join("etc/machine-id")).unwrap();
    tree.process(&Seen::default());
    let resource = |pod: &str| {
        tree.write("proc/sys/kernel/hostname", pod);
        let settings = Settings {
            node: Some("node-1".to_owned()),
            ..tree.settings()
        };
        Identities::new(settings).resource(key(42, 500), 0)
    };
    let (before, after) = (resource("spandrel-x2x4z"), resource("spandrel-p9q8r"));
    assert_eq!(before.text("host.name"), Some("node-1"));
    assert_eq!(before.text("k8s.node.name"), Some("node-1"));
    assert_eq!(before.attributes(), after.attributes());
    assert!(before.text("service.instance.id").is_some());
}

#[test]
fn what_the_file_says_of_the_host_goes_before_what_is_read_of_it() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = Identities::new(Settings {
        node: Some("node-1".to_owned()),
        extra: vec![Attribute::new("host.name", "said")],
        ..tree.settings()
    });
    let resource = identities.resource(key(42, 500), 0);
    assert_eq!(resource.text("host.name"), Some("said"));
    assert_eq!(resource.text("k8s.node.name"), Some("node-1"));
    let own = Resource::new(identities.of_agent());
    assert_eq!(own.text("host.name"), None, "the file says it there, too");
    assert_eq!(own.text("k8s.node.name"), Some("node-1"));
}

#[test]
fn command_lines_are_reported_only_when_asked_for() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = Identities::new(Settings {
        command_args: true,
        ..tree.settings()
    });
    let resource = identities.resource(key(42, 500), 0);
    let arguments = Value::StrArray(vec!["shop".into(), "--password=hunter2".into()]);
    let expected = Attribute::new("process.command_args", arguments);
    assert!(resource.attributes().contains(&expected));
}

#[test]
fn the_name_is_declared_then_the_unit_then_the_program() {
    let tree = Tree::new();
    let mut pid = 100;
    for (environ, cgroup, expected) in [
        (
            "OTEL_SERVICE_NAME=a\0OTEL_RESOURCE_ATTRIBUTES=service.name=b",
            "0::/system.slice/c.service",
            "a",
        ),
        (
            "OTEL_RESOURCE_ATTRIBUTES=service.name=b",
            "0::/system.slice/c.service",
            "b",
        ),
        ("", "0::/system.slice/c.service", "c"),
        ("", "0::/system.slice/cron.service", "shop"),
        ("", "0::/user.slice/user-1.slice/session-1.scope", "shop"),
    ] {
        pid += 1;
        tree.process(&Seen {
            pid,
            environ,
            cgroup,
            ..Seen::default()
        });
        let resource = tree.identities().resource(key(pid, 500), 0);
        assert_eq!(resource.service_name(), expected);
    }
}

#[test]
fn a_java_property_names_a_service_before_its_environment() {
    let tree = Tree::new();
    tree.process(&Seen {
        exe: "/usr/lib/jvm/17/bin/java",
        cmdline: "java\0-Dotel.service.name=told\0-jar\0shop.jar\0",
        environ: "OTEL_SERVICE_NAME=environment",
        ..Seen::default()
    });
    let resource = tree.identities().resource(key(42, 500), 0);
    assert_eq!(resource.service_name(), "told");
}

#[test]
fn java_properties_count_wherever_the_machine_takes_them_from_and_not_behind_the_program() {
    let tree = Tree::new();
    for (pid, cmdline, environ, expected) in [
        (
            1,
            "java\0-jar\0shop.jar\0-Dotel.service.name=told\0",
            "",
            "shop",
        ),
        (
            2,
            "java\0-Dotel.service.name=a\0-Dotel.service.name=b\0Shop\0",
            "",
            "b",
        ),
        (
            3,
            "java\0Shop\0",
            "JAVA_TOOL_OPTIONS=-Xmx1g -Dotel.service.name=tool\0",
            "tool",
        ),
        (
            4,
            "java\0-Dotel.service.name=own\0Shop\0",
            "JAVA_TOOL_OPTIONS=-Dotel.service.name=tool\0",
            "own",
        ),
        (
            5,
            "java\0-Dotel.resource.attributes=service.name=c,team=a\0Shop\0",
            "",
            "c",
        ),
        (
            6,
            "java\0-Dotel.service.name=\0Shop\0",
            "OTEL_SERVICE_NAME=environment\0",
            "environment",
        ),
    ] {
        tree.process(&Seen {
            pid,
            exe: "/usr/lib/jvm/17/bin/java",
            cmdline,
            environ,
            ..Seen::default()
        });
        let resource = tree.identities().resource(key(pid, 500), 0);
        assert_eq!(resource.service_name(), expected, "{cmdline} {environ}");
    }
    tree.process(&Seen {
        pid: 7,
        cmdline: "shop\0-Dotel.service.name=told\0",
        environ: "JAVA_TOOL_OPTIONS=-Dotel.service.name=tool\0",
        ..Seen::default()
    });
    let resource = tree.identities().resource(key(7, 500), 0);
    assert_eq!(resource.service_name(), "shop", "no Java");
}

#[test]
fn the_configured_name_goes_before_unit_and_program_and_not_before_what_is_declared() {
    let tree = Tree::new();
    let mut identities = Identities::new(Settings {
        extra: vec![Attribute::new("service.name", "said")],
        ..tree.settings()
    });
    let mut name = |pid, environ, cgroup| {
        tree.process(&Seen {
            pid,
            environ,
            cgroup,
            ..Seen::default()
        });
        let resource = identities.resource(key(pid, 500), 0);
        resource.service_name().to_owned()
    };
    assert_eq!(name(1, "", "0::/system.slice/c.service"), "said");
    assert_eq!(name(2, "", "0::/user.slice"), "said");
    assert_eq!(name(3, "OTEL_SERVICE_NAME=own", "0::/user.slice"), "own");
    let gone = key(4, 500);
    identities.started(&started(gone, "curl", Some("/usr/bin/curl")));
    assert_eq!(identities.resource(gone, 0).service_name(), "said");
}

/// The parent of every process of a made-up tree is 7.
#[test]
fn what_multiprocessing_spawns_is_named_by_its_parent_while_that_is_the_same_python() {
    const CHILD: &str = "python3\0-B\0-c\0from multiprocessing.spawn import spawn_main; spawn_main(1)\0--multiprocessing-fork\0";
    const PYTHON: &str = "/usr/bin/python3.11";
    let tree = Tree::new();
    let name = |exe, cmdline| {
        for (pid, exe, cmdline) in [(7, exe, cmdline), (42, PYTHON, CHILD)] {
            tree.process(&Seen {
                pid,
                exe,
                cmdline,
                ..Seen::default()
            });
        }
        let resource = tree.identities().resource(key(42, 500), 0);
        resource.service_name().to_owned()
    };
    let uvicorn = "python3\0/usr/bin/uvicorn\0shop.api:x\0--reload\0";
    assert_eq!(name(PYTHON, uvicorn), "api");
    assert_eq!(name("/usr/bin/tini", "tini\0--\0uvicorn\0"), "python3.11");
    // Everybody is their own parent: the search ends.
    assert_eq!(name(PYTHON, CHILD), "python3.11");
}

#[test]
fn declared_attributes_override_what_is_derived_but_not_what_is_measured() {
    let tree = Tree::new();
    let declared = "service.version=1%2E2,host.name=front,process.pid=1,container.id=x,\
                    telemetry.distro.name=y,service.instance.id=i";
    tree.process(&Seen {
        environ: &format!("OTEL_RESOURCE_ATTRIBUTES={declared}"),
        cgroup: &format!("0::/system.slice/docker-{CONTAINER}.scope"),
        ..Seen::default()
    });
    let resource = tree.identities().resource(key(42, 500), 0);
    assert_eq!(resource.text("service.version"), Some("1.2"));
    assert_eq!(resource.text("host.name"), Some("front"));
    assert_eq!(resource.text("service.instance.id"), Some("i"));
    assert_eq!(resource.text("container.id"), Some(CONTAINER));
    assert_eq!(resource.text("telemetry.distro.name"), Some("spandrel"));
    assert_eq!(resource.text("process.owner"), None);
    let pid = Attribute::new("process.pid", 42_u32);
    assert!(resource.attributes().contains(&pid));
}

#[test]
fn a_reused_process_id_is_not_mistaken() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = tree.identities();
    for (ticks, name) in [
        (498, "unknown_service"),
        (499, "shop"),
        (501, "shop"),
        (502, "unknown_service"),
    ] {
        let resource = identities.resource(key(42, ticks), 0);
        assert_eq!(resource.service_name(), name, "started at tick {ticks}");
    }
}

#[test]
fn a_process_that_is_gone_is_named_by_what_its_start_said() {
    let tree = Tree::new();
    let mut identities = tree.identities();
    for (pid, comm, filename, expected) in [
        (1, "curl", Some("/usr/bin/curl"), "curl"),
        (2, "python3", Some("./jobs.py"), "jobs"),
        (3, "worker", None, "worker"),
        (4, "", None, "unknown_service"),
    ] {
        identities.started(&started(key(pid, 500), comm, filename));
        let resource = identities.resource(key(pid, 500), 0);
        assert_eq!(resource.service_name(), expected);
        assert_eq!(resource.text("process.executable.path"), None);
        let file = filename.map(|it| it.rsplit('/').next().unwrap());
        assert_eq!(resource.text("process.executable.name"), file);
        assert_eq!(resource.text("host.name"), Some("web-1"));
    }
}

/// Its memory is gone, and with it its executable and command line; the rest of `/proc` is there until it is reaped.
#[test]
fn a_process_that_is_ending_is_named_by_what_its_start_said() {
    let tree = Tree::new();
    tree.process(&Seen {
        cmdline: "",
        environ: "",
        ..Seen::default()
    });
    tree.without_executable(42);
    let mut identities = tree.identities();
    identities.started(&started(key(42, 500), "b", Some("./jobs.py")));
    let resource = identities.resource(key(42, 500), 0);
    assert_eq!(resource.service_name(), "jobs");
    assert_eq!(resource.text("process.executable.name"), Some("jobs.py"));
    assert_eq!(resource.text("process.executable.path"), None);
    let candidate = identities.decide(key(42, 500));
    assert!(candidate.gone, "selectors cannot tell what it was");
}

#[test]
fn a_process_that_is_gone_shares_the_container_of_its_control_group() {
    let tree = Tree::new();
    tree.process(&Seen {
        cgroup: &format!("0::/system.slice/docker-{CONTAINER}.scope"),
        ..Seen::default()
    });
    let mut identities = tree.identities();
    identities.resource(key(42, 500), 9000);
    let in_group = |identities: &mut Identities, pid, cgroup| {
        let resource = identities.resource(key(pid, 500), cgroup);
        resource.text("container.id").map(str::to_owned)
    };
    assert_eq!(
        in_group(&mut identities, 1, 9000).as_deref(),
        Some(CONTAINER)
    );
    assert_eq!(in_group(&mut identities, 2, 9001), None);
    assert_eq!(in_group(&mut identities, 3, 0), None);
    identities.started(&ProcessStarted {
        cgroup: 9000,
        ..started(key(4, 500), "curl", None)
    });
    assert_eq!(in_group(&mut identities, 4, 0).as_deref(), Some(CONTAINER));
}

/// Hierarchies count on their own, so the same number is another group in each.
#[test]
fn a_process_that_is_gone_is_found_in_the_hierarchy_that_its_groups_id_is_of() {
    use std::os::unix::fs::MetadataExt as _;

    let tree = Tree::new();
    let group = tree.0.path().join("cgroup-v1/docker").join(CONTAINER);
    fs::create_dir_all(&group).unwrap();
    fs::create_dir_all(tree.0.path().join("cgroup")).unwrap();
    let id = fs::metadata(&group).unwrap().ino();
    let mut identities = tree.identities();
    let mut container = |pid, cgroup| {
        let resource = identities.resource(key(pid, 500), cgroup);
        resource.text("container.id").map(str::to_owned)
    };
    assert_eq!(container(1, id | VERSION1).as_deref(), Some(CONTAINER));
    assert_eq!(container(2, id), None);
}

#[test]
fn another_program_in_the_same_process_replaces_the_identity() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = tree.identities();
    let before = identities.resource(key(42, 500), 0);
    let again = identities.resource(key(42, 500), 0);
    assert!(Arc::ptr_eq(&before, &again));
    tree.process(&Seen {
        exe: "/usr/bin/cart",
        ..Seen::default()
    });
    identities.started(&started(key(42, 500), "cart", None));
    let after = identities.resource(key(42, 500), 0);
    assert_eq!(
        (before.service_name(), after.service_name()),
        ("shop", "cart")
    );
}

#[test]
fn an_ended_process_is_known_for_the_time_of_grace_and_no_longer() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = tree.identities();
    let alive = identities.resource(key(42, 500), 0);
    tree.end(42);
    identities.exited(&exited(key(42, 500), 10));
    identities.exited(&exited(key(1, 1), 40));
    assert!(Arc::ptr_eq(&alive, &identities.resource(key(42, 500), 0)));
    identities.exited(&exited(key(1, 1), 41));
    assert!(identities.is_empty());
}

#[test]
fn ends_of_forgotten_processes_are_forgotten_with_them() {
    let tree = Tree::new();
    let mut identities = Identities::new(Settings {
        max_processes: 16,
        ..tree.settings()
    });
    for pid in 1..500 {
        identities.resource(key(pid, 1), 0);
        identities.exited(&exited(key(pid, 1), 10));
    }
    assert!(identities.exits.len() <= 16, "{}", identities.exits.len());
}

#[test]
fn memory_is_bounded_and_the_least_recently_used_go_first() {
    let tree = Tree::new();
    let mut identities = Identities::new(Settings {
        max_processes: 16,
        ..tree.settings()
    });
    let kept = identities.resource(key(1, 1), 0);
    for pid in 2..500 {
        identities.resource(key(pid, 1), 0);
        assert!(Arc::ptr_eq(&kept, &identities.resource(key(1, 1), 0)));
        assert!(identities.len() <= 16);
    }
    let evicted = usize::try_from(identities.evicted()).unwrap();
    assert_eq!(evicted + identities.len(), 499);
}

#[test]
fn a_replay_knows_what_was_recorded_and_nothing_of_this_machine() {
    let mut identities = Identities::new(Settings::replay());
    let myself = identities.find(std::process::id());
    assert_eq!(myself, None);
    let process = key(std::process::id(), 1);
    let recorded = |name: &'static str| {
        vec![
            Attribute::new("service.name", name),
            Attribute::new("process.executable.path", "/bin/x"),
            Attribute::new("container.id", CONTAINER),
        ]
    };
    for name in ["first", "second"] {
        identities.seed(RecordedIdentity::of(process, recorded(name)));
    }
    identities.started(&started(process, "x", None));
    let first = identities.resource(process, 0);
    assert_eq!(first.attributes().len(), 3);
    assert_eq!(first.service_name(), "first");
    identities.started(&started(process, "y", None));
    assert_eq!(identities.resource(process, 0).service_name(), "second");
    let candidate = identities.decide(process);
    assert_eq!(candidate.executable.as_deref(), Some(Path::new("/bin/x")));
    assert_eq!(candidate.container_id.as_deref(), Some(CONTAINER));

    let unknown = identities.resource(key(1, 1), 0);
    let keys: HashSet<&str> = unknown
        .attributes()
        .iter()
        .map(|it| it.key.as_ref())
        .collect();
    let expected = [
        "process.pid",
        "service.name",
        "telemetry.distro.name",
        "telemetry.distro.version",
    ];
    assert_eq!(keys, HashSet::from(expected));
}

#[test]
fn instances_are_containers_then_units_then_what_is_called_so_on_this_host() {
    let tree = Tree::new();
    let id = |pid, exe, cgroup: &str| {
        tree.process(&Seen {
            pid,
            exe,
            cgroup,
            ..Seen::default()
        });
        let resource = tree.identities().resource(key(pid, 500), 0);
        resource.text("service.instance.id").unwrap().to_owned()
    };
    let container = format!("0::/system.slice/docker-{CONTAINER}.scope");
    let other = container.replace("a4f1", "b4f1");
    let session = |number| format!("0::/user.slice/user-1.slice/session-{number}.scope");
    let ids = [
        id(1, "/bin/a", &container),
        id(2, "/bin/a", &other),
        id(3, "/bin/a", "0::/system.slice/a.service"),
        id(4, "/bin/a", "0::/system.slice/b.service"),
        id(5, "/bin/a", &session(1)),
        id(6, "/bin/b", &session(1)),
    ];
    assert_eq!(HashSet::from(ids.clone()).len(), 6);
    let again = [
        id(11, "/bin/b", &container),
        id(12, "/bin/b", &other),
        id(13, "/bin/b", "0::/system.slice/a.service"),
        id(14, "/bin/b", "0::/system.slice/b.service"),
        id(15, "/bin/a", &session(2)),
        id(16, "/bin/b", "0::/system.slice/cron.service"),
    ];
    assert_eq!(ids, again);
}

#[test]
fn instance_ids_differ_by_process_and_start_and_survive_a_restart_of_the_agent() {
    let tree = Tree::new();
    let id = |pid, ticks| {
        let settings = Settings {
            per_process: true,
            ..tree.settings()
        };
        let resource = Identities::new(settings).resource(key(pid, ticks), 0);
        resource.text("service.instance.id").unwrap().to_owned()
    };
    let ids = [id(1, 1), id(1, 2), id(2, 1)];
    assert_eq!(HashSet::from(ids.clone()).len(), 3);
    assert_eq!(ids[0], id(1, 1));
}

/// A child that waits on its standard input and ends with the test.
struct Waiting(Child);

impl Waiting {
    /// Spawning may return in the middle of the exec, before /proc shows the new program: its first line tells.
    fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Self(command.spawn().unwrap());
        child.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut answer = [0];
        let output = child.0.stdout.as_mut().unwrap();
        output.read_exact(&mut answer).unwrap();
        child
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_real_script_is_named_by_its_stem() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("telling.sh");
    fs::write(&script, "read -r line; echo; read -r line\n").unwrap();
    let child = Waiting::spawn(Command::new("sh").arg(&script));
    let process = Identities::new(Settings::default())
        .find(child.0.id())
        .unwrap();
    // Not its service name: the test may run in a unit of systemd, which would come first.
    let seen = procfs::observe(Path::new("/proc"), process, true).unwrap();
    let name = naming::from_program(
        seen.executable.as_deref(),
        &seen.arguments,
        seen.directory.as_deref(),
    );
    assert_eq!(name.as_deref(), Some("telling"));
}

#[test]
fn a_real_child_is_found_and_gone_after_it_was_reaped() {
    let mut child = Waiting::spawn(Command::new("cat").env("OTEL_SERVICE_NAME", "real-child"));
    let mut identities = Identities::new(Settings::default());
    let process = identities.find(child.0.id()).unwrap();
    let resource = identities.resource(process, 0);
    assert_eq!(resource.service_name(), "real-child");
    let parent = Attribute::new("process.parent_pid", std::process::id());
    assert!(resource.attributes().contains(&parent));
    let candidate = identities.decide(process);
    let path = candidate.executable.unwrap();
    assert!(path.is_absolute() && path.exists(), "{}", path.display());

    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert_eq!(identities.find(process.tgid), None);
    let late = Identities::new(Settings::default()).resource(process, 0);
    assert_eq!(late.service_name(), "unknown_service");
}
