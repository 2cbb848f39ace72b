//! What user space costs: events in memory in, OTLP protobuf requests in the exporter's queue out, on one thread.
//!
//! `cargo bench --bench pipeline` prints rows of a Markdown table and asserts nothing about time. Times are CPU time of
//! the thread, which a busy machine changes less than the clock on the wall. The allocator counts in all rounds.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::error::Error;
use std::hint::black_box;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use spandrel::identity::{self, Identities};
use spandrel::kubernetes::peers::{self, PeerOf, Peers};
use spandrel::pipeline::{NoSteering, Pipeline};
use spandrel::selection::Selection;
use spandrel::selectors::Selectors;
use spandrel::sink::{MetricsView, OtlpSink, OtlpSinkSettings};
use spandrel_exporter::metrics::{Aggregator, AggregatorSettings};
use spandrel_exporter::otlp::encode_span;
use spandrel_exporter::{
    DestinationSettings, OtlpSettings, Protocol as OtlpProtocol, QueueSettings, Target,
};
use spandrel_k8s_meta::peers::PeerPod;
use spandrel_k8s_meta::watch;
use spandrel_model::recording::RecordedIdentity;
use spandrel_model::{
    Attribute, ClockOffset, ConnectionId, ConnectionOpened, Direction, Endpoint, Event, KernelTime,
    Ledger, Measured, Message, Origin, ProcessKey, Resource, Role, Stamp, Transport,
};
use spandrel_protocols::{Output, Settings, Tracker};
use spandrel_sampling::SamplingSettings;

const SERVICES: u64 = 4;
const CONNECTIONS: u64 = 100;
const PER_CONNECTION: u64 = 400;
const EXCHANGES: u64 = CONNECTIONS * PER_CONNECTION;
const ROUNDS: usize = 11;
const OFFSET: ClockOffset = ClockOffset(1_700_000_000_000_000_000);

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.26.2\r\n\
    Date: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n\
    Content-Length: 64\r\nConnection: keep-alive\r\nETag: \"6562-40\"\r\n\r\n\
    0123456789012345678901234567890123456789012345678901234567890123";

/// Requests of one length, so that positions are easily known, for several routes and many ids.
fn requests() -> Vec<Bytes> {
    let routes = ["orders", "basket", "people", "prices"];
    (1000..9000)
        .step_by(31)
        .enumerate()
        .map(|(at, id)| {
            let route = routes[at % routes.len()];
            Bytes::from(format!(
                "GET /api/v1/{route}/{id}?expand=items HTTP/1.1\r\n\
                 Host: shop.example:8080\r\nUser-Agent: python-requests/2.32.3\r\n\
                 Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n"
            ))
        })
        .collect()
}

fn process(connection: u64) -> ProcessKey {
    ProcessKey {
        tgid: 100 + (connection % SERVICES) as u32,
        started: 1,
    }
}

fn message(connection: u64, round: u64, direction: Direction, payload: Bytes) -> Event {
    let answer = u64::from(direction == Direction::Egress);
    Event::Message(Message {
        stamp: Stamp {
            time: KernelTime(1_000_000 + round * 1_000_000 + answer * 500_000 + connection),
            cpu: 0,
            sequence: 0,
        },
        connection: ConnectionId(connection),
        direction,
        position: round * payload.len() as u64,
        length: payload.len() as u32,
        payload,
        tail: Bytes::new(),
        started: None,
        arrived: Some(KernelTime(900_000 + round * 1_000_000)),
        process: process(connection),
        tid: 1,
        lineage: Default::default(),
        cgroup: 1,
        srtt_us: 100,
        retransmits: 0,
    })
}

