//! Conversations as text: what a test feeds to the tracker, and what it gets, in lines a person can review.
//!
//! ```text
//! open 1 server 10.0.0.1:8080 10.0.0.9:40000        role, local and peer address; then any of
//!      preexisting passed=READ,WRITTEN netns=N
//! read 1 1000 "GET / HTTP/1.1\r\n\r\n"               connection, microseconds, bytes; then any of
//!      hidden=N tail="..." started=US arrived=US srtt=US retransmits=N at=POSITION head_cut=1 pid=N
//! write 1 2000 "HTTP/1.1 204 No Content\r\n\r\n"
//! skip 1 read 100                                    so many bytes are lost
//! shut 1 write 2500                                  half-close
//! close 1 3000 reset                                 or without `reset`
//! tick 5000
//! ```
// Every test binary uses a part of it, and a script that cannot be read is to end the test.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use spandrel_model::{
    ConnectionClosed, ConnectionHalfClosed, ConnectionId, ConnectionOpened, Direction, Endpoint,
    Event, KernelTime, Ledger, Measured, Message, Origin, Passed, ProcessKey, Role, Stamp,
    Transport, Value,
};
use spandrel_protocols::{Output, Settings, Tracker};

/// One line.
#[derive(Clone, Debug)]
pub enum Step {
    Event(Event),
    Tick(KernelTime),
}

/// Splits a line at blanks, quotes respected, and undoes the escapes.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => {
                let word = word.get_or_insert_default();
                match chars.next() {
                    Some('r') => word.push(b'\r'),
                    Some('n') => word.push(b'\n'),
                    Some('t') => word.push(b'\t'),
                    Some('x') => {
                        let hex: String = chars.by_ref().take(2).collect();
                        word.push(u8::from_str_radix(&hex, 16).expect("two hexadecimal digits"));
                    }
                    Some(other) => word.push(other as u8),
                    None => panic!("a line ends in a backslash: {line}"),
                }
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            '#' if !quoted && word.is_none() => break,
            char => {
                let mut buffer = [0; 4];
                let word = word.get_or_insert_default();
                word.extend_from_slice(char.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }
    words.extend(word);
    words
}

