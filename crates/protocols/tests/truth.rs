//! Whatever is not copied or lost, however messages are cut: what is said of an exchange is true.
#![allow(clippy::unwrap_used, clippy::panic)]

mod script;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_oneof, proptest};
use proptest::test_runner::Config;
use script::Step;
use spandrel_model::{Direction, Event, KernelTime, Message, SpanKind, Value};
use spandrel_protocols::Settings;

/// One exchange of a conversation, before it is put on a connection.
#[derive(Clone, Debug)]
struct Plan {
    method: &'static str,
    /// Bytes of a field that makes the head longer.
    request_padding: usize,
    response_padding: usize,
    body: usize,
    chunked: bool,
    /// Milliseconds until the client sends and until the server answers, once they can.
    think: u64,
    work: u64,
    /// Goes into one message with the one before it, where both are sent at one time.
    joins: (bool, bool),
}

fn plan() -> impl Strategy<Value = Plan> {
    let method = prop_oneof![3 => Just("GET"), 1 => Just("POST"), 1 => Just("HEAD")];
    let padding = || prop_oneof![3 => Just(0), 1 => 0..400_usize];
    (
        method,
        padding(),
        padding(),
        prop_oneof![Just(0), 0..300_usize],
        any::<bool>(),
        prop_oneof![2 => Just(0), 1 => 0..20_u64],
        0..20_u64,
        any::<(bool, bool)>(),
    )
        .prop_map(
            |(method, request_padding, response_padding, body, chunked, think, work, joins)| Plan {
                method,
                request_padding,
                response_padding,
                body,
                chunked,
                think,
                work,
                joins,
            },
        )
}

const STATUSES: [u16; 7] = [200, 404, 503, 201, 500, 403, 202];

fn status(index: usize) -> u16 {
    STATUSES[index % STATUSES.len()]
}

fn message_of(first_line: &str, padding: usize, body: Option<usize>, chunked: bool) -> Vec<u8> {
    let mut text = format!("{first_line}\r\nHost: x\r\n");
    if padding > 0 {
        text += &format!("Cookie: {}\r\n", "c".repeat(padding));
    }
    let Some(body) = body else {
        return (text + "\r\n").into_bytes();
    };
    if chunked {
        text += "Transfer-Encoding: chunked\r\n\r\n";
        for size in [body / 3, body - body / 3] {
            if size > 0 {
                text += &format!("{size:x}\r\n{}\r\n", "b".repeat(size));
            }
        }
        text += "0\r\n\r\n";
    } else {
        text += &format!("Content-Length: {body}\r\n\r\n{}", "b".repeat(body));
    }
    text.into_bytes()
}

fn request(index: usize, plan: &Plan) -> Vec<u8> {
    let line = format!("{} /p{index} HTTP/1.1", plan.method);
    let body = (plan.method == "POST").then_some(plan.body);
    message_of(&line, plan.request_padding, body, plan.chunked)
}

fn response(index: usize, plan: &Plan) -> Vec<u8> {
    let line = format!("HTTP/1.1 {} Because", status(index));
    if plan.method == "HEAD" {
        let field = format!("{line}\r\nContent-Length: {}", plan.body);
        return message_of(&field, plan.response_padding, None, false);
    }
    message_of(&line, plan.response_padding, Some(plan.body), plan.chunked)
}

/// When each request and response is sent: a client with so many requests under way, and a server that answers in turn.
fn times(plans: &[Plan], window: usize, silences: bool) -> Vec<(u64, u64)> {
    let mut times: Vec<(u64, u64)> = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        let free = index.checked_sub(window).map_or(1000, |at| times[at].1 + 1);
        let before = times.last().map_or(0, |one| one.0);
        let answered = times.last().map_or(0, |one| one.1);
        let mut sent = free.max(before) + plan.think;
        if silences && plan.think == 19 {
            sent = answered.max(sent) + 500;
        }
        times.push((sent, sent.max(answered) + plan.work));
    }
    times
}

/// What is not seen of the messages.
#[derive(Clone, Debug)]
struct Blindness {
    /// Bytes copied of each message, in turn, and whether its tail is.
    limits: Vec<(usize, bool)>,
    /// Every so-manieth message is not reported, beginning with this one.
    loss: Option<(usize, usize)>,
    /// The message behind one that is not reported says so.
    told: bool,
    /// A message is reported in parts that begin where heads do.
    parts: bool,
    /// Most bytes of a message: a program reads with a small buffer.
    most: usize,
}

