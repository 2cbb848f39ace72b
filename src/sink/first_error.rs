//! The first error of streams that somebody else writes to.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

/// Known to everybody who holds a copy.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstError(Arc<OnceLock<(io::ErrorKind, String)>>);

impl FirstError {
    /// The same stream, whose errors are seen here.
    pub(super) fn watch(&self, stream: Box<dyn Write + Send>) -> Box<dyn Write + Send> {
        Box::new(Watched {
            stream,
            errors: self.clone(),
        })
    }

    /// It again, as often as it is asked for: where the reader has gone it says so by its kind.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.0.get() {
            Some((kind, error)) => Err(unwritable(*kind, error)),
            None => Ok(()),
        }
    }

    fn see<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| match error.kind() {
            // Whoever writes tries again.
            io::ErrorKind::Interrupted => {}
            kind => {
                self.0.get_or_init(|| (kind, error.to_string()));
            }
        })
    }
}

/// What failed is always standard output.
pub(super) fn unwritable(kind: io::ErrorKind, error: &str) -> io::Error {
    io::Error::new(
        kind,
        format!("standard output cannot be written: {error}; send it to a place that takes it"),
    )
}

struct Watched {
    stream: Box<dyn Write + Send>,
    errors: FirstError,
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.stream.write(bytes);
        self.errors.see(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.stream.flush();
        self.errors.see(result)
    }
}
