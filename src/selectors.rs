//! Which processes are seen: selectors that include and exclude, and the reason for each decision.

mod rules;

use std::fmt;
use std::ops::RangeInclusive;

use globset::{GlobBuilder, GlobMatcher};

use spandrel_k8s_meta::attributes::Identity;

use self::rules::{Cause, Condition};
pub use self::rules::{Rules, Verdict};
use crate::identity::{Candidate, PodOf};

/// A condition on a process; all the fields that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Its process id.
    pub pid: Option<u32>,
    /// The path of its executable.
    pub executable: Option<Pattern>,
    /// Its connections with one of these ports at either end.
    pub ports: Option<RangeInclusive<u16>>,
    /// The id of its container.
    pub container_id: Option<Pattern>,
    /// What its pod must be like, if it must be in one.
    pub pod: PodSelector,
}

/// Conditions on the pod of a process; all that are given must hold, and a process in no pod meets none.
#[derive(Clone, Debug, Default)]
pub struct PodSelector {
    /// Namespace.
    pub namespace: Option<Pattern>,
    /// Labels by key.
    pub labels: Vec<(String, Pattern)>,
    /// Annotations by key.
    pub annotations: Vec<(String, Pattern)>,
    /// Kind of the workload, for example `Deployment`; in any case of its letters.
    pub workload_kind: Option<String>,
    /// Name of the workload.
    pub workload_name: Option<Pattern>,
    /// Name of the container.
    pub container_name: Option<Pattern>,
}

impl PodSelector {
    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.namespace.is_none()
            && self.labels.is_empty()
            && self.annotations.is_empty()
            && self.workload_kind.is_none()
            && self.workload_name.is_none()
            && self.container_name.is_none()
    }

    fn holds(&self, pod: &Identity) -> bool {
        let matches = |pattern: &Option<Pattern>, text: Option<&str>| {
            pattern
                .as_ref()
                .is_none_or(|pattern| text.is_some_and(|text| pattern.matcher.is_match(text)))
        };
        let pair = |(_, pattern): &(String, Pattern), value: Option<&str>| {
            value.is_some_and(|value| pattern.matcher.is_match(value))
        };
        matches(&self.namespace, Some(pod.namespace()))
            && self.labels.iter().all(|one| pair(one, pod.label(&one.0)))
            && self
                .annotations
                .iter()
                .all(|one| pair(one, pod.annotation(&one.0)))
            && self.workload_kind.as_ref().is_none_or(|kind| {
                pod.workload()
                    .is_some_and(|(of, _)| of.name().eq_ignore_ascii_case(kind))
            })
            && matches(&self.workload_name, pod.workload().map(|(_, name)| name))
            && matches(&self.container_name, pod.container_name())
    }
}

/// A glob that remembers how it was written. What it matches is one string: `*` stands for any part of it, `/` too.
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
            .literal_separator(false)
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
    /// What is left of the selectors for a process.
    pub fn rules(&self, candidate: &Candidate) -> Rules {
        let of = |selectors: &[Selector]| {
            let conditions = selectors.iter().enumerate();
            conditions
                .filter_map(|(at, selector)| selector.condition(at, candidate))
                .collect()
        };
        Rules {
            exclude: of(&self.exclude),
            include: of(&self.include),
            all: self.include.is_empty(),
        }
    }

    /// Decides about a connection of a process with these ports, or about all of them at once.
    pub fn decide(&self, candidate: &Candidate, ports: Option<&[u16]>) -> Decision {
        let (verdict, cause) = self.rules(candidate).decide_for(ports);
        let cite = |list: &str, at: usize, selector: Option<&Selector>| match selector {
            Some(selector) => format!("{list}[{at}] {}: {selector}", verdict.clause()),
            None => format!("{list}[{at}] {}", verdict.clause()),
        };
        let reason = match cause {
            Cause::Exclude(at) => cite("exclude", at, self.exclude.get(at)),
            Cause::Include(at) => cite("include", at, self.include.get(at)),
            Cause::Neither if verdict == Verdict::Allow => {
                "no include selector is set and no exclude selector holds".to_owned()
            }
            Cause::Neither => format!("none of the {} include selectors holds", self.include.len()),
        };
        Decision { verdict, reason }
    }

    /// Whether a decision may depend on what the API server tells.
    pub fn depend_on_pods(&self) -> bool {
        self.include
            .iter()
            .chain(&self.exclude)
            .any(|selector| !selector.pod.is_empty())
    }

    /// Whether a decision may depend on what a process is, which has to be read.
    pub fn depend_on_programs(&self) -> bool {
        self.include
            .iter()
            .chain(&self.exclude)
            .any(Selector::names_program)
    }

    /// Whether a decision may change when a process opens a connection on another port.
    pub fn depend_on_ports(&self) -> bool {
        self.include
            .iter()
            .chain(&self.exclude)
            .any(|selector| selector.ports.is_some())
    }
}

