//! The two directions of an HTTP/1 connection, and how they wait for each other.
//!
//! A response needs its request (a response to `HEAD` has no body), and what follows `CONNECT` or `Upgrade` needs
//! the response. The direction that is ahead waits, so that the result is the same whichever was reported first.

use std::collections::VecDeque;

use spandrel_model::{CapturePolicy, Direction, KernelTime, Origin};

use super::body::{Chunked, ends_with_last_chunk};
use super::exchange::{Broken, Ending, Exchange, RequestBody};
use super::gather::{Gathered, gather};
use super::half::{Half, HeadStart, Piece, State, Waiting};
use super::head::{self, Framing, RequestHead, ResponseHead};
use super::span;
use crate::protocol::{Close, Context, Facts, Parser, Sign, Verdict};
use crate::stream::{Item, Meta, Region};

/// Bytes of each message to copy once heads are known to be longer than the usual copy, or pipelined.
const FULL_COPY: u32 = 8192;

const LOST: &str = "exchange.lost_bytes";

/// State of one connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    requests: Direction,
    request: Half,
    response: Half,
    exchanges: VecDeque<Exchange>,
    exchanges_cost: usize,
    /// Exchanges at the front whose response has ended.
    answered: usize,
    /// The response that is being read has been given its exchange, or none (`orphan`).
    paired: bool,
    orphan: bool,
    /// All messages up to this time have been reported.
    settled: KernelTime,
    pipelines: bool,
    policy: Option<CapturePolicy>,
    failures: u32,
    refuted: bool,
    completed: u64,
}

impl Http1 {
    pub(crate) fn new(facts: &Facts, requests: Direction) -> Self {
        let synchronised = facts.origin == Origin::Observed;
        Self {
            requests,
            request: Half::new(synchronised),
            response: Half::new(synchronised),
            exchanges: VecDeque::new(),
            exchanges_cost: 0,
            answered: 0,
            paired: false,
            orphan: false,
            settled: KernelTime(0),
            pipelines: false,
            policy: None,
            failures: 0,
            refuted: false,
            completed: 0,
        }
    }

    fn half(&mut self, side: Sign) -> &mut Half {
        match side {
            Sign::Request => &mut self.request,
            Sign::Response => &mut self.response,
        }
    }

    fn tell(&mut self, cx: &mut Context<'_>, policy: CapturePolicy) {
        let rank = |policy: Option<CapturePolicy>| match policy {
            None | Some(CapturePolicy::Undecided) => 0,
            Some(CapturePolicy::Headers) => 1,
            Some(CapturePolicy::Full(_)) => 2,
            Some(CapturePolicy::Ignore) => 3,
        };
        if rank(Some(policy)) > rank(self.policy) {
            self.policy = Some(policy);
            cx.policy(policy);
        }
    }

    fn failed(&mut self, cx: &Context<'_>, side: Sign) {
        self.failures += 1;
        self.refuted |= self.failures >= cx.shared.settings.http.max_failures;
        if side == Sign::Response {
            self.give_up_response(LOST);
        }
        self.half(side).lose();
    }

