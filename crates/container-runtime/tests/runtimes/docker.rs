//! The Docker API as Docker Engine and Podman answer it.

use std::fs;
use std::os::unix::net::UnixListener;

use spandrel_container_runtime::{Answer, Api};
use tempfile::TempDir;

use crate::server::{Server, docker, response};
use crate::{HOLD, ID, SECOND, counts, ended, known, names};

const OTHER: &str = "3338444f21b660afec432833dd24e4c9e423839eb1fde9163b1718ca7043fc1c";

#[test]
fn a_container_of_docker_is_described_and_asked_about_once() {
    let server = Server::http(docker);
    let mut names = names(&[server.path()]);
    names.take_in(SECOND);
    let found = known(ended(&mut names, ID, SECOND));
    assert_eq!(found.runtime, "docker");
    assert_eq!(found.name.as_deref(), Some("web"));
    assert_eq!(found.image.as_deref(), Some("shop/web:1.4"));
    let id = found.image_id.as_deref();
    assert_eq!(
        id,
        Some("sha256:1e1e1c351de3f638ac2c382b16c85d8cfe931766594c86dfc132997ee5638a47")
    );
    let tags = ["shop/web:1.4", "registry.example:5000/shop/web:stable"];
    assert_eq!(found.repo_tags, tags);
    assert_eq!(found.pod, None);
    for seconds in 1..1000 {
        names.take_in(seconds * SECOND);
        known(names.look_up(ID, Some(Api::Docker)));
    }
    assert_eq!(counts(&names), [("found", 1)]);
    assert_eq!(server.asked().len(), 3, "version, container and image");
}

#[test]
fn podman_says_who_it_is_and_a_kubelets_labels_say_the_pod() {
    let server = Server::http(|path| match path {
        "/_ping" => response("200 OK", "Libpod-API-Version: 4.3.1\r\n", "OK"),
        _ if path.starts_with("/containers/") => {
            let body = format!(
                r#"{{"Id":"{ID}","Name":"k8s_app","Config":{{"Image":"","Labels":{{
                "io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.name":"web-0","io.kubernetes.pod.uid":"u",
                "io.kubernetes.container.name":"app"}}}}}}"#
            );
            response("200 OK", "", &body)
        }
        _ => response("404 Not Found", "", "{}"),
    });
    let found = known(ended(&mut names(&[server.path()]), ID, SECOND));
    assert_eq!(found.runtime, "podman");
    assert_eq!((&found.image, &found.image_id), (&None, &None));
    let pod = found.pod.as_ref().unwrap();
    assert_eq!((pod.pod.as_str(), pod.container.as_str()), ("web-0", "app"));
}

#[test]
fn a_container_that_nobody_knows_is_asked_about_again_after_a_minute() {
    let server = Server::http(docker);
    let mut names = names(&[server.path()]);
    names.take_in(SECOND);
    assert_eq!(ended(&mut names, OTHER, SECOND), Answer::Unknown);
    assert_eq!(counts(&names), [("not_found", 1)]);
    names.take_in(60 * SECOND);
    assert_eq!(names.look_up(OTHER, None), Answer::Unknown);
    assert_eq!(server.asked().len(), 2, "version and container");
    names.take_in(62 * SECOND);
    assert_eq!(ended(&mut names, OTHER, 62 * SECOND), Answer::Unknown);
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn without_a_socket_nobody_waits_and_one_that_comes_is_used() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("docker.sock");
    let mut names = names(&[&path]);
    names.take_in(SECOND);
    for _ in 0..100 {
        assert_eq!(names.look_up(ID, None), Answer::Unknown);
    }
    assert_eq!(counts(&names), [("no_socket", 1)]);
    // A file in its place is no socket either.
    fs::write(&path, "").unwrap();
    names.take_in(10 * SECOND);
    assert_eq!(names.look_up(ID, None), Answer::Unknown);
    fs::remove_file(&path).unwrap();

    let server = Server::http(docker);
    fs::rename(server.path(), &path).unwrap();
    names.take_in(11 * SECOND);
    assert_eq!(
        names.look_up(ID, None),
        Answer::Unknown,
        "it was looked for lately"
    );
    names.take_in(16 * SECOND);
    known(ended(&mut names, ID, 16 * SECOND));
}

#[test]
fn a_socket_that_vanishes_and_comes_back_costs_what_comes_between() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("docker.sock");
    // Nobody listens any more.
    drop(UnixListener::bind(&path).unwrap());
    let mut names = names(&[&path]);
    names.take_in(SECOND);
    assert_eq!(ended(&mut names, ID, SECOND), Answer::Unknown);
    assert_eq!(counts(&names), [("unavailable", 1)]);
    let server = Server::http(docker);
    fs::rename(server.path(), &path).unwrap();
    // The socket rests for a second of its own clock.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut now = SECOND;
    loop {
        now += 10 * SECOND;
        names.take_in(now);
        if matches!(ended(&mut names, ID, now), Answer::Known(_)) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it never comes back");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn only_sockets_that_speak_what_the_runtime_speaks_are_asked() {
    let server = Server::http(docker);
    let mut names = names(&[server.path()]);
    names.take_in(SECOND);
    assert_eq!(names.look_up(ID, Some(Api::Containerd)), Answer::Unknown);
    assert_eq!(counts(&names), [("no_socket", 1)]);
    assert_eq!(server.connections(), 0);
}

#[test]
fn what_was_asked_before_the_first_tick_waits_from_then_on() {
    let server = Server::raw("docker.sock", |_| std::thread::sleep(HOLD * 20));
    let mut names = names(&[server.path()]);
    assert_eq!(names.look_up(ID, None), Answer::NotYet);
    let hold = u64::try_from(HOLD.as_nanos()).unwrap();
    names.take_in(1000 * SECOND);
    assert_eq!(names.look_up(ID, None), Answer::NotYet);
    assert!(!names.take_in(1000 * SECOND + hold - 1), "nothing new");
    assert!(names.take_in(1000 * SECOND + hold), "the wait is over");
    assert_eq!(names.look_up(ID, None), Answer::Unknown);
}