/// Reads a script.
pub fn parse(script: &str) -> Vec<Step> {
    let mut positions: HashMap<(u64, Direction), u64> = HashMap::new();
    let mut steps = Vec::new();
    for (number, line) in script.lines().enumerate() {
        let words = words(line);
        let Some(verb) = words.first() else { continue };
        let text = |index: usize| -> String {
            let word = words
                .get(index)
                .unwrap_or_else(|| panic!("line {}: word {index} is missing: {line}", number + 1));
            String::from_utf8(word.clone()).unwrap()
        };
        let number_at = |index: usize| -> u64 {
            text(index)
                .parse()
                .unwrap_or_else(|_| panic!("line {}: not a number: {line}", number + 1))
        };
        let time = |us: u64| KernelTime(us * 1000);
        let stamp = |us: u64| Stamp {
            time: time(us),
            cpu: 0,
            sequence: number as u64,
        };
        let direction = |name: &str| match name {
            "read" => Direction::Ingress,
            "write" => Direction::Egress,
            other => panic!("line {}: not a direction: {other}", number + 1),
        };
        let endpoint = |text: String| match text.as_str() {
            "?" => Endpoint::Unknown,
            path if path.starts_with('/') => Endpoint::Path(path.to_owned()),
            address => Endpoint::Socket(address.parse().unwrap()),
        };
        match std::str::from_utf8(verb).unwrap() {
            "open" => {
                let preexisting = words.iter().any(|word| word == b"preexisting");
                let passed = words.iter().find_map(|word| {
                    let text = std::str::from_utf8(word).ok()?;
                    let (read, written) = text.strip_prefix("passed=")?.split_once(',')?;
                    let number = |text: &str| text.parse().unwrap();
                    Some(Passed {
                        ingress: number(read),
                        egress: number(written),
                    })
                });
                let netns = words.iter().find_map(|word| {
                    let text = std::str::from_utf8(word).ok()?;
                    text.strip_prefix("netns=")?.parse().ok()
                });
                if let Some(passed) = passed {
                    positions.insert((number_at(1), Direction::Ingress), passed.ingress);
                    positions.insert((number_at(1), Direction::Egress), passed.egress);
                }
                let local = endpoint(text(3));
                steps.push(Step::Event(Event::ConnectionOpened(ConnectionOpened {
                    stamp: stamp(500),
                    connection: ConnectionId(number_at(1)),
                    origin: if preexisting {
                        Origin::PreExisting
                    } else {
                        Origin::Observed
                    },
                    transport: if matches!(local, Endpoint::Path(_)) {
                        Transport::Unix
                    } else {
                        Transport::Tcp
                    },
                    role: match text(2).as_str() {
                        "server" => Some(Role::Server),
                        "client" => Some(Role::Client),
                        _ => None,
                    },
                    local,
                    peer: endpoint(text(4)),
                    netns: netns.unwrap_or(1),
                    connect_started: (text(2) == "client").then(|| time(250)),
                    process: None,
                    passed,
                })));
            }
            verb @ ("read" | "write") => {
                let direction = direction(verb);
                let connection = number_at(1);
                let payload = Bytes::from(words.get(3).expect("bytes").clone());
                let mut message = Message {
                    stamp: stamp(number_at(2)),
                    connection: ConnectionId(connection),
                    direction,
                    position: 0,
                    length: 0,
                    unseen: 0,
                    payload,
                    tail: Bytes::new(),
                    started: None,
                    arrived: None,
                    process: ProcessKey {
                        tgid: 100,
                        started: 1,
                    },
                    tid: 100,
                    lineage: Default::default(),
                    cgroup: 7,
                    srtt_us: 0,
                    retransmits: 0,
                    flags: spandrel_model::MessageFlags::default(),
                };
                let (mut hidden, mut at) = (0, None);
                for word in words.iter().skip(4) {
                    let split = word
                        .iter()
                        .position(|byte| *byte == b'=')
                        .expect("key=value");
                    let (key, value) = (&word[..split], &word[split + 1..]);
                    let number = || -> u64 { std::str::from_utf8(value).unwrap().parse().unwrap() };
                    match key {
                        b"hidden" => hidden = number(),
                        b"tail" => message.tail = Bytes::from(value.to_vec()),
                        b"started" => message.started = Some(time(number())),
                        b"arrived" => message.arrived = Some(time(number())),
                        b"srtt" => message.srtt_us = number() as u32,
                        b"retransmits" => message.retransmits = number() as u32,
                        b"pid" => message.process.tgid = number() as u32,
                        b"at" => at = Some(number()),
                        b"head_cut" => message.flags.head_cut = number() > 0,
                        other => panic!("unknown key {}", String::from_utf8_lossy(other)),
                    }
                }
                let length = message.payload.len() as u64 + hidden + message.tail.len() as u64;
                message.length = length as u32;
                let next = positions.entry((connection, direction)).or_default();
                message.position = at.unwrap_or(*next);
                *next = (*next).max(message.position + length);
                steps.push(Step::Event(Event::Message(message)));
            }
            "skip" => {
                let key = (number_at(1), direction(&text(2)));
                *positions.entry(key).or_default() += number_at(3);
            }
            "shut" => steps.push(Step::Event(Event::ConnectionHalfClosed(
                ConnectionHalfClosed {
                    stamp: stamp(number_at(3)),
                    connection: ConnectionId(number_at(1)),
                    direction: direction(&text(2)),
                },
            ))),
            "close" => {
                let id = number_at(1);
                let total = |direction| positions.get(&(id, direction)).copied().unwrap_or(0);
                steps.push(Step::Event(Event::ConnectionClosed(ConnectionClosed {
                    stamp: stamp(number_at(2)),
                    connection: ConnectionId(id),
                    reset: words.get(3).is_some_and(|word| word == b"reset"),
                    ingress_bytes: total(Direction::Ingress),
                    egress_bytes: total(Direction::Egress),
                })));
            }
            "tick" => steps.push(Step::Tick(time(number_at(1)))),
            other => panic!("line {}: unknown verb {other}", number + 1),
        }
    }
    steps
}

/// What came out.
pub struct Outcome {
    pub output: Output,
    pub ledger: Arc<Ledger>,
}

