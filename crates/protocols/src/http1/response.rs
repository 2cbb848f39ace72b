//! The direction of the responses.

use spandrel_model::{CapturePolicy, Direction};

use super::body::Chunked;
use super::detect::{self, Begins};
use super::exchange::{Exchange, RequestBody};
use super::gather::{Gathered, gather};
use super::half::{Piece, Search, State, Waiting, read_chunked};
use super::head::{self, Framing, ResponseHead};
use super::pairing::{LOST, NOT_COPIED};
use super::parser::Http1;
use crate::protocol::{Close, Context, Sign};
use crate::stream::{Meta, Region};

impl Http1 {
    /// Reads a message; gives back what has to wait for the other direction.
    pub(super) fn advance_response(
        &mut self,
        cx: &mut Context<'_>,
        mut piece: Piece,
    ) -> Option<Waiting> {
        if self.read_response_piece(cx, &mut piece) {
            return Some(Waiting::Piece(piece));
        }
        let meta = piece.chunk.meta;
        self.response.before = meta.time;
        self.pairing.passed_response(meta);
        None
    }

    fn read_response_piece(&mut self, cx: &mut Context<'_>, piece: &mut Piece) -> bool {
        let settle = cx.shared.settings.settle.as_nanos() as u64;
        while let Some(region) = piece.chunk.region(piece.offset) {
            let left = piece.chunk.length - piece.offset;
            let meta = piece.chunk.meta;
            match self.response.state {
                State::Tunnel => return false,
                State::Resync => match self.response.search(piece, Sign::Response) {
                    Search::Found => {}
                    Search::Kept => return false,
                    Search::Passed => {
                        if self.end_was_likely {
                            cx.shared.late_body_messages += 1;
                            self.body_unseen(cx, piece);
                        } else {
                            self.responses_unseen(cx, piece, NOT_COPIED);
                        }
                        return false;
                    }
                },
                open @ State::Open {
                    last, own, first, ..
                } => {
                    match self.response.search(piece, Sign::Response) {
                        // Whether another one stood before this one is not known before the requests are.
                        Search::Found if !self.pairing.are_read(last.time, self.settled) => {
                            self.response.state = open;
                            return true;
                        }
                        // The request of the one found is not known, nor which others are not.
                        Search::Found if self.pairing.next().is_none() => {
                            self.pairing.end_response(first, None, false);
                        }
                        Search::Found => self.end_undelimited([first, own, last]),
                        Search::Kept => return false,
                        Search::Passed => {
                            self.pass_open(piece);
                            self.body_unseen(cx, piece);
                            return false;
                        }
                    }
                }
                State::Length { remaining, total } => {
                    if (remaining == total || piece.is_at_start())
                        && self.is_another_response(cx, piece)
                    {
                        continue;
                    }
                    let passed = remaining.min(left);
                    piece.offset += passed;
                    self.pass_response_body(remaining - passed, total, meta);
                }
                State::UntilClose { total, .. } => {
                    if (total == 0 || piece.is_at_start()) && self.is_another_response(cx, piece) {
                        continue;
                    }
                    let total = total.saturating_add(left);
                    self.response.state = State::UntilClose { total, last: meta };
                    return false;
                }
                State::Chunked(mut body) => {
                    if (body.is_at_start() || piece.is_at_start())
                        && self.is_another_response(cx, piece)
                    {
                        continue;
                    }
                    match read_chunked(&mut body, &region) {
                        Some((consumed, true)) => {
                            piece.offset += consumed;
                            self.end_response(meta, Some(body.data()));
                        }
                        Some((consumed, false)) => {
                            piece.offset += consumed;
                            self.response.state = State::Chunked(body);
                        }
                        None => {
                            let began = meta.started().unwrap_or(meta.time);
                            let next = self.pairing.next();
                            if next.is_some_and(|next| next.began() < began) {
                                self.ask_for_more(cx, piece);
                            }
                            self.pass_open(piece);
                            self.body_unseen(cx, piece);
                            return false;
                        }
                    }
                }
                State::Head => {
                    // Line ends before a head do not begin a response: the next one may be to a later request.
                    if self.response.buffer.is_empty()
                        && let Region::Bytes(bytes) = region
                        && head::blanks(bytes) == bytes.len()
                    {
                        piece.offset += bytes.len() as u64;
                        continue;
                    }
                    if !self.pairing.begin_response(meta.time, self.settled, settle) {
                        return true;
                    }
                    if !self.response_head(cx, piece) {
                        return false;
                    }
                }
            }
        }
        false
    }

