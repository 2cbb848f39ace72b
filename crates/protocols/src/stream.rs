//! One direction of a connection: messages in, bytes in the order of their positions out, gaps explicit.

use std::collections::BTreeMap;

use bytes::Bytes;
use spandrel_model::{KernelTime, Message, ProcessKey};

/// Messages that may wait for an earlier one before the gap is given up as lost.
const MAX_PENDING: usize = 32;

/// What holding a chunk costs besides its bytes.
pub(crate) const CHUNK_OVERHEAD: usize = 192;

/// A time that may not be known, in eight bytes: every connection holds several.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment(u64);

impl Moment {
    /// No kernel runs so long.
    const UNKNOWN: u64 = u64::MAX;

    fn new(time: Option<KernelTime>) -> Self {
        Self(time.map_or(Self::UNKNOWN, |time| time.0))
    }

    fn known(self) -> Option<KernelTime> {
        (self.0 != Self::UNKNOWN).then_some(KernelTime(self.0))
    }
}

impl Meta {
    /// When the program began to send, where that is known.
    pub(crate) fn started(&self) -> Option<KernelTime> {
        self.started.known()
    }

    /// When the first byte reached the socket, where that is known.
    pub(crate) fn arrived(&self) -> Option<KernelTime> {
        self.arrived.known()
    }
}

/// What is known of the call that carried some bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Meta {
    pub(crate) time: KernelTime,
    started: Moment,
    arrived: Moment,
    pub(crate) process: ProcessKey,
    pub(crate) cgroup: u64,
    pub(crate) srtt_us: u32,
    pub(crate) retransmits: u32,
}

/// The bytes that were copied of a message, given or taken from it.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    payload: Bytes,
    tail: Bytes,
}

impl Captured {
    /// Shares them with the message.
    pub(crate) fn of(message: &Message) -> Self {
        Self {
            payload: message.payload.clone(),
            tail: message.tail.clone(),
        }
    }

    /// Leaves the message without them.
    pub(crate) fn taken_from(message: &mut Message) -> Self {
        Self {
            payload: std::mem::take(&mut message.payload),
            tail: std::mem::take(&mut message.tail),
        }
    }
}

/// The bytes of one message, as far as they are new.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) position: u64,
    pub(crate) length: u64,
    payload: Bytes,
    tail: Bytes,
    /// Begins where the program's read or write began.
    pub(crate) whole: bool,
    /// The kernel side followed a head here up to its own bound: more of each message would not bring its end.
    pub(crate) head_cut: bool,
    /// Bytes before it of which no message comes.
    unseen: u32,
    pub(crate) meta: Meta,
}

/// Bytes from some offset of a chunk on.
#[derive(Debug, PartialEq)]
pub(crate) enum Region<'a> {
    /// Captured.
    Bytes(&'a [u8]),
    /// Passed, but not captured: so many.
    Hidden(u64),
}

impl Chunk {
    /// Takes a message over; lengths that contradict each other are cut to what is possible.
    pub(crate) fn new(message: &Message, captured: Captured) -> Self {
        let Captured {
            mut payload,
            mut tail,
        } = captured;
        let length = message.length as usize;
        payload.truncate(length);
        let room = length - payload.len();
        if tail.len() > room {
            tail = tail.slice(tail.len() - room..);
        }
        Self {
            position: message.position,
            length: u64::from(message.length),
            payload,
            tail,
            whole: true,
            head_cut: message.flags.head_cut,
            unseen: message.unseen,
            meta: Meta {
                time: message.stamp.time,
                started: Moment::new(message.started),
                arrived: Moment::new(message.arrived),
                process: message.process,
                cgroup: message.cgroup,
                srtt_us: message.srtt_us,
                retransmits: message.retransmits,
            },
        }
    }

    /// Where the bytes begin that no other message has.
    fn reach(&self) -> u64 {
        self.position.saturating_sub(u64::from(self.unseen))
    }

    pub(crate) fn end(&self) -> u64 {
        self.position.saturating_add(self.length)
    }

