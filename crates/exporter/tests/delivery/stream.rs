//! OTLP JSON lines on a stream and in a file, and the probe of an endpoint.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spandrel_exporter::metrics::{Aggregator, AggregatorSettings, HistogramSettings, Temporality};
use spandrel_exporter::{
    ConsoleFormat, DestinationSettings, Exporter, ExporterError, OtlpSettings, Protocol,
    QueueSettings, Signal, Target, reason,
};
use spandrel_model::{
    Attribute, Instrument, InstrumentKind, Ledger, Measured, Measurement, Resource, SpanId,
    SpanStatus, Text, UnixTime, Value,
};
use tokio::runtime::Handle;
use tonic::Code;

use crate::server::{Answer, Server};
use crate::span;

/// What was written, for everybody who holds a copy.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

static DURATION: Instrument = Instrument {
    kind: InstrumentKind::Histogram,
    name: "http.server.request.duration",
    unit: "s",
    description: "Duration of HTTP server requests.",
};

fn to_console(written: &Written) -> DestinationSettings {
    DestinationSettings {
        traces: Some(Target::Console(
            Box::new(written.clone()),
            ConsoleFormat::OtlpJson,
        )),
        metrics: Some(Target::SameStream),
        queue: QueueSettings {
            block_on_overflow: true,
            ..QueueSettings::default()
        },
        ..DestinationSettings::default()
    }
}

/// Two services, every kind of attribute, an error and points of both kinds of histogram.
async fn write_everything(written: &Written) {
    let ledger = Arc::new(Ledger::default());
    let settings = to_console(written);
    let mut exporter = Exporter::start(settings, Arc::clone(&ledger), &Handle::current()).unwrap();
    let shop = Arc::new(Resource::new(vec![
        Attribute::new("service.name", "shop"),
        Attribute::new("process.pid", 42_i64),
    ]));
    let bank = Arc::new(Resource::new(vec![Attribute::new("service.name", "bank")]));
    let mut failed = span("GET /cart/{id}");
    failed.parent_span_id = Some(SpanId([0xab; 8]));
    failed.parent_is_remote = true;
    failed.trace_state = "vendor=a\"b".into();
    failed.status = SpanStatus::Error("".into());
    failed.dropped_attributes = 1;
    failed.attributes.extend([
        Attribute::new("http.response.status_code", 500_i64),
        Attribute::new("spandrel.tcp.rtt", 0.00025),
        Attribute::new("tls.resumed", true),
        Attribute::new(
            "http.request.header.accept",
            Value::StrArray(vec![Text::from("text/html"), Text::from("é\u{1}\n")]),
        ),
    ]);
    exporter.export_spans([
        (Arc::clone(&shop), failed.clone()),
        (bank, span("POST")),
        (Arc::clone(&shop), span("GET")),
    ]);
    exporter.flush();
    for (histogram, temporality) in [
        (HistogramSettings::default(), Temporality::Delta),
        (
            HistogramSettings::Explicit(Default::default()),
            Temporality::Cumulative,
        ),
    ] {
        let settings = AggregatorSettings {
            histogram,
            temporality,
            ..AggregatorSettings::default()
        };
        let mut aggregator = Aggregator::new(settings, Arc::clone(&ledger));
        for value in [0.001, 0.004, 0.0] {
            let measured = Measured {
                span: failed.clone(),
                ports: [None; 2],
                metric_attributes: [Attribute::new("http.route", "/cart/{id}")]
                    .into_iter()
                    .collect(),
                measurements: [Measurement {
                    instrument: &DURATION,
                    value,
                }]
                .into_iter()
                .collect(),
                edge: None,
                caller: None,
            };
            aggregator.record(&shop, &measured);
        }
        let batch = aggregator.collect(UnixTime(1_700_000_060_000_000_000));
        exporter.export_metrics(batch.unwrap());
    }
    assert!(exporter.shutdown(Duration::from_secs(10)).await.drained);
    assert!(ledger.is_closed());
    assert_eq!(ledger.spans.snapshot().settled, 3);
    // One is the zero with which the cumulative series begins.
    assert_eq!(ledger.metric_points.snapshot().settled, 3);
}

