//! The Docker API over its unix socket, as Docker Engine and Podman speak it.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::description::{Description, InPod, text, texts};
use crate::failure::Failure;

/// Longest answer that is read; one about a container has some 5 KB.
const MAX_ANSWER: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: String,
    labels: Option<HashMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Image {
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
}

/// Asks about one container. An image that is gone meanwhile costs its tags and digests only.
pub(crate) async fn describe(socket: &Path, id: &str) -> Result<Description, Failure> {
    let mut connection = Connection::open(socket).await?;
    let container: Container = connection.get(&format!("containers/{id}/json")).await?;
    // It resolves names and beginnings of ids as well.
    if container.id != id {
        return Err(Failure::Malformed);
    }
    let image_id = text(Some(&container.image)).filter(|it| is_plain(it));
    let image: Image = match &image_id {
        Some(image) => connection
            .get(&format!("images/{image}/json"))
            .await
            .unwrap_or_default(),
        None => Image::default(),
    };
    let labels = container.config.labels.unwrap_or_default();
    Ok(Description {
        runtime: connection.runtime,
        name: text(Some(container.name.trim_start_matches('/'))),
        image: text(Some(&container.config.image)),
        image_id,
        repo_tags: texts(image.repo_tags.unwrap_or_default()),
        repo_digests: texts(image.repo_digests.unwrap_or_default()),
        pod: InPod::from_labels(&labels),
    })
}

/// Goes into a path as it is.
fn is_plain(id: &str) -> bool {
    id.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b':')
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// What stands before each path: the newest version that the server has, as unversioned paths are on their way out.
    version: String,
    runtime: &'static str,
}

impl Connection {
    async fn open(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| Failure::of_connecting(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Failure::Unavailable)?;
        // Ends with the sender; what breaks it is told to the request.
        tokio::spawn(async move { drop(connection.await) });
        let mut connection = Self {
            sender,
            version: String::new(),
            runtime: "docker",
        };
        let (headers, _) = connection.send("/_ping").await?;
        if headers.contains_key("libpod-api-version") {
            connection.runtime = "podman";
        }
        let version = headers.get("api-version").and_then(|it| it.to_str().ok());
        let numbered = |it: &&str| it.bytes().all(|it| it.is_ascii_digit() || it == b'.');
        if let Some(version) = version.filter(numbered) {
            connection.version = format!("/v{version}");
        }
        Ok(connection)
    }

    async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let path = format!("{}/{path}", self.version);
        let (_, body) = self.send(&path).await?;
        serde_json::from_slice(&body).map_err(|_| Failure::Malformed)
    }

    async fn send(&mut self, path: &str) -> Result<(HeaderMap, Bytes), Failure> {
        let request = Request::get(path)
            .header(http::header::HOST, "localhost")
            .body(Empty::new())
            .map_err(|_| Failure::Malformed)?;
        // Between two requests of a connection.
        self.sender
            .ready()
            .await
            .map_err(|_| Failure::Unavailable)?;
        let answer = self.sender.send_request(request).await.map_err(of_hyper)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Failure::NotFound),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Failure::Denied),
            _ => return Err(Failure::Refused),
        }
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::TooLarge
            } else {
                Failure::Unavailable
            }
        })?;
        Ok((head.headers, body.to_bytes()))
    }
}

fn of_hyper(error: hyper::Error) -> Failure {
    if error.is_parse() {
        Failure::Malformed
    } else {
        Failure::Unavailable
    }
}
