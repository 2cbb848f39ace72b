//! The configuration as plain types, one struct for each area.
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::profile::Profile;

/// Everything that Spandrel can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// True if nothing shall be captured nor sent.
    pub disabled: bool,
    /// Least severity of the agent's own log.
    pub log_level: LogLevel,
    /// Attributes added to each resource, in the order of the file. `service.name` is for those that
    /// nobody else names: it goes before what is derived from a unit or a program.
    pub resource: Vec<(String, AttributeValue)>,
    /// Where spans go.
    pub traces: Vec<SpanProcessor>,
    /// Which spans are sent.
    pub sampler: Sampler,
    /// Where metrics go.
    pub metrics: Vec<MetricReader>,
    /// How traffic is captured.
    pub capture: Capture,
    /// How many attributes a span may have, and how long.
    pub attribute_limits: AttributeLimits,
    /// How HTTP is read.
    pub http: Http,
    /// How metrics are made.
    pub aggregation: Aggregation,
    /// Which spans are sent beside those of the sampler, and how many at most.
    pub sampling: Sampling,
    /// How requests are sent.
    pub export: Export,
    /// Which pods are known.
    pub kubernetes: Kubernetes,
    /// How containers are known.
    pub containers: Containers,
    /// What the agent says about itself.
    pub self_telemetry: SelfTelemetry,
    /// Longest time that data on its way may take after SIGTERM.
    pub shutdown_timeout: Duration,
}

/// Bounds of the attributes of spans; none where nothing is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttributeLimits {
    /// Longest text, in characters.
    pub value_length: Option<u64>,
    /// Most attributes.
    pub count: Option<u64>,
}

/// Severity of the agent's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For finding faults.
    Debug,
    /// The usual.
    Info,
    /// What may need attention.
    Warn,
    /// What needs attention.
    Error,
    /// Nothing.
    Off,
}

/// Value of a resource attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// A string.
    String(String),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Double(f64),
    /// Strings.
    Strings(Vec<String>),
    /// Booleans.
    Bools(Vec<bool>),
    /// Integers.
    Ints(Vec<i64>),
    /// Numbers.
    Doubles(Vec<f64>),
}

/// One way for spans.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanProcessor {
    /// How spans are gathered; `None` sends each at once.
    pub batch: Option<Batch>,
    /// Where they go.
    pub exporter: Exporter,
}

/// How spans are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Longest time that a span waits for others.
    pub schedule_delay: Duration,
    /// Most spans in one request.
    pub max_export_batch_size: u64,
}

/// One way for metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricReader {
    /// Time between two exports.
    pub interval: Duration,
    /// What a sum counts from.
    pub temporality: Temporality,
    /// Kind of the histograms.
    pub histogram: Histogram,
    /// Most attribute sets of one metric; what is beyond goes to `otel.metric.overflow`.
    pub cardinality_limit: u64,
    /// Where they go.
    pub exporter: Exporter,
}

/// What a sum counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temporality {
    /// From the start.
    Cumulative,
    /// From the last export.
    Delta,
    /// Delta where that saves memory.
    LowMemory,
}

/// Kind of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Histogram {
    /// With fixed boundaries.
    Explicit,
    /// With boundaries that fit themselves to the values.
    Exponential,
}

/// Where data goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Exporter {
    /// OTLP over HTTP or gRPC.
    Otlp(Otlp),
    /// OTLP JSON lines; `stdout`, or `file:///path`.
    OtlpFile {
        /// The destination.
        output_stream: String,
    },
    /// The standard output, in the form that [`Export::console`] says.
    Console,
}

/// How OTLP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    HttpProtobuf,
    /// JSON over HTTP.
    HttpJson,
}

impl Protocol {
    /// As the environment and the configuration spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }
}

/// An OTLP destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// How to speak.
    pub protocol: Protocol,
    /// Complete URL, with the signal's path for HTTP; gRPC endpoints always carry a scheme here.
    pub endpoint: String,
    /// Headers or metadata of each request.
    pub headers: Vec<(String, Secret)>,
    /// Whether requests are compressed.
    pub compression: Compression,
    /// Longest time for one request; zero is no limit.
    pub timeout: Duration,
    /// Files for TLS.
    pub tls: Tls,
    /// What kind of backend it is, and so what it demands.
    pub profile: Profile,
    /// Most bytes of a request before compression that are ever sent; `None` is no limit.
    pub max_request_size: Option<u64>,
    /// Most bytes of an answer that are read; `None` is no limit.
    pub max_response_size: Option<u64>,
    /// How hard to compress; `None` is as little as the compression knows.
    pub compression_level: Option<i32>,
    /// The HTTP proxy before it; an empty one is none, `None` is that of the environment.
    pub proxy_url: Option<String>,
}

