//! Metric points on their way to a backend, and the agent's own.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as NumberValue;
use spandrel_exporter::metrics::{
    Aggregator, AggregatorSettings, Metric, MetricData, MetricsBatch, Number, NumberPoint,
    PointHead, ResourceMetrics,
};
use spandrel_exporter::self_telemetry::{SelfTelemetry, SelfTelemetrySettings};
use spandrel_exporter::{
    Compression, DestinationSettings, Exporter, OtlpSettings, Protocol, Target, reason,
};
use spandrel_model::{
    Attribute, Instrument, InstrumentKind, Ledger, LossesByCgroup, Measured, Measurement, UnixTime,
};
use tokio::runtime::Handle;

use crate::server::{Answer, Received, Server};
use crate::{resource, settings, span};

pub(crate) fn batch(points: usize, ledger: &Arc<Ledger>) -> MetricsBatch {
    let points = (0..points)
        .map(|n| NumberPoint {
            head: PointHead {
                attributes: Arc::from([Attribute::new("n", n as i64)]),
                start: UnixTime(1),
                time: UnixTime(2),
                exemplars: Vec::new(),
            },
            value: Number::I64(n as i64),
        })
        .collect();
    let metric = Metric {
        name: "m".into(),
        unit: "1".into(),
        description: "".into(),
        data: MetricData::Gauge(points),
    };
    let resources = vec![ResourceMetrics {
        resource: resource("shop"),
        metrics: vec![metric],
    }];
    MetricsBatch::new(resources, Arc::clone(ledger))
}

#[tokio::test]
async fn points_arrive_over_both_transports_and_a_rejection_is_counted() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let script = vec![Answer::Accept, Answer::Partial(2, "no")];
        let (server, endpoint) = match protocol {
            Protocol::Grpc => {
                let server = Server::grpc(script).await;
                let endpoint = format!("http://{}", server.address);
                (server, endpoint)
            }
            _ => {
                let server = Server::http(script).await;
                let endpoint = format!("http://{}/v1/metrics", server.address);
                (server, endpoint)
            }
        };
        let ledger = Arc::new(Ledger::default());
        let settings = DestinationSettings {
            metrics: Some(Target::Otlp(OtlpSettings::new(protocol, endpoint))),
            ..DestinationSettings::default()
        };
        let mut exporter =
            Exporter::start(settings, Arc::clone(&ledger), &Handle::current()).unwrap();
        exporter.export_metrics(batch(3, &ledger));
        server.received(1).await;
        exporter.export_metrics(batch(5, &ledger));
        let received = server.received(2).await;
        let points =
            match &received[1].metrics().resource_metrics[0].scope_metrics[0].metrics[0].data {
                Some(Data::Gauge(gauge)) => gauge.data_points.len(),
                other => panic!("not a gauge: {other:?}"),
            };
        assert_eq!(points, 5);
        assert!(exporter.shutdown(Duration::from_secs(10)).await.drained);
        let account = ledger.metric_points.snapshot();
        assert!(ledger.is_closed());
        assert_eq!(
            (account.seen, account.settled, account.in_flight),
            (8, 6, 0)
        );
        assert_eq!(account.dropped[reason::REJECTED], 2);
    }
}

#[tokio::test]
async fn a_failing_destination_of_traces_does_not_hold_metrics_up() {
    let traces = Server::grpc(vec![Answer::Hang]).await;
    let metrics = Server::grpc(Vec::new()).await;
    let ledger = Arc::new(Ledger::default());
    let to =
        |server: &Server| OtlpSettings::new(Protocol::Grpc, format!("http://{}", server.address));
    let settings = DestinationSettings {
        metrics: Some(Target::Otlp(to(&metrics))),
        ..settings(to(&traces))
    };
    let mut exporter = Exporter::start(settings, Arc::clone(&ledger), &Handle::current()).unwrap();
    exporter.export_spans([(resource("shop"), span("a"))]);
    exporter.flush();
    traces.received(1).await;
    exporter.export_metrics(batch(1, &ledger));
    metrics.received(1).await;
    exporter.shutdown(Duration::from_millis(200)).await;
    assert!(ledger.is_closed());
    assert_eq!(ledger.metric_points.snapshot().settled, 1);
    assert_eq!(
        ledger.spans.snapshot().dropped[reason::SHUTDOWN_DEADLINE],
        1
    );
}

