//! Whose spans are where the process is gone, in a control group below its container's, or at an address that was another
//! pod's: on real containers, with a real API server and a real Collector.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod node;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use node::{LIMIT, Node, deployed, resource, runs, served};
use rustix::process::{Pid, Signal, kill_process};
use support::cgroup::{unified, wrap};
use support::collector::Collector;
use support::containers::{cgroup, fresh_id};
use support::machine::{free_port, has, skip, wait_until};
use support::netns::{Netns, NetnsPair};
use support::otlp::Span;
use support::plain_server::{get, server};
use support::process::Process;

/// The one client span of this path.
fn asked(collector: &Collector, path: &str) -> Span {
    let is = |span: &&Span| span.kind == "client" && span.text("url.full").ends_with(path);
    let spans = collector.wait_for_spans(path, LIMIT, |spans| spans.iter().any(|it| is(&it)));
    let found: Vec<_> = spans.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{path}");
    found[0].clone()
}

fn is_of(span: &Span, pod: &str, container: &str) {
    let said =
        ["k8s.pod.name", "container.id", "k8s.container.name"].map(|key| resource(span, key));
    assert_eq!(
        said,
        [Some(pod), Some(container), Some("app")],
        "{:?}",
        span.resource
    );
    assert_eq!(resource(span, "service.name"), Some("web"));
}

/// What happens while the agent does not run: the kernel side goes on.
fn unseen(node: &Node, act: impl FnOnce()) {
    let agent = Pid::from_raw(i32::try_from(node.agent.pid()).unwrap()).unwrap();
    kill_process(agent, Signal::STOP).unwrap();
    let state = || fs::read_to_string(format!("/proc/{}/stat", node.agent.pid())).unwrap();
    wait_until("stopped agent", LIMIT, || state().contains(") T "));
    act();
    kill_process(agent, Signal::CONT).unwrap();
}

fn curl(url: &str) -> [&str; 5] {
    ["/usr/bin/curl", "-s", "-o", "/dev/null", url]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_gone_is_attributed_by_the_control_group_of_its_events() {
    const TEST: &str = "a_process_that_is_gone_is_attributed_by_the_control_group_of_its_events";
    let Some(unified) = unified() else {
        return skip(TEST, "control groups of version 1 alone have no ids");
    };
    let Some(node) = Node::start(TEST, "", &[]).await else {
        return;
    };
    let Node {
        containerd,
        collector,
        admin,
        ..
    } = &node;
    let port = free_port();
    let (serves, id) = ("web-5d9c7b8f6d-serve", fresh_id());
    let uid = deployed(admin, serves).await;
    let program = server(port);
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    let serving = containerd.run(&id, &cgroup(&uid, &id), &[], &program);
    runs(admin, serves, &id, None).await;
    get(port, "/ready");
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");

    // A client that ends before anybody can look at it, in a container that goes on.
    let (asks, id) = ("web-5d9c7b8f6d-asks0", fresh_id());
    let uid = deployed(admin, asks).await;
    let path = cgroup(&uid, &id);
    let waiting = containerd.run(&id, &path, &[], &["/usr/bin/sleep", "600"]);
    let group = unified.join(path.trim_start_matches('/'));
    wait_until("container", LIMIT, || is_populated(&group));
    runs(admin, asks, &id, None).await;
    unseen(&node, || waiting.exec(&curl(&url("/gone"))));
    let gone = asked(collector, "/gone");
    is_of(&gone, asks, &id);
    assert_eq!(
        resource(&gone, "process.executable.path"),
        None,
        "it was gone"
    );
    is_of(
        &served(collector, "/gone"),
        serves,
        &resource_id(collector, "/ready"),
    );

    // The same in a group below the container's, as a program that manages groups itself makes them.
    let nested = group.join("worker").join("of-curl");
    fs::create_dir_all(&nested).unwrap();
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec {}",
        nested.display(),
        curl(&url("/nested")).join(" ")
    );
    unseen(&node, || {
        let status = Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(status.success());
    });
    let below = asked(collector, "/nested");
    is_of(&below, asks, &id);
    assert_eq!(
        resource(&below, "process.executable.path"),
        None,
        "it was gone"
    );
    fs::remove_dir(&nested).unwrap();
    fs::remove_dir(nested.parent().unwrap()).unwrap();
    waiting.kill();

    // A container that lives for 300 ms, of which the API server tells when it has ended.
    let (short, id) = ("web-5d9c7b8f6d-short", fresh_id());
    let uid = deployed(admin, short).await;
    let script = format!("{}; sleep 0.3", curl(&url("/short")).join(" "));
    let program = ["/usr/bin/sh", "-c", &script];
    containerd
        .run(&id, &cgroup(&uid, &id), &[], &program)
        .ended();
    runs(admin, short, &id, None).await;
    is_of(&asked(collector, "/short"), short, &id);

    serving.kill();
    let outcome = node.agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
}

