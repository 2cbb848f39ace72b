//! One attempt to send one request, and what came of it.

mod connect;
mod grpc;
mod http;
mod stream;

use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use bytes::Bytes;
use spandrel_model::ledger::Reason;

pub(crate) use http::{HttpClientOf, exchange, gzip, http_client};
pub(crate) use stream::StreamWriter;

use crate::carried::Signal;
use crate::error::ExporterError;
use crate::otlp::response::PartialSuccess;
use crate::reason;
use crate::settings::{OtlpSettings, Protocol};

/// Largest answer that is read.
const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// `User-Agent`, by the OTLP exporter specification with our product in front.
pub const USER_AGENT: &str = concat!(
    "spandrel/",
    env!("CARGO_PKG_VERSION"),
    " OTel-OTLP-Exporter-Rust/",
    env!("CARGO_PKG_VERSION")
);

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it was taken.
    Accepted,
    /// Taken, except what was rejected; not to be sent again.
    Partial(PartialSuccess),
    /// May be sent again.
    Retryable {
        /// The server's own wish.
        after: Option<Duration>,
        /// What happened.
        message: String,
    },
    /// Not to be sent again.
    Permanent {
        /// The class of failure, as the ledger counts it.
        reason: Reason,
        /// What happened.
        message: String,
    },
}

impl Outcome {
    fn from_response(body: &[u8]) -> Self {
        let partial = crate::otlp::response::partial_success(body);
        if partial == PartialSuccess::default() {
            Self::Accepted
        } else {
            Self::Partial(partial)
        }
    }

    fn retry(message: impl Into<String>) -> Self {
        Self::Retryable {
            after: None,
            message: message.into(),
        }
    }

    fn too_long_an_answer() -> Self {
        Self::Permanent {
            reason: reason::PERMANENT_RESPONSE,
            message: format!("the answer is larger than {MAX_RESPONSE_BYTES} bytes"),
        }
    }
}

/// A connection to an OTLP endpoint.
#[derive(Debug)]
pub(crate) enum Sender {
    Grpc(grpc::GrpcSender),
    Http(http::HttpSender),
}

impl Sender {
    pub(crate) fn new(settings: &OtlpSettings, signal: Signal) -> Result<Self, ExporterError> {
        let (endpoint, headers) = target(settings)?;
        Ok(match settings.protocol {
            Protocol::Grpc => {
                Self::Grpc(grpc::GrpcSender::new(settings, endpoint, headers, signal)?)
            }
            Protocol::HttpProtobuf => {
                Self::Http(http::HttpSender::new(settings, endpoint, headers)?)
            }
        })
    }

    pub(crate) async fn send(&self, body: &Bytes) -> Outcome {
        match self {
            Self::Grpc(sender) => sender.send(body).await,
            Self::Http(sender) => sender.send(body).await,
        }
    }
}

/// Where to send and what to send along.
pub(crate) fn target(settings: &OtlpSettings) -> Result<(Uri, HeaderMap), ExporterError> {
    Ok((connect::endpoint(settings)?, headers(settings)?))
}

fn headers(settings: &OtlpSettings) -> Result<HeaderMap, ExporterError> {
    let mut map = HeaderMap::new();
    for (name, value) in &settings.headers {
        let bad = |what: &'static str| ExporterError::Header {
            name: name.clone(),
            what,
        };
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| bad("its name has characters that a header name cannot have"))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| bad("its value has characters that a header cannot carry"))?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    map.insert(
        ::http::header::USER_AGENT,
        HeaderValue::from_static(USER_AGENT),
    );
    Ok(map)
}

/// The innermost causes too: "client error (Connect)" alone helps nobody.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
