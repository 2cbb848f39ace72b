//! CRI-O's API by a server of the CRI (runtime.v1 of k8s.io/cri-api) that answers what the test says.

use std::time::Duration;

use spandrel_container_runtime::{Answer, Api};

use crate::bad::each_bad_answer_of_grpc_has_its_reason;
use crate::grpc::Server;
use crate::messages::{IMAGE, POD, field, status_of_container, status_of_image, text};
use crate::{ID, SECOND, ended, known, names};

#[test]
fn a_container_of_cri_o_is_described_by_its_status_and_its_image() {
    let server = Server::start("crio.sock", |method, _| match method {
        "RuntimeService/ContainerStatus" => Ok(status_of_container(
            ID,
            "registry:5000/shop/web:1.4",
            &POD,
            IMAGE,
        )),
        "ImageService/ImageStatus" => Ok(status_of_image()),
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
    let methods = ["RuntimeService/ContainerStatus", "ImageService/ImageStatus"];
    assert_eq!(server.asked(), methods);
    let image = field(1, &text(1, IMAGE));
    assert_eq!(server.questions(), [text(1, ID), image]);
}

#[test]
fn an_older_cri_o_and_an_image_that_is_only_an_id_are_understood() {
    let server = Server::start("crio.sock", |method, _| match method {
        "RuntimeService/ContainerStatus" => Ok(status_of_container(ID, IMAGE, &[], "")),
        "ImageService/ImageStatus" => Ok(status_of_image()),
        _ => Err(12),
    });
    let found = known(ended(&mut names(&[server.path()]), ID, SECOND));
    assert_eq!(found.name.as_deref(), Some("app"), "no kubelet made it");
    assert_eq!(found.image, None, "an id is no name");
    assert_eq!(found.image_id.as_deref(), Some(IMAGE));
    assert_eq!(found.repo_tags, ["registry:5000/shop/web:1.4"]);
    let by_reference = field(1, &text(1, "registry:5000/shop/web@sha256:d1d1"));
    assert_eq!(server.questions()[1], by_reference);
}

#[test]
fn an_image_that_is_gone_costs_its_own_names_only() {
    for image in [Ok(Vec::new()), Err(5), Err(2)] {
        let server = Server::start("crio.sock", move |method, _| match method {
            "RuntimeService/ContainerStatus" => {
                Ok(status_of_container(ID, "shop/web:1.4", &POD, IMAGE))
            }
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
    each_bad_answer_of_grpc_has_its_reason(
        "crio.sock",
        |_| None,
        |id, image| status_of_container(id, image, &[], ""),
    );
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
    assert_eq!(crio.asked(), ["RuntimeService/ContainerStatus"]);
    assert!(containerd.asked().is_empty());
}
