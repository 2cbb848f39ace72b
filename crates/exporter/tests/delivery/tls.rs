//! TLS to a backend whose authority is our own.

use std::sync::Arc;

use spandrel_exporter::self_telemetry::{SelfTelemetry, SelfTelemetrySettings};
use spandrel_exporter::{Exporter, OtlpSettings, Protocol, Signal, TlsSettings};

use crate::server::Server;
use crate::{Running, assert_account, settings};

struct Authority {
    ca_file: tempfile::NamedTempFile,
    ca: String,
    cert: String,
    key: String,
}

/// A certificate for 127.0.0.1, which serves both ends, signed by an authority of our own.
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
        ca: ca.pem(),
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

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_asks_for_one() {
    let authority = authority();
    let tls = tonic::transport::ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(
            &authority.cert,
            &authority.key,
        ))
        .client_ca_root(tonic::transport::Certificate::from_pem(&authority.ca));
    let server = Server::grpc_on("127.0.0.1:0".parse().unwrap(), Vec::new(), Some(tls)).await;
    let directory = tempfile::tempdir().unwrap();
    let (cert_file, key_file) = (directory.path().join("cert"), directory.path().join("key"));
    std::fs::write(&cert_file, &authority.cert).unwrap();
    std::fs::write(&key_file, &authority.key).unwrap();
    let trusting = trusting(authority.ca_file.path());
    let with_certificate = TlsSettings {
        cert_file: Some(cert_file),
        key_file: Some(key_file.clone()),
        ..trusting.clone()
    };
    let probe = async |tls| {
        let settings = OtlpSettings {
            tls,
            ..OtlpSettings::new(Protocol::Grpc, format!("https://{}", server.address))
        };
        Exporter::probe(&settings, Signal::Traces).await
    };
    probe(with_certificate).await.unwrap();
    // In TLS 1.3 the refusal comes after the handshake, at any time of the request.
    for _ in 0..20 {
        let refused = probe(trusting.clone()).await.unwrap_err().to_string();
        assert!(refused.contains("see tls.cert_file"), "{refused}");
    }
    let half = TlsSettings {
        key_file: Some(key_file),
        ..trusting
    };
    let error = probe(half).await.unwrap_err().to_string();
    assert!(
        error.contains("both tls.cert_file and tls.key_file"),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_named() {
    let settings = OtlpSettings {
        tls: trusting(std::path::Path::new("/proc/self/comm")),
        ..OtlpSettings::new(Protocol::Grpc, "https://127.0.0.1:1")
    };
    let error = Exporter::probe(&settings, Signal::Traces)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("tls.ca_file /proc/self/comm"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_own_metrics_go_over_the_same_tls() {
    let authority = authority();
    let identity = tonic::transport::Identity::from_pem(&authority.cert, &authority.key);
    let tls = tonic::transport::ServerTlsConfig::new().identity(identity);
    let server = Server::grpc_on("127.0.0.1:0".parse().unwrap(), Vec::new(), Some(tls)).await;
    let settings = SelfTelemetrySettings {
        endpoint: OtlpSettings {
            tls: trusting(authority.ca_file.path()),
            ..OtlpSettings::new(Protocol::Grpc, format!("https://{}", server.address))
        },
        interval: std::time::Duration::from_secs(3600),
        attributes: Vec::new(),
    };
    let runtime = tokio::runtime::Handle::current();
    let telemetry = SelfTelemetry::start(settings, &Arc::default(), &runtime).unwrap();
    tokio::task::spawn_blocking(move || telemetry.shutdown(std::time::Duration::from_secs(30)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(server.received(1).await.len(), 1);
}
