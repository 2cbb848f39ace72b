//! A real HAProxy in front of one HTTP server, with the options of splicing that a test asks for.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::machine::{find, free_port, wait_until};
use super::process::Process;

/// A running HAProxy.
pub(crate) struct Haproxy {
    _process: Process,
    _directory: TempDir,
    pub(crate) port: u16,
}

impl Haproxy {
    /// In front of 127.0.0.1 and this port, with these lines in the section `defaults`.
    pub(crate) fn start(upstream: u16, options: &[&str]) -> Self {
        let directory = TempDir::new().expect("a directory for HAProxy");
        let port = free_port();
        let options: String = options.iter().map(|line| format!("    {line}\n")).collect();
        let text = format!(
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    \
             timeout server 60s\n    http-reuse always\n{options}frontend in\n    bind 127.0.0.1:{port}\n    \
             default_backend out\nbackend out\n    server one 127.0.0.1:{upstream}\n"
        );
        let configuration = directory.path().join("haproxy.cfg");
        std::fs::write(&configuration, text).expect("haproxy.cfg");
        let mut command = Command::new(find("haproxy").expect("HAProxy is installed"));
        let mut process = Process::start(command.arg("-db").arg("-f").arg(&configuration));
        let listens = listening(port);
        // A connection to find that out would be traffic that no client made.
        wait_until("HAProxy", Duration::from_secs(10), || {
            assert!(!process.has_ended(), "{}", process.stderr.all().join("\n"));
            listens()
        });
        Self {
            _process: process,
            _directory: directory,
            port,
        }
    }
}

/// Whether somebody listens on this port of 127.0.0.1.
fn listening(port: u16) -> impl Fn() -> bool {
    let local = format!("0100007F:{port:04X}");
    move || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        table.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            fields.next() == Some(&local) && fields.nth(1) == Some("0A")
        })
    }
}
