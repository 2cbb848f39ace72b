//! The one table of every key: checking, the JSON schema and the suggestions all read it.
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod otlp;
pub(crate) mod root;
pub(crate) mod spandrel;
pub(crate) mod traces;

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Shape {
    Bool,
    Text,
    /// A wildcard pattern with `*` and `?`.
    Glob,
    Int {
        min: i128,
        max: i128,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A string such as `5s` or `200ms`.
    Duration,
    /// An integer, or a string such as `8MiB`.
    Size {
        min: u64,
        max: u64,
        power_of_two: bool,
    },
    /// A port, or a range such as `8000-8999`.
    Ports,
    /// A resource attribute's value: a scalar or a list of scalars.
    Attribute,
    Anything,
    List {
        of: &'static Shape,
        min: usize,
    },
    Map(&'static Map),
    /// Exactly one key of the map.
    OneOf(&'static Map),
}

/// The keys of a mapping.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) fields: &'static [Field],
    pub(crate) rest: Rest,
}

/// What an unknown key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// A mistake.
    Refused,
    /// Something of others, such as a plugin: named in a warning.
    Unused,
    /// Free content.
    Free,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) shape: &'static Shape,
    pub(crate) required: bool,
    pub(crate) effect: Effect,
    pub(crate) doc: &'static str,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// What the keys below it do. A key without keys below it must say more: a test sees to that.
    OfItsParts,
    /// Spandrel acts on it.
    Acts,
    /// It describes the file and asks for nothing.
    Describes,
    /// None, for this reason; a warning names the key wherever it is used.
    Unused(&'static str),
}

impl Field {
    pub(crate) const fn new(key: &'static str, shape: &'static Shape) -> Self {
        Self {
            key,
            shape,
            required: false,
            effect: Effect::OfItsParts,
            doc: "",
        }
    }

    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(crate) const fn unused(mut self, why: &'static str) -> Self {
        self.effect = Effect::Unused(why);
        self
    }

    pub(crate) const fn acts(mut self, doc: &'static str) -> Self {
        self.effect = Effect::Acts;
        self.doc = doc;
        self
    }

    pub(crate) const fn describes(mut self, doc: &'static str) -> Self {
        self.effect = Effect::Describes;
        self.doc = doc;
        self
    }

    /// Why the key has no effect, if it has none.
    pub(crate) const fn why_unused(&self) -> Option<&'static str> {
        match self.effect {
            Effect::Unused(why) => Some(why),
            _ => None,
        }
    }

    pub(crate) const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }
}

impl Map {
    pub(crate) const fn closed(fields: &'static [Field]) -> Self {
        Self {
            fields,
            rest: Rest::Refused,
        }
    }

    pub(crate) const fn open(fields: &'static [Field]) -> Self {
        Self {
            fields,
            rest: Rest::Unused,
        }
    }

    pub(crate) fn field(&self, key: &str) -> Option<&'static Field> {
        let key = crate::node::stable(key);
        self.fields
            .iter()
            .find(|f| crate::node::stable(f.key) == key)
    }
}

pub(crate) static BOOL: Shape = Shape::Bool;
pub(crate) static TEXT: Shape = Shape::Text;
pub(crate) static TEXTS: Shape = Shape::List { of: &TEXT, min: 0 };
pub(crate) static NON_NEGATIVE: Shape = Shape::Int {
    min: 0,
    max: i64::MAX as i128,
};
pub(crate) static POSITIVE: Shape = Shape::Int {
    min: 1,
    max: i64::MAX as i128,
};
pub(crate) static RATIO: Shape = Shape::Number { min: 0.0, max: 1.0 };
pub(crate) static ANYTHING: Shape = Shape::Anything;
pub(crate) static FREE_MAP: Shape = Shape::Map(&Map {
    fields: &[],
    rest: Rest::Free,
});
/// A component that is chosen by its name and takes no settings.
pub(crate) static EMPTY: Shape = Shape::Map(&Map::closed(&[]));

/// Patterns to include and exclude.
pub(crate) static INCLUDE_EXCLUDE: Shape = Shape::Map(&Map::closed(&[
    Field::new("included", &TEXTS),
    Field::new("excluded", &TEXTS),
]));
