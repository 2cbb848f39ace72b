//! Which spans of this node are one call. Requests that carry one `traceparent`: a proxy that passes it through unchanged makes a call for the request that it
//! serves, and whoever reads it next serves that call.
//!
//! The header names the same parent at all of these places. What tells them apart is who has the request open: a call is
//! the child of the one request with this header that its process serves, and a served request the child of the call at
//! the other end of its connection. Where more than one would do there is no link, and the header decides as elsewhere.

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use spandrel_model::{
    Caller, ConnectionId, Direction, Endpoint, KernelTime, Measured, Origin, ProcessKey, SpanId,
    TraceId,
};

use crate::protocol::{Facts, Output};
use crate::trace_context::{self, TraceParent};

/// Open requests with one header that are told apart. With more nothing is linked by it, until so few are left.
const MAX_SHARED: usize = 32;
/// Served requests that wait for the call to be reported that they may belong to. Of more, the oldest waits no longer.
const MAX_WAITING: usize = 1024;

/// Trace and parent as the header has them.
pub(crate) type Header = (TraceId, SpanId);

fn header(parent: &TraceParent) -> Header {
    (parent.trace_id, parent.parent_id)
}

/// An open request.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    connection: ConnectionId,
    position: u64,
    span: SpanId,
    process: ProcessKey,
    /// It is served here; else it is a call.
    served: bool,
    observed: bool,
    netns: u32,
    local: Endpoint,
    peer: Endpoint,
    /// When it was read, or when the call began.
    time: KernelTime,
    /// Of a call, the request that it is made for; of a served one, the call; and whose it is.
    link: Option<(SpanId, ProcessKey)>,
    /// No call is made for it, as far as can be told: its own process has sent the header before it read it.
    from_within: bool,
}

impl Carried {
    fn is(&self, connection: ConnectionId, position: u64) -> bool {
        self.connection == connection && self.position == position
    }

    /// Whether a call and a served request are the two ends of one exchange.
    fn meets(&self, served: &Self) -> bool {
        if self.served || !served.served {
            return false;
        }
        let position_differs = self.position != served.position;
        if self.observed && served.observed && position_differs {
            return false;
        }
        match (&self.local, &self.peer, &served.local, &served.peer) {
            (Endpoint::Socket(from), to, at, Endpoint::Socket(peer)) if from == peer => {
                // Each network namespace has its own loopback; behind a service the address called is not the server's.
                let everywhere = match from.ip() {
                    IpAddr::V4(ip) => !ip.is_loopback(),
                    IpAddr::V6(ip) => !ip.is_loopback(),
                };
                everywhere || self.netns != 0 && self.netns == served.netns && to == at
            }
            (_, Endpoint::Path(to), Endpoint::Path(at), _) => !to.is_empty() && to == at,
            _ => false,
        }
    }
}

/// The open requests with one header, in the order in which they were read.
#[derive(Debug, Default)]
struct Shared {
    known: Vec<Carried>,
    /// How many more there are.
    others: usize,
}

/// A served request that has ended, and whose call may be reported later than it.
#[derive(Debug)]
struct Waiting {
    due: KernelTime,
    awaited: Awaited,
    measured: Measured,
}

/// How a request that has ended is linked.
#[derive(Debug)]
pub(crate) enum Link {
    /// The header decides.
    None,
    /// This span of this process is its parent.
    Child(SpanId, ProcessKey),
    /// The call that it may belong to may not have been reported yet.
    Awaited(Box<Awaited>),
}

/// What it takes to know that call.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// One with this header.
    Call(Header, Carried),
    /// The one at the same place of this connection, the other end of its own, which is this span.
    Twin(ConnectionId, TraceId, SpanId),
}

/// All open requests that carry a `traceparent`: no more than there are open exchanges, which the tracker bounds.
#[derive(Debug, Default)]
pub(crate) struct Forwarding {
    open: HashMap<Header, Shared, FixedState>,
    /// Served requests, by process, whose `traceparent` may stand behind what was copied of their heads.
    cut: HashMap<ProcessKey, u32, FixedState>,
    waiting: VecDeque<Waiting>,
}

/// A request as its parser knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) requests: Direction,
    pub(crate) position: u64,
    pub(crate) process: ProcessKey,
    /// When it was read, or when the program began to send it.
    pub(crate) time: KernelTime,
    pub(crate) trace_parent: Option<&'a TraceParent>,
    /// Not all of its head was seen.
    pub(crate) cut: bool,
}

impl Request<'_> {
    fn is_served(&self) -> bool {
        self.requests == Direction::Ingress
    }
}

impl Forwarding {
    /// The head of a request was read.
    pub(crate) fn begin(&mut self, seed: u64, request: Request<'_>, output: &mut Output) {
        let served = request.is_served();
        let Some(parent) = request.trace_parent else {
            if served && request.cut {
                *self.cut.entry(request.process).or_default() += 1;
            }
            return;
        };
        let facts = request.facts;
        let mut fresh = Carried {
            connection: facts.id,
            position: request.position,
            span: trace_context::ids(seed, facts.id, request.position).1,
            process: request.process,
            served,
            observed: facts.origin == Origin::Observed,
            netns: facts.netns,
            local: facts.local.clone(),
            peer: facts.peer.clone(),
            time: request.time,
            link: None,
            from_within: false,
        };
        let header = header(parent);
        let shared = self.open.entry(header).or_default();
        if shared.known.len() >= MAX_SHARED {
            shared.others += 1;
            return;
        }
        if shared.others > 0 {
            fresh.from_within = true;
        } else if served {
            shared.serve(&mut fresh);
        } else {
            let hidden = self.cut.contains_key(&request.process);
            shared.call(&mut fresh, hidden);
            if fresh.link.is_some() {
                tell_waiting(&mut self.waiting, header, &fresh, output);
            }
        }
        shared.known.push(fresh);
    }

