//! The 38 rules for clients of OTLP, numbered as in docs/export.md, each against a scripted server. What is a rule of
//! the configuration is tested in crates/config; docs/export.md names every test, and one test here reads that table.

mod json;
mod malformed;
mod peer;
mod proxy;
mod responses;
mod size;
mod tls;
mod transport;

use std::collections::BTreeSet;
use std::path::Path;

use spandrel_exporter::{OtlpSettings, Protocol};

use crate::server::{Answer, Server};

const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];

fn otlp(protocol: Protocol, address: impl std::fmt::Display) -> OtlpSettings {
    let path = match protocol {
        Protocol::Grpc => "",
        _ => "/v1/traces",
    };
    OtlpSettings::new(protocol, format!("http://{address}{path}"))
}

/// A server with a script, and how it is reached.
async fn server(protocol: Protocol, script: Vec<Answer>) -> (Server, OtlpSettings) {
    let server = match protocol {
        Protocol::Grpc => Server::grpc(script).await,
        _ => Server::http(script).await,
    };
    let otlp = otlp(protocol, server.address);
    (server, otlp)
}

/// All names of functions in the sources of a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| {
                let (_, rest) = line.split_once("fn ")?;
                Some(rest.split(['(', '<']).next()?.to_owned())
            });
            found.extend(names);
        }
    }
}

#[test]
fn the_documentation_names_a_test_that_exists_for_each_of_the_38_rules() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known = BTreeSet::new();
    for folder in ["exporter/src", "exporter/tests", "config/tests"] {
        functions(&crates.join(folder), &mut known);
    }
    let text = std::fs::read_to_string(crates.join("../docs/export.md")).unwrap();
    let rows: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("| rule"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    for (at, row) in rows.iter().enumerate() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells[0], (at + 1).to_string());
        let named: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "rule {} has no test", cells[0]);
        for name in named {
            assert!(known.contains(name), "rule {}: {name}", cells[0]);
        }
    }
    assert_eq!(rows.len(), 38);
}