/// In a pod the agent's /sys/fs/cgroup has no group but its own.
#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_moments_life_have_their_pod_where_the_agent_sees_no_control_groups() {
    const TEST: &str =
        "containers_of_a_moments_life_have_their_pod_where_the_agent_sees_no_control_groups";
    const SELECTORS: &str =
        "    capture:\n      selectors:\n        include: [{kubernetes: {namespace: shop}}]\n";
    let hides = "mount -t tmpfs none /sys/fs/cgroup && exec \"$0\" \"$@\"";
    let words = ["unshare", "--mount", "sh", "-c", hides].map(str::to_owned);
    let started = Node::start_with(TEST, SELECTORS, &[], |command| wrap(command, &words)).await;
    let Some(node) = started else {
        return;
    };
    let Node {
        containerd,
        collector,
        admin,
        ..
    } = &node;
    let port = free_port();
    let program = server(port);
    let serving = Process::start(Command::new(&program[0]).args(&program[1..]));
    get(port, "/serves");
    let mut ran = Vec::new();
    for n in 0..CONTAINERS {
        let (name, id) = (format!("job-5d9c7b8f6d-{n:05}"), fresh_id());
        let uid = deployed(admin, &name).await;
        let url = |k| format!("http://127.0.0.1:{port}/{n}/{k}");
        let urls: Vec<String> = (0..=n % 5).map(url).collect();
        let mut curl = vec!["/usr/bin/curl", "-s"];
        let outputs = urls.iter().flat_map(|url| ["-o", "/dev/null", url]);
        curl.extend(outputs);
        let run = || {
            let container = containerd.run(&id, &cgroup(&uid, &id), &[], &curl);
            container.ended();
        };
        // Every other one is gone before the agent can look at it.
        if n % 2 == 0 {
            unseen(&node, run);
        } else {
            run();
        }
        runs(admin, &name, &id, None).await;
        ran.push((name, id, urls));
    }
    for (name, id, urls) in &ran {
        for url in urls {
            is_of(&asked(collector, url), name, id);
        }
    }
    serving.terminate(LIMIT);
    let outcome = node.agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
}

/// So many containers, of one to five requests each.
const CONTAINERS: usize = 20;

/// The id of the container that served this path.
fn resource_id(collector: &Collector, path: &str) -> String {
    resource(&served(collector, path), "container.id")
        .unwrap()
        .to_owned()
}

fn is_populated(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|text| !text.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_have_one_address_in_turn_are_told_apart() {
    const TEST: &str = "pods_that_have_one_address_in_turn_are_told_apart";
    if !has(TEST, &["ip"]) {
        return;
    }
    let Some(node) = Node::start(TEST, "", &[]).await else {
        return;
    };
    let Node {
        containerd,
        collector,
        admin,
        ..
    } = &node;
    let pair = NetnsPair::new();
    let port = free_port();
    let program = [
        "/usr/bin/python3",
        "-u",
        "-m",
        "http.server",
        &port.to_string(),
        "--bind",
        &pair.left.address,
        "-d",
        "/tmp",
    ];
    let url = |path: &str| format!("http://{}:{port}{path}", pair.left.address);
    let address = |name: &str| {
        (
            format!("/api/v1/namespaces/shop/pods/{name}/status"),
            serde_json::json!({"status": {"podIP": pair.left.address, "podIPs": [{"ip": pair.left.address}]}}),
        )
    };

    let (first, id) = ("web-5d9c7b8f6d-first", fresh_id());
    let uid = deployed(admin, first).await;
    let container = containerd.run_in(&pair.left.name, &id, &cgroup(&uid, &id), &program);
    runs(admin, first, &id, None).await;
    let (path, status) = address(first);
    admin.patch(&path, &status).await;
    reach(&pair.right, &url("/first"));
    is_of(&served(collector, "/first"), first, &id);
    container.kill();

    // The API server still says that the address is the first one's, and is late with the second.
    let (second, other) = ("web-5d9c7b8f6d-other", fresh_id());
    let uid = deployed(admin, second).await;
    let container = containerd.run_in(&pair.left.name, &other, &cgroup(&uid, &other), &program);
    reach(&pair.right, &url("/second"));
    runs(admin, second, &other, None).await;
    let (path, status) = address(second);
    admin.patch(&path, &status).await;
    let span = served(collector, "/second");
    is_of(&span, second, &other);
    assert_eq!(resource(&span, "k8s.pod.uid"), Some(uid.as_str()));
    container.kill();
    let outcome = node.agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
}

/// Asks until somebody answers; then the request has been made once.
fn reach(from: &Netns, url: &str) {
    wait_until("server in the container", LIMIT, || {
        let mut command = from.command("/usr/bin/curl");
        command
            .args(["-s", "-o", "/dev/null", url])
            .status()
            .is_ok_and(|status| status.success())
    });
}
