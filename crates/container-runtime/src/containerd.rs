//! containerd's API: gRPC over its unix socket.

use std::collections::HashMap;
use std::path::Path;

use prost::Message;

use crate::description::{Description, InPod, text};
use crate::failure::Failure;
use crate::grpc::Client;

/// Most namespaces that are searched for a container.
const MAX_NAMESPACES: usize = 32;
/// Docker's containers: it keeps names and images to itself, and its own API tells them.
const DOCKERS: &str = "moby";
/// The header that says in which namespace a question is meant.
const NAMESPACE: &str = "containerd-namespace";

// The few messages that are wanted, each with the members that are wanted, by containerd's own definitions
// (api/services/{namespaces,containers,images}/v1).

#[derive(Clone, PartialEq, Message)]
struct ListNamespacesRequest {}

#[derive(Clone, PartialEq, Message)]
struct ListNamespacesResponse {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct GetContainerRequest {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct GetContainerResponse {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
    #[prost(string, tag = "3")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct GetImageRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct GetImageResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(message, optional, tag = "3")]
    target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(string, tag = "2")]
    digest: String,
}

/// Asks about one container, in each namespace. An image that is gone meanwhile costs its digest only.
pub(crate) async fn describe(socket: &Path, id: &str) -> Result<Description, Failure> {
    let mut client = Client::connect(socket).await?;
    let list = "/containerd.services.namespaces.v1.Namespaces/List";
    let found: ListNamespacesResponse = client.call(list, ListNamespacesRequest {}).await?;
    let namespaces = found.namespaces.into_iter().map(|namespace| namespace.name);
    for namespace in namespaces.filter(|it| it != DOCKERS).take(MAX_NAMESPACES) {
        let wanted = GetContainerRequest { id: id.to_owned() };
        let get = "/containerd.services.containers.v1.Containers/Get";
        let found: Result<GetContainerResponse, _> =
            client.call_with((NAMESPACE, &namespace), get, wanted).await;
        let container = match found {
            Ok(found) => found.container.ok_or(Failure::Malformed)?,
            Err(Failure::NotFound) => continue,
            Err(failure) => return Err(failure),
        };
        if container.id != id {
            return Err(Failure::Malformed);
        }
        let digest = digest_of(&mut client, &namespace, &container.image).await;
        return Ok(described(&container, digest));
    }
    Err(Failure::NotFound)
}

fn described(container: &Container, digest: Option<String>) -> Description {
    let image = text(Some(&container.image));
    let by_digest = image.as_deref().zip(digest);
    let by_digest = by_digest.map(|(image, digest)| format!("{}@{digest}", repository(image)));
    Description {
        runtime: "containerd",
        name: text(container.labels.get("nerdctl/name").map(String::as_str)),
        // containerd has no id of an image but its name and what that points at.
        image_id: None,
        image,
        repo_tags: Vec::new(),
        repo_digests: by_digest.into_iter().collect(),
        pod: InPod::from_labels(&container.labels),
    }
}

/// A reference without tag and digest. The colon of a port stands before a slash.
fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

async fn digest_of(client: &mut Client, namespace: &str, image: &str) -> Option<String> {
    if image.is_empty() {
        return None;
    }
    let name = image.to_owned();
    let get = "/containerd.services.images.v1.Images/Get";
    let found: GetImageResponse = client
        .call_with((NAMESPACE, namespace), get, GetImageRequest { name })
        .await
        .ok()?;
    text(Some(&found.image?.target?.digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_the_images_repository() {
        for (image, expected) in [
            (
                "docker.io/library/nginx:1.27",
                "docker.io/library/nginx@sha256:d",
            ),
            ("registry:5000/shop", "registry:5000/shop@sha256:d"),
            (
                "registry:5000/shop:1@sha256:old",
                "registry:5000/shop@sha256:d",
            ),
        ] {
            let container = Container {
                image: image.to_owned(),
                ..Container::default()
            };
            let found = described(&container, Some("sha256:d".to_owned()));
            assert_eq!(found.repo_digests, [expected]);
        }
    }
}
