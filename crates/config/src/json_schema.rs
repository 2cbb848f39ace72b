//! The JSON schema for editors, made from the table that the checks use.
use std::collections::HashMap;

use serde_json::{Map as Object, Value, json};

use crate::schema::{Map, Rest, Shape, root};

/// The schema of the whole file, as text.
pub fn json_schema() -> String {
    let mut schema = shape(&root::ROOT, "#", &mut HashMap::new());
    if let Value::Object(object) = &mut schema {
        object.insert(
            "$schema".into(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        object.insert("title".into(), json!("Configuration of Spandrel"));
    }
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Where each mapping was first written out, by the address of its shape.
type Written = HashMap<usize, String>;

fn shape(of: &'static Shape, pointer: &str, written: &mut Written) -> Value {
    match of {
        Shape::Bool => json!({"type": ["boolean", "string", "null"]}),
        Shape::Text | Shape::Glob | Shape::Duration => json!({"type": ["string", "null"]}),
        // A reference such as ${PORT:-80} is a string to an editor.
        Shape::Int { min, max } => json!({"anyOf": [
            {"type": "integer", "minimum": i64::try_from(*min).unwrap_or(i64::MIN),
             "maximum": i64::try_from(*max).unwrap_or(i64::MAX)},
            reference(), {"type": "null"}]}),
        Shape::Number { min, max } => json!({"anyOf": [
            {"type": "number", "minimum": min, "maximum": max}, reference(), {"type": "null"}]}),
        Shape::Word(words) => json!({"anyOf": [{"enum": words}, reference(), {"type": "null"}]}),
        Shape::Size { min, max, .. } => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max}, {"type": "string"},
            {"type": "null"}]}),
        Shape::Ports => json!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"},
            {"type": "null"}]}),
        Shape::Attribute => json!({"type": ["string", "number", "boolean", "array", "null"]}),
        Shape::Anything => json!({}),
        Shape::List { of: item, min } => {
            json!({"type": ["array", "null"], "minItems": min, "items": shape(item, &format!("{pointer}/items"), written)})
        }
        Shape::Map(map) | Shape::OneOf(map) => {
            // The second time is a reference to the first, which also ends the nesting of samplers.
            let identity = std::ptr::from_ref(of) as usize;
            if let Some(first) = written.get(&identity) {
                return json!({"$ref": first});
            }
            written.insert(identity, pointer.to_owned());
            let mut object = object(map, pointer, written);
            if matches!(of, Shape::OneOf(_)) {
                object.insert("minProperties".into(), json!(1));
                object.insert("maxProperties".into(), json!(1));
            }
            Value::Object(object)
        }
    }
}

fn reference() -> Value {
    json!({"type": "string", "pattern": "\\$\\{"})
}

fn object(map: &'static Map, pointer: &str, written: &mut Written) -> Object<String, Value> {
    let mut properties = Object::new();
    let mut required = Vec::new();
    for field in map.fields {
        let key = field.key.replace('/', "~1");
        let mut value = shape(field.shape, &format!("{pointer}/properties/{key}"), written);
        if let Value::Object(value) = &mut value {
            if !field.doc.is_empty() {
                value.insert("description".into(), json!(field.doc));
            }
            if let Some(why) = field.why_unused() {
                value.insert("description".into(), json!(format!("No effect: {why}.")));
            }
        }
        properties.insert(field.key.into(), value);
        if field.required {
            required.push(json!(field.key));
        }
    }
    let mut object = Object::new();
    let kind = if required.is_empty() {
        json!(["object", "null"])
    } else {
        json!("object")
    };
    object.insert("type".into(), kind);
    object.insert("properties".into(), Value::Object(properties));
    object.insert(
        "additionalProperties".into(),
        json!(map.rest != Rest::Refused),
    );
    if !required.is_empty() {
        object.insert("required".into(), Value::Array(required));
    }
    object
}
