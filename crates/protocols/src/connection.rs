//! One connection: its two streams, which protocol it speaks, and how it ends.

use spandrel_model::{
    CapturePolicy, ConnectionClosed, ConnectionId, ConnectionOpened, Direction, Endpoint,
    KernelTime, Message, Origin, ProcessKey, Role, Text, Transport,
};

use crate::protocol::{
    Close, Context, Detection, Facts, Output, Parser, Protocol, Shared, Sign, Verdict,
};
use crate::socks::{Handshake, Step};
use crate::stream::{Accepted, Captured, Chunk, Item, Stream};

/// Bytes of each direction that detection looks at.
const DETECT_BYTES: usize = 1024;
/// Bytes kept for the next candidate until the first one has proved right.
const MAX_RETAINED: usize = 32 * 1024;
/// Messages that may fit nothing before a connection is ignored: seen from its first byte, or not.
const MAX_FOREIGN: u32 = 4;
const MAX_FOREIGN_MIDSTREAM: u32 = 64;

enum Phase {
    /// Not known yet.
    Detecting { foreign: u32 },
    /// A SOCKS handshake may be in front.
    Fronted(Box<Handshake>),
    /// A candidate is at work.
    Parsing(Box<dyn Parser>),
    /// Not ours.
    Ignored,
}

/// State of one connection.
pub(crate) struct Connection {
    pub(crate) facts: Facts,
    pub(crate) last_event: KernelTime,
    /// Bytes held, as the tracker has counted them.
    pub(crate) accounted: usize,
    /// Somebody will call [`Self::settle`].
    pub(crate) scheduled: bool,
    /// Whose messages were reported first.
    pub(crate) heard: Option<ProcessKey>,
    /// The key under which its other end may find it.
    pub(crate) ends: Option<crate::tracker::Ends>,
    ingress: Stream,
    egress: Stream,
    phase: Phase,
    /// Its first bytes were looked at for a layer in front.
    looked_at: bool,
    tried: Vec<&'static str>,
    retained: Vec<(Direction, Item)>,
    retained_cost: usize,
    closing: Option<ConnectionClosed>,
}

fn peer_text(peer: &Endpoint) -> Option<Text> {
    match peer {
        Endpoint::Socket(address) => Some(address.ip().to_string().into()),
        Endpoint::Path(path) if !path.is_empty() => Some(Text::copied(path)),
        _ => None,
    }
}

impl Connection {
    /// A connection whose opening was reported.
    pub(crate) fn opened(event: &ConnectionOpened) -> Self {
        let mut connection = Self::unknown(event.connection, event.stamp.time);
        // All that passed before its first message is lost.
        if event.origin == Origin::Observed {
            connection.ingress.expect(0);
            connection.egress.expect(0);
        }
        connection.facts.origin = event.origin;
        connection.learn(event);
        connection
    }

    /// A connection whose opening was not reported: nothing is known but its id.
    pub(crate) fn unknown(id: ConnectionId, now: KernelTime) -> Self {
        Self {
            facts: Facts {
                id,
                origin: Origin::PreExisting,
                transport: Transport::Tcp,
                role: None,
                local: Endpoint::Unknown,
                peer: Endpoint::Unknown,
                netns: 0,
                peer_text: None,
                local_ip: None,
                connect_nanos: None,
                twin: None,
                twin_heard: None,
                announced: false,
                ignored: false,
                withheld: None,
            },
            last_event: now,
            accounted: 0,
            scheduled: false,
            heard: None,
            ends: None,
            ingress: Stream::default(),
            egress: Stream::default(),
            phase: Phase::Detecting { foreign: 0 },
            looked_at: false,
            tried: Vec::new(),
            retained: Vec::new(),
            retained_cost: 0,
            closing: None,
        }
    }

    /// Takes over what its opening tells, also where that is reported after the first messages.
    pub(crate) fn learn(&mut self, event: &ConnectionOpened) {
        self.facts.announced = true;
        // Of another one, what passed after it was announced.
        if let Some(passed) = event.passed {
            self.ingress.expect(passed.ingress);
            self.egress.expect(passed.egress);
        }
        self.facts.transport = event.transport;
        self.facts.role = event.role;
        self.facts.local = event.local.clone();
        self.facts.peer = event.peer.clone();
        self.facts.netns = event.netns;
        self.facts.peer_text = peer_text(&event.peer);
        self.facts.local_ip = event.local.ip().map(|ip| ip.to_string().into());
        self.facts.connect_nanos = event
            .connect_started
            .map(|started| event.stamp.time.since(started));
    }

