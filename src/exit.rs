//! Exit codes, and how an error becomes one.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::standard_error::say;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed while running.
    Failed,
    /// 2: usage or configuration.
    Usage,
    /// 3: this machine cannot do it.
    Machine,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Machine => 3,
        })
    }
}

/// An error that knows its exit code; anything else exits with 1.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// What failed and what to do next.
    pub message: String,
}

impl Failure {
    /// An error of usage or configuration.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.to_string(),
        }
    }

    /// Something this machine cannot do.
    pub fn machine(message: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Machine,
            message: message.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Writes the error to standard error and gives its exit code.
pub fn report(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        // The reader of our output has gone (`spandrel trace | head`): not a failure of ours.
        return Exit::Done;
    }
    say(format_args!("{}", sentence(error).trim_end()));
    error
        .downcast_ref::<Failure>()
        .map_or(Exit::Failed, |failure| failure.exit)
}

/// An error and its causes. Many an error tells its cause itself, which is not told again.
fn sentence(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// The same, but for a reader that has gone, which is no failure of ours.
pub fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_that_the_error_tells_itself_is_told_once() {
        let cause = || io::Error::from(io::ErrorKind::NotADirectory);
        let plain = Err::<(), _>(cause()).context("cannot open a").unwrap_err();
        assert_eq!(sentence(&plain), "cannot open a: not a directory");
        let outer = format!("cannot open a: {}; give another", cause());
        let whole = Err::<(), _>(cause()).context(outer.clone()).unwrap_err();
        assert_eq!(sentence(&whole), outer);
    }
}
