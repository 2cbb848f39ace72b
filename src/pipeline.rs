//! From events to measured exchanges with their resource: one thread, no waiting, no clock.
//!
//! Live and replay run the same code. The only difference is where time comes from: live, the caller ticks with
//! the kernel's clock; in a replay [`Pipeline::replay`] ticks with the events' own stamps.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use spandrel_container_runtime::Names;
use spandrel_model::{
    CapturePolicy, ClockOffset, ConnectionId, Event, KernelTime, Ledger, Measured, ProcessKey,
    Resource, UnixTime,
};
use spandrel_probes::{Asked, GoroutineLayout, Group};
use spandrel_protocols::{Output, Tracker};

use crate::identity::{Identities, News, Whose};
use crate::kubernetes::peers::PeerOf;
use crate::kubernetes::{Held, Hold, Kubernetes};
use crate::recorder::Recorder;
use crate::selection::{Selection, Told};
use crate::sink::Sink;

/// How often a replay ticks, in nanoseconds of recorded time.
const REPLAY_TICK: u64 = 50_000_000;

/// How long, and how many bytes of it, what a process has done waits for the process to be read.
const READ_HOLD: Duration = Duration::from_secs(1);
const READ_HOLD_BYTES: usize = 16 << 20;

/// What user space tells the kernel side.
pub trait Steering: Send {
    /// Captures a process from now on, or not.
    fn process(&mut self, process: ProcessKey, allow: bool);
    /// Says where a process keeps its goroutines' numbers, if it has any.
    fn goroutines(&mut self, process: ProcessKey, layout: Option<GoroutineLayout>);
    /// Sets how much of a connection is copied.
    fn connection(&mut self, connection: ConnectionId, policy: CapturePolicy);
    /// Says that a connection has ended.
    fn closed(&mut self, connection: ConnectionId);
}

/// Tells nobody: for replays.
pub struct NoSteering;

impl Steering for NoSteering {
    fn process(&mut self, _process: ProcessKey, _allow: bool) {}
    fn goroutines(&mut self, _process: ProcessKey, _layout: Option<GoroutineLayout>) {}
    fn connection(&mut self, _connection: ConnectionId, _policy: CapturePolicy) {}
    fn closed(&mut self, _connection: ConnectionId) {}
}

/// The stages between the events and a [`Sink`].
pub struct Pipeline {
    tracker: Tracker,
    identities: Identities,
    selection: Selection,
    sink: Box<dyn Sink>,
    steering: Box<dyn Steering>,
    recorder: Option<Recorder>,
    ledger: Arc<Ledger>,
    output: Output,
    offset: ClockOffset,
    latest: KernelTime,
    failure: Option<io::Error>,
    /// Why the recording stopped, which stops nothing else.
    unrecorded: Option<io::Error>,
    hold: Option<Hold>,
    /// What processes have done that are not read yet.
    unread: Hold,
    /// There were news since what waits for them was looked at last.
    heard: bool,
    /// The pods by which all processes were looked at last.
    pods: (u64, u64),
}

