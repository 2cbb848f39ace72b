//! What can go wrong for good.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::VERSION;

/// Why a queue cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the queue {} is in use by another process; stop that one, or give this one another storage directory",
        path.display()
    )]
    InUse {
        /// Its directory.
        path: PathBuf,
    },
    /// A newer program wrote to it. Nothing in it was changed.
    #[error(
        "{} has version {found} of the queue's format, this program reads version {newest} and older ones: \
         use the version of spandrel that wrote it, or give another storage directory",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest that is read.
        newest: u16,
    },
    /// The directory cannot be used at all.
    #[error(
        "cannot {what} {}: {source}; give a storage directory that can be written to",
        path.display()
    )]
    Directory {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn newer(path: &Path, found: u16) -> Self {
        Self::Newer {
            path: path.to_owned(),
            found,
            newest: VERSION,
        }
    }
}

/// Why a record was not taken. It is for who pushed it to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
    /// The record could never fit.
    #[error("a record of {bytes} bytes is larger than the {limit} bytes that the queue takes")]
    TooLarge {
        /// Its body.
        bytes: usize,
        /// The largest body.
        limit: usize,
    },
}
