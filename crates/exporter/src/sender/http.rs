//! OTLP over HTTP: what an answer means.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Request, Response, StatusCode, response};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::Instant;

use super::compress::{Unreadable, decoded};
use super::{Body, HttpClientOf, Outcome, is_about_size, short, within};
use crate::otlp::response::{json_message, json_partial_success, partial_success, rpc_status};
use crate::reason;

/// Largest answer to the agent's own metrics that is read.
const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// One request with its answer, read up to the limit; no timeout is no limit.
pub(crate) async fn exchange(
    client: HttpClientOf,
    request: Request<Bytes>,
    timeout: Duration,
) -> Result<Response<Bytes>, opentelemetry_http::HttpError> {
    let until = (!timeout.is_zero()).then(|| Instant::now() + timeout);
    let answer = async {
        let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    let late = || format!("no answer within {timeout:?}").into();
    within(until, answer).await.unwrap_or_else(|| Err(late()))
}

/// What an answer means.
pub(super) fn outcome(head: &response::Parts, body: Body, limit: usize) -> Outcome {
    let encoding = head
        .headers
        .get(CONTENT_ENCODING)
        .map_or(Ok(""), HeaderValue::to_str);
    let body = match (body, encoding) {
        (Body::TooLong, _) => return Outcome::too_long_an_answer(limit),
        (Body::Whole(body, _), Ok(encoding)) => match decoded(encoding, body, limit) {
            Ok(body) => body,
            Err(Unreadable::TooLong) => return Outcome::too_long_an_answer(limit),
            Err(Unreadable::Broken) => Bytes::new(),
        },
        // The server has decided already; a lost body of a success is no reason to send twice.
        _ => Bytes::new(),
    };
    classify(head.status, &head.headers, &body)
}

fn is(headers: &HeaderMap, kind: &[u8]) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(kind))
}

fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if status.is_success() {
        return Outcome::taken(if is(headers, b"application/json") {
            json_partial_success(body)
        } else {
            partial_success(body)
        });
    }
    let message = describe(status, headers, body);
    let reason = match status.as_u16() {
        429 | 502 | 503 | 504 => {
            return Outcome::Retryable {
                after: headers.get(RETRY_AFTER).and_then(retry_after),
                message,
            };
        }
        300..=399 => reason::PERMANENT_REDIRECT,
        401 | 403 => reason::PERMANENT_AUTH,
        413 => reason::PERMANENT_SIZE,
        400 if is_about_size(&message) => reason::PERMANENT_SIZE,
        400..=499 => reason::PERMANENT_REQUEST,
        _ => reason::PERMANENT_SERVER,
    };
    Outcome::Permanent { reason, message }
}

pub(super) fn describe(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    if status.is_redirection() {
        let to = headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("nowhere");
        let to = short(to);
        return format!("HTTP {status}: redirect to {to} is not followed; set it as the endpoint");
    }
    let text = if is(headers, b"application/x-protobuf") {
        rpc_status(body).message
    } else {
        // A status as JSON has its message in a field; any other text is shown as it is.
        is(headers, b"application/json")
            .then(|| json_message(body))
            .flatten()
            .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
    };
    let text = short(&text);
    if text.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status}: {text:?}")
    }
}

/// Seconds or a date.
pub(super) fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_a_date_gone_by_is_now() {
        let read = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("soon"), None);
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let later = SystemTime::now() + Duration::from_secs(90);
        let wait = read(&httpdate::fmt_http_date(later)).unwrap();
        assert!(wait > Duration::from_secs(80) && wait <= Duration::from_secs(90));
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_server_sends_is_an_outcome(
            status in 100_u16..1000, kind in "[ -~]{0,30}", encoding in "gzip|zstd|br|", body: Vec<u8>,
        ) {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::try_from(kind).unwrap());
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::try_from(encoding).unwrap());
            let (head, ()) = response.into_parts();
            outcome(&head, Body::Whole(body.into(), None), 1000);
        }
    }
}
