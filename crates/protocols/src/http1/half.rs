//! One direction of an HTTP/1 connection: where in which message its next byte is.

use std::collections::VecDeque;

use spandrel_model::KernelTime;

use super::body::{Chunked, ends_with_last_chunk};
use crate::stream::{Chunk, Item, Meta, Region};

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
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Half {
    pub(crate) state: State,
    /// The part of a head that came in earlier messages.
    pub(crate) buffer: Vec<u8>,
    pub(crate) start: Option<Box<HeadStart>>,
    waiting: VecDeque<Waiting>,
    waiting_cost: usize,
    /// Heads may have been lost: what comes next need not belong to what came before.
    pub(crate) after_gap: bool,
    /// Bytes have been passed over in the search for a head.
    pub(crate) skipped: bool,
    pub(crate) half_closed: Option<KernelTime>,
}

impl Half {
    pub(crate) fn new(synchronised: bool) -> Self {
        Self {
            state: match synchronised {
                true => State::Head,
                false => State::Resync,
            },
            buffer: Vec::new(),
            start: None,
            waiting: VecDeque::new(),
            waiting_cost: 0,
            after_gap: !synchronised,
            skipped: false,
            half_closed: None,
        }
    }

    /// Loses its place.
    pub(crate) fn lose(&mut self) {
        self.state = State::Resync;
        self.after_gap = true;
        self.skipped = true;
        self.forget_head();
    }

    pub(crate) fn forget_head(&mut self) {
        self.buffer = Vec::new();
        self.start = None;
    }

    /// Whether a head has begun, blank lines aside.
    pub(crate) fn has_partial_head(&self) -> bool {
        self.buffer
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
        self.waiting_cost + self.buffer.capacity()
    }
}

/// The state of a body whose end is not delimited, after this chunk.
pub(super) fn open(piece: &Piece) -> State {
    let chunk = &piece.chunk;
    State::Open {
        last: chunk.meta,
        ended: ends_with_last_chunk(chunk.ending(), chunk.is_captured()),
    }
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
