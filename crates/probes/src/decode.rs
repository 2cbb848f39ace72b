//! Records of the ring as events. Total: any bytes give an event or a typed error, never a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use spandrel_model::{
    ConnectionClosed, ConnectionHalfClosed, ConnectionId, ConnectionOpened, Direction, Endpoint,
    Event, KernelTime, Lineage, Message, MessageFlags, Origin, Passed, ProcessExited, ProcessKey,
    ProcessStarted, Role, Stamp, Transport,
};

use crate::abi;
use crate::batch::Group;

/// Why a record is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Shorter than its kind needs.
    #[error("a record of kind {kind} has {length} bytes, expected at least {expected}")]
    Short {
        /// Kind, 0 if not even that is there.
        kind: u8,
        /// Bytes in the record.
        length: usize,
        /// Bytes of the struct.
        expected: usize,
    },
    /// No such kind.
    #[error("a record has the unknown kind {0}")]
    Kind(u8),
    /// A member has a value that is not in its enumeration.
    #[error("a record has the value {value} as {member}")]
    Value {
        /// Which member.
        member: &'static str,
        /// What it was.
        value: u32,
    },
}

/// Where the bytes of a message are in the arena: the payload, and right behind it the tail.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    start: usize,
    payload: usize,
    tail: usize,
}

impl Place {
    /// Cuts payload and tail from the finished arena.
    pub(crate) fn cut(self, arena: &Bytes, message: &mut Message) {
        let middle = self.start + self.payload;
        message.payload = arena.slice(self.start..middle);
        message.tail = arena.slice(middle..middle + self.tail);
    }
}

/// A record that is at least as long as its struct.
pub(crate) struct Record<'a>(pub(crate) &'a [u8]);

impl Record<'_> {
    fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut out = [0; N];
        if let Some(found) = self.0.get(offset..offset + N) {
            out.copy_from_slice(found);
        }
        out
    }

    pub(crate) fn u64(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.bytes(offset))
    }

    pub(crate) fn u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(offset))
    }

    fn u16(&self, offset: usize) -> u16 {
        u16::from_ne_bytes(self.bytes(offset))
    }

    fn u8(&self, offset: usize) -> u8 {
        self.bytes::<1>(offset)[0]
    }

    fn text(&self, offset: usize, limit: usize) -> String {
        let rest = self.0.get(offset..).unwrap_or_default();
        let text = &rest[..limit.min(rest.len())];
        let end = text.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&text[..end.unwrap_or(text.len())]).into_owned()
    }
}

macro_rules! at {
    ($record:ident . $read:ident ( $kind:ident . $member:ident )) => {
        $record.$read(std::mem::offset_of!(abi::$kind, $member))
    };
}
pub(crate) use at;

