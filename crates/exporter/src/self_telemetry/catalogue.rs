//! Every metric that this crate has of the agent. Instruments are built from entries only, and the documentation is
//! checked against them.

use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter};
use opentelemetry_semantic_conventions::metric as names;

/// What an instrument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up only.
    Counter,
    /// Can be added up over its attributes, and goes down too.
    UpDownCounter,
    /// A value as it is now.
    Gauge,
    /// How often which value occurred.
    Histogram,
}

impl Kind {
    /// The conventions' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::UpDownCounter => "updowncounter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric of the agent itself: one of [`ALL`], or of another part of the agent.
#[derive(Debug)]
pub struct Entry {
    /// Its name; that of the semantic conventions where they have one.
    pub name: &'static str,
    /// Its instrument.
    pub kind: Kind,
    /// Its unit, in UCUM.
    pub unit: &'static str,
    /// The keys of its attributes; not each point has all of them.
    pub attributes: &'static [&'static str],
    /// What it counts.
    pub description: &'static str,
}

/// Builds an observable instrument of an entry.
macro_rules! observable {
    ($method:ident, $number:ty, $kind:ident, $builder:ident) => {
        pub(super) fn $method(
            &self,
            meter: &Meter,
            observe: impl Fn(&dyn AsyncInstrument<$number>) + Send + Sync + 'static,
        ) {
            debug_assert_eq!(self.kind, Kind::$kind, "{}", self.name);
            let builder = meter.$builder(self.name).with_unit(self.unit);
            let builder = builder.with_description(self.description);
            builder.with_callback(observe).build();
        }
    };
}

impl Entry {
    /// Its row in docs/self-telemetry.md.
    pub fn row(&self) -> String {
        let attributes: Vec<String> = self
            .attributes
            .iter()
            .map(|key| format!("`{key}`"))
            .collect();
        format!(
            "| `{}` | {} | `{}` | {} | {} |",
            self.name,
            self.kind.name(),
            self.unit,
            attributes.join(", "),
            self.description
        )
    }

    observable!(counter, u64, Counter, u64_observable_counter);
    observable!(seconds, f64, Counter, f64_observable_counter);
    observable!(up_down, i64, UpDownCounter, i64_observable_up_down_counter);
    observable!(gauge, u64, Gauge, u64_observable_gauge);
    observable!(duration, f64, Gauge, f64_observable_gauge);

    pub(super) fn histogram(&self, meter: &Meter, bounds: &[f64]) -> Histogram<f64> {
        debug_assert_eq!(self.kind, Kind::Histogram, "{}", self.name);
        let builder = meter.f64_histogram(self.name).with_unit(self.unit);
        let builder = builder.with_description(self.description);
        builder.with_boundaries(bounds.to_vec()).build()
    }
}

const EXPORT: &[&str] = &[
    "otel.component.type",
    "otel.component.name",
    "server.address",
    "server.port",
    "spandrel.destination",
    "error.type",
];
const OPERATION: &[&str] = &[
    "otel.component.type",
    "otel.component.name",
    "server.address",
    "server.port",
    "spandrel.destination",
    "http.response.status_code",
    "rpc.response.status_code",
    "error.type",
];
const IN_FLIGHT: &[&str] = &[
    "otel.component.type",
    "otel.component.name",
    "server.address",
    "server.port",
    "spandrel.destination",
];
const COMPONENT: &[&str] = &["otel.component.type", "otel.component.name"];
const STATE: &[&str] = &["spandrel.state", "spandrel.reason"];
const LANE: &[&str] = &["spandrel.destination", "spandrel.signal"];

const EXPORTED: &str =
    "Exports that ended, with success or with an error.type; retries are no ends.";
const INFLIGHT: &str = "Handed to the exporter and not ended, waits and retries included.";
const LEDGER: &str = "What was seen, and where each of it ended.";

/// Declares the entries and the list of all of them.
macro_rules! entries {
    ($($constant:ident: $kind:ident, $name:expr, $unit:literal, $attributes:expr, $description:expr;)*) => {
        $(
            pub(super) const $constant: Entry = Entry {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                attributes: $attributes,
                description: $description,
            };
        )*
        /// All of them, in the order of the documentation.
        pub const ALL: &[Entry] = &[$($constant),*];
    };
}

