//! Which response answers which request.
//!
//! Responses come in the order of their requests, so counting pairs them as long as every one of both is seen. Where
//! bytes in which a head may have stood were not seen, the counts are unknown, and what follows is held as doubtful until
//! there is evidence: silence with everything answered, or a client that has always waited for its answer.

mod evidence;

use std::collections::VecDeque;

use spandrel_model::KernelTime;

use super::exchange::{Broken, Ending, Exchange, RequestBody};
use crate::stream::Meta;

/// Not reported by the kernel side.
pub(super) const LOST: &str = "exchange.lost_bytes";
/// Reported, but without the bytes.
pub(super) const NOT_COPIED: &str = "exchange.not_copied";
/// Which response answers it cannot be told.
pub(super) const PAIRING: &str = "exchange.pairing_broken";
/// What stood in the place of a request was none, and nothing answered it.
pub(super) const PARSE_FAILED: &str = "exchange.parse_failed";

/// A client that has waited for its answer so many times in a row does not pipeline.
const HABIT: u32 = 8;
/// The same of one whose earlier requests were not seen: who has several under way looks so for longer.
const HABIT_OF_OLDER: u32 = 32;
/// Answered exchanges of one connection that wait for evidence.
const MAX_DOUBTFUL: usize = 64;
/// Silence that shows that everything was answered, however slow the answers before were.
const MAX_SILENCE: u64 = 1_000_000_000;
/// The same where the client was seen to pipeline: while the server thinks, all is quiet, however much is under way.
const SILENCE_OF_PIPELINING: u64 = 5_000_000_000;

/// Why requests may stand between two that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    /// The connection is older than its first message here.
    Before,
    /// The body or the messages between them were not followed; a client that does not pipeline sends none there.
    Possible,
    /// Not all of a message in which a head stood was copied: it may hold many more.
    Cut,
}

/// Requests may have stood among bytes that were not seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    gap: Gap,
    /// The time of the latest of these bytes; the latest there is where that is not known.
    until: KernelTime,
}

/// Responses may have stood among bytes that were not seen.
#[derive(Clone, Copy, Debug)]
struct Missing {
    /// They answer requests that began until then; `None` where the time of the bytes is not known.
    until: Option<KernelTime>,
    reason: &'static str,
    /// They would have stood in the body of one that was seen: a client that waits has none there.
    in_body: bool,
}

/// What the response that is being read answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Current {
    /// None is being read.
    #[default]
    Nothing,
    /// The first exchange that is not answered.
    First,
    /// A request that is not known.
    Orphan,
}

fn broken(time: KernelTime, cause: Broken) -> Ending {
    Ending::Broken { time, cause }
}

/// The exchanges of one connection.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    exchanges: VecDeque<Exchange>,
    cost: usize,
    /// Exchanges at the front whose response has ended, or that were given up.
    answered: usize,
    current: Current,
    /// Requests may be unanswered that no exchange stands for.
    uncounted: Option<Gap>,
    /// Only silence is evidence: the client may pipeline.
    needs_silence: bool,
    /// The client was seen to send a request before it had the answer to the one before.
    pipelines: bool,
    /// Requests are read here: when they begin is exact.
    server: bool,
    /// The connection is older than its first message here, and no silence has shown yet that all was answered.
    older: bool,
    /// That everything was answered was told from rounds or silence, which is no evidence if the client pipelines after all.
    assumed: bool,
    /// A response to an unknown request came while others were doubtful, and does not contradict them.
    explained: bool,
    /// Requests may have stood behind the last exchange.
    gap: Option<Passed>,
    missing: Option<Missing>,
    /// Responses that came, with nothing unknown, before the whole head of their request was read.
    ahead: u32,
    /// Requests in a row that began when the response before had ended.
    rounds: u32,
    /// Those of them before which everything was seen.
    sure_rounds: u32,
    /// Longest wait for a response among the doubtful exchanges.
    longest_wait: u64,
    last_end: Option<KernelTime>,
    last_request: KernelTime,
    /// When the latest message of the requests began: all that are older have been read.
    requests_from: KernelTime,
    last_response: KernelTime,
    /// How often the counts became unknown.
    pub(super) broken: u64,
}

