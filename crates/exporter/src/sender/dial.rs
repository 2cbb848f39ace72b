//! TCP connections to an endpoint, straight or through an HTTP proxy.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_service::Service;

use super::proxy::Proxy;

/// Longest answer to `CONNECT` that is read.
const MAX_ANSWER: usize = 8 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections for one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(super) tcp: HttpConnector,
    pub(super) proxy: Option<Arc<Proxy>>,
    /// Ask the proxy for a connection to the endpoint, in place of sending it requests with whole URLs.
    pub(super) tunnel: bool,
    pub(super) timeout: Duration,
}

impl Service<Uri> for Dialer {
    type Response = Dialed;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, endpoint: Uri) -> Self::Future {
        let Some(proxy) = self.proxy.clone() else {
            let connect = self.tcp.call(endpoint);
            return Box::pin(async move {
                Ok(Dialed {
                    stream: connect.await?,
                    is_proxied: false,
                })
            });
        };
        let connect = self.tcp.call(proxy.uri.clone());
        let (tunnel, timeout) = (self.tunnel, self.timeout);
        Box::pin(async move {
            let through = |what: String| -> BoxError {
                let place = proxy.uri.authority().map_or("", |place| place.as_str());
                format!("proxy {place}: {what}").into()
            };
            let mut stream = match connect.await {
                Ok(stream) => stream,
                Err(error) => return Err(through(super::with_causes(&error))),
            };
            if tunnel {
                tokio::time::timeout(timeout, open_tunnel(stream.inner_mut(), &proxy, &endpoint))
                    .await
                    .map_err(|_| through(format!("no answer to CONNECT within {timeout:?}")))?
                    .map_err(through)?;
            }
            Ok(Dialed {
                stream,
                is_proxied: !tunnel,
            })
        })
    }
}

/// Asks for a connection to the endpoint. Reads byte by byte: what follows the answer is the endpoint's already.
async fn open_tunnel(stream: &mut TcpStream, proxy: &Proxy, endpoint: &Uri) -> Result<(), String> {
    let host = endpoint.host().unwrap_or_default();
    let is_https = endpoint.scheme_str() == Some("https");
    let port = endpoint
        .port_u16()
        .unwrap_or(if is_https { 443 } else { 80 });
    let mut request =
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(value) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let failed = |error: io::Error| format!("the connection broke during CONNECT: {error}");
    stream.write_all(&request).await.map_err(failed)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_ANSWER {
            return Err(format!(
                "its answer to CONNECT is longer than {MAX_ANSWER} bytes"
            ));
        }
        answer.push(stream.read_u8().await.map_err(failed)?);
    }
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let is_http = words
        .next()
        .is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next().and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=299) if is_http => Ok(()),
        Some(407) if is_http => Err(format!(
            "{line:?} to CONNECT: put user and password into the URL of the proxy"
        )),
        _ => Err(format!("{line:?} to CONNECT {host}:{port}")),
    }
}

/// A connection, which knows whether a proxy is at its other end.
#[derive(Debug)]
pub(crate) struct Dialed {
    stream: TokioIo<TcpStream>,
    is_proxied: bool,
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.is_proxied)
    }
}

impl Read for Dialed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Dialed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
