//! The bytes on the disk: little-endian, of fixed width, each part with its own CRC32C. docs/disk-queue.md has the tables.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::clock::Stamp;
use crate::done::MAX_SEQUENCE;

/// What begins a segment.
const SEGMENT_MAGIC: [u8; 4] = *b"SPQS";
/// What begins a record.
pub(crate) const RECORD_MAGIC: [u8; 4] = *b"SPQR";
/// The format described here, and the newest that is read. A later one keeps what tells it apart: the magic, the version
/// and the sum in the head of a segment, and size, version and sum of an entry of acks.
pub(crate) const VERSION: u16 = 1;
/// One copy of a segment's header.
pub(crate) const SEGMENT_HEADER: usize = 32;
/// Where the records begin: after two copies of the header.
pub(crate) const SEGMENT_DATA: u64 = 2 * SEGMENT_HEADER as u64;
/// What stands before each body.
pub(crate) const RECORD_HEADER: usize = 48;
/// One entry of a file of acks.
pub(crate) const ACK_ENTRY: usize = 24;
/// Largest body.
pub(crate) const MAX_BODY: usize = 64 << 20;
/// So that an entry of acks is told from other bytes.
const ACK_SEED: u32 = u32::from_le_bytes(*b"SPQA");

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(from: &[u8], at: usize) -> Option<u32> {
    bytes(from, at).map(u32::from_le_bytes)
}

fn u64_at(from: &[u8], at: usize) -> Option<u64> {
    bytes(from, at).map(u64::from_le_bytes)
}

fn put(into: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = into.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The sequence of the first record.
    pub(crate) first: u64,
    /// Seeds the sums of this segment, so that no body can hold what passes for a record.
    pub(crate) salt: u64,
}

impl SegmentHeader {
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            salt: RandomState::new().build_hasher().finish(),
        }
    }

    /// Both copies.
    pub(crate) fn encode(self) -> [u8; SEGMENT_DATA as usize] {
        let mut both = [0; SEGMENT_DATA as usize];
        let mut one = [0; SEGMENT_HEADER];
        put(&mut one, 0, &SEGMENT_MAGIC);
        put(&mut one, 4, &VERSION.to_le_bytes());
        put(&mut one, 8, &self.first.to_le_bytes());
        put(&mut one, 16, &self.salt.to_le_bytes());
        let sum = crc32c::crc32c(&one[..28]);
        put(&mut one, 28, &sum.to_le_bytes());
        put(&mut both, 0, &one);
        put(&mut both, SEGMENT_HEADER, &one);
        both
    }

    /// From the first copy that is whole.
    pub(crate) fn decode(from: &[u8]) -> Option<Self> {
        whole_headers(from).find_map(|(version, one)| {
            let first = u64_at(one, 8)?;
            (version == VERSION && first < MAX_SEQUENCE).then_some(Self {
                first,
                salt: u64_at(one, 16)?,
            })
        })
    }

    /// The version of the format in the first copy that is whole.
    pub(crate) fn version(from: &[u8]) -> Option<u16> {
        whole_headers(from).map(|(version, _)| version).next()
    }

    /// What the sums of the records begin with.
    pub(crate) fn seed(self) -> u32 {
        crc32c::crc32c(&self.salt.to_le_bytes())
    }
}

/// The copies of a segment's header that are whole, in whatever version.
fn whole_headers(from: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    from.chunks_exact(SEGMENT_HEADER).take(2).filter_map(|one| {
        let version = bytes(one, 4).map(u16::from_le_bytes)?;
        let whole =
            one.starts_with(&SEGMENT_MAGIC) && u32_at(one, 28) == one.get(..28).map(crc32c::crc32c);
        whole.then_some((version, one))
    })
}

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) length: u32,
    pub(crate) sequence: u64,
    pub(crate) stamp: Stamp,
    pub(crate) items: u32,
    pub(crate) signal: u8,
    pub(crate) body_sum: u32,
}

impl RecordHeader {
    pub(crate) fn encode(&self, seed: u32) -> [u8; RECORD_HEADER] {
        let mut to = [0; RECORD_HEADER];
        put(&mut to, 0, &RECORD_MAGIC);
        put(&mut to, 4, &self.length.to_le_bytes());
        put(&mut to, 8, &self.sequence.to_le_bytes());
        put(&mut to, 16, &self.stamp.wall.to_le_bytes());
        put(&mut to, 24, &self.stamp.ticks.to_le_bytes());
        put(&mut to, 32, &self.items.to_le_bytes());
        put(&mut to, 36, &[self.signal]);
        put(&mut to, 40, &self.body_sum.to_le_bytes());
        let sum = crc32c::crc32c_append(seed, &to[..44]);
        put(&mut to, 44, &sum.to_le_bytes());
        to
    }

    pub(crate) fn decode(from: &[u8], seed: u32) -> Option<Self> {
        if !from.starts_with(&RECORD_MAGIC)
            || u32_at(from, 44)? != crc32c::crc32c_append(seed, from.get(..44)?)
        {
            return None;
        }
        let header = Self {
            length: u32_at(from, 4)?,
            sequence: u64_at(from, 8)?,
            stamp: Stamp {
                wall: u64_at(from, 16)?,
                ticks: u64_at(from, 24)?,
            },
            items: u32_at(from, 32)?,
            signal: *from.get(36)?,
            body_sum: u32_at(from, 40)?,
        };
        (header.length as usize <= MAX_BODY && header.sequence < MAX_SEQUENCE).then_some(header)
    }

    /// Bytes of the whole record.
    pub(crate) fn size(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.length)
    }
}

pub(crate) fn body_sum(seed: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, body)
}

/// `from` to `to`, without `to`, have ended.
pub(crate) fn encode_ack(from: u64, to: u64) -> [u8; ACK_ENTRY] {
    let mut entry = [0; ACK_ENTRY];
    put(&mut entry, 0, &from.to_le_bytes());
    put(&mut entry, 8, &to.to_le_bytes());
    let sum = crc32c::crc32c_append(ACK_SEED, &entry[..20]);
    put(&mut entry, 20, &sum.to_le_bytes());
    entry
}

pub(crate) fn decode_ack(entry: &[u8]) -> Option<(u64, u64)> {
    let (from, to) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
    let whole = ack_version(entry)? == VERSION;
    (whole && from < to && to <= MAX_SEQUENCE).then_some((from, to))
}

/// The version of the format of an entry of acks that is whole.
pub(crate) fn ack_version(entry: &[u8]) -> Option<u16> {
    let whole = u32_at(entry, 20)? == crc32c::crc32c_append(ACK_SEED, entry.get(..20)?);
    // Version 1 wrote 0 there.
    let after_first = bytes(entry, 16).map(u16::from_le_bytes)?;
    whole.then(|| after_first.saturating_add(1))
}
