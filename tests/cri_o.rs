//! What containers of CRI-O are called: processes in control groups as CRI-O makes them, and a server of the CRI on a unix
//! socket that answers what CRI-O's sources answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

#[allow(dead_code, reason = "shared with the tests of container-runtime")]
#[path = "../crates/container-runtime/tests/runtimes/grpc.rs"]
mod grpc;
#[allow(dead_code, reason = "shared with the tests of container-runtime")]
#[path = "../crates/container-runtime/tests/runtimes/messages.rs"]
mod messages;
mod named;
mod support;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use grpc::Server;
use messages::{IMAGE, POD, status_of_container, status_of_image, text};
use named::{LIMIT, agent, assert_has, checked, explained, said, served, wait_for};
use serde_json::json;
use support::agent::Agent;
use support::cgroup::Cgroup;
use support::machine::{free_port, has, is_root, wait_until};
use support::otlp::Span;
use support::plain_server::{get, server};
use support::process::Process;
use tempfile::TempDir;

const NOT_FOUND: u8 = 5;
const INTERNAL: u8 = 13;

/// A server of HTTP in a control group. Dropped in this order.
struct Serving {
    _process: Process,
    cgroup: Cgroup,
    port: u16,
}

impl Serving {
    fn start(cgroup: Cgroup) -> Self {
        let port = free_port();
        let process = Process::start(&mut cgroup.command(&server(port).join(" ")));
        Self {
            _process: process,
            cgroup,
            port,
        }
    }

    /// What runs in the container, in the scope that CRI-O makes for it in its pod's slice.
    fn container() -> Self {
        let id = support::containers::fresh_id();
        Self::start(in_pod(&format!("crio-{id}.scope"), &id))
    }

    fn id(&self) -> &str {
        &self.cgroup.id
    }

    /// Its span for a request.
    fn serves(&self, agent: &Agent, path: &str) -> Span {
        get(self.port, path);
        wait_for(agent, path)
    }
}

fn in_pod(name: &str, id: &str) -> Cgroup {
    let uid = POD[2].1.replace('-', "_");
    let pod = format!("kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice");
    Cgroup::at(&format!("spandrel-tests/kubepods.slice/{pod}/{name}"), id)
}

/// Knows these containers, and none of other tests.
fn cri_o(path: &Path, containers: &[&Serving]) -> Server {
    let ids: Vec<String> = containers.iter().map(|it| it.id().to_owned()).collect();
    Server::at(path, move |method, question| match method {
        "RuntimeService/ContainerStatus" => {
            let asked_about = |id: &&String| text(1, id) == question;
            let id = ids.iter().find(asked_about).ok_or(NOT_FOUND)?;
            let image = "registry:5000/shop/web:1.4";
            Ok(status_of_container(id, image, &POD, IMAGE))
        }
        "ImageService/ImageStatus" => Ok(status_of_image()),
        _ => Err(12),
    })
}

fn is_unnamed(span: &Span, container: &Serving) {
    assert_has(span, &[("container.id", container.id())]);
    let said = ["container.runtime.name", "k8s.pod.name"].map(|key| span.resource.get(key));
    assert_eq!(said, [None, None], "{:?}", span.resource);
}