/// Compression of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The compression of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

/// PEM files for TLS; absent ones mean the system's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates that sign the server's.
    pub ca_file: Option<String>,
    /// The client's key.
    pub key_file: Option<String>,
    /// The client's certificate.
    pub cert_file: Option<String>,
}

/// A value that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What a secret is shown as.
    pub const REDACTED: &'static str = spandrel_model::redaction::REDACTED;

    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the request and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::REDACTED)
    }
}

/// How traffic is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// How messages are seen in the kernel.
    pub backend: Backend,
    /// Size of the ring buffer; a power of two.
    pub ring_buffer_bytes: u64,
    /// How many bytes of a message are copied after a change of direction.
    pub copy_bytes: u64,
    /// Up to where a head is copied that is longer than that.
    pub head_bytes: u64,
    /// Whether streams of `AF_UNIX` are captured.
    pub unix_sockets: bool,
    /// Messages a second that one cgroup may add.
    pub cgroup_messages_per_second: u64,
    /// What to capture; without entries everything.
    pub include: Vec<Selector>,
    /// What not to capture; wins over `include`.
    pub exclude: Vec<Selector>,
}

/// How messages are seen in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The best that this kernel takes.
    Auto,
    /// Socket tracepoints.
    Socket,
    /// fentry and fexit.
    Fexit,
    /// System call tracepoints.
    Syscall,
}

/// A description of processes; the given parts must all match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Process identifier.
    pub pid: Option<u32>,
    /// Pattern for the path of the executable.
    pub executable: Option<String>,
    /// First and last port, of either end.
    pub port: Option<(u16, u16)>,
    /// Pattern for the container identifier.
    pub container_id: Option<String>,
    /// What its pod must be like.
    pub pod: PodSelector,
}

/// A description of pods; the given parts must all match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSelector {
    /// Pattern for the namespace.
    pub namespace: Option<String>,
    /// Patterns for labels, by key.
    pub labels: Vec<(String, String)>,
    /// Patterns for annotations, by key.
    pub annotations: Vec<(String, String)>,
    /// Kind of the workload.
    pub workload_kind: Option<String>,
    /// Pattern for the name of the workload.
    pub workload_name: Option<String>,
    /// Pattern for the name of the container.
    pub container_name: Option<String>,
}

/// Which pods are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// Whether pods are asked for; `None` does so within a pod.
    pub enabled: Option<bool>,
    /// The node whose pods are asked for.
    pub node_name: Option<String>,
    /// File that says how to reach the API server; within a pod it is known without.
    pub kubeconfig: Option<String>,
    /// `k8s.cluster.name`.
    pub cluster_name: Option<String>,
    /// Labels that become attributes.
    pub pod_labels: Vec<String>,
    /// Annotations that become attributes.
    pub pod_annotations: Vec<String>,
    /// Whether well-known labels name services.
    pub service_from_labels: bool,
    /// How long what a new pod does waits for its pod.
    pub hold: Duration,
    /// How many bytes of it wait.
    pub hold_bytes: u64,
    /// How long a deleted pod still answers.
    pub grace: Duration,
    /// Most pods that are kept.
    pub max_pods: u64,
    /// The other ends of connections.
    pub peers: Peers,
}

/// How the other end of a connection is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// Whether it is: all pods, Services and nodes of the cluster are asked for then.
    pub enabled: bool,
    /// Most of them that are kept.
    pub max_objects: u64,
    /// Whether metrics of the service graph are made.
    pub service_graph: bool,
}

/// How containers are known beside their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containers {
    /// Whether container runtimes are asked.
    pub enabled: bool,
    /// Their sockets, in the order in which they are asked.
    pub sockets: Vec<String>,
    /// How long what a new container does waits for the answer.
    pub hold: Duration,
}

/// How HTTP is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Whether it is read at all.
    pub enabled: bool,
    /// Whether the values of a query string are kept.
    pub query_values: QueryValues,
    /// Query parameters whose values are kept in any case.
    pub allowed_query_parameters: Vec<String>,
    /// Known routes, such as `/users/{id}`.
    pub route_patterns: Vec<String>,
    /// Most different routes of one service.
    pub max_routes_per_service: usize,
    /// Most connections followed at a time.
    pub max_connections: usize,
}

/// What happens to the values of a query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryValues {
    /// They are replaced.
    Redacted,
    /// They are kept.
    Allowed,
}

