//! What can be seen of an exporter while it runs, without a lock that its pipeline would wait for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use spandrel_model::{Account, DestinationAccounts};

use crate::batch::BatchStats;
use crate::carried::Signal;
use crate::error::ExporterError;
use crate::queue::Queue;
use crate::retry::Gate;
use crate::self_telemetry::component;
use crate::sender;
use crate::settings::{OtlpSettings, Protocol};

/// The other end of one signal of one destination.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    transport: &'static str,
    server: Option<(String, u16)>,
}

impl Remote {
    pub(crate) fn of(settings: &OtlpSettings) -> Result<Self, ExporterError> {
        let (uri, _) = sender::target(settings)?;
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        });
        let transport = match settings.protocol {
            Protocol::Grpc => "grpc",
            Protocol::HttpProtobuf => "http",
            Protocol::HttpJson => "http_json",
        };
        let server = uri.host().map(|host| (host.to_owned(), port));
        Ok(Self { transport, server })
    }

    /// A file or stream, which the conventions have no name for.
    pub(crate) fn stream() -> Self {
        Self {
            transport: "file",
            server: None,
        }
    }

    fn component_type(&self, signal: Signal) -> String {
        let item = match signal {
            Signal::Traces => "span",
            Signal::Metrics => "metric",
            Signal::Logs => "log",
        };
        format!("otlp_{}_{item}_exporter", self.transport)
    }
}

/// One signal of one destination.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) destination: Arc<DestinationAccounts>,
    pub(crate) signal: Signal,
    /// Of the conventions: component, server, and the destination's name.
    pub(crate) attributes: Vec<KeyValue>,
    /// Those that no other has shown before.
    pub(crate) queues: Vec<Arc<Queue>>,
    pub(crate) gates: Vec<Arc<Gate>>,
    pub(crate) operations: Vec<Timings>,
    pub(crate) first_of_destination: bool,
}

impl Exported {
    pub(crate) fn account(&self) -> &Account {
        match self.signal {
            Signal::Traces => &self.destination.spans,
            Signal::Metrics => &self.destination.metric_points,
            Signal::Logs => &self.destination.log_records,
        }
    }

    /// The configured name and the signal.
    pub(crate) fn names(&self) -> [KeyValue; 2] {
        [
            KeyValue::new("spandrel.destination", self.destination.name.clone()),
            KeyValue::new("spandrel.signal", self.signal.name()),
        ]
    }
}

/// An exporter, for [`crate::self_telemetry::SelfTelemetry::observe_exporter`]. Bounded by the configuration.
#[derive(Clone, Debug)]
pub struct Observed {
    pub(crate) exported: Arc<[Exported]>,
    pub(crate) batches: Vec<Arc<BatchStats>>,
}

/// Puts together what an exporter shows.
#[derive(Debug, Default)]
pub(crate) struct Observing {
    exported: Vec<Exported>,
    types: Vec<String>,
}

impl Observing {
    /// Destinations of one name share their accounts, so they are told as one; and so are those that share a queue.
    pub(crate) fn lane(
        &mut self,
        destination: &Arc<DestinationAccounts>,
        signal: Signal,
        remote: &Remote,
        queue: &Arc<Queue>,
        gate: Option<&Arc<Gate>>,
        operations: &Timings,
    ) {
        let shown = |all: &[Exported]| {
            let mut queues = all.iter().flat_map(|each| &each.queues);
            queues.any(|each| Arc::ptr_eq(each, queue))
        };
        let fresh_queue = !shown(&self.exported);
        let known = |each: &&mut Exported| {
            Arc::ptr_eq(&each.destination, destination) && each.signal == signal
        };
        if let Some(same) = self.exported.iter_mut().find(known) {
            same.queues.extend(fresh_queue.then(|| Arc::clone(queue)));
            same.gates.extend(gate.cloned());
            same.operations.push(operations.clone());
            return;
        }
        let kind = remote.component_type(signal);
        let number = self.types.iter().filter(|each| **each == kind).count();
        let mut attributes = component(&kind, number).to_vec();
        self.types.push(kind);
        if let Some((address, port)) = &remote.server {
            attributes.push(KeyValue::new("server.address", address.clone()));
            attributes.push(KeyValue::new("server.port", i64::from(*port)));
        }
        attributes.push(KeyValue::new(
            "spandrel.destination",
            destination.name.clone(),
        ));
        let mut others = self.exported.iter();
        self.exported.push(Exported {
            first_of_destination: !others.any(|each| Arc::ptr_eq(&each.destination, destination)),
            destination: Arc::clone(destination),
            signal,
            attributes,
            queues: fresh_queue.then(|| Arc::clone(queue)).into_iter().collect(),
            gates: gate.cloned().into_iter().collect(),
            operations: vec![operations.clone()],
        });
    }

    pub(crate) fn end(self, batches: Vec<Arc<BatchStats>>) -> Observed {
        Observed {
            exported: self.exported.into(),
            batches,
        }
    }
}

/// Tells how long something took, each time, once the agent's own metrics listen. Not for what happens at each span.
#[derive(Clone, Debug, Default)]
pub struct Timings(Arc<OnceLock<(Histogram<f64>, Vec<KeyValue>)>>);

impl Timings {
    pub(crate) fn listen(&self, histogram: &Histogram<f64>, attributes: Vec<KeyValue>) {
        // Who listens first stays: there is one place for the agent's own metrics.
        self.0.get_or_init(|| (histogram.clone(), attributes));
    }

    pub(crate) fn record(&self, took: Duration, outcome: impl IntoIterator<Item = KeyValue>) {
        if let Some((histogram, attributes)) = self.0.get() {
            let mut attributes = attributes.clone();
            attributes.extend(outcome);
            histogram.record(took.as_secs_f64(), &attributes);
        }
    }
}
