//! One call after the other over gRPC on a unix socket.

use std::path::Path;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::failure::Failure;

/// Longest answer that is read: a container comes with its whole specification.
const MAX_ANSWER: usize = 1 << 20;

/// A server that is connected to.
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    pub(crate) async fn connect(socket: &Path) -> Result<Self, Failure> {
        // Connected here, as the channel would tell of a failure in words only.
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| Failure::of_connecting(&error))?;
        let mut stream = Some(stream);
        let once = tower::service_fn(move |_| {
            let stream = stream.take().map(TokioIo::new);
            std::future::ready(stream.ok_or_else(|| std::io::Error::other("it broke")))
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(once)
            .await
            .map_err(|_| Failure::Unavailable)?;
        Ok(Self(
            Grpc::new(channel).max_decoding_message_size(MAX_ANSWER),
        ))
    }

    pub(crate) async fn call<Q, A>(
        &mut self,
        method: &'static str,
        question: Q,
    ) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.send(method, Request::new(question)).await
    }

    /// The same with a header.
    pub(crate) async fn call_with<Q, A>(
        &mut self,
        (key, value): (&'static str, &str),
        method: &'static str,
        question: Q,
    ) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut request = Request::new(question);
        let value = AsciiMetadataValue::try_from(value).map_err(|_| Failure::Malformed)?;
        request.metadata_mut().insert(key, value);
        self.send(method, request).await
    }

    async fn send<Q, A>(&mut self, method: &'static str, request: Request<Q>) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.map_err(|_| Failure::Unavailable)?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = self
            .0
            .unary(request, PathAndQuery::from_static(method), codec)
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| of_status(&status))
    }
}

fn of_status(status: &Status) -> Failure {
    match status.code() {
        Code::NotFound => Failure::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => Failure::Denied,
        Code::Unavailable | Code::Cancelled => Failure::Unavailable,
        Code::DeadlineExceeded => Failure::Timeout,
        Code::OutOfRange | Code::ResourceExhausted => Failure::TooLarge,
        Code::Internal | Code::DataLoss | Code::Unknown => Failure::Malformed,
        _ => Failure::Refused,
    }
}
