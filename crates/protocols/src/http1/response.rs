//! The direction of the responses, and which request each of them answers.

use spandrel_model::{CapturePolicy, Direction, KernelTime};

use super::body::Chunked;
use super::exchange::{Ending, RequestBody};
use super::gather::{Gathered, gather};
use super::half::{Piece, State, Waiting, open, read_chunked};
use super::head::{self, Framing, ResponseHead};
use super::parser::{FULL_COPY, Http1, LOST};
use crate::protocol::{Close, Context, Sign};
use crate::stream::Meta;

impl Http1 {
    /// Gives the response that begins at `time` its exchange; `false` if that cannot be told yet.
    pub(super) fn pair(&mut self, time: KernelTime) -> bool {
        if self.paired {
            return true;
        }
        let may_wait = time > self.settled;
        let open = self.exchanges.len() - self.answered;
        let first = self.exchanges.get(self.answered);
        let uncertain = self.response.after_gap || first.is_some_and(|first| first.after_gap);
        let known = if uncertain {
            // Responses or requests are missing: only time tells which belong together.
            let waiting = self.exchanges.iter().skip(self.answered);
            let earlier = waiting.take_while(|other| other.began() <= time).count();
            if earlier == open && may_wait {
                return false;
            }
            self.choose(earlier)
        } else {
            if open == 0 && may_wait {
                return false;
            }
            open > 0
        };
        self.paired = true;
        self.orphan = !known;
        true
    }

    /// Of `earlier` requests before a response, finds the one it answers.
    pub(super) fn choose(&mut self, earlier: usize) -> bool {
        let mut skip = 0;
        if self.response.after_gap && earlier > 1 {
            // Without pipelining the last one; the others' responses are lost.
            skip = if self.pipelines { earlier } else { earlier - 1 };
        }
        for _ in 0..skip {
            self.give_up_exchange(LOST);
        }
        if earlier == 0 || skip == earlier {
            return false;
        }
        self.response.after_gap = false;
        if let Some(exchange) = self.exchanges.get_mut(self.answered) {
            exchange.after_gap = false;
        }
        true
    }

    pub(super) fn give_up_exchange(&mut self, reason: &'static str) {
        if let Some(exchange) = self.exchanges.get_mut(self.answered) {
            exchange.ending = Ending::Dropped(reason);
            self.answered += 1;
        }
    }

    /// The response that is being read cannot be finished.
    pub(super) fn give_up_response(&mut self, reason: &'static str) {
        if self.paired && !self.orphan {
            self.give_up_exchange(reason);
        }
        self.paired = false;
        self.orphan = false;
    }

    pub(super) fn advance_response(
        &mut self,
        cx: &mut Context<'_>,
        mut piece: Piece,
    ) -> Option<Waiting> {
        while let Some(region) = piece.chunk.region(piece.offset) {
            let at_start = piece.offset == 0 && piece.chunk.whole;
            let left = piece.chunk.length - piece.offset;
            let meta = piece.chunk.meta;
            match self.response.state {
                State::Tunnel => return None,
                State::Resync => {
                    if !(at_start && head::begins(piece.chunk.head(), Sign::Response)) {
                        cx.shared.late_body_messages += u64::from(!self.response.after_gap);
                        self.response.skipped = true;
                        return None;
                    }
                    self.response.state = State::Head;
                }
                State::Open { last, .. } => {
                    if !(at_start && head::begins(piece.chunk.head(), Sign::Response)) {
                        self.response.state = open(&piece);
                        return None;
                    }
                    self.end_response(last, None);
                }
                State::Length { remaining, total } => {
                    let passed = remaining.min(left);
                    piece.offset += passed;
                    self.pass_response_body(remaining - passed, total, meta);
                }
                State::UntilClose { total, .. } => {
                    let total = total.saturating_add(left);
                    self.response.state = State::UntilClose { total, last: meta };
                    return None;
                }
                State::Chunked(mut body) => match read_chunked(&mut body, &region) {
                    Some((consumed, true)) => {
                        piece.offset += consumed;
                        self.end_response(meta, Some(body.data()));
                    }
                    Some((consumed, false)) => {
                        piece.offset += consumed;
                        self.response.state = State::Chunked(body);
                    }
                    None => {
                        self.response.state = open(&piece);
                        return None;
                    }
                },
                State::Head => {
                    if !self.pair(meta.time) {
                        return Some(Waiting::Piece(piece));
                    }
                    self.response_head(cx, &mut piece)?;
                }
            }
        }
        None
    }

