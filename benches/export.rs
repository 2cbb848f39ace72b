//! What export costs: spans in memory in, acknowledged by a real Collector out.
//!
//! `cargo bench --bench export` prints rows of a Markdown table and asserts nothing about time. Times are CPU time of
//! the whole process, all threads; the Collector is another process. The spans are those of the specification's
//! performance benchmark: ten attributes, keys and values of twenty characters. Needs `make collector`.
//! `SPANDREL_BENCH_OUTAGE` is the length of the outage in seconds, 60 unless it is set.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::error::Error;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use spandrel_exporter::sdk::SdkSpanSink;
use spandrel_exporter::{
    BatchSettings, Compression, DestinationSettings, Exporter, OtlpSettings, Protocol,
    QueueSettings, Target,
};
use spandrel_model::{
    Attribute, Ledger, ProcessKey, Resource, SpanId, SpanKind, SpanRecord, SpanStatus, TraceId,
    UnixTime,
};
use tokio::runtime::Runtime;

const SPANS: usize = 400_000;
const SERVICES: usize = 8;
const ROUNDS: usize = 5;
const QUEUE: usize = 64 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn span(n: usize) -> SpanRecord {
    let id = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut trace = [0; 16];
    trace[..8].copy_from_slice(&id.to_be_bytes());
    trace[8..].copy_from_slice(&id.rotate_left(31).to_be_bytes());
    let attributes = (0..10)
        .map(|at| {
            Attribute::new(
                format!("benchmark.attribut{at:02}"),
                format!("value-{at:02}-{:011x}", id >> 20),
            )
        })
        .collect();
    SpanRecord {
        trace_id: TraceId(trace),
        span_id: SpanId(id.to_be_bytes()),
        parent_span_id: None,
        parent_is_remote: false,
        trace_begun_here: false,
        trace_flags: 1,
        trace_state: "".into(),
        name: "GET /api/v1/orders/{id}".into(),
        kind: SpanKind::Server,
        start: UnixTime(1_700_000_000_000_000_000 + n as u64 * 1000),
        end: UnixTime(1_700_000_000_001_000_000 + n as u64 * 1000),
        attributes,
        dropped_attributes: 0,
        status: SpanStatus::Unset,
        process: ProcessKey {
            tgid: 1,
            started: 1,
        },
        cgroup: 0,
    }
}

fn resources() -> Vec<Arc<Resource>> {
    (0..SERVICES)
        .map(|n| {
            Arc::new(Resource::new(vec![
                Attribute::new("service.name", format!("service-{n}")),
                Attribute::new("service.instance.id", format!("instance-{n}")),
                Attribute::new("host.name", "node-1"),
                Attribute::new("process.pid", 4711 + n as i64),
            ]))
        })
        .collect()
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Resident memory now, in bytes.
fn rss() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.ok_or("no VmRSS")?.parse::<u64>()? * 1024)
}

