//! The direction of the requests.

use spandrel_model::{CapturePolicy, KernelTime};

use super::body::Chunked;
use super::detect;
use super::exchange::{Ending, Exchange, RequestBody};
use super::gather::{Gathered, gather};
use super::half::{HeadStart, Piece, Search, State, UNKNOWN, Waiting, read_chunked};
use super::head::{self, Framing, RequestHead};
use super::pairing::Gap;
use super::parser::Http1;
use crate::protocol::{Context, Sign};

/// Where the bytes behind a head of `Expect: 100-continue` belong.
#[derive(PartialEq, Eq)]
enum Withheld {
    /// They are the body.
    No,
    /// They are the next request.
    Yes,
    /// The answer will tell.
    NotKnown,
}

impl Http1 {
    /// Whether it depends on a response how the bytes after the last request are to be read.
    pub(super) fn is_held(&self) -> bool {
        self.pairing.last().is_some_and(|exchange| {
            exchange.request.may_switch
                && exchange.response.is_none()
                && matches!(exchange.ending, Ending::Open)
                && exchange.request_body != RequestBody::Coming
        })
    }

    /// Reads a message; gives back what has to wait for the other direction.
    pub(super) fn advance_request(
        &mut self,
        cx: &mut Context<'_>,
        mut piece: Piece,
    ) -> Option<Waiting> {
        self.awaits_answer = false;
        let waits = self.read_request_piece(cx, &mut piece);
        if waits {
            return Some(Waiting::Piece(piece));
        }
        let meta = piece.chunk.meta;
        self.request.before = meta.time;
        self.pairing.passed_request(meta);
        None
    }

