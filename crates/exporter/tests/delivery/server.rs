//! An OTLP server that answers by a script: gRPC by tonic, HTTP by hyper, with and without TLS.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};

/// What the server does with one request. Without a script it accepts.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Accept,
    Partial(i64, &'static str),
    /// gRPC status with details.
    Status(Code, Option<Duration>),
    /// HTTP status with headers and body.
    Http(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Never answers.
    Hang,
    /// UNAVAILABLE or 503.
    Unavailable,
    AcceptAfter(Duration),
    /// A success with a message of so many bytes, compressed or not.
    Lengthy(usize, bool),
    /// From now on: too large, where there are more items than these.
    RefuseAbove(usize),
    /// From now on: too large, where a span of this name is.
    RefuseName(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) body: Body,
    pub(crate) headers: http::HeaderMap,
    /// Bytes on the wire, HTTP only.
    pub(crate) wire_len: usize,
    pub(crate) path: String,
    /// The other end of the connection.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) version: http::Version,
    pub(crate) at: std::time::Instant,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
}

impl Received {
    pub(crate) fn traces(&self) -> &ExportTraceServiceRequest {
        match &self.body {
            Body::Traces(request) => request,
            Body::Metrics(_) => panic!("these are metrics"),
        }
    }

    pub(crate) fn metrics(&self) -> &ExportMetricsServiceRequest {
        match &self.body {
            Body::Metrics(request) => request,
            Body::Traces(_) => panic!("these are traces"),
        }
    }

    /// Spans or points.
    pub(crate) fn items(&self) -> usize {
        use opentelemetry_proto::tonic::metrics::v1::metric::Data;
        match &self.body {
            Body::Traces(_) => self.span_names().len(),
            Body::Metrics(request) => {
                let scopes = request
                    .resource_metrics
                    .iter()
                    .flat_map(|r| &r.scope_metrics);
                let metrics = scopes.flat_map(|s| &s.metrics);
                let points = metrics.map(|metric| match &metric.data {
                    Some(Data::Gauge(gauge)) => gauge.data_points.len(),
                    other => panic!("only gauges are counted here: {other:?}"),
                });
                points.sum()
            }
        }
    }

    pub(crate) fn span_names(&self) -> Vec<String> {
        let scopes = self
            .traces()
            .resource_spans
            .iter()
            .flat_map(|r| &r.scope_spans);
        scopes
            .flat_map(|s| &s.spans)
            .map(|span| span.name.clone())
            .collect()
    }
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<VecDeque<Answer>>,
    received: watch::Sender<Vec<Received>>,
}

impl Shared {
    fn receive(&self, received: Received) -> Answer {
        let mut script = self.script.lock().unwrap();
        let refused = match script.front() {
            Some(Answer::RefuseAbove(most)) => Some(received.items() > *most),
            Some(Answer::RefuseName(name)) => {
                Some(received.span_names().iter().any(|one| one == name))
            }
            _ => None,
        };
        self.received.send_modify(|all| all.push(received));
        match refused {
            Some(true) => Answer::RefuseAbove(0),
            Some(false) => Answer::Accept,
            None => script.pop_front().unwrap_or(Answer::Accept),
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Shared>);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    script: Script,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn incoming(headers: http::HeaderMap, body: Body) -> Received {
    Received {
        body,
        headers,
        wire_len: 0,
        path: String::new(),
        peer: None,
        version: http::Version::HTTP_2,
        at: std::time::Instant::now(),
    }
}

/// `google.rpc.Status` with a `RetryInfo`, by hand: neither is generated anywhere we depend on.
fn details(code: Code, retry: Option<Duration>) -> Bytes {
    #[derive(Clone, PartialEq, Message)]
    struct Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        delay: Option<Delay>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Delay {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }
    let Some(retry) = retry else {
        return Bytes::new();
    };
    let info = RetryInfo {
        delay: Some(Delay {
            seconds: retry.as_secs() as i64,
            nanos: retry.subsec_nanos() as i32,
        }),
    };
    RpcStatus {
        code: code as i32,
        message: "scripted".into(),
        details: vec![Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
            value: info.encode_to_vec(),
        }],
    }
    .encode_to_vec()
    .into()
}

async fn grpc_answer(answer: Answer) -> Result<Option<(i64, String)>, Status> {
    match answer {
        Answer::Accept => Ok(None),
        Answer::Partial(rejected, message) => Ok(Some((rejected, message.into()))),
        Answer::Status(code, retry) => {
            Err(Status::with_details(code, "scripted", details(code, retry)))
        }
        Answer::Hang => std::future::pending().await,
        Answer::Unavailable => Err(Status::unavailable("scripted")),
        Answer::AcceptAfter(time) => {
            tokio::time::sleep(time).await;
            Ok(None)
        }
        Answer::Lengthy(length, _) => Ok(Some((0, "x".repeat(length)))),
        Answer::RefuseAbove(_) => Err(Status::resource_exhausted(
            "grpc: received message larger than max (5 vs. 4)",
        )),
        Answer::Http(..) | Answer::RefuseName(_) => {
            panic!("no answer for the script of a gRPC server")
        }
    }
}

#[tonic::async_trait]
impl TraceService for Script {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let peer = request.remote_addr();
        let (metadata, _, body) = request.into_parts();
        let mut received = incoming(metadata.into_headers(), Body::Traces(body));
        received.peer = peer;
        let partial = grpc_answer(self.0.receive(received)).await?;
        Ok(tonic::Response::new(ExportTraceServiceResponse {
            partial_success: partial.map(|(rejected_spans, error_message)| {
                ExportTracePartialSuccess {
                    rejected_spans,
                    error_message,
                }
            }),
        }))
    }
}

#[tonic::async_trait]
impl MetricsService for Script {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        let received = incoming(metadata.into_headers(), Body::Metrics(body));
        let partial = grpc_answer(self.0.receive(received)).await?;
        Ok(tonic::Response::new(ExportMetricsServiceResponse {
            partial_success: partial.map(|(rejected_data_points, error_message)| {
                ExportMetricsPartialSuccess {
                    rejected_data_points,
                    error_message,
                }
            }),
        }))
    }
}

