//! A YAML document as a tree in which every node knows its place in the file.
use crate::diagnostic::Position;

/// A key or value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
    /// The text of a scalar in which the value of a variable stands: it may be a secret.
    pub(crate) substituted: Option<String>,
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Position,
    pub(crate) value: Node,
    /// True if the entry came in with a merge key, so that an explicit one may replace it.
    pub(crate) merged: bool,
}

/// A value by the YAML 1.2 core schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

impl Node {
    pub(crate) fn new(at: Position, value: Value) -> Self {
        Self {
            at,
            value,
            substituted: None,
        }
    }

    /// A string. What a variable puts in the place of one is a string too, if it reads like a number or a boolean.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => self.substituted.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The value of a key, if it is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let wanted = stable(key);
        let entry = self.entries().iter().find(|e| stable(&e.key) == wanted);
        entry.map(|e| &e.value).filter(|n| !n.is_null())
    }

    pub(crate) fn at_path(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// What the value is, in words; of a variable only what kind it is.
    pub(crate) fn describe(&self) -> String {
        if self.substituted.is_some() {
            let kind = match &self.value {
                Value::Bool(_) => "a boolean",
                Value::Int(_) => "an integer",
                Value::Float(_) => "a number",
                _ => "a string",
            };
            return format!("{kind} from a variable, which is not shown");
        }
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(b) => format!("the boolean {b}"),
            Value::Int(i) => format!("the integer {i}"),
            Value::Float(x) => format!("the number {x}"),
            Value::Str(s) => format!("the string \"{}\"", cut(s)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The name under which an experimental key becomes stable in a later version of the schema.
pub(crate) fn stable(key: &str) -> &str {
    key.strip_suffix("/development").unwrap_or(key)
}

/// Long values do not help a message.
pub(crate) fn cut(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    let head: String = text.chars().take(57).collect();
    format!("{head}...")
}
