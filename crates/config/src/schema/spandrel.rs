//! `distribution.spandrel`: the keys of our own.
use super::otlp::{GRPC_TLS, HEADERS, HISTOGRAM, TEMPORALITY};
use super::{BOOL, Field, Map, NON_NEGATIVE, POSITIVE, Rest, Shape, TEXT, TEXTS};

/// What the kernel side can copy of one message.
const COPY_MAX: u64 = 28 << 10;

static DURATION: Shape = Shape::Duration;
static GLOB: Shape = Shape::Glob;

static PATTERNS: Shape = Shape::Map(&Map {
    fields: &[],
    rest: Rest::Free,
});
static POD_SELECTOR: Shape = Shape::Map(&Map::closed(&[
    Field::new("namespace", &GLOB).acts("Pattern for the namespace."),
    Field::new("pod_labels", &PATTERNS).acts("Patterns for labels, by key."),
    Field::new("pod_annotations", &PATTERNS).acts("Patterns for annotations, by key."),
    Field::new("workload_kind", &TEXT).acts("Kind of the workload, for example Deployment."),
    Field::new("workload_name", &GLOB).acts("Pattern for the name of the workload."),
    Field::new("container_name", &GLOB).acts("Pattern for the name of the container."),
]));
static SELECTOR: Shape = Shape::Map(&Map::closed(&[
    Field::new(
        "pid",
        &Shape::Int {
            min: 1,
            max: 4_194_304,
        },
    )
    .acts("Process identifier."),
    Field::new("executable", &GLOB)
        .acts("Pattern for the path of the executable; * stands for any part of it, / too."),
    Field::new("port", &Shape::Ports)
        .acts("Port of either end, or a range such as \"8000-8999\". A Unix stream has no port."),
    Field::new("container_id", &GLOB).acts("Pattern for the container identifier."),
    Field::new("kubernetes", &POD_SELECTOR)
        .doc("What its pod must be like; a process in no pod meets no such condition."),
]));
static SELECTORS: Shape = Shape::Map(&Map::closed(&[
    Field::new(
        "include",
        &Shape::List {
            of: &SELECTOR,
            min: 0,
        },
    )
    .doc("What to capture; without entries everything. The keys of one entry must all match."),
    Field::new(
        "exclude",
        &Shape::List {
            of: &SELECTOR,
            min: 0,
        },
    )
    .doc("What not to capture; wins over include."),
]));
pub(crate) const BACKENDS: &[&str] = &["auto", "socket", "fexit", "syscall"];
static CAPTURE: Shape = Shape::Map(&Map::closed(&[
    Field::new("backend", &Shape::Word(BACKENDS)).acts("How messages are seen in the kernel."),
    Field::new(
        "ring_buffer_bytes",
        &Shape::Size {
            min: 4096,
            max: 1 << 30,
            power_of_two: true,
        },
    )
    .acts("Size of the ring buffer between kernel and agent."),
    Field::new(
        "copy_bytes",
        &Shape::Size {
            min: 64,
            max: COPY_MAX,
            power_of_two: false,
        },
    )
    .acts("How many bytes of a message are copied after a change of direction."),
    Field::new(
        "head_bytes",
        &Shape::Size {
            min: 64,
            max: COPY_MAX,
            power_of_two: false,
        },
    )
    .acts("Up to where a head is copied that is longer than copy_bytes."),
    Field::new("unix_sockets", &BOOL).acts("Whether streams of AF_UNIX are captured."),
    Field::new(
        "cgroup_messages_per_second",
        &Shape::Int {
            min: 1,
            max: u32::MAX as i128,
        },
    )
    .acts("Messages a second that one cgroup may add before it loses its own."),
    Field::new("selectors", &SELECTORS).doc("Which processes are captured."),
]));
pub(crate) const QUERY_VALUES: &[&str] = &["redacted", "allowed"];
static HTTP: Shape = Shape::Map(&Map::closed(&[
    Field::new("enabled", &BOOL).acts("Whether HTTP/1 is parsed."),
    Field::new("query_values", &Shape::Word(QUERY_VALUES))
        .acts("Whether the values of a query string are replaced by REDACTED."),
    Field::new("allowed_query_parameters", &TEXTS)
        .acts("Query parameters whose values are kept although the others are redacted."),
    Field::new("route_patterns", &TEXTS).acts("Known routes, such as /users/{id}."),
    Field::new(
        "max_routes_per_service",
        &Shape::Int {
            min: 1,
            max: 100_000,
        },
    )
    .acts("Most different routes of one service."),
    Field::new(
        "max_connections",
        &Shape::Int {
            min: 1,
            max: 16_777_216,
        },
    )
    .acts("Most connections followed at a time."),
]));
static PROTOCOLS: Shape = Shape::Map(&Map::closed(&[Field::new("http", &HTTP)]));
static METRICS: Shape = Shape::Map(&Map::closed(&[
    Field::new(
        "explicit_bucket_boundaries",
        &Shape::List {
            of: &Shape::Number { min: 0.0, max: 1e9 },
            min: 1,
        },
    )
    .acts("Boundaries in seconds, used if the histograms are explicit ones."),
    Field::new("exemplars", &BOOL).acts("Whether metric points name a span as an example."),
    Field::new("per_process", &BOOL).acts(
        "Whether each process is a service instance of its own: metrics have process.*, and service.instance.id is the process's.",
    ),
]));
static KEEP_SLOW: Shape = Shape::Map(&Map::closed(&[
    Field::new("enabled", &BOOL).acts("Whether slow spans are kept whatever the sampler says."),
    Field::new(
        "quantile",
        &Shape::Number {
            min: 0.5,
            max: 0.9999,
        },
    )
    .acts("A span is slow if it took longer than this share of its service's spans."),
    Field::new("half_life", &DURATION).acts("Time after which a span counts half in that."),
]));
static RATE: Shape = Shape::Number { min: 0.0, max: 1e9 };
static RATE_LIMIT: Shape = Shape::Map(&Map::closed(&[
    Field::new("spans_per_second", &RATE).acts("Of all services together; 0 is no limit."),
    Field::new("spans_per_second_per_service", &RATE).acts("Of each service; 0 is no limit."),
]));
static SAMPLING: Shape = Shape::Map(&Map::closed(&[
    Field::new("keep_errors", &BOOL)
        .acts("Whether spans with an error are kept whatever the sampler says."),
    Field::new("keep_slow", &KEEP_SLOW),
    Field::new("rate_limit", &RATE_LIMIT).doc("How many spans may leave."),
    Field::new(
        "max_services",
        &Shape::Int {
            min: 1,
            max: 100_000,
        },
    )
    .acts(
        "Services whose latencies and rates are followed one by one; for another one the longest quiet are forgotten.",
    ),
]));
static QUEUE: Shape = Shape::Map(&Map::closed(&[
    Field::new("enabled", &BOOL).acts("Whether requests wait in memory while the backend is slow; without, what finds every consumer busy is dropped."),
    Field::new(
        "queue_size",
        &Shape::Size {
            min: 1024,
            max: 1 << 40,
            power_of_two: false,
        },
    )
    .acts("Most bytes waiting for one destination."),
    Field::new("num_consumers", &Shape::Int { min: 1, max: 1024 })
        .acts("Requests on their way at a time."),
    Field::new("storage", &STORAGE)
        .doc("Requests wait on disk, and queue_size is for the time in which the disk fails."),
]));
pub(crate) const FSYNC: &[&str] = &["always", "interval", "never"];
static STORAGE: Shape = Shape::Map(&Map::closed(&[
    Field::new("directory", &TEXT)
        .required()
        .acts("Where; each signal of each destination has its own directory below it."),
    Field::new(
        "max_size",
        &Shape::Size {
            // The largest requests fit several times.
            min: 16 << 20,
            max: 1 << 50,
            power_of_two: false,
        },
    )
    .acts("Most bytes on disk for each signal of a destination; beyond, the oldest are dropped."),
    Field::new("max_age", &DURATION)
        .acts("Requests that waited longer are dropped; 0s keeps them."),
    Field::new("fsync", &Shape::Word(FSYNC)).acts("When requests are forced to the disk."),
    Field::new("fsync_interval", &DURATION).acts("How often, if fsync is interval."),
]));
static RETRY: Shape = Shape::Map(&Map::closed(&[
    Field::new("enabled", &BOOL).acts("Whether failed requests are sent again."),
    Field::new("initial_interval", &DURATION).acts("Time before the first repetition."),
    Field::new(
        "multiplier",
        &Shape::Number {
            min: 1.0,
            max: 100.0,
        },
    )
    .acts("What the interval grows by."),
    Field::new("max_interval", &DURATION).acts("Longest interval."),
    Field::new("max_elapsed_time", &DURATION)
        .acts("Time after which a request is given up; 0s for never."),
    Field::new("resource_exhausted", &BOOL)
        .acts("Whether RESOURCE_EXHAUSTED without RetryInfo is retried, which a Collector's memory limiter answers; the specification says no."),
]));
const LEVEL: &str = "How hard to compress: gzip 0 to 9, zstd -7 to 22.";
static COMPRESSION_PARAMS: Shape = Shape::Map(&Map::closed(&[Field::new(
    "level",
    &Shape::Int { min: -7, max: 22 },
)
.acts(LEVEL)]));
const PROXY: &str = "HTTP proxy, as http://host:port; an empty one is none. Without the key HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment.";
static REQUEST_BYTES: Shape = Shape::Size {
    min: 1024,
    max: 1 << 30,
    power_of_two: false,
};
static DESTINATION_TRACES: Shape = Shape::Map(&Map::closed(&[
    Field::new("endpoint", &TEXT).acts("Complete URL for spans, used as it is."),
    Field::new("schedule_delay", &DURATION).acts("Longest time that a span waits for others."),
    Field::new("max_export_batch_size", &POSITIVE).acts("Most spans in one request."),
]));
static DESTINATION_METRICS: Shape = Shape::Map(&Map::closed(&[
    Field::new("endpoint", &TEXT).acts("Complete URL for metrics, used as it is."),
    Field::new("interval", &DURATION).acts("Time between two exports."),
    Field::new("temporality_preference", &TEMPORALITY)
        .acts("What a sum counts from; the profile's where it is not given."),
    Field::new("default_histogram_aggregation", &HISTOGRAM)
        .acts("Kind of the histograms; the profile's where it is not given."),
    Field::new("cardinality_limit", &POSITIVE).acts("Most attribute sets of one metric."),
]));
static DESTINATION: Shape = Shape::Map(&Map::closed(&[
    Field::new("name", &TEXT)
        .required()
        .acts("Tells it from the others."),
    Field::new("endpoint", &TEXT)
        .required()
        .acts("Base URL: for HTTP /v1/traces and /v1/metrics are added."),
    Field::new("profile", &Shape::Word(crate::profile::NAMES))
        .acts("What kind of backend it is; auto tells it by the host."),
    Field::new("protocol", &Shape::Word(PROTOCOLS_OF_OTLP)).acts("How to speak."),
    Field::new(
        "signals",
        &Shape::List {
            of: &Shape::Word(SIGNALS),
            min: 1,
        },
    )
    .acts("What goes there; without the key everything."),
    Field::new("headers", &HEADERS).doc("Headers or metadata of each request."),
    Field::new("headers_list", &TEXT).acts("The same as name=value,name=value."),
    Field::new("compression", &TEXT).acts("none or gzip; the profile's where it is not given."),
    Field::new("timeout", &NON_NEGATIVE).acts("Longest time for one request, in milliseconds."),
    Field::new("tls", &GRPC_TLS).doc("Files for TLS."),
    Field::new("traces", &DESTINATION_TRACES).doc("Settings of the spans."),
    Field::new("metrics", &DESTINATION_METRICS).doc("Settings of the metrics."),
    Field::new("sending_queue", &QUEUE).doc("Its own queue; the common one's values elsewhere."),
    Field::new("compression_params", &COMPRESSION_PARAMS),
    Field::new("proxy_url", &TEXT).acts(PROXY),
    Field::new("retry_on_failure", &RETRY).doc("Its own retries; the common values elsewhere."),
    Field::new("max_request_bytes", &REQUEST_BYTES)
        .acts("Largest request before compression; never more than the profile allows."),
]));
pub(crate) const PROTOCOLS_OF_OTLP: &[&str] = &["grpc", "http/protobuf", "http/json"];
pub(crate) const SIGNALS: &[&str] = &["traces", "metrics"];
pub(crate) const CONSOLE_FORMATS: &[&str] = &["otlp-json", "text"];
static CONSOLE: Shape = Shape::Map(&Map::closed(&[Field::new(
    "format",
    &Shape::Word(CONSOLE_FORMATS),
)
.acts("What a console exporter of spans prints: OTLP JSON lines; or text, a table of requests, with their latencies at the end in place of the points of a console exporter of metrics.")]));
static EXPORT: Shape = Shape::Map(&Map::closed(&[
    Field::new("console", &CONSOLE),
    Field::new("sending_queue", &QUEUE),
    Field::new("retry_on_failure", &RETRY),
    Field::new("compression_params", &COMPRESSION_PARAMS),
    Field::new("proxy_url", &TEXT).acts(PROXY),
    Field::new("max_request_bytes", &REQUEST_BYTES)
        .acts("Largest request before compression; gRPC servers usually take 4 MiB."),
    Field::new(
        "destinations",
        &Shape::List {
            of: &DESTINATION,
            min: 0,
        },
    )
    .doc("Destinations beside those of tracer_provider and meter_provider."),
]));
pub(crate) const ENABLED: &[&str] = &["auto", "always", "never"];
static PEERS: Shape = Shape::Map(&Map::closed(&[
    Field::new("enabled", &BOOL).acts(
        "Whether the other end of a connection is named; needs all pods, Services and nodes of the cluster.",
    ),
    Field::new("max_objects", &POSITIVE).acts("Most pods, Services and nodes that are kept."),
    Field::new("service_graph", &BOOL)
        .acts("Whether metrics of the service graph are made of all requests."),
]));
static KUBERNETES: Shape = Shape::Map(&Map::closed(&[
    Field::new("enabled", &Shape::Word(ENABLED)).acts(
        "Whether pods are asked for; auto does so within a pod with a token of a ServiceAccount.",
    ),
    Field::new("node_name", &TEXT).acts("The node whose pods are asked for, and host.name."),
    Field::new("kubeconfig", &TEXT).acts("How to reach the API server from outside of a pod."),
    Field::new("cluster_name", &TEXT).acts("k8s.cluster.name: nothing in a cluster tells it."),
    Field::new("pod_labels", &TEXTS)
        .acts("Labels that become k8s.pod.label.<key>; * stands for anything."),
    Field::new("pod_annotations", &TEXTS).acts("Annotations that become k8s.pod.annotation.<key>."),
    Field::new("service_from_labels", &BOOL)
        .acts("Whether app.kubernetes.io/instance, /name and /version name services."),
    Field::new("hold", &DURATION)
        .acts("How long what a new pod's processes do waits for their pod."),
    Field::new(
        "hold_bytes",
        &Shape::Size {
            min: 0,
            max: 1 << 30,
            power_of_two: false,
        },
    )
    .acts("How many bytes of it wait."),
    Field::new("grace", &DURATION).acts("How long a deleted pod still answers for what came late."),
    Field::new("max_pods", &POSITIVE).acts("Most pods that are kept."),
    Field::new("peers", &PEERS),
]));
static CONTAINERS: Shape = Shape::Map(&Map::closed(&[
    Field::new("enabled", &BOOL)
        .acts("Whether container runtimes are asked what a container is called and which image it runs."),
    Field::new("sockets", &TEXTS)
        .acts("Their sockets, asked in this order; one with containerd in its file name is containerd's, one with crio CRI-O's, others speak the Docker API."),
    Field::new("hold", &DURATION)
        .acts("How long what a new container does waits for the answer; without a socket nothing waits."),
]));
static SELF_TELEMETRY: Shape = Shape::Map(&Map::closed(&[
    Field::new("enabled", &BOOL).acts("Whether the agent sends metrics about itself."),
    Field::new("interval", &DURATION).acts("Time between two exports of them."),
]));

pub(crate) static BLOCK: Shape = Shape::Map(&Map::closed(&[
    Field::new("version", &TEXT)
        .required()
        .describes("Version of this block: \"1.0\"."),
    Field::new("capture", &CAPTURE),
    Field::new("protocols", &PROTOCOLS),
    Field::new("metrics", &METRICS),
    Field::new("sampling", &SAMPLING).doc("Which spans are kept beside those of the sampler."),
    Field::new("export", &EXPORT),
    Field::new("kubernetes", &KUBERNETES),
    Field::new("containers", &CONTAINERS),
    Field::new("self_telemetry", &SELF_TELEMETRY),
    Field::new("shutdown_timeout", &DURATION)
        .acts("Longest time that data on its way may take after SIGTERM."),
]));
