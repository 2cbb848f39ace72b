//! An API server that answers each request with the next part of a script, and writes down what it was asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

/// What is sent of a body, in this order.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Bytes),
    /// The connection breaks.
    Break,
    /// It breaks before what came before it is sent.
    BreakNow,
    /// Nothing more comes, but the connection stays.
    Hold,
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub steps: VecDeque<Step>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub query: String,
    pub token: String,
}

impl Asked {
    pub fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    /// Value of a parameter, still encoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

type Answer = dyn FnMut(&Asked) -> Reply + Send;

pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    came: Arc<Notify>,
    answer: Arc<Mutex<Box<Answer>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers with these in turn, and after them holds each request without an answer's end.
    pub async fn script(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut replies: VecDeque<Reply> = replies.into_iter().collect();
        Self::start(move |_| replies.pop_front().unwrap_or_else(|| stream([Step::Hold]))).await
    }

    pub async fn start(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let answer: Box<Answer> = Box::new(answer);
        Self::bind("127.0.0.1:0", Arc::new(Mutex::new(answer)), Arc::default()).await
    }

    async fn bind(
        address: impl tokio::net::ToSocketAddrs,
        answer: Arc<Mutex<Box<Answer>>>,
        asked: Arc<Mutex<Vec<Asked>>>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("listen");
        let address = listener.local_addr().expect("address");
        let came = Arc::new(Notify::new());
        let task = tokio::spawn(serve(
            listener,
            Arc::clone(&answer),
            Arc::clone(&asked),
            Arc::clone(&came),
        ));
        Self {
            address,
            asked,
            came,
            answer,
            task,
        }
    }

    /// Breaks all connections and refuses new ones.
    pub async fn stop(&mut self) {
        self.task.abort();
        let ended = (&mut self.task).await;
        assert!(ended.is_err(), "it served until it was told to stop");
    }

    /// Listens again at the same address and goes on with the script.
    pub async fn restart(&mut self) {
        let again = Self::bind(
            self.address,
            Arc::clone(&self.answer),
            Arc::clone(&self.asked),
        )
        .await;
        *self = again;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("lock").clone()
    }

    /// Waits until so many requests have come.
    pub async fn asked_times(&self, times: usize) -> Vec<Asked> {
        loop {
            let came = self.came.notified();
            let asked = self.asked();
            if asked.len() >= times {
                return asked;
            }
            let waited = tokio::time::timeout(super::listener::LIMIT, came).await;
            assert!(
                waited.is_ok(),
                "{} of {times} requests: {asked:#?}",
                asked.len()
            );
        }
    }
}

async fn serve(
    listener: TcpListener,
    answer: Arc<Mutex<Box<Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    came: Arc<Notify>,
) {
    // Dropped with this future, and with it all connections.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (answer, asked, came) = (Arc::clone(&answer), Arc::clone(&asked), Arc::clone(&came));
        let service = service_fn(move |request: Request<Incoming>| {
            let header = request.headers().get("authorization");
            let request = Asked {
                path: request.uri().path().to_owned(),
                query: request.uri().query().unwrap_or_default().to_owned(),
                token: header
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned(),
            };
            let reply = answer.lock().expect("lock")(&request);
            asked.lock().expect("lock").push(request);
            came.notify_waiters();
            let response = Response::builder()
                .status(reply.status)
                .header("content-type", "application/json")
                .body(Script(reply.steps))
                .expect("a response");
            async { Ok::<_, Infallible>(response) }
        });
        connections.spawn(async move {
            // A connection that the script breaks ends with an error.
            drop(
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

struct Script(VecDeque<Step>);

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.0.pop_front() {
            Some(Step::Send(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            // What was sent before goes out only while the body waits.
            Some(Step::Break) => {
                self.0.push_front(Step::BreakNow);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::BreakNow) => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
            Some(Step::Hold) => {
                self.0.push_front(Step::Hold);
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

/// 200 with these steps.
pub fn stream(steps: impl IntoIterator<Item = Step>) -> Reply {
    Reply {
        status: 200,
        steps: steps.into_iter().collect(),
    }
}

/// An error as the API server words it.
pub fn status(code: u16, message: &str) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
    Reply {
        status: code,
        steps: [Step::Send(body.to_string().into())].into(),
    }
}

/// A list in one piece, or one page of it.
pub fn list(version: &str, next: Option<&str>, items: &[Value]) -> Reply {
    let mut body = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items});
    if let Some(next) = next {
        body["metadata"]["continue"] = next.into();
    }
    stream([Step::Send(body.to_string().into())])
}

/// A pod, small.
pub fn pod(name: &str, version: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": version},
        "spec": {"nodeName": "node-a", "containers": [{"name": "main", "image": "registry/main:1"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
    })
}

fn line(kind: &str, object: &Value) -> Step {
    Step::Send(format!("{}\n", json!({"type": kind, "object": object})).into())
}

pub fn added(name: &str, version: &str) -> Step {
    line("ADDED", &pod(name, version))
}

pub fn modified(name: &str, version: &str) -> Step {
    line("MODIFIED", &pod(name, version))
}

pub fn deleted(name: &str, version: &str) -> Step {
    line("DELETED", &pod(name, version))
}

pub fn bookmark(version: &str) -> Step {
    let object =
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version}});
    line("BOOKMARK", &object)
}

/// The end of a list as a stream.
pub fn list_end(version: &str) -> Step {
    let metadata =
        json!({"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}});
    line(
        "BOOKMARK",
        &json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata}),
    )
}

/// An error in the midst of a watch.
pub fn error(code: u16) -> Step {
    let object = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "in the stream", "code": code});
    line("ERROR", &object)
}