    pub(crate) fn cost(&self) -> usize {
        self.payload.len() + self.tail.len() + CHUNK_OVERHEAD
    }

    /// The captured beginning.
    pub(crate) fn head(&self) -> &[u8] {
        &self.payload
    }

    /// The captured end: all that is known without a hole before the last byte.
    pub(crate) fn ending(&self) -> &[u8] {
        if self.payload.len() as u64 == self.length {
            &self.payload
        } else {
            &self.tail
        }
    }

    /// Whether [`Self::ending`] is the chunk in full.
    pub(crate) fn is_captured(&self) -> bool {
        self.payload.len() as u64 == self.length
    }

    /// What is known from `offset` on; `None` at the end.
    pub(crate) fn region(&self, offset: u64) -> Option<Region<'_>> {
        let captured = self.payload.len() as u64;
        let tail_at = self.length - self.tail.len() as u64;
        if offset >= self.length {
            None
        } else if offset < captured {
            self.payload.get(offset as usize..).map(Region::Bytes)
        } else if offset < tail_at {
            Some(Region::Hidden(tail_at - offset))
        } else {
            self.tail
                .get((offset - tail_at) as usize..)
                .map(Region::Bytes)
        }
    }

    /// Forgets the first `count` bytes: another message had them already, or they belong to a layer in front.
    pub(crate) fn trim(&mut self, count: u64) {
        let count = count.min(self.length);
        if count == 0 {
            return;
        }
        let captured = self.payload.len() as u64;
        let tail_at = self.length - self.tail.len() as u64;
        self.payload = self.payload.slice(count.min(captured) as usize..);
        if count > tail_at {
            self.tail = self.tail.slice((count - tail_at) as usize..);
        }
        self.position = self.position.saturating_add(count);
        self.length -= count;
        self.whole = false;
    }
}

/// What comes out of a direction, in order.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// Bytes.
    Chunk(Chunk),
    /// Bytes that were not reported at all: so many.
    Lost(u64),
}

impl Item {
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Chunk(chunk) => chunk.cost(),
            Self::Lost(_) => CHUNK_OVERHEAD,
        }
    }
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// It is next; more may have become ready behind it.
    Ready(Chunk),
    /// It waits for bytes before it.
    Held,
    /// All its bytes were known.
    Duplicate,
}

/// Puts the messages of one direction in the order of their positions.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Position of the next byte; `None` until the first message where the start was not seen.
    next: Option<u64>,
    pending: BTreeMap<u64, Chunk>,
    pending_cost: usize,
    /// The gap before the first pending chunk has been given up.
    given_up: bool,
}

impl Stream {
    /// The next byte has this position, if that is not known better.
    pub(crate) fn expect(&mut self, position: u64) {
        self.next.get_or_insert(position);
    }

    /// Takes a message.
    pub(crate) fn accept(&mut self, mut chunk: Chunk) -> Accepted {
        let next = *self.next.get_or_insert(chunk.position);
        if chunk.end() <= next {
            return Accepted::Duplicate;
        }
        if chunk.position <= next {
            chunk.trim(next - chunk.position);
            self.next = Some(chunk.end());
            return Accepted::Ready(chunk);
        }
        match self.pending.get(&chunk.position) {
            Some(known) if known.length >= chunk.length => return Accepted::Duplicate,
            Some(known) => self.pending_cost -= known.cost(),
            None => {}
        }
        self.pending_cost += chunk.cost();
        self.pending.insert(chunk.position, chunk);
        if self.pending.len() > MAX_PENDING {
            self.given_up = true;
        }
        Accepted::Held
    }

    /// What has become ready after [`Self::accept`] or [`Self::give_up`].
    pub(crate) fn next_ready(&mut self) -> Option<Item> {
        loop {
            let next = self.next?;
            let Some((&position, first)) = self.pending.first_key_value() else {
                self.given_up = false;
                return None;
            };
            if position > next {
                if first.reach() > next {
                    if !self.given_up {
                        return None;
                    }
                    // One give-up is for one gap: what follows may still come in order.
                    self.given_up = self.pending.len() > MAX_PENDING;
                }
                self.next = Some(position);
                return Some(Item::Lost(position - next));
            }
            let (_, mut chunk) = self.pending.pop_first()?;
            self.pending_cost -= chunk.cost();
            if chunk.end() <= next {
                continue;
            }
            chunk.trim(next - position);
            self.next = Some(chunk.end());
            return Some(Item::Chunk(chunk));
        }
    }

