//! Text that is cheap to copy: a constant, short and held in place, or long and shared.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Text of keys, names and values.
///
/// Copying one never copies bytes on the heap: constants are referred to, up to 23 bytes are held in place, and what
/// is longer is shared.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(SmolStr);

impl Text {
    /// A constant; nothing is copied.
    #[inline]
    pub const fn from_static(text: &'static str) -> Self {
        Self(SmolStr::new_static(text))
    }

    /// A copy of `text`.
    #[inline]
    pub fn copied(text: &str) -> Self {
        Self(SmolStr::new(text))
    }

    /// The text itself.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.0.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&'static str> for Text {
    #[inline]
    fn from(text: &'static str) -> Self {
        Self::from_static(text)
    }
}

impl From<String> for Text {
    #[inline]
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Cow<'static, str>> for Text {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into()
    }
}

impl From<Text> for Cow<'static, str> {
    fn from(text: Text) -> Self {
        Cow::Owned(text.into())
    }
}

impl PartialEq<str> for Text {
    #[inline]
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    #[inline]
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_same_text_however_it_is_held() {
        let long = "a text that is longer than what is held in place";
        for text in ["", "GET", "network.protocol.version", long] {
            let all = [
                Text::from_static(text),
                Text::copied(text),
                Text::from(text.to_owned()),
                serde_json::from_value(serde_json::json!(text)).unwrap(),
            ];
            for one in &all {
                assert_eq!(one, text);
                assert_eq!(one, &all[0]);
                assert_eq!(serde_json::to_value(one).unwrap(), text);
                assert_eq!(format!("{one} {one:?}"), format!("{text} {text:?}"));
            }
        }
    }

    #[test]
    fn a_copy_of_a_long_text_shares_its_bytes() {
        let text = Text::from("0123456789".repeat(10));
        assert!(std::ptr::eq(text.as_str(), text.clone().as_str()));
    }
}
