//! The command line: what can be typed, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Sees from the Linux kernel what services say to each other, and streams it as OpenTelemetry.
#[derive(Debug, Parser)]
#[command(name = "spandrel", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent: capture, and export over OTLP as configured.
    Run(Run),
    /// Print requests live; no backend, no configuration.
    Trace(Trace),
    /// Send a recording through the same pipeline; needs no root.
    Replay(Replay),
    /// Say what works on this machine, what does not, and why.
    Check(Check),
    /// Say why a process is or is not seen.
    Explain(Explain),
    /// Validate, print or describe the configuration.
    #[command(subcommand)]
    Config(Config),
}

/// A path, empty ones too: whether that is a mistake depends on where it comes from.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl Command {
    /// An empty OTEL_CONFIG_FILE is as one that is not set: the specification says so of all its variables.
    #[must_use]
    pub fn without_empty_file(mut self) -> Self {
        let file = match &mut self {
            Self::Run(arguments) => &mut arguments.config,
            Self::Trace(arguments) => &mut arguments.config,
            Self::Replay(arguments) => &mut arguments.config,
            Self::Check(arguments) => &mut arguments.config,
            Self::Explain(arguments) => &mut arguments.config,
            Self::Config(Config::Print { file }) => file,
            Self::Config(_) => return self,
        };
        let variable = std::env::var_os("OTEL_CONFIG_FILE");
        if variable.is_some_and(|value| value.is_empty()) {
            *file = file.take().filter(|file| !file.as_os_str().is_empty());
        }
        self
    }
}

/// Files that several commands write.
#[derive(Args, Debug, Default)]
pub struct Files {
    /// Write every event to FILE, as JSON lines that `spandrel replay` reads.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Keep credentials in what is recorded: fields such as Authorization and Cookie, values of queries.
    #[arg(long, requires = "record")]
    pub record_credentials: bool,
    /// Write the ledger to FILE at the end, as one JSON object.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

/// Arguments of `spandrel run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Configuration file; without one the OTEL_* variables of the environment count.
    #[arg(long, value_name = "FILE", env = "OTEL_CONFIG_FILE", value_parser = any_path())]
    pub config: Option<PathBuf>,
    /// Files to write.
    #[command(flatten)]
    pub files: Files,
}

/// Arguments of `spandrel trace`.
#[derive(Args, Debug, Default)]
pub struct Trace {
    /// Only this process (repeatable).
    #[arg(long, value_name = "N")]
    pub pid: Vec<u32>,
    /// Only programs whose executable path matches (repeatable).
    #[arg(long, value_name = "GLOB")]
    pub exe: Vec<String>,
    /// Only connections with this port at either end (repeatable).
    #[arg(long, value_name = "N")]
    pub port: Vec<u16>,
    /// Only containers whose id matches (repeatable).
    #[arg(long, value_name = "GLOB")]
    pub container: Vec<String>,
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
    /// Stop after this long, for example 10s or 2m.
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Configuration file; its exporters are left alone.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Files to write.
    #[command(flatten)]
    pub files: Files,
}

/// Arguments of `spandrel replay`.
#[derive(Args, Debug)]
pub struct Replay {
    /// The recording, as `--record` wrote it.
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,
    /// Configuration file; with one and without --output, its exporters are used.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to print.
    #[arg(long, value_enum)]
    pub output: Option<Output>,
    /// Write the ledger to FILE at the end, as one JSON object.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

/// Arguments of `spandrel check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Configuration file whose backends are tested too.
    #[arg(long, value_name = "FILE", env = "OTEL_CONFIG_FILE", value_parser = any_path())]
    pub config: Option<PathBuf>,
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Report,
}

/// Arguments of `spandrel explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// The process.
    pub pid: u32,
    /// Configuration file whose selectors apply.
    #[arg(long, value_name = "FILE", env = "OTEL_CONFIG_FILE", value_parser = any_path())]
    pub config: Option<PathBuf>,
}

/// The configuration commands.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check a file; all problems at once.
    Validate {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the effective configuration, secrets redacted.
    Print {
        /// The file; without one the environment's configuration.
        #[arg(value_name = "FILE", env = "OTEL_CONFIG_FILE", value_parser = any_path())]
        file: Option<PathBuf>,
    },
    /// Print the JSON schema of the configuration file.
    Schema,
}

/// Formats of spans on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line a request, and latency per operation at the end.
    #[default]
    Text,
    /// One JSON object a request.
    Json,
    /// OTLP JSON lines: one export request a line.
    OtlpJson,
}

/// Formats of `spandrel check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Report {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// A whole number with a unit: `ms`, `s`, `m` or `h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!(
                "`{text}` is not a duration; write 500ms, 10s, 2m or 1h"
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a duration; write 500ms, 10s, 2m or 1h"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit_and_do_not_overflow() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in [
            "10",
            "s",
            "-1s",
            "1.5s",
            "99999999999999999999h",
            "9999999999999999999h",
            "",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