    /// What is missing before the first pending message will not come.
    pub(crate) fn give_up(&mut self) {
        self.given_up = !self.pending.is_empty();
    }

    /// Whether messages wait for earlier ones.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Time of the earliest message that waits.
    pub(crate) fn waiting_since(&self) -> Option<KernelTime> {
        self.pending.values().map(|chunk| chunk.meta.time).min()
    }

    /// Bytes that are held, with their overhead.
    pub(crate) fn cost(&self) -> usize {
        self.pending_cost
    }

    /// Bytes between what has been delivered and `total`, the number of bytes that passed in all.
    pub(crate) fn missing(&self, total: u64) -> u64 {
        total.saturating_sub(self.next.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn captured(message: &Message) -> Chunk {
        Chunk::new(message, Captured::of(message))
    }

    fn chunk(position: u64, bytes: &'static [u8]) -> Chunk {
        captured(&fixture::message(position, bytes))
    }

    fn drain(stream: &mut Stream, accepted: Accepted, text: &mut String) {
        if let Accepted::Ready(chunk) = accepted {
            text.push_str(std::str::from_utf8(chunk.head()).unwrap());
        }
        while let Some(item) = stream.next_ready() {
            match item {
                Item::Chunk(chunk) => text.push_str(std::str::from_utf8(chunk.head()).unwrap()),
                Item::Lost(count) => text.push_str(&format!("<{count}>")),
            }
        }
    }

    #[test]
    fn messages_out_of_order_come_out_in_the_order_of_positions() {
        let mut stream = Stream::default();
        stream.expect(0);
        let mut text = String::new();
        for (position, bytes) in [(3, &b"def"[..]), (6, b"g"), (0, b"abc")] {
            let accepted = stream.accept(chunk(position, bytes));
            drain(&mut stream, accepted, &mut text);
        }
        assert_eq!(text, "abcdefg");
        assert_eq!(stream.cost(), 0);
    }

    #[test]
    fn duplicates_and_overlaps_deliver_each_byte_once() {
        let mut stream = Stream::default();
        stream.expect(0);
        let mut text = String::new();
        for (position, bytes) in [
            (0, &b"abc"[..]),
            (0, b"abc"),
            (2, b"cde"),
            (8, b"ij"),
            (7, b"hij"),
            (5, b"fgh"),
        ] {
            let accepted = stream.accept(chunk(position, bytes));
            drain(&mut stream, accepted, &mut text);
        }
        assert_eq!(text, "abcdefghij");
    }

    #[test]
    fn what_is_next_is_ready_at_once_and_what_was_there_to_its_last_byte_is_a_duplicate() {
        let mut stream = Stream::default();
        stream.expect(0);
        for _ in 0..2 {
            assert!(matches!(
                stream.accept(chunk(3, b"def")),
                Accepted::Held | Accepted::Duplicate
            ));
        }
        assert!(matches!(
            stream.accept(chunk(0, b"abc")),
            Accepted::Ready(_)
        ));
        assert!(stream.next_ready().is_some());
        for (position, bytes) in [(0, &b"abc"[..]), (3, b"def"), (5, b"f")] {
            let accepted = stream.accept(chunk(position, bytes));
            assert!(matches!(accepted, Accepted::Duplicate), "{accepted:?}");
        }
    }

    #[test]
    fn a_gap_that_is_given_up_is_told_with_its_length() {
        let mut stream = Stream::default();
        stream.expect(0);
        let mut text = String::new();
        let accepted = stream.accept(chunk(5, b"f"));
        drain(&mut stream, accepted, &mut text);
        assert_eq!(text, "");
        stream.give_up();
        drain(&mut stream, Accepted::Held, &mut text);
        assert_eq!(text, "<5>f");
    }

    #[test]
    fn bytes_that_no_message_brings_are_not_waited_for() {
        let mut stream = Stream::default();
        stream.expect(0);
        let mut text = String::new();
        let mut unseen = chunk(10, b"k");
        unseen.unseen = 7;
        let accepted = stream.accept(unseen);
        drain(&mut stream, accepted, &mut text);
        assert_eq!(text, "", "the first three may still come");
        let accepted = stream.accept(chunk(0, b"abc"));
        drain(&mut stream, accepted, &mut text);
        assert_eq!(text, "abc<7>k");
        assert!(!stream.is_waiting());
    }

    #[test]
    fn a_gap_before_too_many_messages_is_given_up_without_a_clock() {
        let mut stream = Stream::default();
        stream.expect(0);
        let mut text = String::new();
        for position in 0..=MAX_PENDING as u64 {
            assert_eq!(text, "", "as many may wait");
            let accepted = stream.accept(chunk(position + 1, b"x"));
            drain(&mut stream, accepted, &mut text);
        }
        assert!(text.starts_with("<1>x"), "{text}");
        assert!(!stream.is_waiting());
    }

    #[test]
    fn of_gaps_before_too_many_messages_no_more_are_given_up_than_must_be() {
        let mut stream = Stream::default();
        stream.expect(0);
        let mut text = String::new();
        for at in 0..=MAX_PENDING as u64 {
            let accepted = stream.accept(chunk(2 * at + 1, b"x"));
            drain(&mut stream, accepted, &mut text);
        }
        assert_eq!(text, "<1>x<1>x");
    }

    #[test]
    fn a_message_tells_what_was_captured_of_its_beginning_and_its_end() {
        let mut message = fixture::message(0, b"abc");
        message.length = 10;
        message.tail = Bytes::from_static(b"hij");
        let mut chunk = captured(&message);
        assert_eq!(chunk.cost(), 6 + CHUNK_OVERHEAD);
        assert_eq!(chunk.region(1), Some(Region::Bytes(b"bc")));
        assert_eq!(chunk.region(3), Some(Region::Hidden(4)));
        assert_eq!(chunk.region(9), Some(Region::Bytes(b"j")));
        assert_eq!(chunk.region(10), None);
        chunk.trim(9);
        assert_eq!(chunk.region(0), Some(Region::Bytes(b"j")));
    }

    #[test]
    fn of_two_messages_that_wait_at_one_place_the_longer_one_is_kept() {
        for held in [[&b"def"[..], b"d"], [b"d", b"def"]] {
            let mut stream = Stream::default();
            stream.expect(0);
            for bytes in held {
                stream.accept(chunk(3, bytes));
                assert!(stream.cost() > CHUNK_OVERHEAD, "what waits is held");
            }
            let mut text = String::new();
            let accepted = stream.accept(chunk(0, b"abc"));
            drain(&mut stream, accepted, &mut text);
            assert_eq!(text, "abcdef");
            assert_eq!(stream.cost(), 0);
        }
    }

    #[test]
    fn one_give_up_is_for_one_gap() {
        let mut stream = Stream::default();
        stream.expect(0);
        let mut text = String::new();
        for position in [5, 8] {
            let accepted = stream.accept(chunk(position, b"x"));
            drain(&mut stream, accepted, &mut text);
        }
        stream.give_up();
        drain(&mut stream, Accepted::Held, &mut text);
        assert_eq!(text, "<5>x");
        let accepted = stream.accept(chunk(6, b"gh"));
        drain(&mut stream, accepted, &mut text);
        assert_eq!(text, "<5>xghx");
        assert_eq!(stream.cost(), 0);
    }

    #[test]
    fn lengths_that_contradict_each_other_are_cut() {
        let mut message = fixture::message(0, b"abcdef");
        message.length = 4;
        message.tail = Bytes::from_static(b"xyz");
        let chunk = captured(&message);
        assert_eq!(chunk.head(), b"abcd");
        assert_eq!(chunk.region(4), None);
    }
}
