//! Prints what a span and a measurement cost: nanoseconds and heap allocations, in one run and on one thread.
//!
//! `cargo run --release -p spandrel-exporter --example cost`
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::hint::black_box;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use spandrel_exporter::metrics::{Aggregator, AggregatorSettings};
use spandrel_exporter::otlp::encode_span;
use spandrel_exporter::{
    DestinationSettings, Exporter, OtlpSettings, Protocol, QueueSettings, Target,
};
use spandrel_model::{
    Attribute, Instrument, InstrumentKind, Ledger, Measured, Measurement, ProcessKey, Resource,
    SpanId, SpanKind, SpanRecord, SpanStatus, TraceId, UnixTime,
};

static DURATION: Instrument = Instrument {
    kind: InstrumentKind::Histogram,
    name: "http.server.request.duration",
    unit: "s",
    description: "Duration of HTTP server requests.",
};
static REQUEST_SIZE: Instrument = Instrument {
    kind: InstrumentKind::Histogram,
    name: "http.server.request.body.size",
    unit: "By",
    description: "Size of HTTP server request bodies.",
};
static RESPONSE_SIZE: Instrument = Instrument {
    kind: InstrumentKind::Histogram,
    name: "http.server.response.body.size",
    unit: "By",
    description: "Size of HTTP server response bodies.",
};

/// A server span with twelve attributes, as the HTTP conventions ask for them.
fn span() -> SpanRecord {
    SpanRecord {
        trace_id: TraceId([0x5b; 16]),
        span_id: SpanId([0x1f; 8]),
        parent_span_id: Some(SpanId([0x2c; 8])),
        parent_is_remote: true,
        trace_begun_here: false,
        trace_flags: 1,
        trace_state: "".into(),
        name: "GET /api/cart/{id}".into(),
        kind: SpanKind::Server,
        start: UnixTime(1_700_000_000_000_000_000),
        end: UnixTime(1_700_000_000_004_200_000),
        attributes: vec![
            Attribute::new("http.request.method", "GET"),
            Attribute::new("url.path", "/api/cart/7421".to_owned()),
            Attribute::new("url.scheme", "http"),
            Attribute::new("http.route", "/api/cart/{id}".to_owned()),
            Attribute::new("http.response.status_code", 200_i64),
            Attribute::new("network.protocol.version", "1.1"),
            Attribute::new("server.address", "cart.shop.svc".to_owned()),
            Attribute::new("server.port", 8080_i64),
            Attribute::new("client.address", "10.12.4.77".to_owned()),
            Attribute::new("user_agent.original", "python-requests/2.32.3".to_owned()),
            Attribute::new("spandrel.tcp.rtt", 0.000_181),
            Attribute::new("spandrel.queue.duration", 0.000_042),
        ],
        dropped_attributes: 0,
        status: SpanStatus::Unset,
        process: ProcessKey {
            tgid: 4711,
            started: 1,
        },
        cgroup: 0,
    }
}

fn measured(route: usize) -> Measured {
    let value = |instrument, value| Measurement { instrument, value };
    Measured {
        span: span(),
        ports: [None; 2],
        metric_attributes: [
            Attribute::new("http.request.method", "GET"),
            Attribute::new("http.response.status_code", 200_i64),
            Attribute::new("http.route", format!("/api/{route}/{{id}}")),
            Attribute::new("network.protocol.version", "1.1"),
            Attribute::new("url.scheme", "http"),
        ]
        .into_iter()
        .collect(),
        measurements: [
            value(&DURATION, 0.0042 + route as f64 * 1e-5),
            value(&REQUEST_SIZE, 0.0),
            value(&RESPONSE_SIZE, 1234.0),
        ]
        .into_iter()
        .collect(),
        edge: None,
        caller: None,
    }
}

/// Best of some rounds, as the machine is shared; allocations of one more.
fn report(what: &str, items: u64, mut round: impl FnMut()) {
    round();
    let mut best = f64::INFINITY;
    for _ in 0..15 {
        let began = Instant::now();
        round();
        best = best.min(began.elapsed().as_nanos() as f64 / items as f64);
    }
    let heap = allocation_counter::measure(round);
    println!(
        "{what:<52} {best:>8.1} ns {:>9.4} allocations",
        heap.count_total as f64 / items as f64
    );
}

/// An exporter to a backend that never answers, with a queue that soon drops its oldest.
fn exporter(
    runtime: &tokio::runtime::Runtime,
    ledger: &Arc<Ledger>,
    silent: &TcpListener,
) -> Result<Exporter, Box<dyn std::error::Error>> {
    let endpoint = format!("http://{}", silent.local_addr()?);
    let settings = DestinationSettings {
        traces: Some(Target::Otlp(OtlpSettings::new(Protocol::Grpc, endpoint))),
        queue: QueueSettings {
            queue_size: 4 * 1024 * 1024,
            ..QueueSettings::default()
        },
        ..DestinationSettings::default()
    };
    Ok(Exporter::start(
        settings,
        Arc::clone(ledger),
        runtime.handle(),
    )?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let span = span();
    let mut buffer = Vec::with_capacity(1 << 20);
    let length = encode_span(&span, &mut buffer);
    println!(
        "a span with {} attributes is {length} bytes",
        span.attributes.len()
    );
    report("encode a span into a reused buffer", 512, || {
        buffer.clear();
        for _ in 0..512 {
            encode_span(black_box(&span), &mut buffer);
        }
        black_box(&buffer);
    });

    let ledger = Arc::new(Ledger::default());
    let resource = Arc::new(Resource::new(vec![Attribute::new("service.name", "cart")]));
    let mut aggregator = Aggregator::new(AggregatorSettings::default(), Arc::clone(&ledger));
    let all: Vec<Measured> = (0..100).map(measured).collect();
    report(
        "record 3 measurements (5 attributes, 100 routes)",
        10_000,
        || {
            for _ in 0..100 {
                for measured in &all {
                    aggregator.record(&resource, black_box(measured));
                }
            }
        },
    );
    let mut now = 1_700_000_100_000_000_000;
    report("collect a point (of 300, cumulative)", 300, || {
        now += 1;
        black_box(aggregator.collect(UnixTime(now)));
    });

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let mut exporter = exporter(&runtime, &ledger, &silent)?;
    // Cloning stands for the pipeline, which makes a new span each time.
    report("clone a span", 8192, || {
        for _ in 0..8192 {
            black_box(span.clone());
        }
    });
    report("clone a span, batch and queue it for OTLP", 8192, || {
        exporter.export_spans((0..8192).map(|_| (Arc::clone(&resource), span.clone())));
    });
    runtime.block_on(exporter.shutdown(std::time::Duration::from_millis(100)));
    Ok(())
}
