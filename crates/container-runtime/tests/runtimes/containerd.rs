//! containerd's API, by a server that answers what the test says; `tests/container_names.rs` of the program asks a real one.

use spandrel_container_runtime::Answer;

use crate::bad::each_bad_answer_of_grpc_has_its_reason;
use crate::grpc::Server;
use crate::messages::{POD, field, map, text};
use crate::{ID, SECOND, counts, ended, known, names};

fn container(id: &str, image: &str, labels: &[(&str, &str)]) -> Vec<u8> {
    let container = [text(1, id), map(2, labels), text(3, image)];
    field(1, &container.concat())
}

fn namespaces(names: &[&str]) -> Vec<u8> {
    let one = |name: &&str| field(1, &text(1, name));
    names.iter().flat_map(one).collect()
}

#[test]
fn a_container_is_found_in_its_namespace_and_docker_is_left_to_its_own_api() {
    let labels = [&POD[..], &[("nerdctl/name", "web")]].concat();
    let server = Server::start("containerd.sock", move |method, _| match method {
        "Namespaces/List" => Ok(namespaces(&["default", "moby", "k8s.io"])),
        "Containers/Get k8s.io" => Ok(container(ID, "registry:5000/shop/web:1.4", &labels)),
        "Images/Get k8s.io" => {
            let target = [text(1, "application/json"), text(2, "sha256:d1d1")];
            let image = [
                text(1, "registry:5000/shop/web:1.4"),
                field(3, &target.concat()),
            ];
            Ok(field(1, &image.concat()))
        }
        _ => Err(5),
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
            "Namespaces/List",
            "Containers/Get default",
            "Containers/Get k8s.io",
            "Images/Get k8s.io"
        ]
    );
}

#[test]
fn each_bad_answer_of_containerd_has_its_reason() {
    each_bad_answer_of_grpc_has_its_reason(
        "containerd.sock",
        |method| (method == "Namespaces/List").then(|| namespaces(&["k8s.io"])),
        |id, image| container(id, image, &[]),
    );
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
