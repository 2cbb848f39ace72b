//! OTLP over gRPC: tonic sends bytes that are encoded already.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tonic::codec::{
    BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder,
};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::{MAX_RESPONSE_BYTES, Outcome, connect, with_causes};
use crate::carried::Signal;
use crate::error::ExporterError;
use crate::otlp::response::rpc_status;
use crate::reason;
use crate::settings::{Compression, OtlpSettings};

type HyperClient = Client<HttpsConnector<HttpConnector>, tonic::body::Body>;

#[derive(Debug)]
pub(crate) struct GrpcSender {
    client: tonic::client::Grpc<HyperClient>,
    path: PathAndQuery,
    metadata: MetadataMap,
    timeout: Duration,
}

impl GrpcSender {
    pub(super) fn new(
        settings: &OtlpSettings,
        endpoint: Uri,
        headers: HeaderMap,
        signal: Signal,
    ) -> Result<Self, ExporterError> {
        let connector = connect::connector(settings, &endpoint)?;
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            // Finds out within a minute that the other side is gone without a word.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(20))
            .build(connector);
        let mut client = tonic::client::Grpc::with_origin(client, endpoint)
            .max_decoding_message_size(MAX_RESPONSE_BYTES);
        if settings.compression == Compression::Gzip {
            // A server answers in the encoding of the request, as gRPC recommends: the answer must be readable too.
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self {
            client,
            path: PathAndQuery::from_static(match signal {
                Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                Signal::Metrics => {
                    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
                }
                Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            }),
            metadata: MetadataMap::from_headers(headers),
            timeout: settings.attempt_limit(),
        })
    }

    pub(super) async fn send(&self, body: &Bytes) -> Outcome {
        let mut request = tonic::Request::new(body.clone());
        *request.metadata_mut() = self.metadata.clone();
        let mut client = self.client.clone();
        let attempt = async {
            client
                .ready()
                .await
                .map_err(|error| Status::from_error(Box::new(error)))?;
            client.unary(request, self.path.clone(), Encoded).await
        };
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(Ok(response)) => Outcome::from_response(&response.into_inner()),
            Ok(Err(status)) => classify(&status),
            Err(_) => Outcome::retry(format!("no answer within {:?}", self.timeout)),
        }
    }
}

fn classify(status: &Status) -> Outcome {
    let message = format!("gRPC {:?}: {}", status.code(), status.message());
    // A status with a source was not sent by the server: the connection failed.
    if let Some(source) = status.source() {
        return Outcome::retry(with_causes(source));
    }
    let permanent = |reason| Outcome::Permanent {
        reason,
        message: message.clone(),
    };
    let details = rpc_status(status.details());
    match status.code() {
        Code::Ok => Outcome::Accepted,
        // tonic says so itself, with a code that would otherwise be retryable.
        Code::OutOfRange
            if status
                .message()
                .contains("decoded message length too large") =>
        {
            Outcome::too_long_an_answer()
        }
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Outcome::Retryable {
            after: details.retry_after,
            message,
        },
        Code::ResourceExhausted if status.message().contains("while decompressing message") => {
            Outcome::too_long_an_answer()
        }
        Code::ResourceExhausted if details.retry_after.is_some() => Outcome::Retryable {
            after: details.retry_after,
            message,
        },
        Code::ResourceExhausted => permanent(reason::PERMANENT_SIZE),
        Code::Unauthenticated | Code::PermissionDenied => permanent(reason::PERMANENT_AUTH),
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition => {
            permanent(reason::PERMANENT_REQUEST)
        }
        Code::Unknown | Code::Unimplemented | Code::Internal => permanent(reason::PERMANENT_SERVER),
    }
}

/// Bytes in, bytes out.
#[derive(Clone, Copy, Debug)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.len());
        out.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, body: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(body.copy_to_bytes(body.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
