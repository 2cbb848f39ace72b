//! Which labels or annotations are meant, by their keys.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Keys: exact ones and patterns. Without any, none.
#[derive(Clone, Debug, Default)]
pub struct KeyRules {
    exact: Vec<String>,
    patterns: Option<GlobSet>,
}

/// A pattern that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{pattern}` is no pattern for keys: {reason}; write a key, or one with * ? [a-z] or {{a,b}}"
)]
pub struct BadPattern {
    /// As it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl KeyRules {
    /// From keys and globs; in a glob `*` also stands for `/`, which most keys have.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPattern> {
        let mut exact = Vec::new();
        let mut patterns = GlobSetBuilder::new();
        let mut any = false;
        for key in keys {
            if key.contains(['*', '?', '[', '{', '\\']) {
                patterns.add(glob(key)?);
                any = true;
            } else {
                exact.push(key.to_owned());
            }
        }
        let built = patterns
            .build()
            .map_err(|error| bad("all of them", &error))?;
        Ok(Self {
            exact,
            patterns: any.then_some(built),
        })
    }

    /// Whether the key is among them.
    pub fn matches(&self, key: &str) -> bool {
        self.exact.iter().any(|exact| exact == key)
            || self
                .patterns
                .as_ref()
                .is_some_and(|patterns| patterns.is_match(key))
    }
}

fn glob(pattern: &str) -> Result<Glob, BadPattern> {
    GlobBuilder::new(pattern)
        .literal_separator(false)
        .build()
        .map_err(|error| bad(pattern, &error))
}

fn bad(pattern: &str, error: &globset::Error) -> BadPattern {
    BadPattern {
        pattern: pattern.to_owned(),
        reason: error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_exactly_or_by_pattern() {
        let rules = KeyRules::new(["team", "app.kubernetes.io/*", "tier-?"]).unwrap();
        for (key, expected) in [
            ("team", true),
            ("teams", false),
            ("Team", false),
            ("app.kubernetes.io/name", true),
            ("app_kubernetes_io/name", false),
            ("tier-1", true),
            ("tier-10", false),
        ] {
            assert_eq!(rules.matches(key), expected, "{key}");
        }
        assert!(KeyRules::new(["*"]).unwrap().matches("a.b/c"));
        assert!(!KeyRules::default().matches("team"));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = KeyRules::new(["team", "a[b"]).unwrap_err();
        assert!(error.to_string().contains("`a[b`"), "{error}");
    }
}
