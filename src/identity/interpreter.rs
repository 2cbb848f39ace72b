//! Programs run by an interpreter: which script, module or class it is, and what that is called.

use std::path::{Component, Path, PathBuf};

/// What a command line tells about the program behind an interpreter.
enum Program {
    Script(String),
    /// Dotted: a Python module or a Java class.
    Module(String),
    /// `-c`, `-e` or standard input: only the interpreter itself is known.
    Inline,
}

/// How one interpreter reads its options.
struct Language {
    names: &'static [&'static str],
    runtime: Option<&'static str>,
    /// Options whose value is the next argument.
    valued: &'static [&'static str],
    /// Options after which there is no script.
    inline: &'static [&'static str],
    /// Words before the script, for example `run`.
    commands: &'static [&'static str],
}

const LANGUAGES: &[Language] = &[
    Language {
        names: &["python", "pypy"],
        runtime: Some("cpython"),
        valued: &["-W", "-X", "--check-hash-based-pycs"],
        inline: &["-c"],
        commands: &[],
    },
    Language {
        names: &["node", "nodejs"],
        runtime: Some("nodejs"),
        valued: &[
            "-r",
            "--require",
            "--import",
            "--loader",
            "--experimental-loader",
            "-C",
            "--conditions",
        ],
        inline: &["-e", "--eval", "-p", "--print"],
        commands: &[],
    },
    Language {
        names: &["deno"],
        runtime: Some("deno"),
        valued: &["-c", "--config", "--import-map", "--lock", "--cert"],
        inline: &["eval", "repl"],
        commands: &["run", "serve"],
    },
    Language {
        names: &["bun"],
        runtime: Some("bun"),
        valued: &["-r", "--preload", "--cwd", "-c", "--config"],
        inline: &["-e", "--eval"],
        commands: &["run"],
    },
    Language {
        names: &["ruby"],
        runtime: Some("ruby"),
        valued: &["-C", "-I", "-r", "-E", "--encoding"],
        inline: &["-e"],
        commands: &[],
    },
    Language {
        names: &["perl"],
        runtime: Some("perl"),
        valued: &["-I"],
        inline: &["-e", "-E"],
        commands: &[],
    },
    Language {
        names: &["php"],
        runtime: Some("php"),
        valued: &["-c", "-d", "-z", "-S", "-t"],
        inline: &["-r", "-R"],
        commands: &["-f"],
    },
    Language {
        names: &["bash", "sh", "dash", "ash", "zsh", "ksh"],
        runtime: None,
        valued: &["-o", "+o", "-O", "--rcfile", "--init-file"],
        inline: &["-c", "-s"],
        commands: &[],
    },
    Language {
        names: &["java"],
        runtime: None,
        valued: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--add-modules",
            "--add-opens",
            "--add-exports",
            "--add-reads",
            "--limit-modules",
            "--upgrade-module-path",
        ],
        inline: &[],
        commands: &["-jar", "-m", "--module"],
    },
    Language {
        names: &["dotnet"],
        runtime: None,
        valued: &[
            "--depsfile",
            "--runtimeconfig",
            "--additionalprobingpath",
            "--fx-version",
        ],
        inline: &[],
        commands: &["exec"],
    },
];

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

/// File, module and class names that every second program has.
const GENERIC: &[&str] = &[
    "__main__",
    "app",
    "application",
    "asgi",
    "bin",
    "boot",
    "bootstrap",
    "cli",
    "dist",
    "entrypoint",
    "index",
    "launcher",
    "main",
    "manage",
    "program",
    "run",
    "serve",
    "server",
    "start",
    "startup",
    "wsgi",
    "www",
];

/// Directories that say nothing about what is in them.
const GENERIC_FOLDERS: &[&str] = &[
    "app",
    "apps",
    "bin",
    "build",
    "cmd",
    "code",
    "current",
    "dist",
    "home",
    "html",
    "lib",
    "local",
    "opt",
    "out",
    "public",
    "release",
    "releases",
    "root",
    "sbin",
    "scripts",
    "server",
    "src",
    "srv",
    "target",
    "tmp",
    "usr",
    "var",
    "work",
    "workspace",
    "www",
];

const SCRIPT_ENDINGS: &[&str] = &[
    "bash", "cjs", "dll", "jar", "js", "mjs", "mts", "php", "pl", "py", "pyc", "pyz", "rb", "sh",
    "ts", "tsx", "war",
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

/// Whether a file name looks like a script's.
pub(super) fn is_script(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(stem, ending)| !stem.is_empty() && SCRIPT_ENDINGS.contains(&ending))
}

/// The stem of a script, or the nearest directory with a telling name where the stem is a common one.
pub(super) fn name_of_script(script: &str, directory: Option<&Path>) -> String {
    let name = without_version(stem(script));
    if !is_generic(name) {
        return name.to_owned();
    }
    let path = match directory {
        Some(directory) => directory.join(script),
        None => PathBuf::from(script),
    };
    folder_name(path.parent()).unwrap_or_else(|| name.to_owned())
}

