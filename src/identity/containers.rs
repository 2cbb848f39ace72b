//! Identity from the runtime of a container: names and images where the API server does not tell them.

use std::sync::Arc;

use spandrel_container_runtime::{Answer, Api, Description, InPod, Names};
use spandrel_k8s_meta::cgroup::{Placement, Runtime};
use spandrel_k8s_meta::image::Reference;
use spandrel_model::{Attribute, ProcessKey, Resource, UnixTime, Value};

use super::{Identities, Whose};

/// Of these a runtime, and what was measured, know better than the environment of a program.
const KNOWN_BETTER: [&str; 4] = ["container.", "k8s.", "process.", "telemetry."];

impl Identities {
    /// From now on the runtimes of containers are asked as well.
    pub fn with_containers(&mut self, names: Names) {
        self.containers = Some(names);
    }

    /// Takes in what was read, and what the API server and container runtimes have told. Whether anything is new; `None` where nobody is asked.
    pub fn take_in(&mut self, now: UnixTime) -> Option<bool> {
        let pods = self.kubernetes.as_mut().map(|pods| pods.take_in(now));
        let containers = self.containers.as_mut().map(|names| names.take_in(now.0));
        let told = [self.take_in_reads(), pods, containers];
        let asked = told.iter().any(Option::is_some);
        asked.then(|| told.contains(&Some(true)))
    }

    /// Whose something is that a process did in no pod that the API server tells of, if it is in a container: `alone` is its
    /// resource otherwise, which never waits.
    pub(super) fn in_container(
        &mut self,
        process: ProcessKey,
        place: Option<&Placement>,
        alone: Arc<Resource>,
        last: bool,
    ) -> Whose {
        let container = place.and_then(|place| place.container.as_ref());
        let (Some(_), Some(container)) = (&self.containers, container) else {
            return Whose::Known(alone);
        };
        if let Some((_, resource)) = &self.known(process, 0).in_container {
            return Whose::Known(Arc::clone(resource));
        }
        let api = match container.runtime {
            None => None,
            Some(Runtime::Containerd) => Some(Api::Containerd),
            Some(Runtime::Docker | Runtime::Podman) => Some(Api::Docker),
            Some(Runtime::CriO) => Some(Api::Cri),
            Some(Runtime::Lxc) => return Whose::Known(alone),
        };
        let names = self.containers.as_mut();
        match names.map(|names| names.look_up(&container.id, api)) {
            Some(Answer::Known(description)) => Whose::Known(self.described(process, description)),
            Some(Answer::NotYet) if !last => Whose::NotYet,
            _ => Whose::Known(alone),
        }
    }

    /// The resource of a process in a described container, kept until the process executes another program.
    fn described(&mut self, process: ProcessKey, description: Arc<Description>) -> Arc<Resource> {
        let known = self.known(process, 0);
        let alone = known.resource.attributes();
        let own_name = alone
            .iter()
            .find(|attribute| attribute.key == "service.name");
        let mut attributes: Vec<Attribute> = Vec::with_capacity(alone.len() + 12);
        // Of equal keys the first counts: what the program declares, what its runtime says, what is derived.
        attributes.extend(own_name.filter(|_| known.names_itself).cloned());
        let free = known.declared.iter().filter(|(key, _)| {
            key != "service.name" && !KNOWN_BETTER.iter().any(|prefix| key.starts_with(prefix))
        });
        attributes.extend(free.map(|(key, value)| Attribute::new(key.clone(), value.clone())));
        attributes.extend(of_description(&description));
        attributes.extend(alone.iter().cloned());
        let resource = self.instances.resource(attributes);
        if let Some(entry) = self.entries.get_mut(&process)
            && let Some(known) = &mut entry.known
        {
            known.in_container = Some((description, Arc::clone(&resource)));
        }
        resource
    }
}

