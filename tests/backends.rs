//! What leaves for each kind of backend keeps that backend's rules: a strict server refuses every violation.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use spandrel::settings;
use spandrel::sink::{OtlpSink, Sink};
use spandrel_model::{
    Attribute, Instrument, InstrumentKind, Ledger, Measured, Measurement, ProcessKey, Resource,
    SpanId, SpanKind, SpanRecord, SpanStatus, TraceId, UnixTime, Value,
};

/// What a backend documents, written down once more, apart from the code.
struct Rules {
    profile: &'static str,
    header: (&'static str, &'static str),
    delta: Option<bool>,
    exponential: Option<bool>,
    max_bytes: usize,
    resource: usize,
    span: usize,
    point: usize,
    key: usize,
    value: usize,
    point_value: usize,
}

const ANY: usize = usize::MAX;

const BACKENDS: [Rules; 6] = [
    Rules {
        profile: "collector",
        header: ("x-tenant", "shop"),
        delta: Some(false),
        exponential: Some(true),
        max_bytes: 4 << 20,
        resource: ANY,
        span: ANY,
        point: ANY,
        key: ANY,
        value: ANY,
        point_value: ANY,
    },
    Rules {
        profile: "new-relic",
        header: ("api-key", "k3y"),
        delta: Some(true),
        exponential: Some(true),
        max_bytes: 1_000_000,
        resource: 64,
        span: 128,
        point: 128,
        key: 255,
        value: 4095,
        point_value: 4095,
    },
    Rules {
        profile: "datadog",
        header: ("dd-api-key", "k3y"),
        delta: Some(true),
        exponential: None,
        max_bytes: 512_000,
        resource: ANY,
        span: ANY,
        point: ANY,
        key: ANY,
        value: ANY,
        point_value: ANY,
    },
    Rules {
        profile: "grafana-cloud",
        header: ("authorization", "Basic aWQ6a2V5"),
        delta: Some(false),
        exponential: None,
        max_bytes: 4 << 20,
        resource: ANY,
        span: ANY,
        point: ANY,
        key: ANY,
        value: 2048,
        point_value: ANY,
    },
    Rules {
        profile: "honeycomb",
        header: ("x-honeycomb-team", "k3y"),
        delta: None,
        exponential: None,
        max_bytes: 15_000_000,
        resource: 2000,
        span: 2000,
        point: 2000,
        key: ANY,
        value: 65_536 / 4,
        point_value: 65_536 / 4,
    },
    Rules {
        profile: "dynatrace",
        header: ("authorization", "Api-Token k3y"),
        delta: Some(true),
        exponential: Some(false),
        max_bytes: 4_000_000,
        resource: 35,
        span: 128,
        point: 15,
        key: 100,
        value: ANY,
        point_value: 255,
    },
];

#[derive(Default)]
struct Seen {
    violations: Vec<String>,
    requests: usize,
    spans: usize,
    points: usize,
}

struct Backend {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Backend {
    fn start(rules: &'static Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || while answer(&stream, rules, &shared).is_some() {});
            }
        });
        Self { port, seen }
    }
}

/// Reads one request and judges it; `None` at the end of the connection.
fn answer(mut stream: &TcpStream, rules: &Rules, seen: &Mutex<Seen>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = std::collections::HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut wire = vec![0; length];
    reader.read_exact(&mut wire).ok()?;
    let mut body = Vec::new();
    let encoding = headers.get("content-encoding").map(String::as_str);
    match encoding {
        Some("gzip") => {
            flate2::read::GzDecoder::new(&wire[..])
                .read_to_end(&mut body)
                .ok()?;
        }
        _ => body = wire,
    }
    let mut seen = seen.lock().unwrap();
    seen.requests += 1;
    let mut violations = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            violations.push(what);
        }
    };
    let (name, value) = rules.header;
    must(
        headers.get(name).map(String::as_str) == Some(value),
        format!("header {name}"),
    );
    must(
        headers["content-type"] == "application/x-protobuf",
        headers["content-type"].clone(),
    );
    must(
        body.len() <= rules.max_bytes,
        format!("{} bytes", body.len()),
    );
    must(!body.is_empty(), "an empty request".to_owned());
    match path.as_str() {
        "/v1/traces" => {
            let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
            for group in &request.resource_spans {
                let resource = &group.resource.as_ref().unwrap().attributes;
                check(resource, rules.resource, rules, rules.value, &mut must);
                for span in group.scope_spans.iter().flat_map(|scope| &scope.spans) {
                    check(&span.attributes, rules.span, rules, rules.value, &mut must);
                    must(span.links.is_empty(), "span links".to_owned());
                    let kept = span.attributes.len() + span.dropped_attributes_count as usize;
                    must(
                        kept == ATTRIBUTES,
                        format!("{kept} attributes accounted for"),
                    );
                    seen.spans += 1;
                }
            }
        }
        "/v1/metrics" => {
            let request = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
            for group in &request.resource_metrics {
                let resource = &group.resource.as_ref().unwrap().attributes;
                check(resource, rules.resource, rules, rules.value, &mut must);
                for metric in group.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                    let (exponential, temporality, points): (_, _, Vec<_>) = match &metric.data {
                        Some(Data::ExponentialHistogram(data)) => (
                            true,
                            data.aggregation_temporality,
                            data.data_points.iter().map(|p| &p.attributes).collect(),
                        ),
                        Some(Data::Histogram(data)) => (
                            false,
                            data.aggregation_temporality,
                            data.data_points.iter().map(|p| &p.attributes).collect(),
                        ),
                        other => panic!("{other:?}"),
                    };
                    for attributes in points {
                        check(attributes, rules.point, rules, rules.point_value, &mut must);
                        seen.points += 1;
                    }
                    let delta = temporality == 1;
                    must(
                        rules.delta.is_none_or(|d| d == delta),
                        format!("delta: {delta}"),
                    );
                    must(
                        rules.exponential.is_none_or(|e| e == exponential),
                        format!("exponential: {exponential}"),
                    );
                }
            }
        }
        other => must(false, format!("path {other}")),
    }
    let status = if violations.is_empty() {
        "200 OK"
    } else {
        "400 Bad Request"
    };
    seen.violations.append(&mut violations);
    drop(seen);
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").ok()
}

