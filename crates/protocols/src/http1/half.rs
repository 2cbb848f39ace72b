//! One direction of an HTTP/1 connection: where in which message its next byte is.

use std::collections::VecDeque;

use spandrel_model::KernelTime;

use super::body::{Chunked, ends_with_last_chunk};
use super::detect::{self, Begins};
use super::head;
use crate::protocol::Sign;
use crate::stream::{Chunk, Item, Meta, Region};

/// Bytes of messages that may begin a head which are kept until it shows.
const MAX_SEARCHED: usize = 512;

/// Bytes at the end of a body that are kept to recognise its last chunk: trailers are among them.
const ENDING: usize = 256;

/// Stands for a time that is not known.
pub(super) const UNKNOWN: KernelTime = KernelTime(u64::MAX);

/// Where the next byte is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// At the beginning of a head, or within one.
    Head,
    /// In a body of known length.
    Length { remaining: u64, total: u64 },
    /// In a chunked body whose chunk heads are seen.
    Chunked(Chunked),
    /// In a body that ends with the connection.
    UntilClose { total: u64, last: Meta },
    /// In a body whose end is not delimited by anything seen: the next head or the close ends it.
    Open {
        last: Meta,
        /// The last message that came before another response can have begun, as far as was known then.
        own: Meta,
        /// The first message.
        first: Meta,
        /// The last message ended as a chunked body does.
        ended: bool,
    },
    /// Somewhere: the next message that begins with a head is the place to go on.
    Resync,
    /// Another protocol's bytes.
    Tunnel,
}

/// A chunk and how much of it is done.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) chunk: Chunk,
    pub(crate) offset: u64,
}

impl Piece {
    pub(crate) fn is_at_start(&self) -> bool {
        self.offset == 0 && self.chunk.whole
    }
}

/// An item that waits for the other direction.
#[derive(Debug)]
pub(crate) enum Waiting {
    Piece(Piece),
    Lost(u64),
}

impl Waiting {
    pub(crate) fn new(item: Item) -> Self {
        match item {
            Item::Chunk(chunk) => Self::Piece(Piece { chunk, offset: 0 }),
            Item::Lost(count) => Self::Lost(count),
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Piece(piece) => piece.chunk.cost(),
            Self::Lost(_) => crate::stream::CHUNK_OVERHEAD,
        }
    }
}

/// The first byte of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadStart {
    pub(crate) position: u64,
    pub(crate) meta: Meta,
    pub(crate) arrival_known: bool,
    /// The time of the message before.
    pub(crate) before: KernelTime,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Half {
    pub(crate) state: State,
    /// The part of a head that came in earlier messages, or what may be one while the place is lost.
    pub(crate) buffer: Vec<u8>,
    pub(crate) start: Option<Box<HeadStart>>,
    /// The place was lost: what looks like a head need not be one.
    pub(crate) searched: bool,
    /// The last bytes of a body whose end is looked for.
    ending: Vec<u8>,
    /// The time of the message before the one that is read; the latest there is where that is not known.
    pub(crate) before: KernelTime,
    waiting: VecDeque<Waiting>,
    waiting_cost: usize,
    pub(crate) half_closed: Option<KernelTime>,
}

impl Half {
    pub(crate) fn new(from_start: bool) -> Self {
        Self {
            state: if from_start {
                State::Head
            } else {
                State::Resync
            },
            buffer: Vec::new(),
            start: None,
            searched: !from_start,
            ending: Vec::new(),
            before: if from_start { KernelTime(0) } else { UNKNOWN },
            waiting: VecDeque::new(),
            waiting_cost: 0,
            half_closed: None,
        }
    }

    /// Loses its place.
    pub(crate) fn lose(&mut self) {
        self.state = State::Resync;
        self.forget_head();
    }

    pub(crate) fn forget_head(&mut self) {
        self.buffer = Vec::new();
        self.start = None;
    }

