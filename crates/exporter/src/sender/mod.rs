//! One attempt to send one request, and what came of it.

mod compress;
mod connect;
mod dial;
mod grpc;
mod http;
mod proxy;
mod stream;
mod tls;
mod watch;

use std::future::Future;
use std::time::Duration;

use ::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use ::http::{HeaderValue, Method, Request, Uri, response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use spandrel_model::ledger::Reason;
use tokio::time::Instant;

pub(crate) use compress::gzip;
pub(crate) use connect::{HttpClientOf, http_client};
pub(crate) use http::exchange;
pub(crate) use stream::StreamWriter;

use crate::carried::Signal;
use crate::error::ExporterError;
use crate::operation::ResponseStatus;
use crate::otlp::response::PartialSuccess;
use crate::otlp::transcode::{Root, json_of};
use crate::reason;
use crate::settings::{OtlpSettings, Protocol};

/// `User-Agent`, by the OTLP exporter specification with our product in front.
pub const USER_AGENT: &str = concat!(
    "spandrel/",
    env!("CARGO_PKG_VERSION"),
    " OTel-OTLP-Exporter-Rust/",
    env!("CARGO_PKG_VERSION")
);

/// Longest part of a server's words that is kept.
const WORDS: usize = 300;

/// How rustls calls what a server says of a client's certificate that it does not like, or that it misses.
const CERTIFICATE_ALERTS: [&str; 6] = [
    "received fatal alert: CertificateRequired",
    "received fatal alert: BadCertificate",
    "received fatal alert: UnknownCA",
    "received fatal alert: CertificateExpired",
    "received fatal alert: CertificateRevoked",
    "received fatal alert: CertificateUnknown",
];

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
    fn taken(partial: PartialSuccess) -> Self {
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

    fn too_long_an_answer(limit: usize) -> Self {
        Self::Permanent {
            reason: reason::PERMANENT_RESPONSE,
            message: format!("the answer is larger than {limit} bytes (max_response_size)"),
        }
    }
}

/// What was read of an answer's body.
enum Body {
    /// All of it, with what came after it.
    Whole(Bytes, Option<HeaderMap>),
    TooLong,
    /// The connection was lost or the time was over, in words.
    Lost(String),
}

/// A request in its destination's form, compressed and framed: made once, sent as often as it takes.
#[derive(Clone, Debug)]
pub(crate) struct Prepared(Bytes);

/// A connection to an OTLP endpoint.
#[derive(Debug)]
pub(crate) struct Sender {
    protocol: Protocol,
    signal: Signal,
    client: HttpClientOf,
    last_error: watch::LastError,
    uri: Uri,
    headers: HeaderMap,
    encoder: compress::Encoder,
    timeout: Duration,
    split_above: usize,
    max_request_size: usize,
    max_response_size: usize,
    retry_resource_exhausted: bool,
}

impl Sender {
    pub(crate) fn new(settings: &OtlpSettings, signal: Signal) -> Result<Self, ExporterError> {
        let (endpoint, mut headers) = target(settings)?;
        let encoder = compress::Encoder::new(settings.compression, settings.compression_level)?;
        let (client, last_error) = http_client(settings, &endpoint)?;
        let encoding = encoder.name().map(HeaderValue::from_static);
        let uri = match settings.protocol {
            Protocol::Grpc => {
                grpc::headers(&mut headers, encoding, settings.timeout);
                grpc::uri(endpoint, signal)
            }
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                let kind = match settings.protocol {
                    Protocol::HttpJson => "application/json",
                    _ => "application/x-protobuf",
                };
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
                if let Some(encoding) = encoding {
                    headers.insert(CONTENT_ENCODING, encoding);
                }
                endpoint
            }
        };
        Ok(Self {
            protocol: settings.protocol,
            signal,
            client,
            last_error,
            uri,
            headers,
            encoder,
            timeout: settings.timeout,
            split_above: settings
                .max_request_bytes
                .unwrap_or(usize::MAX)
                .min(settings.max_request_size),
            max_request_size: settings.max_request_size,
            max_response_size: settings.max_response_size,
            retry_resource_exhausted: settings.retry_resource_exhausted,
        })
    }

    /// A request of more bytes than this, in the destination's form, is to be split if it can be.
    pub(crate) fn split_above(&self) -> usize {
        self.split_above
    }

    /// A request of more bytes than this is not to be sent.
    pub(crate) fn max_request_size(&self) -> usize {
        self.max_request_size
    }

    /// The encoded request in the destination's form. `None` if it is no request, which ours never is.
    pub(crate) fn in_form(&self, body: &Bytes) -> Option<Bytes> {
        match self.protocol {
            Protocol::Grpc | Protocol::HttpProtobuf => Some(body.clone()),
            Protocol::HttpJson => json_of(Root::of(self.signal), body).map(Into::into),
        }
    }

    /// Compresses what has the right form.
    pub(crate) fn prepare(&self, body: Bytes) -> std::io::Result<Prepared> {
        Ok(Prepared(match (self.protocol, self.encoder.name()) {
            (Protocol::Grpc, encoding) => {
                let mut frame = grpc::begin_frame(encoding.is_some());
                self.encoder.append(&body, &mut frame)?;
                grpc::end_frame(&mut frame);
                frame.into()
            }
            (_, None) => body,
            (_, Some(_)) => {
                let mut out = Vec::new();
                self.encoder.append(&body, &mut out)?;
                out.into()
            }
        }))
    }

    /// Puts an encoded request into form and sends it once.
    pub(crate) async fn send(&self, body: &Bytes) -> Outcome {
        let failed = |message: String| Outcome::Permanent {
            reason: reason::ENCODE_FAILED,
            message,
        };
        let Some(body) = self.in_form(body) else {
            return failed("the request cannot be turned into JSON".to_owned());
        };
        match self.prepare(body) {
            Ok(prepared) => self.attempt(&prepared).await.0,
            Err(error) => failed(format!("compression: {error}")),
        }
    }

    /// Sends a request once. With the server's status, if there was an answer.
    pub(crate) async fn attempt(&self, request: &Prepared) -> (Outcome, Option<ResponseStatus>) {
        let until = (!self.timeout.is_zero()).then(|| Instant::now() + self.timeout);
        let mut call = Request::new(Full::new(request.0.clone()));
        *call.method_mut() = Method::POST;
        *call.uri_mut() = self.uri.clone();
        *call.headers_mut() = self.headers.clone();
        if self.protocol == Protocol::Grpc {
            *call.version_mut() = ::http::Version::HTTP_2;
        }
        let response = match within(until, self.client.request(call)).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => return (Outcome::retry(self.why(&error)), None),
            None => {
                let late = format!("no answer within {:?}", self.timeout);
                return (Outcome::retry(late), None);
            }
        };
        let (head, body) = response.into_parts();
        let limit = self.max_response_size.saturating_add(match self.protocol {
            Protocol::Grpc => grpc::PREFIX,
            _ => 0,
        });
        let body = match within(until, Limited::new(body, limit).collect()).await {
            Some(Ok(body)) => {
                let trailers = body.trailers().cloned();
                Body::Whole(body.to_bytes(), trailers)
            }
            Some(Err(error)) if error.is::<LengthLimitError>() => Body::TooLong,
            Some(Err(error)) => Body::Lost(with_causes(&*error)),
            None => Body::Lost(format!("no end of the answer within {:?}", self.timeout)),
        };
        let status = self.status(&head, &body);
        (self.judge(&head, body), Some(status))
    }

    /// That of gRPC where there is one; a proxy may answer without.
    fn status(&self, head: &response::Parts, body: &Body) -> ResponseStatus {
        let code = match self.protocol {
            Protocol::Grpc => grpc::code(head, body),
            Protocol::HttpProtobuf | Protocol::HttpJson => None,
        };
        code.map_or(
            ResponseStatus::Http(head.status.as_u16()),
            ResponseStatus::Grpc,
        )
    }

    /// What went wrong, with what the connection itself says where the client knows no more than that it is closed.
    fn why(&self, error: &hyper_util::client::legacy::Error) -> String {
        let mut text = with_causes(error);
        // A connection that could not be made speaks for itself.
        if !error.is_connect()
            && let Some(broke) = self.last_error.text()
            && !text.contains(&broke)
        {
            text.push_str(": ");
            text.push_str(&broke);
        }
        if CERTIFICATE_ALERTS.iter().any(|alert| text.contains(alert)) {
            text.push_str(
                " (the server refuses our certificate; see tls.cert_file and tls.key_file)",
            );
        }
        text
    }

    fn judge(&self, head: &response::Parts, body: Body) -> Outcome {
        let limit = self.max_response_size;
        match self.protocol {
            Protocol::Grpc => grpc::outcome(head, body, limit, self.retry_resource_exhausted),
            Protocol::HttpProtobuf | Protocol::HttpJson => http::outcome(head, body, limit),
        }
    }
}

