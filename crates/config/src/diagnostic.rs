//! What is wrong with a configuration, and where: one line to grep, the source line, a caret.
use std::fmt;

/// How many problems are printed; a file that is wrong everywhere does not need more.
const MAX_PRINTED: usize = 100;
/// Source lines longer than this are cut around the caret.
const MAX_SOURCE_COLUMNS: usize = 120;

pub(crate) const NOTHING_IS_EXPORTED: &str =
    "nothing is exported: no span processor and no metric reader";

/// Whether a diagnostic stops the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration is used, but something in it has no effect or looks wrong.
    Warning,
}

/// A place in a file; both numbers start at 1 and columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// A place behind the last line, where a parser finds that something was never closed, is shown at the end of
    /// what was written.
    fn within(self, lines: &[&str]) -> Self {
        if self.line <= lines.len() {
            return self;
        }
        let last = lines.iter().rposition(|line| !line.trim().is_empty());
        last.map_or(self, |index| Self {
            line: index + 1,
            column: lines[index].trim_end().chars().count() + 1,
        })
    }
}

/// One finding about the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file, or the environment variable.
    pub origin: String,
    /// The place in the file, if the finding has one.
    pub position: Option<Position>,
    /// The path of keys, such as `distribution.spandrel.capture.backend`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What to do next, such as the nearest known key.
    pub hint: Option<String>,
    /// The line of the file, cut around the place and free of control characters.
    source: Option<SourceLine>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SourceLine {
    text: String,
    caret: usize,
}

impl Diagnostic {
    /// Whether it only concerns whoever exports: a command that prints does without.
    pub fn is_about_exports(&self) -> bool {
        self.message == NOTHING_IS_EXPORTED
    }

    /// An error without a place.
    pub(crate) fn error(origin: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, origin, message.into())
    }

    /// A warning without a place.
    pub(crate) fn warning(origin: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, origin, message.into())
    }

    fn new(severity: Severity, origin: &str, message: String) -> Self {
        Self {
            severity,
            origin: origin.to_owned(),
            position: None,
            path: String::new(),
            message: printable(&message),
            expected: None,
            hint: None,
            source: None,
        }
    }

    pub(crate) fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    pub(crate) fn path(mut self, path: impl Into<String>) -> Self {
        self.path = printable(&path.into());
        self
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    pub(crate) fn with_source(mut self, lines: &[&str]) -> Self {
        if let Some(position) = self.position
            && let Some(line) = lines.get(position.line.saturating_sub(1))
        {
            self.source = Some(SourceLine::cut(line, position.column));
        }
        self
    }
}

impl SourceLine {
    fn cut(line: &str, column: usize) -> Self {
        let index = column.saturating_sub(1);
        let start = index.saturating_sub(MAX_SOURCE_COLUMNS / 2);
        let text: String = line.chars().skip(start).take(MAX_SOURCE_COLUMNS).collect();
        Self {
            text: printable(&text),
            caret: index - start,
        }
    }
}

/// Control characters of a hostile file must not reach the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(position) = self.position {
            write!(f, ":{}:{}", position.line, position.column)?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {severity}: {}", self.message)?;
        if let (Some(source), Some(position)) = (&self.source, self.position) {
            let number = position.line.to_string();
            write!(f, "\n {number} | {}", source.text)?;
            write!(
                f,
                "\n {:w$} | {:c$}^",
                "",
                "",
                w = number.len(),
                c = source.caret
            )?;
        }
        if !self.path.is_empty() {
            write!(f, "\n   path: {}", self.path)?;
        }
        if let Some(expected) = &self.expected {
            write!(f, "\n   expected: {expected}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n   help: {hint}")?;
        }
        Ok(())
    }
}

/// Everything that makes a configuration unusable, with the warnings found on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// At least one of them is an error; in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Problems {
    /// The errors without the warnings.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics
            .iter()
            .filter(|d| d.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.diagnostics.iter().take(MAX_PRINTED) {
            writeln!(f, "{diagnostic}")?;
        }
        let hidden = self.diagnostics.len().saturating_sub(MAX_PRINTED);
        if hidden > 0 {
            writeln!(f, "and {hidden} more")?;
        }
        let errors = self.errors().count();
        let plural = if errors == 1 { "" } else { "s" };
        write!(f, "the configuration has {errors} error{plural}")
    }
}

impl std::error::Error for Problems {}

/// Collects findings while a file is read.
#[derive(Debug)]
pub(crate) struct Findings {
    origin: String,
    list: Vec<Diagnostic>,
}

impl Findings {
    pub(crate) fn new(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            list: Vec::new(),
        }
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&self.origin, message)
    }

    pub(crate) fn warning(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(&self.origin, message)
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// Sorts by place and adds the source lines.
    pub(crate) fn finish(mut self, text: &str) -> Vec<Diagnostic> {
        let lines: Vec<&str> = text.lines().collect();
        for found in &mut self.list {
            found.position = found.position.map(|at| at.within(&lines));
        }
        self.list.sort_by_key(|d| (d.position, d.severity));
        self.list.dedup();
        self.list
            .into_iter()
            .map(|d| d.with_source(&lines))
            .collect()
    }
}
