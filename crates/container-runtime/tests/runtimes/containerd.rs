//! containerd's API, by a server that answers what the test says; `tests/container_names.rs` of the program asks a real one.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spandrel_container_runtime::Answer;
use tempfile::TempDir;
use tokio::net::UnixListener;

use crate::{ID, SECOND, counts, ended, known, names};

/// A field of text or of a message within.
fn field(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

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

type Answers = dyn Fn(&str, &str) -> Result<Vec<u8>, u8> + Send + Sync;

struct Containerd {
    _directory: TempDir,
    path: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Containerd {
    /// `answers` gets a method and a namespace and makes a message, or the number of a gRPC status.
    fn start(answers: impl Fn(&str, &str) -> Result<Vec<u8>, u8> + Send + Sync + 'static) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("containerd.sock");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(&path).unwrap()
        };
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (heard, answers): (_, Arc<Answers>) = (Arc::clone(&asked), Arc::new(answers));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, answers) = (Arc::clone(&heard), Arc::clone(&answers));
                let service = service_fn(move |request: Request<Incoming>| {
                    let namespace = request.headers().get("containerd-namespace");
                    let namespace = namespace.map_or("", |it| it.to_str().unwrap()).to_owned();
                    let method = request.uri().path().rsplit_once('.').unwrap().1.to_owned();
                    heard.lock().unwrap().push(format!("{method} {namespace}"));
                    let answer = answers(&method, &namespace);
                    async move { Ok::<_, Infallible>(response(answer)) }
                });
                let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http2.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            _directory: directory,
            path,
            asked,
            _runtime: runtime,
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn response(answer: Result<Vec<u8>, u8>) -> Response<BoxBody<Bytes, Infallible>> {
    let (frame, status) = match answer {
        Ok(message) => {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            ([&[0], &length[..], &message].concat(), 0)
        }
        Err(status) => (Vec::new(), status),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    let body = Full::new(Bytes::from(frame));
    let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body.boxed())
        .unwrap()
}

fn namespaces(names: &[&str]) -> Vec<u8> {
    let one = |name: &&str| field(1, &field(1, name.as_bytes()));
    names.iter().flat_map(one).collect()
}

#[test]
fn a_container_is_found_in_its_namespace_and_docker_is_left_to_its_own_api() {
    let server = Containerd::start(|method, namespace| match (method, namespace) {
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
    });
    let mut names = names(&[server.path()]);
    let found = known(ended(&mut names, ID, SECOND));
    assert_eq!(found.runtime, "containerd");
    assert_eq!(found.name.as_deref(), Some("web"));
    assert_eq!(found.image.as_deref(), Some("registry:5000/shop/web:1.4"));
    assert_eq!(found.repo_digests, ["registry:5000/shop/web@sha256:d1d1"]);
    assert_eq!(found.pod.as_ref().unwrap().pod, "web-0");
    let asked = server.asked.lock().unwrap().clone();
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
        let server = Containerd::start(move |method, _| match method {
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
    let server = Containerd::start(|method, _| match method {
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
    assert_eq!(server.asked.lock().unwrap().len(), 33);
}
