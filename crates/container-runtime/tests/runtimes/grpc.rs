//! A gRPC server on a unix socket that answers what the test says.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::UnixListener;

/// A field of text or of a message within.
pub(crate) fn field(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

type Answers = dyn Fn(&str, &str) -> Result<Vec<u8>, u8> + Send + Sync;

/// Method and namespace of each question, and its message.
type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

pub(crate) struct Server {
    _directory: TempDir,
    path: PathBuf,
    asked: Asked,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// `answers` gets a method and a namespace of containerd and makes a message, or the number of a gRPC status.
    pub(crate) fn start(
        name: &str,
        answers: impl Fn(&str, &str) -> Result<Vec<u8>, u8> + Send + Sync + 'static,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(name);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(&path).unwrap()
        };
        let asked = Asked::default();
        let (heard, answers): (_, Arc<Answers>) = (Arc::clone(&asked), Arc::new(answers));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, answers) = (Arc::clone(&heard), Arc::clone(&answers));
                let service = service_fn(move |request: Request<Incoming>| {
                    let namespace = request.headers().get("containerd-namespace");
                    let namespace = namespace.map_or("", |it| it.to_str().unwrap()).to_owned();
                    let method = request.uri().path().rsplit_once('.').unwrap().1.to_owned();
                    let answer = answers(&method, &namespace);
                    let heard = Arc::clone(&heard);
                    async move {
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        // Behind the flag and the length.
                        let question = (format!("{method} {namespace}"), body.slice(5..));
                        heard.lock().unwrap().push(question);
                        Ok::<_, Infallible>(response(answer))
                    }
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

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The methods that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(method, _)| method.clone()).collect()
    }

    /// What they were asked with.
    pub(crate) fn questions(&self) -> Vec<Bytes> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(_, question)| question.clone()).collect()
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
