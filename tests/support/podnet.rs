//! The network of a node and its pods: a network namespace for each, every pod with addresses of its own on a link of its
//! own, and the node routes between them. The machine's own network is not touched.

use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};

use super::netns::{Netns, ip};

/// The node. Removed when dropped, and with it all links.
pub(crate) struct NodeNet {
    /// Its own network, with this address.
    pub(crate) node: Netns,
    number: u32,
    links: AtomicU32,
}

impl NodeNet {
    /// A node that others know by this address.
    pub(crate) fn new(address: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let node = Netns::new(format!("spandrel-{}-{number}node", id()), address);
        ip(&["-n", &node.name, "link", "set", "lo", "up"]);
        ip(&[
            "-n",
            &node.name,
            "addr",
            "add",
            &format!("{address}/32"),
            "dev",
            "lo",
        ]);
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            run(node
                .command("sh")
                .args(["-c", &format!("echo 1 > /proc/sys/{key}")]));
        }
        Self {
            node,
            number,
            links: AtomicU32::new(0),
        }
    }

    /// A namespace with these addresses, of which the node's own processes are seen at its address.
    pub(crate) fn pod(&self, v4: &str, v6: Option<&str>) -> Netns {
        let link = self.links.fetch_add(1, Ordering::Relaxed);
        let pod = Netns::new(format!("spandrel-{}-{}pod{link}", id(), self.number), v4);
        let (node, name) = (self.node.name.as_str(), pod.name.as_str());
        let host = format!("veth{link}");
        let (v4, own) = (format!("{v4}/32"), self.node.address.as_str());
        ip(&[
            "-n", node, "link", "add", &host, "type", "veth", "peer", "name", "eth0", "netns", name,
        ]);
        ip(&["-n", node, "addr", "add", "169.254.1.1/32", "dev", &host]);
        ip(&[
            "-n",
            node,
            "-6",
            "addr",
            "add",
            "fe80::1/64",
            "dev",
            &host,
            "nodad",
        ]);
        ip(&["-n", node, "link", "set", &host, "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        ip(&["-n", name, "link", "set", "eth0", "up"]);
        ip(&["-n", name, "addr", "add", &v4, "dev", "eth0"]);
        ip(&["-n", name, "route", "add", "169.254.1.1", "dev", "eth0"]);
        ip(&["-n", name, "route", "add", "default", "via", "169.254.1.1"]);
        ip(&["-n", node, "route", "add", &v4, "dev", &host, "src", own]);
        if let Some(v6) = v6 {
            let v6 = format!("{v6}/128");
            ip(&["-n", name, "-6", "addr", "add", &v6, "dev", "eth0", "nodad"]);
            ip(&[
                "-n", name, "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0",
            ]);
            ip(&["-n", node, "-6", "route", "add", &v6, "dev", &host]);
        }
        pod
    }

    /// What kube-proxy does for a Service: what goes through the node to this address and port goes to that one.
    pub(crate) fn translate(&self, (address, port): (&str, u16), to: (&str, u16)) {
        let rules = format!(
            "table ip nat {{\nchain prerouting {{\ntype nat hook prerouting priority dstnat;\n\
             ip daddr {address} tcp dport {port} dnat to {}:{}\n}}\n}}",
            to.0, to.1
        );
        run(self.node.command("nft").arg(rules));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("run it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
