//! The Container Runtime Interface of Kubernetes, as CRI-O speaks it: gRPC over its unix socket.

use std::collections::HashMap;
use std::path::Path;

use prost::Message;

use crate::description::{Description, InPod, text, texts};
use crate::failure::Failure;
use crate::grpc::Client;

// The few messages that are wanted, each with the members that are wanted, by Kubernetes' own definitions
// (k8s.io/cri-api, runtime.v1).

#[derive(Clone, PartialEq, Message)]
struct ContainerStatusRequest {
    #[prost(string, tag = "1")]
    container_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatus {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "8")]
    image: Option<ImageSpec>,
    /// A digest of the repository, or an id.
    #[prost(string, tag = "9")]
    image_ref: String,
    #[prost(map = "string, string", tag = "12")]
    labels: HashMap<String, String>,
    /// Since Kubernetes 1.29.
    #[prost(string, tag = "17")]
    image_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "2")]
    repo_tags: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    repo_digests: Vec<String>,
}

/// Asks about one container. An image that is gone meanwhile costs its own id, tags and digests only.
pub(crate) async fn describe(socket: &Path, id: &str) -> Result<Description, Failure> {
    let mut client = Client::connect(socket).await?;
    let container_id = id.to_owned();
    let found: ContainerStatusResponse = client
        .call(
            "/runtime.v1.RuntimeService/ContainerStatus",
            ContainerStatusRequest { container_id },
        )
        .await?;
    let container = found.status.ok_or(Failure::Malformed)?;
    // It resolves beginnings of ids as well.
    if container.id != id {
        return Err(Failure::Malformed);
    }
    let image = image_of(&mut client, &container).await.unwrap_or_default();
    Ok(described(container, image))
}

async fn image_of(client: &mut Client, container: &ContainerStatus) -> Option<Image> {
    let named = container.image.as_ref().map_or("", |spec| &spec.image);
    let known = [&container.image_id, &container.image_ref, named];
    let image = known.into_iter().find(|text| !text.is_empty())?.to_owned();
    let question = ImageStatusRequest {
        image: Some(ImageSpec { image }),
    };
    let method = "/runtime.v1.ImageService/ImageStatus";
    let found: ImageStatusResponse = client.call(method, question).await.ok()?;
    found.image
}

fn described(container: ContainerStatus, image: Image) -> Description {
    let asked_for = container.image.map(|spec| spec.image);
    let pod = InPod::from_labels(&container.labels);
    // Within a pod this is what Kubernetes calls it, and the pod's own attributes say it.
    let name = container.metadata.filter(|_| pod.is_none());
    Description {
        runtime: "cri-o",
        name: text(name.as_ref().map(|it| it.name.as_str())),
        image: text(asked_for.as_deref()).filter(|image| !is_bare_id(image)),
        image_id: text(Some(&image.id)).or_else(|| text(Some(&container.image_id))),
        repo_tags: texts(image.repo_tags),
        repo_digests: texts(image.repo_digests),
        pod,
    }
}

/// CRI-O's ids have no `sha256:` before them, and would pass for names.
fn is_bare_id(image: &str) -> bool {
    image.len() == 64 && image.bytes().all(|byte| byte.is_ascii_hexdigit())
}
