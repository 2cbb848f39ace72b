//! One name of a control group's path: container, monitor, pod, unit or something else.

use super::{Container, PodRef, Runtime};

pub(super) enum Segment {
    Container(Container),
    Monitor,
    Unit,
    Other,
}

/// A misconfigured containerd puts pod and container into one name, hence the pair.
pub(super) fn classify(name: &str, parent: Option<&str>) -> (Option<PodRef>, Segment) {
    if let Some((pod, rest)) = name.split_once(':') {
        let (runtime, id) = rest.rsplit_once(':').unwrap_or(("", rest));
        if is_container_id(id) {
            return (pod_of(pod), container(id, runtime_of(runtime)));
        }
    }
    if let Some(pod) = pod_of(name) {
        return (Some(pod), Segment::Other);
    }
    (None, plain(name, parent))
}

fn plain(name: &str, parent: Option<&str>) -> Segment {
    if is_container_id(name) {
        return container(name, parent.and_then(runtime_of));
    }
    if let Some(name) = name.strip_prefix("lxc.payload.").filter(|it| named(it)) {
        return container(name, Some(Runtime::Lxc));
    }
    if name.starts_with("lxc.monitor.") {
        return Segment::Monitor;
    }
    if parent == Some("lxc") && named(name) {
        return container(name, Some(Runtime::Lxc));
    }
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    if let Some((prefix, id)) = bare.rsplit_once('-')
        && is_container_id(id)
    {
        return if prefix.ends_with("conmon") {
            Segment::Monitor
        } else {
            container(id, runtime_of(prefix))
        };
    }
    if name.ends_with(".service") || name.ends_with(".scope") {
        Segment::Unit
    } else {
        Segment::Other
    }
}

fn container(id: &str, runtime: Option<Runtime>) -> Segment {
    Segment::Container(Container {
        id: id.to_owned(),
        runtime,
    })
}

fn named(name: &str) -> bool {
    !name.is_empty()
}

/// From the prefix of a scope, or the directory above a bare id.
fn runtime_of(name: &str) -> Option<Runtime> {
    match name {
        "cri-containerd" | "nerdctl" | "k8s.io" | "default" => Some(Runtime::Containerd),
        "crio" => Some(Runtime::CriO),
        "docker" => Some(Runtime::Docker),
        "libpod" | "libpod-payload" | "libpod_parent" => Some(Runtime::Podman),
        _ => None,
    }
}

fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_hex)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// `pod<uid>` (cgroupfs) or `...kubepods...-pod<uid>.slice` (systemd, where the uid has underscores). The prefix of
/// the slice is not tested from its start: kind's kubelet puts `kubelet-` before it.
fn pod_of(name: &str) -> Option<PodRef> {
    let text = match name.strip_suffix(".slice") {
        Some(slice) => {
            let (prefix, text) = slice.rsplit_once("-pod")?;
            prefix.contains("kubepods").then_some(text)?
        }
        None => name.strip_prefix("pod")?,
    };
    if text.len() == 32 && text.bytes().all(is_hex) {
        return Some(PodRef::ConfigHash(text.to_owned()));
    }
    is_uid(text).then(|| PodRef::Uid(text.replace('_', "-")))
}

fn is_uid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => matches!(byte, b'-' | b'_'),
            _ => is_hex(byte),
        })
}