struct Collector {
    process: Child,
    grpc: u16,
    http: u16,
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Collector {
    fn start() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let binary = root.join("target/otelcol/otelcol");
        if !binary.is_file() {
            return Err("no Collector: `make collector` builds it".into());
        }
        let free = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        let (grpc, http, health) = (free()?, free()?, free()?);
        let process = Command::new(binary)
            .arg("--config")
            .arg(root.join("deploy/otel-collector/config/bench.yaml"))
            .env("OTELCOL_GRPC_PORT", grpc.to_string())
            .env("OTELCOL_HTTP_PORT", http.to_string())
            .env("OTELCOL_HEALTH_PORT", health.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let collector = Self {
            process,
            grpc,
            http,
        };
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", http)).is_err() {
            if Instant::now() > until {
                return Err("the Collector does not listen".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(collector)
    }

    fn target(&self, protocol: Protocol, compression: Compression) -> Target {
        let endpoint = match protocol {
            Protocol::Grpc => format!("http://127.0.0.1:{}", self.grpc),
            _ => format!("http://127.0.0.1:{}/v1/traces", self.http),
        };
        Target::Otlp(OtlpSettings {
            compression,
            ..OtlpSettings::new(protocol, endpoint)
        })
    }
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?)
}

fn destination(target: Target) -> DestinationSettings {
    DestinationSettings {
        traces: Some(target),
        batch: BatchSettings {
            max_export_batch_size: 4096,
            ..BatchSettings::default()
        },
        queue: QueueSettings {
            queue_size: QUEUE,
            block_on_overflow: true,
            ..QueueSettings::default()
        },
        ..DestinationSettings::default()
    }
}

/// CPU nanoseconds of a span from memory to the Collector's acknowledgement.
fn ours(collector: &Collector, protocol: Protocol, compression: Compression) -> Result<f64> {
    let runtime = runtime()?;
    let ledger = Arc::new(Ledger::default());
    let settings = destination(collector.target(protocol, compression));
    let mut exporter = Exporter::start(settings, Arc::clone(&ledger), runtime.handle())?;
    let resources = resources();
    let spans: Vec<SpanRecord> = (0..2000).map(span).collect();
    let begin = process_cpu();
    for n in 0..SPANS / spans.len() {
        let owner = &resources[n % SERVICES];
        // The clone is not export: it is measured alone and taken off.
        exporter.export_spans(spans.iter().map(|span| (Arc::clone(owner), span.clone())));
    }
    if !exporter.flush_blocking(Duration::from_secs(120)) {
        return Err("the Collector does not acknowledge".into());
    }
    let spent = process_cpu() - begin;
    runtime.block_on(exporter.shutdown(Duration::from_secs(1)));
    let settled = ledger.spans.snapshot().settled;
    if settled != SPANS as u64 {
        return Err(format!("{settled} of {SPANS} spans were acknowledged").into());
    }
    let begin = process_cpu();
    for _ in 0..SPANS / spans.len() {
        for span in &spans {
            drop(std::hint::black_box(span.clone()));
        }
    }
    let cloned = process_cpu() - begin;
    Ok(spent.saturating_sub(cloned).as_nanos() as f64 / SPANS as f64)
}

/// The same through the exporter of opentelemetry-otlp, 512 spans a call, which is its usual batch.
fn sdk(collector: &Collector) -> Result<f64> {
    use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
    let runtime = runtime()?;
    let ledger = Arc::new(Ledger::default());
    let spans: Vec<SpanRecord> = (0..2048).map(span).collect();
    let owner = resources().remove(0);
    let mut result = Ok(Duration::ZERO);
    runtime.block_on(async {
        let built = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://127.0.0.1:{}", collector.grpc))
            .with_compression(opentelemetry_otlp::Compression::Gzip)
            .build();
        let exporter = match built {
            Ok(exporter) => exporter,
            Err(error) => return result = Err(error),
        };
        let mut sink = SdkSpanSink::new(exporter, Arc::clone(&ledger));
        let begin = process_cpu();
        for _ in 0..SPANS / 4 / spans.len() {
            for batch in spans.chunks(512) {
                sink.export(batch.iter().map(|span| (Arc::clone(&owner), span.clone())))
                    .await;
            }
        }
        result = Ok(process_cpu() - begin);
    });
    let settled = ledger.spans.snapshot().settled;
    Ok(result?.as_nanos() as f64 / settled as f64)
}

/// Share of a core at so many spans a second, in per cent.
fn paced(collector: &Collector, per_second: usize, compression: Compression) -> Result<f64> {
    let runtime = runtime()?;
    let ledger = Arc::new(Ledger::default());
    let mut settings = destination(collector.target(Protocol::HttpProtobuf, compression));
    settings.batch.schedule_delay = Duration::from_millis(200);
    let mut exporter = Exporter::start(settings, Arc::clone(&ledger), runtime.handle())?;
    let owner = resources().remove(0);
    let spans: Vec<SpanRecord> = (0..per_second / 100).map(span).collect();
    let (begin, clock) = (process_cpu(), Instant::now());
    for n in 1..=1000_u32 {
        exporter.export_spans(spans.iter().map(|span| (Arc::clone(&owner), span.clone())));
        exporter.tick(Instant::now());
        let next = clock + n * Duration::from_millis(10);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    exporter.flush_blocking(Duration::from_secs(30));
    let share = (process_cpu() - begin).as_secs_f64() / clock.elapsed().as_secs_f64();
    runtime.block_on(exporter.shutdown(Duration::from_secs(1)));
    Ok(share * 100.0)
}

/// How much memory grows while nobody answers, and how much may wait.
fn outage(per_second: usize, seconds: u32) -> Result<(u64, u64)> {
    let nobody = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}/v1/traces", nobody.local_addr()?);
    drop(nobody);
    let runtime = runtime()?;
    let ledger = Arc::new(Ledger::default());
    let target = Target::Otlp(OtlpSettings::new(Protocol::HttpProtobuf, endpoint));
    let mut settings = destination(target);
    settings.queue.block_on_overflow = false;
    let mut exporter = Exporter::start(settings, Arc::clone(&ledger), runtime.handle())?;
    let owner = resources().remove(0);
    let spans: Vec<SpanRecord> = (0..per_second / 100).map(span).collect();
    let before = rss()?;
    let mut most = before;
    let clock = Instant::now();
    for n in 1..=seconds * 100 {
        exporter.export_spans(spans.iter().map(|span| (Arc::clone(&owner), span.clone())));
        exporter.tick(Instant::now());
        if n % 100 == 0 {
            most = most.max(rss()?);
        }
        let next = clock + n * Duration::from_millis(10);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let dropped: u64 = ledger.spans.snapshot().dropped.values().sum();
    runtime.block_on(exporter.shutdown(Duration::ZERO));
    Ok((most - before, dropped))
}

fn sorted(mut each: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        all.push(each()?);
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

fn main() -> Result<()> {
    let collector = Collector::start()?;
    for (what, protocol, compression, goal) in [
        ("HTTP", Protocol::HttpProtobuf, Compression::None, ""),
        (
            "HTTP, gzip",
            Protocol::HttpProtobuf,
            Compression::Gzip,
            "≥ 400 k",
        ),
        ("gRPC, gzip", Protocol::Grpc, Compression::Gzip, "≥ 400 k"),
    ] {
        let each = sorted(|| ours(&collector, protocol, compression))?;
        let per_second = |ns: f64| 1e6 / ns;
        println!(
            "| spans per second and core, encoded, sent to a Collector: {what} | {:.0} k ({:.0}–{:.0} k), {:.0} ns each | {goal} |",
            per_second(each[ROUNDS / 2]),
            per_second(each[ROUNDS - 1]),
            per_second(each[0]),
            each[ROUNDS / 2],
        );
    }
    let each = sorted(|| sdk(&collector))?;
    println!(
        "| … the same through opentelemetry-otlp: gRPC, gzip | {:.0} k, {:.0} ns ({:.0}–{:.0}) each |  |",
        1e6 / each[ROUNDS / 2],
        each[ROUNDS / 2],
        each[0],
        each[ROUNDS - 1],
    );
    let share = paced(&collector, 10_000, Compression::Gzip)?;
    println!("| CPU of a core at 10,000 spans/s: HTTP, gzip | {share:.1} % | ≤ 10 % |");
    let seconds = std::env::var("SPANDREL_BENCH_OUTAGE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(60);
    let (growth, dropped) = outage(10_000, seconds)?;
    println!(
        "| memory added by {seconds} s without a backend at 10,000 spans/s, {} MiB of queue | {:.1} MB, {dropped} of the oldest spans counted as dropped | ≤ the queue |",
        QUEUE >> 20,
        growth as f64 / 1e6
    );
    Ok(())
}