/// Decodes one record; a message's bytes are appended to `arena`. `sequence` is asked for the number of a
/// record of this CPU once the record is known to be good.
pub(crate) fn decode(
    bytes: &[u8],
    arena: &mut BytesMut,
    sequence: impl FnOnce(u16) -> u64,
) -> Result<(Event, Place), DecodeError> {
    let record = sized(bytes, 0, abi::Header::LAYOUT.size)?;
    let kind = at!(record.u8(Header.kind));
    let time = KernelTime(at!(record.u64(Header.time)));
    let cpu = at!(record.u16(Header.cpu));
    let stamp = move || Stamp {
        time,
        cpu,
        sequence: sequence(cpu),
    };
    let event = match kind {
        abi::kind::MESSAGE => return message(bytes, arena, stamp),
        abi::kind::OPENED => Event::ConnectionOpened(opened(bytes, stamp)?),
        abi::kind::OPENED_UNIX => Event::ConnectionOpened(opened_unix(bytes, stamp)?),
        abi::kind::HALF_CLOSED => {
            let record = sized(bytes, kind, abi::HalfClosed::LAYOUT.size)?;
            let direction = direction(at!(record.u8(HalfClosed.direction)))?;
            Event::ConnectionHalfClosed(ConnectionHalfClosed {
                stamp: stamp(),
                connection: ConnectionId(at!(record.u64(HalfClosed.connection))),
                direction,
            })
        }
        abi::kind::CLOSED => {
            let record = sized(bytes, kind, abi::Closed::LAYOUT.size)?;
            Event::ConnectionClosed(ConnectionClosed {
                stamp: stamp(),
                connection: ConnectionId(at!(record.u64(Closed.connection))),
                reset: at!(record.u8(Closed.reset)) != 0,
                ingress_bytes: at!(record.u64(Closed.ingress_bytes)),
                egress_bytes: at!(record.u64(Closed.egress_bytes)),
            })
        }
        abi::kind::PROCESS_STARTED => {
            let record = sized(bytes, kind, abi::ProcessStarted::LAYOUT.size)?;
            let length = at!(record.u32(ProcessStarted.filename_length)) as usize;
            let offset = std::mem::offset_of!(abi::ProcessStarted, filename);
            let name_length = at!(record.u32(ProcessStarted.executable_length)) as usize;
            let name_offset = std::mem::offset_of!(abi::ProcessStarted, executable);
            Event::ProcessStarted(ProcessStarted {
                stamp: stamp(),
                process: ProcessKey {
                    tgid: at!(record.u32(ProcessStarted.tgid)),
                    started: at!(record.u64(ProcessStarted.process_started)),
                },
                parent: at!(record.u32(ProcessStarted.parent)),
                comm: record.text(std::mem::offset_of!(abi::ProcessStarted, comm), 16),
                filename: (length > 0).then(|| record.text(offset, length.min(256))),
                executable: (name_length > 0)
                    .then(|| record.text(name_offset, name_length.min(256))),
                cgroup: at!(record.u64(ProcessStarted.cgroup)),
            })
        }
        abi::kind::PROCESS_EXITED => {
            let record = sized(bytes, kind, abi::ProcessExited::LAYOUT.size)?;
            Event::ProcessExited(ProcessExited {
                stamp: stamp(),
                process: ProcessKey {
                    tgid: at!(record.u32(ProcessExited.tgid)),
                    started: at!(record.u64(ProcessExited.process_started)),
                },
            })
        }
        other => return Err(DecodeError::Kind(other)),
    };
    Ok((event, Place::default()))
}

/// A record that tells of a control group; `None` if it is of another kind, or too short.
pub(crate) fn group(bytes: &[u8]) -> Option<Group> {
    let record = sized(bytes, abi::kind::GROUP, abi::Group::LAYOUT.size).ok()?;
    if at!(record.u8(Header.kind)) != abi::kind::GROUP {
        return None;
    }
    let names = std::mem::offset_of!(abi::Group, names);
    let levels = (at!(record.u32(Group.levels)) as usize).min(GROUP_LEVELS);
    let mut path = String::new();
    for level in (0..levels).rev() {
        path.push('/');
        path.push_str(&record.text(names + level * GROUP_NAME, GROUP_NAME));
    }
    Some(Group {
        id: at!(record.u64(Group.group)),
        path,
        cut: at!(record.u32(Group.cut)) != 0,
    })
}

/// `GROUP_LEVELS` and `GROUP_NAME`.
const GROUP_LEVELS: usize = 12;
const GROUP_NAME: usize = 128;

fn sized(bytes: &[u8], kind: u8, expected: usize) -> Result<Record<'_>, DecodeError> {
    if bytes.len() < expected {
        return Err(DecodeError::Short {
            kind,
            length: bytes.len(),
            expected,
        });
    }
    Ok(Record(bytes))
}

fn direction(value: u8) -> Result<Direction, DecodeError> {
    match value {
        0 => Ok(Direction::Ingress),
        1 => Ok(Direction::Egress),
        _ => Err(DecodeError::Value {
            member: "direction",
            value: value.into(),
        }),
    }
}

fn role(value: u8) -> Result<Option<Role>, DecodeError> {
    match value {
        0 => Ok(None),
        1 => Ok(Some(Role::Client)),
        2 => Ok(Some(Role::Server)),
        _ => Err(DecodeError::Value {
            member: "role",
            value: value.into(),
        }),
    }
}

