//! Why a runtime did not tell about a container.

use std::fmt;
use std::io;

/// What one attempt at one socket came to, other than a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It answers, and knows no such container.
    NotFound,
    /// There is no socket, or nobody listens to it.
    Unavailable,
    /// This process may not use the socket.
    Denied,
    /// No answer in time.
    Timeout,
    /// The answer cannot be read, or is about another container.
    Malformed,
    /// The answer is longer than is read.
    TooLarge,
    /// It answers with an error.
    Refused,
}

impl Failure {
    /// The name of its counter.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }

    /// Whether the socket itself is at fault, and not the one answer.
    pub(crate) fn is_of_socket(self) -> bool {
        matches!(self, Self::Unavailable | Self::Denied | Self::Timeout)
    }

    /// Among those of several sockets: most machines lack most of the sockets, and one runtime does not know what another one
    /// runs, but what goes wrong otherwise is to be told.
    pub(crate) fn weight(self) -> u8 {
        match self {
            Self::Unavailable => 0,
            Self::NotFound => 1,
            _ => 2,
        }
    }

    pub(crate) fn of_connecting(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Unavailable,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}
