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
use hyper_util::rt::TokioIo;
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
}

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) body: Body,
    pub(crate) headers: http::HeaderMap,
    /// Bytes on the wire, HTTP only.
    pub(crate) wire_len: usize,
    pub(crate) path: String,
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
        self.received.send_modify(|all| all.push(received));
        self.script
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Answer::Accept)
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
        Answer::Http(..) => panic!("an HTTP answer in the script of a gRPC server"),
    }
}

#[tonic::async_trait]
impl TraceService for Script {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        let received = incoming(metadata.into_headers(), Body::Traces(body));
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
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let wire = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut plain = Vec::new();
    if head
        .headers
        .get("content-encoding")
        .is_some_and(|value| value == "gzip")
    {
        flate2::read::GzDecoder::new(&*wire)
            .read_to_end(&mut plain)
            .unwrap();
    } else {
        plain.extend_from_slice(&wire);
    }
    let body = if head.uri.path().ends_with("/v1/metrics") {
        Body::Metrics(ExportMetricsServiceRequest::decode(&*plain).unwrap())
    } else {
        Body::Traces(ExportTraceServiceRequest::decode(&*plain).unwrap())
    };
    let mut received = incoming(head.headers, body);
    received.wire_len = wire.len();
    received.path = head.uri.path().to_owned();
    let (status, headers, body) = match script.0.receive(received) {
        Answer::Accept => (200, Vec::new(), Vec::new()),
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
        Answer::Status(..) => panic!("a gRPC answer in the script of an HTTP server"),
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
                    .send_compressed(CompressionEncoding::Gzip),
            )
            .add_service(
                MetricsServiceServer::new(script.clone())
                    .accept_compressed(CompressionEncoding::Gzip)
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
        let script = Script::default();
        script.0.script.lock().unwrap().extend(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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
    let service = service_fn(move |request| http_answer(script.clone(), request));
    let builder = hyper::server::conn::http1::Builder::new();
    // A client that turns away is not the server's failure.
    match tls {
        None => drop(
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await,
        ),
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                drop(
                    builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            }
        }
    }
}