impl Verdict {
    /// What a selector does that leads to it.
    fn clause(self) -> &'static str {
        match self {
            Self::Allow | Self::Deny => "holds",
            Self::Wait => "names what is not known yet: the pod, or what the process is",
            Self::ByPort => "holds at some ports",
        }
    }
}

impl Selector {
    fn names_program(&self) -> bool {
        self.executable.is_some() || self.container_id.is_some()
    }

    fn holds_for_program(&self, candidate: &Candidate) -> bool {
        let executable = candidate.executable.as_deref();
        let container = candidate.container_id.as_deref();
        let matches = |pattern: &Option<Pattern>, is: &dyn Fn(&Pattern) -> bool| {
            pattern.as_ref().is_none_or(is)
        };
        matches(&self.executable, &|pattern| {
            executable.is_some_and(|path| pattern.matcher.is_match(path))
        }) && matches(&self.container_id, &|pattern| {
            container.is_some_and(|id| pattern.matcher.is_match(id))
        })
    }

    /// What is left to ask, if its conditions on the process hold or may hold. What is unknown about a process matches no
    /// pattern. A selector without conditions holds for nothing, so that an empty entry in a file does not switch
    /// everything on or off.
    fn condition(&self, at: usize, candidate: &Candidate) -> Option<Condition> {
        let empty = self.pid.is_none()
            && self.executable.is_none()
            && self.ports.is_none()
            && self.container_id.is_none()
            && self.pod.is_empty();
        let unread = candidate.unread && self.names_program();
        let process = !empty
            && self.pid.is_none_or(|pid| pid == candidate.process.tgid)
            && (unread || self.holds_for_program(candidate));
        let (holds, known) = match &candidate.pod {
            _ if unread => (process, false),
            _ if self.pod.is_empty() => (process, true),
            PodOf::Nobody => (false, true),
            PodOf::NotYet => (process, false),
            PodOf::Pod(pod) => (process && self.pod.holds(pod), true),
        };
        holds.then(|| Condition {
            at,
            ports: self.ports.clone(),
            known,
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
        parts.extend(
            self.ports
                .as_ref()
                .map(|ports| match ports.start() == ports.end() {
                    true => format!("port {}", ports.start()),
                    false => format!("port {}-{}", ports.start(), ports.end()),
                }),
        );
        parts.extend(
            self.container_id
                .as_ref()
                .map(|pattern| format!("container {}", pattern.text)),
        );
        let pod = &self.pod;
        for (what, pattern) in [
            ("namespace", &pod.namespace),
            ("workload", &pod.workload_name),
            ("container name", &pod.container_name),
        ] {
            parts.extend(pattern.as_ref().map(|it| format!("{what} {}", it.text)));
        }
        parts.extend(
            pod.workload_kind
                .as_ref()
                .map(|kind| format!("workload kind {kind}")),
        );
        for (what, pairs) in [("label", &pod.labels), ("annotation", &pod.annotations)] {
            parts.extend(
                pairs
                    .iter()
                    .map(|(key, it)| format!("{what} {key}={}", it.text)),
            );
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
#[path = "selectors_tests.rs"]
mod tests;
