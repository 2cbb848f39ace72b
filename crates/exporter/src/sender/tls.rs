//! TLS 1.2 and 1.3: whom to trust and how to identify ourselves.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::ExporterError;
use crate::settings::TlsSettings;

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, ExporterError> {
    // The provider is named here, so that no other part of the process decides it. rustls knows nothing below 1.2.
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ExporterError::Tls(error.to_string()))
}

/// For an endpoint without TLS: the connector wants a configuration and never uses it.
pub(super) fn unused_config() -> Result<ClientConfig, ExporterError> {
    Ok(builder()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// By the settings, whose files are read now.
pub(super) fn client_config(settings: &TlsSettings) -> Result<ClientConfig, ExporterError> {
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
