//! What a runtime says of a container.

use std::collections::HashMap;

/// Longest text that is taken over, in bytes; a longer one is left out.
const MAX_TEXT: usize = 4096;
/// Most tags, and most digests, of an image.
const MAX_LIST: usize = 32;

/// A container as its runtime knows it. What the runtime does not say is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The runtime, as `container.runtime.name` spells it.
    pub runtime: &'static str,
    /// The name that somebody, or Docker itself, gave the container.
    pub name: Option<String>,
    /// The image as it was asked for: a reference, or a bare id.
    pub image: Option<String>,
    /// The runtime's own id of the image: `sha256:` and 64 digits with Docker.
    pub image_id: Option<String>,
    /// `repository:tag` of this image.
    pub repo_tags: Vec<String>,
    /// `repository@digest` of this image.
    pub repo_digests: Vec<String>,
    /// What a kubelet wrote on it.
    pub pod: Option<InPod>,
}

/// The labels with which a kubelet marks the containers that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPod {
    /// `io.kubernetes.pod.namespace`.
    pub namespace: String,
    /// `io.kubernetes.pod.name`.
    pub pod: String,
    /// `io.kubernetes.pod.uid`.
    pub uid: String,
    /// `io.kubernetes.container.name`.
    pub container: String,
}

impl InPod {
    /// `None` unless all four are there.
    pub(crate) fn from_labels(labels: &HashMap<String, String>) -> Option<Self> {
        let label = |key: &str| text(labels.get(key).map(String::as_str));
        Some(Self {
            namespace: label("io.kubernetes.pod.namespace")?,
            pod: label("io.kubernetes.pod.name")?,
            uid: label("io.kubernetes.pod.uid")?,
            container: label("io.kubernetes.container.name")?,
        })
    }
}

/// A text that is neither empty nor too long.
pub(crate) fn text(found: Option<&str>) -> Option<String> {
    let fits = |text: &&str| !text.is_empty() && text.len() <= MAX_TEXT;
    found.filter(fits).map(str::to_owned)
}

/// The texts of a list that are neither empty nor too long, up to a number.
pub(crate) fn texts(found: Vec<String>) -> Vec<String> {
    let fits = |text: &String| !text.is_empty() && text.len() <= MAX_TEXT;
    found.into_iter().filter(fits).take(MAX_LIST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_or_too_long_is_left_out() {
        assert_eq!(text(Some("web")).as_deref(), Some("web"));
        assert_eq!(text(Some("")), None);
        assert_eq!(text(Some(&"a".repeat(MAX_TEXT + 1))), None);
        let many = vec!["a".to_owned(); MAX_LIST + 1];
        assert_eq!(texts(many).len(), MAX_LIST);
    }

    #[test]
    fn a_pod_is_told_by_all_four_labels_or_not_at_all() {
        let labels = |count: usize| -> HashMap<String, String> {
            [
                ("io.kubernetes.pod.namespace", "shop"),
                ("io.kubernetes.pod.name", "web-1"),
                ("io.kubernetes.pod.uid", "u"),
                ("io.kubernetes.container.name", "app"),
            ]
            .iter()
            .take(count)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
        };
        assert_eq!(InPod::from_labels(&labels(3)), None);
        let found = InPod::from_labels(&labels(4));
        assert_eq!(found.map(|it| it.container).as_deref(), Some("app"));
    }
}