fn name_of_module(module: &str, directory: Option<&Path>) -> String {
    let telling = module
        .rsplit(['.', '/', '$'])
        .find(|part| !part.is_empty() && !is_generic(part));
    let last = || module.rsplit('.').next().unwrap_or(module).to_owned();
    match telling {
        // `com.Main`: the rest is only the top of the naming scheme.
        Some("com" | "org" | "net" | "io") | None => folder_name(directory).unwrap_or_else(last),
        Some(name) => name.to_owned(),
    }
}

fn language(executable: &str) -> Option<&'static Language> {
    let bare = executable.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    LANGUAGES
        .iter()
        .find(|language| language.names.contains(&bare))
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
        return Some(name_of_module(name.split(':').next().unwrap_or(name), None));
    }
    let word = only.split([' ', ':']).next().unwrap_or(only);
    let word = word.rsplit('/').next().unwrap_or(word);
    (!word.is_empty()).then(|| word.to_owned())
}

fn program<'a>(language: &Language, arguments: &'a [String]) -> Option<(Program, &'a [String])> {
    let python = language.names.contains(&"python");
    let java = language.names.contains(&"java");
    let mut rest = arguments;
    let mut is_file = false;
    while let Some((argument, after)) = rest.split_first() {
        rest = after;
        if python
            && let Some(letters) = argument.strip_prefix('-')
            && let Some(found) = python_cluster(letters, after)
        {
            match found {
                Cluster::Module(module, rest) => return Some((Program::Module(module), rest)),
                Cluster::Inline => return Some((Program::Inline, after)),
                Cluster::SkipNext => rest = after.get(1..).unwrap_or_default(),
                Cluster::Flags => {}
            }
        } else if argument == "-"
            || language.inline.contains(&argument.as_str())
            || (language.names.contains(&"sh") && is_shell_command(argument))
        {
            return Some((Program::Inline, after));
        } else if argument == "--" {
            continue;
        } else if language.commands.contains(&argument.as_str()) {
            is_file |= argument == "-jar";
        } else if language.valued.contains(&argument.as_str()) {
            rest = after.get(1..).unwrap_or_default();
        } else if !argument.starts_with(['-', '+', '@']) {
            let program = if java && !is_file {
                Program::Module(argument.clone())
            } else {
                Program::Script(argument.clone())
            };
            return Some((program, after));
        }
    }
    None
}

/// `-lc` and `-exc` are `-c` with company.
fn is_shell_command(argument: &str) -> bool {
    argument.strip_prefix('-').is_some_and(|letters| {
        letters.ends_with('c') && letters.bytes().all(|byte| byte.is_ascii_alphabetic())
    })
}

enum Cluster<'a> {
    Module(String, &'a [String]),
    Inline,
    SkipNext,
    Flags,
}

/// Python's one-letter options may share a dash, and the last may have its value attached: `-Im pkg`, `-mpkg`.
fn python_cluster<'a>(letters: &str, after: &'a [String]) -> Option<Cluster<'a>> {
    if letters.is_empty() || letters.starts_with('-') {
        return None;
    }
    for (at, letter) in letters.char_indices() {
        let attached = letters.get(at + 1..).unwrap_or_default();
        match letter {
            'c' => return Some(Cluster::Inline),
            'm' if attached.is_empty() => {
                let (module, rest) = after.split_first()?;
                return Some(Cluster::Module(module.clone(), rest));
            }
            'm' => return Some(Cluster::Module(attached.to_owned(), after)),
            'W' | 'X' if attached.is_empty() => return Some(Cluster::SkipNext),
            'W' | 'X' => return Some(Cluster::Flags),
            _ => {}
        }
    }
    Some(Cluster::Flags)
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

fn is_generic(name: &str) -> bool {
    GENERIC
        .iter()
        .any(|generic| generic.eq_ignore_ascii_case(name))
}

fn stem(script: &str) -> &str {
    let name = script.rsplit('/').next().unwrap_or(script);
    if is_script(name) {
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    } else {
        name
    }
}

/// `shop-1.2.3-SNAPSHOT` is `shop`.
fn without_version(name: &str) -> &str {
    let digit = |at: usize| name.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
    name.match_indices('-')
        .find(|(at, _)| *at > 0 && digit(*at))
        .and_then(|(at, _)| name.get(..at))
        .unwrap_or(name)
}

/// The nearest directory upwards whose name tells something.
fn folder_name(directory: Option<&Path>) -> Option<String> {
    let telling = |name: &&str| {
        !GENERIC_FOLDERS.contains(name)
            && !name.starts_with('.')
            && name.chars().any(char::is_alphabetic)
    };
    directory?
        .components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .find(telling)
        .map(str::to_owned)
}

#[cfg(test)]
#[path = "interpreter_tests.rs"]
mod tests;