#[test]
fn containers_of_cri_o_are_named_by_its_cri_and_their_monitors_are_none() {
    const TEST: &str = "containers_of_cri_o_are_named_by_its_cri_and_their_monitors_are_none";
    if !(is_root(TEST) && has(TEST, &["python3"])) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("crio.sock");
    let web = Serving::container();
    let cri_o = cri_o(&socket, &[&web]);
    let agent = agent(&[&socket], "10s");

    let span = web.serves(&agent, "/web");
    assert_has(
        &span,
        &[
            ("container.id", web.id()),
            ("container.runtime.name", "cri-o"),
            ("container.image.id", IMAGE),
            ("container.image.name", "registry:5000/shop/web"),
            ("container.image.tags", "[\"1.4\"]"),
            (
                "container.image.repo_digests",
                "[\"registry:5000/shop/web@sha256:d1d1\"]",
            ),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "web-0"),
            ("k8s.pod.uid", POD[2].1),
            ("k8s.container.name", "app"),
            ("service.name", "app"),
            ("service.namespace", "shop"),
            ("service.version", "1.4"),
            ("service.instance.id", "shop.web-0.app"),
        ],
    );
    assert!(!span.resource.contains_key("container.name"));

    // Its conmon has a scope beside it, and is a process of the host.
    let scope = format!("crio-conmon-{}.scope", web.id());
    let monitor = Serving::start(in_pod(&scope, web.id()));
    let span = monitor.serves(&agent, "/monitor");
    for key in ["container.id", "container.runtime.name", "k8s.pod.name"] {
        assert!(!span.resource.contains_key(key), "{:?}", span.resource);
    }
    // It is asked once.
    web.serves(&agent, "/again");
    let questions = cri_o.questions();
    let about = questions.iter().filter(|it| **it == text(1, web.id()));
    assert_eq!(about.count(), 1, "{:?}", cri_o.asked());

    assert_eq!(
        checked(&socket),
        json!({"state": "ok", "detail": "it answers"})
    );
    let span = wait_for(&agent, "/web");
    let explained = explained(&span, &socket, "1h");
    let line = explained.lines().find(|it| it.contains("k8s.pod.name"));
    assert!(
        line.is_some_and(|line| line.ends_with("\"web-0\"")),
        "{explained}"
    );
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    assert!(
        said(&outcome, "containers asked about: 1 found"),
        "{}",
        outcome.stderr.join("\n")
    );
}

#[test]
fn containers_keep_their_ids_while_cri_o_is_away_or_fails_and_have_names_when_it_is_back() {
    const TEST: &str =
        "containers_keep_their_ids_while_cri_o_is_away_or_fails_and_have_names_when_it_is_back";
    if !(is_root(TEST) && has(TEST, &["python3"])) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("crio.sock");
    // Longer than this test: what comes before the end did not wait for the end of its time.
    let agent = agent(&[&socket], "1h");
    let named = |container: &Serving, path: &str| {
        let mut number = 0;
        wait_until("a name", LIMIT, || {
            number += 1;
            let span = container.serves(&agent, &format!("{path}/{number}"));
            span.resource.contains_key("k8s.pod.name")
        });
    };

    let absent = Serving::container();
    is_unnamed(&absent.serves(&agent, "/absent"), &absent);

    let server = Server::at(&socket, |_, _| Err(INTERNAL));
    let failing = Serving::container();
    is_unnamed(&failing.serves(&agent, "/failing"), &failing);
    assert!(!server.asked().is_empty());
    drop(server);

    // Its socket is still there, as of one that was killed.
    let gone = Serving::container();
    is_unnamed(&gone.serves(&agent, "/gone"), &gone);

    let server = cri_o(&socket, &[&absent, &failing, &gone]);
    for (container, path) in [
        (&absent, "/absent"),
        (&failing, "/failing"),
        (&gone, "/gone"),
    ] {
        named(container, path);
    }
    drop(server);
    let span = gone.serves(&agent, "/known");
    assert_has(&span, &[("k8s.pod.name", "web-0")]);

    // It takes connections, and says nothing.
    fs::remove_file(&socket).unwrap();
    let hanging = UnixListener::bind(&socket).unwrap();
    let hung = Serving::container();
    is_unnamed(&hung.serves(&agent, "/hung"), &hung);
    drop(hanging);
    let _server = cri_o(&socket, &[&hung]);
    named(&hung, "/back");

    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let counts = outcome
        .stderr
        .iter()
        .find(|line| line.contains("asked about: "));
    let counts = counts.expect("how questions ended");
    for reason in [
        "4 found",
        "no_socket",
        "malformed",
        "unavailable",
        "timeout",
    ] {
        assert!(counts.contains(reason), "{reason}: {counts}");
    }
    let late = outcome.spans();
    assert!(served(&late, "/hung").is_some());
}
