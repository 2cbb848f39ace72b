//! OTLP over gRPC: frames, headers and status, on the same HTTP client as everything else.
//!
//! A request is framed and compressed once, at the level that is set, and nothing that a server sends can be more than
//! a failed attempt.

use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, TE};
use http::{StatusCode, Uri, response};
use tonic::Code;

use super::compress::{Unreadable, decoded};
use super::{Body, Outcome, http as plain, is_about_size, percent_decoded, short};
use crate::carried::Signal;
use crate::otlp::response::{PartialSuccess, partial_success, rpc_status};
use crate::reason;

/// Bytes before a message: whether it is compressed, and its length.
pub(super) const PREFIX: usize = 5;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Servers pad or do not, as they please.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What each call says beside the configured headers.
pub(super) fn headers(headers: &mut HeaderMap, encoding: Option<HeaderValue>, timeout: Duration) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    // Servers answer in the encoding of the request, so what we send we also read.
    let accept = HeaderValue::from_static("identity,gzip,zstd");
    headers.insert(ACCEPT_ENCODING, accept);
    if let Some(encoding) = encoding {
        headers.insert(ENCODING, encoding);
    }
    // At most eight digits; longer than a day is as good as no limit.
    let millis = timeout.as_millis();
    if millis > 0
        && millis < 100_000_000
        && let Ok(value) = HeaderValue::try_from(format!("{millis}m"))
    {
        headers.insert(TIMEOUT, value);
    }
}

/// The method's address; a path of the endpoint stands before it.
pub(super) fn uri(endpoint: Uri, signal: Signal) -> Uri {
    let method = match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    };
    let mut parts = endpoint.clone().into_parts();
    let path = format!("{}{method}", endpoint.path().trim_end_matches('/'));
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).unwrap_or(endpoint)
}

/// The place for the prefix, and whether what follows is compressed.
pub(super) fn begin_frame(is_compressed: bool) -> Vec<u8> {
    vec![u8::from(is_compressed), 0, 0, 0, 0]
}

/// Fills in the length of what follows. A request is never near 4 GiB: `max_request_size` is checked before.
pub(super) fn end_frame(frame: &mut [u8]) {
    let length = u32::try_from(frame.len() - PREFIX).unwrap_or(u32::MAX);
    if let Some(place) = frame.get_mut(1..PREFIX) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Status of a call as the server gave it.
#[derive(Debug)]
struct Status {
    code: Code,
    message: String,
    details: Vec<u8>,
}

impl Status {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
        let code = std::str::from_utf8(text(&STATUS)?).ok();
        let message = text(&MESSAGE).map(String::from_utf8_lossy);
        let message = percent_decoded(&message.unwrap_or_default());
        let details = text(&DETAILS).and_then(|details| BASE64.decode(details).ok());
        Some(Self {
            // What is no number is no status that we know.
            code: code
                .and_then(|code| code.trim().parse().ok())
                .map_or(Code::Unknown, Code::from_i32),
            message: short(&String::from_utf8_lossy(&message)),
            details: details.unwrap_or_default(),
        })
    }
}

/// The status of the call, if the answer has one.
pub(super) fn code(head: &response::Parts, body: &Body) -> Option<Code> {
    status(head, body).map(|status| status.code)
}

fn status(head: &response::Parts, body: &Body) -> Option<Status> {
    match (Status::of(&head.headers), body) {
        (Some(status), _) => Some(status),
        (None, Body::Whole(_, Some(trailers))) => Status::of(trailers),
        _ => None,
    }
}

/// What an answer means.
pub(super) fn outcome(
    head: &response::Parts,
    body: Body,
    limit: usize,
    retry_resource_exhausted: bool,
) -> Outcome {
    let Some(status) = status(head, &body) else {
        return without_status(head, body, limit);
    };
    if status.code != Code::Ok {
        return classify(&status, retry_resource_exhausted);
    }
    match body {
        Body::TooLong => Outcome::too_long_an_answer(limit),
        // The server has said that it took the request; what else it says is not worth a second copy.
        Body::Lost(_) => Outcome::Accepted,
        Body::Whole(bytes, _) => match message(&head.headers, &bytes, limit) {
            Ok(partial) => Outcome::taken(partial),
            Err(Unreadable::TooLong) => Outcome::too_long_an_answer(limit),
            Err(Unreadable::Broken) => Outcome::Accepted,
        },
    }
}