    /// Whether a head has begun, blank lines aside.
    pub(crate) fn has_partial_head(&self) -> bool {
        matches!(self.state, State::Head)
            && self
                .buffer
                .iter()
                .any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Whether a head began before this time and is not whole.
    pub(crate) fn head_began_before(&self, time: KernelTime) -> bool {
        self.has_partial_head()
            && self
                .start
                .as_ref()
                .is_some_and(|start| start.meta.time < time)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.waiting_cost += waiting.cost();
        self.waiting.push_back(waiting);
    }

    pub(crate) fn push_front(&mut self, waiting: Waiting) {
        self.waiting_cost += waiting.cost();
        self.waiting.push_front(waiting);
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.waiting_cost -= waiting.cost();
        Some(waiting)
    }

    pub(crate) fn cost(&self) -> usize {
        self.waiting_cost + self.buffer.capacity() + self.ending.capacity()
    }

    /// Looks for a head while the place is lost; one that is found is read as any other from here on.
    pub(super) fn search(&mut self, piece: &Piece, sign: Sign) -> Search {
        let bytes = piece.chunk.head();
        let near = bytes.get(..bytes.len().min(MAX_SEARCHED)).unwrap_or(bytes);
        let captured = piece.chunk.is_captured() && bytes.len() <= MAX_SEARCHED;
        if !self.buffer.is_empty() && piece.offset == 0 {
            // One head may come in any pieces: a server that reads a byte ahead makes two of one message.
            let joined = [&self.buffer[..], near].concat();
            match detect::begins(&joined, sign) {
                // `P` and `GET /` are not `PGET /`.
                Begins::Yes
                    if detect::names_known_method(near) && !detect::names_known_method(&joined) =>
                {
                    self.forget_head();
                }
                Begins::Yes => {
                    self.state = State::Head;
                    self.searched = true;
                    return Search::Found;
                }
                Begins::Perhaps if captured && joined.len() <= MAX_SEARCHED => {
                    self.buffer = joined;
                    return Search::Kept;
                }
                Begins::Perhaps | Begins::No => self.forget_head(),
            }
        }
        if !piece.is_at_start() {
            self.forget_head();
            return Search::Passed;
        }
        match detect::begins(near, sign) {
            Begins::Yes => {
                self.state = State::Head;
                self.searched = true;
                return Search::Found;
            }
            Begins::Perhaps if captured => {
                let blanks = head::blanks(bytes);
                if let Some(first @ [_, ..]) = bytes.get(blanks..) {
                    self.buffer = first.to_vec();
                    self.start = Some(Box::new(HeadStart {
                        position: piece.chunk.position + blanks as u64,
                        meta: piece.chunk.meta,
                        arrival_known: true,
                        before: self.before,
                    }));
                    return Search::Kept;
                }
            }
            Begins::Perhaps | Begins::No => {}
        }
        Search::Passed
    }

    /// Enters, or goes on in, a body whose end is not delimited, with this chunk. `next` is when the next request began.
    pub(super) fn pass_open(&mut self, piece: &Piece, next: Option<KernelTime>) {
        let chunk = &piece.chunk;
        let is_first = !matches!(self.state, State::Open { .. });
        let (first, own) = match self.state {
            State::Open { first, own, .. } if next.is_some_and(|next| next <= chunk.meta.time) => {
                (first, own)
            }
            State::Open { first, .. } => (first, chunk.meta),
            _ => (chunk.meta, chunk.meta),
        };
        if is_first || !chunk.is_captured() {
            self.ending.clear();
        }
        let from_start = chunk.is_captured() && self.ending.is_empty();
        let known = chunk.ending();
        let known = known
            .get(known.len().saturating_sub(ENDING)..)
            .unwrap_or(known);
        let excess = (self.ending.len() + known.len()).saturating_sub(ENDING);
        self.ending.drain(..excess.min(self.ending.len()));
        self.ending.extend_from_slice(known);
        self.state = State::Open {
            last: chunk.meta,
            first,
            own,
            ended: ends_with_last_chunk(&self.ending, from_start),
        };
    }
}

/// What a message is to a direction that has lost its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// A head begins here, or began in the messages before.
    Found,
    /// It may be the beginning of one, and is kept.
    Kept,
    /// Nothing that can be told: a head may be anywhere in it.
    Passed,
}

/// How many bytes were read and whether the body is done; `None` where a chunk head is hidden or malformed.
pub(super) fn read_chunked(body: &mut Chunked, region: &Region<'_>) -> Option<(u64, bool)> {
    match region {
        Region::Bytes(bytes) => {
            let progress = body.read(bytes).ok()?;
            Some((progress.consumed as u64, progress.done))
        }
        Region::Hidden(count) => match body.skip(*count) {
            0 => None,
            passed => Some((passed, false)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::stream::{CHUNK_OVERHEAD, Captured};

    fn piece(bytes: &'static [u8]) -> Piece {
        let message = fixture::message(0, bytes);
        let chunk = Chunk::new(&message, Captured::of(&message));
        Piece { chunk, offset: 0 }
    }

    #[test]
    fn what_waits_costs_what_it_holds_until_it_is_taken() {
        let mut half = Half::new(true);
        assert_eq!(half.cost(), 0);
        half.push(Waiting::Lost(9));
        half.push_front(Waiting::Piece(piece(b"abc")));
        assert_eq!(half.cost(), 3 + 2 * CHUNK_OVERHEAD);
        assert!(matches!(half.pop(), Some(Waiting::Piece(_))));
        assert_eq!(half.cost(), CHUNK_OVERHEAD);
        assert!(matches!(half.pop(), Some(Waiting::Lost(9))));
        assert_eq!(half.cost(), 0);
        half.buffer.reserve_exact(50);
        half.pass_open(&piece(b"the end of a body"), None);
        assert_eq!(
            half.cost(),
            half.buffer.capacity() + half.ending.capacity(),
            "both are held"
        );
        assert!(half.buffer.capacity() >= 50 && half.ending.capacity() >= 17);
    }

    #[test]
    fn a_piece_is_at_a_start_only_where_a_message_began() {
        let mut piece = piece(b"abcdef");
        assert!(piece.is_at_start());
        piece.offset = 3;
        assert!(!piece.is_at_start(), "in the middle");
        piece.offset = 0;
        piece.chunk.trim(3);
        assert!(!piece.is_at_start(), "another message had the beginning");
    }
}