async fn http_answer(
    script: Script,
    peer: Option<SocketAddr>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let wire = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let encoding = head.headers.get("content-encoding");
    let plain = match encoding.map(|value| value.to_str().unwrap()) {
        None => wire.to_vec(),
        Some("gzip") => {
            let mut plain = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&*wire);
            decoder.read_to_end(&mut plain).unwrap();
            plain
        }
        Some("zstd") => zstd::stream::decode_all(&*wire).unwrap(),
        Some(other) => panic!("content-encoding {other}"),
    };
    let is_json = head.headers.get("content-type").unwrap() == "application/json";
    let body = if head.uri.path().ends_with("/v1/metrics") {
        Body::Metrics(match is_json {
            true => serde_json::from_slice(&plain).unwrap(),
            false => ExportMetricsServiceRequest::decode(&*plain).unwrap(),
        })
    } else {
        Body::Traces(match is_json {
            true => serde_json::from_slice(&plain).unwrap(),
            false => ExportTraceServiceRequest::decode(&*plain).unwrap(),
        })
    };
    let mut received = incoming(head.headers.clone(), body);
    received.wire_len = wire.len();
    received.peer = peer;
    received.version = head.version;
    received.path = head.uri.path().to_owned();
    let (status, headers, body) = match script.0.receive(received) {
        Answer::Accept => (200, Vec::new(), Vec::new()),
        Answer::Unavailable => (503, Vec::new(), Vec::new()),
        Answer::AcceptAfter(time) => {
            tokio::time::sleep(time).await;
            (200, Vec::new(), Vec::new())
        }
        Answer::Lengthy(length, is_compressed) => {
            let body = vec![b'x'; length];
            if is_compressed {
                let mut out =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                std::io::Write::write_all(&mut out, &body).unwrap();
                let body = out.finish().unwrap();
                (200, vec![("content-encoding", "gzip".into())], body)
            } else {
                (200, Vec::new(), body)
            }
        }
        Answer::RefuseAbove(_) => (413, Vec::new(), b"too much".to_vec()),
        Answer::Partial(rejected, message) if is_json => {
            let field = if head.uri.path().ends_with("/v1/metrics") {
                "rejectedDataPoints"
            } else {
                "rejectedSpans"
            };
            let body = serde_json::json!({"partialSuccess": {
                field: rejected.to_string(), "errorMessage": message, "of the future": 1,
            }});
            let headers = vec![("content-type", "application/json".into())];
            (200, headers, body.to_string().into_bytes())
        }
        Answer::Partial(rejected_spans, message) => {
            let body = ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans,
                    error_message: message.into(),
                }),
            };
            (200, Vec::new(), body.encode_to_vec())
        }
        Answer::Http(status, headers, body) => (status, headers, body),
        Answer::Hang => std::future::pending().await,
        Answer::Status(..) | Answer::RefuseName(_) => {
            panic!("no answer for the script of an HTTP server")
        }
    };
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(body.into())).unwrap())
}

