//! The two directions of an HTTP/1 connection, and how they wait for each other.
//!
//! A response needs its request (a response to `HEAD` has no body), and what follows `CONNECT` or `Upgrade` needs
//! the response. The direction that is ahead waits, so that the result is the same whichever was reported first.

use spandrel_model::{CapturePolicy, Direction, KernelTime, Origin};

use super::exchange::{Broken, Ending};
use super::half::{Half, Piece, State, Waiting};
use super::pairing::{Gap, PARSE_FAILED, Pairing};
use super::span;
use crate::protocol::{Close, Context, Facts, Parser, Sign, Verdict};
use crate::stream::Item;

/// Bytes of each message to copy where heads stand that the kernel side does not follow.
const FULL_COPY: u32 = 8192;

/// State of one connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    pub(super) requests: Direction,
    pub(super) request: Half,
    pub(super) response: Half,
    pub(super) pairing: Pairing,
    /// All messages up to this time have been reported.
    pub(super) settled: KernelTime,
    /// A message of the requests waits to be told by time whether it was answered before.
    pub(super) awaits_answer: bool,
    /// The last response's end was only likely.
    pub(super) end_was_likely: bool,
    pub(super) policy: Option<CapturePolicy>,
    pub(super) failures: u32,
    pub(super) refuted: bool,
    pub(super) completed: u64,
}

impl Http1 {
    pub(crate) fn new(facts: &Facts, requests: Direction) -> Self {
        let from_start = facts.origin == Origin::Observed;
        Self {
            requests,
            request: Half::new(from_start),
            response: Half::new(from_start),
            pairing: Pairing::new(from_start, requests == Direction::Ingress),
            settled: KernelTime(0),
            awaits_answer: false,
            end_was_likely: false,
            policy: None,
            failures: 0,
            refuted: false,
            completed: 0,
        }
    }

    fn side(&self, direction: Direction) -> Sign {
        if direction == self.requests {
            Sign::Request
        } else {
            Sign::Response
        }
    }

    pub(super) fn half(&mut self, side: Sign) -> &mut Half {
        match side {
            Sign::Request => &mut self.request,
            Sign::Response => &mut self.response,
        }
    }

    pub(super) fn tell(&mut self, cx: &mut Context<'_>, policy: CapturePolicy) {
        let rank = |policy: Option<CapturePolicy>| match policy {
            None | Some(CapturePolicy::Undecided | CapturePolicy::Forgotten) => 0,
            Some(CapturePolicy::Headers) => 1,
            Some(CapturePolicy::Full(_)) => 2,
            Some(CapturePolicy::Ignore) => 3,
        };
        if rank(Some(policy)) > rank(self.policy) {
            self.policy = Some(policy);
            cx.policy(policy);
        }
    }

    /// A head was not copied, or may stand behind a body of chunks: the kernel side finds those that begin a message or
    /// follow a body of known length by itself.
    pub(super) fn ask_for_more(&mut self, cx: &mut Context<'_>, piece: &Piece) {
        if !piece.chunk.head_cut {
            self.tell(cx, CapturePolicy::Full(FULL_COPY));
        }
    }

    pub(super) fn failed(&mut self, cx: &Context<'_>, side: Sign) {
        // Where the place was lost, bytes that look like a head are often none, and so is what follows one.
        let doubted = self.half(side).searched || self.pairing.is_uncounted();
        if !doubted || self.completed == 0 {
            self.failures += 1;
        }
        self.refuted |= self.failures >= cx.shared.settings.http.max_failures;
        if side == Sign::Response {
            self.pairing.give_up_response(PARSE_FAILED);
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
                self.lost_response_bytes(cx, count);
                None
            }
        }
    }

    /// Hands over what is complete.
    fn emit(&mut self, cx: &mut Context<'_>) {
        let broken = std::mem::take(&mut self.pairing.broken);
        if broken > 0 {
            cx.shared.ledger.break_pairings(broken);
        }
        while let Some(exchange) = self.pairing.pop() {
            let carried = exchange.carried(cx.facts, self.requests);
            let link = cx.shared.forwarding.end(carried);
            if let Ending::Dropped(reason) = exchange.ending {
                cx.shared.ledger.exchanges.drop_for(reason, 1);
                continue;
            }
            self.completed += 1;
            self.failures = 0;
            span::finish(cx, exchange, self.requests, link);
        }
    }
}