    /// A request has ended, or nothing more will be known of it.
    pub(crate) fn end(&mut self, request: Request<'_>) -> Link {
        let Some(parent) = request.trace_parent else {
            if request.is_served()
                && request.cut
                && let Some(count) = self.cut.get_mut(&request.process)
            {
                *count -= 1;
                if *count == 0 {
                    self.cut.remove(&request.process);
                }
            }
            return Link::None;
        };
        let header = header(parent);
        let Some(shared) = self.open.get_mut(&header) else {
            return Link::None;
        };
        let id = request.facts.id;
        let found = shared
            .known
            .iter()
            .position(|one| one.is(id, request.position));
        let link = match found {
            Some(index) => {
                let ended = shared.known.remove(index);
                let before = shared.known.get(..index).unwrap_or_default();
                let forwarded = before
                    .iter()
                    .any(|other| other.served && other.process != ended.process);
                match ended.link {
                    Some((span, process)) => Link::Child(span, process),
                    None if ended.served && forwarded && shared.others == 0 => {
                        Link::Awaited(Box::new(Awaited::Call(header, ended)))
                    }
                    None => Link::None,
                }
            }
            None => {
                shared.others = shared.others.saturating_sub(1);
                Link::None
            }
        };
        if shared.known.is_empty() && shared.others == 0 {
            self.open.remove(&header);
        }
        link
    }

    /// Keeps a span until `due`, unless its call is reported before.
    pub(crate) fn wait(
        &mut self,
        awaited: Awaited,
        due: KernelTime,
        measured: Measured,
        output: &mut Output,
    ) {
        if self.waiting.len() >= MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            output.measured.push(oldest.measured);
        }
        self.waiting.push_back(Waiting {
            due,
            awaited,
            measured,
        });
    }

    /// The first message of this connection was reported.
    pub(crate) fn heard(
        &mut self,
        connection: ConnectionId,
        process: ProcessKey,
        output: &mut Output,
    ) {
        if self.waiting.is_empty() {
            return;
        }
        for mut one in std::mem::take(&mut self.waiting) {
            match one.awaited {
                Awaited::Twin(waiting, trace, span) if waiting == connection => {
                    set_parent(&mut one.measured, trace, span, process);
                    output.measured.push(one.measured);
                }
                _ => self.waiting.push_back(one),
            }
        }
    }

    /// Everything until `now` has been reported.
    pub(crate) fn tick(&mut self, now: KernelTime, output: &mut Output) {
        while self.waiting.front().is_some_and(|first| first.due <= now) {
            let first = self.waiting.pop_front();
            output.measured.extend(first.map(|first| first.measured));
        }
    }

    /// Nothing more will be reported.
    pub(crate) fn finish(&mut self, output: &mut Output) {
        let rest = self.waiting.drain(..);
        output.measured.extend(rest.map(|one| one.measured));
    }
}

fn set_parent(measured: &mut Measured, trace: TraceId, parent: SpanId, process: ProcessKey) {
    let span = &mut measured.span;
    measured.caller = Some(Caller {
        process,
        trace_id: span.trace_id,
        parent_span_id: span.parent_span_id,
    });
    span.trace_id = trace;
    span.parent_span_id = Some(parent);
    span.parent_is_remote = true;
}

/// A call was reported after what was read of it.
fn tell_waiting(
    waiting: &mut VecDeque<Waiting>,
    header: Header,
    call: &Carried,
    output: &mut Output,
) {
    let fits = |index: &usize| {
        let one = waiting.get(*index);
        one.is_some_and(|one| {
            matches!(&one.awaited, Awaited::Call(other, served) if *other == header && call.meets(served))
        })
    };
    let Some(index) = only(0..waiting.len(), fits) else {
        return;
    };
    if let Some(mut one) = waiting.remove(index) {
        set_parent(&mut one.measured, header.0, call.span, call.process);
        output.measured.push(one.measured);
    }
}

impl Shared {
    /// Links a request that is served from now on.
    fn serve(&self, served: &mut Carried) {
        let call = only(self.known.iter(), |one| one.meets(served));
        served.link = call.and_then(|call| call.link.map(|_| (call.span, call.process)));
        served.from_within = self
            .known
            .iter()
            .any(|one| !one.served && one.process == served.process && one.link.is_none());
    }

    /// Links a call that is made from now on; `hidden` if it may be made for a request whose header was not seen.
    fn call(&mut self, call: &mut Carried, hidden: bool) {
        let may_cause =
            |one: &&Carried| one.served && one.process == call.process && one.time <= call.time;
        let cause = only(self.known.iter(), may_cause).filter(|one| !one.from_within && !hidden);
        call.link = cause.map(|one| (one.span, one.process));
        if call.link.is_none() {
            return;
        }
        // What was read of it may be reported before.
        let meets = |index: &usize| {
            let one = self.known.get(*index);
            one.is_some_and(|one| call.meets(one))
        };
        if let Some(index) = only(0..self.known.len(), meets)
            && let Some(served) = self.known.get_mut(index)
        {
            served.link.get_or_insert((call.span, call.process));
        }
    }
}

/// The one that fits, if only one does.
fn only<T>(all: impl Iterator<Item = T>, fits: impl Fn(&T) -> bool) -> Option<T> {
    let mut fitting = all.filter(fits);
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}