/// Servers on keep-alive connections, each with a request and a response a millisecond.
fn events() -> Vec<Event> {
    let requests = requests();
    let mut events: Vec<Event> = (0..CONNECTIONS)
        .map(|connection| {
            Event::ConnectionOpened(ConnectionOpened {
                stamp: Stamp::default(),
                connection: ConnectionId(connection),
                origin: Origin::Observed,
                transport: Transport::Tcp,
                role: Some(Role::Server),
                local: Endpoint::Socket(([10, 0, 0, 1], 8080).into()),
                peer: Endpoint::Socket(([10, 0, 0, 2], connection as u16).into()),
                netns: 1,
                connect_started: None,
                process: None,
            })
        })
        .collect();
    for round in 0..PER_CONNECTION {
        for connection in 0..CONNECTIONS {
            let request = &requests[((round * 7 + connection) % requests.len() as u64) as usize];
            events.push(message(
                connection,
                round,
                Direction::Ingress,
                request.clone(),
            ));
        }
        for connection in 0..CONNECTIONS {
            let response = Bytes::from_static(RESPONSE);
            events.push(message(connection, round, Direction::Egress, response));
        }
    }
    events
}

fn resource_attributes(service: u64) -> Vec<Attribute> {
    vec![
        Attribute::new("service.name", format!("service-{service}")),
        Attribute::new(
            "service.instance.id",
            format!("0b1c6c2e-5f0e-5a44-9c1d-00000000000{service}"),
        ),
        Attribute::new("host.name", "node-1"),
        Attribute::new("host.arch", "amd64"),
        Attribute::new("os.type", "linux"),
        Attribute::new("process.pid", 100 + service as i64),
        Attribute::new("process.executable.name", "python3.13"),
        Attribute::new("process.executable.path", "/usr/bin/python3.13"),
        Attribute::new("process.runtime.name", "cpython"),
        Attribute::new("telemetry.sdk.language", "python"),
    ]
}

/// The agent's own pipeline into the queue of a destination that takes the connection and never answers.
fn pipeline(silent: &TcpListener, ledger: &Arc<Ledger>) -> Result<Pipeline, Box<dyn Error>> {
    let target = || -> io::Result<_> {
        let endpoint = format!("http://{}", silent.local_addr()?);
        Ok(Some(Target::Otlp(OtlpSettings::new(
            OtlpProtocol::Grpc,
            endpoint,
        ))))
    };
    let sink = OtlpSink::start(
        OtlpSinkSettings {
            exporter: DestinationSettings {
                traces: target()?,
                metrics: target()?,
                // Small: the oldest requests make room, and their memory is used again, as when they are sent.
                queue: QueueSettings {
                    queue_size: 2 * 1024 * 1024,
                    block_on_overflow: false,
                    ..QueueSettings::default()
                },
                ..DestinationSettings::default()
            }
            .into(),
            views: vec![MetricsView {
                aggregator: AggregatorSettings::default(),
                interval: Duration::from_millis(100),
            }],
            sampling: SamplingSettings::default(),
            shutdown_timeout: Duration::from_millis(1),
            timed: false,
        },
        ledger,
    )?;
    let mut identities = Identities::new(identity::Settings::replay());
    for service in 0..SERVICES {
        identities.seed(RecordedIdentity::of(
            process(service),
            resource_attributes(service),
        ));
    }
    Ok(Pipeline::new(
        Tracker::new(Settings::default(), 1, Arc::clone(ledger)),
        identities,
        Selection::new(Selectors::default()),
        Box::new(sink),
        Box::new(NoSteering),
        Arc::clone(ledger),
    ))
}

fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// CPU nanoseconds per exchange of some rounds, sorted, and allocations of one more. `round` times itself.
fn measure(
    mut round: impl FnMut() -> Result<f64, Box<dyn Error>>,
) -> Result<(Vec<f64>, f64), Box<dyn Error>> {
    round()?;
    let mut each = Vec::new();
    for _ in 0..ROUNDS {
        each.push(round()? / EXCHANGES as f64);
    }
    each.sort_by(f64::total_cmp);
    let mut last = Ok(0.0);
    let heap = allocation_counter::measure(|| last = round());
    last?;
    Ok((each, heap.count_total as f64 / EXCHANGES as f64))
}

fn timed(work: impl FnOnce()) -> Result<f64, Box<dyn Error>> {
    let begin = cpu_nanos();
    work();
    Ok(cpu_nanos() - begin)
}

