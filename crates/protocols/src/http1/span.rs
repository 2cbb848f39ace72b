//! Exchange to span and measurements, by the HTTP semantic conventions (stable) and our own `spandrel.*`.

use spandrel_model::{
    Attribute, Caller, Direction, KernelTime, Measured, ProcessKey, SpanId, SpanKind, SpanRecord,
    SpanStatus, Text, TraceId, Transport, Value,
};

use super::exchange::{Ending, Exchange, RequestBody};
use super::head;
use super::metric::measurements;
use super::query::{QueryValues, push_redacted};
use super::target::{Target, split_authority};
use crate::forwarding::{Awaited, Link};
use crate::protocol::Context;
use crate::route::{Evidence, Route, ServiceKey, shows_a_route};
use crate::trace_context;

pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Stands for all methods that the conventions do not list.
const OTHER: &str = "_OTHER";

const VERSIONS: [&str; 10] = [
    "1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8", "1.9",
];

/// What a span's name begins with.
fn name_of_method(method: &Text) -> Text {
    match method.as_str() {
        OTHER => Text::from_static("HTTP"),
        _ => method.clone(),
    }
}

pub(super) struct Spot {
    pub(super) kind: SpanKind,
    pub(super) start: KernelTime,
    pub(super) end: KernelTime,
    pub(super) address: Option<Text>,
    pub(super) port: Option<u16>,
    pub(super) route: Option<Route>,
    pub(super) status: Option<u16>,
    pub(super) error: Option<Text>,
    pub(super) method: Text,
    pub(super) version: Option<&'static str>,
    pub(super) scheme: Text,
    pub(super) response_size: Option<u64>,
    pub(super) request_size: Option<u64>,
}

/// Counts the exchange and hands its span over.
pub(crate) fn finish(
    cx: &mut Context<'_>,
    mut exchange: Exchange,
    requests: Direction,
    link: Link,
) {
    cx.shared.ledger.exchanges.settle(1);
    let target_text = exchange.request.target.take();
    let target = target_text.as_deref().map_or_else(Target::default, |text| {
        Target::parse(&exchange.request.method, text)
    });
    let spot = locate(cx, &exchange, requests, &target);
    let url = Url::new(cx, &spot, &target, target_text.as_ref());
    let end = spot.end;
    let link = match (twin(cx, &exchange, &spot), link) {
        (Some((trace, span)), Link::None) => match (cx.facts.twin, cx.facts.twin_heard) {
            (Some(twin), None) => Link::Awaited(Box::new(Awaited::Twin(twin, trace, span))),
            _ => Link::None,
        },
        (_, link) => link,
    };
    let parent = match link {
        Link::Child(parent, process) => Some((parent, process)),
        Link::None | Link::Awaited(_) => None,
    };
    let measured = measure(cx, exchange, spot, url, parent);
    if let Link::Awaited(awaited) = link {
        let settle = cx.shared.settings.settle.as_nanos() as u64;
        let due = KernelTime(end.0.saturating_add(settle));
        let waiting = &mut cx.shared.forwarding;
        waiting.wait(*awaited, due, measured, cx.output);
    } else {
        cx.output.measured.push(measured);
    }
}

/// Trace and span of the call at the other end, where no header decides.
fn twin(cx: &Context<'_>, exchange: &Exchange, spot: &Spot) -> Option<(TraceId, SpanId)> {
    let request = &exchange.request;
    // A truncated head may have carried a parent: none is made up.
    let may_tell =
        spot.kind == SpanKind::Server && !request.cut && request.fields.trace_parent.is_none();
    let twin = cx.facts.twin.filter(|_| may_tell)?;
    Some(trace_context::ids(
        cx.shared.id_seed,
        twin,
        exchange.position,
    ))
}

