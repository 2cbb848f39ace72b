//! From a file to the typed configuration.
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::IgnoredAny;

use crate::Loaded;
use crate::compose::compose;
use crate::diagnostic::{Diagnostic, Findings, Position, Problems};
use crate::extract::extract;
use crate::node::{Node, Value};
use crate::schema::root;
use crate::substitute::Env;
use crate::validate::{Strictness, validate};

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// The version of the OpenTelemetry schema that is known here.
const FILE_FORMAT: (u64, u64) = (1, 1);
/// The version of our own block that is known here.
const OWN_VERSION: (u64, u64) = (1, 0);

/// Reads a configuration file. Only variables that the file names are asked for.
///
/// # Errors
/// Everything that is wrong with the file, all at once.
pub fn load(path: &Path, env: &Env<'_>) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let fail = |message: String, hint: &str| {
        let found = Diagnostic::error(&name, message).hint(hint);
        Problems {
            diagnostics: vec![found],
        }
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(fail(
            format!("the file cannot be read: {error}"),
            "check the path and the permissions",
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => load_str(&name, &text, env),
        Err(error) => Err(not_utf8(
            &name,
            error.as_bytes(),
            error.utf8_error().valid_up_to(),
        )),
    }
}

fn not_utf8(name: &str, bytes: &[u8], valid: usize) -> Problems {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let byte = bytes.get(valid).copied().unwrap_or_default();
    let found = Diagnostic::error(name, format!("the byte 0x{byte:02x} is not UTF-8"));
    let found = found
        .at(Position { line, column })
        .expected("a file in UTF-8");
    // The replacement character of each bad byte stands where the caret points.
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.split('\n').collect();
    let found = found.with_source(&lines);
    Problems {
        diagnostics: vec![found],
    }
}

/// Reads a configuration from text; `name` stands for the file in messages.
///
/// # Errors
/// Everything that is wrong with the text, all at once.
pub fn load_str(name: &str, text: &str, env: &Env<'_>) -> Result<Loaded, Problems> {
    let mut findings = Findings::new(name);
    let config = parse(text, env, &mut findings);
    let failed = findings.has_errors();
    let diagnostics = findings.finish(text);
    match config {
        Some(config) if !failed => Ok(Loaded {
            config,
            warnings: diagnostics,
        }),
        _ => Err(Problems { diagnostics }),
    }
}

fn parse(text: &str, env: &Env<'_>, to: &mut Findings) -> Option<crate::Config> {
    if text.len() as u64 > MAX_BYTES {
        let found = to.error(format!("the file is larger than {MAX_BYTES} bytes"));
        to.push(found.hint("is this the right file?"));
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = compose(text, env, to);
    // Nothing below can be trusted if the document was not read to its end.
    let root = match root {
        Some(root) => root,
        None if to.has_errors() => return None,
        None => {
            let found = to
                .error("the file is empty")
                .at(Position { line: 1, column: 1 });
            to.push(found.hint("start with: file_format: \"1.1\""));
            return None;
        }
    };
    if !to.has_errors() {
        syntax(text, to);
    }
    if root.is_null() {
        let found = to.error("the file is empty").at(root.at);
        to.push(found.hint("start with: file_format: \"1.1\""));
        return None;
    }
    if !matches!(root.value, Value::Map(_)) {
        let found = to.error(format!("found {}", root.describe())).at(root.at);
        to.push(found.expected("a mapping that starts with file_format"));
        return None;
    }
    let later_schema = version(root.get("file_format"), "file_format", FILE_FORMAT, to);
    let own = root.at_path(&["distribution", "spandrel", "version"]);
    version(own, "distribution.spandrel.version", OWN_VERSION, to);
    validate(&root, &root::ROOT, Strictness { later_schema }, to);
    Some(extract(&root, to))
}

/// The project's YAML parser has the last word on what is YAML.
fn syntax(text: &str, to: &mut Findings) {
    let Err(error) = serde_yaml::from_str::<IgnoredAny>(text) else {
        return;
    };
    let mut found = to.error(format!("this is not valid YAML: {error}"));
    if let Some(at) = error.location() {
        found = found.at(Position {
            line: at.line(),
            column: at.column(),
        });
    }
    to.push(found);
}

/// Checks a version such as `1.1` and says whether it is later than the known one.
fn version(node: Option<&Node>, path: &str, known: (u64, u64), to: &mut Findings) -> bool {
    let Some(node) = node else { return false };
    let expected = format!("\"{}.{}\"", known.0, known.1);
    let given = match &node.value {
        Value::Str(text) => text.clone(),
        // 1.1 without quotes is a number, and 1.10 would become 1.1.
        _ => return false,
    };
    if node.substituted.is_some() {
        let found = to
            .error("a version from a variable cannot be checked")
            .at(node.at);
        to.push(found.path(path).expected(expected));
        return false;
    }
    let (number, suffix) = given.split_once('-').unwrap_or((&given, ""));
    let parsed = number
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse::<u64>().ok()?, minor.parse::<u64>().ok()?)));
    let found = match parsed {
        None => to.error(format!("found {}, which is not a version", node.describe())),
        Some((major, _)) if major != known.0 => {
            to.error(format!("the version {number} is not supported"))
        }
        Some((_, minor)) if minor > known.1 => to.warning(format!(
            "the version {number} is later than the known one; unknown keys have no effect"
        )),
        Some(_) if !suffix.is_empty() => to.warning(
            format!("the version {number}-{suffix} was a draft of {number}").replace('\n', " "),
        ),
        Some(_) => return false,
    };
    to.push(found.at(node.at).path(path).expected(expected));
    parsed.is_some_and(|(_, minor)| minor > known.1)
}