fn row(what: &str, (each, allocations): &(Vec<f64>, f64), goal: &str) {
    let (median, least, most) = (each[each.len() / 2], each[0], each[each.len() - 1]);
    println!(
        "| {what} | {median:.0} ns ({least:.0}–{most:.0}), {allocations:.2} allocations | {goal} |"
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let events = events();
    let silent = TcpListener::bind("127.0.0.1:0")?;

    let whole = measure(|| {
        let ledger = Arc::new(Ledger::default());
        let mut pipeline = pipeline(&silent, &ledger)?;
        let mut result = Ok(());
        let time = timed(|| result = pipeline.replay(OFFSET, &events))?;
        result?;
        let spans = ledger.spans.snapshot().seen;
        match spans == EXCHANGES {
            true => Ok(time),
            false => Err(format!("{spans} spans of {EXCHANGES} exchanges").into()),
        }
    })?;
    let per_second: Vec<f64> = whole.0.iter().rev().map(|each| 1e9 / each / 1e3).collect();
    println!(
        "| exchanges per second and core, events to OTLP requests | {:.0} k ({:.0}–{:.0} k) | ≥ 500 k |",
        per_second[per_second.len() / 2],
        per_second[0],
        per_second[per_second.len() - 1],
    );
    row("one exchange, events to OTLP requests", &whole, "≤ 2000 ns");

    let track = |each: &mut dyn FnMut(&mut Vec<Measured>)| {
        let mut tracker = Tracker::new(Settings::default(), 1, Arc::default());
        let mut output = Output::default();
        for event in &events {
            tracker.handle(event, &mut output);
            each(&mut output.measured);
        }
        tracker.finish(&mut output);
        each(&mut output.measured);
    };
    let tracked = measure(|| timed(|| track(&mut Vec::clear)))?;
    row("of which parsing (protocols)", &tracked, "");

    let mut all = Vec::new();
    track(&mut |measured| all.append(measured));
    let resource = Arc::new(Resource::new(resource_attributes(0)));
    let aggregated = measure(|| {
        let mut aggregator = Aggregator::new(AggregatorSettings::default(), Arc::default());
        timed(|| {
            for one in &all {
                aggregator.record(&resource, black_box(one));
            }
        })
    })?;
    row("of which 3 histograms (exporter)", &aggregated, "");

    let mut buffer = Vec::with_capacity(1 << 20);
    let encoded = measure(|| {
        timed(|| {
            for one in &all {
                if buffer.len() > 1 << 19 {
                    buffer.clear();
                }
                encode_span(black_box(&one.span), &mut buffer);
            }
        })
    })?;
    row("of which encoding a span (exporter)", &encoded, "");

    let named = measure(|| {
        let mut peers = peers()?;
        let mut copies = all.clone();
        timed(|| {
            for one in &mut copies {
                if let PeerOf::Settled(peer) = peers.of(&one.span, false) {
                    peers.attach(peer, &resource, one);
                }
            }
        })
    })?;
    row(
        "added by naming the other end, with its edge of the service graph (off by default)",
        &named,
        "",
    );
    Ok(())
}

/// A cluster of one pod, which makes all the requests.
fn peers() -> Result<Peers, Box<dyn Error>> {
    let peers = Peers::told(&peers::Settings {
        watch: watch::Settings::new(watch::Access::InCluster, watch::Scope::Cluster),
        tables: spandrel_k8s_meta::peers::Settings::default(),
        hold: Duration::from_secs(5),
        service_graph: true,
    });
    let pod: PeerPod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "front-5d9c7b8f6d-aaaaa", "namespace": "shop", "resourceVersion": "1",
            "uid": "7c1a0000-0000-4000-8000-000000000001", "creationTimestamp": "2020-01-01T00:00:00Z",
            "labels": {"pod-template-hash": "5d9c7b8f6d"}, "ownerReferences": [{"apiVersion": "apps/v1",
                "kind": "ReplicaSet", "name": "front-5d9c7b8f6d", "controller": true}]},
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "containerStatuses": [
            {"state": {"running": {"startedAt": "2020-01-01T00:00:01Z"}}}]},
    }))?;
    let now = OFFSET.to_unix(KernelTime(0));
    peers.apply(watch::Change::<PeerPod>::ListBegan, now);
    peers.apply(watch::Change::Apply(Box::new(pod)), now);
    peers.apply(watch::Change::<PeerPod>::ListComplete, now);
    Ok(peers)
}
