//! An exporter in the test's own process, and what it sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use spandrel_exporter::logs::{LogRecord, ResourceLogs};
use spandrel_exporter::metrics::{
    Exemplar, ExponentialPoint, HistogramPoint, Metric, MetricData, Number, NumberPoint, PointHead,
    ResourceMetrics, Summary, Temporality,
};
use spandrel_exporter::{
    Compression, DestinationSettings, Exporter, OtlpSettings, Protocol, RetrySettings, Target,
};
use spandrel_model::ledger::Snapshot;
use spandrel_model::{
    Attribute, Ledger, ProcessKey, Resource, SpanId, SpanKind, SpanRecord, SpanStatus, TraceId,
    UnixTime, Value,
};
use tokio::runtime::Runtime;

use super::collector::Collector;
use super::machine::wait_until;
use super::proto::spans_of;

/// Some time in 2027.
const EPOCH: u64 = 1_800_000_000_000_000_000;
const LIMIT: Duration = Duration::from_secs(30);

/// One endpoint for all three signals. HTTP has a path for each.
pub(crate) fn destination(
    protocol: Protocol,
    endpoint: &str,
    change: impl Fn(&mut OtlpSettings),
) -> DestinationSettings {
    let target = |signal: &str| {
        let endpoint = match protocol {
            Protocol::Grpc => endpoint.to_owned(),
            _ => format!("{endpoint}/v1/{signal}"),
        };
        let mut settings = OtlpSettings::new(protocol, endpoint);
        change(&mut settings);
        Some(Target::Otlp(settings))
    };
    DestinationSettings {
        name: "collector".to_owned(),
        traces: target("traces"),
        metrics: target("metrics"),
        logs: target("logs"),
        // A test has no time to wait for a second.
        retry: RetrySettings {
            initial_interval: Duration::from_millis(10),
            max_interval: Duration::from_millis(50),
            ..RetrySettings::default()
        },
        ..DestinationSettings::default()
    }
}

/// Nothing but this compression.
pub(crate) fn compressed(compression: Compression) -> impl Fn(&mut OtlpSettings) {
    move |settings| settings.compression = compression
}

/// An exporter with the runtime that its workers run on.
pub(crate) struct Sending {
    pub(crate) exporter: Exporter,
    pub(crate) ledger: Arc<Ledger>,
    runtime: Runtime,
}

impl Sending {
    pub(crate) fn start(destination: DestinationSettings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let ledger = Arc::new(Ledger::default());
        let exporter = Exporter::start(destination, Arc::clone(&ledger), runtime.handle()).unwrap();
        Self {
            exporter,
            ledger,
            runtime,
        }
    }

    /// Hands spans over and sends them at once.
    pub(crate) fn send(&mut self, spans: impl IntoIterator<Item = (Arc<Resource>, SpanRecord)>) {
        self.exporter.export_spans(spans);
        self.exporter.flush();
    }

    /// Waits until the ledger of spans is as asked for: it has no event.
    pub(crate) fn wait_for(&self, what: &str, met: impl Fn(&Snapshot) -> bool) {
        wait_until(what, LIMIT, || met(&self.ledger.spans.snapshot()));
    }

    /// Ends it after everything has been sent, or after the limit. The ledger is closed.
    pub(crate) fn end(self, limit: Duration) -> Arc<Ledger> {
        let Self {
            exporter,
            ledger,
            runtime,
        } = self;
        runtime.block_on(exporter.shutdown(limit));
        assert!(ledger.is_closed(), "{}", ledger.to_json());
        ledger
    }

    /// Waits until a destination has all that was handed over, and ends.
    pub(crate) fn drain(self) -> Arc<Ledger> {
        let begun = Instant::now();
        let ledger = self.end(LIMIT);
        assert!(begun.elapsed() < LIMIT, "not sent within {LIMIT:?}");
        ledger
    }
}

/// A resource of a service.
pub(crate) fn resource(service: &str) -> Arc<Resource> {
    Arc::new(Resource::new(vec![
        Attribute::new("service.name", service.to_owned()),
        Attribute::new("process.pid", 4711_i64),
        Attribute::new("process.command_args", list(&["till", "--open"])),
    ]))
}

fn list(texts: &[&str]) -> Value {
    Value::StrArray(texts.iter().map(|text| (*text).to_owned().into()).collect())
}

