//! What a protocol has to bring: detection, and a parser that turns ordered bytes into exchanges.

use std::sync::Arc;

use spandrel_model::{
    CapturePolicy, ClockOffset, ConnectionId, Direction, Endpoint, KernelTime, Ledger, Measured,
    Origin, ProcessKey, Role, Text, Transport,
};

use crate::Settings;
use crate::forwarding::Forwarding;
use crate::http1::{KnownHeads, MetricAttributes};
use crate::route::Routes;
use crate::stream::Item;

/// Which side of an exchange some bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// They begin a request.
    Request,
    /// They begin a response.
    Response,
}

/// Opinion of a protocol on the first bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detection {
    /// Not this protocol.
    No,
    /// Too few bytes to tell.
    More,
    /// It may be.
    Found {
        /// 1 to 100: the highest of all protocols is tried first.
        score: u8,
        /// What the bytes begin.
        sign: Sign,
    },
}

impl Detection {
    pub(crate) fn found(score: u8, sign: Sign) -> Self {
        Self::Found { score, sign }
    }
}

/// How the heads of a text protocol look to who copies bytes and does not parse them: lines up to an empty one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heads {
    /// The first four bytes of each head.
    pub signs: &'static [[u8; 4]],
    /// Name of the line with the length of what follows the head, with its colon.
    pub length_label: &'static str,
}

/// A protocol. One static per folder, one line in the registry.
pub(crate) trait Protocol: Sync {
    /// Name of the folder and of `testdata/<name>`.
    fn name(&self) -> &'static str;

    /// How its heads look; nothing where it has none.
    fn heads(&self) -> Heads {
        Heads::default()
    }

    /// Looks at the first captured bytes of a message.
    fn detect(&self, bytes: &[u8]) -> Detection;

    /// Begins to parse a connection whose requests go in this direction.
    fn open(&self, facts: &Facts, requests: Direction) -> Box<dyn Parser>;
}

/// Whether a parser was right about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not known yet.
    Open,
    /// It has parsed an exchange.
    Confirmed,
    /// The bytes do not parse: another protocol may try.
    Refuted,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Close {
    pub(crate) time: KernelTime,
    pub(crate) reset: bool,
    /// Bytes that passed but were not reported.
    pub(crate) missing_ingress: u64,
    pub(crate) missing_egress: u64,
}

impl Close {
    pub(crate) fn missing(&self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.missing_ingress > 0,
            Direction::Egress => self.missing_egress > 0,
        }
    }
}

/// State of one connection in one protocol. The result depends on the order of bytes in each
/// direction and on times, not on which direction was reported first.
pub(crate) trait Parser: Send {
    /// The next bytes of a direction, or how many of them were lost.
    fn item(&mut self, cx: &mut Context<'_>, direction: Direction, item: Item);

    /// A direction has ended; bytes already sent may still be read.
    fn half_closed(&mut self, cx: &mut Context<'_>, direction: Direction, time: KernelTime);

    /// No more bytes come.
    fn closed(&mut self, cx: &mut Context<'_>, close: Close);

    /// Everything that was to arrive before `now` less the settle time has arrived.
    fn settle(&mut self, cx: &mut Context<'_>, now: KernelTime);

    /// Whether [`Self::settle`] has something to do.
    fn wants_settle(&self) -> bool;

    /// Gives up heads that began before this time and are still not whole, and counts them under `reason`.
    fn give_up_heads(&mut self, _cx: &mut Context<'_>, _before: KernelTime, _reason: &'static str) {
    }

    /// No more events come. Exchanges that are not complete are counted under `reason`.
    fn abandon(&mut self, cx: &mut Context<'_>, reason: &'static str);

    /// Bytes held.
    fn cost(&self) -> usize;

    /// Whether the bytes were of this protocol.
    fn verdict(&self) -> Verdict;
}

/// What is known of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: ConnectionId,
    pub(crate) origin: Origin,
    pub(crate) transport: Transport,
    pub(crate) role: Option<Role>,
    pub(crate) local: Endpoint,
    pub(crate) peer: Endpoint,
    /// Network namespace, 0 if unknown.
    pub(crate) netns: u32,
    /// The peer's address as text, made once.
    pub(crate) peer_text: Option<Text>,
    /// This end's IP address as text, made once.
    pub(crate) local_ip: Option<Text>,
    /// Nanoseconds from SYN to established.
    pub(crate) connect_nanos: Option<u64>,
    /// The other end of a loopback connection, where both are seen from their first byte.
    pub(crate) twin: Option<ConnectionId>,
    /// Whose messages were reported from there: its spans are told. What selectors leave out is only seen to open.
    pub(crate) twin_heard: Option<ProcessKey>,
    /// Its opening was reported.
    pub(crate) announced: bool,
    /// The kernel side was told to report nothing more of it.
    pub(crate) ignored: bool,
    /// What to tell the kernel side once the opening is reported: it would take the place of the request for that.
    pub(crate) withheld: Option<CapturePolicy>,
}

impl Facts {
    /// Tells the kernel side what to copy.
    pub(crate) fn tell(&mut self, policy: CapturePolicy, output: &mut Output) {
        self.ignored |= policy == CapturePolicy::Ignore;
        if self.announced || self.ignored {
            output.policies.push((self.id, policy));
        } else {
            self.withheld = Some(policy);
        }
    }
}

/// What parsers share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) id_seed: u64,
    pub(crate) offset: ClockOffset,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) routes: Routes,
    /// Open requests that carry a `traceparent`.
    pub(crate) forwarding: Forwarding,
    /// Heads of HTTP/1 that were read before.
    pub(crate) known_heads: KnownHeads,
    /// Attributes of series that were made before.
    pub(crate) metric_attributes: MetricAttributes,
    /// Memory for texts that are put together.
    pub(crate) scratch: String,
    /// Messages of a body that came after its likely end had been taken for the end.
    pub(crate) late_body_messages: u64,
}

/// What the tracker says; the caller drains it.
#[derive(Debug, Default)]
pub struct Output {
    /// Completed exchanges.
    pub measured: Vec<Measured>,
    /// What to copy of a connection from now on.
    pub policies: Vec<(ConnectionId, CapturePolicy)>,
}

/// What a parser may use while it works.
pub(crate) struct Context<'a> {
    pub(crate) facts: &'a mut Facts,
    pub(crate) shared: &'a mut Shared,
    pub(crate) output: &'a mut Output,
}

impl Context<'_> {
    pub(crate) fn policy(&mut self, policy: CapturePolicy) {
        self.facts.tell(policy, self.output);
    }
}
