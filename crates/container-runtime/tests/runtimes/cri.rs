//! CRI-O's API by a server of the CRI (runtime.v1 of k8s.io/cri-api) that answers what the test says.

use std::time::Duration;

use spandrel_container_runtime::{Answer, Api};

use crate::grpc::{Server, field};
use crate::{ID, SECOND, counts, ended, known, names};

const IMAGE: &str = "1e1e1c351de3f638ac2c382b16c85d8cfe931766594c86dfc132997ee5638a47";
const POD: [(&str, &str); 4] = [
    ("io.kubernetes.pod.namespace", "shop"),
    ("io.kubernetes.pod.name", "web-0"),
    ("io.kubernetes.pod.uid", "u"),
    ("io.kubernetes.container.name", "app"),
];

/// A ContainerStatusResponse, with more fields than are read.
fn container(id: &str, image: &str, labels: &[(&str, &str)], image_id: &str) -> Vec<u8> {
    let text = |tag, text: &str| field(tag, text.as_bytes());
    let labels = labels.iter();
    let labels =
        labels.flat_map(|(key, value)| field(12, &[text(1, key), text(2, value)].concat()));
    let status = [
        text(1, id),
        field(2, &text(1, "app")),
        field(8, &text(1, image)),
        text(9, "registry:5000/shop/web@sha256:d1d1"),
        labels.collect(),
        field(
            13,
            &[text(1, "io.kubernetes.container.hash"), text(2, "7c")].concat(),
        ),
        text(15, "/var/log/pods/shop_web-0_u/app/0.log"),
        text(17, image_id),
    ];
    field(1, &status.concat())
}

/// An ImageStatusResponse.
fn image() -> Vec<u8> {
    let text = |tag, text: &str| field(tag, text.as_bytes());
    let image = [
        text(1, IMAGE),
        text(2, "registry:5000/shop/web:1.4"),
        text(3, "registry:5000/shop/web@sha256:d1d1"),
    ];
    field(1, &image.concat())
}

#[test]
fn a_container_of_cri_o_is_described_by_its_status_and_its_image() {
    let server = Server::start("crio.sock", |method, _| match method {
        "RuntimeService/ContainerStatus" => {
            Ok(container(ID, "registry:5000/shop/web:1.4", &POD, IMAGE))
        }
        "ImageService/ImageStatus" => Ok(image()),
        _ => Err(12),
    });
    let mut names = names(&[server.path()]);
    let found = known(ended(&mut names, ID, SECOND));
    assert_eq!(found.runtime, "cri-o");
    assert_eq!(found.name, None, "the pod's own attributes say it");
    assert_eq!(found.image.as_deref(), Some("registry:5000/shop/web:1.4"));
    assert_eq!(found.image_id.as_deref(), Some(IMAGE));
    assert_eq!(found.repo_tags, ["registry:5000/shop/web:1.4"]);
    assert_eq!(found.repo_digests, ["registry:5000/shop/web@sha256:d1d1"]);
    let pod = found.pod.as_ref().unwrap();
    assert_eq!((pod.pod.as_str(), pod.container.as_str()), ("web-0", "app"));
    let methods = [
        "RuntimeService/ContainerStatus ",
        "ImageService/ImageStatus ",
    ];
    assert_eq!(server.asked(), methods);
    let image = field(1, &field(1, IMAGE.as_bytes()));
    assert_eq!(server.questions(), [field(1, ID.as_bytes()), image]);
}

#[test]
fn an_older_cri_o_and_an_image_that_is_only_an_id_are_understood() {
    let server = Server::start("crio.sock", |method, _| match method {
        "RuntimeService/ContainerStatus" => Ok(container(ID, IMAGE, &[], "")),
        "ImageService/ImageStatus" => Ok(image()),
        _ => Err(12),
    });
    let found = known(ended(&mut names(&[server.path()]), ID, SECOND));
    assert_eq!(found.name.as_deref(), Some("app"), "no kubelet made it");
    assert_eq!(found.image, None, "an id is no name");
    assert_eq!(found.image_id.as_deref(), Some(IMAGE));
    assert_eq!(found.repo_tags, ["registry:5000/shop/web:1.4"]);
    let by_reference = field(1, &field(1, b"registry:5000/shop/web@sha256:d1d1"));
    assert_eq!(server.questions()[1], by_reference);
}

#[test]
fn an_image_that_is_gone_costs_its_own_names_only() {
    for image in [Ok(Vec::new()), Err(5), Err(2)] {
        let server = Server::start("crio.sock", move |method, _| match method {
            "RuntimeService/ContainerStatus" => Ok(container(ID, "shop/web:1.4", &POD, IMAGE)),
            _ => image.clone(),
        });
        let found = known(ended(&mut names(&[server.path()]), ID, SECOND));
        assert_eq!(found.image.as_deref(), Some("shop/web:1.4"));
        assert_eq!(found.image_id.as_deref(), Some(IMAGE));
        assert!(found.repo_tags.is_empty());
    }
}

#[test]
fn each_bad_answer_of_cri_o_has_its_reason() {
    type Get = fn() -> Result<Vec<u8>, u8>;
    let cases: [(&str, Get); 8] = [
        ("not_found", || Err(5)),
        ("denied", || Err(7)),
        ("refused", || Err(12)),
        ("unavailable", || Err(14)),
        ("malformed", || Ok(vec![0xff; 100])),
        ("malformed", || Ok(Vec::new())),
        ("malformed", || {
            Ok(container(&ID.replace('2', "3"), "", &[], ""))
        }),
        ("too_large", || {
            Ok(container(ID, &"x".repeat(2 << 20), &[], ""))
        }),
    ];
    for (reason, get) in cases {
        let server = Server::start("crio.sock", move |_, _| get());
        let mut names = names(&[server.path()]);
        assert_eq!(ended(&mut names, ID, SECOND), Answer::Unknown);
        assert_eq!(counts(&names), [(reason, 1)]);
    }
}

#[test]
fn cri_o_alone_is_asked_about_its_containers() {
    let crio = Server::start("crio.sock", |_, _| Err(5));
    let containerd = Server::start("containerd.sock", |_, _| Err(5));
    let mut names = names(&[containerd.path(), crio.path()]);
    names.take_in(SECOND);
    assert_eq!(names.look_up(ID, Some(Api::Cri)), Answer::NotYet);
    names.answered().wait(0, Duration::from_secs(30));
    names.take_in(SECOND);
    assert_eq!(names.look_up(ID, Some(Api::Cri)), Answer::Unknown);
    assert_eq!(crio.asked(), ["RuntimeService/ContainerStatus "]);
    assert!(containerd.asked().is_empty());
}