/// `container.*`, and for containers of a kubelet what their labels say of the pod, by the rules for pods.
fn of_description(description: &Description) -> Vec<Attribute> {
    let mut found = vec![Attribute::new(
        "container.runtime.name",
        description.runtime,
    )];
    let mut put = |key: &'static str, value: &str| {
        if !value.is_empty() {
            found.push(Attribute::new(key, value.to_owned()));
        }
    };
    put("container.name", description.name.as_deref().unwrap_or(""));
    put(
        "container.image.id",
        description.image_id.as_deref().unwrap_or(""),
    );
    // A bare id is no name: then the image's own names tell.
    let names = description.image.iter().chain(&description.repo_tags);
    let mut names = names.chain(&description.repo_digests);
    let image = names.find_map(|text| Reference::parse(text));
    if let Some(image) = &image {
        put("container.image.name", image.name);
    }
    match &description.pod {
        Some(InPod {
            namespace,
            pod,
            uid,
            container,
        }) => {
            put("k8s.namespace.name", namespace);
            put("k8s.pod.name", pod);
            put("k8s.pod.uid", uid);
            put("k8s.container.name", container);
            put("service.name", container);
            put("service.namespace", namespace);
            put(
                "service.instance.id",
                &format!("{namespace}.{pod}.{container}"),
            );
            let version = image.as_ref().and_then(Reference::version);
            put("service.version", version.as_deref().unwrap_or(""));
        }
        None => put("service.name", description.name.as_deref().unwrap_or("")),
    }
    let mut list = |key: &'static str, values: Vec<String>| {
        if !values.is_empty() {
            let values = values.into_iter().map(Into::into).collect();
            found.push(Attribute::new(key, Value::StrArray(values)));
        }
    };
    list("container.image.tags", tags(description, image.as_ref()));
    list(
        "container.image.repo_digests",
        description.repo_digests.clone(),
    );
    found
}

/// Tags under the name that was asked for: a tag does not say whose it is.
fn tags(description: &Description, image: Option<&Reference<'_>>) -> Vec<String> {
    let Some(image) = image else {
        return Vec::new();
    };
    // Without a tag and a digest runtimes take this one.
    let latest = image.digest.is_none().then_some("latest");
    let mut tags: Vec<String> = image
        .tag
        .or(latest)
        .map(str::to_owned)
        .into_iter()
        .collect();
    for text in &description.repo_tags {
        if let Some(other) = Reference::parse(text)
            && other.name == image.name
            && let Some(tag) = other.tag
            && tags.iter().all(|known| known != tag)
        {
            tags.push(tag.to_owned());
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(attributes: &[Attribute]) -> Vec<String> {
        let resource = Resource::new(attributes.to_vec());
        let attributes = resource.attributes().iter();
        attributes
            .map(|attribute| match &attribute.value {
                Value::Str(text) => format!("{}={text}", attribute.key),
                other => format!(
                    "{}={}",
                    attribute.key,
                    serde_json::to_string(other).unwrap()
                ),
            })
            .collect()
    }

    #[test]
    fn a_container_of_docker_has_name_image_and_tags() {
        let found = of_description(&Description {
            runtime: "docker",
            name: Some("web".into()),
            image: Some("registry:5000/shop/web".into()),
            image_id: Some("sha256:1e1e".into()),
            repo_tags: [
                "registry:5000/shop/web:latest",
                "registry:5000/shop/web:7",
                "other:1",
            ]
            .map(str::to_owned)
            .to_vec(),
            repo_digests: vec!["registry:5000/shop/web@sha256:d".into()],
            pod: None,
        });
        assert_eq!(
            texts(&found),
            [
                "container.image.id=sha256:1e1e",
                "container.image.name=registry:5000/shop/web",
                r#"container.image.repo_digests=["registry:5000/shop/web@sha256:d"]"#,
                r#"container.image.tags=["latest","7"]"#,
                "container.name=web",
                "container.runtime.name=docker",
                "service.name=web",
            ]
        );
    }

    #[test]
    fn an_image_that_was_asked_for_by_its_id_is_named_by_its_own_tag() {
        let id = format!("sha256:{}", "1e".repeat(32));
        let found = of_description(&Description {
            runtime: "docker",
            image: Some(id),
            repo_tags: vec!["shop/web:1.4".into()],
            ..Description::default()
        });
        assert_eq!(
            texts(&found),
            [
                "container.image.name=shop/web",
                r#"container.image.tags=["1.4"]"#,
                "container.runtime.name=docker",
            ]
        );
    }

    #[test]
    fn a_kubelets_container_says_its_pod_and_is_called_by_the_rules_for_pods() {
        let found = of_description(&Description {
            runtime: "containerd",
            image: Some("docker.io/shop/web:1.4".into()),
            pod: Some(InPod {
                namespace: "shop".into(),
                pod: "web-0".into(),
                uid: "u".into(),
                container: "app".into(),
            }),
            ..Description::default()
        });
        assert_eq!(
            texts(&found),
            [
                "container.image.name=docker.io/shop/web",
                r#"container.image.tags=["1.4"]"#,
                "container.runtime.name=containerd",
                "k8s.container.name=app",
                "k8s.namespace.name=shop",
                "k8s.pod.name=web-0",
                "k8s.pod.uid=u",
                "service.instance.id=shop.web-0.app",
                "service.name=app",
                "service.namespace=shop",
                "service.version=1.4",
            ]
        );
    }
}
