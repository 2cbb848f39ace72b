//! Real containers: a containerd of our own, with runc, under cgroup paths as a kubelet makes them. There is no image:
//! a container's root is made of the host's /usr.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
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
            path("socket")
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

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.path("socket"))
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        command
    }

    /// Runs a program in a container of this id, in the host's network, until it ends or is killed.
    pub(crate) fn run(
        &self,
        id: &str,
        cgroup: &str,
        environment: &[&str],
        program: &[&str],
    ) -> Container<'_> {
        self.run_with(&["--net-host"], id, cgroup, environment, program)
    }

    /// The same in a network namespace of this name.
    pub(crate) fn run_in(
        &self,
        netns: &str,
        id: &str,
        cgroup: &str,
        program: &[&str],
    ) -> Container<'_> {
        let network = format!("network:/var/run/netns/{netns}");
        self.run_with(&["--with-ns", &network], id, cgroup, &[], program)
    }

    fn run_with(
        &self,
        network: &[&str],
        id: &str,
        cgroup: &str,
        environment: &[&str],
        program: &[&str],
    ) -> Container<'_> {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.path("socket"))
            .args(["run", "--rm", "--rootfs", "--cgroup", cgroup])
            .args(network)
            .args(["--mount", "type=bind,src=/usr,dst=/usr,options=rbind:ro"]);
        for variable in environment {
            command.args(["--env", variable]);
        }
        command.arg(self.path("rootfs")).arg(id).args(program);
        Container {
            containerd: self,
            id: id.to_owned(),
            process: Process::start(&mut command),
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            drop(process.terminate(Duration::from_secs(30)));
        }
    }
}

/// A container that runs.
pub(crate) struct Container<'a> {
    containerd: &'a Containerd,
    id: String,
    process: Process,
}

impl Container<'_> {
    /// Runs another program in it, to its end.
    pub(crate) fn exec(&self, program: &[&str]) {
        let exec = ["task", "exec", "--exec-id", &fresh_id(), &self.id];
        let mut command = self.containerd.ctr(&exec);
        let status = command.args(program).status().expect("run ctr");
        assert!(status.success(), "{program:?}: {status}");
    }

    /// Waits until what runs in it has ended by itself.
    pub(crate) fn ended(self) {
        let finished = self.process.wait(Duration::from_secs(60));
        assert!(finished.status.success(), "{}", finished.stderr.join("\n"));
    }

    /// Kills what runs in it and waits until it is gone.
    pub(crate) fn kill(self) {
        let kill = ["task", "kill", "--signal", "SIGKILL", &self.id];
        drop(self.containerd.ctr(&kill).status());
        drop(self.process.wait(Duration::from_secs(30)));
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