fn messages(
    sends: Vec<(u64, Vec<u8>, bool)>,
    direction: Direction,
    blindness: &Blindness,
    template: &Message,
) -> (Vec<Event>, u64) {
    // The messages, each as its parts.
    let mut joined: Vec<(u64, Vec<Vec<u8>>)> = Vec::new();
    for (time, bytes, joins) in sends {
        match joined.last_mut() {
            Some((last, parts)) if joins && *last == time && blindness.parts => parts.push(bytes),
            Some((last, parts)) if joins && *last == time => parts[0].extend(bytes),
            _ => joined.push((time, vec![bytes])),
        }
    }
    let mut events = Vec::new();
    let (mut position, mut unseen) = (0, 0);
    for (index, (time, parts)) in joined.into_iter().enumerate() {
        let (limit, tail) = blindness.limits[index % blindness.limits.len()];
        let lost = blindness
            .loss
            .is_some_and(|(first, every)| index >= first && (index - first).is_multiple_of(every));
        let reads = parts.iter().enumerate().flat_map(|(part, bytes)| {
            bytes
                .chunks(blindness.most)
                .enumerate()
                .map(move |(read, bytes)| (part * usize::from(read == 0), bytes))
        });
        for (part, bytes) in reads {
            let length = bytes.len() as u32;
            if lost {
                unseen += length;
                position += u64::from(length);
                continue;
            }
            let mut message = template.clone();
            message.stamp.time = KernelTime(time * 1_000_000);
            message.direction = direction;
            message.position = position;
            message.length = length;
            message.flags.part = part > 0;
            message.unseen = std::mem::take(&mut unseen);
            if !blindness.told {
                message.unseen = 0;
            }
            position += u64::from(length);
            let copied = limit.min(bytes.len());
            message.payload = Bytes::copy_from_slice(&bytes[..copied]);
            if tail {
                let from = copied.max(bytes.len().saturating_sub(32));
                message.tail = Bytes::copy_from_slice(&bytes[from..]);
            }
            events.push(Event::Message(message));
        }
    }
    (events, position)
}

/// Which events of a conversation are not reported.
#[derive(Clone, Debug)]
enum Missed {
    Nothing,
    /// The first ones: the connection is older.
    Before(usize),
    /// So many behind so many; the next of each direction says so, or not.
    Between(usize, usize, bool),
}

/// Takes away what was missed, as a full ring does.
fn miss(events: &mut Vec<Event>, from: usize, count: usize, told: bool) {
    let from = from.min(events.len());
    let to = (from + count).min(events.len());
    let mut unseen = [0, 0];
    for event in events.drain(from..to) {
        if let Event::Message(message) = event {
            unseen[usize::from(message.direction == Direction::Egress)] += message.length;
        }
    }
    for event in events.iter_mut().skip(from) {
        if let Event::Message(message) = event
            && told
        {
            let lost = &mut unseen[usize::from(message.direction == Direction::Egress)];
            message.unseen += std::mem::take(lost);
        }
    }
}

/// What is said of an exchange.
#[derive(Debug)]
struct Told {
    index: usize,
    status: i64,
    /// Milliseconds; nothing where it is said that this is not known to be the response's end.
    end: Option<u64>,
    /// When the response's last byte was written or read.
    ended: u64,
}

/// Everything that is said of a conversation.
fn said(
    plans: &[Plan],
    window: usize,
    server: bool,
    blindness: (&Blindness, &Blindness),
    missed: &Missed,
) -> Vec<Told> {
    let role = if server { "server" } else { "client" };
    let origin = if matches!(missed, Missed::Before(_)) {
        " preexisting"
    } else {
        ""
    };
    let text =
        format!("open 1 {role} 10.0.0.1:80 10.0.0.2:4000{origin}\nread 1 1 \"x\"\nclose 1 1");
    let mut parts = script::parse(&text).into_iter();
    let (Some(open), Some(Step::Event(Event::Message(template))), Some(Step::Event(close))) =
        (parts.next(), parts.next(), parts.next())
    else {
        unreachable!("the script has three lines");
    };
    let lossless = blindness.0.loss.is_none()
        && blindness.1.loss.is_none()
        && !matches!(missed, Missed::Between(..));
    let times = times(plans, window, lossless);
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    for (index, (plan, time)) in plans.iter().zip(&times).enumerate() {
        requests.push((time.0, request(index, plan), plan.joins.0));
        responses.push((time.1, response(index, plan), plan.joins.1));
    }
    let direction = if server {
        Direction::Ingress
    } else {
        Direction::Egress
    };
    let (mut events, asked) = messages(requests, direction, blindness.0, &template);
    let (answers, answered) = messages(responses, direction.reverse(), blindness.1, &template);
    events.extend(answers);
    events.sort_by_key(|event| event.stamp().time);
    match *missed {
        Missed::Nothing => {}
        Missed::Before(count) => drop(events.drain(..count.min(events.len()))),
        Missed::Between(from, count, told) => miss(&mut events, from, count, told),
    }
    let end = events.last().map_or(0, |event| event.stamp().time.0);
    let mut steps = vec![open];
    for event in events {
        let time = event.stamp().time;
        steps.push(Step::Event(event));
        steps.push(Step::Tick(time));
    }
    // Silence is evidence only where nothing was lost.
    let silence = if lossless { 400_000_000 } else { 1_000_000 };
    if let Event::ConnectionClosed(mut close) = close {
        steps.push(Step::Tick(KernelTime(end + silence)));
        close.stamp.time = KernelTime(end + silence);
        (close.ingress_bytes, close.egress_bytes) = if server {
            (asked, answered)
        } else {
            (answered, asked)
        };
        steps.push(Step::Event(Event::ConnectionClosed(close)));
        steps.push(Step::Tick(KernelTime(end + silence + 400_000_000)));
    }
    let outcome = script::run_steps(&steps, Settings::default());
    let spans = outcome.output.measured.iter().map(|one| &one.span);
    spans
        .filter_map(|span| {
            let key = if span.kind == SpanKind::Server {
                "url.path"
            } else {
                "url.full"
            };
            let Some(Value::Str(path)) = span.attribute(key) else {
                return None;
            };
            let index = path.rsplit("/p").next()?.parse().ok()?;
            let Some(Value::I64(status)) = span.attribute("http.response.status_code") else {
                return None;
            };
            let is_known = span.attribute("spandrel.response.end.unknown").is_none();
            Some(Told {
                index,
                status: *status,
                end: is_known.then_some(span.end.0 / 1_000_000),
                ended: times[index].1,
            })
        })
        .collect()
}