/// The one message of an answer.
fn message(headers: &HeaderMap, body: &Bytes, limit: usize) -> Result<PartialSuccess, Unreadable> {
    let Some((&[flag, a, b, c, d], content)) = body.split_first_chunk::<PREFIX>() else {
        return Ok(PartialSuccess::default());
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let content = content.get(..length).ok_or(Unreadable::Broken)?;
    let encoding = match flag {
        0 => "",
        _ => headers
            .get(ENCODING)
            .and_then(|encoding| encoding.to_str().ok())
            .ok_or(Unreadable::Broken)?,
    };
    let content = decoded(encoding, body.slice_ref(content), limit)?;
    Ok(partial_success(&content))
}

/// An answer that is not, or not to its end, one of gRPC: from a proxy, from another kind of server, or cut off.
fn without_status(head: &response::Parts, body: Body, limit: usize) -> Outcome {
    let is_grpc = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let permanent = |reason, message: String| Outcome::Permanent { reason, message };
    let status = head.status;
    let message = plain::describe(status, &head.headers, &Bytes::new());
    match status {
        StatusCode::OK => match body {
            Body::TooLong => Outcome::too_long_an_answer(limit),
            Body::Lost(what) => Outcome::retry(what),
            Body::Whole(..) if is_grpc => Outcome::retry("the answer ended without a gRPC status"),
            Body::Whole(..) => permanent(
                reason::PERMANENT_SERVER,
                "it answers, but not as a gRPC server; is it the port of OTLP over HTTP?"
                    .to_owned(),
            ),
        },
        // As gRPC maps statuses of HTTP to its own, except for those that say more.
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Outcome::Retryable {
            after: head.headers.get(RETRY_AFTER).and_then(plain::retry_after),
            message,
        },
        StatusCode::PAYLOAD_TOO_LARGE => permanent(reason::PERMANENT_SIZE, message),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            permanent(reason::PERMANENT_AUTH, message)
        }
        status if status.is_redirection() => permanent(reason::PERMANENT_REDIRECT, message),
        _ => permanent(reason::PERMANENT_SERVER, message),
    }
}

fn classify(status: &Status, retry_resource_exhausted: bool) -> Outcome {
    let message = format!("gRPC {:?}: {}", status.code, status.message);
    let retry_after = rpc_status(&status.details).retry_after;
    let reason = match status.code {
        // Some servers call a request that is too large "out of range", which would be sent again for ever.
        Code::OutOfRange | Code::ResourceExhausted if is_about_size(&status.message) => {
            reason::PERMANENT_SIZE
        }
        Code::ResourceExhausted if retry_after.is_none() && !retry_resource_exhausted => {
            reason::PERMANENT_EXHAUSTED
        }
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::ResourceExhausted => {
            return Outcome::Retryable {
                after: retry_after,
                message,
            };
        }
        Code::Unauthenticated | Code::PermissionDenied => reason::PERMANENT_AUTH,
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition => {
            reason::PERMANENT_REQUEST
        }
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal => reason::PERMANENT_SERVER,
    };
    Outcome::Permanent { reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_a_server_sends_is_an_outcome(
            status in 100_u16..1000,
            fields in proptest::collection::vec((0..6_usize, "[ -~]{0,20}"), 0..6),
            body: Vec<u8>,
            trailing: bool,
        ) {
            let names = [STATUS, MESSAGE, DETAILS, ENCODING, CONTENT_TYPE, RETRY_AFTER];
            let mut headers = HeaderMap::new();
            for (at, value) in fields {
                headers.append(names[at].clone(), HeaderValue::try_from(value).unwrap());
            }
            let mut response = http::Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let trailers = if trailing { Some(headers) } else { *response.headers_mut() = headers; None };
            let (head, ()) = response.into_parts();
            outcome(&head, Body::Whole(body.into(), trailers), 1000, false);
        }
    }
}
