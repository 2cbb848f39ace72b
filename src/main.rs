//! The agent's entry point: arguments, logs, one command, an exit code.

use std::process::ExitCode;

use clap::Parser;
use spandrel::cli::Cli;
use spandrel::exit::{Exit, report};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, mistakes to stderr with 2: clap knows which.
            let code = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            return match error.print() {
                Ok(()) => code.into(),
                Err(_) => Exit::Failed.into(),
            };
        }
    };
    spandrel::logging::start();
    let exit = match spandrel::commands::execute(cli.command) {
        Ok(exit) => exit,
        Err(error) => report(&error),
    };
    spandrel::standard_error::finish();
    exit.into()
}
