//! Connections that tell why they broke: hyper says of a request that still waited only that its connection is closed.
//!
//! With TLS 1.3 a server refuses a client's certificate after the handshake, and so after the request was handed over.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower_service::Service;

/// How the youngest connection of a client broke, if it did.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastError(Arc<Mutex<Option<String>>>);

impl LastError {
    /// In words.
    pub(super) fn text(&self) -> Option<String> {
        self.lock().clone()
    }

    fn note(&self, error: &io::Error) {
        // What comes after it, such as a broken pipe, is a consequence.
        self.lock().get_or_insert_with(|| error.to_string());
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes connections that note how they break.
#[derive(Clone, Debug)]
pub(crate) struct Watched<C> {
    pub(super) connector: C,
    pub(super) last_error: LastError,
}

impl<C> Service<Uri> for Watched<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = WatchedStream<C::Response>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, endpoint: Uri) -> Self::Future {
        let connect = self.connector.call(endpoint);
        let last_error = self.last_error.clone();
        Box::pin(async move {
            let stream = connect.await?;
            last_error.lock().take();
            Ok(WatchedStream {
                stream,
                last_error,
                read: VecDeque::new(),
                broken: None,
            })
        })
    }
}

/// A connection that notes how it breaks.
#[derive(Debug)]
pub(crate) struct WatchedStream<T> {
    stream: T,
    last_error: LastError,
    /// What was read while looking for the reason of an error.
    read: VecDeque<u8>,
    /// An error of which the reason is not known yet.
    broken: Option<io::Error>,
}

impl<T: Read + Unpin> WatchedStream<T> {
    /// Waits until the reason of the error that was found is known, if there was one.
    fn broken<W>(&mut self, context: &mut Context<'_>) -> Option<Poll<io::Result<W>>> {
        let error = self.broken.take()?;
        Some(self.watch(context, Poll::Ready(Err(error))))
    }

    /// A write that fails finds the connection closed. Why, the other side has said before it closed it.
    fn watch<W>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<W>>,
    ) -> Poll<io::Result<W>> {
        let error = match written {
            Poll::Ready(Err(error)) => error,
            fine => return fine,
        };
        let mut bytes = [0; 4096];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(context, buffer.unfilled()) {
            Poll::Ready(Err(reason)) => self.last_error.note(&reason),
            Poll::Ready(Ok(())) => self.read.extend(buffer.filled()),
            // The runtime has not seen yet that the other side is gone; it will.
            Poll::Pending if is_gone(&error) => {
                self.broken = Some(error);
                return Poll::Pending;
            }
            Poll::Pending => {}
        }
        self.last_error.note(&error);
        Poll::Ready(Err(error))
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset
    )
}

impl<T: Connection> Connection for WatchedStream<T> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl<T: Read + Unpin> Read for WatchedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let bytes = self.read.make_contiguous();
            let taken = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..taken]);
            self.read.drain(..taken);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read {
            self.last_error.note(error);
        }
        read
    }
}

impl<T: Read + Write + Unpin> Write for WatchedStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(broken) = self.broken(context) {
            return broken;
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(broken) = self.broken(context) {
            return broken;
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
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
        if let Some(broken) = self.broken(context) {
            return broken;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }
}
