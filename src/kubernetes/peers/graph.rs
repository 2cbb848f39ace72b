//! Edges of the service graph, under the names that the Collector's servicegraph connector gave them.
//!
//! The client's end counts a request and measures what the client saw; the server's end measures what the server saw. The
//! server's end counts only where the client is surely outside of the cluster, so that no agent sees the client's end:
//! no request is counted at both of its ends, whichever nodes they are on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use spandrel_k8s_meta::peers::Peer;
use spandrel_model::{
    Attribute, AttributeSet, Edge, Instrument, InstrumentKind, Measurement, Resource, SpanKind,
    SpanRecord, SpanStatus, Text, Value,
};

use super::labels::Label;
use super::tables::Answer;

const fn instrument(
    kind: InstrumentKind,
    name: &'static str,
    unit: &'static str,
    description: &'static str,
) -> Instrument {
    Instrument {
        kind,
        name,
        unit,
        description,
    }
}

static TOTAL: Instrument = instrument(
    InstrumentKind::Counter,
    "traces_service_graph_request_total",
    "",
    "Requests between two nodes of the service graph.",
);
static FAILED: Instrument = instrument(
    InstrumentKind::Counter,
    "traces_service_graph_request_failed_total",
    "",
    "Failed requests between two nodes of the service graph.",
);
static CLIENT: Instrument = instrument(
    InstrumentKind::Histogram,
    "traces_service_graph_request_client",
    "s",
    "Duration of requests between two nodes of the service graph, as the client saw them.",
);
static SERVER: Instrument = instrument(
    InstrumentKind::Histogram,
    "traces_service_graph_request_server",
    "s",
    "Duration of requests between two nodes of the service graph, as the server saw them.",
);

/// Sets of attributes that are made already at most; after that many they are made anew.
const MAX_MADE: usize = 4096;
/// No name of a host is longer.
const MAX_HOST: usize = 253;

/// What the other end of an edge is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Other {
    /// One with a name, by its place in memory.
    Peer(usize),
    /// A host that the client asked for by name.
    Host(Text),
    /// A client from outside of the cluster.
    User,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    resource: u64,
    is_client: bool,
    other: Other,
}

/// Makes edges.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// The peer is held, so that no other gets its place in memory.
    made: HashMap<Key, (AttributeSet, Option<Arc<Peer>>), RandomState>,
}

impl Graph {
    /// The edge of an exchange; none where both ends are in one network namespace, which is one pod or one host.
    pub(super) fn edge(
        &mut self,
        span: &SpanRecord,
        resource: &Resource,
        answer: &Answer,
        label: Option<&Label>,
    ) -> Option<Box<Edge>> {
        if matches!(answer.outcome, "loopback" | "no_address") {
            return None;
        }
        let is_client = span.kind == SpanKind::Client;
        let other = match label {
            Some(label) => Other::Peer(Arc::as_ptr(&label.peer) as usize),
            None if is_client => host(span).map_or(Other::Unknown, Other::Host),
            None if answer.outside => Other::User,
            None => Other::Unknown,
        };
        let key = Key {
            resource: resource.id(),
            is_client,
            other,
        };
        let attributes = match self.made.get(&key) {
            Some((attributes, _)) => attributes.clone(),
            None => self.make(key, resource, label),
        };
        let counts = is_client || answer.outside;
        let failed = matches!(span.status, SpanStatus::Error(_));
        let seconds = span.duration_nanos() as f64 / 1e9;
        let measured = [
            Some((if is_client { &CLIENT } else { &SERVER }, seconds)),
            counts.then_some((&TOTAL, 1.0)),
            (counts && failed).then_some((&FAILED, 1.0)),
        ];
        let measurements = measured.into_iter().flatten();
        Some(Box::new(Edge {
            attributes,
            measurements: measurements
                .map(|(instrument, value)| Measurement { instrument, value })
                .collect(),
        }))
    }

    #[cold]
    fn make(&mut self, key: Key, resource: &Resource, label: Option<&Label>) -> AttributeSet {
        let text = |value: &str| Some(Text::copied(value));
        let own = (
            text(resource.service_name()),
            resource.text("service.namespace").and_then(text),
        );
        let (name, namespace) = match &key.other {
            Other::Peer(_) => (
                label.map(|it| it.name.clone()),
                label.and_then(|it| it.namespace.clone()),
            ),
            Other::Host(host) => (Some(host.clone()), None),
            Other::User => (text("user"), None),
            Other::Unknown => (text("unknown"), None),
        };
        let kind = match key.other {
            Other::Peer(_) => "",
            Other::Host(_) | Other::User | Other::Unknown => "virtual_node",
        };
        let other = (name, namespace);
        let (client, server) = if key.is_client {
            (own, other)
        } else {
            (other, own)
        };
        let attributes: AttributeSet = [
            ("client", client.0),
            ("client_service_namespace", client.1),
            ("connection_type", text(kind)),
            ("server", server.0),
            ("server_service_namespace", server.1),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some(Attribute::new(key, value?)))
        .collect();
        if self.made.len() >= MAX_MADE {
            self.made.clear();
        }
        let held = label.map(|it| Arc::clone(&it.peer));
        self.made.insert(key, (attributes.clone(), held));
        attributes
    }
}

/// The host that a client asked for, where it is a name.
fn host(span: &SpanRecord) -> Option<Text> {
    match span.attribute("server.address") {
        Some(Value::Str(host)) => {
            let is_name = host.len() <= MAX_HOST && host.parse::<IpAddr>().is_err();
            is_name.then(|| host.clone())
        }
        _ => None,
    }
}