/// The result, or `None` if it is not there in time. No time is no limit.
async fn within<T>(until: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, work).await.ok(),
        None => Some(work.await),
    }
}

/// Where to send and what to send along.
pub(crate) fn target(settings: &OtlpSettings) -> Result<(Uri, HeaderMap), ExporterError> {
    let endpoint = connect::endpoint(settings)?;
    let mut headers = headers(settings)?;
    connect::proxy_headers(settings, &endpoint, &mut headers)?;
    Ok((endpoint, headers))
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
    // An authority of the same name with another key makes a bad signature.
    if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        text.push_str(" (signed by no authority that is trusted here; see tls.ca_file)");
    }
    text
}

/// The first words of a server, which may have many.
fn short(text: &str) -> String {
    text.trim().chars().take(WORDS).collect()
}

/// What `%xx` stands for; a `%` without two digits stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| {
        let character = char::from(*bytes.get(at)?);
        character.to_digit(16)
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Whether a refusal speaks of the size of the message. Each implementation has its own words: Go and C
/// "received message larger than max", Java "gRPC message exceeds maximum size", Rust "decoded message length too
/// large"; and the Collector, over HTTP, "http: request body too large" with 400.
fn is_about_size(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| message.contains(word));
    any(&["larger than", "too large", "too big", "exceed"])
        && any(&["message", "request", "payload", "body", "batch"])
        && !any(&["rate", "quota", "memory", "queue"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_implementations_words_for_too_large_are_understood_and_no_other_shortage() {
        for large in [
            "grpc: received message larger than max (5000000 vs. 4194304)",
            "grpc: received message after decompression larger than max 4194304",
            "CLIENT: Received message larger than max (5000000 vs. 4194304)",
            "gRPC message exceeds maximum size 4194304: 5000000",
            "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes",
            "Received message exceeds the maximum configured message size.",
            "http: request body too large",
        ] {
            assert!(is_about_size(large), "{large}");
        }
        for other in [
            "data refused due to high memory usage",
            "sending queue is full",
            "quota exceeded for requests",
            "request rate too large",
            "ingestion rate limit exceeded, too many requests",
        ] {
            assert!(!is_about_size(other), "{other}");
        }
    }
}
