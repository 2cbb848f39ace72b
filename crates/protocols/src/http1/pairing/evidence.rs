//! What shows that nothing is unanswered any more, and what contradicts what was held until then.

use spandrel_model::KernelTime;

use super::{
    Current, Gap, HABIT, HABIT_OF_OLDER, LOST, MAX_DOUBTFUL, MAX_SILENCE, Missing, PAIRING,
    Pairing, Passed, SILENCE_OF_PIPELINING,
};
use crate::http1::exchange::Ending;

impl Pairing {
    /// How long a connection is to be silent until everything counts as answered.
    pub(super) fn silence(&self, settle: u64) -> u64 {
        let waited = settle.max(self.longest_wait.saturating_mul(2).min(MAX_SILENCE));
        if self.pipelines {
            waited.max(SILENCE_OF_PIPELINING)
        } else {
            waited
        }
    }

    /// Two requests came before a response at `time`, and none after the first of them that could have answered it.
    pub(super) fn notice_pipelining(&mut self, time: KernelTime) {
        let mut open = self.exchanges.range(self.answered..);
        let (Some(first), Some(second)) = (open.next(), open.next()) else {
            return;
        };
        let lost = self.missing.is_some_and(|missing| missing.until.is_none());
        if !lost && second.began() <= time && self.last_response < first.began() {
            self.see_pipelining();
        }
    }

    /// The client does not wait for its answers: what was told because it seemed to was no evidence.
    fn see_pipelining(&mut self) {
        self.pipelines = true;
        if self.assumed {
            self.contradict();
        }
        self.needs_silence |= self.uncounted.is_some();
    }

    /// Finds out what the evidence leaves of what is not counted before a response that begins at `time`. Returns the gap
    /// behind the last request before it.
    pub(super) fn weigh(&mut self, time: KernelTime, settle: u64) -> Option<Passed> {
        if self.is_after_silence(time, settle) {
            self.settle_in_silence();
            if let Some(first) = self.exchanges.get_mut(self.answered) {
                first.gap = None;
            }
        }
        if let Some(missing) = self.missing.take() {
            self.weigh_missing(missing, time);
        }
        let gap = match self.exchanges.get_mut(self.answered) {
            Some(first) => first.gap.take(),
            None => self.gap,
        };
        if let Some(passed) = gap {
            self.uncount(passed.gap);
        }
        gap
    }

    /// Whether the first request came before a response at `time`, and after so long a silence that everything before
    /// it was answered.
    pub(super) fn is_after_silence(&self, time: KernelTime, settle: u64) -> bool {
        let Some(first) = self.exchanges.get(self.answered) else {
            return false;
        };
        let began = first.began();
        let before = first.request_before.max(self.last_response);
        let before = before.max(self.last_end.unwrap_or(before));
        let may_be_answered = self
            .missing
            .is_some_and(|missing| missing.until.is_none_or(|until| until >= began));
        began <= time && !may_be_answered && began.since(before) >= self.silence(settle)
    }

    pub(super) fn begun_until(&self, time: KernelTime) -> usize {
        let open = self.exchanges.iter().skip(self.answered);
        open.take_while(|exchange| exchange.began() <= time).count()
    }

    /// Some of the requests before a response may have been answered in what was not seen.
    pub(super) fn weigh_missing(&mut self, missing: Missing, time: KernelTime) {
        let suspects = self.begun_until(missing.until.map_or(time, |until| until.min(time)));
        if suspects == 0 {
            self.drop_unsupported(missing);
            return;
        }
        let before = self.begun_until(time);
        let mut gaps = self.exchanges.range(self.answered..self.answered + before);
        let uncounted = self.uncounted.is_some()
            || self.gap.is_some()
            || gaps.any(|exchange| exchange.gap.is_some());
        if uncounted {
            self.drop_doubtful();
            self.give_up(suspects, PAIRING);
            self.uncount(Gap::Possible);
        } else if before > 1 {
            self.broken += 1;
            self.give_up(before, PAIRING);
            // Where nothing was lost, the client has more than one under way, or answers stand where none should.
            self.uncount(if missing.reason == LOST {
                Gap::Possible
            } else {
                Gap::Cut
            });
        } else {
            // This may be its response, or that to a request that was lost with the response.
            self.give_up(1, PAIRING);
        }
    }

