//! Compares a document with the table of keys and reports every difference.
use crate::diagnostic::{Diagnostic, Findings, Severity};
use crate::node::{Entry, Node, Value, cut, stable};
use crate::schema::{Map, Rest, Shape};
use crate::suggest::nearest;
use crate::units;

/// How strictly unknown keys are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strictness {
    /// True if the file follows a later version of the schema, whose keys cannot be known here.
    pub(crate) later_schema: bool,
}

/// Reports every difference between `root` and `shape`.
pub(crate) fn validate(root: &Node, shape: &'static Shape, strict: Strictness, to: &mut Findings) {
    let mut walk = Walk {
        to,
        strict,
        path: Vec::new(),
        unused: false,
    };
    walk.node(root, shape);
}

struct Walk<'f> {
    to: &'f mut Findings,
    strict: Strictness,
    path: Vec<String>,
    /// True below a key without effect, so that its parts are checked but not named again.
    unused: bool,
}

impl Walk<'_> {
    fn path(&self) -> String {
        let mut path = String::new();
        for part in &self.path {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path.push_str(part);
        }
        path
    }

    /// What has no effect cannot stop the start, whatever is wrong with it.
    fn push(&mut self, mut found: Diagnostic) {
        if self.unused {
            found.severity = Severity::Warning;
        }
        self.to.push(found);
    }

    /// Values below `headers` are secrets and stay out of every message.
    fn found(&self, node: &Node) -> String {
        if self.path.iter().any(|part| part.starts_with("headers")) {
            return "another value".to_owned();
        }
        node.describe()
    }

    fn wrong(&mut self, node: &Node, expected: impl Into<String>) {
        let found = self
            .to
            .error(format!("found {}", self.found(node)))
            .at(node.at);
        let found = found.path(self.path()).expected(expected);
        self.push(found);
    }

    fn node(&mut self, node: &Node, shape: &'static Shape) {
        match (shape, &node.value) {
            (Shape::Anything, _) => {}
            (Shape::Map(map), _) => self.map(node, map),
            (Shape::OneOf(map), _) => self.one_of(node, map),
            // A key without a value is a key that is not there.
            (_, Value::Null) => {}
            (Shape::List { of, min }, Value::List(items)) => self.list(node, items, of, *min),
            (Shape::List { .. }, _) => self.wrong(node, "a list"),
            (Shape::Bool, Value::Bool(_)) => {}
            (Shape::Text | Shape::Glob, _) if node.text().is_some() => {}
            (Shape::Bool, _) => self.wrong(node, "true or false"),
            (Shape::Text | Shape::Glob, _) => self.wrong(node, "a string (quote it if need be)"),
            (Shape::Attribute, Value::Map(_)) => self.wrong(node, "a scalar or a list of scalars"),
            (Shape::Attribute, _) => {}
            (Shape::Int { min, max }, value) => {
                if !matches!(value, Value::Int(i) if i >= min && i <= max) {
                    self.wrong(node, int_range(*min, *max));
                }
            }
            (Shape::Number { min, max }, value) => {
                let number = match value {
                    Value::Int(i) => *i as f64,
                    Value::Float(x) => *x,
                    _ => f64::NAN,
                };
                if !(number >= *min && number <= *max) {
                    self.wrong(node, number_range(*min, *max));
                }
            }
            (Shape::Word(words), value) => self.word(node, value, words),
            (Shape::Duration, Value::Str(text)) if units::duration(text).is_some() => {}
            (Shape::Duration, _) => self.wrong(node, units::DURATION),
            (
                Shape::Size {
                    min,
                    max,
                    power_of_two,
                },
                value,
            ) => {
                let size = match value {
                    Value::Int(i) => u64::try_from(*i).ok(),
                    Value::Str(text) => units::size(text),
                    _ => None,
                };
                let fits = |s: &u64| s >= min && s <= max && (!power_of_two || s.is_power_of_two());
                if !size.as_ref().is_some_and(fits) {
                    let power = if *power_of_two {
                        ", a power of two"
                    } else {
                        ""
                    };
                    self.wrong(node, format!("{}, from {min} to {max}{power}", units::SIZE));
                }
            }
            (Shape::Ports, value) => {
                let ok = match value {
                    Value::Int(i) => (1..=65_535).contains(i),
                    Value::Str(text) => units::ports(text).is_some(),
                    _ => false,
                };
                if !ok {
                    self.wrong(node, units::PORTS);
                }
            }
        }
    }

    fn word(&mut self, node: &Node, value: &Value, words: &'static [&'static str]) {
        let expected = format!("one of {}", words.join(", "));
        match value {
            Value::Str(word) if words.contains(&word.as_str()) => {}
            Value::Str(word) => {
                let near = nearest(word, words.iter().copied());
                let found = self
                    .to
                    .error(format!("found {}", self.found(node)))
                    .at(node.at);
                let found = found.path(self.path()).expected(expected);
                self.to
                    .push(found.maybe_hint(near.map(|n| format!("did you mean `{n}`?"))));
            }
            _ => self.wrong(node, expected),
        }
    }

    fn list(&mut self, node: &Node, items: &[Node], of: &'static Shape, min: usize) {
        if items.len() < min {
            self.wrong(node, "at least one entry");
        }
        for (index, item) in items.iter().enumerate() {
            self.path.push(format!("[{index}]"));
            if item.is_null() {
                self.wrong(item, "a value; this entry of the list is empty");
            } else {
                self.node(item, of);
            }
            self.path.pop();
        }
    }

    fn map(&mut self, node: &Node, map: &'static Map) {
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    self.entry(entry, map);
                }
            }
            Value::Null => {}
            _ => return self.wrong(node, expected_keys(map)),
        }
        for field in map
            .fields
            .iter()
            .filter(|f| f.required && node.get(f.key).is_none())
        {
            let found = self
                .to
                .error(format!("the key `{}` is missing", field.key))
                .at(node.at);
            let found = found.path(self.path());
            self.push(found.maybe_hint(example(field.key)));
        }
    }

    fn entry(&mut self, entry: &Entry, map: &'static Map) {
        let Some(field) = map.field(&entry.key) else {
            return self.unknown(entry, map);
        };
        self.path.push(entry.key.clone());
        let outer = self.unused;
        if let (Some(why), false, false) = (field.why_unused(), outer, entry.value.is_null()) {
            let found = self
                .to
                .warning(format!("`{}` has no effect: {why}", entry.key));
            let found = found.at(entry.key_at).path(self.path());
            self.push(found);
        }
        self.unused |= field.why_unused().is_some();
        self.node(&entry.value, field.shape);
        self.unused = outer;
        self.path.pop();
    }

    fn unknown(&mut self, entry: &Entry, map: &'static Map) {
        let name = cut(&entry.key);
        let hint = nearest(stable(&entry.key), map.fields.iter().map(|f| stable(f.key)));
        let hint = hint.map(|n| format!("did you mean `{n}`?"));
        let ours = self.path.first().is_some_and(|p| p == "distribution");
        let later = self.strict.later_schema && !ours;
        let found: Diagnostic = match map.rest {
            Rest::Free => return,
            Rest::Unused if self.unused => return,
            Rest::Unused => self
                .to
                .warning(format!("`{name}` has no effect: Spandrel does not know it")),
            Rest::Refused if later => self.to.warning(format!(
                "`{name}` has no effect: unknown key of a later schema"
            )),
            Rest::Refused => self.to.error(format!("unknown key `{name}`")),
        };
        let found = found.at(entry.key_at).path(self.path()).maybe_hint(hint);
        self.push(found.expected(expected_keys(map)));
    }

    fn one_of(&mut self, node: &Node, map: &'static Map) {
        match node.entries().len() {
            1 => self.map(node, map),
            0 if node.is_null() => {}
            0 => self.wrong(node, expected_keys(map)),
            _ => {
                let found = self.to.error("more than one kind is given").at(node.at);
                let found = found.path(self.path());
                self.push(found.expected(expected_keys(map)));
                self.map(node, map);
            }
        }
    }
}

fn example(key: &str) -> Option<String> {
    match key {
        "file_format" => Some("start the file with: file_format: \"1.1\"".to_owned()),
        "version" => Some("add: version: \"1.0\"".to_owned()),
        _ => None,
    }
}

fn expected_keys(map: &Map) -> String {
    let keys: Vec<&str> = map.fields.iter().map(|f| f.key).collect();
    match keys.len() {
        0 => "no keys".to_owned(),
        1 => format!("the key {}", keys[0]),
        _ => format!("one of the keys {}", keys.join(", ")),
    }
}

fn int_range(min: i128, max: i128) -> String {
    if max == i128::from(i64::MAX) {
        return format!("an integer of at least {min}");
    }
    format!("an integer from {min} to {max}")
}

fn number_range(min: f64, max: f64) -> String {
    if min == f64::MIN {
        return "a number".to_owned();
    }
    format!("a number from {min} to {max}")
}
