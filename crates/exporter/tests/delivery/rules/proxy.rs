//! An HTTP proxy before the backend.

use std::time::Duration;

use spandrel_exporter::{Exporter, OtlpSettings, Protocol, ProxySettings, Signal};

use super::peer::{Peer, header};
use super::{otlp, server};
use crate::{Running, assert_account, settings};

/// `user:p@ss`
const AUTHORIZATION: &str = "Basic dXNlcjpwQHNz";

fn through(proxy: &Peer) -> ProxySettings {
    ProxySettings::Url {
        url: format!("http://user:p%40ss@{}", proxy.address),
        no_proxy: String::new(),
    }
}

#[tokio::test]
async fn grpc_without_tls_goes_through_a_tunnel() {
    let (server, otlp) = server(Protocol::Grpc, Vec::new()).await;
    let proxy = Peer::proxy("200 Connection established").await;
    let mut running = Running::start(settings(OtlpSettings {
        proxy: through(&proxy),
        ..otlp
    }));
    for n in 1..=3 {
        running.send(&["a"]);
        server.received(n).await;
    }
    assert_account(&running.end().await, 3, &[]);
    let seen = proxy.so_far();
    assert_eq!(seen.len(), 1, "one tunnel for all requests");
    assert!(seen[0].starts_with(&format!("CONNECT {} HTTP/1.1\r\n", server.address)));
    assert_eq!(header(&seen[0], "proxy-authorization"), Some(AUTHORIZATION));
}

#[tokio::test]
async fn http_without_tls_is_asked_of_the_proxy_with_the_whole_url() {
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        let proxy = Peer::proxy("200 OK").await;
        // The backend's name is the proxy's to resolve.
        let mut running = Running::start(settings(OtlpSettings {
            proxy: through(&proxy),
            headers: vec![("api-key".into(), "secret".into())],
            ..otlp(protocol, "backend.example:4318")
        }));
        running.send(&["a"]);
        let seen = proxy.seen(1).await;
        let url = "POST http://backend.example:4318/v1/traces HTTP/1.1\r\n";
        assert!(seen[0].starts_with(url), "{}", seen[0]);
        assert_eq!(header(&seen[0], "host"), Some("backend.example:4318"));
        assert_eq!(header(&seen[0], "proxy-authorization"), Some(AUTHORIZATION));
        assert_eq!(header(&seen[0], "api-key"), Some("secret"));
        assert_account(&running.end().await, 1, &[]);
    }
}

#[tokio::test]
async fn what_no_proxy_names_is_reached_without_it() {
    for protocol in super::PROTOCOLS {
        let (server, otlp) = server(protocol, Vec::new()).await;
        let proxy = Peer::proxy("200 OK").await;
        let url = format!("http://{}", proxy.address);
        for setting in [
            ProxySettings::Direct,
            ProxySettings::Url {
                url,
                no_proxy: "example.org, 127.0.0.0/8".into(),
            },
        ] {
            let mut running = Running::start(settings(OtlpSettings {
                proxy: setting,
                ..otlp.clone()
            }));
            running.send(&["a"]);
            assert_account(&running.end().await, 1, &[]);
        }
        assert_eq!(server.so_far().len(), 2);
        assert!(proxy.so_far().is_empty());
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_its_answer_and_without_our_credentials() {
    for (answer, word) in [
        ("407 Proxy Authentication Required", "user and password"),
        ("403 Forbidden", "403 Forbidden"),
        ("nonsense", "nonsense"),
    ] {
        let proxy = Peer::proxy(answer).await;
        for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
            let mut settings = otlp(protocol, "backend.example:4317");
            settings.endpoint = settings.endpoint.replace("http:", "https:");
            settings.proxy = through(&proxy);
            settings.timeout = Duration::from_secs(5);
            let error = Exporter::probe(&settings, Signal::Traces)
                .await
                .unwrap_err()
                .to_string();
            let place = format!("proxy {}", proxy.address);
            assert!(error.contains(&place) && error.contains(word), "{error}");
            assert!(
                !error.contains("p@ss") && !error.contains("p%40ss"),
                "{error}"
            );
            assert!(!format!("{settings:?}").contains("p%40ss"));
        }
    }
}

#[tokio::test]
async fn what_is_no_proxy_stops_the_start_and_not_each_request() {
    let settings = OtlpSettings {
        proxy: ProxySettings::Url {
            url: "socks5://user:secret@host:1080".into(),
            no_proxy: String::new(),
        },
        ..otlp(Protocol::Grpc, "backend:4317")
    };
    let error = Exporter::probe(&settings, Signal::Traces)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("proxy.url") && !error.contains("secret"),
        "{error}"
    );
}