/// How metrics are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregation {
    /// Boundaries of explicit histograms, in seconds, ascending.
    pub explicit_bucket_boundaries: Vec<f64>,
    /// Whether points name a span as an example.
    pub exemplars: bool,
    /// Whether each process is a service instance of its own.
    pub per_process: bool,
}

/// Which spans are sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// Those of this share of all traces.
    TraceIdRatioBased(f64),
    /// It depends on the parent.
    ParentBased(Box<ParentBased>),
}

/// What decides, by what is known of the parent.
#[derive(Debug, Clone, PartialEq)]
pub struct ParentBased {
    /// There is none.
    pub root: Sampler,
    /// It is in another process and sampled.
    pub remote_parent_sampled: Sampler,
    /// It is in another process and not sampled.
    pub remote_parent_not_sampled: Sampler,
    /// It is in the same process and sampled.
    pub local_parent_sampled: Sampler,
    /// It is in the same process and not sampled.
    pub local_parent_not_sampled: Sampler,
}

/// Which spans are sent beside those of the sampler, and how many at most.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Whether spans with an error are kept in any case.
    pub keep_errors: bool,
    /// Whether slow spans are kept in any case.
    pub keep_slow: KeepSlow,
    /// How many spans may leave.
    pub rate_limit: RateLimit,
    /// Most services that are followed one by one.
    pub max_services: usize,
}

/// Which spans are slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeepSlow {
    /// Whether the rule holds.
    pub enabled: bool,
    /// The share of a service's spans that is not slow.
    pub quantile: f64,
    /// Time after which a span counts half.
    pub half_life: Duration,
}

/// How many spans may leave in a second; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Of all services together.
    pub spans_per_second: f64,
    /// Of each service.
    pub spans_per_second_per_service: f64,
}

/// How requests are sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// What a console exporter of spans prints.
    pub console: ConsoleFormat,
    /// What waits for a slow backend.
    pub sending_queue: SendingQueue,
    /// What happens to failed requests.
    pub retry_on_failure: RetryOnFailure,
    /// Largest request before compression.
    pub max_request_bytes: u64,
    /// How hard to compress, where a destination does not say.
    pub compression_level: Option<i32>,
    /// The HTTP proxy, where a destination does not say.
    pub proxy_url: Option<String>,
    /// Destinations beside those of the providers.
    pub destinations: Vec<Destination>,
}

/// A destination with a name and settings of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// Tells it from the others; no two have the same.
    pub name: String,
    /// How spans go there, if they do.
    pub traces: Option<SpanProcessor>,
    /// How metrics go there, if they do.
    pub metrics: Option<MetricReader>,
    /// What waits for it.
    pub sending_queue: SendingQueue,
    /// What happens to its failed requests.
    pub retry_on_failure: RetryOnFailure,
    /// Largest request before compression.
    pub max_request_bytes: u64,
}

/// What a console exporter of spans prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleFormat {
    /// OTLP JSON lines.
    OtlpJson,
    /// A table to read: a line for each request, latencies at the end in place of metric points.
    Text,
}

/// What waits for a slow backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingQueue {
    /// Whether anything waits.
    pub enabled: bool,
    /// Most bytes waiting for one destination.
    pub queue_size: u64,
    /// Requests on their way at a time.
    pub num_consumers: usize,
    /// Where requests wait on disk, if they do.
    pub storage: Option<Storage>,
}

/// A queue on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Its directory.
    pub directory: PathBuf,
    /// Most bytes for each signal of a destination.
    pub max_size: u64,
    /// Requests that waited longer are dropped; zero keeps them.
    pub max_age: Duration,
    /// When requests are forced to the disk.
    pub fsync: Fsync,
    /// How often, where that is [`Fsync::Interval`].
    pub fsync_interval: Duration,
}

/// When what was written is forced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before the pipeline goes on.
    Always,
    /// Now and then.
    Interval,
    /// When the kernel likes to.
    Never,
}

/// What happens to failed requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryOnFailure {
    /// Whether they are sent again.
    pub enabled: bool,
    /// Time before the first repetition.
    pub initial_interval: Duration,
    /// What the interval grows by.
    pub multiplier: f64,
    /// Longest interval.
    pub max_interval: Duration,
    /// Time after which a request is given up; zero for never.
    pub max_elapsed_time: Duration,
    /// Whether RESOURCE_EXHAUSTED without RetryInfo is retried.
    pub resource_exhausted: bool,
}

/// What the agent says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTelemetry {
    /// Whether it says anything.
    pub enabled: bool,
    /// Time between two exports.
    pub interval: Duration,
}
