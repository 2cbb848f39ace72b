//! A Docker Engine of our own, with its own containerd. As for containerd, the root of a container is the host's /usr.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::machine::wait_until;
use super::process::Process;

/// A running engine without networks of its own.
pub(crate) struct Docker {
    directory: TempDir,
    process: Option<Process>,
}

impl Docker {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().expect("a directory for Docker Engine");
        let path = |name: &str| directory.path().join(name);
        let mut command = Command::new("dockerd");
        command
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args(["--storage-driver", "vfs"])
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("run"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("--host")
            .arg(format!("unix://{}", path("docker.sock").display()));
        let mut docker = Self {
            process: Some(Process::start(&mut command)),
            directory,
        };
        wait_until("Docker Engine", Duration::from_secs(60), || {
            let process = docker.process.as_mut().expect("it was started");
            assert!(!process.has_ended(), "{}", process.stderr.all().join("\n"));
            let version = docker
                .command(&["version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            version.is_ok_and(|status| status.success())
        });
        docker
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args(arguments);
        command
    }

    /// Runs `docker` with these arguments and returns what it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("run docker");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes an image of this name.
    pub(crate) fn import_image(&self, name: &str) {
        let root = self.directory.path().join("rootfs");
        fs::create_dir_all(root.join("usr")).expect("make it");
        for link in ["bin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), root.join(link)).expect("link it");
        }
        let archive = self.directory.path().join("rootfs.tar");
        let archive = archive.to_str().expect("a path of UTF-8");
        let tar = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["-cf", archive, "."])
            .status();
        assert!(tar.expect("run tar").success(), "tar");
        self.run(&["import", archive, name]);
    }

    /// Starts a program in a container of the host's network; returns the container's id. It ends with the engine.
    pub(crate) fn start_container<A: AsRef<str>>(
        &self,
        name: &str,
        image: &str,
        program: &[A],
    ) -> String {
        let run = [
            "run",
            "--detach",
            "--network",
            "host",
            "--volume",
            "/usr:/usr:ro",
            "--volume",
            "/tmp",
            "--name",
            name,
            image,
        ];
        let program = program.iter().map(AsRef::as_ref);
        self.run(&run.into_iter().chain(program).collect::<Vec<_>>())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        let running = self.command(&["ps", "--quiet"]).output();
        let running = running.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for id in running.unwrap_or_default().split_ascii_whitespace() {
            drop(self.command(&["rm", "--force", id]).output());
        }
        process.end(Duration::from_secs(30));
        // It leaves a network namespace and its data mounted, and then the directory cannot be removed.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let directory = self.directory.path();
        for place in places.filter(|place| Path::new(place).starts_with(directory)) {
            drop(Command::new("umount").arg(place).status());
        }
    }
}