fn origin(value: u8) -> Result<Origin, DecodeError> {
    match value {
        0 => Ok(Origin::Observed),
        1 => Ok(Origin::PreExisting),
        _ => Err(DecodeError::Value {
            member: "origin",
            value: value.into(),
        }),
    }
}

fn known(time: u64) -> Option<KernelTime> {
    (time != 0).then_some(KernelTime(time))
}

fn message(
    bytes: &[u8],
    arena: &mut BytesMut,
    stamp: impl FnOnce() -> Stamp,
) -> Result<(Event, Place), DecodeError> {
    let head = abi::Message::LAYOUT.size;
    let record = sized(bytes, abi::kind::MESSAGE, head)?;
    let payload = usize::from(at!(record.u16(Message.payload_length)));
    let tail = usize::from(at!(record.u8(Message.tail_length)));
    let length = at!(record.u32(Message.length));
    sized(bytes, abi::kind::MESSAGE, head + payload + tail)?;
    if payload + tail > length as usize {
        return Err(DecodeError::Value {
            member: "payload_length",
            value: (payload + tail) as u32,
        });
    }
    let direction = direction(at!(record.u8(Message.direction)))?;
    let start = arena.len();
    arena.extend_from_slice(&bytes[head..head + payload + tail]);
    let tgid = at!(record.u32(Message.tgid));
    let tid = at!(record.u32(Message.tid));
    let flags = at!(record.u8(Message.flags));
    let event = Event::Message(Message {
        stamp: stamp(),
        connection: ConnectionId(at!(record.u64(Message.connection))),
        direction,
        position: at!(record.u64(Message.position)),
        length,
        unseen: at!(record.u32(Message.unseen)),
        payload: Bytes::new(),
        tail: Bytes::new(),
        started: known(at!(record.u64(Message.started))),
        arrived: known(at!(record.u64(Message.arrived))),
        process: ProcessKey {
            tgid,
            started: at!(record.u64(Message.process_started)),
        },
        tid,
        lineage: match at!(record.u64(Message.goroutine)) {
            0 => Lineage::Thread(tid.into()),
            goroutine => Lineage::Goroutine { goroutine },
        },
        cgroup: at!(record.u64(Message.cgroup)),
        srtt_us: at!(record.u32(Message.srtt_us)),
        retransmits: at!(record.u32(Message.retransmits)),
        flags: MessageFlags {
            part: flags & abi::message_flag::PART != 0,
            head_cut: flags & abi::message_flag::HEAD_CUT != 0,
            counted: flags & abi::message_flag::COUNTED != 0,
        },
    });
    let place = Place {
        start,
        payload,
        tail,
    };
    Ok((event, place))
}

fn opened(bytes: &[u8], stamp: impl FnOnce() -> Stamp) -> Result<ConnectionOpened, DecodeError> {
    let record = sized(bytes, abi::kind::OPENED, abi::Opened::LAYOUT.size)?;
    let family = at!(record.u8(Opened.family));
    let address = |raw: [u8; 16]| match family {
        2 => Ok(IpAddr::V4(Ipv4Addr::new(raw[0], raw[1], raw[2], raw[3]))),
        10 => Ok(IpAddr::V6(Ipv6Addr::from(raw))),
        _ => Err(DecodeError::Value {
            member: "family",
            value: family.into(),
        }),
    };
    let local = address(at!(record.bytes(Opened.local_address)))?;
    let peer = address(at!(record.bytes(Opened.peer_address)))?;
    let role = role(at!(record.u8(Opened.role)))?;
    let origin = origin(at!(record.u8(Opened.origin)))?;
    let tgid = at!(record.u32(Opened.tgid));
    Ok(ConnectionOpened {
        stamp: stamp(),
        connection: ConnectionId(at!(record.u64(Opened.connection))),
        origin,
        transport: Transport::Tcp,
        role,
        local: Endpoint::Socket(SocketAddr::new(local, at!(record.u16(Opened.local_port)))),
        peer: Endpoint::Socket(SocketAddr::new(peer, at!(record.u16(Opened.peer_port)))),
        netns: at!(record.u32(Opened.netns)),
        connect_started: known(at!(record.u64(Opened.connect_started))),
        process: (tgid != 0).then(|| ProcessKey {
            tgid,
            started: at!(record.u64(Opened.process_started)),
        }),
        passed: Some(passed(at!(record.bytes(Opened.passed)))),
    })
}