fn locate(
    cx: &mut Context<'_>,
    exchange: &Exchange,
    requests: Direction,
    target: &Target<'_>,
) -> Spot {
    let server = requests == Direction::Ingress;
    let first = &exchange.first;
    let start = match server {
        true => first.time,
        false => exchange.began(),
    };
    let (end, response_size, broken) = match exchange.ending {
        Ending::Whole { last, body, .. } => (last.time, body, None),
        Ending::Broken { time, cause } => (time, None, Some(cause)),
        Ending::Open | Ending::Dropped(_) => (start, None, None),
    };
    let status = exchange.response.map(|response| response.status);
    let failing = |status: u16| status >= if server { 500 } else { 400 };
    let error = match (broken, status) {
        (Some(cause), _) => Some(Text::from_static(cause.error_type())),
        (None, Some(status)) if failing(status) => Some(status_text(status)),
        _ => None,
    };
    let (address, authority_port) = match target.authority {
        Some(authority) => match split_authority(authority) {
            Some((host, port)) => (Some(Text::copied(host)), Some(port)),
            None => (None, None),
        },
        None => match &exchange.request.fields.authority {
            Some((host, port)) => (Some(host.clone()), Some(*port)),
            None => (None, None),
        },
    };
    let socket = match server {
        true => &cx.facts.local,
        false => &cx.facts.peer,
    };
    let address = address.or_else(|| match server {
        true => cx.facts.local_ip.clone(),
        false => cx.facts.peer_text.clone(),
    });
    let port = match authority_port {
        Some(Some(port)) => Some(port),
        // A forward proxy's own port is not the server's.
        Some(None) if !server && target.authority.is_some() => match target.scheme {
            Some("https") => Some(443),
            Some(_) => Some(80),
            None => None,
        },
        _ => socket.port(),
    };
    let routable = server
        && broken.is_none()
        && status.is_some_and(|status| !matches!(status, 400 | 404 | 405 | 501));
    let method = match head::is_known(&exchange.request.method) {
        true => exchange.request.method.clone(),
        false => Text::from_static(OTHER),
    };
    let route = target.path.filter(|_| routable).and_then(|path| {
        let service = ServiceKey {
            cgroup: first.cgroup,
            port: cx.facts.local.port().unwrap_or(0),
        };
        let prefix = name_of_method(&method);
        let evidence = Evidence {
            exists: status.is_some_and(shows_a_route),
            time: end,
        };
        cx.shared.routes.route(service, &prefix, path, evidence)
    });
    let version = exchange
        .response
        .map(|response| response.version)
        .or(exchange.request.version)
        .map(|minor| VERSIONS.get(usize::from(minor)).copied().unwrap_or("1.1"));
    Spot {
        kind: match server {
            true => SpanKind::Server,
            false => SpanKind::Client,
        },
        start,
        end: end.max(start),
        address,
        port,
        route,
        status,
        error,
        method,
        version,
        scheme: match target.scheme {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => Text::from_static("https"),
            _ => Text::from_static("http"),
        },
        response_size,
        request_size: match exchange.request_body {
            RequestBody::Whole(size) => Some(size),
            RequestBody::Coming | RequestBody::Unknown => None,
        },
    }
}

fn status_text(status: u16) -> Text {
    Text::from_static(match status {
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        409 => "409",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        other => return other.to_string().into(),
    })
}

/// The parts of the URL that one kind of span shows.
#[derive(Default)]
struct Url {
    /// Client.
    full: Option<Text>,
    /// Server.
    path: Option<Text>,
    /// Server, redacted.
    query: Option<Text>,
}

impl Url {
    fn new(cx: &mut Context<'_>, spot: &Spot, target: &Target<'_>, sent: Option<&Text>) -> Self {
        if spot.kind == SpanKind::Client {
            return Self {
                full: full_url(cx, spot, target),
                ..Self::default()
            };
        }
        let query = target.query.filter(|query| !query.is_empty());
        Self {
            full: None,
            path: target.path.map(|path| match sent {
                Some(sent) if *sent == *path => sent.clone(),
                _ => Text::copied(path),
            }),
            query: query.map(|query| written(cx, |url, values| push_redacted(query, values, url))),
        }
    }
}