    /// Requests that are not known may be unanswered.
    pub(super) fn uncount(&mut self, gap: Gap) {
        if (gap == Gap::Cut || self.pipelines) && self.sure_rounds < HABIT {
            self.needs_silence = true;
        }
        self.uncounted = self.uncounted.max(Some(gap));
    }

    /// Nothing is under way. Of a client that pipelines the last request may be slow all the same, and all that was held is
    /// another's then.
    pub(super) fn settle_in_silence(&mut self) {
        if self.pipelines {
            self.drop_doubtful();
        }
        self.settle_all();
        self.older = false;
    }

    /// Nothing is unanswered that began before: what was held for that is right.
    pub(super) fn settle_all(&mut self) {
        if let Some(missing) = self.missing.take() {
            self.drop_unsupported(missing);
        }
        for exchange in &mut self.exchanges {
            exchange.doubtful = false;
        }
        self.assumed |= !self.pipelines;
        self.uncounted = None;
        self.needs_silence = false;
        self.explained = false;
        self.longest_wait = 0;
    }

    /// Responses were not seen, and the one that would have contradicted what is doubtful may be among them.
    pub(super) fn drop_unsupported(&mut self, missing: Missing) {
        if self.uncounted > Some(Gap::Before) || !missing.in_body {
            self.drop_doubtful();
        }
    }

    pub(super) fn drop_doubtful(&mut self) {
        for exchange in self.exchanges.iter_mut().filter(|one| one.doubtful) {
            exchange.doubtful = false;
            exchange.ending = Ending::Dropped(PAIRING);
        }
    }

    /// A response that no known request can have. It contradicts what is doubtful, unless a client that waits for its
    /// answers may have sent its request among bytes that were not seen.
    pub(super) fn orphan(&mut self, before: Option<Passed>) {
        self.current = Current::Orphan;
        let explained = before.is_some_and(|passed| {
            passed.gap == Gap::Possible && self.last_end.is_none_or(|end| passed.until >= end)
        });
        let doubtful = self.exchanges.iter().any(|one| one.doubtful);
        if explained {
            self.explained |= doubtful;
        } else if doubtful || self.assumed {
            self.contradict();
        }
    }

    /// What was held as doubtful was wrong: the client pipelines, and some requests are not known.
    pub(super) fn contradict(&mut self) {
        self.drop_doubtful();
        self.rounds = 0;
        self.sure_rounds = 0;
        self.assumed = false;
        self.needs_silence = true;
        self.broken += u64::from(self.uncounted.is_none());
        self.uncounted = Some(Gap::Cut);
    }

    pub(super) fn count_round(&mut self) {
        let (Some(first), Some(end)) = (self.exchanges.get(self.answered), self.last_end) else {
            return;
        };
        if first.began() >= end {
            self.rounds = self.rounds.saturating_add(1);
            let sure = u32::from(self.uncounted.is_none());
            self.sure_rounds = self.sure_rounds.saturating_add(sure);
        } else {
            self.rounds = 0;
            self.sure_rounds = 0;
            self.see_pipelining();
        }
    }

    /// The first exchange is taken for the one that a response at `time` answers, until there is evidence.
    pub(super) fn doubt(&mut self, time: KernelTime) {
        let alone = self.begun_until(time) == 1;
        let habit = if self.older { HABIT_OF_OLDER } else { HABIT };
        if alone && self.rounds >= habit && !self.needs_silence {
            self.settle_all();
            return;
        }
        let mut doubtful = self.exchanges.iter_mut().filter(|one| one.doubtful);
        if let Some(oldest) = doubtful.next()
            && doubtful.count() + 1 >= MAX_DOUBTFUL
        {
            oldest.doubtful = false;
            oldest.ending = Ending::Dropped(PAIRING);
        }
        if let Some(first) = self.exchanges.get_mut(self.answered) {
            first.doubtful = true;
            self.longest_wait = self.longest_wait.max(time.since(first.began()));
        }
    }
}