    /// A response without a body was given a request that makes one expected: it is another request's. Of what stands in
    /// the place of the body, the beginning may be lost.
    fn is_another_response(&mut self, cx: &mut Context<'_>, piece: &Piece) -> bool {
        if self.pairing.is_certain() {
            return false;
        }
        let Some(Region::Bytes(bytes)) = piece.chunk.region(piece.offset) else {
            self.responses_unseen(cx, piece, NOT_COPIED);
            return false;
        };
        if detect::begins(bytes, Sign::Response) != Begins::Yes {
            return false;
        }
        self.pairing.deny_body();
        self.response.state = State::Head;
        true
    }

    /// Responses may have been among the rest of a message.
    fn responses_unseen(&mut self, cx: &mut Context<'_>, piece: &Piece, reason: &'static str) {
        let left = piece.chunk.length - piece.offset;
        cx.shared.ledger.pass_unsearched(left);
        let until = Some(piece.chunk.meta.time);
        self.pairing.responses_unseen(until, reason);
    }

    /// Responses may have been among the rest of a message that is taken for a body.
    fn body_unseen(&mut self, cx: &mut Context<'_>, piece: &Piece) {
        cx.shared
            .ledger
            .pass_unsearched(piece.chunk.length - piece.offset);
        self.pairing.body_unseen(piece.chunk.meta.time, NOT_COPIED);
    }

    /// Reads a head or a part of it; `false` where the rest of the message is of no use.
    fn response_head(&mut self, cx: &mut Context<'_>, piece: &mut Piece) -> bool {
        let limit = cx.shared.settings.http.max_head_bytes;
        let exchange = self.pairing.current();
        let method = exchange.map_or("GET", |exchange| exchange.request.method.as_ref());
        let known = &mut cx.shared.known_heads;
        let read = |bytes: &[u8]| head::read_response(bytes, method, known);
        match gather(&mut self.response, piece, limit, read) {
            Gathered::More => true,
            Gathered::Head(head, _) => {
                self.begin_response(cx, head, piece);
                true
            }
            Gathered::Cut(bytes, _) => {
                match head::cut_response(&bytes) {
                    Some(mut head) => {
                        // Where the head ends is not known, so neither is what follows.
                        head.framing = Framing::Unknown;
                        self.begin_response(cx, head, piece);
                    }
                    None => self.failed(cx, Sign::Response),
                }
                self.responses_unseen(cx, piece, NOT_COPIED);
                self.ask_for_more(cx, piece);
                false
            }
            Gathered::Hidden => {
                self.pairing.give_up_response(NOT_COPIED);
                self.response.lose();
                self.responses_unseen(cx, piece, NOT_COPIED);
                self.ask_for_more(cx, piece);
                false
            }
            Gathered::Invalid(_) => {
                self.failed(cx, Sign::Response);
                self.responses_unseen(cx, piece, NOT_COPIED);
                false
            }
        }
    }

    fn begin_response(&mut self, cx: &mut Context<'_>, head: ResponseHead, piece: &Piece) {
        let meta = piece.chunk.meta;
        self.end_was_likely = false;
        self.response.searched = false;
        if (100..=199).contains(&head.status) && head.status != 101 {
            if let Some(exchange) = self.pairing.current() {
                exchange.continued |= head.status == 100;
            }
            // The final response is still to come; a cut interim head may hide it.
            if head.framing == Framing::Unknown {
                self.pairing.give_up_response(NOT_COPIED);
                self.response.lose();
            }
            return;
        }
        if self.pairing.is_orphan() {
            let exchanges = &cx.shared.ledger.exchanges;
            exchanges.see(1);
            exchanges.drop_for("exchange.no_request", 1);
        }
        let mut switches = head.status == 101;
        if let Some(exchange) = self.pairing.current() {
            exchange.response = Some(head);
            switches |= exchange.request.method == "CONNECT" && head.status / 100 == 2;
            if switches && exchange.request_body == RequestBody::Coming {
                exchange.request_body = RequestBody::Unknown;
            }
        }
        if switches {
            self.end_response(meta, None);
            self.request.state = State::Tunnel;
            self.response.state = State::Tunnel;
            self.request.forget_head();
            self.tell(cx, CapturePolicy::Ignore);
            return;
        }
        match head.framing {
            Framing::Empty => self.end_response(meta, Some(0)),
            Framing::Length(total) => self.pass_response_body(total, total, meta),
            Framing::Chunked => self.response.state = State::Chunked(Chunked::new()),
            Framing::UntilClose => {
                self.response.state = State::UntilClose {
                    total: 0,
                    last: meta,
                };
            }
            Framing::Unknown => self.pass_open(piece),
        }
    }