fn measure(
    cx: &mut Context<'_>,
    exchange: Exchange,
    spot: Spot,
    url: Url,
    link: Option<(SpanId, ProcessKey)>,
) -> Measured {
    let server = spot.kind == SpanKind::Server;
    let twin = twin(cx, &exchange, &spot);
    let request = exchange.request;
    let name = match &spot.route {
        Some(route) => route.name.clone(),
        None => name_of_method(&spot.method),
    };
    let metric_attributes = cx.shared.metric_attributes.of(&spot);
    let measurements = measurements(&spot, server);

    let mut list = Vec::with_capacity(20);
    let mut put = |key: &'static str, value: Value| {
        list.push(Attribute {
            key: Text::from_static(key),
            value,
        });
    };
    put("http.request.method", spot.method.clone().into());
    if spot.method == OTHER && !request.method.is_empty() {
        put("http.request.method_original", request.method.into());
    }
    if let Some(status) = spot.status {
        put("http.response.status_code", status.into());
    }
    put("url.scheme", spot.scheme.into());
    if server {
        if let Some(path) = url.path {
            put("url.path", path.into());
        }
        if let Some(query) = url.query {
            put("url.query", query.into());
        }
        if let Some(route) = spot.route {
            put("http.route", route.template.into());
        }
    } else if let Some(full) = url.full {
        put("url.full", full.into());
    }
    if let Some(address) = spot.address {
        put("server.address", address.into());
        if let Some(port) = spot.port {
            put("server.port", port.into());
        }
    }
    let peer_port = cx.facts.peer.port();
    if let Some(peer) = &cx.facts.peer_text {
        if server && cx.facts.transport == Transport::Tcp {
            put("client.address", peer.clone().into());
            if let Some(port) = peer_port {
                put("client.port", port.into());
            }
        }
        put("network.peer.address", peer.clone().into());
        if let Some(port) = peer_port {
            put("network.peer.port", port.into());
        }
    }
    if cx.facts.transport == Transport::Unix {
        put("network.transport", "unix".into());
    }
    if let Some(version) = spot.version {
        put("network.protocol.version", version.into());
    }
    if let Some(agent) = &request.fields.user_agent {
        put("user_agent.original", agent.clone().into());
    }
    if let Some(size) = spot.request_size {
        put("http.request.body.size", (size as i64).into());
    }
    if let Some(size) = spot.response_size {
        put("http.response.body.size", (size as i64).into());
    }
    let status = match spot.error {
        Some(error) => {
            put("error.type", error.into());
            SpanStatus::Error(Text::default())
        }
        None => SpanStatus::Unset,
    };
    if request.cut {
        put("spandrel.request.head.truncated", true.into());
    }
    if let Ending::Whole {
        end_known: false, ..
    } = exchange.ending
    {
        put("spandrel.response.end.unknown", true.into());
    }
    let first = exchange.first;
    if let Some(arrived) = first.arrived().filter(|_| server && exchange.arrival_known) {
        put(
            "spandrel.queue.duration",
            seconds(first.time.since(arrived)).into(),
        );
    }
    let last = match exchange.ending {
        Ending::Whole { last, .. } => Some(last),
        _ => None,
    };
    let rtt = last.map_or(0, |last| last.srtt_us);
    let rtt = if rtt > 0 { rtt } else { first.srtt_us };
    if rtt > 0 {
        put("spandrel.tcp.rtt", seconds(u64::from(rtt) * 1000).into());
    }
    // Without a last message nothing was counted after the first.
    if let Some(last) = last.filter(|_| cx.facts.transport == Transport::Tcp) {
        let during = last.retransmits.saturating_sub(first.retransmits);
        put("spandrel.tcp.retransmits", during.into());
    }
    if !server
        && exchange.position == 0
        && let Some(nanos) = cx.facts.connect_nanos
    {
        put("spandrel.connect.duration", seconds(nanos).into());
    }

    let id = cx.facts.id;
    let seed = cx.shared.id_seed;
    let (own_trace, span_id) = trace_context::ids(seed, id, exchange.position);
    let header = request.fields.trace_parent;
    // What holds without the span of a caller that this agent sees.
    let (trace_id, parent_span_id) = match header {
        Some(parent) => (parent.trace_id, Some(parent.parent_id)),
        None => (own_trace, None),
    };
    let seen = match header {
        Some(parent) => link.map(|(span, process)| ((parent.trace_id, span), process)),
        None => twin.zip(cx.facts.twin_heard),
    };
    let caller = seen.map(|(_, process)| Caller {
        process,
        trace_id,
        parent_span_id,
    });
    let (trace_id, parent_span_id) = match seen {
        Some(((trace, span), _)) => (trace, Some(span)),
        None => (trace_id, parent_span_id),
    };
    Measured {
        span: SpanRecord {
            trace_id,
            span_id,
            parent_span_id,
            // A client is told from the request that its own process serves.
            parent_is_remote: parent_span_id.is_some() && (server || seen.is_none()),
            trace_begun_here: header.is_none() && !request.cut,
            trace_flags: header.map_or(1, |parent| parent.flags),
            trace_state: request.fields.trace_state.clone(),
            name,
            kind: spot.kind,
            start: cx.shared.offset.to_unix(spot.start),
            end: cx.shared.offset.to_unix(spot.end),
            attributes: list,
            dropped_attributes: 0,
            status,
            process: first.process,
            cgroup: first.cgroup,
        },
        ports: [cx.facts.local.port(), peer_port],
        metric_attributes,
        measurements,
        edge: None,
        caller,
    }
}

/// A text that is put together in memory that is used again.
fn written(cx: &mut Context<'_>, write: impl FnOnce(&mut String, &QueryValues)) -> Text {
    let scratch = &mut cx.shared.scratch;
    scratch.clear();
    write(scratch, &cx.shared.settings.http.query_values);
    Text::copied(scratch)
}

/// The URL a client asked for; `None` where the host or the path is not known.
fn full_url(cx: &mut Context<'_>, spot: &Spot, target: &Target<'_>) -> Option<Text> {
    let path = target.path?;
    let host = spot.address.as_ref()?.as_str();
    let default = if spot.scheme == "https" { 443 } else { 80 };
    Some(written(cx, |url, values| {
        url.push_str(&spot.scheme);
        url.push_str("://");
        if host.contains(':') {
            url.push('[');
            url.push_str(host);
            url.push(']');
        } else {
            url.push_str(host);
        }
        if let Some(port) = spot.port.filter(|port| *port != default) {
            url.push(':');
            push_number(port, url);
        }
        if path != "*" {
            url.push_str(path);
        }
        if let Some(query) = target.query {
            url.push('?');
            push_redacted(query, values, url);
        }
    }))
}

/// Without the formatting machinery: this runs for every client's exchange.
fn push_number(number: u16, out: &mut String) {
    for divisor in [10_000, 1000, 100, 10, 1] {
        if number >= divisor || divisor == 1 {
            out.push(char::from(b'0' + (number / divisor % 10) as u8));
        }
    }
}
