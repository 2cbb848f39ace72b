//! What the exporter can be told. Names follow the Collector's exporters and the SDK specification.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use spandrel_disk_queue::SyncPolicy;
use spandrel_model::redaction;

use crate::limits::AttributeLimits;

/// Everything.
#[derive(Debug, Default)]
pub struct ExporterSettings {
    /// Where things go. What no destination wants is counted as dropped.
    pub destinations: Vec<DestinationSettings>,
}

impl From<DestinationSettings> for ExporterSettings {
    fn from(only: DestinationSettings) -> Self {
        Self {
            destinations: vec![only],
        }
    }
}

/// One destination: it has queues, workers and retries of its own, and so delays no other.
#[derive(Debug, Default)]
pub struct DestinationSettings {
    /// Tells it from the others, in the ledger and the agent's own metrics. Two of one name share their accounts.
    pub name: String,
    /// Where spans go, if they are for this destination.
    pub traces: Option<Target>,
    /// Where metric points go, if they are for this destination.
    pub metrics: Option<Target>,
    /// Where log records go, if they are for this destination.
    pub logs: Option<Target>,
    /// What attributes may be like.
    pub limits: AttributeLimits,
    /// Which of the views of the metrics it gets: [`crate::Exporter::export_metrics`] names the view of a batch.
    pub view: usize,
    /// How spans are put together. Destinations that want the same share one encoding.
    pub batch: BatchSettings,
    /// What waits for the workers.
    pub queue: QueueSettings,
    /// What happens after a failure.
    pub retry: RetrySettings,
}

/// Where a signal goes.
#[allow(
    clippy::large_enum_variant,
    reason = "there are a few of them, made at the start"
)]
pub enum Target {
    /// An OTLP endpoint.
    Otlp(OtlpSettings),
    /// A stream, usually standard output.
    Console(Box<dyn Write + Send>, ConsoleFormat),
    /// A file that is appended to, OTLP JSON lines.
    File(PathBuf),
    /// For metrics and logs: the console or file of the traces, through the same queue, so that the order of the lines is the
    /// order in which they were handed over.
    SameStream,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Otlp(settings) => settings.fmt(f),
            Self::Console(_, format) => f.debug_tuple("Console").field(format).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::SameStream => f.write_str("SameStream"),
        }
    }
}

/// How a stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsoleFormat {
    /// One OTLP/JSON `Export*ServiceRequest` a line.
    #[default]
    OtlpJson,
}

/// The transport of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    HttpProtobuf,
    /// OTLP/JSON over HTTP.
    HttpJson,
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip, which every server has to accept.
    Gzip,
    /// zstd, for servers that are known to accept it, such as the Collector.
    Zstd,
}

/// An OTLP endpoint.
#[derive(Clone)]
pub struct OtlpSettings {
    /// Transport.
    pub protocol: Protocol,
    /// For HTTP the full URL of the signal (`.../v1/traces`), used as it is; for gRPC `scheme://host:port`.
    /// Without a scheme, `tls.insecure` decides.
    pub endpoint: String,
    /// Sent with each request; may hold credentials, and so is never printed.
    pub headers: Vec<(String, String)>,
    /// Compression.
    pub compression: Compression,
    /// How hard to compress: gzip 0 to 9, zstd -7 to 22. `None` is 1 for both.
    pub compression_level: Option<i32>,
    /// For one attempt; zero is no limit.
    pub timeout: Duration,
    /// Most bytes of a request before compression that the destination takes: a larger one is split before it is
    /// sent. What is a single item is sent whatever its size. `None` is as large as a batch may be.
    pub max_request_bytes: Option<usize>,
    /// Most bytes of a request before compression that are ever sent. A larger one is split; a single item that is
    /// larger is dropped.
    pub max_request_size: usize,
    /// Most bytes of an answer, compressed or not, that are read.
    pub max_response_size: usize,
    /// Whether RESOURCE_EXHAUSTED without RetryInfo is retried. The specification says no; a Collector whose memory
    /// limiter is at work answers so.
    pub retry_resource_exhausted: bool,
    /// The HTTP proxy before the endpoint.
    pub proxy: ProxySettings,
    /// TLS.
    pub tls: TlsSettings,
}

impl OtlpSettings {
    /// An endpoint with the specification's defaults: 10 s, no headers, no compression, the system's roots, requests
    /// of at most 64 MiB and answers of at most 4 MiB; and the proxy that the environment names.
    pub fn new(protocol: Protocol, endpoint: impl Into<String>) -> Self {
        Self {
            protocol,
            endpoint: endpoint.into(),
            headers: Vec::new(),
            compression: Compression::None,
            compression_level: None,
            timeout: Duration::from_secs(10),
            max_request_bytes: None,
            max_request_size: 64 * 1024 * 1024,
            max_response_size: 4 * 1024 * 1024,
            retry_resource_exhausted: false,
            proxy: ProxySettings::Environment,
            tls: TlsSettings::default(),
        }
    }
}

