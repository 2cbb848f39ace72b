//! Names of scripts, modules and directories, and which of them tell something.

use std::path::{Component, Path, PathBuf};

/// File, module and class names that every second program has.
const GENERIC: &[&str] = &[
    "__main__",
    "app",
    "application",
    "asgi",
    "bin",
    "boot",
    "bootstrap",
    "cli",
    "dist",
    "entrypoint",
    "index",
    "launcher",
    "main",
    "manage",
    "program",
    "run",
    "serve",
    "server",
    "start",
    "startup",
    "wsgi",
    "www",
];

/// Directories that say nothing about what is in them.
const GENERIC_FOLDERS: &[&str] = &[
    "app",
    "apps",
    "bin",
    "build",
    "cmd",
    "code",
    "current",
    "dist",
    "home",
    "html",
    "lib",
    "local",
    "opt",
    "out",
    "public",
    "release",
    "releases",
    "root",
    "sbin",
    "scripts",
    "server",
    "src",
    "srv",
    "target",
    "tmp",
    "usr",
    "var",
    "work",
    "workspace",
    "www",
];

const SCRIPT_ENDINGS: &[&str] = &[
    "bash", "cjs", "dll", "jar", "js", "mjs", "mts", "php", "pl", "py", "pyc", "pyz", "rb", "sh",
    "ts", "tsx", "war",
];

/// Whether a file name looks like a script's.
pub(in crate::identity) fn is_script(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(stem, ending)| !stem.is_empty() && SCRIPT_ENDINGS.contains(&ending))
}

/// The stem of a script, or the nearest directory with a telling name where the stem is a common one.
pub(in crate::identity) fn name_of_script(script: &str, directory: Option<&Path>) -> String {
    let name = without_version(stem(script));
    if !is_generic(name) {
        return name.to_owned();
    }
    let path = match directory {
        Some(directory) => directory.join(script),
        None => PathBuf::from(script),
    };
    folder_name(path.parent()).unwrap_or_else(|| name.to_owned())
}

/// The last telling part of a dotted name, else the directory, else the last part.
pub(super) fn name_of_module(module: &str, directory: Option<&Path>) -> String {
    let telling = module
        .rsplit(['.', '/', '$'])
        .find(|part| !part.is_empty() && !is_generic(part));
    let last = || module.rsplit('.').next().unwrap_or(module).to_owned();
    match telling {
        // `com.Main`: the rest is only the top of the naming scheme.
        Some("com" | "org" | "net" | "io") | None => folder_name(directory).unwrap_or_else(last),
        Some(name) => name.to_owned(),
    }
}

fn is_generic(name: &str) -> bool {
    GENERIC
        .iter()
        .any(|generic| generic.eq_ignore_ascii_case(name))
}

/// The file name without a script's ending.
pub(super) fn stem(script: &str) -> &str {
    let name = script.rsplit('/').next().unwrap_or(script);
    if is_script(name) {
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    } else {
        name
    }
}

/// `shop-1.2.3-SNAPSHOT` is `shop`.
fn without_version(name: &str) -> &str {
    let digit = |at: usize| name.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
    name.match_indices('-')
        .find(|(at, _)| *at > 0 && digit(*at))
        .and_then(|(at, _)| name.get(..at))
        .unwrap_or(name)
}

/// The nearest directory upwards whose name tells something.
pub(super) fn folder_name(directory: Option<&Path>) -> Option<String> {
    let telling = |name: &&str| {
        !GENERIC_FOLDERS.contains(name)
            && !name.starts_with('.')
            && name.chars().any(char::is_alphabetic)
    };
    directory?
        .components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .find(telling)
        .map(str::to_owned)
}
