//! A gRPC server on a unix socket that answers what the test says.

use std::convert::Infallible;
use std::fs;
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

type Answers = dyn Fn(&str, &[u8]) -> Result<Vec<u8>, u8> + Send + Sync;

/// A method, with the namespace of containerd behind it, and its message.
type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

/// A server. Its socket is left where it is when it ends.
pub(crate) struct Server {
    path: PathBuf,
    directory: Option<TempDir>,
    asked: Asked,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// At a socket of this name in a directory of its own.
    pub(crate) fn start(
        name: &str,
        answers: impl Fn(&str, &[u8]) -> Result<Vec<u8>, u8> + Send + Sync + 'static,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let mut server = Self::at(&directory.path().join(name), answers);
        server.directory = Some(directory);
        server
    }

    /// `answers` gets a method, with a namespace of containerd if there is one, and a message; it makes a message, or the
    /// number of a gRPC status. What an earlier server left is removed.
    pub(crate) fn at(
        path: &Path,
        answers: impl Fn(&str, &[u8]) -> Result<Vec<u8>, u8> + Send + Sync + 'static,
    ) -> Self {
        drop(fs::remove_file(path));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(path).unwrap()
        };
        let asked = Asked::default();
        let (heard, answers): (_, Arc<Answers>) = (Arc::clone(&asked), Arc::new(answers));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, answers) = (Arc::clone(&heard), Arc::clone(&answers));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (heard, answers) = (Arc::clone(&heard), Arc::clone(&answers));
                    async move {
                        let method = method(&request);
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        // Behind the flag and the length.
                        let message = body.slice(5..);
                        let answer = answers(&method, &message);
                        heard.lock().unwrap().push((method, message));
                        Ok::<_, Infallible>(response(answer))
                    }
                });
                let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http2.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            path: path.to_owned(),
            directory: None,
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

/// `Service/Method`, or `Service/Method namespace`.
fn method(request: &Request<Incoming>) -> String {
    let method = request.uri().path().rsplit_once('.').unwrap().1;
    match request.headers().get("containerd-namespace") {
        Some(namespace) => format!("{method} {}", namespace.to_str().unwrap()),
        None => method.to_owned(),
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
