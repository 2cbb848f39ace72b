//! Every key of the schema does something, describes the file, or is named in a warning; the table in the documentation says which.
use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map as Object, Value, json};

use crate::load_str;
use crate::schema::{Effect, Field, Map, Shape, root, traces};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
const BEGIN: &str = "<!-- every key: begin -->\n";
const END: &str = "<!-- every key: end -->\n";

/// A key with nothing below it that has an effect of its own, or with no effect together with all below it.
struct Key {
    /// Keys, and `[]` for the entry of a list.
    path: Vec<&'static str>,
    field: &'static Field,
    /// The mappings that hold the keys of the path, for what else they require.
    maps: Vec<&'static Map>,
}

impl Key {
    fn name(&self) -> String {
        self.path.join(".").replace(".[]", "[]")
    }
}

fn keys_below(shape: &'static Shape) -> Option<(&'static Map, bool)> {
    match shape {
        Shape::Map(map) | Shape::OneOf(map) if !map.fields.is_empty() => Some((map, false)),
        Shape::List { of, .. } => keys_below(of).map(|(map, _)| (map, true)),
        _ => None,
    }
}

/// The keys, each shape once: `simple` takes the same exporters as `batch`.
fn every_key() -> Vec<Key> {
    fn walk(
        map: &'static Map,
        path: &[&'static str],
        maps: &[&'static Map],
        seen: &mut BTreeSet<usize>,
        found: &mut Vec<Key>,
    ) {
        let maps = [maps, &[map]].concat();
        for field in map.fields {
            let mut path = [path, &[field.key]].concat();
            let unused = field.why_unused().is_some();
            match keys_below(field.shape).filter(|_| !unused) {
                Some((below, list)) => {
                    if list {
                        path.push("[]");
                    }
                    // Where the mapping of an exporter stands a second time, its keys were all said.
                    let shared = std::ptr::eq(below, exporters());
                    // Samplers are made of samplers.
                    let above = maps.iter().any(|map| std::ptr::eq(*map, below));
                    if above {
                        continue;
                    }
                    if !shared || seen.insert(std::ptr::from_ref(below) as usize) {
                        walk(below, &path, &maps, seen, found);
                    }
                }
                None => found.push(Key {
                    path,
                    field,
                    maps: maps.clone(),
                }),
            }
        }
    }
    let mut found = Vec::new();
    walk(&root::MAP, &[], &[], &mut BTreeSet::new(), &mut found);
    found
}

fn exporters() -> &'static Map {
    match &traces::EXPORTER {
        Shape::OneOf(map) => map,
        _ => panic!("exporters are chosen by their key"),
    }
}

#[test]
fn every_key_acts_or_describes_the_file_or_is_named_in_a_warning() {
    let keys = every_key();
    assert!(keys.len() > 90, "{}", keys.len());
    for key in keys {
        assert_ne!(
            key.field.effect,
            Effect::OfItsParts,
            "{}: say .acts, .describes or .unused in its table",
            key.name()
        );
        assert!(
            key.field.why_unused().is_some() || !key.field.doc.is_empty(),
            "{} has no description",
            key.name()
        );
    }
}

/// Values that a key may take, of which at least two mean different things.
fn candidates(shape: &Shape) -> Vec<Value> {
    match shape {
        Shape::Bool => vec![json!(true), json!(false)],
        Shape::Int { min, max } => [1, 3, 65_536]
            .into_iter()
            .filter(|n| (*min..=*max).contains(&i128::from(*n)))
            .map(|n: i64| json!(n))
            .collect(),
        Shape::Number { min, max } => [0.6, 0.7, 1.0, 3.0]
            .into_iter()
            .filter(|n| (*min..=*max).contains(n))
            .map(|n| json!(n))
            .collect(),
        Shape::Word(words) => words.iter().map(|word| json!(word)).collect(),
        Shape::Duration => ["700ms", "2s", "50s"].map(|text| json!(text)).to_vec(),
        Shape::Size { .. } => [1 << 12, 1 << 13, 1 << 16, 1 << 24, 1 << 25]
            .map(|n| json!(n))
            .to_vec(),
        Shape::Ports => vec![json!(80), json!("81-90")],
        Shape::Attribute => vec![json!("a"), json!("b")],
        Shape::List { of, .. } => candidates(of).into_iter().map(|v| json!([v])).collect(),
        _ => [
            "a",
            "b=c",
            "gzip",
            "http://h:1/p",
            "http://h:2/p",
            "file:///f",
            "file:///g",
            "h:1",
        ]
        .map(|text| json!(text))
        .to_vec(),
    }
}

/// What a key needs beside it to mean anything.
fn beside(name: &str) -> Value {
    match name.rsplit('.').next().unwrap_or("") {
        "name" if !name.ends_with("destinations[].name") => json!({"value": "v"}),
        "value" => json!({"name": "n"}),
        "profile" => {
            json!({"endpoint": "https://h:1", "headers_list": "api-key=k,authorization=Api-Token k"})
        }
        "type" => json!({"name": "n", "value": 1}),
        "key_file" => json!({"cert_file": "c"}),
        "cert_file" => json!({"key_file": "k"}),
        _ => json!({}),
    }
}

/// A file in which the key has this value.
fn file(key: &Key, value: Value) -> String {
    let mut inner = value;
    let mut maps = key.maps.iter().rev();
    for (depth, part) in key.path.iter().enumerate().rev() {
        if *part == "[]" {
            inner = json!([inner]);
            continue;
        }
        let mut object = Object::new();
        let required = maps.next().into_iter().flat_map(|map| map.fields);
        for field in required.filter(|field| field.required && field.key != *part) {
            let value = match field.key {
                "file_format" => json!("1.1"),
                "version" => json!("1.0"),
                "exporter" => json!({"console": {}}),
                "name" => json!("n"),
                "directory" => json!("d"),
                "endpoint" => json!("http://h:1"),
                "processors" => json!([{"simple": {"exporter": {"console": {}}}}]),
                "readers" => json!([{"periodic": {"exporter": {"console": {}}}}]),
                other => panic!("{other} is required and unknown here"),
            };
            object.insert(field.key.into(), value);
        }
        if depth + 1 == key.path.len()
            && let Value::Object(more) = beside(&key.name())
        {
            object.extend(more);
        }
        // The scheme of an endpoint wins over `insecure`.
        if *part == "tls" && key.path.contains(&"insecure") {
            object.insert("endpoint".into(), json!("h:1"));
            if key.path.contains(&"destinations") {
                object.insert("protocol".into(), json!("grpc"));
            }
        }
        object.insert((*part).into(), inner);
        inner = Value::Object(object);
    }
    serde_yaml::to_string(&inner).unwrap()
}

#[test]
fn what_a_key_that_acts_says_arrives_in_the_configuration() {
    for key in every_key() {
        if key.field.effect != Effect::Acts {
            continue;
        }
        // A key that is chosen, such as `console`, differs from another choice.
        let values = match key.field.shape {
            Shape::Map(_) => continue,
            shape => candidates(shape),
        };
        let mut meanings: Vec<crate::Config> = Vec::new();
        let mut refused = String::new();
        for value in values {
            match load_str("f", &file(&key, value), &|_| None) {
                Ok(loaded) if !meanings.contains(&loaded.config) => meanings.push(loaded.config),
                Ok(_) => {}
                Err(problems) => refused = problems.to_string(),
            }
        }
        assert!(
            meanings.len() >= 2,
            "{} changes nothing; {refused}",
            key.name()
        );
    }
}

#[test]
fn a_key_without_effect_is_named_in_a_warning_with_its_reason() {
    for key in every_key() {
        let Some(why) = key.field.why_unused() else {
            continue;
        };
        let value = candidates(&Shape::Text).swap_remove(0);
        let diagnostics = match load_str("f", &file(&key, value), &|_| None) {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems.diagnostics,
        };
        let expected = format!("`{}` has no effect: {why}", key.field.key);
        assert!(
            diagnostics.iter().any(|d| d.message == expected),
            "{}: {diagnostics:?}",
            key.name()
        );
    }
}

fn table() -> String {
    let mut text = String::from("| Key | Effect |\n| --- | --- |\n");
    for key in every_key() {
        let effect = match key.field.effect {
            Effect::Unused(why) => format!("**none**, with a warning: {why}"),
            Effect::Describes => format!("describes the file: {}", key.field.doc),
            Effect::Acts | Effect::OfItsParts => key.field.doc.to_owned(),
        };
        writeln!(text, "| `{}` | {effect} |", key.name()).unwrap();
    }
    text
}

#[test]
fn the_table_in_the_documentation_is_current() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document
        .split_once(BEGIN)
        .expect("a table in docs/configuration.md");
    let (written, after) = rest.split_once(END).expect("the end of the table");
    let made = table();
    if std::env::var_os("SPANDREL_WRITE_SCHEMA").is_some() {
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}{made}{END}{after}")).unwrap();
        return;
    }
    assert!(
        written == made,
        "run this test with SPANDREL_WRITE_SCHEMA=1 and commit the file"
    );
}