fn limits() -> impl Strategy<Value = Vec<(usize, bool)>> {
    let limit = prop_oneof![Just(0), 10..600_usize, Just(8192)];
    vec((limit, any::<bool>()), 1..5)
}

fn blindness() -> impl Strategy<Value = Blindness> {
    let loss = prop_oneof![2 => Just(None), 1 => (0..6_usize, 1..6_usize).prop_map(Some)];
    let most = prop_oneof![2 => Just(usize::MAX), 1 => 40..400_usize];
    (limits(), loss, any::<(bool, bool)>(), most).prop_map(|(limits, loss, (told, parts), most)| {
        Blindness {
            limits,
            loss,
            told,
            parts,
            most,
        }
    })
}

proptest! {
    #![proptest_config(Config { cases: 1024, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_exchange_gets_the_status_of_another(
        plans in vec(plan(), 1..40),
        window in 1..5_usize,
        server in any::<bool>(),
        requests in blindness(),
        responses in blindness(),
        missed in prop_oneof![2 => Just(Missed::Nothing), 1 => (0..12_usize).prop_map(Missed::Before)],
    ) {
        let (mut plans, mut requests, mut responses) = (plans, requests, responses);
        let joined = matches!(missed, Missed::Before(_));
        if joined {
            // What was lost before the first message cannot be told. Nor can an answer that a body hides, where the client
            // pipelines since before.
            requests.loss = None;
            responses.loss = None;
            for plan in &mut plans {
                plan.chunked = false;
            }
        }
        let hides_requests =
            joined || requests.loss.is_some() || responses.loss.is_some() || requests.limits.contains(&(0, false));
        if window > 1 && hides_requests {
            // Who has the same number of requests under way all the time looks like one that waits, once the messages are
            // gone that showed otherwise.
            plans.truncate(8);
        }
        let told = said(&plans, window, server, (&requests, &responses), &missed);
        for told in told {
            prop_assert!(told.status == i64::from(status(told.index)), "{told:?}");
            prop_assert!(told.end.is_none_or(|end| end == told.ended), "{told:?}");
        }
    }

    #[test]
    fn a_client_that_waits_for_its_answers_loses_nothing_to_what_is_not_copied(
        plans in vec(plan(), 1..30),
        server in any::<bool>(),
        limits in vec((80..600_usize, any::<bool>()), 1..5),
    ) {
        let blindness = Blindness { limits, loss: None, told: false, parts: false, most: usize::MAX };
        // Without cut heads, which may hide requests.
        let plans: Vec<Plan> = plans
            .into_iter()
            .map(|plan| Plan { request_padding: 0, response_padding: 0, ..plan })
            .collect();
        let whole = Blindness { limits: vec![(8192, false)], ..blindness };
        // Where both are chunked, an answer may be hidden that would say more of what the request hides.
        let responses = if plans.iter().any(|plan| plan.chunked && plan.method == "POST") {
            &whole
        } else {
            &blindness
        };
        let told = said(&plans, 1, server, (&blindness, responses), &Missed::Nothing);
        prop_assert!(told.len() == plans.len(), "{told:?} of {}", plans.len());
    }
    #[test]
    fn a_full_ring_costs_a_client_that_waits_no_more_than_what_was_in_it(
        plans in vec(plan(), 24..40),
        server in any::<bool>(),
        from in 0..12_usize,
        count in 1..16_usize,
        told in any::<bool>(),
    ) {
        let plans: Vec<Plan> = plans
            .into_iter()
            .map(|plan| Plan { joins: (false, false), ..plan })
            .collect();
        let whole = Blindness { limits: vec![(8192, false)], loss: None, told: false, parts: false, most: usize::MAX };
        let missed = Missed::Between(from, count, told);
        let found = said(&plans, 1, server, (&whole, &whole), &missed);
        for told in &found {
            prop_assert!(told.status == i64::from(status(told.index)), "{told:?}");
            prop_assert!(told.end.is_none_or(|end| end == told.ended), "{told:?}");
        }
        // Each exchange is two messages; of the one before and the one behind, half may be gone.
        let spared = plans.len() - count.div_ceil(2) - 2;
        prop_assert!(found.len() >= spared, "{} of {}: {found:?}", found.len(), plans.len());
    }
}
