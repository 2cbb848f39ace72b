//! The agent's own connections, here those of this process, are left out at both ends, and nobody else's are.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod observed;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Mutex;

use observed::{Running, Seen, Traffic, backends, settings};
use spandrel_model::Event;

/// Another connection of this process would be its own one, too.
static ALONE: Mutex<()> = Mutex::new(());

fn run(command: &str) {
    let mut words = command.split(' ');
    let mut program = Command::new(words.next().unwrap());
    let ran = program.args(words).status();
    assert!(ran.is_ok_and(|status| status.success()), "{command}");
}

/// Two namespaces: one behind a link, whose port 80 is another one in truth, and one with the same addresses.
struct Networks {
    behind: String,
    apart: String,
    server: String,
    client: String,
}

impl Networks {
    fn new(number: u8) -> Self {
        let id = std::process::id() % 8000;
        let (behind, apart) = (format!("own-b{id}-{number}"), format!("own-a{id}-{number}"));
        let net = id * 8;
        let address = |last: u32| {
            let low = (net + last) & 0xff;
            format!("198.{}.{}.{low}", 18 + (net >> 16), (net >> 8) & 0xff)
        };
        let (client, server) = (address(1), address(2));
        let link = format!("own{id}{number}");
        for command in [
            format!("ip netns add {behind}"),
            format!("ip netns add {apart}"),
            format!("ip link add {link} type veth peer name eth0 netns {behind}"),
            format!("ip addr add {client}/30 dev {link}"),
            format!("ip link set {link} up"),
            format!("ip -n {behind} addr add {server}/30 dev eth0"),
            format!("ip -n {behind} link set eth0 up"),
            format!("ip -n {apart} link set lo up"),
            format!("ip -n {apart} addr add {client}/32 dev lo"),
            format!("ip -n {apart} addr add {server}/32 dev lo"),
            format!("ip netns exec {behind} nft add table ip nat"),
            format!(
                "ip netns exec {behind} nft add chain ip nat pre {{ type nat hook prerouting priority -100 ; }}"
            ),
            format!(
                "ip netns exec {behind} nft add rule ip nat pre tcp dport 80 redirect to :8080"
            ),
        ] {
            run(&command);
        }
        Self {
            behind,
            apart,
            server,
            client,
        }
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in [&self.behind, &self.apart] {
            // What is left of it ends with the machine.
            drop(Command::new("ip").args(["netns", "del", name]).status());
        }
    }
}

/// What a process has said, on either side.
fn texts(seen: &Seen, pid: u32) -> Vec<String> {
    seen.events
        .iter()
        .filter_map(|event| match event {
            Event::Message(message) if message.process.tgid == pid => {
                Some(String::from_utf8_lossy(&message.payload).into_owned())
            }
            _ => None,
        })
        .collect()
}

#[test]
fn an_own_connection_is_known_behind_translated_addresses_and_the_same_addresses_elsewhere_are_not_it()
 {
    let _alone = ALONE.lock();
    for (number, backend) in (0..).zip(backends()) {
        let networks = Networks::new(number);
        let running = Running::start(settings(backend));
        let mut server = Traffic::start_in(
            &networks.behind,
            "serve",
            &format!("{},8080", networks.server),
        );
        server.until_ready();
        let mut own = TcpStream::connect((networks.server.as_str(), 80)).unwrap();
        own.write_all(b"own").unwrap();
        own.read_exact(&mut [0; 6]).unwrap();
        let port = own.local_addr().unwrap().port();
        drop(own);
        let (serving, _) = server.finish();
        let tuple = format!("{},80,{},{port}", networks.server, networks.client);
        let seen = running.finish(Traffic::start_in(&networks.apart, "both_ends", &tuple));
        assert_eq!(texts(&seen, serving), [""; 0], "{backend:?}");
        assert_eq!(texts(&seen, seen.pid), ["theirs", "theirs"], "{backend:?}");
    }
}

/// As those are that an export or a watch opens before the capture begins.
#[test]
fn an_own_connection_that_is_older_than_the_capture_is_not_traced_at_its_other_end() {
    let _alone = ALONE.lock();
    for backend in backends() {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = Traffic::start("serve", &format!("127.0.0.1,{port}"));
        server.until_ready();
        let mut own = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let running = Running::start(settings(backend));
        own.write_all(b"own").unwrap();
        own.read_exact(&mut [0; 6]).unwrap();
        own.write_all(b"more").unwrap();
        let (serving, _) = server.finish();
        let seen = running.finish(Traffic::start("ipv6", ""));
        let mut told = texts(&seen, serving);
        // The first write is seen at its end, and the other end may have read it before.
        told.retain(|text| text != "own");
        assert_eq!(told, [""; 0], "{backend:?}");
        assert_eq!(texts(&seen, seen.pid), ["six", "six"], "{backend:?}");
    }
}
