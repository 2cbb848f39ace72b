//! Peers that OTLP's own server libraries would not play: broken HTTP, gRPC without a library, and a proxy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Reads a head up to its empty line.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The value of a header in a head as text.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// What came to a peer, one text for each request or connection.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    seen: watch::Sender<Vec<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub(super) async fn seen(&self, count: usize) -> Vec<String> {
        let mut watch = self.seen.subscribe();
        let enough = watch.wait_for(|all| all.len() >= count);
        let found = tokio::time::timeout(Duration::from_secs(20), enough).await;
        found.expect("they come within 20 s").unwrap().clone()
    }

    pub(super) fn so_far(&self) -> Vec<String> {
        self.seen.borrow().clone()
    }

    async fn start<F>(on_connection: F) -> Self
    where
        F: Fn(usize, TcpStream, watch::Sender<Vec<String>>) -> futures_of::Task + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = watch::Sender::default();
        let shared = seen.clone();
        let task = tokio::spawn(async move {
            let mut count = 0;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(on_connection(count, stream, shared.clone()));
                count += 1;
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    /// Reads one HTTP request from each connection and writes bytes back, those of the last answer for ever; then it
    /// closes, or keeps the connection open without another word.
    pub(super) async fn raw_http(answers: Vec<&'static [u8]>, closes: bool) -> Self {
        Self::start(move |at, mut stream, seen| {
            let answer = *answers.get(at).or(answers.last()).unwrap();
            Box::pin(async move {
                let head = read_head(&mut stream).await;
                let length = header(&head, "content-length").unwrap().parse().unwrap();
                stream.read_exact(&mut vec![0; length]).await.unwrap();
                seen.send_modify(|all| all.push(head));
                // The client may have gone already.
                stream.write_all(answer).await.unwrap_or_default();
                if !closes {
                    std::future::pending::<()>().await;
                }
            })
        })
        .await
    }

    /// Speaks HTTP/2 and answers gRPC calls by a script, the last answer for ever.
    pub(super) async fn raw_grpc(answers: Vec<RawAnswer>) -> Self {
        let answers = Arc::new(answers);
        Self::start(move |_, stream, seen| {
            let answers = Arc::clone(&answers);
            Box::pin(async move {
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let (answers, seen) = (Arc::clone(&answers), seen.clone());
                    async move { Ok::<_, Infallible>(raw_answer(request, &answers, &seen).await) }
                });
                // A client that turns away is not the server's failure.
                drop(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            })
        })
        .await
    }

    /// A proxy that answers `CONNECT` with a line and, where that is 200, passes bytes on; and any other request with
    /// an empty success.
    pub(super) async fn proxy(connect_answer: &'static str) -> Self {
        Self::start(move |_, mut stream, seen| {
            Box::pin(async move {
                let head = read_head(&mut stream).await;
                let line = head.lines().next().unwrap().to_owned();
                let mut words = line.split(' ');
                let (method, target) = (words.next().unwrap(), words.next().unwrap());
                seen.send_modify(|all| all.push(head.clone()));
                if method == "CONNECT" {
                    let answer = format!("HTTP/1.1 {connect_answer}\r\nvia: scripted\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if connect_answer.starts_with("200") {
                        let mut onwards = TcpStream::connect(target).await.unwrap();
                        drop(tokio::io::copy_bidirectional(&mut stream, &mut onwards).await);
                    }
                    return;
                }
                let length = header(&head, "content-length").unwrap().parse().unwrap();
                stream.read_exact(&mut vec![0; length]).await.unwrap();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                std::future::pending::<()>().await;
            })
        })
        .await
    }
}

mod futures_of {
    pub(super) type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// An answer of gRPC, piece by piece.
#[derive(Clone, Debug, Default)]
pub(super) struct RawAnswer {
    /// 0 is 200.
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(&'static str, &'static str)>,
    /// The body never ends.
    pub(super) hangs: bool,
}

fn map(fields: &[(&'static str, &'static str)]) -> http::HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        let name = http::HeaderName::from_static(name);
        (name, http::HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

async fn raw_answer(
    request: http::Request<Incoming>,
    answers: &[RawAnswer],
    seen: &watch::Sender<Vec<String>>,
) -> http::Response<UnsyncBoxBody<Bytes, Infallible>> {
    let (head, body) = request.into_parts();
    body.collect().await.unwrap();
    let mut at = 0;
    seen.send_modify(|all| {
        at = all.len();
        all.push(format!("{:?}", head.headers));
    });
    let answer = answers.get(at).or(answers.last()).unwrap().clone();
    let trailers = (!answer.trailers.is_empty()).then(|| Ok(map(&answer.trailers)));
    let hangs = answer.hangs;
    let body = Full::new(Bytes::from(answer.body)).with_trailers(async move {
        if hangs {
            std::future::pending::<()>().await;
        }
        trailers
    });
    let mut response = http::Response::new(body.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(answer.status.max(200)).unwrap();
    *response.headers_mut() = map(&answer.headers);
    response
}