fn opened_unix(
    bytes: &[u8],
    stamp: impl FnOnce() -> Stamp,
) -> Result<ConnectionOpened, DecodeError> {
    let record = sized(bytes, abi::kind::OPENED_UNIX, abi::OpenedUnix::LAYOUT.size)?;
    let role = role(at!(record.u8(OpenedUnix.role)))?;
    let origin = origin(at!(record.u8(OpenedUnix.origin)))?;
    let local: [u8; 108] = at!(record.bytes(OpenedUnix.local_path));
    let peer: [u8; 108] = at!(record.bytes(OpenedUnix.peer_path));
    Ok(ConnectionOpened {
        stamp: stamp(),
        connection: ConnectionId(at!(record.u64(OpenedUnix.connection))),
        origin,
        transport: Transport::Unix,
        role,
        local: unix_path(&local, at!(record.u8(OpenedUnix.local_length))),
        peer: unix_path(&peer, at!(record.u8(OpenedUnix.peer_length))),
        netns: at!(record.u32(OpenedUnix.netns)),
        connect_started: None,
        process: None,
        passed: Some(passed(at!(record.bytes(OpenedUnix.passed)))),
    })
}

/// In the order of `enum direction`.
fn passed(raw: [u8; 16]) -> Passed {
    let (ingress, egress) = raw.split_at(8);
    let number = |raw: &[u8]| raw.try_into().map_or(0, u64::from_ne_bytes);
    Passed {
        ingress: number(ingress),
        egress: number(egress),
    }
}

fn unix_path(path: &[u8; 108], length: u8) -> Endpoint {
    let path = &path[..usize::from(length).min(path.len())];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Endpoint::Path(match path {
        [0, name @ ..] => format!("@{}", text(name)),
        _ => text(path.split(|byte| *byte == 0).next().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_give_an_event_or_an_error(
            kind in 0u8..9,
            mut bytes in prop::collection::vec(any::<u8>(), 0..700),
        ) {
            if let Some(byte) = bytes.get_mut(10) {
                *byte = kind;
            }
            let mut arena = BytesMut::new();
            group(&bytes);
            if let Ok((Event::Message(mut message), place)) = decode(&bytes, &mut arena, |_| 0) {
                place.cut(&arena.freeze(), &mut message);
                prop_assert!(message.payload.len() + message.tail.len() <= message.length as usize);
            }
        }
    }

    #[test]
    fn the_names_of_a_group_are_its_path_from_the_root() {
        let mut bytes = vec![0; abi::Group::LAYOUT.size];
        bytes[10] = abi::kind::GROUP;
        bytes[std::mem::offset_of!(abi::Group, group)] = 7;
        bytes[std::mem::offset_of!(abi::Group, levels)] = 2;
        let names = std::mem::offset_of!(abi::Group, names);
        bytes[names..names + 6].copy_from_slice(b"inner\0");
        bytes[names + GROUP_NAME..names + GROUP_NAME + 5].copy_from_slice(b"outer");
        let path = "/outer/inner".to_owned();
        let expected = Group {
            id: 7,
            path,
            cut: false,
        };
        assert_eq!(group(&bytes), Some(expected));
        bytes.pop();
        assert_eq!(group(&bytes), None, "it is cut short");
    }

    #[test]
    fn a_message_cut_short_says_what_is_missing() {
        let head = abi::Message::LAYOUT.size;
        let mut bytes = vec![0; head + 4];
        bytes[10] = abi::kind::MESSAGE;
        bytes[std::mem::offset_of!(abi::Message, length)] = 5;
        bytes[std::mem::offset_of!(abi::Message, payload_length)] = 5;
        let error = decode(&bytes, &mut BytesMut::new(), |_| 0).unwrap_err();
        let expected = head + 5;
        assert_eq!(
            error,
            DecodeError::Short {
                kind: 1,
                length: head + 4,
                expected
            }
        );
    }
}