fn check(
    attributes: &[KeyValue],
    most: usize,
    rules: &Rules,
    longest: usize,
    must: &mut impl FnMut(bool, String),
) {
    must(
        attributes.len() <= most,
        format!("{} attributes", attributes.len()),
    );
    for KeyValue { key, value, .. } in attributes {
        must(
            key.chars().count() <= rules.key,
            format!("key of {}", key.len()),
        );
        if let Some(AnyValue {
            value: Some(ProtoValue::StringValue(text)),
        }) = value
        {
            let length = text.chars().count();
            must(length <= longest, format!("{key}: {length} characters"));
        }
    }
}

/// Of each span: more than any backend but a Collector takes.
const ATTRIBUTES: usize = 2100;
const SPANS: usize = 40;

fn crowded(prefix: &str, count: usize) -> Vec<Attribute> {
    (0..count)
        .map(|n| match n {
            0 => Attribute::new("k".repeat(300), "x"),
            1 => Attribute::new("user_agent.original", "ü".repeat(70_000)),
            n => Attribute::new(format!("{prefix}.{n}"), "v".repeat(20)),
        })
        .collect()
}

static DURATION: Instrument = Instrument {
    kind: InstrumentKind::Histogram,
    name: "http.server.request.duration",
    unit: "s",
    description: "Duration of HTTP server requests.",
};

fn measured(n: usize) -> Measured {
    let mut attributes = crowded("acme", ATTRIBUTES - 1);
    attributes.push(Attribute::new("http.request.method", "GET"));
    let mut metric_attributes = crowded("acme", 30);
    metric_attributes.push(Attribute::new("http.route", "/x"));
    metric_attributes.push(Attribute::new("n", Value::I64((n % 2) as i64)));
    Measured {
        span: SpanRecord {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            parent_span_id: None,
            parent_is_remote: false,
            trace_begun_here: false,
            trace_flags: 1,
            trace_state: "".into(),
            name: "GET /x".into(),
            kind: SpanKind::Server,
            start: UnixTime(1_700_000_000_000_000_000),
            end: UnixTime(1_700_000_000_001_000_000),
            attributes,
            dropped_attributes: 0,
            status: SpanStatus::Unset,
            process: ProcessKey {
                tgid: 1,
                started: 1,
            },
            cgroup: 0,
        },
        ports: [None; 2],
        metric_attributes: metric_attributes.into(),
        measurements: [Measurement {
            instrument: &DURATION,
            value: 0.001,
        }]
        .into_iter()
        .collect(),
        edge: None,
        caller: None,
    }
}

#[test]
fn each_profile_keeps_the_rules_of_its_backend() {
    for rules in &BACKENDS {
        let backend = Backend::start(rules);
        let (header, value) = rules.header;
        let text = format!(
            "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    export:\n      destinations:\n        - name: it\n          endpoint: http://127.0.0.1:{}\n          profile: {}\n          headers: [{{name: {header}, value: \"{value}\"}}]\n",
            backend.port, rules.profile
        );
        let loaded = spandrel_config::load_str("f.yaml", &text, &|_| None).unwrap();
        assert_eq!(loaded.warnings, [], "{}", rules.profile);
        let ledger = Arc::new(Ledger::default());
        let mut export = settings::export(&loaded.config, true);
        export.shutdown_timeout = Duration::from_secs(60);
        let mut sink = OtlpSink::start(export, &ledger).unwrap();
        let mut resource = crowded("company", 600);
        resource.push(Attribute::new("service.name", "shop"));
        let resource = Arc::new(Resource::new(resource));
        for n in 0..SPANS {
            sink.accept(&resource, measured(n)).unwrap();
        }
        sink.finish(UnixTime(1_700_000_001_000_000_000)).unwrap();

        let seen = backend.seen.lock().unwrap();
        assert_eq!(seen.violations, Vec::<String>::new(), "{}", rules.profile);
        // Two series; cumulative ones begin with zero.
        let points = if rules.delta == Some(false) { 4 } else { 2 };
        assert_eq!(
            (seen.spans, seen.points),
            (SPANS, points),
            "{}",
            rules.profile
        );
        assert!(ledger.is_closed());
        assert_eq!(ledger.spans.snapshot().settled, SPANS as u64);
        let (attributes, values) = ledger.destination("it").cut_counts();
        let limited = rules.span < ATTRIBUTES;
        assert_eq!(attributes > 0, limited, "{}: counted", rules.profile);
        assert_eq!(
            values > 0,
            rules.value < ANY || rules.point_value < ANY,
            "{}",
            rules.profile
        );
    }
}