#[tokio::test]
async fn json_lines_are_the_golden_ones_on_every_run() {
    let written = Written::default();
    write_everything(&written).await;
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    let text = written.text().replace(&version, "\"version\":\"VERSION\"");
    if let Some(path) = std::env::var_os("SPANDREL_WRITE_GOLDEN") {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, include_str!("golden.jsonl"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_queue_in_front_of_a_file_makes_the_pipeline_wait_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    let ledger = Arc::new(Ledger::default());
    let mut settings = to_console(&Written::default());
    settings.traces = Some(Target::File(path.clone()));
    settings.queue.queue_size = 2000;
    settings.batch.max_export_batch_size = 1;
    let runtime = Handle::current();
    let mut exporter = Exporter::start(settings, Arc::clone(&ledger), &runtime).unwrap();
    let resource = crate::resource("shop");
    // The pipeline has a thread of its own.
    let exporter = tokio::task::spawn_blocking(move || {
        for n in 0..500 {
            exporter.export_spans([(Arc::clone(&resource), span(format!("{n}")))]);
        }
        assert!(exporter.flush_blocking(Duration::from_secs(10)));
        exporter
    })
    .await
    .unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let names: Vec<String> = text
        .lines()
        .map(|line| {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"];
            name.as_str().unwrap().to_owned()
        })
        .collect();
    let expected: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(names, expected);
    exporter.shutdown(Duration::from_secs(10)).await;
    assert!(ledger.is_closed());
    assert_eq!(ledger.spans.snapshot().settled, 500);
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn spans_that_cannot_be_written_are_counted() {
    let ledger = Arc::new(Ledger::default());
    let settings = DestinationSettings {
        traces: Some(Target::Console(Box::new(Broken), ConsoleFormat::OtlpJson)),
        ..DestinationSettings::default()
    };
    let mut exporter = Exporter::start(settings, Arc::clone(&ledger), &Handle::current()).unwrap();
    exporter.export_spans([(crate::resource("shop"), span("a"))]);
    exporter.shutdown(Duration::from_secs(10)).await;
    assert!(ledger.is_closed());
    assert_eq!(ledger.spans.snapshot().dropped[reason::WRITE_FAILED], 1);
}

#[tokio::test]
async fn metrics_cannot_share_a_stream_that_is_not_there() {
    let settings = DestinationSettings {
        metrics: Some(Target::SameStream),
        ..DestinationSettings::default()
    };
    let started = Exporter::start(settings, Arc::default(), &Handle::current());
    assert!(matches!(started, Err(ExporterError::NoStreamToShare)));
}

#[tokio::test]
async fn a_probe_says_what_is_wrong_with_an_endpoint() {
    let probe = async |protocol, endpoint: String| {
        let settings = OtlpSettings {
            timeout: Duration::from_secs(2),
            ..OtlpSettings::new(protocol, endpoint)
        };
        let found = Exporter::probe(&settings, Signal::Traces).await;
        found.map_err(|error| error.to_string())
    };
    let server = Server::grpc(vec![
        Answer::Accept,
        Answer::Status(Code::Unauthenticated, None),
        Answer::Status(Code::InvalidArgument, None),
    ])
    .await;
    let url = format!("http://{}", server.address);
    assert!(
        probe(Protocol::Grpc, url.clone())
            .await
            .unwrap()
            .contains("takes traces")
    );
    let error = probe(Protocol::Grpc, url.clone()).await.unwrap_err();
    assert!(
        error.contains("Unauthenticated") && error.contains("API key"),
        "{error}"
    );
    let found = probe(Protocol::Grpc, url.clone()).await.unwrap();
    assert!(found.contains("refuses an empty request"), "{found}");

    let server = Server::http(vec![Answer::Http(
        404,
        Vec::new(),
        b"no such page".to_vec(),
    )])
    .await;
    let url = format!("http://{}/v1/traces", server.address);
    let error = probe(Protocol::HttpProtobuf, url.clone())
        .await
        .unwrap_err();
    assert!(
        error.contains("404") && error.contains("no such page"),
        "{error}"
    );
    assert!(probe(Protocol::HttpProtobuf, url).await.is_ok());

    let nobody = format!("http://{}", crate::free_address());
    let error = probe(Protocol::Grpc, nobody).await.unwrap_err();
    assert!(error.contains("refused"), "{error}");
    let error = probe(Protocol::Grpc, "ftp://host".into())
        .await
        .unwrap_err();
    assert!(error.contains("neither http nor https"), "{error}");
}

#[tokio::test]
async fn equal_calls_make_equal_requests_whatever_the_real_time_is() {
    let mut runs = Vec::new();
    for pause in [0, 30] {
        let written = Written::default();
        let ledger = Arc::new(Ledger::default());
        let mut exporter = Exporter::start(
            to_console(&written),
            Arc::clone(&ledger),
            &Handle::current(),
        )
        .unwrap();
        let resource = crate::resource("shop");
        let begin = Instant::now();
        for n in 0..40_u64 {
            exporter.export_spans([(Arc::clone(&resource), span(format!("{n}")))]);
            exporter.tick(begin + Duration::from_millis(n * 400));
            if n % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        exporter.shutdown(Duration::from_secs(10)).await;
        runs.push(written.text());
    }
    assert_eq!(runs[0], runs[1]);
    assert!(
        runs[0].lines().count() > 2,
        "time did cut the spans into requests"
    );
}
