//! Real containers: a containerd of our own, with runc, under cgroup paths as a kubelet makes them. There is no image:
//! a container's root is made of the host's /usr.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::machine::wait_until;
use super::process::Process;

/// A running containerd.
pub(crate) struct Containerd {
    directory: TempDir,
    process: Option<Process>,
}

impl Containerd {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().expect("a directory for containerd");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = {:?}\n",
            path("root"),
            path("state"),
            path("containerd.sock")
        );
        fs::write(directory.path().join("config.toml"), config).expect("write it");
        let rootfs = directory.path().join("rootfs");
        for name in ["usr", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(rootfs.join(name)).expect("make it");
        }
        for name in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), rootfs.join(name)).expect("link it");
        }
        let mut containerd = Self {
            directory,
            process: None,
        };
        let config = containerd.path("config.toml");
        containerd.process = Some(Process::start(
            Command::new("containerd").arg("--config").arg(config),
        ));
        wait_until("containerd", Duration::from_secs(60), || {
            containerd
                .ctr(&["version"])
                .status()
                .is_ok_and(|status| status.success())
        });
        containerd
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.path("containerd.sock"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// What a list of ctr has, a word a line. Empty where there is none.
    fn listed(&self, list: &[&str]) -> Vec<String> {
        let output = self.ctr(list).stdout(Stdio::piped()).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn kill(&self, namespace: &str, id: &str) {
        let kill = ["tasks", "kill", "--all", "--signal", "SIGKILL", id];
        drop(
            self.ctr(&[&["--namespace", namespace], &kill[..]].concat())
                .status(),
        );
    }

    /// Removes a container, whatever it does.
    fn remove(&self, namespace: &str, id: &str) {
        let namespace = ["--namespace", namespace];
        for remove in [
            &["tasks", "remove", "--force", id][..],
            &["containers", "remove", id],
        ] {
            drop(self.ctr(&[&namespace[..], remove].concat()).status());
        }
    }

    /// Runs a program in a container of this id, in the host's network, until it ends or is killed.
    pub(crate) fn run(
        &self,
        id: &str,
        cgroup: &str,
        environment: &[&str],
        program: &[&str],
    ) -> Container<'_> {
        let options = Options {
            cgroup,
            environment,
            ..Options::default()
        };
        self.run_with(id, &options, program)
    }

    /// The same in a network namespace of this name.
    pub(crate) fn run_in(
        &self,
        netns: &str,
        id: &str,
        cgroup: &str,
        program: &[&str],
    ) -> Container<'_> {
        let options = Options {
            cgroup,
            netns: Some(netns),
            ..Options::default()
        };
        self.run_with(id, &options, program)
    }

    /// The same with more to say about the container.
    pub(crate) fn run_with<A: AsRef<str>>(
        &self,
        id: &str,
        options: &Options<'_>,
        program: &[A],
    ) -> Container<'_> {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.path("containerd.sock"))
            .args(["--namespace", options.namespace])
            .args(["run", "--rm", "--cgroup", options.cgroup])
            .args(["--mount", "type=bind,src=/usr,dst=/usr,options=rbind:ro"])
            .args(options.more);
        match options.netns {
            Some(name) => command.args(["--with-ns", &format!("network:/run/netns/{name}")]),
            None => command.arg("--net-host"),
        };
        for variable in options.environment {
            command.args(["--env", variable]);
        }
        for label in options.labels {
            command.args(["--label", label]);
        }
        match options.image {
            Some(image) => command.args(["--snapshotter", "native", image]),
            None => command.arg("--rootfs").arg(self.path("rootfs")),
        };
        command.arg(id).args(program.iter().map(AsRef::as_ref));
        Container {
            containerd: self,
            id: id.to_owned(),
            namespace: options.namespace.to_owned(),
            cgroup: options.cgroup.to_owned(),
            process: Some(Process::start(&mut command)),
        }
    }

    /// Makes an image of this name of the same root.
    pub(crate) fn import_image(&self, namespace: &str, name: &str) {
        let archive = archive(&self.path("rootfs"), &self.path("image"), name);
        let archive = archive.to_str().expect("a path of UTF-8");
        let import = [
            "--namespace",
            namespace,
            "images",
            "import",
            "--snapshotter",
            "native",
        ];
        let status = self.ctr(&[&import[..], &[archive]].concat()).status();
        assert!(status.expect("run ctr").success(), "ctr images import");
    }

    /// What the image of this name points at.
    pub(crate) fn image_digest(&self, namespace: &str, name: &str) -> String {
        let filter = format!("name=={name}");
        let list = ["--namespace", namespace, "images", "list", &filter];
        let output = self
            .ctr(&list)
            .stdout(Stdio::piped())
            .output()
            .expect("run ctr");
        let text = String::from_utf8(output.stdout).expect("text");
        let digest = text
            .split_ascii_whitespace()
            .find(|word| word.starts_with("sha256:"));
        digest
            .unwrap_or_else(|| panic!("no digest in {text}"))
            .to_owned()
    }
}

