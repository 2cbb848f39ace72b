//! Events for tests.

use bytes::Bytes;
use spandrel_model::{ConnectionId, Direction, KernelTime, Message, ProcessKey, Stamp};

/// A message of connection 1 that was read in full.
pub(crate) fn message(position: u64, payload: &'static [u8]) -> Message {
    Message {
        stamp: Stamp::default(),
        connection: ConnectionId(1),
        direction: Direction::Ingress,
        position,
        length: payload.len() as u32,
        unseen: 0,
        payload: Bytes::from_static(payload),
        tail: Bytes::new(),
        started: None,
        arrived: Some(KernelTime(0)),
        process: ProcessKey {
            tgid: 1,
            started: 1,
        },
        tid: 1,
        lineage: Default::default(),
        cgroup: 1,
        srtt_us: 0,
        retransmits: 0,
        flags: spandrel_model::MessageFlags::default(),
    }
}
