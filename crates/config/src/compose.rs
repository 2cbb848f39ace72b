//! Builds the tree of a document from the parser's events, within fixed bounds.
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use crate::diagnostic::{Findings, Position};
use crate::node::{Entry, Node, Value};
use crate::scalar;
use crate::substitute::{Env, substitute};

/// Deepest nesting; the deepest useful configuration has about 20 levels.
const MAX_DEPTH: usize = 64;
/// Most nodes after all aliases are followed, which bounds what an alias bomb can cost.
const MAX_NODES: usize = 20_000;

enum Frame {
    List {
        at: Position,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        at: Position,
        anchor: usize,
        entries: Vec<Entry>,
        key: Option<Key>,
    },
}

struct Key {
    text: String,
    at: Position,
    merge: bool,
}

struct Composer<'e, 'f> {
    env: &'e Env<'e>,
    findings: &'f mut Findings,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
}

/// The tree of the only document of `text`; `None` if it is empty or a problem stopped the work.
pub(crate) fn compose(text: &str, env: &Env<'_>, findings: &mut Findings) -> Option<Node> {
    let mut composer = Composer {
        env,
        findings,
        frames: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        root: None,
    };
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let at = position(error.marker());
                composer.syntax_error(error.info(), at, text);
                return None;
            }
        };
        let at = position(&span.start);
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    let found = composer
                        .findings
                        .error("a second YAML document starts here");
                    composer
                        .findings
                        .push(found.at(at).expected("one document in a file"));
                    return composer.root;
                }
            }
            event => composer.event(event, at)?,
        }
    }
    composer.root
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

fn position(marker: &saphyr_parser::Marker) -> Position {
    Position {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

impl Composer<'_, '_> {
    fn syntax_error(&mut self, info: &str, at: Position, text: &str) {
        let line = text.lines().nth(at.line - 1).unwrap_or("");
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        let mut found = self
            .findings
            .error(format!("this is not valid YAML: {info}"));
        if info.contains("recursion limit") {
            // The parser's own bound on brackets is reached while it looks ahead.
            found = self.findings.error(too_deep()).at(at);
        } else if let Some(tab) = indent.chars().position(|c| c == '\t') {
            found = self.findings.error("a tab is used for indentation");
            found = found
                .at(Position {
                    line: at.line,
                    column: tab + 1,
                })
                .expected("spaces; YAML does not allow tabs there");
        } else {
            found = found.at(at);
        }
        self.findings.push(found);
    }

    /// `None` stops the work.
    fn event(&mut self, event: Event<'_>, at: Position) -> Option<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    return self.key(text.into_owned(), style, at);
                }
                self.count(1, at)?;
                let node = self.scalar(&text, style, tag, at);
                self.place(node, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::SequenceStart(anchor, _) => self.open(
                Frame::List {
                    at,
                    anchor,
                    items: Vec::new(),
                },
                at,
            ),
            Event::MappingStart(anchor, _) => self.open(
                Frame::Map {
                    at,
                    anchor,
                    entries: Vec::new(),
                    key: None,
                },
                at,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => Some(()),
        }
    }

    /// Where the next value goes, as a path of keys.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            match frame {
                Frame::List { items, .. } => path.push_str(&format!("[{}]", items.len())),
                Frame::Map { key, .. } => {
                    let dot = if path.is_empty() { "" } else { "." };
                    let key = key.as_ref().map_or("", |key| key.text.as_str());
                    path.push_str(&format!("{dot}{}", crate::node::cut(key)));
                }
            }
        }
        path
    }

    fn wants_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::Map { key: None, .. }))
    }

    fn open(&mut self, frame: Frame, at: Position) -> Option<()> {
        if self.wants_key() {
            let found = self.findings.error("a key is a list or a mapping");
            self.findings
                .push(found.at(at).expected("a plain word as the key"));
            return None;
        }
        if self.frames.len() >= MAX_DEPTH {
            let found = self.findings.error(too_deep());
            self.findings.push(found.at(at));
            return None;
        }
        self.count(1, at)?;
        self.frames.push(frame);
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        match self.frames.pop()? {
            Frame::List { at, anchor, items } => {
                self.place(Node::new(at, Value::List(items)), anchor)
            }
            Frame::Map {
                at,
                anchor,
                entries,
                ..
            } => self.place(Node::new(at, Value::Map(entries)), anchor),
        }
    }

    fn count(&mut self, nodes: usize, at: Position) -> Option<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= MAX_NODES {
            return Some(());
        }
        let message = format!("more than {MAX_NODES} values after all aliases are followed");
        let found = self.findings.error(message).at(at);
        self.findings
            .push(found.hint("write the values out, or use fewer aliases of aliases"));
        None
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Option<()> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            let found = self
                .findings
                .error("this alias is used inside the value it names");
            self.findings.push(found.at(at));
            return None;
        };
        let size = *size;
        if self.wants_key() {
            let found = self.findings.error("an alias is used as a key");
            self.findings
                .push(found.at(at).expected("a plain word as the key"));
            return None;
        }
        // Counted before it is copied: the copy is what would cost memory.
        let node = if self.nodes.saturating_add(size) <= MAX_NODES {
            Some(node.clone())
        } else {
            None
        };
        self.count(size, at)?;
        self.place(node?, 0)
    }

    fn key(&mut self, text: String, style: ScalarStyle, at: Position) -> Option<()> {
        let merge = text == "<<" && style == ScalarStyle::Plain;
        if let Some(Frame::Map { key, .. }) = self.frames.last_mut() {
            *key = Some(Key { text, at, merge });
        }
        Some(())
    }

    fn place(&mut self, node: Node, anchor: usize) -> Option<()> {
        if anchor > 0 {
            let size = size_of(&node);
            // The copy for the anchor is memory like any other.
            self.count(size, node.at)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, .. }) => {
                let key = key.take()?;
                if key.merge {
                    let merged = merge(entries, &node);
                    if !merged {
                        let found = self.findings.error("a merge key needs a mapping");
                        let found = found.at(key.at).path("<<");
                        self.findings
                            .push(found.expected("an alias of a mapping, or a list of them"));
                    }
                } else {
                    insert(entries, key, node, self.findings);
                }
            }
        }
        Some(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<Cow<'_, Tag>>,
        at: Position,
    ) -> Node {
        let substituted = match substitute(text, self.env) {
            Ok(substituted) => substituted,
            Err(message) => {
                let found = self.findings.error(message).at(at).path(self.path());
                self.findings
                    .push(found.expected(
                        "${NAME}, ${env:NAME} or ${NAME:-default}; $$ for a dollar sign",
                    ));
                return Node::new(at, Value::Null);
            }
        };
        if substituted.unclosed {
            let found = self
                .findings
                .warning("`${` has no closing brace and stays as it is")
                .at(at);
            self.findings.push(found.hint("write $${ if this is meant"));
        }
        let text = substituted.text;
        Node {
            at,
            substituted: substituted.from_variable.then(|| text.clone()),
            value: match tag {
                Some(tag) => self.tagged(text, &tag, at),
                None if style == ScalarStyle::Plain => scalar::resolve(&text),
                None => Value::Str(text),
            },
        }
    }

    fn tagged(&mut self, text: String, tag: &Tag, at: Position) -> Value {
        let tagged = match tag.suffix.as_str() {
            "str" => Some(Value::Str(text)),
            "null" => Some(Value::Null),
            "int" => scalar::integer(&text).map(Value::Int),
            "float" => scalar::float(&text).map(Value::Float),
            "bool" => match scalar::resolve(&text) {
                Value::Bool(b) => Some(Value::Bool(b)),
                _ => None,
            },
            "" => Some(Value::Str(text)),
            _ => None,
        };
        tagged.unwrap_or_else(|| {
            let message = format!(
                "the tag `{}{}` does not fit this value",
                tag.handle, tag.suffix
            );
            let found = self.findings.error(message).at(at).path(self.path());
            self.findings
                .push(found.expected("no tag, or one of !!str !!int !!float !!bool !!null"));
            Value::Null
        })
    }
}