impl Pairing {
    /// A connection of which the beginning was seen, or was not; at the end that reads the requests, or the other.
    pub(super) fn new(from_start: bool, server: bool) -> Self {
        Self {
            server,
            older: !from_start,
            gap: (!from_start).then_some(Passed {
                gap: Gap::Before,
                until: KernelTime(0),
            }),
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.exchanges.len()
    }

    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    fn open(&self) -> usize {
        self.exchanges.len() - self.answered
    }

    /// The last request.
    pub(super) fn last(&self) -> Option<&Exchange> {
        self.exchanges.back()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Exchange> {
        self.exchanges.back_mut()
    }

    /// The exchange whose response is being read.
    pub(super) fn current(&mut self) -> Option<&mut Exchange> {
        if self.current == Current::First {
            self.exchanges.get_mut(self.answered)
        } else {
            None
        }
    }

    pub(super) fn is_orphan(&self) -> bool {
        self.current == Current::Orphan
    }

    /// The exchange whose response would come next after the one that is being read.
    pub(super) fn next(&self) -> Option<&Exchange> {
        let next = self.answered + usize::from(self.current == Current::First);
        self.exchanges.get(next)
    }

    /// From when on there may be other responses behind the one that is being read, which began at `from`: when the next
    /// request began, or the earliest time where one that was not seen may have been sent. A client that does not pipeline
    /// has sent none of those before the response.
    pub(super) fn others_since(&self, from: KernelTime) -> Option<KernelTime> {
        let next = self.next();
        let gap = next.map_or(self.gap, |next| next.gap);
        let pipelines = |passed: &Passed| self.pipelines || passed.gap == Gap::Cut;
        match gap.filter(|passed| passed.until >= from || pipelines(passed)) {
            Some(_) => Some(from),
            None => next.map(Exchange::began),
        }
    }

    /// Whether it is certain which request the response that is being read answers.
    pub(super) fn is_certain(&self) -> bool {
        let first = self.exchanges.get(self.answered);
        self.current == Current::First && first.is_some_and(|first| !first.doubtful)
    }

    /// Whether requests or responses may have been missed.
    pub(super) fn is_uncounted(&self) -> bool {
        self.uncounted.is_some()
            || self.gap.is_some()
            || self.missing.is_some()
            || self.exchanges.iter().any(|exchange| exchange.gap.is_some())
    }

    /// A message of the requests has been read to its end.
    pub(super) fn passed_request(&mut self, meta: Meta) {
        self.last_request = self.last_request.max(meta.time);
        let began = meta.started().unwrap_or(meta.time);
        self.requests_from = self.requests_from.max(began);
    }

    /// A message of the responses has been read to its end.
    pub(super) fn passed_response(&mut self, meta: Meta) {
        self.last_response = self.last_response.max(meta.time);
    }

    pub(super) fn push(&mut self, mut exchange: Exchange) {
        exchange.gap = self.gap.take();
        self.cost += exchange.cost();
        self.exchanges.push_back(exchange);
        if self.ahead > 0 {
            self.ahead -= 1;
            self.give_up(1, PAIRING);
        }
    }

    /// Requests may have been in what was passed over, the last of it at `until`.
    pub(super) fn requests_unseen(&mut self, gap: Gap, until: KernelTime) {
        // They explain the responses that nothing seemed to have asked for.
        self.ahead = 0;
        let passed = match self.gap {
            Some(before) => Passed {
                gap: before.gap.max(gap),
                until: before.until.max(until),
            },
            None => {
                self.broken += 1;
                Passed { gap, until }
            }
        };
        self.gap = Some(passed);
    }

    /// Responses may have been in what was passed over until `until`.
    pub(super) fn responses_unseen(&mut self, until: Option<KernelTime>, reason: &'static str) {
        self.miss(until, reason, false);
    }

    /// The same of what was passed over in a response's body.
    pub(super) fn body_unseen(&mut self, until: KernelTime, reason: &'static str) {
        self.miss(Some(until), reason, true);
    }

    fn miss(&mut self, until: Option<KernelTime>, reason: &'static str, in_body: bool) {
        let until = match (self.missing, until) {
            (Some(Missing { until: None, .. }), _) | (_, None) => None,
            (Some(Missing { until: before, .. }), time) => before.max(time),
            (None, time) => time,
        };
        let in_body = in_body && self.missing.is_none_or(|missing| missing.in_body);
        self.missing = Some(Missing {
            until,
            reason,
            in_body,
        });
    }

    /// Whether all requests until `time` have been read: a later one shows that, or that all messages until `settled` have
    /// been reported.
    pub(super) fn are_read(&self, time: KernelTime, settled: KernelTime) -> bool {
        time <= settled || time < self.requests_from
    }

    /// Gives the response that begins at `time` its exchange; `false` if that cannot be told before all requests until
    /// then have been read: a later one shows that, or that all messages until `settled` have been reported.
    pub(super) fn begin_response(
        &mut self,
        time: KernelTime,
        settled: KernelTime,
        settle: u64,
    ) -> bool {
        if self.current != Current::Nothing {
            return true;
        }
        self.notice_pipelining(time);
        let first = self.exchanges.get(self.answered);
        let first_gap = first.map_or(self.gap, |first| first.gap);
        let began = first.map(Exchange::began);
        let may_be_answered = self.missing.is_some_and(|missing| {
            missing
                .until
                .is_none_or(|until| began.is_none_or(|began| began <= until))
        });
        let is_early = first.is_some_and(|first| {
            first.began() > time && (self.server || first.first.started().is_some())
        });
        let known = self.uncounted.is_none() && first_gap.is_none() && !may_be_answered;
        let counted = known && !is_early;
        if !(self.are_read(time, settled) || counted && self.open() > 0) {
            return false;
        }
        let unseen = if counted {
            // What was not seen is older than every request that waits.
            self.missing = None;
            None
        } else {
            self.weigh(time, settle)
        };
        let first = self.exchanges.get(self.answered);
        let answers = first.is_some_and(|first| counted || first.began() <= time);
        if !answers {
            if known && !self.assumed {
                self.answer_ahead();
            }
            self.orphan(unseen);
            return true;
        }
        self.current = Current::First;
        self.count_round();
        if self.uncounted.is_some() {
            self.doubt(time);
        }
        true
    }

    /// Responses come in the order of their requests: this one is that of a request that is read later than it.
    fn answer_ahead(&mut self) {
        if self.open() > 0 {
            self.give_up(1, PAIRING);
        } else {
            self.ahead = self.ahead.saturating_add(1);
        }
    }

    /// What was read as a response's body is another response: the request it was given was not its own. Of one without a
    /// request it was only not known that it has no body.
    pub(super) fn deny_body(&mut self) {
        if !self.is_orphan() {
            self.contradict();
        }
        self.give_up_response(PAIRING);
    }

    fn give_up(&mut self, count: usize, reason: &'static str) {
        for _ in 0..count {
            let Some(exchange) = self.exchanges.get_mut(self.answered) else {
                return;
            };
            exchange.ending = Ending::Dropped(reason);
            exchange.doubtful = false;
            self.answered += 1;
        }
    }

    /// The response that is being read cannot be finished.
    pub(super) fn give_up_response(&mut self, reason: &'static str) {
        if self.current == Current::First {
            self.give_up(1, reason);
        }
        self.current = Current::Nothing;
    }

    /// The response that is being read has ended with `last`.
    pub(super) fn end_response(&mut self, last: Meta, body: Option<u64>, end_known: bool) {
        if self.current == Current::First
            && let Some(exchange) = self.exchanges.get_mut(self.answered)
        {
            // One that was dropped while its response was being read stays so.
            if matches!(exchange.ending, Ending::Open) {
                exchange.ending = Ending::Whole {
                    last,
                    body,
                    end_known,
                };
            }
            self.answered += 1;
        }
        self.last_end = Some(last.started().unwrap_or(last.time));
        self.current = Current::Nothing;
    }

    /// Everything until `now` has been reported: silence may show that all is answered.
    pub(super) fn settle(&mut self, now: KernelTime, settle: u64) {
        let last = self.last_request.max(self.last_response);
        if self.awaits_silence() && now.since(last) >= self.silence(settle) {
            self.settle_in_silence();
            self.gap = None;
        }
    }

    /// Whether answered exchanges wait for silence.
    pub(super) fn awaits_silence(&self) -> bool {
        self.open() == 0
            && self.current == Current::Nothing
            && self.exchanges.iter().any(|exchange| exchange.doubtful)
    }

    /// The connection has ended: nothing more is answered. `shut` is when the direction of the responses had ended, if
    /// that was before; `lost` tells that bytes of responses were.
    pub(super) fn close(
        &mut self,
        (time, cause): (KernelTime, Broken),
        shut: Option<KernelTime>,
        lost: bool,
        settle: u64,
    ) {
        self.settle(time, settle);
        // An end in order, with an answer for each request: there is none left for a request that is not known.
        let in_order = cause == Broken::Closed && !lost && !self.explained && self.awaits_silence();
        if (in_order && self.uncounted < Some(Gap::Cut)) || self.is_after_silence(time, settle) {
            self.settle_in_silence();
        }
        self.drop_doubtful();
        let mut uncertain = self.uncounted;
        let last_response = self.last_response;
        let missing = self.missing.take();
        let begun = usize::from(self.current == Current::First);
        for (index, exchange) in self.exchanges.iter_mut().skip(self.answered).enumerate() {
            let suspect = missing.filter(|missing| {
                let until = missing.until;
                index >= begun && until.is_none_or(|until| exchange.began() <= until)
            });
            uncertain = uncertain.max(exchange.gap.map(|passed| passed.gap));
            // Nothing has come since that could have been its answer.
            let unanswered = uncertain == Some(Gap::Before) && last_response < exchange.began();
            if matches!(exchange.ending, Ending::Dropped(_)) {
                continue;
            }
            exchange.ending = if lost {
                Ending::Dropped(LOST)
            } else if let Some(missing) = suspect {
                Ending::Dropped(missing.reason)
            } else if exchange.malformed {
                Ending::Dropped(PARSE_FAILED)
            } else if uncertain.is_some() && !unanswered && index >= begun {
                // Its answer may have been given to another request, or it is none itself.
                Ending::Dropped(PAIRING)
            } else {
                match shut.filter(|shut| exchange.began() <= *shut) {
                    // What had come by then may have been read later.
                    Some(shut) if index < begun => broken(shut.max(last_response), Broken::Closed),
                    Some(shut) => broken(shut, Broken::Closed),
                    None => broken(time, cause),
                }
            };
        }
        self.end();
    }

    /// No more events come.
    pub(super) fn abandon(&mut self, reason: &'static str) {
        for exchange in &mut self.exchanges {
            if exchange.doubtful || matches!(exchange.ending, Ending::Open) {
                exchange.ending = Ending::Dropped(reason);
            }
            exchange.doubtful = false;
        }
        self.end();
    }

    fn end(&mut self) {
        for exchange in &mut self.exchanges {
            if exchange.request_body == RequestBody::Coming {
                exchange.request_body = RequestBody::Unknown;
            }
        }
        self.answered = self.exchanges.len();
        self.current = Current::Nothing;
    }

    /// The next exchange that is complete, in the order of the requests.
    pub(super) fn pop(&mut self) -> Option<Exchange> {
        let complete =
            self.answered > 0 && self.exchanges.front().is_some_and(Exchange::is_complete);
        if !complete {
            return None;
        }
        let exchange = self.exchanges.pop_front()?;
        self.cost = self.cost.saturating_sub(exchange.cost());
        self.answered -= 1;
        if self.exchanges.is_empty() {
            // Begins anew at the front: without pipelining one place is used, and it stays in the cache.
            self.exchanges.clear();
        }
        Some(exchange)
    }
}
