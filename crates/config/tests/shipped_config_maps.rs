//! The configurations within deploy/kubernetes are valid.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_yaml::{Deserializer, Value};
use spandrel_config::load_str;

#[test]
fn each_config_map_for_kubernetes_is_valid_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    let mut found = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for document in Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            if object["kind"] != "ConfigMap" {
                continue;
            }
            found += 1;
            let config = object["data"]["spandrel.yaml"].as_str().unwrap();
            let env = |name: &str| Some(name.to_lowercase()).filter(|name| name != "collector");
            let loaded = load_str("spandrel.yaml", config, &env);
            let loaded =
                loaded.unwrap_or_else(|problems| panic!("{}:\n{problems}", path.display()));
            assert_eq!(loaded.warnings, [], "{}", path.display());
        }
    }
    assert_eq!(found, 2, "the agent's and the sidecar's");
}