    fn read_request_piece(&mut self, cx: &mut Context<'_>, piece: &mut Piece) -> bool {
        while let Some(region) = piece.chunk.region(piece.offset) {
            let left = piece.chunk.length - piece.offset;
            match self.request.state {
                State::Tunnel => return false,
                _ if self.request.buffer.is_empty() && self.is_held() => return true,
                State::Resync | State::Open { .. } | State::UntilClose { .. } => {
                    match self.request.search(piece, Sign::Request) {
                        Search::Found => {}
                        Search::Kept => return false,
                        Search::Passed => {
                            self.requests_unseen(cx, Gap::Possible, left, piece.chunk.meta.time);
                            return false;
                        }
                    }
                }
                State::Length { remaining, total } => {
                    if remaining == total {
                        match self.is_body_withheld(piece) {
                            Withheld::No => {}
                            Withheld::Yes => {
                                self.end_request_body(RequestBody::Whole(0));
                                continue;
                            }
                            Withheld::NotKnown => return true,
                        }
                    }
                    let passed = remaining.min(left);
                    piece.offset += passed;
                    self.pass_request_body(remaining - passed, total);
                }
                State::Chunked(mut body) => {
                    if body.is_at_start() {
                        match self.is_body_withheld(piece) {
                            Withheld::No => {}
                            Withheld::Yes => {
                                self.end_request_body(RequestBody::Whole(0));
                                continue;
                            }
                            Withheld::NotKnown => return true,
                        }
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
                            self.request.lose();
                            self.requests_unseen(cx, Gap::Possible, left, piece.chunk.meta.time);
                            return false;
                        }
                    }
                }
                State::Head => {
                    if !self.request_head(cx, piece) {
                        return false;
                    }
                }
            }
        }
        false
    }

    /// Reads a head or a part of it; `false` where the rest of the message is of no use.
    fn request_head(&mut self, cx: &mut Context<'_>, piece: &mut Piece) -> bool {
        let limit = cx.shared.settings.http.max_head_bytes;
        let known = &mut cx.shared.known_heads;
        let read = |bytes: &[u8]| head::read_request(bytes, known);
        let gathered = gather(&mut self.request, piece, limit, read);
        let left = piece.chunk.length - piece.offset;
        match gathered {
            Gathered::More => true,
            Gathered::Head(head, start) => {
                self.begin_exchange(cx, head, start);
                true
            }
            Gathered::Cut(bytes, start) => {
                match (head::cut_request(&bytes), start) {
                    (Some(head), Some(start)) => self.begin_exchange(cx, head, start),
                    _ => self.failed(cx, Sign::Request),
                }
                self.request.lose();
                self.requests_unseen(cx, Gap::Cut, left, piece.chunk.meta.time);
                self.ask_for_more(cx, piece);
                false
            }
            Gathered::Hidden => {
                self.request.lose();
                self.requests_unseen(cx, Gap::Cut, left, piece.chunk.meta.time);
                self.ask_for_more(cx, piece);
                false
            }
            Gathered::Invalid(start) => {
                if let Some(start) = start.filter(|_| !self.request.searched) {
                    // A server may answer it.
                    self.begin_exchange(cx, RequestHead::malformed(), start);
                    if let Some(exchange) = self.pairing.last_mut() {
                        exchange.malformed = true;
                    }
                }
                self.failed(cx, Sign::Request);
                self.requests_unseen(cx, Gap::Possible, left, piece.chunk.meta.time);
                false
            }
        }
    }

    /// Requests may have been among bytes that were passed over.
    fn requests_unseen(&mut self, cx: &mut Context<'_>, gap: Gap, bytes: u64, until: KernelTime) {
        if bytes > 0 {
            cx.shared.ledger.pass_unsearched(bytes);
            self.pairing.requests_unseen(gap, until);
        }
    }

    /// A client that gets its final answer instead of `100 Continue` may go on without the body.
    fn is_body_withheld(&mut self, piece: &Piece) -> Withheld {
        let Some(exchange) = self.pairing.last() else {
            return Withheld::No;
        };
        let reads_like_a_request = exchange.request.fields.expects_continue
            && piece.is_at_start()
            && detect::begins(piece.chunk.head(), Sign::Request) == detect::Begins::Yes;
        if !reads_like_a_request || exchange.continued {
            return Withheld::No;
        }
        if exchange.response.is_some() {
            return Withheld::Yes;
        }
        if piece.chunk.meta.time > self.settled && matches!(exchange.ending, Ending::Open) {
            self.awaits_answer = true;
            return Withheld::NotKnown;
        }
        // Nothing was answered before: a client that is tired of waiting sends the body.
        Withheld::No
    }

    fn begin_exchange(&mut self, cx: &mut Context<'_>, head: RequestHead, start: HeadStart) {
        cx.shared.ledger.exchanges.see(1);
        let framing = head.framing;
        if self.pairing.len() >= cx.shared.settings.http.max_pipelined {
            cx.shared
                .ledger
                .exchanges
                .drop_for("exchange.too_many_pipelined", 1);
            self.pairing.requests_unseen(Gap::Cut, start.meta.time);
        } else {
            self.tell(cx, CapturePolicy::Headers);
            let exchange = Exchange {
                request: head,
                position: start.position,
                first: start.meta,
                arrival_known: start.arrival_known,
                request_body: RequestBody::Coming,
                request_before: start.before,
                gap: None,
                doubtful: false,
                continued: false,
                malformed: false,
                response: None,
                ending: Ending::Open,
            };
            let carried = exchange.carried(cx.facts, self.requests);
            let shared = &mut *cx.shared;
            shared.forwarding.begin(shared.id_seed, carried, cx.output);
            self.pairing.push(exchange);
        }
        self.request.searched = false;
        match framing {
            Framing::Empty => self.end_request_body(RequestBody::Whole(0)),
            Framing::Length(total) => self.pass_request_body(total, total),
            Framing::Chunked => self.request.state = State::Chunked(Chunked::new()),
            Framing::UntilClose | Framing::Unknown => {
                self.end_request_body(RequestBody::Unknown);
                self.request.lose();
            }
        }
    }

    fn pass_request_body(&mut self, remaining: u64, total: u64) {
        if remaining == 0 {
            self.end_request_body(RequestBody::Whole(total));
        } else {
            self.request.state = State::Length { remaining, total };
        }
    }

    fn end_request_body(&mut self, body: RequestBody) {
        if let Some(exchange) = self.pairing.last_mut()
            && exchange.request_body == RequestBody::Coming
        {
            exchange.request_body = body;
        }
        self.request.state = State::Head;
    }

    pub(super) fn lost_request_bytes(&mut self, cx: &mut Context<'_>, count: u64) {
        self.request.before = UNKNOWN;
        match self.request.state {
            State::Tunnel => return,
            State::Length { remaining, total } if count <= remaining => {
                self.pass_request_body(remaining - count, total);
                return;
            }
            State::Length { total, .. } => self.end_request_body(RequestBody::Whole(total)),
            State::Chunked(mut body) => {
                if body.skip(count) == count {
                    self.request.state = State::Chunked(body);
                    return;
                }
                self.end_request_body(RequestBody::Unknown);
            }
            State::Head => {
                let bytes = std::mem::take(&mut self.request.buffer);
                if let (Some(start), Some(head)) =
                    (self.request.start.take(), head::cut_request(&bytes))
                {
                    self.begin_exchange(cx, head, *start);
                }
            }
            State::Resync | State::Open { .. } | State::UntilClose { .. } => {}
        }
        self.request.lose();
        self.requests_unseen(cx, Gap::Possible, count, UNKNOWN);
    }
}
