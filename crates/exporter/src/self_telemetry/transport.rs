//! How the agent's own metrics travel: through the SDK's exporters, over our connections.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{MetricExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::error::ExporterError;
use crate::sender::{self, HttpClientOf};
use crate::settings::{Compression, OtlpSettings, TlsSettings};

pub(super) fn grpc_exporter(settings: &OtlpSettings) -> Result<MetricExporter, ExporterError> {
    let (endpoint, headers) = sender::target(settings)?;
    let mut builder = MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint.to_string())
        .with_timeout(settings.attempt_limit())
        .with_metadata(MetadataMap::from_headers(headers));
    if settings.compression == Compression::Gzip {
        builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
    }
    if endpoint.scheme_str() == Some("https") {
        // Without this the exporter trusts nobody.
        builder = builder.with_tls_config(tonic_tls(&settings.tls)?);
    }
    builder
        .build()
        .map_err(|error| ExporterError::SelfTelemetry(error.to_string()))
}

fn tonic_tls(settings: &TlsSettings) -> Result<ClientTlsConfig, ExporterError> {
    let read = |what: &'static str, path: &std::path::Path| {
        std::fs::read(path).map_err(|error| ExporterError::Pem {
            what,
            path: path.to_owned(),
            message: error.to_string(),
        })
    };
    let mut tls = ClientTlsConfig::new();
    tls = match &settings.ca_file {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read("tls.ca_file", path)?)),
        None => tls.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&settings.cert_file, &settings.key_file) {
        let cert = read("tls.cert_file", cert)?;
        tls = tls.identity(Identity::from_pem(cert, read("tls.key_file", key)?));
    }
    Ok(tls)
}

pub(super) fn http_exporter(
    settings: &OtlpSettings,
    runtime: &Handle,
) -> Result<MetricExporter, ExporterError> {
    let (endpoint, headers) = sender::target(settings)?;
    let client = RuntimeClient {
        client: sender::http_client(settings, &endpoint)?.0,
        headers,
        runtime: runtime.clone(),
        compression: settings.compression,
        timeout: settings.attempt_limit(),
    };
    MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_headers(HashMap::new())
        .with_endpoint(endpoint.to_string())
        .with_timeout(settings.attempt_limit())
        .build()
        .map_err(|error| ExporterError::SelfTelemetry(error.to_string()))
}

/// Our HTTP client for the SDK: the SDK polls it on a thread without a runtime, so it runs where its timers are.
struct RuntimeClient {
    client: HttpClientOf,
    headers: HeaderMap,
    runtime: Handle,
    compression: Compression,
    timeout: Duration,
}

impl fmt::Debug for RuntimeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RuntimeClient")
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for RuntimeClient {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Answer<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let (mut head, mut body) = request.into_parts();
        head.headers.extend(self.headers.clone());
        if self.compression == Compression::Gzip
            && let Ok(smaller) = sender::gzip(&body)
        {
            body = smaller;
            let value = HeaderValue::from_static("gzip");
            head.headers.insert(CONTENT_ENCODING, value);
        }
        let request = Request::from_parts(head, body);
        let exchange = sender::exchange(self.client.clone(), request, self.timeout);
        let task = self.runtime.spawn(exchange);
        Box::pin(async move { task.await? })
    }
}
