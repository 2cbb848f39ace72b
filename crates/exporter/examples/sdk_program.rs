//! A program that uses the OpenTelemetry API and SDK as usual, and exports through this crate: spans, a counter and a
//! log record to one OTLP endpoint, with its queue, retries and ledger.
//!
//! ```text
//! cargo run -p spandrel-exporter --example sdk_program -- grpc http://localhost:4317
//! cargo run -p spandrel-exporter --example sdk_program -- http http://localhost:4318
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, SpanKind, Tracer, TracerProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use spandrel_exporter::sdk::SharedExporter;
use spandrel_exporter::{DestinationSettings, Exporter, OtlpSettings, Protocol, Target};
use spandrel_model::Ledger;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let protocol = arguments.next().unwrap_or_else(|| "http".to_owned());
    let base = arguments
        .next()
        .unwrap_or_else(|| "http://localhost:4318".to_owned());
    let target = |signal: &str| {
        Some(Target::Otlp(match protocol.as_str() {
            "grpc" => OtlpSettings::new(Protocol::Grpc, base.clone()),
            _ => OtlpSettings::new(Protocol::HttpProtobuf, format!("{base}/v1/{signal}")),
        }))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let ledger = Arc::new(Ledger::default());
    let destination = DestinationSettings {
        name: "example".to_owned(),
        traces: target("traces"),
        metrics: target("metrics"),
        logs: target("logs"),
        ..DestinationSettings::default()
    };
    let exporter = Exporter::start(destination, Arc::clone(&ledger), runtime.handle())?;
    let exporter = SharedExporter::new(exporter, runtime.handle().clone());

    let resource = Resource::builder().with_service_name("sdk-program").build();
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

    let tracer = traces.tracer("example");
    let orders = metrics.meter("example").u64_counter("orders").build();
    for n in 0..10 {
        let mut span = tracer
            .span_builder("place order")
            .with_kind(SpanKind::Internal)
            .start(&tracer);
        span.set_attribute(KeyValue::new("order.number", n));
        span.add_event("paid", vec![KeyValue::new("currency", "EUR")]);
        orders.add(1, &[KeyValue::new("kind", "online")]);
        span.end();
    }
    let logger = logs.logger("example");
    let mut record = logger.create_log_record();
    record.set_severity_number(Severity::Info);
    record.set_body(AnyValue::from("ten orders placed"));
    logger.emit(record);

    // The batch processors and the reader hand over what they hold; the exporter waits for the endpoint.
    traces.force_flush()?;
    metrics.force_flush()?;
    logs.force_flush()?;
    traces.shutdown()?;
    metrics.shutdown()?;
    logs.shutdown()?;
    println!("{}", ledger.to_json());
    Ok(())
}
