//! OTLP over HTTP with protobuf bodies.

use std::io::Write;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::{MAX_RESPONSE_BYTES, Outcome, connect, with_causes};
use crate::error::ExporterError;
use crate::otlp::response::rpc_status;
use crate::reason;
use crate::settings::{Compression, OtlpSettings};

/// The client, for TLS and plaintext.
pub(crate) type HttpClientOf = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client for an endpoint. It keeps connections and follows no redirect.
pub(crate) fn http_client(
    settings: &OtlpSettings,
    endpoint: &Uri,
) -> Result<HttpClientOf, ExporterError> {
    Ok(Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .build(connect::connector(settings, endpoint)?))
}

/// One request with its answer, read up to the limit.
pub(crate) async fn exchange(
    client: HttpClientOf,
    request: Request<Bytes>,
    timeout: Duration,
) -> Result<Response<Bytes>, opentelemetry_http::HttpError> {
    let answer = async {
        let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::time::timeout(timeout, answer).await?
}

#[derive(Debug)]
pub(crate) struct HttpSender {
    client: HttpClientOf,
    endpoint: Uri,
    headers: HeaderMap,
    compression: Compression,
    timeout: Duration,
}

impl HttpSender {
    pub(super) fn new(
        settings: &OtlpSettings,
        endpoint: Uri,
        mut headers: HeaderMap,
    ) -> Result<Self, ExporterError> {
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        if settings.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self {
            client: http_client(settings, &endpoint)?,
            endpoint,
            headers,
            compression: settings.compression,
            timeout: settings.attempt_limit(),
        })
    }

    pub(super) async fn send(&self, body: &Bytes) -> Outcome {
        let body = match self.compression {
            Compression::None => body.clone(),
            Compression::Gzip => match gzip(body) {
                Ok(body) => body,
                Err(error) => return Outcome::retry(format!("gzip: {error}")),
            },
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        match tokio::time::timeout(self.timeout, self.attempt(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::retry(format!("no answer within {:?}", self.timeout)),
        }
    }

    async fn attempt(&self, request: Request<Full<Bytes>>) -> Outcome {
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return Outcome::retry(with_causes(&error)),
        };
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, MAX_RESPONSE_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Outcome::too_long_an_answer(),
            // The server has decided already; a lost body of a success is no reason to send twice.
            Err(_) => Bytes::new(),
        };
        classify(head.status, &head.headers, &body)
    }
}

/// The lowest level: it costs a fifth of the usual one and a request is a fifth larger for it.
pub(crate) fn gzip(body: &[u8]) -> std::io::Result<Bytes> {
    let out = Vec::with_capacity(body.len() / 4);
    let mut encoder = GzEncoder::new(out, flate2::Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if status.is_success() {
        let is_json = headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        let protobuf: &[u8] = if is_json { &[] } else { body };
        return Outcome::from_response(protobuf);
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
        400..=499 => reason::PERMANENT_REQUEST,
        _ => reason::PERMANENT_SERVER,
    };
    Outcome::Permanent { reason, message }
}

fn describe(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    if status.is_redirection() {
        let to = headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("nowhere");
        return format!("HTTP {status}: redirect to {to} is not followed; set it as the endpoint");
    }
    let is_protobuf = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/x-protobuf"));
    let text = if is_protobuf {
        rpc_status(body).message
    } else {
        String::from_utf8_lossy(body).into_owned()
    };
    let short: String = text.trim().chars().take(300).collect();
    if short.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status}: {short:?}")
    }
}

/// Seconds or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
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
}
