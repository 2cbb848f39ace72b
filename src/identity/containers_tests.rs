//! Processes in containers whose runtime is asked: beside the API server, and without it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use spandrel_container_runtime::{Names, Settings};
use spandrel_k8s_meta::store;
use spandrel_k8s_meta::watch::Change;
use spandrel_model::Resource;

use super::pods_tests::{FIRST, UID, at, pod};
use super::tests::{Seen, Tree, key};
use super::{Identities, Whose};
use crate::kubernetes::Kubernetes;

/// A Docker API that knows one container, with a kubelet's labels.
fn runtime(tree: &Tree) -> Names {
    let socket = tree.0.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for line in lines
                .map_while(Result::ok)
                .filter(|line| line.starts_with("GET "))
            {
                let body = if line.contains(FIRST) {
                    format!(
                        r#"{{"Id":"{FIRST}","Name":"/k8s_app","Config":{{"Image":"shop/web:1.2","Labels":{{
                        "io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.name":"web-5d9c7b8f6d-x2x4z",
                        "io.kubernetes.pod.uid":"{UID}","io.kubernetes.container.name":"app"}}}}}}"#
                    )
                } else {
                    "{}".to_owned()
                };
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
            }
        }
    });
    Names::new(Settings {
        sockets: vec![socket],
        hold: Duration::from_secs(1),
    })
}

/// Whose it is once the runtime has answered, with the API server's time over.
fn answered(identities: &mut Identities) -> Arc<Resource> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        identities.take_in(at(1));
        let whose = identities.whose(key(42, 500), 0, at(1), true);
        if let Whose::Known(resource) = whose
            && resource.text("container.runtime.name").is_some()
        {
            return resource;
        }
        assert!(Instant::now() < deadline, "no answer");
        thread::sleep(Duration::from_millis(1));
    }
}

/// As the cgroupfs driver places it, which does not name the runtime.
fn tree(environ: &str) -> Tree {
    let tree = Tree::new();
    let cgroup = format!("0::/kubepods/burstable/pod{UID}/{FIRST}\n");
    tree.process(&Seen {
        cgroup: &cgroup,
        environ,
        ..Seen::default()
    });
    tree
}

#[test]
fn a_kubelets_labels_tell_the_pod_until_the_api_server_does() {
    let tree = tree("");
    let mut identities = tree.identities();
    identities.with_pods(Kubernetes::told(store::Settings::default()));
    identities.with_containers(runtime(&tree));
    assert!(matches!(
        identities.whose(key(42, 500), 0, at(1), false),
        Whose::NotYet
    ));
    let resource = answered(&mut identities);
    for (key, value) in [
        ("k8s.pod.name", "web-5d9c7b8f6d-x2x4z"),
        ("k8s.container.name", "app"),
        ("container.name", "k8s_app"),
        ("service.name", "app"),
        ("service.instance.id", "shop.web-5d9c7b8f6d-x2x4z.app"),
    ] {
        assert_eq!(resource.text(key), Some(value), "{key}");
    }
    let told = Change::Apply(pod(1, FIRST, None));
    identities.pods().unwrap().apply(told, at(2));
    let Whose::Known(resource) = identities.whose(key(42, 500), 0, at(3), false) else {
        panic!("the API server has told");
    };
    assert_eq!(resource.service_name(), "web", "the Deployment");
    assert_eq!(
        resource.text("container.name"),
        None,
        "the API does not say it"
    );
}

#[test]
fn a_container_of_cri_o_is_not_asked_about_elsewhere() {
    let tree = Tree::new();
    let cgroup = format!("0::/kubepods.slice/crio-{FIRST}.scope\n");
    tree.process(&Seen {
        cgroup: &cgroup,
        ..Seen::default()
    });
    let names = runtime(&tree);
    let counters = names.counters();
    let mut identities = tree.identities();
    identities.with_containers(names);
    identities.take_in(at(1));
    let whose = identities.whose(key(42, 500), 0, at(1), false);
    assert!(
        matches!(whose, Whose::Known(_)),
        "nothing waits for a Docker API"
    );
    let counts: Vec<_> = counters.snapshot().into_iter().collect();
    assert_eq!(counts, [("no_socket", 1)]);
}

#[test]
fn what_a_program_declares_goes_before_its_containers_name() {
    let declared = "OTEL_RESOURCE_ATTRIBUTES=service.namespace=own,container.name=liar,team=a\0\
                    OTEL_SERVICE_NAME=checkout\0";
    let tree = tree(declared);
    let mut identities = tree.identities();
    identities.with_containers(runtime(&tree));
    let resource = answered(&mut identities);
    for (key, value) in [
        ("service.name", "checkout"),
        ("service.namespace", "own"),
        ("team", "a"),
        ("container.name", "k8s_app"),
        ("container.id", FIRST),
        ("process.executable.name", "shop"),
    ] {
        assert_eq!(resource.text(key), Some(value), "{key}");
    }
}

#[test]
fn a_process_of_the_host_is_never_asked_about() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let names = runtime(&tree);
    let counters = names.counters();
    let mut identities = tree.identities();
    identities.with_containers(names);
    identities.take_in(at(1));
    let whose = identities.whose(key(42, 500), 0, at(1), false);
    assert!(matches!(whose, Whose::Known(_)));
    assert!(counters.snapshot().is_empty());
}
