//! TLS: whom we trust, how we identify ourselves, which versions, and what is agreed on in the handshake.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use spandrel_exporter::{
    Exporter, OtlpSettings, Protocol, ProxySettings, Signal, TlsSettings, reason,
};
use tokio::io::AsyncReadExt;

use super::PROTOCOLS;
use super::peer::Peer;
use crate::server::Server;
use crate::{Running, assert_account, settings};

/// An authority with one certificate that it signed, and both as files.
struct Authority {
    directory: tempfile::TempDir,
    cert: String,
    key: String,
}

impl Authority {
    fn new(name: &str, last_year: i32) -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Authorities of one name would be told apart by their keys only.
        let own = format!(
            "authority {}",
            u16::from_be_bytes([ca_key.public_key_raw()[1], ca_key.public_key_raw()[2]])
        );
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, own);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let cert = params.signed_by(&key, &issuer).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (cert.pem(), key.serialize_pem());
        for (file, text) in [("ca", &ca.pem()), ("cert", &cert), ("key", &key)] {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        Self {
            directory,
            cert,
            key,
        }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.path().join(name))
    }

    fn trusted(&self) -> TlsSettings {
        TlsSettings {
            ca_file: self.file("ca"),
            ..TlsSettings::default()
        }
    }

    /// An acceptor that offers protocols, in some versions of TLS, and may ask for a certificate of ours.
    fn acceptor(
        &self,
        offers: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
        asks: bool,
    ) -> tokio_rustls::TlsAcceptor {
        let chain = vec![CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = if asks {
            let mut roots = rustls::RootCertStore::empty();
            let ca = CertificateDer::from_pem_file(self.file("ca").unwrap()).unwrap();
            roots.add(ca).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = offers
            .iter()
            .map(|offer| offer.as_bytes().to_vec())
            .collect();
        Arc::new(config).into()
    }

    /// A server over TLS, for any of the transports.
    async fn server(&self, protocol: Protocol, asks: bool) -> (Server, OtlpSettings) {
        let server = match protocol {
            Protocol::Grpc => {
                let identity = tonic::transport::Identity::from_pem(&self.cert, &self.key);
                let mut tls = tonic::transport::ServerTlsConfig::new().identity(identity);
                if asks {
                    let ca = std::fs::read_to_string(self.file("ca").unwrap()).unwrap();
                    tls = tls.client_ca_root(tonic::transport::Certificate::from_pem(ca));
                }
                Server::grpc_on("127.0.0.1:0".parse().unwrap(), Vec::new(), Some(tls)).await
            }
            _ => {
                let acceptor = self.acceptor(&["h2", "http/1.1"], rustls::ALL_VERSIONS, asks);
                Server::http_with(Vec::new(), Some(acceptor)).await
            }
        };
        let settings = over_tls(protocol, server.address, self.trusted());
        (server, settings)
    }
}

fn over_tls(protocol: Protocol, address: impl std::fmt::Display, tls: TlsSettings) -> OtlpSettings {
    let plain = super::otlp(protocol, address);
    OtlpSettings {
        endpoint: plain.endpoint.replace("http:", "https:"),
        tls,
        ..plain
    }
}

async fn refusal(settings: &OtlpSettings) -> String {
    let found = Exporter::probe(settings, Signal::Traces).await;
    found.unwrap_err().to_string()
}

#[tokio::test]
async fn rule_05_http_2_where_the_server_offers_it_and_http_1_1_where_it_does_not() {
    let authority = Authority::new("127.0.0.1", 2100);
    for (offers, version) in [
        (&["h2", "http/1.1"][..], http::Version::HTTP_2),
        (&["http/1.1"], http::Version::HTTP_11),
        (&[], http::Version::HTTP_11),
    ] {
        let acceptor = authority.acceptor(offers, rustls::ALL_VERSIONS, false);
        let server = Server::http_with(Vec::new(), Some(acceptor)).await;
        let otlp = over_tls(Protocol::HttpProtobuf, server.address, authority.trusted());
        let mut settings = settings(otlp);
        settings.queue.num_consumers = 1;
        let mut running = Running::start(settings);
        for n in 1..=5 {
            running.send(&["a"]);
            running.settled(n).await;
        }
        let received = server.so_far();
        assert!(
            received.iter().all(|one| one.version == version),
            "{offers:?}"
        );
        let first = received[0].peer;
        assert!(
            received.iter().all(|one| one.peer == first),
            "one connection"
        );
        assert_account(&running.end().await, 5, &[]);
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_host_or_time_is_refused_and_the_reason_is_said() {
    let good = Authority::new("127.0.0.1", 2100);
    let other = Authority::new("127.0.0.1", 2100);
    let expired = Authority::new("127.0.0.1", 2021);
    let elsewhere = Authority::new("backend.example", 2100);
    for protocol in PROTOCOLS {
        let (server, settings) = good.server(protocol, false).await;
        Exporter::probe(&settings, Signal::Traces).await.unwrap();
        let strangers = OtlpSettings {
            tls: other.trusted(),
            ..settings
        };
        let error = refusal(&strangers).await;
        assert!(
            error.contains("UnknownIssuer") && error.contains("tls.ca_file"),
            "{error}"
        );

        let (_server, settings) = expired.server(protocol, false).await;
        let error = refusal(&settings).await;
        assert!(error.contains("expired"), "{error}");

        let (_server, settings) = elsewhere.server(protocol, false).await;
        let error = refusal(&settings).await;
        assert!(
            error.contains("not valid for name") && error.contains("backend.example"),
            "{error}"
        );

        // Spans wait for the day on which the certificate is right: nothing goes to who is not trusted.
        let mut running = Running::start(crate::settings(strangers));
        running.send(&["a"]);
        let spans = running.end_within(Duration::from_millis(200)).await;
        assert_account(&spans, 0, &[(reason::SHUTDOWN_DEADLINE, 1)]);
        assert_eq!(server.so_far().len(), 1, "the probe only");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let authority = Authority::new("127.0.0.1", 2100);
    for protocol in PROTOCOLS {
        let (server, anonymous) = authority.server(protocol, true).await;
        let mut running = Running::start(settings(OtlpSettings {
            tls: TlsSettings {
                cert_file: authority.file("cert"),
                key_file: authority.file("key"),
                ..authority.trusted()
            },
            ..anonymous.clone()
        }));
        running.send(&["a"]);
        assert_account(&running.end().await, 1, &[]);
        assert_eq!(server.so_far().len(), 1, "{protocol:?}");
        refusal(&anonymous).await;
        assert_eq!(server.so_far().len(), 1);
    }
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older_is_offered() {
    let authority = Authority::new("127.0.0.1", 2100);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let acceptor = authority.acceptor(&[], versions, false);
        let server = Server::http_with(Vec::new(), Some(acceptor)).await;
        let otlp = over_tls(Protocol::HttpProtobuf, server.address, authority.trusted());
        Exporter::probe(&otlp, Signal::Traces).await.unwrap();
    }
    for protocol in PROTOCOLS {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let otlp = over_tls(protocol, address, authority.trusted());
        let probe = tokio::spawn(async move { refusal(&otlp).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        stream.read_exact(&mut hello).await.unwrap();
        // supported_versions, extension 43: two of them, 1.3 and 1.2.
        let offered = [0x00, 0x2b, 0x00, 0x05, 0x04, 0x03, 0x04, 0x03, 0x03];
        let has = |wanted: &[u8]| hello.windows(wanted.len()).any(|window| window == wanted);
        assert!(has(&offered), "{hello:02x?}");
        // A server that insists on TLS 1.1 is turned away.
        let mut answer = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
        answer.extend([7; 32]);
        answer.extend([0, 0xc0, 0x13, 0]);
        tokio::io::AsyncWriteExt::write_all(&mut stream, &answer)
            .await
            .unwrap();
        let error = probe.await.unwrap();
        assert!(error.contains("peer is incompatible"), "{error}");
    }
}

#[tokio::test]
async fn tls_goes_through_a_tunnel_of_the_proxy_to_the_backend_itself() {
    let authority = Authority::new("127.0.0.1", 2100);
    for protocol in PROTOCOLS {
        let (server, settings) = authority.server(protocol, false).await;
        let proxy = Peer::proxy("200 Connection established").await;
        let mut running = Running::start(crate::settings(OtlpSettings {
            proxy: ProxySettings::Url {
                url: proxy.address.to_string(),
                no_proxy: String::new(),
            },
            headers: vec![("api-key".into(), "secret".into())],
            ..settings
        }));
        running.send(&["a"]);
        let received = server.received(1).await;
        assert_eq!(received[0].headers["api-key"], "secret");
        assert_account(&running.end().await, 1, &[]);
        let seen = proxy.so_far();
        assert!(seen[0].starts_with(&format!("CONNECT {} HTTP/1.1\r\n", server.address)));
        assert!(
            !seen[0].contains("secret"),
            "the proxy sees no header of ours"
        );
    }
}
