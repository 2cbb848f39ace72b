//! A program that uses the OpenTelemetry SDK and our exporter: all three signals arrive at a real Collector.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use spandrel_exporter::sdk::SharedExporter;
use spandrel_exporter::{
    Compression, DestinationSettings, Exporter, OtlpSettings, Protocol, Target,
};
use spandrel_model::Ledger;
use support::collector::Collector;
use support::machine::wait_until;

const LIMIT: Duration = Duration::from_secs(30);
const SPANS: usize = 1000;

fn run(collector: &Collector, protocol: Protocol, ledger: &Arc<Ledger>) {
    let target = |signal: &str| {
        let endpoint = match protocol {
            Protocol::Grpc => collector.grpc_endpoint(),
            _ => format!("{}/v1/{signal}", collector.http_endpoint()),
        };
        Some(Target::Otlp(OtlpSettings {
            compression: Compression::Gzip,
            ..OtlpSettings::new(protocol, endpoint)
        }))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let destination = DestinationSettings {
        traces: target("traces"),
        metrics: target("metrics"),
        logs: target("logs"),
        ..DestinationSettings::default()
    };
    let exporter = Exporter::start(destination, Arc::clone(ledger), runtime.handle()).unwrap();
    let exporter = SharedExporter::new(exporter, runtime.handle().clone());
    let resource = Resource::builder_empty().with_service_name("till").build();
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(exporter.clone())
        .build();
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_periodic_exporter(exporter.clone())
        .build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build();

    let tracer = traces.tracer("test");
    let sold = metrics.meter("test").u64_counter("sold").build();
    for n in 0..SPANS {
        let mut span = tracer.start(format!("sell {n}"));
        span.add_event("paid", vec![KeyValue::new("currency", "EUR")]);
        sold.add(1, &[]);
        span.end();
    }
    let logger = logs.logger("test");
    let mut record = logger.create_log_record();
    record.set_severity_number(Severity::Warn);
    record.set_body(AnyValue::from("the till is full"));
    logger.emit(record);
    traces.force_flush().unwrap();
    metrics.force_flush().unwrap();
    logs.force_flush().unwrap();
    traces.shutdown().unwrap();
    metrics.shutdown().unwrap();
    logs.shutdown().unwrap();
}

fn all_three_signals_arrive(protocol: Protocol, test: &str) {
    let Some(collector) = Collector::start(test) else {
        return;
    };
    let ledger = Arc::new(Ledger::default());
    run(&collector, protocol, &ledger);
    assert!(ledger.is_closed());
    assert_eq!(ledger.spans.snapshot().settled, SPANS as u64);
    assert_eq!(ledger.log_records.snapshot().settled, 1);
    let spans = collector.wait_for_spans("all spans", LIMIT, |spans| spans.len() >= SPANS);
    assert_eq!(spans.len(), SPANS);
    assert!(
        spans
            .iter()
            .all(|span| span.resource["service.name"] == "till")
    );
    let points = collector.wait_for_metrics("the counter", LIMIT, |points| !points.is_empty());
    assert_eq!(points.last().unwrap().name, "sold");
    let mut logs = Vec::new();
    wait_until("the log record", LIMIT, || {
        logs = collector.logs();
        !logs.is_empty()
    });
    let record = &logs[0]["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["body"]["stringValue"], "the till is full");
    assert_eq!(record["severityNumber"], 13);
    let (spans, _) = collector.finish();
    assert_eq!(spans.len(), SPANS, "nothing came twice");
}

#[test]
fn all_three_signals_arrive_over_grpc() {
    all_three_signals_arrive(Protocol::Grpc, "all_three_signals_arrive_over_grpc");
}

#[test]
fn all_three_signals_arrive_over_http() {
    all_three_signals_arrive(Protocol::HttpProtobuf, "all_three_signals_arrive_over_http");
}
