//! Which processes are seen: selectors that include and exclude, and the reason for each decision.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use crate::identity::Candidate;

/// A condition on a process; all the fields that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Its process id.
    pub pid: Option<u32>,
    /// The path of its executable; `*` stays within one directory, `**` does not.
    pub executable: Option<Pattern>,
    /// One of its connections has one of these local or remote ports; empty means any.
    pub ports: Vec<u16>,
    /// The id of its container.
    pub container_id: Option<Pattern>,
}

/// A glob that remembers how it was written.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

/// A glob that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the glob `{pattern}` is not valid: {problem}")]
pub struct PatternError {
    pattern: String,
    problem: globset::ErrorKind,
}

impl Pattern {
    /// Compiles a glob.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map_err(|error| PatternError {
                pattern: text.to_owned(),
                problem: error.kind().clone(),
            })?;
        Ok(Self {
            text: text.to_owned(),
            matcher: glob.compile_matcher(),
        })
    }
}

/// Whether a process is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Allow,
    /// It is not.
    Deny,
}

/// A verdict and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Seen or not.
    pub verdict: Verdict,
    /// One clause for `explain`.
    pub reason: String,
}

/// Selectors in force: a process is seen if one of `include` holds (or there is none) and none of `exclude`.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    /// Processes to see.
    pub include: Vec<Selector>,
    /// Processes not to see; stronger than `include`.
    pub exclude: Vec<Selector>,
}

impl Selectors {
    /// Decides about a process with connections on these ports.
    pub fn decide(&self, candidate: &Candidate, ports: &[u16]) -> Decision {
        let find = |selectors: &[Selector]| {
            selectors
                .iter()
                .position(|selector| selector.holds(candidate, ports))
        };
        let cite = |list: &str, at: usize, selector: Option<&Selector>| match selector {
            Some(selector) => format!("{list}[{at}] holds: {selector}"),
            None => format!("{list}[{at}] holds"),
        };
        if let Some(at) = find(&self.exclude) {
            return Decision {
                verdict: Verdict::Deny,
                reason: cite("exclude", at, self.exclude.get(at)),
            };
        }
        if self.include.is_empty() {
            return Decision {
                verdict: Verdict::Allow,
                reason: "no include selector is set and no exclude selector holds".to_owned(),
            };
        }
        match find(&self.include) {
            Some(at) => Decision {
                verdict: Verdict::Allow,
                reason: cite("include", at, self.include.get(at)),
            },
            None => Decision {
                verdict: Verdict::Deny,
                reason: format!("none of the {} include selectors holds", self.include.len()),
            },
        }
    }

    /// Whether a decision may change when a process opens a connection on another port.
    pub fn depend_on_ports(&self) -> bool {
        self.include
            .iter()
            .chain(&self.exclude)
            .any(|selector| !selector.ports.is_empty())
    }
}

impl Selector {
    /// What is unknown about a process matches no pattern. A selector without conditions holds for nothing, so that
    /// an empty entry in a file does not switch everything on or off.
    fn holds(&self, candidate: &Candidate, ports: &[u16]) -> bool {
        let empty = self.pid.is_none()
            && self.executable.is_none()
            && self.ports.is_empty()
            && self.container_id.is_none();
        !empty
            && self.pid.is_none_or(|pid| pid == candidate.process.tgid)
            && self.executable.as_ref().is_none_or(|pattern| {
                let path = candidate.executable.as_deref();
                path.is_some_and(|path| pattern.matcher.is_match(path))
            })
            && (self.ports.is_empty() || self.ports.iter().any(|port| ports.contains(port)))
            && self.container_id.as_ref().is_none_or(|pattern| {
                let id = candidate.container_id.as_deref();
                id.is_some_and(|id| pattern.matcher.is_match(id))
            })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.pid.map(|pid| format!("pid {pid}")));
        parts.extend(
            self.executable
                .as_ref()
                .map(|pattern| format!("executable {}", pattern.text)),
        );
        if !self.ports.is_empty() {
            let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
            parts.push(format!("port {}", ports.join(" or ")));
        }
        parts.extend(
            self.container_id
                .as_ref()
                .map(|pattern| format!("container {}", pattern.text)),
        );
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
#[path = "selectors_tests.rs"]
mod tests;