impl Pipeline {
    /// A pipeline from its stages.
    pub fn new(
        tracker: Tracker,
        identities: Identities,
        selection: Selection,
        sink: Box<dyn Sink>,
        steering: Box<dyn Steering>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            tracker,
            identities,
            selection,
            sink,
            steering,
            recorder: None,
            ledger,
            output: Output::default(),
            offset: ClockOffset::default(),
            latest: KernelTime::default(),
            failure: None,
            unrecorded: None,
            hold: None,
            unread: Hold::new(READ_HOLD, READ_HOLD_BYTES),
            heard: false,
            pods: (0, 0),
        }
    }

    /// Asks Kubernetes whose exchanges are; what it has not told of yet waits in `hold`.
    pub fn with_pods(&mut self, kubernetes: Kubernetes, hold: Hold) {
        self.identities.with_pods(kubernetes);
        self.hold = Some(hold);
    }

    /// Asks container runtimes what containers are called; what they have not told of yet waits in `hold`, or with what waits
    /// for its pod.
    pub fn with_containers(&mut self, names: Names, hold: Hold) {
        self.identities.with_containers(names);
        self.hold.get_or_insert(hold);
    }

    /// Also writes every event into a recording.
    pub fn record_to(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// One event.
    pub fn handle(&mut self, event: &Event) {
        if self.admit(event) {
            self.tracker.handle(event, &mut self.output);
            self.deliver();
        }
    }

    /// One event, whose bytes are taken out of it: nobody else needs them.
    pub fn take(&mut self, event: &mut Event) {
        if self.admit(event) {
            self.tracker.take(event, &mut self.output);
            self.deliver();
        }
    }

    /// Everything that comes before the protocols; `false` if the event ends there.
    fn admit(&mut self, event: &Event) -> bool {
        self.latest = self.latest.max(event.stamp().time);
        match event {
            Event::ClockSynced { offset, .. } => self.offset = *offset,
            Event::ProcessStarted(started) => {
                self.identities.started(started);
                self.selection.forget(started.process);
                self.decide(started.process, started.cgroup, None);
            }
            Event::ProcessExited(exited) => {
                self.identities.exited(exited);
                self.selection.forget(exited.process);
            }
            Event::ConnectionOpened(opened) => self.selection.opened(opened),
            Event::ConnectionClosed(closed) => {
                self.selection.closed(closed.connection);
                self.steering.closed(closed.connection);
            }
            Event::Message(message) => {
                let connection = Some(message.connection);
                if let Some(reason) = self.decide(message.process, message.cgroup, connection) {
                    self.ledger.messages.drop_for(reason, 1);
                    return false;
                }
            }
            Event::ConnectionHalfClosed(_) => {}
        }
        let offset = self.offset;
        self.record(|recorder| recorder.event(event, offset));
        true
    }

    /// Why the process is not captured here, if it is not; tells the kernel side what is decided for the first time.
    fn decide(
        &mut self,
        process: ProcessKey,
        cgroup: u64,
        connection: Option<ConnectionId>,
    ) -> Option<&'static str> {
        let at = self.unix_now();
        let answer = self
            .selection
            .decide(process, cgroup, connection, &mut self.identities, at);
        if let Some(allow) = answer.tell_kernel {
            self.tell_kernel(process, allow);
        }
        answer.left_out
    }

    /// The kernel side asks about a process, ahead of its events.
    pub fn asked(&mut self, asked: &Asked) {
        // It may have forgotten what it was told.
        let heard = self.selection.heard(asked.process);
        match heard.filter(|_| !asked.executed && !self.identities.is_ahead(asked.process)) {
            Some(allow) => self.tell_kernel(asked.process, allow),
            None => self.identities.ask_ahead(asked),
        }
    }

    /// The kernel side tells where a control group is, ahead of the events that name it.
    pub fn name_group(&mut self, group: &Group) {
        if self.identities.name_group(group) {
            self.heard = true;
        }
    }

    /// What was read meanwhile decides at once: the kernel side must not wait behind the events that wait here.
    pub fn hear(&mut self) {
        if self.identities.take_in_reads() == Some(true) {
            self.take_in_news();
            self.heard = true;
        }
    }

    fn tell_kernel(&mut self, process: ProcessKey, allow: bool) {
        self.steering.process(process, allow);
        if allow {
            let layout = self.identities.goroutines(process);
            self.steering.goroutines(process, layout);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: KernelTime) {
        self.latest = self.latest.max(now);
        self.tracker.tick(now, &mut self.output);
        self.deliver();
        self.look_again(now);
        let unix = self.offset.to_unix(now);
        let result = self.sink.tick(now, unix);
        self.keep(result);
    }

    /// No event will come any more.
    pub fn finish(&mut self) -> io::Result<()> {
        self.tracker.finish(&mut self.output);
        self.deliver();
        if !self.unread.is_empty() {
            self.identities.await_reads(READ_HOLD);
        }
        for held in self.take_held() {
            self.place(held.since, held.measured, true);
        }
        self.tell_waiting();
        self.finish_sink()
    }

    /// Writes and sends what the sink has, and ends the recording, without another look at anything else.
    pub fn finish_sink(&mut self) -> io::Result<()> {
        let unix = self.unix_now();
        let result = self.sink.finish(unix);
        self.keep(result);
        if let Some(recorder) = &mut self.recorder {
            let result = recorder.finish();
            self.keep(result);
        }
        let unrecorded = self.unrecorded.take();
        self.failure.take().or(unrecorded).map_or(Ok(()), Err)
    }

    /// Runs a whole recording, in the time of its events.
    pub fn replay(&mut self, offset: ClockOffset, events: &[Event]) -> io::Result<()> {
        // Until an event says otherwise the header's offset counts, for spans as well as for points.
        let synced = Event::ClockSynced {
            stamp: events.first().map(Event::stamp).unwrap_or_default(),
            offset,
        };
        self.offset = offset;
        self.tracker.handle(&synced, &mut self.output);
        let mut ticked = events
            .first()
            .map_or(KernelTime(0), |event| event.stamp().time);
        for event in events {
            let now = event.stamp().time;
            if now.since(ticked) >= REPLAY_TICK {
                ticked = now;
                self.tick(now);
            }
            if matches!(event, Event::Message(_)) {
                self.ledger.messages.see(1);
            }
            self.handle(event);
            if self.has_failed() {
                break;
            }
        }
        self.finish()
    }

    /// Whether output has failed: there is no sense in going on.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    fn unix_now(&self) -> UnixTime {
        self.offset.to_unix(self.latest)
    }

    fn deliver(&mut self) {
        for (connection, policy) in self.output.policies.drain(..) {
            self.steering.connection(connection, policy);
        }
        let mut measured = std::mem::take(&mut self.output.measured);
        for one in measured.drain(..) {
            self.place(self.latest, one, false);
        }
        self.output.measured = measured;
    }

    /// Finds out whose an exchange is, and who was at its other end, and hands it on, or lets it wait for news of its pod or
    /// its peer; with `last` it waits no longer.
    fn place(&mut self, since: KernelTime, mut one: Measured, last: bool) {
        let (process, at) = (one.span.process, one.span.end);
        let told = self.selection.told(&one, &mut self.identities);
        let left_out = match told {
            Told::Yes => None,
            Told::No(reason) => Some(reason),
            Told::NotYet if last && self.identities.is_unread(process) => {
                Some("selection.process_unread")
            }
            Told::NotYet if last => Some("selection.pod_unknown"),
            Told::NotYet => return self.wait(since, one),
        };
        if let Some(reason) = left_out {
            return self.leave_out(reason, &one);
        }
        if let Some(caller) = one.caller {
            let told = self
                .selection
                .tells(caller.process, &one, &mut self.identities);
            let unread = self.identities.is_unread(caller.process);
            match (told, &mut self.hold) {
                (Told::Yes, _) => {}
                (Told::NotYet, _) if unread && !last => return self.unread.push(since, one),
                (Told::NotYet, Some(hold)) if !last => return hold.push(since, one),
                // Nobody would find the span that it names.
                (Told::No(_) | Told::NotYet, _) => one.leave_caller_out(),
            }
        }
        let pods = self.identities.pods();
        let peer = match pods.and_then(|pods| pods.peer_of(&one.span, last)) {
            Some(PeerOf::NotYet) => return self.wait(since, one),
            Some(PeerOf::Settled(peer)) => Some(peer),
            None => None,
        };
        match self.identities.whose(process, one.span.cgroup, at, last) {
            Whose::Known(resource) => {
                if let (Some(peer), Some(pods)) = (peer, self.identities.pods()) {
                    pods.attach_peer(peer, &resource, &mut one);
                }
                self.record_identity(&one, &resource);
                let result = self.sink.accept(&resource, one);
                self.keep(result);
            }
            Whose::NotYet => self.wait(since, one),
        }
    }

    /// Its messages are in the recording all the same, so that it is to be known there whose they are.
    fn leave_out(&mut self, reason: &'static str, one: &Measured) {
        let span = &one.span;
        if self.recorder.is_some()
            && let Some(resource) =
                self.identities
                    .whose_left_out(span.process, span.cgroup, span.end)
        {
            self.record_identity(one, &resource);
        }
        self.ledger.spans.see(1);
        self.ledger.spans.drop_for(reason, 1);
    }

    fn record_identity(&mut self, one: &Measured, resource: &Resource) {
        let (process, at) = (one.span.process, one.span.end);
        if let Some(mut recorder) = self.recorder.take() {
            let pod = || self.identities.pod_of(process, at);
            let result = recorder.identity(process, at, resource, pod);
            self.recorder = Some(recorder);
            self.record(|_| result);
        }
    }

    fn wait(&mut self, since: KernelTime, one: Measured) {
        if self.identities.is_unread(one.span.process) {
            return self.unread.push(since, one);
        }
        match &mut self.hold {
            Some(hold) => hold.push(since, one),
            None => self.leave_out("selection.pod_unknown", &one),
        }
    }

    /// Those that wait are looked at again when something new is known, and handed on when their time is over.
    fn look_again(&mut self, now: KernelTime) {
        let unix = self.offset.to_unix(now);
        let Some(news) = self.identities.take_in(unix) else {
            return;
        };
        let news = std::mem::take(&mut self.heard) || news;
        self.take_in_news();
        let due = self.identities.is_search_due();
        let pods = self.identities.pods_version();
        if std::mem::replace(&mut self.pods, pods) != pods || due {
            for (process, allow) in self.selection.look_again(&mut self.identities, unix) {
                self.tell_kernel(process, allow);
            }
        }
        if news || due {
            for held in self.take_held() {
                self.place(held.since, held.measured, false);
            }
        }
        while let Some(held) = self.overdue(now) {
            self.place(held.since, held.measured, true);
        }
        self.tell_waiting();
    }

    fn take_held(&mut self) -> VecDeque<Held> {
        let mut held = self.unread.take_all();
        held.extend(self.hold.as_mut().map(Hold::take_all).unwrap_or_default());
        held
    }

    fn overdue(&mut self, now: KernelTime) -> Option<Held> {
        let unread = self.unread.overdue(now);
        unread.or_else(|| self.hold.as_mut().and_then(|hold| hold.overdue(now)))
    }

    /// What was read of processes decides about them.
    fn take_in_news(&mut self) {
        for read in self.identities.news() {
            match read {
                News::Read(process) => {
                    let at = self.unix_now();
                    let read = self.selection.read(process, &mut self.identities, at);
                    if let Some(allow) = read {
                        self.tell_kernel(process, allow);
                    }
                }
                News::Goroutines(process, layout) => {
                    if self.selection.is_captured(process) {
                        self.steering.goroutines(process, Some(layout));
                    }
                }
                News::Ahead(process) => self.decide_ahead(process),
            }
        }
    }

    fn decide_ahead(&mut self, process: ProcessKey) {
        if let Some((candidate, layout)) = self.identities.decide_ahead(process)
            && let Some(allow) = self.selection.foresee(candidate)
        {
            self.steering.process(process, allow);
            if allow {
                self.steering.goroutines(process, layout);
            }
        }
    }

    fn tell_waiting(&mut self) {
        let waiting = self.hold.as_ref().map_or(0, Hold::len);
        if let Some(pods) = self.identities.pods() {
            pods.outcomes().holds(waiting);
        }
    }

    fn record(&mut self, write: impl FnOnce(&mut Recorder) -> io::Result<()>) {
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = write(recorder)
        {
            tracing::error!("{error}: it stops here");
            self.recorder = None;
            self.unrecorded = Some(error);
        }
    }

    fn keep(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failure.get_or_insert(error);
        }
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
