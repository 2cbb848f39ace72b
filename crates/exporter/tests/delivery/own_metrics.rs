//! What the agent's own metrics say of an exporter, as it comes over the wire, is what has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as NumberValue;
use spandrel_exporter::metrics::{Aggregator, AggregatorSettings};
use spandrel_exporter::self_telemetry::{SelfTelemetry, SelfTelemetrySettings, catalogue};
use spandrel_exporter::{
    AttributeLimits, BatchSettings, DestinationSettings, Exporter, ExporterSettings, QueueSettings,
    Target, reason,
};
use spandrel_model::{Ledger, UnixTime};
use tokio::runtime::Handle;
use tonic::Code;

use crate::durable::stored;
use crate::metrics::batch;
use crate::server::{Answer, Received, Server};
use crate::{grpc, http, resource, settings, span};

pub(crate) type Attributes = BTreeMap<String, String>;

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) kind: &'static str,
    pub(crate) attributes: Attributes,
    /// Of a histogram its count.
    pub(crate) value: f64,
    /// Of a histogram.
    sum: f64,
}

fn text(attributes: &[KeyValue]) -> Attributes {
    let text = |kv: &KeyValue| match kv.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => panic!("not expected: {other:?}"),
    };
    attributes
        .iter()
        .map(|kv| (kv.key.clone(), text(kv)))
        .collect()
}

pub(crate) fn samples(received: &Received) -> Vec<Sample> {
    let resources = &received.metrics().resource_metrics;
    let scopes = resources.iter().flat_map(|r| &r.scope_metrics);
    let mut all = Vec::new();
    for metric in scopes.flat_map(|s| &s.metrics) {
        assert!(!metric.description.is_empty(), "{}", metric.name);
        let mut add = |kind, attributes: &[KeyValue], value, sum| {
            all.push(Sample {
                name: metric.name.clone(),
                unit: metric.unit.clone(),
                kind,
                attributes: text(attributes),
                value,
                sum,
            });
        };
        let (kind, points) = match metric.data.as_ref().unwrap() {
            Data::Sum(sum) if sum.is_monotonic => ("counter", &sum.data_points),
            Data::Sum(sum) => ("updowncounter", &sum.data_points),
            Data::Gauge(gauge) => ("gauge", &gauge.data_points),
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let (count, sum) = (point.count as f64, point.sum.unwrap());
                    add("histogram", &point.attributes, count, sum);
                }
                continue;
            }
            other => panic!("not expected: {other:?}"),
        };
        for point in points {
            let value = match point.value {
                Some(NumberValue::AsInt(value)) => value as f64,
                Some(NumberValue::AsDouble(value)) => value,
                None => panic!("no value: {point:?}"),
            };
            add(kind, &point.attributes, value, 0.0);
        }
    }
    all
}

/// The agent's own metrics into a server of their own.
struct Own {
    server: Server,
    telemetry: Arc<SelfTelemetry>,
    read: usize,
}

impl Own {
    async fn start(exporter: &Exporter, ledger: &Arc<Ledger>) -> Self {
        let server = Server::grpc(Vec::new()).await;
        let settings = SelfTelemetrySettings {
            endpoint: grpc(&server),
            interval: Duration::from_secs(3600),
            attributes: Vec::new(),
        };
        let telemetry = SelfTelemetry::start(settings, ledger, &Handle::current()).unwrap();
        telemetry.observe_exporter(&exporter.observed());
        Self {
            server,
            telemetry: Arc::new(telemetry),
            read: 0,
        }
    }

    /// What is told now.
    async fn read(&mut self) -> Told {
        let telemetry = Arc::clone(&self.telemetry);
        let flushed = tokio::task::spawn_blocking(move || telemetry.flush()).await;
        flushed.unwrap().unwrap();
        self.read += 1;
        let told = samples(&self.server.received(self.read).await[self.read - 1]);
        check_against_the_catalogue(&told);
        Told(told)
    }

