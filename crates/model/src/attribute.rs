//! Attributes: a key of the semantic conventions and its value.

use std::fmt;
use std::hash::Hasher;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::text::Text;

/// The value of an attribute, in the OpenTelemetry data model's own types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A boolean.
    Bool(bool),
    /// A signed 64-bit integer.
    I64(i64),
    /// A double.
    F64(f64),
    /// UTF-8 text.
    Str(Text),
    /// A homogeneous list of texts, for example `container.image.tags`.
    StrArray(Vec<Text>),
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// The key, as the semantic conventions spell it, or `spandrel.*` for our own.
    pub key: Text,
    /// The value.
    pub value: Value,
}

impl Attribute {
    /// An attribute from anything that converts into a [`Value`].
    pub fn new(key: impl Into<Text>, value: impl Into<Value>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }

    /// Feeds key and value to a hasher, numbers by their bits: a hash that narrows a search, whose hits are compared.
    #[inline]
    pub fn feed(&self, hasher: &mut impl Hasher) {
        hasher.write(self.key.as_bytes());
        match &self.value {
            Value::Str(text) => hasher.write(text.as_bytes()),
            Value::I64(value) => hasher.write_i64(*value),
            Value::Bool(value) => hasher.write_u8(u8::from(*value)),
            Value::F64(value) => hasher.write_u64(value.to_bits()),
            Value::StrArray(texts) => {
                for text in texts {
                    hasher.write(text.as_bytes());
                }
            }
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Self {
        Self::I64(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::I64(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Self {
        Self::Str(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(value.into())
    }
}

impl From<Text> for Value {
    fn from(value: Text) -> Self {
        Self::Str(value)
    }
}

/// Attributes that are made once and shared, as those of the points of one series.
#[derive(Clone)]
pub struct AttributeSet(Arc<Inner>);

struct Inner {
    id: u64,
    attributes: Box<[Attribute]>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl AttributeSet {
    /// A number unique within this run: sets with the same number are the same. Equal sets may have different ones.
    #[inline]
    pub fn id(&self) -> u64 {
        self.0.id
    }
}

impl From<Vec<Attribute>> for AttributeSet {
    fn from(attributes: Vec<Attribute>) -> Self {
        Self(Arc::new(Inner {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            attributes: attributes.into(),
        }))
    }
}

impl FromIterator<Attribute> for AttributeSet {
    fn from_iter<I: IntoIterator<Item = Attribute>>(attributes: I) -> Self {
        attributes.into_iter().collect::<Vec<_>>().into()
    }
}

impl Deref for AttributeSet {
    type Target = [Attribute];

    fn deref(&self) -> &[Attribute] {
        &self.0.attributes
    }
}

impl fmt::Debug for AttributeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the number, which is another one in each run.
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for AttributeSet {
    fn eq(&self, other: &Self) -> bool {
        self.0.attributes == other.0.attributes
    }
}
