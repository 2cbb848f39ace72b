//! containerd's API, by a server that answers what the test says; `tests/container_names.rs` of the program asks a real one.

use spandrel_container_runtime::Answer;

use crate::grpc::{Server, field};
use crate::{ID, SECOND, counts, ended, known, names};

fn label(key: &str, value: &str) -> Vec<u8> {
    field(
        2,
        &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat(),
    )
}

fn container(id: &str, image: &str, labels: &[Vec<u8>]) -> Vec<u8> {
    let text = [
        field(1, id.as_bytes()),
        labels.concat(),
        field(3, image.as_bytes()),
    ]
    .concat();
    field(1, &text)
}

fn namespaces(names: &[&str]) -> Vec<u8> {
    let one = |name: &&str| field(1, &field(1, name.as_bytes()));
    names.iter().flat_map(one).collect()
}

#[test]
fn a_container_is_found_in_its_namespace_and_docker_is_left_to_its_own_api() {
    let server = Server::start("containerd.sock", |method, namespace| {
        match (method, namespace) {
            ("Namespaces/List", _) => Ok(namespaces(&["default", "moby", "k8s.io"])),
            ("Containers/Get", "k8s.io") => Ok(container(
                ID,
                "registry:5000/shop/web:1.4",
                &[
                    label("io.kubernetes.pod.namespace", "shop"),
                    label("io.kubernetes.pod.name", "web-0"),
                    label("io.kubernetes.pod.uid", "u"),
                    label("io.kubernetes.container.name", "app"),
                    label("nerdctl/name", "web"),
                ],
            )),
            ("Images/Get", "k8s.io") => {
                let target = [field(1, b"application/json"), field(2, b"sha256:d1d1")].concat();
                Ok(field(
                    1,
                    &[field(1, b"registry:5000/shop/web:1.4"), field(3, &target)].concat(),
                ))
            }
            _ => Err(5),
        }
    });
    let mut names = names(&[server.path()]);
    let found = known(ended(&mut names, ID, SECOND));
    assert_eq!(found.runtime, "containerd");
    assert_eq!(found.name.as_deref(), Some("web"));
    assert_eq!(found.image.as_deref(), Some("registry:5000/shop/web:1.4"));
    assert_eq!(found.repo_digests, ["registry:5000/shop/web@sha256:d1d1"]);
    assert_eq!(found.pod.as_ref().unwrap().pod, "web-0");
    let asked = server.asked();
    assert_eq!(
        asked,
        [
            "Namespaces/List ",
            "Containers/Get default",
            "Containers/Get k8s.io",
            "Images/Get k8s.io"
        ]
    );
}

#[test]
fn each_bad_answer_of_containerd_has_its_reason() {
    type Get = fn() -> Result<Vec<u8>, u8>;
    let cases: [(&str, Get); 8] = [
        ("not_found", || Err(5)),
        ("denied", || Err(7)),
        ("refused", || Err(12)),
        ("unavailable", || Err(14)),
        ("malformed", || Ok(vec![0xff; 100])),
        ("malformed", || Ok(Vec::new())),
        ("malformed", || Ok(container("another", "", &[]))),
        ("too_large", || Ok(container(ID, &"x".repeat(2 << 20), &[]))),
    ];
    for (reason, get) in cases {
        let server = Server::start("containerd.sock", move |method, _| match method {
            "Namespaces/List" => Ok(namespaces(&["k8s.io"])),
            _ => get(),
        });
        let mut names = names(&[server.path()]);
        assert_eq!(ended(&mut names, ID, SECOND), Answer::Unknown);
        assert_eq!(counts(&names), [(reason, 1)]);
    }
}

#[test]
fn a_great_many_namespaces_are_searched_up_to_a_bound() {
    let server = Server::start("containerd.sock", |method, _| match method {
        "Namespaces/List" => {
            let many: Vec<String> = (0..10_000).map(|n| format!("n{n}")).collect();
            Ok(namespaces(
                &many.iter().map(String::as_str).collect::<Vec<_>>(),
            ))
        }
        _ => Err(5),
    });
    let mut names = names(&[server.path()]);
    assert_eq!(ended(&mut names, ID, SECOND), Answer::Unknown);
    assert_eq!(counts(&names), [("not_found", 1)]);
    assert_eq!(server.asked().len(), 33);
}
