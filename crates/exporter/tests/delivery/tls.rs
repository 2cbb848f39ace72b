//! TLS to a backend whose authority is our own.

use std::sync::Arc;

use spandrel_exporter::{Exporter, OtlpSettings, Protocol, Signal, TlsSettings};

use crate::server::Server;
use crate::{Running, assert_account, settings};

struct Authority {
    ca_file: tempfile::NamedTempFile,
    cert: String,
    key: String,
}

/// A server certificate for 127.0.0.1, signed by an authority of our own.
fn authority() -> Authority {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), ca.pem()).unwrap();
    Authority {
        ca_file,
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

fn trusting(ca_file: &std::path::Path) -> TlsSettings {
    TlsSettings {
        ca_file: Some(ca_file.to_owned()),
        ..TlsSettings::default()
    }
}

#[tokio::test]
async fn grpc_over_tls_trusts_the_configured_authority_and_no_other() {
    let authority = authority();
    let identity = tonic::transport::Identity::from_pem(&authority.cert, &authority.key);
    let tls = tonic::transport::ServerTlsConfig::new().identity(identity);
    let server = Server::grpc_on("127.0.0.1:0".parse().unwrap(), Vec::new(), Some(tls)).await;
    let otlp = |tls| OtlpSettings {
        tls,
        ..OtlpSettings::new(Protocol::Grpc, format!("https://{}", server.address))
    };
    let mut running = Running::start(settings(otlp(trusting(authority.ca_file.path()))));
    running.send(&["a"]);
    server.received(1).await;
    assert_account(&running.end().await, 1, &[]);

    let stranger = self::authority();
    let settings = otlp(trusting(stranger.ca_file.path()));
    let error = Exporter::probe(&settings, Signal::Traces)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn http_over_tls_trusts_the_configured_authority() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let authority = authority();
    let chain = vec![CertificateDer::from_pem_slice(authority.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(authority.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = Server::http_with(Vec::new(), Some(acceptor)).await;
    let mut running = Running::start(settings(OtlpSettings {
        tls: trusting(authority.ca_file.path()),
        ..OtlpSettings::new(
            Protocol::HttpProtobuf,
            format!("https://{}/v1/traces", server.address),
        )
    }));
    running.send(&["a"]);
    server.received(1).await;
    assert_account(&running.end().await, 1, &[]);
}