/// What a container is besides its id and its program.
pub(crate) struct Options<'a> {
    /// Of containerd.
    pub(crate) namespace: &'a str,
    pub(crate) cgroup: &'a str,
    pub(crate) labels: &'a [&'a str],
    pub(crate) environment: &'a [&'a str],
    /// An image of [`Containerd::import_image`]; without one there is none.
    pub(crate) image: Option<&'a str>,
    /// A network namespace; without one the host's.
    pub(crate) netns: Option<&'a str>,
    /// More arguments of `ctr run`.
    pub(crate) more: &'a [&'a str],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            namespace: "default",
            cgroup: "/default/unnamed",
            labels: &[],
            environment: &[],
            image: None,
            netns: None,
            more: &[],
        }
    }
}

/// An image as `docker save` writes it, in `directory`: one layer, which is `root`.
fn archive(root: &Path, directory: &Path, name: &str) -> PathBuf {
    fs::create_dir_all(directory).expect("make it");
    let tar = |arguments: &[&str], from: &Path| {
        let status = Command::new("tar")
            .arg("-C")
            .arg(from)
            .args(arguments)
            .status();
        assert!(status.expect("run tar").success(), "tar {arguments:?}");
    };
    let layer = directory.join("layer.tar");
    tar(&["-cf", layer.to_str().expect("UTF-8"), "."], root);
    let sum = Command::new("sha256sum")
        .arg(&layer)
        .output()
        .expect("run it");
    let sum = String::from_utf8(sum.stdout).expect("text");
    let sum = sum.split(' ').next().expect("a sum");
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}});
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    for (file, text) in [("config.json", config), ("manifest.json", manifest)] {
        fs::write(directory.join(file), text.to_string()).expect("write it");
    }
    let archive = directory.join("image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    let to = archive.to_str().expect("UTF-8");
    tar(&[&["-cf", to][..], &files].concat(), directory);
    archive
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Containers go with their guards: these are those of a test that has forgotten one.
        for namespace in self.listed(&["namespaces", "list", "--quiet"]) {
            let of = ["--namespace", &namespace];
            for id in self.listed(&[&of[..], &["tasks", "list", "--quiet"]].concat()) {
                self.remove(&namespace, &id);
            }
        }
        if let Some(process) = self.process.take() {
            process.end(Duration::from_secs(30));
        }
    }
}

/// A container that runs. Where a test panics it ends with this.
pub(crate) struct Container<'a> {
    containerd: &'a Containerd,
    id: String,
    namespace: String,
    cgroup: String,
    /// `None` once it was waited for.
    process: Option<Process>,
}

impl Container<'_> {
    /// Runs another program in it, to its end.
    pub(crate) fn exec(&self, program: &[&str]) {
        let namespace = ["--namespace", &self.namespace];
        let exec = ["task", "exec", "--exec-id", &fresh_id(), &self.id];
        let mut command = self.containerd.ctr(&[&namespace[..], &exec].concat());
        let status = command.args(program).status().expect("run ctr");
        assert!(status.success(), "{program:?}: {status}");
    }

    /// Waits until what runs in it has ended by itself.
    pub(crate) fn ended(mut self) {
        let process = self.process.take().expect("it runs");
        let finished = process.wait(Duration::from_secs(60));
        assert!(finished.status.success(), "{}", finished.stderr.join("\n"));
    }

    /// Kills what runs in it and waits until it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Container<'_> {
    /// Never panics: a test may be panicking.
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that is only just starting has nothing to kill yet.
            for _ in 0..30 {
                self.containerd.kill(&self.namespace, &self.id);
                if process.ends_within(Duration::from_secs(1)) {
                    break;
                }
            }
            drop(process);
            self.containerd.remove(&self.namespace, &self.id);
        }
        remove_groups(&self.cgroup);
    }
}

/// The directories of a control group in each hierarchy.
pub(crate) fn groups(path: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let roots = hierarchies
        .map(|entry| entry.path())
        .chain([root.to_owned()]);
    let group = |root: PathBuf| root.join(path.trim_start_matches('/'));
    roots.map(group).filter(|group| group.is_dir()).collect()
}

/// Removes what a runtime has left of a container's group: groups that a test made in it, and that of its pod.
fn remove_groups(path: &str) {
    fn remove(group: &Path) {
        let inner = fs::read_dir(group).into_iter().flatten().flatten();
        for entry in inner.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir())) {
            remove(&entry.path());
        }
        drop(fs::remove_dir(group));
    }
    groups(path).iter().for_each(|group| remove(group));
    if let Some((pod, _)) = path.rsplit_once('/')
        && pod
            .rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with("pod"))
    {
        // Another container of the pod may be there.
        groups(pod)
            .iter()
            .for_each(|group| drop(fs::remove_dir(group)));
    }
}

/// Where a kubelet with the cgroupfs driver puts a container.
pub(crate) fn cgroup(pod_uid: &str, container: &str) -> String {
    format!("/kubepods/burstable/pod{pod_uid}/{container}")
}

/// A container id that no other has.
pub(crate) fn fresh_id() -> String {
    let mut bytes = [0; 32];
    std::io::Read::read_exact(
        &mut fs::File::open(Path::new("/dev/urandom")).expect("open it"),
        &mut bytes,
    )
    .expect("read it");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