/// Feeds steps to a new tracker and ends the input.
pub fn run_steps(steps: &[Step], settings: Settings) -> Outcome {
    let ledger = Arc::new(Ledger::default());
    let mut tracker = Tracker::new(settings, 42, Arc::clone(&ledger));
    let mut output = Output::default();
    for step in steps {
        match step {
            Step::Event(event) => {
                if matches!(event, Event::Message(_)) {
                    ledger.messages.see(1);
                }
                tracker.handle(event, &mut output);
            }
            Step::Tick(now) => tracker.tick(*now, &mut output),
        }
    }
    tracker.finish(&mut output);
    assert_eq!(tracker.buffered_bytes(), 0, "nothing is held after the end");
    assert_eq!(tracker.connections(), 0);
    for (name, account) in [
        ("messages", &ledger.messages),
        ("exchanges", &ledger.exchanges),
    ] {
        let numbers = account.snapshot();
        assert!(numbers.is_closed(), "{name}: {numbers:?}");
    }
    let settled = ledger.exchanges.snapshot().settled;
    assert_eq!(settled, output.measured.len() as u64);
    Outcome { output, ledger }
}

/// Feeds a script.
pub fn run(script: &str) -> Outcome {
    run_steps(&parse(script), Settings::default())
}

/// Runs the lines after the opening of connection 1 at a server.
pub fn server(lines: &str) -> Outcome {
    run(&format!(
        "open 1 server 10.0.0.1:8080 10.0.0.9:40000\n{lines}"
    ))
}

/// Runs the lines after the opening of connection 1 at a client.
pub fn client(lines: &str) -> Outcome {
    run(&format!(
        "open 1 client 10.0.0.9:40000 10.0.0.1:8080\n{lines}"
    ))
}

impl Outcome {
    /// One line per span: kind, name, status code or error, start and end in microseconds.
    pub fn lines(&self) -> Vec<String> {
        self.output.measured.iter().map(line).collect()
    }

    /// Exchanges dropped, by reason.
    pub fn dropped(&self) -> Vec<(&'static str, u64)> {
        let numbers = self.ledger.exchanges.snapshot();
        numbers.dropped.into_iter().collect()
    }

    /// A span's attribute as text.
    pub fn attribute(&self, index: usize, key: &str) -> Option<String> {
        self.output.measured[index].span.attribute(key).map(show)
    }

    /// Everything, for golden files.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for measured in &self.output.measured {
            let span = &measured.span;
            writeln!(text, "{}", line(measured)).unwrap();
            writeln!(text, "  trace {} span {}", span.trace_id, span.span_id).unwrap();
            if let Some(parent) = span.parent_span_id {
                let remote = if span.parent_is_remote { " remote" } else { "" };
                writeln!(
                    text,
                    "  parent {parent}{remote} flags {:02x}",
                    span.trace_flags
                )
                .unwrap();
            }
            if !span.trace_state.is_empty() {
                writeln!(text, "  tracestate {}", span.trace_state).unwrap();
            }
            for attribute in &span.attributes {
                writeln!(text, "  {} = {}", attribute.key, show(&attribute.value)).unwrap();
            }
            let attributes: Vec<_> = measured
                .metric_attributes
                .iter()
                .map(|attribute| format!("{}={}", attribute.key, show(&attribute.value)))
                .collect();
            writeln!(text, "  metrics {{{}}}", attributes.join(", ")).unwrap();
            for one in &measured.measurements {
                let (name, unit) = (one.instrument.name, one.instrument.unit);
                writeln!(text, "    {name} = {} {unit}", one.value).unwrap();
            }
        }
        for (id, policy) in &self.output.policies {
            writeln!(text, "policy {} {policy:?}", id.0).unwrap();
        }
        for (name, account) in [
            ("messages", &self.ledger.messages),
            ("exchanges", &self.ledger.exchanges),
        ] {
            let numbers = account.snapshot();
            write!(
                text,
                "{name} seen {} settled {}",
                numbers.seen, numbers.settled
            )
            .unwrap();
            for (reason, count) in numbers.dropped {
                write!(text, " {reason} {count}").unwrap();
            }
            text.push('\n');
        }
        text
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::Str(value) => value.to_string(),
        Value::StrArray(values) => values.join(","),
    }
}

fn line(measured: &Measured) -> String {
    let span = &measured.span;
    let mut line = format!("{:?} {}", span.kind, span.name);
    for key in ["http.response.status_code", "error.type"] {
        if let Some(value) = span.attribute(key) {
            write!(line, " {}", show(value)).unwrap();
        }
    }
    let (start, end) = (span.start.0 / 1000, span.end.0 / 1000);
    write!(line, " {start}..{end}").unwrap();
    line
}