/// A number that can be told from the item.
fn bytes<const N: usize>(number: u64) -> [u8; N] {
    let mut bytes = [0xa5; N];
    bytes[N - 8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// All zeros are no id.
fn span_id(number: u64) -> SpanId {
    SpanId(bytes(number + 1))
}

/// The number of a span, from its id.
pub(crate) fn number_of(span_id: &[u8]) -> u64 {
    u64::from_be_bytes(span_id.try_into().unwrap()) - 1
}

/// The numbers of the spans that a Collector has written, in the order of its file.
pub(crate) fn numbers_of(collector: &Collector) -> Vec<u64> {
    let spans = spans_of(collector.requests("traces"));
    let numbers = spans.iter().map(|span| number_of(&span.item.span_id));
    numbers.collect()
}

/// A span of which the id tells the number. Between them they use every field and every type of attribute.
pub(crate) fn span(number: u64) -> SpanRecord {
    let odd = number % 2 == 1;
    SpanRecord {
        trace_id: TraceId(bytes(number / 3 + 1)),
        span_id: span_id(number),
        parent_span_id: odd.then(|| span_id(number + (1 << 40))),
        parent_is_remote: number.is_multiple_of(3),
        trace_begun_here: false,
        trace_flags: u8::from(odd),
        trace_state: if odd { "ot=th:8,shop=open" } else { "" }.into(),
        name: format!("GET /article/{number}").into(),
        kind: [
            SpanKind::Internal,
            SpanKind::Server,
            SpanKind::Client,
            SpanKind::Producer,
            SpanKind::Consumer,
        ][number as usize % 5],
        start: UnixTime(EPOCH + number * 1000),
        end: UnixTime(EPOCH + number * 1000 + 999),
        attributes: vec![
            Attribute::new("url.path", format!("/article/{number}?größe=\"xl\"\n")),
            Attribute::new("http.response.status_code", number as i64 - 200),
            Attribute::new("server.load", number as f64 / 256.0),
            Attribute::new("cached", odd),
            Attribute::new(
                "http.request.header.accept",
                list(&["text/html", "", "*/*"]),
            ),
        ],
        dropped_attributes: (number % 4) as u32,
        status: if number.is_multiple_of(7) {
            SpanStatus::Error(format!("no article {number}").into())
        } else {
            SpanStatus::Unset
        },
        process: ProcessKey {
            tgid: 1,
            started: 1,
        },
        cgroup: 0,
    }
}

fn head(number: u64) -> PointHead {
    PointHead {
        attributes: vec![
            Attribute::new("http.request.method", "GET"),
            Attribute::new("article", number as i64),
        ]
        .into(),
        start: UnixTime(EPOCH),
        time: UnixTime(EPOCH + number + 1),
        exemplars: vec![Exemplar {
            time: UnixTime(EPOCH + number),
            value: number as f64 / 128.0 + 0.5,
            trace_id: TraceId(bytes(number + 1)),
            span_id: span_id(number),
        }],
    }
}

fn summary(number: u64) -> Summary {
    Summary {
        count: number + 6,
        sum: number as f64 / 4.0 + 1.0,
        min: 0.125,
        max: number as f64 + 0.25,
    }
}

/// Every kind of metric there is, with `points` points each.
pub(crate) fn metrics(resource: &Arc<Resource>, points: u64) -> ResourceMetrics {
    let numbers = |value: fn(u64) -> Number| -> Vec<NumberPoint> {
        let point = |number| NumberPoint {
            head: head(number),
            value: value(number),
        };
        (0..points).map(point).collect()
    };
    let histograms = |temporality| {
        let point = |number| HistogramPoint {
            head: head(number),
            summary: summary(number),
            bounds: [0.005, 0.25, 10.0].into(),
            counts: vec![number, 1, 2, 3],
        };
        MetricData::Histogram(temporality, (0..points).map(point).collect())
    };
    let exponentials = |temporality| {
        let point = |number: u64| ExponentialPoint {
            head: head(number),
            summary: summary(number),
            scale: number as i32 - 3,
            zero_count: number + 1,
            offset: 4 - number as i32,
            counts: vec![number + 1, 0, 5],
        };
        MetricData::ExponentialHistogram(temporality, (0..points).map(point).collect())
    };
    let metric = |name: &'static str, data| Metric {
        name: name.into(),
        unit: "s".into(),
        description: "how it was".into(),
        data,
    };
    let integer = |number| Number::I64(number as i64 - 5);
    let double = |number| Number::F64(number as f64 / 256.0 + 0.5);
    use Temporality::{Cumulative, Delta};
    ResourceMetrics {
        resource: Arc::clone(resource),
        metrics: vec![
            metric(
                "sum.monotonic",
                MetricData::Sum(Cumulative, true, numbers(double)),
            ),
            metric(
                "sum.up.down",
                MetricData::Sum(Delta, false, numbers(integer)),
            ),
            metric("gauge.integer", MetricData::Gauge(numbers(integer))),
            metric("gauge.double", MetricData::Gauge(numbers(double))),
            metric("histogram.delta", histograms(Delta)),
            metric("histogram.cumulative", histograms(Cumulative)),
            metric("exponential.delta", exponentials(Delta)),
            metric("exponential.cumulative", exponentials(Cumulative)),
        ],
    }
}

/// How many points [`metrics`] makes of `points`.
pub(crate) const METRICS: u64 = 8;

/// Log records with and without a span, body and severity.
pub(crate) fn logs(resource: &Arc<Resource>, records: u64) -> ResourceLogs {
    let record = |number: u64| {
        let odd = number % 2 == 1;
        LogRecord {
            time: odd.then_some(UnixTime(EPOCH + number)),
            observed: UnixTime(EPOCH + number + 1),
            severity_number: (number % 25) as u8,
            severity_text: if odd { "WARN" } else { "" }.into(),
            body: Some(match number % 3 {
                0 => Value::from(format!("the till {number} is full")),
                1 => Value::I64(number as i64),
                _ => list(&["a", "b"]),
            }),
            attributes: vec![Attribute::new("log.record.number", number as i64)],
            dropped_attributes: (number % 2) as u32,
            span: odd.then(|| (TraceId(bytes(number)), span_id(number), 1)),
            event_name: if odd { "" } else { "till.full" }.into(),
        }
    };
    ResourceLogs {
        resource: Arc::clone(resource),
        records: (0..records).map(record).collect(),
    }
}