    pub(super) fn response_head(&mut self, cx: &mut Context<'_>, piece: &mut Piece) -> Option<()> {
        let limit = cx.shared.settings.http.max_head_bytes;
        let exchange = self.exchanges.get(self.answered);
        let method = exchange
            .filter(|_| !self.orphan)
            .map_or("GET", |exchange| exchange.request.method.as_ref());
        let known = &mut cx.shared.known_heads;
        let read = |bytes: &[u8]| head::read_response(bytes, method, known);
        match gather(&mut self.response, piece, limit, read) {
            Gathered::More => Some(()),
            Gathered::Head(head, _) => {
                self.begin_response(cx, head, piece);
                Some(())
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
                self.tell(cx, CapturePolicy::Full(FULL_COPY));
                None
            }
            Gathered::Hidden => {
                self.give_up_response(LOST);
                self.response.lose();
                self.tell(cx, CapturePolicy::Full(FULL_COPY));
                None
            }
            Gathered::Invalid => {
                self.failed(cx, Sign::Response);
                None
            }
        }
    }

    pub(super) fn begin_response(
        &mut self,
        cx: &mut Context<'_>,
        head: ResponseHead,
        piece: &Piece,
    ) {
        let meta = piece.chunk.meta;
        self.response.skipped = false;
        if (100..=199).contains(&head.status) && head.status != 101 {
            // The final response is still to come; a cut interim head may hide it.
            if head.framing == Framing::Unknown {
                self.give_up_response(LOST);
                self.response.lose();
            }
            return;
        }
        if self.orphan {
            cx.shared.ledger.exchanges.see(1);
            cx.shared
                .ledger
                .exchanges
                .drop_for("exchange.no_request", 1);
        }
        let next = self.exchanges.get(self.answered + 1);
        if next.is_some_and(|next| next.began() < meta.time) {
            self.pipelines = true;
        }
        let mut switches = head.status == 101;
        if let Some(exchange) = self.exchanges.get_mut(self.answered)
            && !self.orphan
        {
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
            Framing::Unknown => self.response.state = open(piece),
        }
    }

    pub(super) fn pass_response_body(&mut self, remaining: u64, total: u64, meta: Meta) {
        match remaining {
            0 => self.end_response(meta, Some(total)),
            remaining => self.response.state = State::Length { remaining, total },
        }
    }

    pub(super) fn end_response(&mut self, last: Meta, body: Option<u64>) {
        if let Some(exchange) = self.exchanges.get_mut(self.answered)
            && !self.orphan
        {
            exchange.ending = Ending::Whole { last, body };
            self.answered += 1;
        }
        self.paired = false;
        self.orphan = false;
        self.response.state = State::Head;
    }

    pub(super) fn lost_response_bytes(&mut self, count: u64) {
        match self.response.state {
            State::Tunnel => return,
            State::Length { remaining, total } if count < remaining => {
                let remaining = remaining - count;
                self.response.state = State::Length { remaining, total };
                return;
            }
            State::Length { remaining, .. } if count == remaining => {
                // When the last byte went is lost with it.
                self.give_up_response(LOST);
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
        self.give_up_response(LOST);
        self.response.lose();
    }

    /// Ends a body whose end was only likely.
    pub(super) fn end_open(&mut self, last: Meta) {
        self.end_response(last, None);
        self.response.state = State::Resync;
    }

    /// The response that was being read when the connection ended.
    pub(super) fn close_response(&mut self, close: &Close, missing: bool) {
        if !self.paired || self.orphan {
            return;
        }
        if let Some(head) = head::cut_response(&self.response.buffer)
            && head.status >= 200
            && let Some(exchange) = self.exchanges.get_mut(self.answered)
        {
            exchange.response = Some(head);
        }
        match self.response.state {
            _ if missing => self.give_up_response(LOST),
            // A reset after this end had said that it was done takes nothing away.
            State::UntilClose { total, last }
                if !close.reset
                    || self.requests == Direction::Ingress
                        && self.response.half_closed.is_some() =>
            {
                self.end_response(last, Some(total));
            }
            State::Open { last, ended } if ended || !close.reset => self.end_response(last, None),
            _ => {}
        }
    }
}