    fn pass_response_body(&mut self, remaining: u64, total: u64, meta: Meta) {
        if remaining == 0 {
            self.end_response(meta, Some(total));
        } else {
            self.response.state = State::Length { remaining, total };
        }
    }

    pub(super) fn end_response(&mut self, last: Meta, body: Option<u64>) {
        self.pairing.end_response(last, body, true);
        self.response.state = State::Head;
    }

    pub(super) fn lost_response_bytes(&mut self, cx: &mut Context<'_>, count: u64) {
        // What stands in the place of a body that is expected may be other responses, if the request is another one.
        if !matches!(self.response.state, State::Tunnel | State::Head) && !self.pairing.is_certain()
        {
            self.pairing.responses_unseen(None, LOST);
        }
        match self.response.state {
            State::Tunnel => return,
            State::Length { remaining, total } if count < remaining => {
                let remaining = remaining - count;
                self.response.state = State::Length { remaining, total };
                return;
            }
            State::Length { remaining, .. } if count == remaining => {
                // When the last byte went is lost with it.
                self.pairing.give_up_response(LOST);
                self.response.state = State::Head;
                return;
            }
            State::Chunked(body) if body.skipped(count).is_some() => {
                self.response.state = body.skipped(count).map_or(State::Resync, State::Chunked);
                return;
            }
            State::UntilClose { total, last } => {
                let total = total.saturating_add(count);
                self.response.state = State::UntilClose { total, last };
                return;
            }
            _ => {}
        }
        self.pairing.give_up_response(LOST);
        self.response.lose();
        cx.shared.ledger.pass_unsearched(count);
        self.pairing.responses_unseen(None, LOST);
    }

    fn pass_open(&mut self, piece: &Piece) {
        let next = self.pairing.next().map(Exchange::began);
        self.response.pass_open(piece, next);
    }

    /// Ends a body of which nothing seen told the end, with its last message; unless that may be another response's.
    fn end_undelimited(&mut self, messages: [Meta; 3]) {
        let (last, end_known) = self.own_end(messages);
        self.pairing.end_response(last, None, end_known);
    }

    /// The last of its messages before another response can have begun, and whether that is its end.
    fn own_end(&self, [first, own, last]: [Meta; 3]) -> (Meta, bool) {
        match self.pairing.others_since(first.time) {
            // It was under way all the time, or its request was read too late to know better, or is not known.
            Some(other) if other <= own.time => (first, false),
            Some(other) if other <= last.time => (own, false),
            _ => (last, true),
        }
    }

    /// Ends a body whose end was only likely.
    pub(super) fn end_open(&mut self, [first, own, last]: [Meta; 3]) {
        self.end_undelimited([first, own, last]);
        self.response.state = State::Resync;
        self.end_was_likely = true;
    }

    /// The response that was being read when the connection ended.
    pub(super) fn close_response(&mut self, cx: &Context<'_>, close: &Close, missing: bool) {
        let head = head::cut_response(&self.response.buffer);
        let Some(exchange) = self.pairing.current() else {
            return;
        };
        if let Some(head) = head.filter(|head| head.status >= 200)
            && exchange.response.is_none()
        {
            exchange.response = Some(head);
        }
        let settle = cx.shared.settings.settle.as_nanos() as u64;
        let server = self.requests == Direction::Ingress;
        let shut = self.response.half_closed.is_some();
        let (last, body, end_known) = match self.response.state {
            _ if missing => return self.pairing.give_up_response(LOST),
            // What this end wrote is whole when this end has said so; a reset after that takes nothing away.
            State::UntilClose { total, last } if server && (shut || !close.reset) => {
                (last, Some(total), true)
            }
            // What this end read is whole when the other one has said so. A reset is also how a program leaves bytes
            // unread, and without knowledge of half closes nothing shows who ended it.
            State::UntilClose { total, last } if !server && shut && !close.reset => {
                (last, Some(total), true)
            }
            State::UntilClose { last, .. } if !server && (shut || cx.facts.role.is_none()) => {
                (last, None, false)
            }
            State::Open {
                last,
                own,
                first,
                ended: true,
            } => return self.end_undelimited([first, own, last]),
            // Where the end is cannot be told. A reset right behind the last bytes has cut something off; one of a
            // connection that was idle has not.
            State::Open {
                first, own, last, ..
            } if !close.reset || close.time.since(last.time) >= settle => {
                (self.own_end([first, own, last]).0, None, false)
            }
            _ => return,
        };
        self.pairing.end_response(last, body, end_known);
    }
}
