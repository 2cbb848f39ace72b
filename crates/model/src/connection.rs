//! Connections: one end of a transport connection as one host's kernel knows it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// One end of a connection (one socket), unique while the host is up.
///
/// The two ends of a loopback connection are two ids; [`Endpoint`]s tell that they belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub u64);

/// Which way bytes went, seen from the socket's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The program read the bytes.
    Ingress,
    /// The program wrote the bytes.
    Egress,
}

impl Direction {
    /// The other direction.
    pub fn reverse(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// Who opened the connection. A fact of the transport, not of the protocol above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// This end connected.
    Client,
    /// This end accepted.
    Server,
}

/// How the agent came to know a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Its opening was seen: byte positions count from the first byte.
    Observed,
    /// It existed before: byte positions count from where the agent began to look. The same where the agent has forgotten
    /// the connection and it is announced again; its positions then go on.
    PreExisting,
}

/// The transport below the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// An `AF_UNIX` stream socket.
    Unix,
}

/// How much of a connection's bytes the kernel side copies; user space decides once it knows the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapturePolicy {
    /// Not decided yet: a generous first copy of each message, so that detection sees whole heads.
    Undecided,
    /// Not ours to look at: nothing is copied and nothing is reported but the close.
    Ignore,
    /// The first `copy_bytes` of each message, and its tail.
    Headers,
    /// As much of each message as the kernel side can copy, up to this many bytes.
    Full(u32),
    /// User space has forgotten the connection: the kernel side announces it again before its next message, as
    /// [`Origin::PreExisting`], and copies as if nothing had been decided.
    Forgotten,
}

/// An address of one side of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// IP address and port. IPv4-mapped IPv6 addresses are given as IPv4.
    Socket(SocketAddr),
    /// Path of a unix socket; an abstract name begins with `@`; unnamed sockets have an empty path.
    Path(String),
    /// Not known; never guessed.
    Unknown,
}

impl Endpoint {
    /// The IP address, if there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(address) => Some(address.ip()),
            _ => None,
        }
    }

    /// The port, if there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Socket(address) => Some(address.port()),
            _ => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Path(path) if path.is_empty() => f.write_str("unix:(unnamed)"),
            Self::Path(path) => write!(f, "unix:{path}"),
            Self::Unknown => f.write_str("?"),
        }
    }
}
