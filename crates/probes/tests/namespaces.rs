//! Older connections are found in each network namespace, however few files the agent may have open. A test of its own
//! program, because the limit is that of the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod observed;

use std::process::{Child, Command};

use observed::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spandrel_model::Event;

/// Files that may be open, and more namespaces than that.
const FILES: u64 = 192;
const NAMESPACES: usize = 200;

/// The namespace of the older connection.
const NAME: &str = "spandrel-older";

fn ip(arguments: &[&str]) {
    assert!(
        Command::new("ip")
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
}

/// Processes with a namespace each.
struct Others(Vec<Child>);

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
        ip(&["netns", "delete", NAME]);
    }
}

#[test]
fn there_may_be_more_network_namespaces_than_open_files() {
    let backends = backends();
    let _others = Others(
        (0..NAMESPACES)
            .map(|_| {
                let mut command = Command::new("unshare");
                command.args(["--net", "sleep", "600"]).spawn().unwrap()
            })
            .collect(),
    );
    ip(&["netns", "add", NAME]);
    ip(&["-n", NAME, "link", "set", "lo", "up"]);
    let limit = getrlimit(Resource::Nofile);
    for backend in backends {
        // Of the last process to start, which is among the last to be visited.
        let mut traffic = Traffic::start_in(NAME, "existing", "");
        traffic.until_ready();
        let port = traffic.said[0]["port"].as_u64().unwrap() as u16;
        let current = Some(FILES);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        let mut running = Running::start(settings(backend));
        // It says nothing before that.
        running.await_event(|event| {
            matches!(event, Event::ConnectionOpened(opened) if opened.local.port() == Some(port))
        });
        setrlimit(Resource::Nofile, limit).unwrap();
        traffic.go();
        running.finish(traffic);
    }
}
