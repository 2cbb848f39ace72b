//! Rules 33 to 38: OTLP/JSON over HTTP and in files.

use std::sync::Arc;
use std::time::Duration;

use spandrel_exporter::{DestinationSettings, Exporter, OtlpSettings, Protocol, Target, reason};
use spandrel_model::{Ledger, SpanId};
use tokio::runtime::Handle;

use super::server;
use crate::server::Answer;
use crate::{Running, assert_account, settings, span};

/// The same spans over both HTTP transports are the same request to who reads it.
#[tokio::test]
async fn rule_33_to_36_json_says_what_protobuf_says() {
    let mut requests = Vec::new();
    for protocol in [Protocol::HttpJson, Protocol::HttpProtobuf] {
        let (server, otlp) = server(protocol, Vec::new()).await;
        let mut running = Running::start(settings(otlp));
        let mut one = span("GET \"\u{1}é\"");
        one.parent_span_id = Some(SpanId([0xcd; 8]));
        one.parent_is_remote = true;
        let spans = [("shop", one), ("bank", span("POST"))];
        let spans = spans.map(|(name, span)| (crate::resource(name), span));
        running.exporter.export_spans(spans);
        running.exporter.flush();
        requests.push(server.received(1).await[0].traces().clone());
        assert_account(&running.end().await, 2, &[]);
    }
    assert_eq!(requests[0], requests[1]);
    assert_eq!(requests[0].resource_spans.len(), 2);
}

#[tokio::test]
async fn rule_37_unknown_fields_of_an_answer_are_ignored() {
    let body =
        br#"{"new":{"a":[1]},"partialSuccess":{"x":null,"rejectedSpans":"1","errorMessage":""}}"#;
    let kind = vec![("content-type", "application/json; charset=utf-8".to_owned())];
    let script = vec![Answer::Http(200, kind, body.to_vec())];
    let (server, otlp) = server(Protocol::HttpJson, script).await;
    let mut running = Running::start(settings(otlp));
    running.send(&["a", "b"]);
    server.received(1).await;
    assert_account(&running.end().await, 1, &[(reason::REJECTED, 1)]);
}

#[tokio::test]
async fn points_go_as_json_too() {
    let (server, otlp) = server(Protocol::HttpJson, Vec::new()).await;
    let endpoint = otlp.endpoint.replace("traces", "metrics");
    let ledger = Arc::new(Ledger::default());
    let settings = DestinationSettings {
        metrics: Some(Target::Otlp(OtlpSettings { endpoint, ..otlp })),
        ..DestinationSettings::default()
    };
    let mut exporter = Exporter::start(settings, Arc::clone(&ledger), &Handle::current()).unwrap();
    exporter.export_metrics(crate::metrics::batch(3, &ledger));
    assert_eq!(server.received(1).await[0].items(), 3);
    exporter.shutdown(Duration::from_secs(10)).await;
    assert_eq!(ledger.metric_points.snapshot().settled, 3);
}

#[tokio::test]
async fn rule_38_a_file_has_one_request_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    for _ in 0..2 {
        let mut running = Running::start(DestinationSettings {
            traces: Some(Target::File(path.clone())),
            ..DestinationSettings::default()
        });
        running.send(&["line\nend", "b"]);
        running.send(&["c"]);
        assert_account(&running.end().await, 3, &[]);
    }
    // Appended to, in UTF-8, each line ended by one "\n" and whole.
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("}\n") && !text.contains('\r'));
    let names: Vec<Vec<String>> = text
        .lines()
        .map(|line| {
            use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
            let request: ExportTraceServiceRequest = serde_json::from_str(line).unwrap();
            let spans = &request.resource_spans[0].scope_spans[0].spans;
            spans.iter().map(|span| span.name.clone()).collect()
        })
        .collect();
    assert_eq!(
        names,
        [
            vec!["line\nend", "b"],
            vec!["c"],
            vec!["line\nend", "b"],
            vec!["c"]
        ]
    );
}
