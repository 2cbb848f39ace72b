//! Our spans through exporters of the OpenTelemetry SDK.

use std::sync::Arc;

use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};
use spandrel_exporter::otlp::encode_span;
use spandrel_exporter::reason;
use spandrel_exporter::sdk::{SdkSpanSink, span_data};
use spandrel_model::{Ledger, SpanId, SpanStatus};

use crate::server::{Answer, Server};
use crate::{resource, span};

#[tokio::test]
async fn any_sdk_exporter_can_take_the_spans() {
    let ledger = Arc::new(Ledger::default());
    let memory = InMemorySpanExporter::default();
    let mut sink = SdkSpanSink::new(memory.clone(), Arc::clone(&ledger));
    sink.export([(resource("shop"), span("a")), (resource("bank"), span("b"))])
        .await;
    let names: Vec<_> = memory
        .get_finished_spans()
        .unwrap()
        .into_iter()
        .map(|span| span.name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert!(ledger.is_closed());
    assert_eq!(ledger.spans.snapshot().settled, 2);
    sink.shutdown().unwrap();
}

#[tokio::test]
async fn the_otlp_exporter_of_the_sdk_sends_one_request_a_resource() {
    let server = Server::grpc(vec![
        Answer::Accept,
        Answer::Accept,
        Answer::Status(tonic::Code::InvalidArgument, None),
    ])
    .await;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(format!("http://{}", server.address))
        .with_retry_policy(opentelemetry_otlp::RetryPolicy::disabled())
        .build()
        .unwrap();
    let ledger = Arc::new(Ledger::default());
    let mut sink = SdkSpanSink::new(exporter, Arc::clone(&ledger));
    let (shop, bank) = (resource("shop"), resource("bank"));
    let spans = [(&shop, "a"), (&bank, "b"), (&shop, "c")];
    sink.export(spans.map(|(owner, name)| (Arc::clone(owner), span(name))))
        .await;
    let received = server.received(2).await;
    assert_eq!(received[0].span_names(), ["a", "c"]);
    assert_eq!(received[1].span_names(), ["b"]);
    sink.export([(shop, span("refused"))]).await;
    let account = ledger.spans.snapshot();
    assert!(ledger.is_closed());
    assert_eq!((account.seen, account.settled), (4, 3));
    assert_eq!(account.dropped[reason::SDK_FAILED], 1);
}

#[test]
fn the_sdk_writes_the_same_span_as_our_encoder() {
    use opentelemetry_proto::tonic::trace::v1 as proto;
    use prost::Message;
    let mut record = span("GET /cart");
    record.parent_span_id = Some(SpanId([9; 8]));
    record.parent_is_remote = true;
    record.trace_state = "vendor=1".into();
    record.status = SpanStatus::Error("refused".into());
    record.dropped_attributes = 3;
    let mut ours = Vec::new();
    encode_span(&record, &mut ours);
    let data: SpanData = span_data(record);
    assert_eq!(
        proto::Span::decode(&*ours).unwrap(),
        proto::Span::from(data)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_metric_exporter_of_the_sdk_can_take_the_measurements() {
    use opentelemetry_sdk::metrics::InMemoryMetricExporter;
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
    use spandrel_exporter::sdk::SdkMetricSink;
    use spandrel_model::{Attribute, Instrument, InstrumentKind, Measured, Measurement};

    static DURATION: Instrument = Instrument {
        kind: InstrumentKind::Histogram,
        name: "http.server.request.duration",
        unit: "s",
        description: "Duration of HTTP server requests.",
    };
    let memory = InMemoryMetricExporter::default();
    // Room for two resources: the third one ends the first one's provider, whose metrics are exported then.
    let mut sink = SdkMetricSink::new(memory.clone(), std::time::Duration::from_secs(3600), 2);
    for name in ["shop", "bank", "till"] {
        let owner = resource(name);
        for _ in 0..3 {
            let measured = Measured {
                span: span("GET"),
                ports: [None; 2],
                metric_attributes: [Attribute::new("http.request.method", "GET")]
                    .into_iter()
                    .collect(),
                measurements: [Measurement {
                    instrument: &DURATION,
                    value: 0.25,
                }]
                .into_iter()
                .collect(),
                edge: None,
                caller: None,
            };
            sink.record(&owner, &measured);
        }
    }
    tokio::task::spawn_blocking(move || sink.shutdown())
        .await
        .unwrap()
        .unwrap();
    let mut found = Vec::new();
    for batch in memory.get_finished_metrics().unwrap() {
        let name = batch.resource().get(&"service.name".into()).unwrap();
        for metric in batch.scope_metrics().flat_map(|scope| scope.metrics()) {
            let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else {
                panic!("not a histogram: {metric:?}");
            };
            let point = histogram.data_points().next().unwrap();
            found.push((name.to_string(), metric.name().to_owned(), point.count()));
        }
    }
    found.sort();
    let expected =
        ["bank", "shop", "till"].map(|name| (name.to_owned(), DURATION.name.to_owned(), 3));
    assert_eq!(found, expected);
}
