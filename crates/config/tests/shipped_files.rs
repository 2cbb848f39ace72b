//! What is shipped under `config/` is valid, complete and current.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
use std::path::{Path, PathBuf};

use spandrel_config::settings::{AttributeValue, Exporter, Otlp, Protocol, Temporality};
use spandrel_config::{Config, Loaded, from_env, json_schema, load, load_str, print};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../config")
        .join(name)
}

fn read(name: &str, env: &[(&str, &str)]) -> Loaded {
    let env = |wanted: &str| {
        env.iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| (*value).to_owned())
    };
    load(&shipped(name), &env).unwrap_or_else(|problems| panic!("{name}:\n{problems}"))
}

fn otlp(exporter: &Exporter) -> &Otlp {
    match exporter {
        Exporter::Otlp(otlp) => otlp,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_documented_defaults_are_the_defaults_of_the_code() {
    let loaded = read("spandrel.yaml", &[]);
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.config, from_env(&|_| None).config);
}

#[test]
fn the_documented_file_names_every_key_that_is_printed() {
    let text = std::fs::read_to_string(shipped("spandrel.yaml")).unwrap();
    for line in print(&Config::default()).lines() {
        let key = line
            .trim_start()
            .trim_start_matches("- ")
            .split(':')
            .next()
            .unwrap();
        if line.contains(':') {
            assert!(text.contains(&format!("{key}:")), "{key} is not documented");
        }
    }
}

#[test]
fn every_key_of_ours_is_in_the_documented_file() {
    fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) {
            for (key, value) in properties {
                found.push(key.clone());
                keys(value, found);
            }
        }
        if let Some(items) = schema.get("items") {
            keys(items, found);
        }
    }
    let text = std::fs::read_to_string(shipped("spandrel.yaml")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).unwrap();
    let mut found = Vec::new();
    keys(
        &schema["properties"]["distribution"]["properties"]["spandrel"],
        &mut found,
    );
    assert!(found.len() > 30, "{found:?}");
    for key in found {
        assert!(text.contains(&format!("{key}:")), "{key} is not documented");
    }
}

#[test]
fn the_schema_file_is_current() {
    let made = json_schema();
    if std::env::var_os("SPANDREL_WRITE_SCHEMA").is_some() {
        std::fs::write(shipped("schema.json"), &made).unwrap();
    }
    let file = std::fs::read_to_string(shipped("schema.json")).unwrap_or_default();
    assert!(
        file == made,
        "run this test with SPANDREL_WRITE_SCHEMA=1 and commit the file"
    );
}

#[test]
fn all_examples_load_without_a_warning() {
    let mut count = 0;
    for entry in std::fs::read_dir(shipped("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let loaded = read(
            &format!("examples/{name}"),
            &[
                ("NEW_RELIC_LICENSE_KEY", "k"),
                ("DD_API_KEY", "k"),
                ("GRAFANA_CLOUD_AUTH", "k"),
                ("HONEYCOMB_API_KEY", "k"),
                ("DT_API_TOKEN", "k"),
            ],
        );
        assert_eq!(loaded.warnings, [], "{name}");
        count += 1;
    }
    assert_eq!(count, 10);
}

#[test]
fn the_minimal_example_means_the_defaults() {
    assert_eq!(read("examples/minimal.yaml", &[]).config, Config::default());
}

#[test]
fn the_new_relic_example_takes_the_key_from_the_environment_and_sends_deltas() {
    let loaded = read(
        "examples/new-relic.yaml",
        &[("NEW_RELIC_LICENSE_KEY", "secret$key")],
    );
    let destination = &loaded.config.export.destinations[0];
    let traces = otlp(&destination.traces.as_ref().unwrap().exporter);
    assert_eq!(traces.endpoint, "https://otlp.nr-data.net/v1/traces");
    assert_eq!(traces.protocol, Protocol::HttpProtobuf);
    assert_eq!(traces.headers[0].0, "api-key");
    assert_eq!(traces.headers[0].1.reveal(), "secret$key");
    let metrics = destination.metrics.as_ref().unwrap();
    assert_eq!(metrics.temporality, Temporality::Delta);
    assert_eq!(destination.max_request_bytes, 1_000_000);
    assert!(!format!("{loaded:?}").contains("secret$key"));
    assert!(!print(&loaded.config).contains("secret$key"));
}

#[test]
fn the_new_relic_example_without_a_key_warns() {
    let loaded = read("examples/new-relic.yaml", &[]);
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].message.contains("api-key"));
}

#[test]
fn what_is_printed_means_the_same_when_it_is_read_again() {
    let names = ["collector-grpc", "sidecar", "console", "minimal"];
    for name in names {
        let mut config = read(&format!("examples/{name}.yaml"), &[]).config;
        let odd = AttributeValue::String("${A} $$ 'x': \"y\"\n- yes".to_owned());
        config.resource.push(("odd".to_owned(), odd));
        let text = print(&config);
        let again = load_str("printed", &text, &|_| Some("wrong".to_owned()));
        let again = again.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_eq!(again.config, config, "{text}");
        assert_eq!(again.warnings, []);
    }
}
