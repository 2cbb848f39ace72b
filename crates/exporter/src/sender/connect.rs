//! Connections to an endpoint: its URL, TCP and TLS, the same for both transports.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::ExporterError;
use crate::settings::{OtlpSettings, Protocol, TlsSettings};

/// The endpoint as a URL with scheme and host.
pub(super) fn endpoint(settings: &OtlpSettings) -> Result<Uri, ExporterError> {
    let text = settings.endpoint.trim();
    let bad = |what: String| ExporterError::Endpoint {
        endpoint: settings.endpoint.clone(),
        what,
        example: match settings.protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf => "http://localhost:4318/v1/traces",
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

/// A connector for `http` and `https`; certificates are read only where the endpoint needs them.
pub(super) fn connector(
    settings: &OtlpSettings,
    endpoint: &Uri,
) -> Result<HttpsConnector<HttpConnector>, ExporterError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(settings.attempt_limit().min(Duration::from_secs(5))));
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    let tls = if endpoint.scheme_str() == Some("https") {
        client_config(&settings.tls)?
    } else {
        builder()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    };
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    Ok(match settings.protocol {
        Protocol::Grpc => builder.enable_http2().wrap_connector(tcp),
        Protocol::HttpProtobuf => builder.enable_all_versions().wrap_connector(tcp),
    })
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, ExporterError> {
    // The provider is named here, so that no other part of the process decides it.
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ExporterError::Tls(error.to_string()))
}

fn client_config(settings: &TlsSettings) -> Result<ClientConfig, ExporterError> {
    let builder = match &settings.ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("tls.ca_file", path)? {
                roots
                    .add(certificate)
                    .map_err(|error| pem("tls.ca_file", path, &error.to_string()))?;
            }
            builder()?.with_root_certificates(roots)
        }
        None => builder()?.with_native_roots().map_err(|error| {
            ExporterError::Tls(format!(
                "this machine has no usable root certificates ({error}); install ca-certificates or set tls.ca_file"
            ))
        })?,
    };
    match (&settings.cert_file, &settings.key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let chain = certificates("tls.cert_file", cert)?;
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| pem("tls.key_file", key, &error.to_string()))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| pem("tls.key_file", key, &error.to_string()))
        }
        _ => Err(ExporterError::Tls(
            "a client certificate needs both tls.cert_file and tls.key_file".to_owned(),
        )),
    }
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ExporterError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| pem(what, path, &error.to_string()))?;
    if found.is_empty() {
        return Err(pem(what, path, "there is no certificate in it"));
    }
    Ok(found)
}

fn pem(what: &'static str, path: &Path, message: &str) -> ExporterError {
    ExporterError::Pem {
        what,
        path: path.to_owned(),
        message: message.to_owned(),
    }
}