fn size_of(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(size_of).sum::<usize>(),
        Value::Map(entries) => entries.iter().map(|e| size_of(&e.value)).sum::<usize>(),
        _ => 0,
    }
}

fn insert(entries: &mut Vec<Entry>, key: Key, value: Node, findings: &mut Findings) {
    match entries.iter_mut().find(|e| e.key == key.text) {
        Some(known) if known.merged => {
            *known = Entry {
                key: key.text,
                key_at: key.at,
                value,
                merged: false,
            };
        }
        Some(known) => {
            let message = format!("the key `{}` is given twice", crate::node::cut(&key.text));
            let found = findings.error(message).at(key.at);
            let first = known.key_at;
            findings.push(found.hint(format!("it was first given in line {}", first.line)));
        }
        None => {
            entries.push(Entry {
                key: key.text,
                key_at: key.at,
                value,
                merged: false,
            });
        }
    }
}

/// Adds what a merge key brings in; explicit keys and earlier sources win.
fn merge(entries: &mut Vec<Entry>, source: &Node) -> bool {
    match &source.value {
        Value::Map(merged) => {
            let known: HashSet<String> = entries.iter().map(|e| e.key.clone()).collect();
            for entry in merged.iter().filter(|e| !known.contains(&e.key)) {
                entries.push(Entry {
                    merged: true,
                    ..entry.clone()
                });
            }
            true
        }
        Value::List(sources) => sources
            .iter()
            .all(|source| matches!(source.value, Value::Map(_)) && merge(entries, source)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::compose;
    use crate::diagnostic::Findings;
    use crate::node::{Node, Value};

    /// The tree as the project's YAML parser would have it.
    fn plain(node: &Node) -> serde_yaml::Value {
        match &node.value {
            Value::Null => serde_yaml::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(i) => i64::try_from(*i).unwrap().into(),
            Value::Float(x) => (*x).into(),
            Value::Str(s) => s.as_str().into(),
            Value::List(items) => items.iter().map(plain).collect::<Vec<_>>().into(),
            Value::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|e| (e.key.as_str().into(), plain(&e.value)));
                serde_yaml::Value::Mapping(entries.collect())
            }
        }
    }

    #[test]
    fn the_tree_with_places_is_the_tree_of_the_parser_of_record() {
        for text in [
            include_str!("../../../config/spandrel.yaml"),
            include_str!("../tests/files/every_standard_key.yaml"),
            "a: |\n  x\n   y\nb: >-\n  x\n  y\nc: 'it''s'\nd: \"\\u00e9\\n\"\ne: [.inf, -.5, 1e3, 0o17, +1]\n",
            "base: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}\nd: {y: 4, <<: [*b, {z: 5, x: 6}]}\n",
        ] {
            let mut findings = Findings::new("f");
            let ours = plain(&compose(text, &|_| None, &mut findings).unwrap());
            let mut theirs: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
            theirs.apply_merge().unwrap();
            assert_eq!(ours, theirs);
        }
    }
}