/// Name, sorted attributes and value of each number that came.
fn numbers(received: &Received) -> Vec<(String, String, i64)> {
    let resources = &received.metrics().resource_metrics;
    let metrics = resources
        .iter()
        .flat_map(|r| &r.scope_metrics)
        .flat_map(|s| &s.metrics);
    let mut all = Vec::new();
    // The others have other values than whole numbers.
    let ours =
        |name: &str| name.starts_with("spandrel.ledger") || name.starts_with("spandrel.metric");
    for metric in metrics.filter(|metric| ours(&metric.name)) {
        let points = match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => &sum.data_points,
            Data::Gauge(gauge) => &gauge.data_points,
            other => panic!("neither a sum nor a gauge: {other:?}"),
        };
        for point in points {
            let mut attributes: Vec<String> = point
                .attributes
                .iter()
                .map(
                    |kv| match kv.value.as_ref().and_then(|value| value.value.as_ref()) {
                        Some(
                            opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(
                                text,
                            ),
                        ) => format!("{}={text}", kv.key),
                        other => panic!("not text: {other:?}"),
                    },
                )
                .collect();
            attributes.sort();
            let Some(NumberValue::AsInt(value)) = point.value else {
                panic!("not an integer: {point:?}");
            };
            all.push((metric.name.clone(), attributes.join(","), value));
        }
    }
    all
}

static DURATION: Instrument = Instrument {
    kind: InstrumentKind::Histogram,
    name: "http.server.request.duration",
    unit: "s",
    description: "",
};

/// An aggregator in which five routes of `shop` share two series.
fn overflowing(ledger: &Arc<Ledger>) -> Aggregator {
    let settings = AggregatorSettings {
        cardinality_limit: 2,
        ..AggregatorSettings::default()
    };
    let mut aggregator = Aggregator::new(settings, Arc::clone(ledger));
    let shop = resource("shop");
    for route in 0..5 {
        let measured = Measured {
            span: span("GET"),
            ports: [None; 2],
            metric_attributes: [Attribute::new("http.route", format!("/{route}"))]
                .into_iter()
                .collect(),
            measurements: [Measurement {
                instrument: &DURATION,
                value: 1.0,
            }]
            .into_iter()
            .collect(),
            edge: None,
            caller: None,
        };
        aggregator.record(&shop, &measured);
    }
    aggregator.collect(UnixTime(2));
    aggregator
}

