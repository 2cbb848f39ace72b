//! Every default, in one place; `config/spandrel.yaml` shows them and a test compares the two.
use std::path::PathBuf;
use std::time::Duration;

use crate::profile::Profile;
use crate::settings::{
    Aggregation, AttributeLimits, Backend, Batch, Capture, Compression, Config, ConsoleFormat,
    Containers, Export, Exporter, Fsync, Http, KeepSlow, Kubernetes, LogLevel, MetricReader, Otlp,
    ParentBased, Peers, Protocol, QueryValues, RateLimit, RetryOnFailure, Sampler, Sampling,
    SelfTelemetry, SendingQueue, SpanProcessor, Storage, Tls,
};

/// Base of the OTLP endpoint over HTTP.
pub(crate) const HTTP_ENDPOINT: &str = "http://localhost:4318";
/// OTLP endpoint over gRPC.
pub(crate) const GRPC_ENDPOINT: &str = "http://localhost:4317";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

impl Default for Config {
    /// Spans and metrics to a Collector on this machine, as without any configuration.
    fn default() -> Self {
        Self {
            traces: vec![SpanProcessor {
                batch: Some(Batch::default()),
                exporter: Exporter::Otlp(Otlp::http("v1/traces")),
            }],
            metrics: vec![MetricReader::new(Exporter::Otlp(Otlp::http("v1/metrics")))],
            ..Self::silent()
        }
    }
}

impl Config {
    /// The defaults of a file in which no provider is configured: nothing is sent.
    pub(crate) fn silent() -> Self {
        Self {
            disabled: false,
            log_level: LogLevel::Info,
            resource: Vec::new(),
            traces: Vec::new(),
            // The specification says parent_based. What the kernel sees is seen whatever an application sampled.
            sampler: Sampler::AlwaysOn,
            metrics: Vec::new(),
            attribute_limits: AttributeLimits::default(),
            capture: Capture::default(),
            http: Http::default(),
            aggregation: Aggregation::default(),
            sampling: Sampling::default(),
            export: Export::default(),
            kubernetes: Kubernetes::default(),
            containers: Containers::default(),
            self_telemetry: SelfTelemetry {
                enabled: true,
                interval: Duration::from_secs(60),
            },
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            // The schema says 5 s. A span of a quiet service shall be seen within a second.
            schedule_delay: Duration::from_millis(200),
            max_export_batch_size: 512,
        }
    }
}

impl MetricReader {
    /// As serves the backend best. Without one in particular: cumulative, as the schema says, and exponential
    /// histograms, where it says explicit, because latencies span six orders of magnitude.
    pub(crate) fn new(exporter: Exporter) -> Self {
        let demands = match &exporter {
            Exporter::Otlp(otlp) => otlp.profile.demands(),
            _ => Profile::Collector.demands(),
        };
        Self {
            interval: Duration::from_secs(60),
            temporality: demands.temporality,
            histogram: demands.histogram,
            cardinality_limit: 2000,
            exporter,
        }
    }
}

impl Otlp {
    pub(crate) fn http(signal_path: &str) -> Self {
        Self {
            protocol: Protocol::HttpProtobuf,
            endpoint: format!("{HTTP_ENDPOINT}/{signal_path}"),
            headers: Vec::new(),
            compression: Compression::None,
            timeout: TIMEOUT,
            tls: Tls::default(),
            profile: Profile::default(),
            max_request_size: Some(64 << 20),
            max_response_size: Some(4 << 20),
            compression_level: None,
            proxy_url: None,
        }
    }

    pub(crate) fn grpc() -> Self {
        Self {
            protocol: Protocol::Grpc,
            endpoint: GRPC_ENDPOINT.to_owned(),
            ..Self::http("")
        }
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            ring_buffer_bytes: 8 << 20,
            copy_bytes: 1024,
            head_bytes: 16 << 10,
            unix_sockets: false,
            cgroup_messages_per_second: 200_000,
            include: Vec::new(),
            exclude: Vec::new(),
        }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            enabled: None,
            node_name: None,
            kubeconfig: None,
            cluster_name: None,
            pod_labels: Vec::new(),
            pod_annotations: Vec::new(),
            service_from_labels: false,
            hold: Duration::from_secs(5),
            hold_bytes: 16 << 20,
            grace: Duration::from_secs(120),
            max_pods: 16_384,
            peers: Peers::default(),
        }
    }
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            enabled: false,
            max_objects: 200_000,
            service_graph: true,
        }
    }
}

/// Where sockets of container runtimes usually are: containerd, that of k3s, of MicroK8s and of k0s; CRI-O; Docker Engine,
/// Podman. The last two may be systemd's, and start their service when they are used.
const RUNTIME_SOCKETS: [&str; 7] = [
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/run/crio/crio.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
];

impl Default for Containers {
    fn default() -> Self {
        Self {
            enabled: true,
            sockets: RUNTIME_SOCKETS.map(str::to_owned).to_vec(),
            hold: Duration::from_millis(500),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            enabled: true,
            query_values: QueryValues::Redacted,
            allowed_query_parameters: Vec::new(),
            route_patterns: Vec::new(),
            max_routes_per_service: 256,
            max_connections: 65_536,
        }
    }
}

impl Default for Aggregation {
    fn default() -> Self {
        Self {
            // Those of the semantic conventions, with four more below 5 ms.
            explicit_bucket_boundaries: vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0,
                2.5, 5.0, 7.5, 10.0,
            ],
            exemplars: true,
            per_process: false,
        }
    }
}

impl Default for ParentBased {
    fn default() -> Self {
        Self {
            root: Sampler::AlwaysOn,
            remote_parent_sampled: Sampler::AlwaysOn,
            remote_parent_not_sampled: Sampler::AlwaysOff,
            local_parent_sampled: Sampler::AlwaysOn,
            local_parent_not_sampled: Sampler::AlwaysOff,
        }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            keep_errors: false,
            keep_slow: KeepSlow {
                enabled: false,
                quantile: 0.99,
                half_life: Duration::from_secs(300),
            },
            rate_limit: RateLimit {
                spans_per_second: 0.0,
                spans_per_second_per_service: 0.0,
            },
            max_services: 1024,
        }
    }
}

impl Default for Export {
    fn default() -> Self {
        Self {
            console: ConsoleFormat::OtlpJson,
            sending_queue: SendingQueue {
                enabled: true,
                queue_size: 64 << 20,
                num_consumers: 4,
                storage: None,
            },
            retry_on_failure: RetryOnFailure {
                enabled: true,
                initial_interval: Duration::from_secs(1),
                multiplier: 1.5,
                max_interval: Duration::from_secs(30),
                // For ever: what waits is bounded by the queue.
                max_elapsed_time: Duration::ZERO,
                resource_exhausted: false,
            },
            // Below the 4 MiB that gRPC servers take by default.
            max_request_bytes: 3 << 20,
            compression_level: None,
            proxy_url: None,
            destinations: Vec::new(),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            max_size: 1 << 30,
            max_age: Duration::ZERO,
            fsync: Fsync::Interval,
            fsync_interval: Duration::from_millis(200),
        }
    }
}
