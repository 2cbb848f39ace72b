//! What the kernel side reports.
//!
//! All events of one run are totally ordered by their [`Stamp`]; a recording may be shuffled between CPUs
//! and sorts back into the same order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::connection::{ConnectionId, Direction, Endpoint, Origin, Role, Transport};
use crate::process::ProcessKey;
use crate::time::{ClockOffset, KernelTime};

/// When and where an event was made: the total order of events.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Kernel time at which the observed thing ended (a read or write returned, a state changed).
    pub time: KernelTime,
    /// The CPU that reported it.
    pub cpu: u16,
    /// Counts the events of this CPU in the order in which they were reserved.
    pub sequence: u64,
}

/// One thing the kernel side has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The relation of kernel time to Unix time was measured.
    ClockSynced {
        /// Order of the event.
        #[serde(flatten)]
        stamp: Stamp,
        /// The offset from now on.
        offset: ClockOffset,
    },
    /// A process executed a program (or was first seen).
    ProcessStarted(ProcessStarted),
    /// The last thread of a process ended.
    ProcessExited(ProcessExited),
    /// A connection was established, or found.
    ConnectionOpened(ConnectionOpened),
    /// One side will send no more.
    ConnectionHalfClosed(ConnectionHalfClosed),
    /// The connection is gone.
    ConnectionClosed(ConnectionClosed),
    /// Bytes were read or written.
    Message(Message),
}

impl Event {
    /// The event's place in the total order.
    pub fn stamp(&self) -> Stamp {
        match self {
            Self::ClockSynced { stamp, .. } => *stamp,
            Self::ProcessStarted(event) => event.stamp,
            Self::ProcessExited(event) => event.stamp,
            Self::ConnectionOpened(event) => event.stamp,
            Self::ConnectionHalfClosed(event) => event.stamp,
            Self::ConnectionClosed(event) => event.stamp,
            Self::Message(event) => event.stamp,
        }
    }
}

/// A process executed a program, or was first seen by the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStarted {
    /// Order of the event.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The process.
    pub process: ProcessKey,
    /// Thread group id of the parent, 0 if unknown.
    pub parent: u32,
    /// `task_struct.comm`, at most 15 bytes; all that is left of a process that ended before it was looked at.
    pub comm: String,
    /// Path given to `execve`, where the kernel side saw it.
    pub filename: Option<String>,
    /// File name of the executable, where the kernel side saw it: of a script the interpreter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Id of its cgroup, 0 if unknown: in the version 2 hierarchy, or with 2^52 added in one of version 1.
    pub cgroup: u64,
}

/// The last thread of a process ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessExited {
    /// Order of the event.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The process.
    pub process: ProcessKey,
}

/// A connection was established while the agent looked, or found to exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionOpened {
    /// Order of the event.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// This end.
    pub connection: ConnectionId,
    /// Seen opening, or found open.
    pub origin: Origin,
    /// TCP or unix.
    pub transport: Transport,
    /// Who opened it, where known.
    pub role: Option<Role>,
    /// This end's address.
    pub local: Endpoint,
    /// The other end's address.
    pub peer: Endpoint,
    /// Inode number of the network namespace, 0 if unknown.
    pub netns: u32,
    /// When this end began to connect (SYN sent); only for observed clients.
    pub connect_started: Option<KernelTime>,
    /// The connecting process, where known.
    pub process: Option<ProcessKey>,
    /// What had passed when this was told; unknown in recordings of versions that did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Passed>,
}

/// Bytes that have passed in each direction while the agent looked: where the next message of it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Bytes read.
    pub ingress: u64,
    /// Bytes written.
    pub egress: u64,
}

/// The bytes of one direction have ended (FIN received or sent); the other may go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionHalfClosed {
    /// Order of the event.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// This end.
    pub connection: ConnectionId,
    /// The direction that has ended.
    pub direction: Direction,
}

/// The connection is gone in both directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionClosed {
    /// Order of the event.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// This end.
    pub connection: ConnectionId,
    /// It ended by RST, time-out or an error instead of FINs.
    pub reset: bool,
    /// Bytes read in all while the agent looked: [`Message::position`] of a next message.
    pub ingress_bytes: u64,
    /// Bytes written in all while the agent looked.
    pub egress_bytes: u64,
}

/// What carries one piece of work through a process; its number is unique within the process. In a recording a thread
/// is a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Lineage {
    /// The thread, 0 if unknown: of a program not in Go, or not examined yet.
    Thread(u64),
    /// The goroutine, by the number that Go's runtime gives it.
    Goroutine {
        /// The number.
        goroutine: u64,
    },
}

impl Default for Lineage {
    fn default() -> Self {
        Self::Thread(0)
    }
}

/// The bytes of one read or write.
///
/// `position` makes order and gaps explicit: the next message of the same direction begins at
/// `position + length`. Order within a direction is by position, never by time alone: the end of a send may be
/// reported after the peer's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Order of the event; its time is when the call returned.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The socket.
    pub connection: ConnectionId,
    /// Read or written.
    pub direction: Direction,
    /// Position of the first byte in its direction.
    pub position: u64,
    /// Bytes read or written.
    pub length: u32,
    /// Bytes right before `position` of which no message comes: the kernel has moved on over them, and no program of the
    /// capture was told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unseen: u32,
    /// The first captured bytes, at most `length`.
    #[serde(with = "crate::recording::payload")]
    pub payload: Bytes,
    /// The last bytes of the message where `payload` does not reach its end; may be empty. Never overlaps `payload`.
    #[serde(
        with = "crate::recording::payload",
        default,
        skip_serializing_if = "Bytes::is_empty"
    )]
    pub tail: Bytes,
    /// When the program began to send (egress), where the backend knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<KernelTime>,
    /// When the first of these bytes reached the socket (ingress), where the backend knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<KernelTime>,
    /// The process that read or wrote.
    pub process: ProcessKey,
    /// The thread that read or wrote.
    pub tid: u32,
    /// Goroutine or thread that read or wrote.
    pub lineage: Lineage,
    /// Id of the process' cgroup, 0 if unknown: in the version 2 hierarchy, or with 2^52 added in one of version 1.
    pub cgroup: u64,
    /// Smoothed round-trip time in microseconds (`tcp_sock.srtt_us >> 3`), 0 if unknown.
    pub srtt_us: u32,
    /// Segments retransmitted on this connection since it was opened.
    pub retransmits: u32,
    /// What is unusual about it.
    #[serde(default, skip_serializing_if = "MessageFlags::is_plain")]
    pub flags: MessageFlags,
}

/// What is unusual about a message; nothing about most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageFlags {
    /// The rest of the read or write that the message before it belongs to: the kernel side splits a message where a
    /// head begins within it. `started` and `arrived` are unknown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub part: bool,
    /// A head begins or goes on here, and the copy ends before the head does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub head_cut: bool,
    /// The position is the sum of the lengths that were seen, for want of the kernel's own numbers: bytes that were not
    /// seen are missing in it, and make no gap.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub counted: bool,
}

impl MessageFlags {
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

// Serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Message {
    /// Position of the first byte after this message.
    pub fn end(&self) -> u64 {
        self.position.saturating_add(u64::from(self.length))
    }
}