entries! {
    SPAN_EXPORTED: Counter, names::OTEL_SDK_EXPORTER_SPAN_EXPORTED, "{span}", EXPORT, EXPORTED;
    SPAN_INFLIGHT: UpDownCounter, names::OTEL_SDK_EXPORTER_SPAN_INFLIGHT, "{span}", IN_FLIGHT, INFLIGHT;
    POINT_EXPORTED: Counter, names::OTEL_SDK_EXPORTER_METRIC_DATA_POINT_EXPORTED, "{data_point}", EXPORT, EXPORTED;
    POINT_INFLIGHT: UpDownCounter, names::OTEL_SDK_EXPORTER_METRIC_DATA_POINT_INFLIGHT, "{data_point}", IN_FLIGHT, INFLIGHT;
    LOG_EXPORTED: Counter, names::OTEL_SDK_EXPORTER_LOG_EXPORTED, "{log_record}", EXPORT, EXPORTED;
    LOG_INFLIGHT: UpDownCounter, names::OTEL_SDK_EXPORTER_LOG_INFLIGHT, "{log_record}", IN_FLIGHT, INFLIGHT;
    OPERATION_DURATION: Histogram, names::OTEL_SDK_EXPORTER_OPERATION_DURATION, "s", OPERATION,
        "From the first attempt to send a request to its end, retries and waits included.";
    PROCESSOR_QUEUE_SIZE: UpDownCounter, names::OTEL_SDK_PROCESSOR_SPAN_QUEUE_SIZE, "{span}", COMPONENT,
        "Spans in a batch that is not full yet.";
    PROCESSOR_QUEUE_CAPACITY: UpDownCounter, names::OTEL_SDK_PROCESSOR_SPAN_QUEUE_CAPACITY, "{span}", COMPONENT,
        "Most spans of a batch.";
    PROCESSOR_PROCESSED: Counter, names::OTEL_SDK_PROCESSOR_SPAN_PROCESSED, "{span}",
        &["otel.component.type", "otel.component.name", "error.type"],
        "Spans in batches that went on to the destinations, and spans too large for any batch.";
    COLLECTION_DURATION: Histogram, names::OTEL_SDK_METRIC_READER_COLLECTION_DURATION, "s", COMPONENT,
        "How long it took to make points of what was measured.";
    QUEUE_SIZE: UpDownCounter, "spandrel.exporter.queue.size", "By", LANE,
        "Bytes that wait to be sent.";
    QUEUE_CAPACITY: UpDownCounter, "spandrel.exporter.queue.capacity", "By", LANE,
        "Most bytes that may wait to be sent.";
    QUEUE_REQUESTS: UpDownCounter, "spandrel.exporter.queue.requests", "{request}", LANE,
        "Requests that wait to be sent.";
    QUEUE_AGE: Gauge, "spandrel.exporter.queue.oldest_age", "s", LANE,
        "How long the oldest request has waited; 0 for an empty queue.";
    DISK_SIZE: UpDownCounter, "spandrel.exporter.disk.size", "By", LANE,
        "Bytes of the files of a queue on disk.";
    DISK_CORRUPT: Counter, "spandrel.exporter.disk.corrupt", "{record}", LANE,
        "Requests on disk that were found damaged.";
    DISK_QUARANTINED: Counter, "spandrel.exporter.disk.quarantined", "{file}", LANE,
        "How often something damaged on disk was set aside.";
    DISK_TORN: Counter, "spandrel.exporter.disk.torn", "By", LANE,
        "Bytes of a request that a kill cut off while it was written, found at the start.";
    DISK_ERRORS: Counter, "spandrel.exporter.disk.errors", "{error}",
        &["spandrel.destination", "spandrel.signal", "spandrel.disk.operation"],
        "Failed tries to write to the disk, and to force it to keep what was written.";
    DISK_WORKING: Gauge, "spandrel.exporter.disk.working", "1", LANE,
        "1 while the disk takes what it gets; 0 while requests wait in memory for it.";
    DROPPED: Counter, "spandrel.exporter.dropped", "{item}",
        &["spandrel.destination", "spandrel.signal", "spandrel.reason"],
        "Spans, points and records that a destination did not get, by the ledger's reason.";
    BACKOFF: Gauge, "spandrel.exporter.backoff", "s", LANE,
        "Time until the next attempt may be made; 0 where nothing forbids it.";
    THROTTLED: Gauge, "spandrel.exporter.throttled", "1", LANE,
        "1 while the server's own wish to wait is waited out, else 0.";
    FAILED_ATTEMPTS: Counter, "spandrel.exporter.failed_attempts", "{attempt}", LANE,
        "Attempts that failed in a way that allows another.";
    CUT_ATTRIBUTES: Counter, "spandrel.exporter.cut.attributes", "{attribute}", &["spandrel.destination"],
        "Attributes left out for the limits of a destination.";
    CUT_VALUES: Counter, "spandrel.exporter.cut.values", "{value}", &["spandrel.destination"],
        "Values shortened for the limits of a destination.";
    LEDGER_MESSAGES: Counter, "spandrel.ledger.messages", "{message}", STATE, LEDGER;
    LEDGER_EXCHANGES: Counter, "spandrel.ledger.exchanges", "{exchange}", STATE, LEDGER;
    LEDGER_SPANS: Counter, "spandrel.ledger.spans", "{span}", STATE, LEDGER;
    LEDGER_MEASUREMENTS: Counter, "spandrel.ledger.measurements", "{measurement}", STATE, LEDGER;
    LEDGER_POINTS: Counter, "spandrel.ledger.metric_points", "{data_point}", STATE, LEDGER;
    LEDGER_RECORDS: Counter, "spandrel.ledger.log_records", "{log_record}", STATE, LEDGER;
    LEDGER_IN_FLIGHT: UpDownCounter, "spandrel.ledger.in_flight", "{item}", &["spandrel.account"],
        "What is on its way.";
    LOST_MESSAGES: UpDownCounter, "spandrel.ledger.lost_messages", "{message}", &["spandrel.cgroup.id"],
        "Messages lost under overload, by the cgroup whose they were: the ten that lost most, and others.";
    UNSEARCHED: Counter, "spandrel.ledger.unsearched", "By", &[],
        "Bytes passed over in which requests or responses may have begun: how many is not known.";
    BROKEN_PAIRINGS: Counter, "spandrel.ledger.broken_pairings", "{pairing}", &[],
        "How often the number of requests on a connection became unknown.";
    CARDINALITY: Gauge, "spandrel.metric.cardinality", "{value}",
        &["spandrel.metric.name", "spandrel.service.name", "spandrel.attribute.key"],
        "Distinct values of an attribute of a metric that overflows.";
    OVERFLOW: Counter, "spandrel.metric.overflow", "{measurement}",
        &["spandrel.metric.name", "spandrel.service.name"],
        "Measurements in overflow series, by metric and service.";
    REFUSED: Counter, "spandrel.metric.refused", "{measurement}", &[],
        "Measurements left out: negative, or no finite number.";
    EVICTED: Counter, "spandrel.metric.evicted", "{series}", &[],
        "Series of running processes that ended for want of room; they begin anew when they are measured again.";
    CPU_TIME: Counter, names::PROCESS_CPU_TIME, "s", &["cpu.mode"],
        "CPU time of the agent.";
    MEMORY: UpDownCounter, names::PROCESS_MEMORY_USAGE, "By", &[],
        "Physical memory of the agent.";
    THREADS: UpDownCounter, names::PROCESS_THREAD_COUNT, "{thread}", &[],
        "Threads of the agent.";
    DESCRIPTORS: UpDownCounter, names::PROCESS_UNIX_FILE_DESCRIPTOR_COUNT, "{file_descriptor}", &[],
        "Open file descriptors of the agent.";
    BUILD: Gauge, "spandrel.build.info", "1", &["spandrel.build.version", "spandrel.build.target", "spandrel.build.debug"],
        "Always 1: its attributes tell which program this is.";
}