/// An aggregator with room for one series, in which the first of two ended and two measurements are no numbers.
fn too_small(ledger: &Arc<Ledger>) -> Aggregator {
    let settings = AggregatorSettings {
        max_series: 1,
        ..AggregatorSettings::default()
    };
    let mut aggregator = Aggregator::new(settings, Arc::clone(ledger));
    let shops = [resource("shop"), resource("shop")];
    for (shop, value) in [(0, 1.0), (1, 1.0), (1, f64::NAN), (1, f64::INFINITY)] {
        let measured = Measured {
            span: span("GET"),
            metric_attributes: [].into_iter().collect(),
            measurements: [Measurement {
                instrument: &DURATION,
                value,
            }]
            .into_iter()
            .collect(),
            edge: None,
            caller: None,
            ports: [None; 2],
        };
        aggregator.record(&shops[shop], &measured);
    }
    aggregator.collect(UnixTime(2));
    aggregator
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_told_as_metrics_of_the_agent_itself() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let (server, endpoint) = match protocol {
            Protocol::Grpc => {
                let server = Server::grpc(Vec::new()).await;
                let endpoint = format!("http://{}", server.address);
                (server, endpoint)
            }
            _ => {
                let server = Server::http(Vec::new()).await;
                let endpoint = format!("http://{}/v1/metrics", server.address);
                (server, endpoint)
            }
        };
        let ledger = Arc::new(Ledger::default());
        ledger.messages.see(7);
        ledger.messages.settle(4);
        ledger.messages.drop_for("kernel.ring_full", 3);
        ledger.set_lost(LossesByCgroup::new([(4711, 2)], 3));
        ledger.spans.see(3);
        ledger.spans.settle(1);
        ledger.spans.drop_for(reason::REJECTED, 1);
        ledger.spans.depart(1);
        let settings = SelfTelemetrySettings {
            endpoint: OtlpSettings {
                headers: vec![("api-key".into(), "secret".into())],
                compression: Compression::Gzip,
                ..OtlpSettings::new(protocol, endpoint)
            },
            interval: Duration::from_secs(3600),
            attributes: vec![Attribute::new("host.name", "node-1")],
        };
        let telemetry = SelfTelemetry::start(settings, &ledger, &Handle::current()).unwrap();
        let overflow = overflowing(&Arc::default()).overflow_report();
        let other = too_small(&ledger).overflow_report();
        telemetry.observe_overflows(vec![overflow, other]);
        tokio::task::spawn_blocking(move || telemetry.shutdown(Duration::from_secs(30)))
            .await
            .unwrap()
            .unwrap();
        let received = &server.received(1).await[0];
        assert_eq!(received.headers["api-key"], "secret");
        let encoding = match protocol {
            Protocol::Grpc => "grpc-encoding",
            _ => "content-encoding",
        };
        assert_eq!(received.headers[encoding], "gzip");
        let attributes = &received.metrics().resource_metrics[0]
            .resource
            .as_ref()
            .unwrap()
            .attributes;
        let names: Vec<&str> = attributes.iter().map(|kv| kv.key.as_str()).collect();
        assert!(
            names.contains(&"service.name") && names.contains(&"host.name"),
            "{names:?}"
        );
        let numbers = numbers(received);
        for (name, attributes, value) in [
            ("spandrel.ledger.messages", "spandrel.state=seen", 7),
            ("spandrel.ledger.messages", "spandrel.state=settled", 4),
            (
                "spandrel.ledger.messages",
                "spandrel.reason=kernel.ring_full,spandrel.state=dropped",
                3,
            ),
            ("spandrel.ledger.in_flight", "spandrel.account=spans", 1),
            (
                "spandrel.ledger.lost_messages",
                "spandrel.cgroup.id=4711",
                2,
            ),
            (
                "spandrel.ledger.lost_messages",
                "spandrel.cgroup.id=others",
                1,
            ),
            (
                "spandrel.metric.cardinality",
                "spandrel.attribute.key=http.route,spandrel.metric.name=http.server.request.duration,spandrel.service.name=shop",
                5,
            ),
            (
                "spandrel.ledger.measurements",
                "spandrel.reason=metrics.invalid_value,spandrel.state=dropped",
                2,
            ),
            (
                "spandrel.metric.overflow",
                "spandrel.metric.name=http.server.request.duration,spandrel.service.name=shop",
                4,
            ),
            ("spandrel.metric.refused", "", 2),
            ("spandrel.metric.evicted", "", 1),
        ] {
            let expected = (name.to_owned(), attributes.to_owned(), value);
            assert!(
                numbers.contains(&expected),
                "{expected:?} is not in {numbers:#?}"
            );
        }
    }
}

#[tokio::test]
async fn the_end_of_the_own_metrics_takes_no_longer_than_it_is_given() {
    let given = Duration::from_millis(200);
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        // Takes connections and never answers.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
        let settings = SelfTelemetrySettings {
            endpoint: OtlpSettings {
                timeout: Duration::ZERO,
                ..OtlpSettings::new(protocol, endpoint)
            },
            interval: Duration::from_secs(3600),
            attributes: Vec::new(),
        };
        let ledger = Arc::new(Ledger::default());
        let telemetry = SelfTelemetry::start(settings, &ledger, &Handle::current()).unwrap();
        let end = tokio::task::spawn_blocking(move || telemetry.shutdown(given));
        // The SDK alone would wait for 5 s.
        let error = tokio::time::timeout(given * 15, end)
            .await
            .expect("an end in time")
            .unwrap()
            .expect_err("nobody has taken the metrics");
        assert!(error.to_string().contains("no end within 200ms"), "{error}");
    }
}