impl OtlpSettings {
    /// What a zero timeout means to clocks that know no infinity.
    const NO_LIMIT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

    /// How long one attempt may take.
    pub(crate) fn attempt_limit(&self) -> Duration {
        if self.timeout.is_zero() {
            return Self::NO_LIMIT;
        }
        self.timeout
    }
}

impl fmt::Debug for OtlpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Otlp")
            .field("protocol", &self.protocol)
            .field("endpoint", &redaction::url(&self.endpoint))
            .field("headers", &names)
            .field("compression", &self.compression)
            .field("compression_level", &self.compression_level)
            .field("timeout", &self.timeout)
            .field("max_request_bytes", &self.max_request_bytes)
            .field("max_request_size", &self.max_request_size)
            .field("max_response_size", &self.max_response_size)
            .field("retry_resource_exhausted", &self.retry_resource_exhausted)
            .field("proxy", &self.proxy)
            .field("tls", &self.tls)
            .finish()
    }
}

/// Which HTTP proxy stands before an endpoint.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum ProxySettings {
    /// That of `HTTPS_PROXY` or `HTTP_PROXY` (by the endpoint's scheme, or in lower case), except for what `NO_PROXY`
    /// names and for addresses of this machine.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one.
    Url {
        /// `http://host:port`, with `user:password@` where the proxy wants them; and so never printed.
        url: String,
        /// Hosts that are reached without it, as in `NO_PROXY`: names, `.domains`, addresses, networks, by commas.
        no_proxy: String,
    },
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::Direct => f.write_str("Direct"),
            Self::Url { no_proxy, .. } => f
                .debug_struct("Url")
                .field("no_proxy", no_proxy)
                .finish_non_exhaustive(),
        }
    }
}

/// TLS to an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Plaintext where the endpoint names no scheme; a scheme always wins.
    pub insecure: bool,
    /// PEM file of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client's private key.
    pub key_file: Option<PathBuf>,
}

/// How spans are put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// Time between two consecutive exports.
    pub schedule_delay: Duration,
    /// How long the first span after a quiet time (longer than `schedule_delay`) waits for others.
    pub linger: Duration,
    /// Most spans of a request.
    pub max_export_batch_size: usize,
    /// Most bytes of a request before compression. Below the 4 MiB at which gRPC servers refuse by default.
    pub max_request_bytes: usize,
    /// Most encoded resources that are kept for the next batches.
    pub resource_cache_size: usize,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            schedule_delay: Duration::from_secs(5),
            linger: Duration::from_millis(100),
            max_export_batch_size: 512,
            max_request_bytes: 4 * 1024 * 1024 - 64 * 1024,
            resource_cache_size: 1024,
        }
    }
}

/// `sending_queue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Whether requests wait for a free consumer; without, what finds every one busy is dropped.
    pub enabled: bool,
    /// Most bytes that wait, for each signal.
    pub queue_size: usize,
    /// Requests that are sent at the same time, for each signal.
    pub num_consumers: usize,
    /// Wait for room in place of dropping the oldest: for a replay into a file, not for a running agent.
    pub block_on_overflow: bool,
    /// Where requests wait on disk, for endpoints; `queue_size` is then what may wait in memory while the disk fails.
    pub storage: Option<StorageSettings>,
}

/// `sending_queue.storage`. docs/disk-queue.md says what each of these promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// The directory; each signal of each destination has its own below it.
    pub directory: PathBuf,
    /// Most bytes on disk, for each signal.
    pub max_size: u64,
    /// Requests that waited longer are dropped; `None` keeps them.
    pub max_age: Option<Duration>,
    /// When requests are forced to the disk.
    pub fsync: SyncPolicy,
    /// How long the pipeline waits for a disk that says nothing. After that requests wait in memory, and may overtake.
    pub push_wait: Duration,
}

impl StorageSettings {
    /// 1 GiB, of any age, synced every 200 ms, waited for at most 100 ms.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_size: 1 << 30,
            max_age: None,
            fsync: SyncPolicy::default(),
            push_wait: Duration::from_millis(100),
        }
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            queue_size: 64 * 1024 * 1024,
            num_consumers: 4,
            block_on_overflow: false,
            storage: None,
        }
    }
}

/// `retry_on_failure`.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySettings {
    /// Whether to try again at all.
    pub enabled: bool,
    /// Wait after the first failure.
    pub initial_interval: Duration,
    /// Each wait is the one before times this.
    pub multiplier: f64,
    /// Share of a wait by which it varies at random, 0 to 1.
    pub randomization_factor: f64,
    /// Longest wait of our own; a server may ask for a longer one.
    pub max_interval: Duration,
    /// Give a request up after this time; zero is never.
    pub max_elapsed_time: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(1),
            multiplier: 1.5,
            randomization_factor: 0.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::ZERO,
        }
    }
}
