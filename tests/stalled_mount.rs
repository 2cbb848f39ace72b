//! Executables on a mount that stands still: nothing but what they alone can tell waits for them.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use support::agent::Agent;
use support::machine::{has, is_root, wait_until};
use support::nginx::{Nginx, Options};
use support::process::Process;
use support::traffic::{self, Client, Server};
use tempfile::TempDir;

/// A directory behind a file system in user space, which can be stopped.
struct Mount {
    directory: TempDir,
    daemon: Process,
}

impl Mount {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let [files, mount] = ["files", "mount"].map(|name| directory.path().join(name));
        fs::create_dir(&files).unwrap();
        fs::create_dir(&mount).unwrap();
        fs::write(files.join("there"), "").unwrap();
        // Otherwise whoever else opens an executable, another agent for one, drops its pages, and its programs stand still.
        let keep = ["-f", "-o", "kernel_cache"];
        let daemon = Process::start(Command::new("bindfs").args(keep).arg(&files).arg(&mount));
        wait_until("the mount", Duration::from_secs(30), || {
            mount.join("there").exists()
        });
        Self { directory, daemon }
    }

    /// A file of this machine, and where it is behind the mount.
    fn copy(&self, of: &str, name: &str) -> PathBuf {
        let path = self.directory.path();
        fs::copy(of, path.join("files").join(name)).unwrap();
        path.join("mount").join(name)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.daemon.signal(Signal::CONT);
        let mount = self.directory.path().join("mount");
        drop(Command::new("umount").arg("-l").arg(mount).status());
    }
}

#[test]
fn a_stalled_executable_holds_up_no_span_of_any_process() {
    let test = "executables on a stalled mount";
    if !is_root(test) || !has(test, &["bindfs", "nginx", "python3"]) {
        return;
    }
    let mount = Mount::new();
    let python = fs::canonicalize("/usr/bin/python3").unwrap();
    let python = mount.copy(python.to_str().unwrap(), "python3");
    // More than there are threads that read executables.
    let servers: Vec<Server> = (0..6)
        .map(|_| {
            let script = traffic::directory().join("server.py");
            let mut command = Command::new(&python);
            command.arg(script).args(["--port", "0"]);
            Server::start(command.env("PYTHONHOME", "/usr"))
        })
        .collect();
    let nginx = Nginx::start(&Options::default());
    let ask = |port: u16, count: &str| {
        Client::KeepAlive.run(port, &["--count", count, "--path", "/status/200"])
    };
    for server in &servers {
        // What it runs is in memory then.
        ask(server.port, "20");
    }
    mount.daemon.signal(Signal::STOP);
    let agent = Agent::start(&["trace", "--output", "otlp-json"]);
    for server in &servers {
        ask(server.port, "3");
    }
    ask(nginx.port, "5");
    let of = |port: u16| {
        move |span: &support::otlp::Span| {
            span.kind == "server" && span.integer("server.port") == Some(i64::from(port))
        }
    };
    for port in servers.iter().map(|server| server.port) {
        agent.wait_for_span(of(port), Duration::from_secs(60));
    }
    agent.wait_for_span(of(nginx.port), Duration::from_secs(60));
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let spans = outcome.spans();
    let named = |port: u16, name: &str| {
        let spans = spans.iter().filter(|span| of(port)(span));
        let named = spans.filter(|span| span.resource["service.name"] == name);
        named.count()
    };
    assert_eq!(named(nginx.port, "nginx"), 5);
    for server in &servers {
        assert_eq!(named(server.port, "traffic"), 3, "by its folder");
    }
}