    /// Works on what waits until neither direction can go on.
    fn pump(&mut self, cx: &mut Context<'_>) {
        let mut progress = self.request.is_waiting() || self.response.is_waiting();
        while progress && !self.refuted {
            progress = false;
            for side in [Sign::Request, Sign::Response] {
                while let Some(waiting) = self.half(side).pop() {
                    let before = offset(&waiting);
                    match self.advance(cx, side, waiting) {
                        None => progress = true,
                        Some(rest) => {
                            progress |= offset(&rest) > before;
                            self.half(side).push_front(rest);
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Works on one item; gives back what has to wait for the other direction.
    fn advance(&mut self, cx: &mut Context<'_>, side: Sign, waiting: Waiting) -> Option<Waiting> {
        match (side, waiting) {
            (Sign::Request, Waiting::Piece(piece)) => self.advance_request(cx, piece),
            (Sign::Response, Waiting::Piece(piece)) => self.advance_response(cx, piece),
            (Sign::Request, lost @ Waiting::Lost(_)) if self.is_held() => Some(lost),
            (Sign::Request, Waiting::Lost(count)) => {
                self.lost_request_bytes(cx, count);
                None
            }
            (Sign::Response, Waiting::Lost(count)) => {
                self.lost_response_bytes(count);
                None
            }
        }
    }

    /// Whether it depends on a response how the bytes after the last request are to be read.
    fn is_held(&self) -> bool {
        self.exchanges.back().is_some_and(|exchange| {
            exchange.request.may_switch
                && exchange.response.is_none()
                && matches!(exchange.ending, Ending::Open)
                && exchange.request_body != RequestBody::Coming
        })
    }

    fn advance_request(&mut self, cx: &mut Context<'_>, mut piece: Piece) -> Option<Waiting> {
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
    fn request_head(&mut self, cx: &mut Context<'_>, piece: &mut Piece) -> Option<()> {
        let limit = cx.shared.settings.http.max_head_bytes;
        match gather(&mut self.request, piece, limit, |bytes| {
            head::read_request(bytes)
        }) {
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
    fn body_was_withheld(&self, piece: &Piece) -> bool {
        let expects = self
            .exchanges
            .back()
            .is_some_and(|exchange| exchange.request.expects_continue);
        expects && head::begins(piece.chunk.head(), Sign::Request)
    }

    fn begin_exchange(
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

    fn pass_request_body(&mut self, remaining: u64, total: u64) {
        match remaining {
            0 => self.end_request_body(RequestBody::Whole(total)),
            remaining => self.request.state = State::Length { remaining, total },
        }
    }

    fn end_request_body(&mut self, body: RequestBody) {
        if let Some(exchange) = self.exchanges.back_mut()
            && exchange.request_body == RequestBody::Coming
        {
            exchange.request_body = body;
        }
        self.request.state = State::Head;
    }

    fn lost_request_bytes(&mut self, cx: &mut Context<'_>, count: u64) {
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
                    self.begin_cut_exchange(cx, head, start);
                }
                self.request.lose();
            }
        }
    }

    fn begin_cut_exchange(
        &mut self,
        cx: &mut Context<'_>,
        mut head: RequestHead,
        start: HeadStart,
    ) {
        // Its body cannot be told: as if it were empty, and the direction has lost its place anyway.
        head.framing = Framing::Empty;
        head.may_switch = false;
        let piece = Piece {
            chunk: crate::stream::Chunk::empty(start.meta),
            offset: 0,
        };
        self.begin_exchange(cx, head, start, &piece);
        if let Some(exchange) = self.exchanges.back_mut() {
            exchange.request_body = RequestBody::Unknown;
        }
    }

    /// Gives the response that begins at `time` its exchange; `false` if that cannot be told yet.
    fn pair(&mut self, time: KernelTime) -> bool {
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
    fn choose(&mut self, earlier: usize) -> bool {
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

    fn give_up_exchange(&mut self, reason: &'static str) {
        if let Some(exchange) = self.exchanges.get_mut(self.answered) {
            exchange.ending = Ending::Dropped(reason);
            self.answered += 1;
        }
    }

    /// The response that is being read cannot be finished.
    fn give_up_response(&mut self, reason: &'static str) {
        if self.paired && !self.orphan {
            self.give_up_exchange(reason);
        }
        self.paired = false;
        self.orphan = false;
    }

    fn advance_response(&mut self, cx: &mut Context<'_>, mut piece: Piece) -> Option<Waiting> {
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

    fn response_head(&mut self, cx: &mut Context<'_>, piece: &mut Piece) -> Option<()> {
        let limit = cx.shared.settings.http.max_head_bytes;
        let exchange = self.exchanges.get(self.answered);
        let method = exchange
            .filter(|_| !self.orphan)
            .map_or("GET", |exchange| exchange.request.method.as_ref());
        let read = |bytes: &[u8]| head::read_response(bytes, method);
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

    fn begin_response(&mut self, cx: &mut Context<'_>, head: ResponseHead, piece: &Piece) {
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

    fn pass_response_body(&mut self, remaining: u64, total: u64, meta: Meta) {
        match remaining {
            0 => self.end_response(meta, Some(total)),
            remaining => self.response.state = State::Length { remaining, total },
        }
    }

    fn end_response(&mut self, last: Meta, body: Option<u64>) {
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

    fn lost_response_bytes(&mut self, count: u64) {
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
            State::Chunked(mut body) => {
                if body.skip(count) == count {
                    self.response.state = State::Chunked(body);
                    return;
                }
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

    /// Hands over what is complete.
    fn emit(&mut self, cx: &mut Context<'_>) {
        while self.exchanges.front().is_some_and(Exchange::is_complete) {
            let Some(exchange) = self.exchanges.pop_front() else {
                return;
            };
            self.exchanges_cost = self.exchanges_cost.saturating_sub(exchange.cost());
            self.answered = self.answered.saturating_sub(1);
            if let Ending::Dropped(reason) = exchange.ending {
                cx.shared.ledger.exchanges.drop_for(reason, 1);
                continue;
            }
            self.completed += 1;
            self.failures = 0;
            span::finish(cx, exchange, self.requests);
        }
    }

    /// Ends a body whose end was only likely.
    fn end_open(&mut self, last: Meta) {
        self.end_response(last, None);
        self.response.state = State::Resync;
    }

    /// The response that was being read when the connection ended.
    fn close_response(&mut self, close: &Close, missing: bool) {
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
            State::UntilClose { total, last } if !close.reset => {
                self.end_response(last, Some(total));
            }
            State::Open { last, ended } if ended || !close.reset => self.end_response(last, None),
            _ => {}
        }
    }
}

impl Parser for Http1 {
    fn item(&mut self, cx: &mut Context<'_>, direction: Direction, item: Item) {
        let side = match direction == self.requests {
            true => Sign::Request,
            false => Sign::Response,
        };
        let waiting = Waiting::new(item);
        let rest = match self.half(side).is_waiting() {
            true => Some(waiting),
            false => self.advance(cx, side, waiting),
        };
        if let Some(rest) = rest {
            self.half(side).push(rest);
        }
        self.pump(cx);
        self.emit(cx);
    }

    fn half_closed(&mut self, _cx: &mut Context<'_>, direction: Direction, time: KernelTime) {
        let side = match direction == self.requests {
            true => Sign::Request,
            false => Sign::Response,
        };
        self.half(side).half_closed = Some(time);
    }

    fn closed(&mut self, cx: &mut Context<'_>, close: Close) {
        self.settled = KernelTime(u64::MAX);
        self.pump(cx);
        let missing = close.missing(self.requests.reverse());
        self.close_response(&close, missing);
        let lost = missing || matches!(self.response.state, State::Resync) && self.response.skipped;
        let cause = match close.reset {
            true => Broken::Reset,
            false => Broken::Closed,
        };
        for exchange in self.exchanges.iter_mut() {
            exchange.request_body = match exchange.request_body {
                RequestBody::Coming => RequestBody::Unknown,
                known => known,
            };
        }
        for exchange in self.exchanges.iter_mut().skip(self.answered) {
            exchange.ending = match lost {
                true => Ending::Dropped(LOST),
                false => Ending::Broken {
                    time: close.time,
                    cause,
                },
            };
        }
        self.answered = self.exchanges.len();
        self.emit(cx);
        self.abandon(cx, "exchange.incomplete_head");
    }

    fn settle(&mut self, cx: &mut Context<'_>, now: KernelTime) {
        let settle = cx.shared.settings.settle.as_nanos() as u64;
        self.settled = self.settled.max(KernelTime(now.0.saturating_sub(settle)));
        self.pump(cx);
        match self.response.state {
            State::Open { last, ended } if last.time <= self.settled => {
                let next = self.exchanges.get(self.answered + 1);
                if ended || next.is_some_and(|next| next.began() > last.time) {
                    self.end_open(last);
                }
            }
            // What this end has stopped to write is whole; what it may still read is not.
            State::UntilClose { total, last }
                if self.requests == Direction::Ingress
                    && last.time <= self.settled
                    && self
                        .response
                        .half_closed
                        .is_some_and(|time| time <= self.settled) =>
            {
                self.end_response(last, Some(total));
                self.response.state = State::Resync;
            }
            _ => {}
        }
        self.pump(cx);
        self.emit(cx);
    }

    fn wants_settle(&self) -> bool {
        self.response.is_waiting()
            || matches!(self.response.state, State::Open { .. })
            || matches!(self.response.state, State::UntilClose { .. })
                && self.response.half_closed.is_some()
                && self.requests == Direction::Ingress
    }

    fn abandon(&mut self, cx: &mut Context<'_>, reason: &'static str) {
        self.settled = KernelTime(u64::MAX);
        self.pump(cx);
        if let State::Open { last, ended: true } = self.response.state
            && self.paired
        {
            self.end_open(last);
        }
        for exchange in self.exchanges.iter_mut() {
            if exchange.request_body == RequestBody::Coming {
                exchange.request_body = RequestBody::Unknown;
            }
        }
        for exchange in self.exchanges.iter_mut().skip(self.answered) {
            exchange.ending = Ending::Dropped(reason);
        }
        self.answered = self.exchanges.len();
        self.emit(cx);
        if self.request.has_partial_head() {
            cx.shared.ledger.exchanges.see(1);
            cx.shared.ledger.exchanges.drop_for(reason, 1);
        }
        for half in [&mut self.request, &mut self.response] {
            half.forget_head();
            half.state = State::Tunnel;
            while half.pop().is_some() {}
        }
    }

    fn cost(&self) -> usize {
        self.request.cost() + self.response.cost() + self.exchanges_cost
    }

    fn verdict(&self) -> Verdict {
        if self.refuted {
            Verdict::Refuted
        } else if self.completed > 0 {
            Verdict::Confirmed
        } else {
            Verdict::Open
        }
    }
}

fn offset(waiting: &Waiting) -> u64 {
    match waiting {
        Waiting::Piece(piece) => piece.offset,
        Waiting::Lost(_) => 0,
    }
}

/// The state of a body whose end is not delimited, after this chunk.
fn open(piece: &Piece) -> State {
    let chunk = &piece.chunk;
    State::Open {
        last: chunk.meta,
        ended: ends_with_last_chunk(chunk.ending(), chunk.is_captured()),
    }
}

/// How many bytes were read and whether the body is done; `None` where a chunk head is hidden or malformed.
fn read_chunked(body: &mut Chunked, region: &Region<'_>) -> Option<(u64, bool)> {
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