    /// Reads until it is so.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Told) -> bool) -> Told {
        let reads = async {
            loop {
                let told = self.read().await;
                if is_so(&told) {
                    return told;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), reads).await;
        found.unwrap_or_else(|_| panic!("not within 20 s: {what}"))
    }
}

#[derive(Debug)]
struct Told(Vec<Sample>);

impl Told {
    fn all<'a>(
        &'a self,
        name: &'a str,
        attributes: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| {
            let has = |(key, value): &(&str, &str)| {
                sample.attributes.get(*key).map(String::as_str) == Some(*value)
            };
            sample.name == name && attributes.iter().all(has)
        })
    }

    /// The sum over all points with these attributes, if there are any.
    fn sum(&self, name: &str, attributes: &[(&str, &str)]) -> Option<f64> {
        let values: Vec<f64> = self.all(name, attributes).map(|s| s.value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// What ended at a destination, by error.type; "" is success.
    fn exported(&self, name: &str, destination: &str) -> BTreeMap<String, f64> {
        self.all(name, &[("spandrel.destination", destination)])
            .map(|sample| {
                let error = sample.attributes.get("error.type");
                (error.cloned().unwrap_or_default(), sample.value)
            })
            .filter(|(_, value)| *value > 0.0)
            .collect()
    }
}

fn check_against_the_catalogue(told: &[Sample]) {
    let mut seen = BTreeSet::new();
    for sample in told {
        let entry = catalogue::ALL
            .iter()
            .find(|entry| entry.name == sample.name);
        let entry = entry.unwrap_or_else(|| panic!("{} is not in the catalogue", sample.name));
        assert_eq!(
            (entry.unit, entry.kind.name()),
            (&*sample.unit, sample.kind),
            "{}",
            entry.name
        );
        for key in sample.attributes.keys() {
            assert!(
                entry.attributes.contains(&&**key),
                "{key} of {}",
                entry.name
            );
        }
        assert!(
            seen.insert((&sample.name, &sample.attributes)),
            "twice: {sample:?}"
        );
    }
}

fn named(name: &str, destination: DestinationSettings) -> DestinationSettings {
    DestinationSettings {
        name: name.to_owned(),
        ..destination
    }
}

fn start(destinations: Vec<DestinationSettings>) -> (Exporter, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let settings = ExporterSettings { destinations };
    let exporter = Exporter::start(settings, Arc::clone(&ledger), &Handle::current()).unwrap();
    (exporter, ledger)
}

fn export(exporter: &mut Exporter, spans: usize) {
    exporter.export_spans((0..spans).map(|n| (resource("shop"), span(n.to_string()))));
    exporter.flush();
}

const SPANS: &str = "otel.sdk.exporter.span.exported";
const SPANS_IN_FLIGHT: &str = "otel.sdk.exporter.span.inflight";

fn errors(expected: &[(&str, f64)]) -> BTreeMap<String, f64> {
    expected
        .iter()
        .map(|(error, count)| ((*error).to_owned(), *count))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_told_by_destination_as_they_ended() {
    let script = || vec![Answer::Accept, Answer::Partial(2, "no")];
    let by_grpc = Server::grpc({
        let mut script = script();
        script.push(Answer::Status(Code::PermissionDenied, None));
        script
    })
    .await;
    let by_http = Server::http({
        let mut script = script();
        script.push(Answer::Http(400, Vec::new(), Vec::new()));
        script
    })
    .await;
    let (mut exporter, ledger) = start(vec![
        named("near", settings(grpc(&by_grpc))),
        named("far", settings(http(&by_http))),
    ]);
    let mut own = Own::start(&exporter, &ledger).await;
    for (n, spans) in [3, 5, 7].into_iter().enumerate() {
        export(&mut exporter, spans);
        by_grpc.received(n + 1).await;
        by_http.received(n + 1).await;
    }
    assert!(exporter.shutdown(Duration::from_secs(10)).await.drained);
    let told = own.read().await;
    for (name, refusal, kind, server) in [
        (
            "near",
            "permanent_auth",
            "otlp_grpc_span_exporter",
            &by_grpc,
        ),
        (
            "far",
            "permanent_request",
            "otlp_http_span_exporter",
            &by_http,
        ),
    ] {
        let expected = errors(&[("", 6.0), ("rejected", 2.0), (refusal, 7.0)]);
        assert_eq!(told.exported(SPANS, name), expected);
        let account = ledger.destination(name).spans.snapshot();
        assert_eq!(expected.values().sum::<f64>(), account.seen as f64);
        let port = server.address.port().to_string();
        let attributes = [
            ("otel.component.type", kind),
            ("otel.component.name", &format!("{kind}/0")),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
            ("spandrel.destination", name),
        ];
        assert_eq!(told.sum(SPANS_IN_FLIGHT, &attributes), Some(0.0));
        assert_eq!(told.sum(SPANS, &attributes), Some(15.0));
        for (reason, count) in &account.dropped {
            let attributes = [
                ("spandrel.destination", name),
                ("spandrel.signal", "traces"),
                ("spandrel.reason", *reason),
            ];
            let dropped = told.sum("spandrel.exporter.dropped", &attributes);
            assert_eq!(dropped, Some(*count as f64));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_stay_in_flight_over_retries_and_the_wait_is_told() {
    let wish = Duration::from_secs(1);
    let server = Server::grpc(vec![
        Answer::Status(Code::Unavailable, None),
        Answer::Status(Code::Unavailable, None),
        Answer::Status(Code::Unavailable, Some(wish)),
    ])
    .await;
    let (mut exporter, ledger) = start(vec![named("only", settings(grpc(&server)))]);
    let mut own = Own::start(&exporter, &ledger).await;
    let lane = [
        ("spandrel.destination", "only"),
        ("spandrel.signal", "traces"),
    ];
    let told = own.read().await;
    assert_eq!(told.sum("spandrel.exporter.throttled", &lane), Some(0.0));
    export(&mut exporter, 4);
    server.received(3).await;
    let throttled = |told: &Told| told.sum("spandrel.exporter.throttled", &lane) == Some(1.0);
    let told = own.until("the server's wish holds", throttled).await;
    let wait = told.sum("spandrel.exporter.backoff", &lane).unwrap();
    assert!(wait > 0.0 && wait < 2.0, "{wait}");
    let failed = told.sum("spandrel.exporter.failed_attempts", &lane);
    assert_eq!(failed, Some(3.0));
    assert_eq!(told.sum(SPANS_IN_FLIGHT, &[]), Some(4.0));
    assert_eq!(told.exported(SPANS, "only"), errors(&[]));
    server.received(4).await;
    assert!(exporter.shutdown(Duration::from_secs(10)).await.drained);
    let told = own.read().await;
    assert_eq!(told.sum(SPANS_IN_FLIGHT, &[]), Some(0.0));
    assert_eq!(told.exported(SPANS, "only"), errors(&[("", 4.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_hanging_destination_are_told_beside_a_healthy_one() {
    let stuck = Server::grpc(vec![Answer::Hang; 8]).await;
    let healthy = Server::http(Vec::new()).await;
    let small = QueueSettings {
        queue_size: 600,
        num_consumers: 1,
        ..QueueSettings::default()
    };
    let (mut exporter, ledger) = start(vec![
        named(
            "stuck",
            DestinationSettings {
                queue: small,
                ..settings(grpc(&stuck))
            },
        ),
        named("healthy", settings(http(&healthy))),
    ]);
    let mut own = Own::start(&exporter, &ledger).await;
    export(&mut exporter, 1);
    stuck.received(1).await;
    for _ in 1..20 {
        export(&mut exporter, 1);
    }
    healthy.received(20).await;
    let arrived = |told: &Told| told.exported(SPANS, "healthy") == errors(&[("", 20.0)]);
    let told = own.until("the healthy one has all of it", arrived).await;
    let account = ledger.destination("stuck").spans.snapshot();
    let full = account.dropped[reason::QUEUE_FULL] as f64;
    assert_eq!(
        told.exported(SPANS, "stuck"),
        errors(&[("queue_full", full)])
    );
    let stuck_lane = [
        ("spandrel.destination", "stuck"),
        ("spandrel.signal", "traces"),
    ];
    let of = |name: &str| told.sum(name, &stuck_lane).unwrap();
    let waiting = of("spandrel.exporter.queue.requests");
    assert_eq!(
        waiting + 1.0,
        told.sum(SPANS_IN_FLIGHT, &stuck_lane[..1]).unwrap(),
        "one is sent, the others wait, each with one span"
    );
    assert_eq!(full + waiting + 1.0, 20.0);
    assert_eq!(of("spandrel.exporter.queue.capacity"), 600.0);
    let bytes = of("spandrel.exporter.queue.size");
    assert!(bytes > 0.0 && bytes <= 600.0, "{bytes}");
    assert!(of("spandrel.exporter.queue.oldest_age") > 0.0);
    let healthy_lane = [
        ("spandrel.destination", "healthy"),
        ("spandrel.signal", "traces"),
    ];
    for name in ["size", "requests", "oldest_age"] {
        let name = format!("spandrel.exporter.queue.{name}");
        assert_eq!(told.sum(&name, &healthy_lane), Some(0.0), "{name}");
    }
    exporter.shutdown(Duration::from_millis(100)).await;
    let told = own.read().await;
    let ended = told.exported(SPANS, "stuck");
    assert_eq!(ended["shutdown_deadline"], waiting + 1.0);
    assert_eq!(ended.values().sum::<f64>(), 20.0);
    assert_eq!(
        told.sum("spandrel.ledger.spans", &[("spandrel.state", "seen")]),
        Some(40.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_is_timed_once_over_all_its_attempts() {
    const TIMES: &str = "otel.sdk.exporter.operation.duration";
    let wish = Duration::from_secs(1);
    let by_grpc = Server::grpc(vec![
        Answer::Accept,
        Answer::Status(Code::Unavailable, Some(wish)),
        Answer::Partial(1, "no"),
        Answer::Status(Code::PermissionDenied, None),
        Answer::Hang,
    ])
    .await;
    let by_http = Server::http(vec![
        Answer::Http(503, Vec::new(), Vec::new()),
        Answer::Accept,
        Answer::Http(400, Vec::new(), Vec::new()),
    ])
    .await;
    let (mut exporter, ledger) = start(vec![
        named("near", settings(grpc(&by_grpc))),
        named("far", settings(http(&by_http))),
    ]);
    let mut own = Own::start(&exporter, &ledger).await;
    // In order, so that each meets the answer that is meant for it.
    for (by_near, by_far) in [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (3.0, 4.0)] {
        export(&mut exporter, 2);
        let ended = |told: &Told| {
            let near = told.sum(TIMES, &[("spandrel.destination", "near")]);
            let far = told.sum(TIMES, &[("spandrel.destination", "far")]);
            (near, far) == (Some(by_near), Some(by_far))
        };
        own.until("the operations ended", ended).await;
    }
    by_grpc.received(5).await;
    exporter.shutdown(Duration::from_millis(100)).await;
    let told = own.read().await;
    let near = [("spandrel.destination", "near")];
    for (status, error, least) in [
        ("OK", None, 0.0),
        ("OK", Some("rejected"), 1.0),
        ("PERMISSION_DENIED", Some("permanent_auth"), 0.0),
    ] {
        let attributes = [near[0], ("rpc.response.status_code", status)];
        let of: Vec<_> = told
            .all(TIMES, &attributes)
            .filter(|sample| sample.attributes.get("error.type").map(String::as_str) == error)
            .collect();
        assert_eq!(of.len(), 1, "{status} {error:?}: {of:?}");
        assert_eq!(of[0].value, 1.0, "{of:?}");
        assert!(of[0].sum >= least, "with the wait between: {of:?}");
    }
    let cut_off = [near[0], ("error.type", "shutdown_deadline")];
    assert_eq!(told.sum(TIMES, &cut_off), Some(1.0));
    assert_eq!(told.sum(TIMES, &near), Some(4.0));
    let far = |status, error: Option<&str>| {
        let attributes = [
            ("spandrel.destination", "far"),
            ("http.response.status_code", status),
        ];
        told.all(TIMES, &attributes)
            .filter(|sample| sample.attributes.get("error.type").map(String::as_str) == error)
            .map(|sample| sample.value)
            .sum::<f64>()
    };
    assert_eq!(far("200", None), 3.0);
    assert_eq!(far("400", Some("permanent_request")), 1.0);
    assert_eq!(far("503", None), 0.0, "retried, and so no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_told_while_they_fill_and_what_no_batch_takes() {
    let server = Server::grpc(Vec::new()).await;
    let (mut exporter, ledger) = start(vec![named(
        "only",
        DestinationSettings {
            batch: BatchSettings {
                max_export_batch_size: 3,
                max_request_bytes: 2000,
                ..BatchSettings::default()
            },
            ..settings(grpc(&server))
        },
    )]);
    let mut own = Own::start(&exporter, &ledger).await;
    let long = "x".repeat(3000);
    exporter.export_spans((0..4).map(|n| (resource("shop"), span(n.to_string()))));
    exporter.export_spans([(resource("shop"), span(long))]);
    exporter.export_spans([(resource("shop"), span("6"))]);
    let told = own.read().await;
    let component = [
        ("otel.component.type", "batching_span_processor"),
        ("otel.component.name", "batching_span_processor/0"),
    ];
    let of = |told: &Told, name: &str| {
        let name = format!("otel.sdk.processor.span.{name}");
        told.sum(&name, &component).unwrap()
    };
    assert_eq!(of(&told, "queue.capacity"), 3.0);
    // The one that was too large sent what waited before it.
    assert_eq!(of(&told, "queue.size"), 1.0);
    let processed = "otel.sdk.processor.span.processed";
    assert_eq!(
        told.sum(processed, &[("error.type", "too_large")]),
        Some(1.0)
    );
    assert_eq!(of(&told, "processed"), 4.0 + 1.0);
    assert!(exporter.shutdown(Duration::from_secs(10)).await.drained);
    let told = own.read().await;
    assert_eq!(of(&told, "queue.size"), 0.0);
    assert_eq!(of(&told, "processed"), 5.0 + 1.0);
    assert_eq!(told.exported(SPANS, "only"), errors(&[("", 5.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn points_cuts_collections_and_the_process_are_told() {
    let server = Server::grpc(vec![Answer::Partial(2, "no")]).await;
    let (mut exporter, ledger) = start(vec![named(
        "only",
        DestinationSettings {
            metrics: Some(Target::Otlp(grpc(&server))),
            limits: AttributeLimits {
                value_length: 2,
                span_value_length: 2,
                ..AttributeLimits::default()
            },
            ..DestinationSettings::default()
        },
    )]);
    let mut own = Own::start(&exporter, &ledger).await;
    let mut aggregator = Aggregator::new(AggregatorSettings::default(), Arc::default());
    own.telemetry.observe_collections(&[
        Aggregator::new(AggregatorSettings::default(), Arc::default()).collections(),
        aggregator.collections(),
    ]);
    aggregator.collect(UnixTime(1));
    aggregator.collect(UnixTime(2));
    exporter.export_metrics(batch(5, &ledger));
    server.received(1).await;
    assert!(exporter.shutdown(Duration::from_secs(10)).await.drained);
    let told = own.read().await;
    assert_eq!(
        told.exported("otel.sdk.exporter.metric_data_point.exported", "only"),
        errors(&[("", 3.0), ("rejected", 2.0)])
    );
    assert_eq!(
        told.sum("otel.sdk.exporter.metric_data_point.inflight", &[]),
        Some(0.0)
    );
    let (_, values) = ledger.destination("only").cut_counts();
    assert!(values > 0, "the service's name is longer than two bytes");
    let of_only = [("spandrel.destination", "only")];
    assert_eq!(
        told.sum("spandrel.exporter.cut.values", &of_only),
        Some(values as f64)
    );
    let second = [("otel.component.name", "periodic_metric_reader/1")];
    let name = "otel.sdk.metric_reader.collection.duration";
    assert_eq!(told.sum(name, &second), Some(2.0), "collections");
    assert!(told.all(name, &second).all(|sample| sample.sum > 0.0));
    assert!(told.sum("process.cpu.time", &[("cpu.mode", "user")]) >= Some(0.0));
    assert!(told.sum("process.memory.usage", &[]) > Some(1_000_000.0));
    assert!(told.sum("process.thread.count", &[]) > Some(1.0));
    assert!(told.sum("process.unix.file_descriptor.count", &[]) > Some(2.0));
    let version = [("spandrel.build.version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(told.sum("spandrel.build.info", &version), Some(1.0));
}

/// Damages the one request on disk that has these words in it.
fn damage(directory: &std::path::Path, words: &str) {
    let mut damaged = 0;
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let mut windows = bytes.windows(words.len());
            if let Some(at) = windows.position(|window| window == words.as_bytes()) {
                bytes[at] ^= 1;
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_on_disk_is_told_with_what_is_damaged_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let lane = [
        ("spandrel.destination", "main"),
        ("spandrel.signal", "traces"),
    ];
    let of = |told: &Told, name: &str| {
        let name = format!("spandrel.exporter.{name}");
        told.sum(&name, &lane).unwrap()
    };
    let hanging = Server::grpc(vec![Answer::Hang; 8]).await;
    let (mut exporter, ledger) = start(vec![stored(directory.path(), &hanging)]);
    let mut own = Own::start(&exporter, &ledger).await;
    for name in ["first", "second", "damaged words", "last"] {
        exporter.export_spans([(resource("shop"), span(name))]);
        exporter.flush();
    }
    hanging.received(1).await;
    let told = own.read().await;
    assert_eq!(of(&told, "queue.requests"), 4.0, "that in hand is kept too");
    assert_eq!(of(&told, "queue.capacity"), f64::from(1 << 30));
    assert!(of(&told, "disk.size") >= of(&told, "queue.size"));
    assert!(of(&told, "queue.size") > 400.0);
    assert!(of(&told, "queue.oldest_age") > 0.0);
    assert_eq!(of(&told, "disk.working"), 1.0);
    assert_eq!(of(&told, "disk.errors") + of(&told, "disk.corrupt"), 0.0);
    exporter.shutdown(Duration::from_millis(100)).await;
    let told = own.read().await;
    assert_eq!(told.sum(SPANS_IN_FLIGHT, &[]), Some(4.0), "on the disk");

    damage(directory.path(), "damaged words");
    let healthy = Server::grpc(Vec::new()).await;
    let (exporter, ledger) = start(vec![stored(directory.path(), &healthy)]);
    let mut own = Own::start(&exporter, &ledger).await;
    healthy.received(3).await;
    assert!(exporter.shutdown(Duration::from_secs(10)).await.drained);
    let told = own.read().await;
    assert_eq!(of(&told, "disk.corrupt"), 1.0);
    let ended = told.exported(SPANS, "main");
    let account = ledger.destination("main").spans.snapshot();
    assert_eq!(ended.values().sum::<f64>(), account.seen as f64);
    assert_eq!(ended[""], 3.0);
    assert_eq!(told.sum(SPANS_IN_FLIGHT, &[]), Some(0.0));
}
