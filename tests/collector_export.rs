//! What the exporter sends, in each protocol and each compression, is what a real Collector writes down: field by field.

#![allow(clippy::unwrap_used, clippy::panic)] // a failure in a test is a panic
#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

mod support;

use std::fmt::Debug;

use spandrel_exporter::metrics::MetricsBatch;
use spandrel_exporter::{Compression, Protocol};
use support::collector::Collector;
use support::proto::{Item, log_items, logs_of, metric_items, metrics_of, span_item, spans_of};
use support::relay::Relay;
use support::sending::{METRICS, Sending, compressed, destination, logs, metrics, resource, span};

const SPANS: u64 = 600;
const POINTS: u64 = 20;
const RECORDS: u64 = 200;

/// The two lists are the same; if not, says where they begin to differ and not all of it.
fn assert_same<T: Debug + PartialEq>(what: &str, written: &[Item<T>], sent: &[Item<T>]) {
    for (at, (written, sent)) in written.iter().zip(sent).enumerate() {
        assert_eq!(written, sent, "{what} {at}");
    }
    assert_eq!(written.len(), sent.len(), "{what}: number of items");
}

/// Sends all three signals, each of several resources; returns how many bytes that took on the way.
fn send(protocol: Protocol, compression: Compression, collector: &Collector) -> usize {
    let port = match protocol {
        Protocol::Grpc => collector.grpc_port,
        _ => collector.http_port,
    };
    let relay = Relay::start(port);
    let endpoint = format!("http://127.0.0.1:{}", relay.port);
    let mut sending = Sending::start(destination(protocol, &endpoint, compressed(compression)));
    let services = ["till", "storage", "küche"].map(resource);
    let spans: Vec<_> = (0..SPANS)
        .map(|number| (services[number as usize % 3].clone(), span(number)))
        .collect();
    let metrics: Vec<_> = services.iter().map(|each| metrics(each, POINTS)).collect();
    let logs: Vec<_> = services.iter().map(|each| logs(each, RECORDS)).collect();
    sending.send(spans.iter().cloned());
    let batch = MetricsBatch::new(metrics.clone(), sending.ledger.clone());
    sending.exporter.export_metrics(batch);
    sending.exporter.export_logs(&logs);
    let ledger = sending.drain();
    assert_eq!(ledger.spans.snapshot().settled, SPANS);
    assert_eq!(
        ledger.metric_points.snapshot().settled,
        3 * METRICS * POINTS
    );
    assert_eq!(ledger.log_records.snapshot().settled, 3 * RECORDS);

    // What is acknowledged has been written: there is nothing to wait for.
    let mut written = spans_of(collector.requests("traces"));
    written.sort_by(|left, right| left.item.span_id.cmp(&right.item.span_id));
    let sent: Vec<_> = spans
        .iter()
        .map(|(owner, span)| span_item(owner, span))
        .collect();
    assert_same("span", &written, &sent);
    assert_same(
        "metric",
        &metrics_of(collector.requests("metrics")),
        &metric_items(&metrics),
    );
    assert_same(
        "log record",
        &logs_of(collector.requests("logs")),
        &log_items(&logs),
    );
    relay.bytes()
}

fn arrives_field_by_field(protocol: Protocol, test: &str) {
    let mut plain = None;
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let Some(collector) = Collector::start(test) else {
            return;
        };
        let bytes = send(protocol, compression, &collector);
        println!("{compression:?}: {bytes} bytes");
        let plain = *plain.get_or_insert(bytes);
        // That the Collector understands it says nothing if it was not compressed at all.
        let is_compressed = bytes < plain / 2;
        assert_eq!(
            is_compressed,
            compression != Compression::None,
            "{bytes} of {plain}"
        );
    }
}

#[test]
fn over_grpc_every_field_arrives_with_each_compression() {
    const TEST: &str = "over_grpc_every_field_arrives_with_each_compression";
    arrives_field_by_field(Protocol::Grpc, TEST);
}

#[test]
fn over_http_in_protobuf_every_field_arrives_with_each_compression() {
    const TEST: &str = "over_http_in_protobuf_every_field_arrives_with_each_compression";
    arrives_field_by_field(Protocol::HttpProtobuf, TEST);
}

#[test]
fn over_http_in_json_every_field_arrives_with_each_compression() {
    const TEST: &str = "over_http_in_json_every_field_arrives_with_each_compression";
    arrives_field_by_field(Protocol::HttpJson, TEST);
}