    /// Bytes held.
    pub(crate) fn cost(&self) -> usize {
        let parser = match &self.phase {
            Phase::Parsing(parser) => parser.cost(),
            Phase::Fronted(handshake) => handshake.cost(),
            Phase::Detecting { .. } | Phase::Ignored => 0,
        };
        self.ingress.cost() + self.egress.cost() + self.retained_cost + parser
    }

    pub(crate) fn is_ignored(&self) -> bool {
        matches!(self.phase, Phase::Ignored)
    }

    fn stream(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Takes a message; `false` if all of it was known.
    pub(crate) fn message(
        &mut self,
        message: &Message,
        captured: Captured,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) -> bool {
        let direction = message.direction;
        match self.stream(direction).accept(Chunk::new(message, captured)) {
            Accepted::Duplicate => return message.length == 0,
            Accepted::Held => {}
            Accepted::Ready(chunk) => {
                self.item(direction, Item::Chunk(chunk), protocols, shared, output);
            }
        }
        self.drain(direction, protocols, shared, output);
        true
    }

    fn drain(
        &mut self,
        direction: Direction,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        while let Some(item) = self.stream(direction).next_ready() {
            self.item(direction, item, protocols, shared, output);
        }
    }

    fn item(
        &mut self,
        direction: Direction,
        item: Item,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        self.begin_front(direction, &item);
        match &mut self.phase {
            Phase::Ignored => {}
            Phase::Fronted(handshake) => {
                if let Step::Next(items) = handshake.take(direction, item) {
                    self.phase = Phase::Detecting { foreign: 0 };
                    for (direction, item) in items {
                        self.item(direction, item, protocols, shared, output);
                    }
                }
            }
            Phase::Detecting { .. } => {
                let says_nothing = matches!(item, Item::Lost(_));
                self.retained_cost += item.cost();
                self.retained.push((direction, item));
                // The parser will want to know, and no language can be told by it.
                if !says_nothing || self.retained_cost > MAX_RETAINED {
                    self.detect(protocols, shared, output);
                }
            }
            Phase::Parsing(parser) => {
                if !self.retained.is_empty() {
                    self.retained_cost += item.cost();
                    self.retained.push((direction, item.clone()));
                    // A part is of no use to the next candidate.
                    if self.retained_cost > MAX_RETAINED {
                        self.retained = Vec::new();
                        self.retained_cost = 0;
                    }
                }
                let mut cx = Context {
                    facts: &mut self.facts,
                    shared,
                    output,
                };
                parser.item(&mut cx, direction, item);
                self.judge(protocols, shared, output);
            }
        }
    }

    /// Looks for a SOCKS handshake in the first bytes of a connection.
    fn begin_front(&mut self, direction: Direction, item: &Item) {
        if self.looked_at {
            return;
        }
        self.looked_at = true;
        if let (Origin::Observed, Some(role), Item::Chunk(first)) =
            (self.facts.origin, self.facts.role, item)
            && let Some(handshake) = Handshake::begin(role, direction, first.head())
        {
            self.phase = Phase::Fronted(Box::new(handshake));
        }
    }

    /// Keeps, confirms or replaces the candidate.
    fn judge(
        &mut self,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        let Phase::Parsing(parser) = &mut self.phase else {
            return;
        };
        match parser.verdict() {
            Verdict::Open => {}
            Verdict::Confirmed => {
                if !self.retained.is_empty() {
                    self.retained = Vec::new();
                    self.retained_cost = 0;
                }
            }
            Verdict::Refuted => {
                let mut cx = Context {
                    facts: &mut self.facts,
                    shared,
                    output,
                };
                parser.abandon(&mut cx, "exchange.parse_failed");
                self.phase = Phase::Detecting { foreign: 0 };
                if self.retained.is_empty() {
                    // It had been right before: there is no second opinion on what is gone.
                    self.ignore(output);
                } else {
                    self.detect(protocols, shared, output);
                }
            }
        }
    }

    fn ignore(&mut self, output: &mut Output) {
        self.phase = Phase::Ignored;
        self.retained = Vec::new();
        self.retained_cost = 0;
        self.facts.tell(CapturePolicy::Ignore, output);
    }

    /// Asks all protocols that have not been tried about what has been retained.
    fn detect(
        &mut self,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        let mut best: Option<(u8, &'static dyn Protocol, Direction)> = None;
        let mut undecided = false;
        for protocol in protocols {
            if self.tried.contains(&protocol.name()) {
                continue;
            }
            for (direction, detection) in self.opinions(*protocol) {
                match detection {
                    Detection::No => {}
                    Detection::More => undecided = true,
                    Detection::Found { score, sign } => {
                        let requests = match sign {
                            Sign::Request => direction,
                            Sign::Response => direction.reverse(),
                        };
                        if best.is_none_or(|(other, ..)| score > other) {
                            best = Some((score, *protocol, requests));
                        }
                    }
                }
            }
        }
        if let Some((_, protocol, requests)) = best {
            self.tried.push(protocol.name());
            self.phase = Phase::Parsing(protocol.open(&self.facts, requests));
            self.feed_retained(protocols, shared, output);
            return;
        }
        let observed = self.facts.origin == Origin::Observed;
        let limit = match observed {
            true => MAX_FOREIGN,
            false => MAX_FOREIGN_MIDSTREAM,
        };
        let none_left = protocols.iter().all(|p| self.tried.contains(&p.name()));
        let full = self.retained_cost > MAX_RETAINED;
        if let Phase::Detecting { foreign } = &mut self.phase
            && !undecided
        {
            *foreign += 1;
            if *foreign >= limit || none_left {
                self.ignore(output);
                return;
            }
        }
        if full && observed {
            self.ignore(output);
        } else if full || !observed && !undecided {
            // In the middle of something: only what begins here and later can be a head.
            self.retained.clear();
            self.retained_cost = 0;
        }
    }

    /// What a protocol thinks of the beginning of each direction and of the last message.
    fn opinions(&self, protocol: &dyn Protocol) -> Vec<(Direction, Detection)> {
        let mut opinions = Vec::with_capacity(3);
        for direction in [Direction::Ingress, Direction::Egress] {
            let mut chunks = self
                .retained
                .iter()
                .filter(|(other, _)| *other == direction)
                .skip_while(|(_, item)| matches!(item, Item::Lost(_)));
            let Some((_, Item::Chunk(first))) = chunks.next() else {
                continue;
            };
            let mut opinion = protocol.detect(first.head());
            if opinion == Detection::More {
                // Split so finely that one message does not tell.
                let mut bytes = first.head().to_vec();
                for (_, item) in chunks {
                    let Item::Chunk(chunk) = item else { break };
                    if bytes.len() > DETECT_BYTES {
                        break;
                    }
                    bytes.extend_from_slice(chunk.head());
                }
                opinion = match protocol.detect(&bytes) {
                    Detection::More if bytes.len() > DETECT_BYTES => Detection::No,
                    opinion => opinion,
                };
            }
            opinions.push((direction, opinion));
        }
        if let Some((direction, Item::Chunk(last))) = self.retained.last() {
            match protocol.detect(last.head()) {
                // Too short a piece to be a reason to wait.
                Detection::More => {}
                opinion => opinions.push((*direction, opinion)),
            }
        }
        opinions
    }

    fn feed_retained(
        &mut self,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        let Phase::Parsing(parser) = &mut self.phase else {
            return;
        };
        for (direction, item) in &self.retained {
            let mut cx = Context {
                facts: &mut self.facts,
                shared,
                output,
            };
            parser.item(&mut cx, *direction, item.clone());
            if parser.verdict() == Verdict::Refuted {
                break;
            }
        }
        self.judge(protocols, shared, output);
    }

    /// One direction has ended.
    pub(crate) fn half_closed(
        &mut self,
        direction: Direction,
        time: KernelTime,
        shared: &mut Shared,
        output: &mut Output,
    ) {
        if let Phase::Parsing(parser) = &mut self.phase {
            let mut cx = Context {
                facts: &mut self.facts,
                shared,
                output,
            };
            parser.half_closed(&mut cx, direction, time);
        }
    }

    /// The connection is gone, though messages may still be under way.
    pub(crate) fn closing(&mut self, event: &ConnectionClosed) {
        self.closing = Some(event.clone());
    }

    /// Whether it has closed and everything has arrived.
    pub(crate) fn is_done(&self) -> bool {
        self.closing.as_ref().is_some_and(|close| {
            self.is_ignored()
                || self.ingress.missing(close.ingress_bytes) == 0
                    && self.egress.missing(close.egress_bytes) == 0
        })
    }

    /// Ends what the close ends.
    pub(crate) fn finish_close(
        &mut self,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        let Some(event) = self.closing.take() else {
            return;
        };
        self.give_up_gaps(protocols, shared, output);
        if let Phase::Parsing(parser) = &mut self.phase {
            let close = Close {
                time: event.stamp.time,
                reset: event.reset,
                missing_ingress: self.ingress.missing(event.ingress_bytes),
                missing_egress: self.egress.missing(event.egress_bytes),
            };
            let mut cx = Context {
                facts: &mut self.facts,
                shared,
                output,
            };
            parser.closed(&mut cx, close);
        }
        self.phase = Phase::Ignored;
    }

    fn give_up_gaps(
        &mut self,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        for direction in [Direction::Ingress, Direction::Egress] {
            while self.stream(direction).is_waiting() {
                self.stream(direction).give_up();
                self.drain(direction, protocols, shared, output);
            }
        }
    }

    /// Time has passed; `true` if it is done with and can be forgotten.
    pub(crate) fn settle(
        &mut self,
        now: KernelTime,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) -> bool {
        let settle = shared.settings.settle.as_nanos() as u64;
        if let Some(close) = &self.closing
            && now.since(close.stamp.time) >= settle
        {
            self.finish_close(protocols, shared, output);
            return true;
        }
        if now.since(self.last_event) >= settle || self.closing.is_none() {
            self.give_up_old_gaps(now, settle, protocols, shared, output);
        }
        if let Phase::Parsing(parser) = &mut self.phase {
            let mut cx = Context {
                facts: &mut self.facts,
                shared,
                output,
            };
            parser.settle(&mut cx, now);
            self.judge(protocols, shared, output);
        }
        false
    }

    fn give_up_old_gaps(
        &mut self,
        now: KernelTime,
        settle: u64,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        for direction in [Direction::Ingress, Direction::Egress] {
            while self
                .stream(direction)
                .waiting_since()
                .is_some_and(|since| now.since(since) >= settle)
            {
                self.stream(direction).give_up();
                self.drain(direction, protocols, shared, output);
            }
        }
    }

    /// Whether [`Self::settle`] has something to do.
    pub(crate) fn wants_settle(&self) -> bool {
        self.closing.is_some()
            || self.ingress.is_waiting()
            || self.egress.is_waiting()
            || matches!(&self.phase, Phase::Parsing(parser) if parser.wants_settle())
    }

    /// Lets go of everything that is held, at the price of what is not complete.
    pub(crate) fn release(
        &mut self,
        now: KernelTime,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        self.give_up_gaps(protocols, shared, output);
        self.retained = Vec::new();
        self.retained_cost = 0;
        if let Phase::Parsing(parser) = &mut self.phase {
            let mut cx = Context {
                facts: &mut self.facts,
                shared,
                output,
            };
            let settle = cx.shared.settings.settle.as_nanos() as u64;
            parser.settle(&mut cx, KernelTime(now.0.saturating_add(settle)));
            self.judge(protocols, shared, output);
        }
    }

    /// Lets go of what is held: softly, or where that frees too little by starting anew in the middle of the connection.
    pub(crate) fn shed(
        &mut self,
        now: KernelTime,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        let before = self.cost();
        self.release(now, protocols, shared, output);
        if self.cost() <= before / 2 {
            return;
        }
        if let Phase::Parsing(parser) = &mut self.phase {
            let mut cx = Context {
                facts: &mut self.facts,
                shared,
                output,
            };
            parser.abandon(&mut cx, "exchange.memory");
        }
        self.retained = Vec::new();
        self.retained_cost = 0;
        self.tried.clear();
        self.facts.origin = Origin::PreExisting;
        self.phase = Phase::Detecting { foreign: 0 };
    }

    /// Gives up heads that began before this time, and what is kept of so long ago for another candidate.
    pub(crate) fn give_up_heads(
        &mut self,
        before: KernelTime,
        shared: &mut Shared,
        output: &mut Output,
    ) {
        if let Some((_, Item::Chunk(chunk))) = self.retained.first()
            && chunk.meta.time < before
        {
            self.retained = Vec::new();
            self.retained_cost = 0;
            if matches!(self.phase, Phase::Detecting { .. }) {
                self.facts.origin = Origin::PreExisting;
            }
        }
        if let Phase::Parsing(parser) = &mut self.phase {
            let mut cx = Context {
                facts: &mut self.facts,
                shared,
                output,
            };
            parser.give_up_heads(&mut cx, before, "exchange.slow_head");
        }
    }

    /// Whether the kernel side may report more of it.
    pub(crate) fn is_alive(&self) -> bool {
        self.closing.is_none() && !self.facts.ignored
    }

    /// No more events come.
    pub(crate) fn abandon(
        &mut self,
        reason: &'static str,
        protocols: &[&'static dyn Protocol],
        shared: &mut Shared,
        output: &mut Output,
    ) {
        if self.closing.is_some() {
            self.finish_close(protocols, shared, output);
            return;
        }
        self.give_up_gaps(protocols, shared, output);
        if let Phase::Parsing(parser) = &mut self.phase {
            let mut cx = Context {
                facts: &mut self.facts,
                shared,
                output,
            };
            parser.abandon(&mut cx, reason);
        }
        self.phase = Phase::Ignored;
    }

    /// Who opened it.
    pub(crate) fn role(&self) -> Option<Role> {
        self.facts.role
    }
}
