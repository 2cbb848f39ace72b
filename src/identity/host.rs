//! The host: what all resources of a run share.

use std::collections::HashMap;
use std::path::Path;

use spandrel_model::{Attribute, Text};

use super::procfs::text;

const MAX_FILE: u64 = 1024 * 1024;

/// Facts of the host, read once.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// `host.*`, `os.*` and `k8s.node.name`.
    pub(super) attributes: Vec<Attribute>,
    /// Makes instance ids of two hosts different.
    pub(super) machine: String,
    /// Makes those of two hosts and of two boots different.
    pub(super) namespace: String,
    users: HashMap<u32, String>,
}

impl Host {
    /// Reads the host below a proc root and an `/etc`. On Kubernetes `node` names it: the host name of a pod is the
    /// pod's own, and a new one after each restart. What `extra` says of the host goes before all of that.
    pub(super) fn read(
        proc_root: &Path,
        etc: &Path,
        node: Option<&str>,
        extra: &[Attribute],
    ) -> Self {
        let line = |path: &Path| {
            text(path, MAX_FILE)
                .map(|content| content.trim().to_owned())
                .filter(|content| !content.is_empty())
        };
        let id = line(&etc.join("machine-id"));
        let name = node.map(str::to_owned);
        let name = name.or_else(|| line(&proc_root.join("sys/kernel/hostname")));
        let boot = line(&proc_root.join("sys/kernel/random/boot_id"));
        let release = text(&etc.join("os-release"), MAX_FILE).unwrap_or_default();
        let mut attributes = vec![
            Attribute::new("os.type", "linux"),
            Attribute::new("host.arch", architecture()),
        ];
        let known = [
            ("host.id", id.clone()),
            ("host.name", name.clone()),
            ("k8s.node.name", node.map(str::to_owned)),
            ("os.name", release_field(&release, "NAME")),
            ("os.version", release_field(&release, "VERSION_ID")),
        ];
        for (key, value) in known {
            attributes.extend(value.map(|value| Attribute::new(key, value)));
        }
        attributes.retain(|own| extra.iter().all(|said| said.key != own.key));
        let machine = id.or(name).unwrap_or_default();
        Self {
            attributes,
            namespace: format!("{machine}/{}", boot.unwrap_or_default()),
            machine,
            users: users(&text(&etc.join("passwd"), MAX_FILE).unwrap_or_default()),
        }
    }

    /// The name of a user of the host.
    pub(super) fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }
}

/// The architecture in the words of the semantic conventions.
fn architecture() -> Text {
    Text::from_static(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "x86",
        "arm" => "arm32",
        "powerpc64" => "ppc64",
        other => other,
    })
}

fn release_field(release: &str, key: &str) -> Option<String> {
    release.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    })
}

/// The first name of each user id, as `getpwuid` gives it.
fn users(passwd: &str) -> HashMap<u32, String> {
    let mut users = HashMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}