impl Parser for Http1 {
    fn item(&mut self, cx: &mut Context<'_>, direction: Direction, item: Item) {
        let side = self.side(direction);
        let waiting = Waiting::new(item);
        let rest = if self.half(side).is_waiting() {
            Some(waiting)
        } else {
            self.advance(cx, side, waiting)
        };
        if let Some(rest) = rest {
            self.half(side).push(rest);
        }
        self.pump(cx);
        self.emit(cx);
    }

    fn half_closed(&mut self, _cx: &mut Context<'_>, direction: Direction, time: KernelTime) {
        let side = self.side(direction);
        self.half(side).half_closed.get_or_insert(time);
    }

    fn closed(&mut self, cx: &mut Context<'_>, close: Close) {
        self.settled = KernelTime(u64::MAX);
        self.pump(cx);
        if close.missing(self.requests) {
            // Their answers may be among what was taken for the body of another one.
            self.pairing.requests_unseen(Gap::Possible, close.time);
        }
        let missing = close.missing(self.requests.reverse());
        self.close_response(cx, &close, missing);
        let cause = if close.reset {
            Broken::Reset
        } else {
            Broken::Closed
        };
        let settle = cx.shared.settings.settle.as_nanos() as u64;
        let shut = self.response.half_closed;
        self.pairing
            .close((close.time, cause), shut, missing, settle);
        self.emit(cx);
        self.abandon(cx, "exchange.incomplete_head");
    }

    fn settle(&mut self, cx: &mut Context<'_>, now: KernelTime) {
        let settle = cx.shared.settings.settle.as_nanos() as u64;
        self.settled = self.settled.max(KernelTime(now.0.saturating_sub(settle)));
        self.pump(cx);
        match self.response.state {
            State::Open {
                last,
                own,
                first,
                ended,
            } if last.time <= self.settled => {
                let next = self.pairing.next();
                if ended || next.is_some_and(|next| next.began() > last.time) {
                    self.end_open([first, own, last]);
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
        if !self.request.is_waiting() && !self.response.is_waiting() {
            self.pairing.settle(self.settled, settle);
        }
        self.emit(cx);
    }

    fn wants_settle(&self) -> bool {
        self.response.is_waiting()
            || self.awaits_answer && self.request.is_waiting()
            || self.pairing.awaits_silence()
            || match self.response.state {
                State::Open { ended, .. } => ended || self.pairing.next().is_some(),
                State::UntilClose { .. } => {
                    self.response.half_closed.is_some() && self.requests == Direction::Ingress
                }
                _ => false,
            }
    }

    fn give_up_heads(&mut self, cx: &mut Context<'_>, before: KernelTime, reason: &'static str) {
        if self.request.head_began_before(before) {
            cx.shared.ledger.exchanges.see(1);
            cx.shared.ledger.exchanges.drop_for(reason, 1);
            self.request.lose();
            self.pairing.requests_unseen(Gap::Possible, before);
        }
        if self.response.head_began_before(before) {
            self.pairing.give_up_response(reason);
            self.pairing.responses_unseen(None, reason);
            self.response.lose();
        }
        self.pump(cx);
        self.emit(cx);
    }

    fn abandon(&mut self, cx: &mut Context<'_>, reason: &'static str) {
        self.settled = KernelTime(u64::MAX);
        self.pump(cx);
        if let State::Open {
            last,
            own,
            first,
            ended: true,
        } = self.response.state
        {
            self.end_open([first, own, last]);
        }
        self.pairing.abandon(reason);
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
        self.request.cost() + self.response.cost() + self.pairing.cost()
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
