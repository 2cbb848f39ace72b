//! What user space costs: events in memory in, OTLP protobuf requests in the exporter's queue out, on one thread.
//!
//! `cargo bench --bench pipeline` prints rows of a Markdown table and asserts nothing about time. Times are CPU time of
//! the thread, which a busy machine changes less than the clock on the wall. The allocator counts in all rounds.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use spandrel::identity::{self, Identities};
use spandrel::kubernetes::peers::{self, PeerOf, Peers};
use spandrel::kubernetes::{Hold, Kubernetes};
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
use spandrel_k8s_meta::store;
use spandrel_k8s_meta::watch::{self, Change};
use spandrel_model::recording::RecordedIdentity;
use spandrel_model::{
    Attribute, ClockOffset, ConnectionId, ConnectionOpened, Direction, Endpoint, Event, KernelTime,
    Ledger, Measured, Message, Origin, ProcessKey, Resource, Role, Stamp, Transport,
};
use spandrel_protocols::{Output, Settings, Tracker};
use spandrel_sampling::SamplingSettings;
use tempfile::TempDir;

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
        unseen: 0,
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
        flags: spandrel_model::MessageFlags::default(),
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
                passed: None,
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

/// Where the processes of the services are in pods: a `/proc` that says so, and what the API server has told of the pods.
struct Node(TempDir);

impl Node {
    fn new() -> io::Result<Self> {
        let node = Self(TempDir::new()?);
        for service in 0..SERVICES {
            let pid = process(service).tgid;
            let folder = node.0.path().join(pid.to_string());
            fs::create_dir_all(&folder)?;
            let zeros = "0 ".repeat(17);
            fs::write(folder.join("stat"), format!("{pid} (app) S 7 {zeros}0 0\n"))?;
            let [uid, container] = ids(service);
            let group = format!("0::/kubepods/burstable/pod{uid}/{container}\n");
            fs::write(folder.join("cgroup"), group)?;
            symlink("/usr/bin/python3.13", folder.join("exe"))?;
        }
        Ok(node)
    }

    fn identities(&self) -> Identities {
        Identities::new(identity::Settings {
            proc_root: Some(self.0.path().to_owned()),
            cgroup_roots: Vec::new(),
            ..identity::Settings::default()
        })
    }

    fn pods() -> Result<Kubernetes, Box<dyn Error>> {
        let mut pods = Kubernetes::told(store::Settings::default());
        for service in 0..SERVICES {
            let [uid, container] = ids(service);
            let text = format!(
                r#"{{"metadata":{{"name":"service-{service}-5d9c7b8f6d-x2x4z","namespace":"shop","uid":"{uid}",
                "resourceVersion":"1","labels":{{"pod-template-hash":"5d9c7b8f6d"}},"ownerReferences":[{{"apiVersion":"apps/v1",
                "kind":"ReplicaSet","name":"service-{service}-5d9c7b8f6d","uid":"r","controller":true}}]}},
                "spec":{{"nodeName":"n1","containers":[{{"name":"app","image":"shop/app:1.2"}}]}},
                "status":{{"phase":"Running","podIPs":[{{"ip":"10.0.0.1"}}],"containerStatuses":[{{"name":"app",
                "containerID":"containerd://{container}","image":"shop/app:1.2","imageID":"","restartCount":0,
                "state":{{"running":{{"startedAt":"2023-11-14T22:13:20Z"}}}}}}]}}}}"#
            );
            pods.apply(
                Change::Apply(serde_json::from_str(&text)?),
                OFFSET.to_unix(KernelTime(0)),
            );
        }
        Ok(pods)
    }
}

/// The uid of a service's pod, and the id of its container.
fn ids(service: u64) -> [String; 2] {
    let uid = format!("0a1b2c3d-0000-4000-8000-{service:012}");
    [uid, format!("{service:064x}")]
}

/// The agent's own pipeline into the queue of a destination that takes the connection and never answers.
fn pipeline(
    silent: &TcpListener,
    ledger: &Arc<Ledger>,
    node: Option<&Node>,
) -> Result<Pipeline, Box<dyn Error>> {
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
    let mut recorded = Identities::new(identity::Settings::replay());
    for service in 0..SERVICES {
        recorded.seed(RecordedIdentity::of(
            process(service),
            resource_attributes(service),
        ));
    }
    let identities = node.map_or(recorded, Node::identities);
    let mut pipeline = Pipeline::new(
        Tracker::new(Settings::default(), 1, Arc::clone(ledger)),
        identities,
        Selection::new(Selectors::default(), 65_536),
        Box::new(sink),
        Box::new(NoSteering),
        Arc::clone(ledger),
    );
    if node.is_some() {
        pipeline.with_pods(Node::pods()?, Hold::new(Duration::from_secs(5), 1 << 24));
    }
    Ok(pipeline)
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

fn per_second(what: &str, each: &[f64], goal: &str) {
    let rates: Vec<f64> = each.iter().rev().map(|each| 1e9 / each / 1e3).collect();
    let (median, least, most) = (rates[rates.len() / 2], rates[0], rates[rates.len() - 1]);
    println!("| {what} | {median:.0} k ({least:.0}–{most:.0} k) | {goal} |");
}

fn main() -> Result<(), Box<dyn Error>> {
    let events = events();
    let silent = TcpListener::bind("127.0.0.1:0")?;

    let round = |node: Option<&Node>| {
        let ledger = Arc::new(Ledger::default());
        let mut pipeline = pipeline(&silent, &ledger, node)?;
        let mut result = Ok(());
        let time = timed(|| result = pipeline.replay(OFFSET, &events))?;
        result?;
        let spans = ledger.spans.snapshot().seen;
        match spans == EXCHANGES {
            true => Ok(time),
            false => Err(format!("{spans} spans of {EXCHANGES} exchanges").into()),
        }
    };
    let whole = measure(|| round(None))?;
    let rate = "exchanges per second and core, events to OTLP requests";
    per_second(rate, &whole.0, "≥ 500 k");
    row("one exchange, events to OTLP requests", &whole, "≤ 2000 ns");

    let node = Node::new()?;
    let in_pods = measure(|| round(Some(&node)))?;
    per_second("… each of a process in a pod", &in_pods.0, "");
    row("one exchange of a process in a pod", &in_pods, "");

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
        node: None,
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
    peers.apply(Change::<PeerPod>::ListBegan, now);
    peers.apply(Change::Apply(Box::new(pod)), now);
    peers.apply(Change::<PeerPod>::ListComplete, now);
    Ok(peers)
}
