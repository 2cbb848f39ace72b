//! Command lines of interpreters: which argument is the program.

/// What a command line tells about the program behind an interpreter.
pub(super) enum Program {
    Script(String),
    /// Dotted: a Python module or a Java class.
    Module(String),
    /// `-c`, `-e` or standard input: only the interpreter itself is known.
    Inline,
}

/// How one interpreter reads its options.
pub(super) struct Language {
    names: &'static [&'static str],
    pub(super) runtime: Option<&'static str>,
    /// Options whose value is the next argument.
    valued: &'static [&'static str],
    /// Options after which there is no script.
    inline: &'static [&'static str],
    /// Words before the script, for example `run`.
    commands: &'static [&'static str],
}

impl Language {
    /// Whether one of the interpreters of this language has this name.
    pub(super) fn interprets(&self, name: &str) -> bool {
        self.names.contains(&name)
    }
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
        names: &["bun", "bunx"],
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

/// The language an executable interprets, whatever version its name ends with. On Linux only npm's Bun ends with `.exe`.
pub(super) fn language(executable: &str) -> Option<&'static Language> {
    let executable = executable.strip_suffix(".exe").unwrap_or(executable);
    let bare = executable.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    LANGUAGES.iter().find(|language| language.interprets(bare))
}

/// The program and the arguments after it.
pub(super) fn program<'a>(
    language: &Language,
    arguments: &'a [String],
) -> Option<(Program, &'a [String])> {
    let python = language.interprets("python");
    let java = language.interprets("java");
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
            || (language.interprets("sh") && is_shell_command(argument))
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
