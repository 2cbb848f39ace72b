//! A client for an endpoint: its URL, its connections and what they go through, the same for all transports.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use spandrel_model::redaction;

use super::dial::Dialer;
use super::watch::{LastError, Watched};
use super::{proxy, tls};
use crate::error::ExporterError;
use crate::settings::{OtlpSettings, Protocol};

/// The client, for TLS and plaintext.
pub(crate) type HttpClientOf = Client<Watched<HttpsConnector<Dialer>>, Full<Bytes>>;

/// Longest wait for a connection, whatever the timeout of an attempt is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The endpoint as a URL with scheme and host.
pub(super) fn endpoint(settings: &OtlpSettings) -> Result<Uri, ExporterError> {
    let text = settings.endpoint.trim();
    let bad = |what: String| ExporterError::Endpoint {
        endpoint: redaction::url(&settings.endpoint),
        what,
        example: match settings.protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf | Protocol::HttpJson => "http://localhost:4318/v1/traces",
        },
    };
    let full = if text.contains("://") {
        text.to_owned()
    } else if settings.tls.insecure {
        format!("http://{text}")
    } else {
        format!("https://{text}")
    };
    let uri: Uri = full.parse().map_err(|error| bad(format!("{error}")))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        other => return Err(bad(format!("scheme {other:?} is neither http nor https"))),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("there is no host in it".to_owned()));
    }
    Ok(uri)
}

/// A client for an endpoint. It keeps connections and follows no redirect; certificates are read only where the
/// endpoint needs them. How its connections break is found in the second one.
pub(crate) fn http_client(
    settings: &OtlpSettings,
    endpoint: &Uri,
) -> Result<(HttpClientOf, LastError), ExporterError> {
    let is_grpc = settings.protocol == Protocol::Grpc;
    let timeout = settings.attempt_limit().min(CONNECT_TIMEOUT);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timeout));
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    let is_https = endpoint.scheme_str() == Some("https");
    let dialer = Dialer {
        tcp,
        proxy: proxy::of(settings, endpoint)?,
        // gRPC needs a connection of its own through a proxy even without TLS: it is HTTP/2 from end to end.
        tunnel: is_https || is_grpc,
        timeout,
    };
    let tls = if is_https {
        tls::client_config(&settings.tls)?
    } else {
        tls::unused_config()?
    };
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    let connector = if is_grpc {
        builder.enable_http2().wrap_connector(dialer)
    } else {
        // HTTP/2 where the server agrees during the handshake, and HTTP/1.1 where it does not.
        builder.enable_all_versions().wrap_connector(dialer)
    };
    let last_error = LastError::default();
    let connector = Watched {
        connector,
        last_error: last_error.clone(),
    };
    let client = Client::builder(TokioExecutor::new())
        .http2_only(is_grpc)
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        // Finds out within a minute that the other side is gone without a word.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(20))
        .build(connector);
    Ok((client, last_error))
}

/// Headers that a proxy wants with each request; only where it sees the requests.
pub(super) fn proxy_headers(
    settings: &OtlpSettings,
    endpoint: &Uri,
    headers: &mut HeaderMap,
) -> Result<(), ExporterError> {
    if settings.protocol != Protocol::Grpc
        && endpoint.scheme_str() == Some("http")
        && let Some(value) =
            proxy::of(settings, endpoint)?.and_then(|proxy| proxy.authorization.clone())
    {
        headers.insert(http::header::PROXY_AUTHORIZATION, value);
    }
    Ok(())
}