impl Server {
    pub(crate) async fn grpc(script: Vec<Answer>) -> Self {
        Self::grpc_on("127.0.0.1:0".parse().unwrap(), script, None).await
    }

    pub(crate) async fn grpc_on(
        address: SocketAddr,
        answers: Vec<Answer>,
        tls: Option<tonic::transport::ServerTlsConfig>,
    ) -> Self {
        let script = Script::default();
        script.0.script.lock().unwrap().extend(answers);
        let incoming = tonic::transport::server::TcpIncoming::bind(address).unwrap();
        let address = incoming.local_addr().unwrap();
        let mut builder = tonic::transport::Server::builder();
        if let Some(tls) = tls {
            builder = builder.tls_config(tls).unwrap();
        }
        let router = builder
            .add_service(
                TraceServiceServer::new(script.clone())
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Zstd)
                    .send_compressed(CompressionEncoding::Gzip),
            )
            .add_service(
                MetricsServiceServer::new(script.clone())
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Zstd)
                    .send_compressed(CompressionEncoding::Gzip),
            );
        let task = tokio::spawn(async move {
            router.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            address,
            script,
            task,
        }
    }

    pub(crate) async fn http(answers: Vec<Answer>) -> Self {
        Self::http_with(answers, None).await
    }

    pub(crate) async fn http_with(
        answers: Vec<Answer>,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::http_from(listener, answers, tls)
    }

    pub(crate) async fn http_on(address: SocketAddr, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self::http_from(listener, answers, None)
    }

    fn http_from(
        listener: TcpListener,
        answers: Vec<Answer>,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let script = Script::default();
        script.0.script.lock().unwrap().extend(answers);
        let address = listener.local_addr().unwrap();
        let shared = script.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_http(stream, shared.clone(), tls.clone()));
            }
        });
        Self {
            address,
            script,
            task,
        }
    }

    /// Waits until `count` requests have come, and returns all of them.
    pub(crate) async fn received(&self, count: usize) -> Vec<Received> {
        let mut watch = self.script.0.received.subscribe();
        tokio::time::timeout(
            Duration::from_secs(20),
            watch.wait_for(|all| all.len() >= count),
        )
        .await
        .expect("the requests come within 20 s")
        .unwrap()
        .clone()
    }

    pub(crate) fn so_far(&self) -> Vec<Received> {
        self.script.0.received.borrow().clone()
    }
}

async fn serve_http(stream: TcpStream, script: Script, tls: Option<tokio_rustls::TlsAcceptor>) {
    let peer = stream.peer_addr().ok();
    let service = service_fn(move |request| http_answer(script.clone(), peer, request));
    let http1 = hyper::server::conn::http1::Builder::new();
    // A client that turns away is not the server's failure.
    let Some(tls) = tls else {
        return drop(http1.serve_connection(TokioIo::new(stream), service).await);
    };
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(http2.serve_connection(TokioIo::new(stream), service).await);
    } else {
        drop(http1.serve_connection(TokioIo::new(stream), service).await);
    }
}
