//! The direction of the requests.

use spandrel_model::CapturePolicy;

use super::body::Chunked;
use super::exchange::{Ending, Exchange, RequestBody};
use super::gather::{Gathered, gather};
use super::half::{HeadStart, Piece, State, Waiting, open, read_chunked};
use super::head::{self, Framing, RequestHead};
use super::parser::{FULL_COPY, Http1};
use crate::protocol::{Context, Sign};
use crate::stream::Chunk;

impl Http1 {
    /// Whether it depends on a response how the bytes after the last request are to be read.
    pub(super) fn is_held(&self) -> bool {
        self.exchanges.back().is_some_and(|exchange| {
            exchange.request.may_switch
                && exchange.response.is_none()
                && matches!(exchange.ending, Ending::Open)
                && exchange.request_body != RequestBody::Coming
        })
    }

    pub(super) fn advance_request(
        &mut self,
        cx: &mut Context<'_>,
        mut piece: Piece,
    ) -> Option<Waiting> {
        while let Some(region) = piece.chunk.region(piece.offset) {
            let at_start = piece.offset == 0 && piece.chunk.whole;
            let left = piece.chunk.length - piece.offset;
            match self.request.state {
                State::Tunnel => return None,
                _ if self.request.buffer.is_empty() && self.is_held() => {
                    return Some(Waiting::Piece(piece));
                }
                State::Resync | State::Open { .. } | State::UntilClose { .. } => {
                    if !(at_start && head::begins(piece.chunk.head(), Sign::Request)) {
                        self.request.skipped = true;
                        return None;
                    }
                    self.request.state = State::Head;
                }
                State::Length { remaining, total } => {
                    if remaining == total && at_start && self.body_was_withheld(&piece) {
                        self.end_request_body(RequestBody::Whole(0));
                        continue;
                    }
                    let passed = remaining.min(left);
                    piece.offset += passed;
                    self.pass_request_body(remaining - passed, total);
                }
                State::Chunked(mut body) => {
                    if body.data() == 0 && at_start && self.body_was_withheld(&piece) {
                        self.end_request_body(RequestBody::Whole(0));
                        continue;
                    }
                    match read_chunked(&mut body, &region) {
                        Some((consumed, true)) => {
                            piece.offset += consumed;
                            self.end_request_body(RequestBody::Whole(body.data()));
                        }
                        Some((consumed, false)) => {
                            piece.offset += consumed;
                            self.request.state = State::Chunked(body);
                        }
                        None => {
                            self.end_request_body(RequestBody::Unknown);
                            self.request.state = open(&piece);
                            return None;
                        }
                    }
                }
                State::Head => self.request_head(cx, &mut piece)?,
            }
        }
        None
    }

    /// Reads a head or a part of it; `None` where the rest of the message is of no use.
    pub(super) fn request_head(&mut self, cx: &mut Context<'_>, piece: &mut Piece) -> Option<()> {
        let limit = cx.shared.settings.http.max_head_bytes;
        let known = &mut cx.shared.known_heads;
        let read = |bytes: &[u8]| head::read_request(bytes, known);
        match gather(&mut self.request, piece, limit, read) {
            Gathered::More => Some(()),
            Gathered::Head(head, start) => {
                self.begin_exchange(cx, head, start, piece);
                (!self.refuted).then_some(())
            }
            Gathered::Cut(bytes, start) => {
                match (head::cut_request(&bytes), start) {
                    (Some(head), Some(start)) => self.begin_exchange(cx, head, start, piece),
                    _ => self.failed(cx, Sign::Request),
                }
                self.tell(cx, CapturePolicy::Full(FULL_COPY));
                None
            }
            Gathered::Hidden => {
                // There may be heads in what was not copied.
                self.request.lose();
                self.tell(cx, CapturePolicy::Full(FULL_COPY));
                None
            }
            Gathered::Invalid => {
                self.failed(cx, Sign::Request);
                None
            }
        }
    }

