//! Recorded conversations and what they must give: `testdata/<protocol>/<case>.in.txt` and `.out.txt`.
//!
//! `BLESS=1 cargo test -p spandrel-protocols --test golden` rewrites the expected files; review the difference.
#![allow(clippy::unwrap_used, clippy::panic)]

mod script;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn crate_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_recorded_conversation_gives_what_is_written_beside_it() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut failures = Vec::new();
    let mut cases = 0;
    for protocol in names(&crate_file("testdata")) {
        let folder = crate_file("testdata").join(&protocol);
        for name in names(&folder) {
            let Some(case) = name.strip_suffix(".in.txt") else {
                assert!(
                    name.ends_with(".out.txt"),
                    "{protocol}/{name} is neither input nor output"
                );
                continue;
            };
            cases += 1;
            let input = fs::read_to_string(folder.join(&name)).unwrap();
            let found = script::run(&input).render();
            let expected_path = folder.join(format!("{case}.out.txt"));
            if bless {
                fs::write(&expected_path, &found).unwrap();
                continue;
            }
            let expected = fs::read_to_string(&expected_path).unwrap_or_default();
            if found != expected {
                failures.push(format!(
                    "{protocol}/{case}: expected\n{expected}\nfound\n{found}"
                ));
            }
        }
    }
    assert!(cases > 0, "there is no testdata");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_protocol_registry_is_complete() {
    let source = crate_file("src");
    let registry = fs::read_to_string(source.join("registry.rs")).unwrap();
    let folders: BTreeSet<_> = names(&source)
        .into_iter()
        .filter(|name| source.join(name).is_dir())
        .collect();
    assert!(folders.contains("http1"));
    for name in &folders {
        assert!(
            registry.contains(&format!("crate::{name}::")),
            "src/{name} is not in registry.rs"
        );
        let cases = names(&crate_file("testdata").join(name));
        for kind in ["good", "truncated", "foreign"] {
            assert!(
                cases.iter().any(|case| case.starts_with(kind)),
                "testdata/{name} has no case that begins with `{kind}`"
            );
        }
        // One document may serve several versions of a protocol: http.md is for http1.
        let document = name.trim_end_matches(|char: char| char.is_ascii_digit());
        let path = crate_file("../../docs/protocols").join(format!("{document}.md"));
        assert!(path.is_file(), "{} is missing", path.display());
    }
    let tested: BTreeSet<_> = names(&crate_file("testdata"));
    assert_eq!(tested, folders, "each folder of testdata is a protocol");
}
