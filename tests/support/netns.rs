//! Two network namespaces joined by a veth pair; the machine's own network is not touched.

use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};

/// The namespaces; removed when dropped.
pub(crate) struct NetnsPair {
    pub(crate) left: Netns,
    pub(crate) right: Netns,
}

/// One namespace.
pub(crate) struct Netns {
    pub(crate) name: String,
    /// Its address on the link.
    pub(crate) address: String,
}

impl NetnsPair {
    /// `left` is 10.77.0.1, `right` 10.77.0.2; nothing else has a route to them.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("spandrel-{}-{number}{side}", id());
        let left = Netns::new(name("l"), "10.77.0.1");
        let right = Netns::new(name("r"), "10.77.0.2");
        // Made inside the namespaces, so that no name of a link can clash with one of the machine's.
        let link = [
            "-n", &left.name, "link", "add", "veth0", "type", "veth", "peer",
        ];
        ip(&[&link[..], &["name", "veth0", "netns", &right.name]].concat());
        for side in [&left, &right] {
            let address = format!("{}/24", side.address);
            ip(&["-n", &side.name, "addr", "add", &address, "dev", "veth0"]);
            ip(&["-n", &side.name, "link", "set", "veth0", "up"]);
            ip(&["-n", &side.name, "link", "set", "lo", "up"]);
        }
        Self { left, right }
    }
}

impl Netns {
    pub(crate) fn new(name: String, address: &str) -> Self {
        ip(&["netns", "add", &name]);
        Self {
            name,
            address: address.to_owned(),
        }
    }

    /// A command that runs this program inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // The link goes with its namespace.
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .status();
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("run ip");
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