    /// A client that gets its final answer instead of `100 Continue` may go on without the body.
    pub(super) fn body_was_withheld(&self, piece: &Piece) -> bool {
        let expects = self
            .exchanges
            .back()
            .is_some_and(|exchange| exchange.request.fields.expects_continue);
        expects && head::begins(piece.chunk.head(), Sign::Request)
    }

    pub(super) fn begin_exchange(
        &mut self,
        cx: &mut Context<'_>,
        head: RequestHead,
        start: HeadStart,
        piece: &Piece,
    ) {
        cx.shared.ledger.exchanges.see(1);
        if self.exchanges.len() >= cx.shared.settings.http.max_pipelined {
            cx.shared
                .ledger
                .exchanges
                .drop_for("exchange.too_many_pipelined", 1);
            self.refuted = true;
            return;
        }
        self.tell(cx, CapturePolicy::Headers);
        if !start.arrival_known && !self.exchanges.is_empty() {
            self.pipelines = true;
            self.tell(cx, CapturePolicy::Full(FULL_COPY));
        }
        let framing = head.framing;
        let exchange = Exchange {
            request: head,
            position: start.position,
            first: start.meta,
            arrival_known: start.arrival_known,
            request_body: RequestBody::Coming,
            after_gap: self.request.after_gap,
            response: None,
            ending: Ending::Open,
        };
        self.request.after_gap = false;
        self.request.skipped = false;
        self.exchanges_cost += exchange.cost();
        self.exchanges.push_back(exchange);
        match framing {
            Framing::Empty => self.end_request_body(RequestBody::Whole(0)),
            Framing::Length(total) => self.pass_request_body(total, total),
            Framing::Chunked => self.request.state = State::Chunked(Chunked::new()),
            Framing::UntilClose | Framing::Unknown => {
                self.end_request_body(RequestBody::Unknown);
                self.request.state = open(piece);
            }
        }
    }

    pub(super) fn pass_request_body(&mut self, remaining: u64, total: u64) {
        match remaining {
            0 => self.end_request_body(RequestBody::Whole(total)),
            remaining => self.request.state = State::Length { remaining, total },
        }
    }

    pub(super) fn end_request_body(&mut self, body: RequestBody) {
        if let Some(exchange) = self.exchanges.back_mut()
            && exchange.request_body == RequestBody::Coming
        {
            exchange.request_body = body;
        }
        self.request.state = State::Head;
    }

    pub(super) fn lost_request_bytes(&mut self, cx: &mut Context<'_>, count: u64) {
        match self.request.state {
            State::Tunnel => {}
            State::Length { remaining, total } => {
                self.pass_request_body(remaining.saturating_sub(count), total);
                if count > remaining {
                    self.request.lose();
                }
            }
            State::Chunked(mut body) => {
                if body.skip(count) == count {
                    self.request.state = State::Chunked(body);
                } else {
                    self.end_request_body(RequestBody::Unknown);
                    self.request.lose();
                }
            }
            _ => {
                let bytes = std::mem::take(&mut self.request.buffer);
                if let (Some(start), Some(head)) =
                    (self.request.start.take(), head::cut_request(&bytes))
                {
                    self.begin_cut_exchange(cx, head, *start);
                }
                self.request.lose();
            }
        }
    }

    pub(super) fn begin_cut_exchange(
        &mut self,
        cx: &mut Context<'_>,
        mut head: RequestHead,
        start: HeadStart,
    ) {
        // Its body cannot be told: as if it were empty, and the direction has lost its place anyway.
        head.framing = Framing::Empty;
        head.may_switch = false;
        let piece = Piece {
            chunk: Chunk::empty(start.meta),
            offset: 0,
        };
        self.begin_exchange(cx, head, start, &piece);
        if let Some(exchange) = self.exchanges.back_mut() {
            exchange.request_body = RequestBody::Unknown;
        }
    }
}
