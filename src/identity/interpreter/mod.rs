//! Programs run by an interpreter: which script, module or class it is, and what that is called.

mod java;
mod language;
mod names;

use std::path::Path;

pub(super) use java::{is_java, options as java_options};
use language::{Language, Program, language, program};
use names::{folder_name, name_of_module, stem};
pub(super) use names::{is_script, name_of_script};

/// Programs that run another one: the service is what they are given, or the directory they run in.
const LAUNCHERS: &[&str] = &[
    "artisan",
    "bundle",
    "celery",
    "console",
    "daphne",
    "django-admin",
    "fastapi",
    "flask",
    "granian",
    "gunicorn",
    "hypercorn",
    "nest",
    "next",
    "nodemon",
    "npm",
    "npm-cli",
    "npx",
    "nuxt",
    "pnpm",
    "puma",
    "rackup",
    "rails",
    "react-scripts",
    "ts-node",
    "tsx",
    "unicorn",
    "uvicorn",
    "vite",
    "waitress-serve",
    "yarn",
];

/// `process.runtime.name`, for interpreters whose name leaves no doubt.
pub(super) fn runtime(executable: &str) -> Option<&'static str> {
    if executable.starts_with("pypy") {
        return Some("pypy");
    }
    language(executable)?.runtime
}

/// The name of what an interpreter runs; `None` if this is no interpreter or it runs nothing that has a name.
pub(super) fn script_name(
    executable: &str,
    arguments: &[String],
    directory: Option<&Path>,
) -> Option<String> {
    let language = language(executable)?;
    if let Some(title) = title(arguments) {
        return Some(title);
    }
    run_by(language, arguments, directory).filter(|name| !name.is_empty())
}

fn run_by(language: &Language, arguments: &[String], directory: Option<&Path>) -> Option<String> {
    let (program, rest) = program(language, arguments.get(1..)?)?;
    let name = match &program {
        Program::Inline => return None,
        Program::Script(script) => stem(script),
        Program::Module(module) => module.as_str(),
    };
    if LAUNCHERS.contains(&name)
        || matches!(&program, Program::Script(script) if script.contains("/node_modules/"))
    {
        return Some(launched(name, rest, directory));
    }
    match &program {
        Program::Script(script) => Some(name_of_script(script, directory)),
        Program::Module(module) if module.starts_with("org.springframework.boot.loader") => {
            folder_name(directory).or_else(|| Some("java".to_owned()))
        }
        Program::Module(module) => Some(name_of_module(module, directory)),
        Program::Inline => None,
    }
}

/// Whether this is a process that Python's multiprocessing has made, whose program only its parent tells:
/// `python3 -c 'from multiprocessing.spawn import spawn_main; ...' --multiprocessing-fork`.
pub(super) fn is_child_of_python(executable: &str, arguments: &[String]) -> bool {
    let python = language(executable).is_some_and(|language| language.interprets("python"));
    let mut pairs = arguments.iter().zip(arguments.iter().skip(1));
    python && pairs.any(|(flag, code)| flag == "-c" && code.starts_with("from multiprocessing."))
}

/// The name of an interpreter without what only Windows needs; npm's Bun is `bun.exe` on Linux, too.
pub(super) fn without_ending(executable: &str) -> &str {
    let bare = executable.strip_suffix(".exe");
    bare.filter(|bare| language(bare).is_some())
        .unwrap_or(executable)
}

/// The title a program has put over its command line: `gunicorn: worker [shop]` and the like.
fn title(arguments: &[String]) -> Option<String> {
    let [only] = arguments else { return None };
    let file = only.rsplit('/').next().unwrap_or(only);
    if language(file.trim_start_matches('-')).is_some() {
        return None;
    }
    let bracketed = only
        .trim_end()
        .strip_suffix(']')
        .and_then(|text| text.rsplit_once('['))
        .map(|(_, name)| name)
        .filter(|name| !name.is_empty() && !name.contains(char::is_whitespace));
    if let Some(name) = bracketed {
        let module = name.split(':').next().unwrap_or(name);
        return Some(name_of_module(module, None)).filter(|name| !name.is_empty());
    }
    let word = only.split([' ', ':']).next().unwrap_or(only);
    let word = word.rsplit('/').next().unwrap_or(word);
    (!word.is_empty()).then(|| word.to_owned())
}

/// What a launcher launches: `shop.wsgi:app`, `-A shop`, `src/shop.ts`, or the project in its directory.
fn launched(launcher: &str, rest: &[String], directory: Option<&Path>) -> String {
    let option = rest
        .iter()
        .zip(rest.iter().skip(1))
        .find(|(option, _)| matches!(option.as_str(), "-A" | "--app"))
        .map(|(_, value)| value.as_str());
    let target = option.or_else(|| rest.iter().map(String::as_str).find(|it| is_object(it)));
    let last = || {
        rest.last()
            .map(String::as_str)
            .filter(|last| last.contains('.') && is_module(last))
    };
    if let Some(target) = target {
        return name_of_module(target.split(':').next().unwrap_or(target), directory);
    }
    if let Some(script) = rest
        .iter()
        .find(|argument| is_script(argument) && !argument.starts_with('-'))
    {
        return name_of_script(script, directory);
    }
    if let Some(module) = last() {
        return name_of_module(module, directory);
    }
    folder_name(directory).unwrap_or_else(|| launcher.to_owned())
}

/// `package.module:object`, but not `host:port`.
fn is_object(text: &str) -> bool {
    text.split_once(':').is_some_and(|(module, object)| {
        is_module(module) && object.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    })
}

fn is_module(text: &str) -> bool {
    text.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests;
