//! From the configuration to the settings of each crate.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use spandrel_config::Config;
use spandrel_config::settings::{
    AttributeValue, Backend, Batch, Compression, ConsoleFormat, Export, Exporter, Fsync, Histogram,
    LogLevel, MetricReader, Otlp, PodSelector as PodSelectorConfig, Protocol, QueryValues,
    RetryOnFailure, Selector as SelectorConfig, SendingQueue, SpanProcessor, Storage, Temporality,
};
use spandrel_exporter::metrics::{self, AggregatorSettings, ExplicitBounds, HistogramSettings};
use spandrel_exporter::self_telemetry::SelfTelemetrySettings;
use spandrel_exporter::{
    AttributeLimits, BatchSettings, DestinationSettings, ExporterSettings, OtlpSettings,
    ProxySettings, QueueSettings, RetrySettings, Signal, StorageSettings, SyncPolicy, Target,
    TlsSettings,
};
use spandrel_k8s_meta::attributes::KeyRules;
use spandrel_k8s_meta::{peers, store, watch};
use spandrel_model::{Attribute, Value};
use spandrel_probes::{BackendChoice, CaptureSettings};
use spandrel_protocols::{http1, route};
use spandrel_sampling::SamplingSettings;

use crate::cli::Trace;
use crate::exit::Failure;
use crate::identity::{self, Identities};
use crate::kubernetes::{self, Hold};
use crate::sampling;
use crate::selection::Selection;
use crate::selectors::{Pattern, PodSelector, Selector, Selectors};
use crate::sink::{MetricsView, OtlpSinkSettings};

/// Ports of one selector at most: the kernel side keeps them one by one.
const MAX_PORTS: usize = 1024;

/// A seed for trace and span ids that differs from run to run.
pub fn id_seed() -> u64 {
    // Each `RandomState` holds fresh random keys of the operating system.
    RandomState::new().hash_one(std::process::id())
}

/// Lets the arguments of `trace` select, where there are any, instead of the file's include list.
pub fn narrow(config: &mut Config, arguments: &Trace) {
    let nothing = SelectorConfig::default;
    let mut processes: Vec<SelectorConfig> = Vec::new();
    processes.extend(arguments.pid.iter().map(|pid| SelectorConfig {
        pid: Some(*pid),
        ..nothing()
    }));
    processes.extend(arguments.exe.iter().map(|glob| SelectorConfig {
        executable: Some(glob.clone()),
        ..nothing()
    }));
    processes.extend(arguments.container.iter().map(|glob| SelectorConfig {
        container_id: Some(glob.clone()),
        ..nothing()
    }));
    if processes.is_empty() && arguments.port.is_empty() {
        return;
    }
    if processes.is_empty() {
        processes.push(nothing());
    }
    config.capture.include = if arguments.port.is_empty() {
        processes
    } else {
        let at_port = |port: &u16| {
            let port = Some((*port, *port));
            processes.iter().map(move |process| SelectorConfig {
                port,
                ..process.clone()
            })
        };
        arguments.port.iter().flat_map(at_port).collect()
    };
}

/// The least severity that is logged, as the log's filter spells it.
pub fn log_level(config: &Config) -> &'static str {
    match config.log_level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

/// Settings of the kernel side.
pub fn capture(config: &Config) -> anyhow::Result<CaptureSettings> {
    let capture = &config.capture;
    let bytes = |what: &str, value: u64| {
        u32::try_from(value)
            .map_err(|_| Failure::usage(format!("capture.{what}: {value} is more than 4 GiB")))
    };
    let (ports_include, ports_exclude) = (ports(&capture.include), ports(&capture.exclude));
    Ok(CaptureSettings {
        backend: match capture.backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::Socket => BackendChoice::Socket,
            Backend::Fexit => BackendChoice::Fexit,
            Backend::Syscall => BackendChoice::Syscall,
        },
        ring_buffer_bytes: bytes("ring_buffer_bytes", capture.ring_buffer_bytes)?,
        copy_bytes: bytes("copy_bytes", capture.copy_bytes)?,
        unix_sockets: capture.unix_sockets,
        cgroup_messages_per_second: capture.cgroup_messages_per_second,
        // Only where ports are all that is asked for can the kernel side decide alone.
        ports_include: if only_ports(&capture.include) {
            ports_include
        } else {
            Vec::new()
        },
        ports_exclude: if only_ports(&capture.exclude) {
            ports_exclude
        } else {
            Vec::new()
        },
        ..CaptureSettings::default()
    })
}

fn only_ports(selectors: &[SelectorConfig]) -> bool {
    ports(selectors).len() <= MAX_PORTS
        && selectors.iter().all(|selector| {
            selector.port.is_some()
                && selector.pid.is_none()
                && selector.executable.is_none()
                && selector.container_id.is_none()
                && selector.pod == PodSelectorConfig::default()
        })
}

fn ports(selectors: &[SelectorConfig]) -> Vec<u16> {
    selectors
        .iter()
        .filter_map(|selector| selector.port)
        .flat_map(|(first, last)| first..=last)
        .take(MAX_PORTS + 1)
        .collect()
}

/// The selectors, all of them.
pub fn selectors(config: &Config) -> anyhow::Result<Selectors> {
    let compile = |list: &[SelectorConfig]| -> anyhow::Result<Vec<Selector>> {
        list.iter()
            .map(|selector| {
                let pattern = |glob: &Option<String>| {
                    glob.as_deref()
                        .map(Pattern::new)
                        .transpose()
                        .map_err(Failure::usage)
                };
                Ok(Selector {
                    pid: selector.pid,
                    executable: pattern(&selector.executable)?,
                    ports: ports(std::slice::from_ref(selector)),
                    container_id: pattern(&selector.container_id)?,
                    pod: pod_selector(&selector.pod)?,
                })
            })
            .collect()
    };
    Ok(Selectors {
        include: compile(&config.capture.include)?,
        exclude: compile(&config.capture.exclude)?,
    })
}

fn pod_selector(pod: &PodSelectorConfig) -> anyhow::Result<PodSelector> {
    let pattern = |glob: &str| Pattern::new(glob).map_err(Failure::usage);
    let optional = |glob: &Option<String>| glob.as_deref().map(pattern).transpose();
    let pairs = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(key, glob)| Ok((key.clone(), pattern(glob)?)))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    Ok(PodSelector {
        namespace: optional(&pod.namespace)?,
        labels: pairs(&pod.labels)?,
        annotations: pairs(&pod.annotations)?,
        workload_kind: pod.workload_kind.clone(),
        workload_name: optional(&pod.workload_name)?,
        container_name: optional(&pod.container_name)?,
    })
}

/// How pods are known; `None` where they are not asked for.
pub fn kubernetes(config: &Config) -> anyhow::Result<Option<kubernetes::Settings>> {
    let wanted = &config.kubernetes;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let access = match &wanted.kubeconfig {
        Some(file) => watch::Access::Kubeconfig(file.into()),
        None => watch::Access::InCluster,
    };
    let in_cluster = variable("KUBERNETES_SERVICE_HOST").is_some();
    let asked = wanted.kubeconfig.is_some() || in_cluster;
    if !wanted.enabled.unwrap_or(asked) {
        if wanted.peers.enabled {
            tracing::warn!("kubernetes.peers.enabled has no effect: the API server is not asked");
        }
        return Ok(None);
    }
    let node = wanted
        .node_name
        .clone()
        .or_else(|| variable("K8S_NODE_NAME"))
        .or_else(|| variable("NODE_NAME"));
    let Some(node) = node else {
        let problem = "kubernetes.node_name is not set, and neither is K8S_NODE_NAME: the pods of which node? \
                       In a DaemonSet, set K8S_NODE_NAME from the field spec.nodeName";
        if wanted.enabled == Some(true) {
            return Err(Failure::usage(problem).into());
        }
        tracing::warn!("pods are not known: {problem}");
        return Ok(None);
    };
    let rules =
        |keys: &[String]| KeyRules::new(keys.iter().map(String::as_str)).map_err(Failure::usage);
    let selectors = || config.capture.include.iter().chain(&config.capture.exclude);
    let keys = |of: fn(&PodSelectorConfig) -> &[(String, String)]| -> Vec<String> {
        let pairs = selectors().flat_map(|selector| of(&selector.pod));
        pairs.map(|(key, _)| key.clone()).collect()
    };
    let peers = wanted.peers.enabled.then(|| kubernetes::peers::Settings {
        watch: watch::Settings::new(access.clone(), watch::Scope::Cluster),
        tables: peers::Settings {
            grace: wanted.grace,
            max_objects: clamp(wanted.peers.max_objects),
            service_from_labels: wanted.service_from_labels,
        },
        hold: wanted.hold,
        service_graph: wanted.peers.service_graph,
    });
    Ok(Some(kubernetes::Settings {
        watch: watch::Settings::new(access, watch::Scope::Node(node)),
        peers,
        store: store::Settings {
            cluster_name: wanted.cluster_name.clone(),
            labels: rules(&wanted.pod_labels)?,
            annotations: rules(&wanted.pod_annotations)?,
            kept_labels: rules(&keys(|pod| &pod.labels))?,
            kept_annotations: rules(&keys(|pod| &pod.annotations))?,
            service_from_labels: wanted.service_from_labels,
            grace: wanted.grace,
            max_pods: clamp(wanted.max_pods),
            ..store::Settings::default()
        },
        hold: wanted.hold,
        hold_bytes: clamp(wanted.hold_bytes),
    }))
}

/// How container runtimes are asked; `None` where they are not.
pub fn containers(config: &Config) -> Option<spandrel_container_runtime::Settings> {
    let wanted = &config.containers;
    let sockets: Vec<PathBuf> = wanted.sockets.iter().map(PathBuf::from).collect();
    let asks = wanted.enabled && !sockets.is_empty();
    asks.then_some(spandrel_container_runtime::Settings {
        sockets,
        hold: wanted.hold,
    })
}

/// Where what a new container does waits for its name, if nothing waits for pods.
pub fn container_hold(config: &Config) -> Hold {
    Hold::new(config.containers.hold, clamp(config.kubernetes.hold_bytes))
}

/// What user space decides; lists that the kernel side enforces alone are left to it.
pub fn selection(config: &Config) -> anyhow::Result<Selection> {
    let mut selectors = selectors(config)?;
    if only_ports(&config.capture.include) {
        selectors.include.clear();
    }
    if only_ports(&config.capture.exclude) {
        selectors.exclude.clear();
    }
    Ok(Selection::new(selectors))
}

/// Identities from this machine.
pub fn identities(config: &Config) -> Identities {
    let settings = identity::Settings {
        extra: resource_attributes(config),
        ..identity::Settings::default()
    };
    Identities::new(settings)
}

/// Identities from a recording.
pub fn recorded_identities(config: &Config) -> Identities {
    let settings = identity::Settings {
        extra: resource_attributes(config),
        ..identity::Settings::replay()
    };
    Identities::new(settings)
}

/// The attributes that the file adds to every resource.
pub fn resource_attributes(config: &Config) -> Vec<Attribute> {
    let text = |list: Vec<String>| Value::StrArray(list.into_iter().map(Into::into).collect());
    config
        .resource
        .iter()
        .map(|(key, value)| {
            let value = match value {
                AttributeValue::String(text) => Value::Str(text.clone().into()),
                AttributeValue::Bool(value) => Value::Bool(*value),
                AttributeValue::Int(value) => Value::I64(*value),
                AttributeValue::Double(value) => Value::F64(*value),
                AttributeValue::Strings(list) => text(list.clone()),
                AttributeValue::Bools(list) => text(list.iter().map(bool::to_string).collect()),
                AttributeValue::Ints(list) => text(list.iter().map(i64::to_string).collect()),
                AttributeValue::Doubles(list) => text(list.iter().map(f64::to_string).collect()),
            };
            Attribute::new(key.clone(), value)
        })
        .collect()
}

/// Settings of the parsers.
pub fn protocols(config: &Config) -> spandrel_protocols::Settings {
    let http = &config.http;
    spandrel_protocols::Settings {
        max_connections: http.max_connections,
        http: http1::Settings {
            query_values: match http.query_values {
                QueryValues::Redacted if http.allowed_query_parameters.is_empty() => {
                    http1::QueryValues::Redacted
                }
                QueryValues::Redacted => {
                    http1::QueryValues::Only(http.allowed_query_parameters.clone())
                }
                QueryValues::Allowed => http1::QueryValues::Shown,
            },
            ..http1::Settings::default()
        },
        routes: route::Settings {
            templates: http.route_patterns.clone(),
            max_nodes: http.max_routes_per_service,
            ..route::Settings::default()
        },
        ..spandrel_protocols::Settings::default()
    }
}

/// Settings of the network export, or of the streams the file names: each processor, each reader and each named
/// destination is a destination.
pub fn export(config: &Config, timed: bool) -> OtlpSinkSettings {
    let common = &config.export;
    let mut made = Destinations {
        config,
        timed,
        views: Vec::new(),
        list: Vec::new(),
    };
    // The table shows the spans, and ends with their latencies.
    let as_text = spans_as_text(config);
    let exported = |exporter: &Exporter| !as_text || *exporter != Exporter::Console;
    let mut streams = Vec::new();
    for processor in config.traces.iter().filter(|p| exported(&p.exporter)) {
        let to = Common::of(&processor.exporter, name_of(&processor.exporter), common);
        made.add(&to, Some(processor), None);
        streams.push(stream(&processor.exporter));
    }
    for reader in config.metrics.iter().filter(|r| exported(&r.exporter)) {
        let lines = stream(&reader.exporter);
        let shared = streams
            .iter()
            .position(|known| known.is_some() && *known == lines);
        if shared.is_some_and(|index| made.share(index, reader)) {
            continue;
        }
        let to = Common::of(&reader.exporter, name_of(&reader.exporter), common);
        made.add(&to, None, Some(reader));
    }
    for named in &common.destinations {
        let to = Common {
            name: named.name.clone(),
            queue: named.sending_queue.clone(),
            retry: named.retry_on_failure,
            max_request_bytes: named.max_request_bytes,
        };
        made.add(&to, named.traces.as_ref(), named.metrics.as_ref());
    }
    OtlpSinkSettings {
        exporter: ExporterSettings {
            destinations: made.list,
        },
        sampling: sampling::settings(config),
        views: made.views,
        shutdown_timeout: config.shutdown_timeout,
        timed,
    }
}

/// What all signals of a destination share.
struct Common {
    name: String,
    queue: SendingQueue,
    retry: RetryOnFailure,
    max_request_bytes: u64,
}

impl Common {
    fn of(exporter: &Exporter, name: String, export: &Export) -> Self {
        let allowed = match exporter {
            Exporter::Otlp(otlp) => otlp.profile.demands().max_request_bytes,
            _ => u64::MAX,
        };
        Self {
            name,
            queue: export.sending_queue.clone(),
            retry: export.retry_on_failure,
            max_request_bytes: export.max_request_bytes.min(allowed),
        }
    }
}

struct Destinations<'a> {
    config: &'a Config,
    timed: bool,
    views: Vec<MetricsView>,
    list: Vec<DestinationSettings>,
}

impl Destinations<'_> {
    fn add(&mut self, to: &Common, traces: Option<&SpanProcessor>, metrics: Option<&MetricReader>) {
        let batch = traces.map_or_else(BatchSettings::default, |processor| batch(processor.batch));
        let exporter = traces
            .map(|processor| &processor.exporter)
            .or(metrics.map(|reader| &reader.exporter));
        let view = metrics.map_or(0, |reader| self.view(reader));
        let (common, exhausted) = (&self.config.export, to.retry.resource_exhausted);
        self.list.push(DestinationSettings {
            name: to.name.clone(),
            traces: traces.map(|processor| target(&processor.exporter, common, exhausted)),
            metrics: metrics.map(|reader| target(&reader.exporter, common, exhausted)),
            logs: None,
            limits: exporter.map(limits).unwrap_or_default(),
            view,
            batch: BatchSettings {
                max_request_bytes: clamp(to.max_request_bytes),
                ..batch
            },
            queue: QueueSettings {
                enabled: to.queue.enabled,
                queue_size: clamp(to.queue.queue_size),
                num_consumers: to.queue.num_consumers,
                block_on_overflow: !self.timed,
                // A replay must not take what a running agent keeps.
                storage: to
                    .queue
                    .storage
                    .as_ref()
                    .filter(|_| self.timed)
                    .map(storage),
            },
            retry: RetrySettings {
                enabled: to.retry.enabled,
                initial_interval: to.retry.initial_interval,
                multiplier: to.retry.multiplier,
                max_interval: to.retry.max_interval,
                max_elapsed_time: to.retry.max_elapsed_time,
                ..RetrySettings::default()
            },
        });
    }

    /// Sends the points along with the spans of a stream, through one queue, so that the order of the lines is always
    /// the same. Whether that can be: a stream takes the points of one reader.
    fn share(&mut self, index: usize, reader: &MetricReader) -> bool {
        let view = self.view(reader);
        match self.list.get_mut(index) {
            Some(spans) if spans.metrics.is_none() => {
                spans.metrics = Some(Target::SameStream);
                spans.view = view;
                true
            }
            _ => false,
        }
    }

    /// The view that a reader wants; readers that want the same share it.
    fn view(&mut self, reader: &MetricReader) -> usize {
        let view = MetricsView {
            aggregator: aggregator(self.config, Some(reader)),
            interval: reader.interval,
        };
        if let Some(known) = self.views.iter().position(|known| *known == view) {
            return known;
        }
        self.views.push(view);
        self.views.len() - 1
    }
}

fn storage(storage: &Storage) -> StorageSettings {
    StorageSettings {
        max_size: storage.max_size,
        max_age: (!storage.max_age.is_zero()).then_some(storage.max_age),
        fsync: match storage.fsync {
            Fsync::Always => SyncPolicy::Always,
            Fsync::Interval => SyncPolicy::Interval(storage.fsync_interval),
            Fsync::Never => SyncPolicy::Never,
        },
        ..StorageSettings::new(storage.directory.clone())
    }
}

fn limits(exporter: &Exporter) -> AttributeLimits {
    let Exporter::Otlp(otlp) = exporter else {
        return AttributeLimits::default();
    };
    let limits = otlp.profile.demands().limits;
    AttributeLimits {
        resource_attributes: limits.resource_attributes,
        span_attributes: limits.span_attributes,
        point_attributes: limits.point_attributes,
        key_length: limits.key_length,
        value_length: limits.value_length,
        point_value_length: limits.point_value_length,
        array_length: limits.array_length,
    }
}

/// How spans are gathered; without a batch each is sent at once.
fn batch(batch: Option<Batch>) -> BatchSettings {
    let Some(batch) = batch else {
        return BatchSettings {
            schedule_delay: Duration::ZERO,
            max_export_batch_size: 1,
            ..BatchSettings::default()
        };
    };
    let Batch {
        schedule_delay,
        max_export_batch_size,
    } = batch;
    BatchSettings {
        schedule_delay,
        max_export_batch_size: clamp(max_export_batch_size),
        ..BatchSettings::default()
    }
}

/// Whether spans go to standard output as a table to read, in place of OTLP.
pub fn spans_as_text(config: &Config) -> bool {
    let mut processors = config.traces.iter();
    config.export.console == ConsoleFormat::Text
        && processors.any(|processor| processor.exporter == Exporter::Console)
}

/// Whether spans go to anything but the console.
pub fn spans_beside_console(config: &Config) -> bool {
    let mut processors = config.traces.iter();
    let mut named = config.export.destinations.iter();
    processors.any(|processor| processor.exporter != Exporter::Console)
        || named.any(|destination| destination.traces.is_some())
}

/// Settings of OTLP JSON lines on standard output.
pub fn console(config: &Config, timed: bool) -> OtlpSinkSettings {
    let reader = config.metrics.first();
    let stdout = DestinationSettings {
        name: "console".to_owned(),
        traces: Some(Target::Console(
            Box::new(io::stdout()),
            spandrel_exporter::ConsoleFormat::OtlpJson,
        )),
        metrics: Some(Target::SameStream),
        queue: QueueSettings {
            block_on_overflow: true,
            ..QueueSettings::default()
        },
        // A person or a script is waiting at the other end.
        batch: BatchSettings {
            schedule_delay: Duration::from_millis(100),
            ..BatchSettings::default()
        },
        ..DestinationSettings::default()
    };
    OtlpSinkSettings {
        exporter: stdout.into(),
        // Who looks at single requests wants to see them.
        sampling: SamplingSettings::default(),
        views: vec![MetricsView {
            aggregator: aggregator(config, reader),
            interval: reader.map_or(Duration::from_secs(60), |reader| reader.interval),
        }],
        shutdown_timeout: config.shutdown_timeout,
        timed,
    }
}

fn aggregator(config: &Config, reader: Option<&MetricReader>) -> AggregatorSettings {
    let explicit = || {
        HistogramSettings::Explicit(ExplicitBounds {
            seconds: config.aggregation.explicit_bucket_boundaries.clone().into(),
            ..ExplicitBounds::default()
        })
    };
    let defaults = AggregatorSettings {
        exemplars: config.aggregation.exemplars,
        ..AggregatorSettings::default()
    };
    let Some(reader) = reader else {
        return defaults;
    };
    AggregatorSettings {
        histogram: match reader.histogram {
            Histogram::Explicit => explicit(),
            Histogram::Exponential => HistogramSettings::default(),
        },
        temporality: match reader.temporality {
            Temporality::Cumulative => metrics::Temporality::Cumulative,
            // All our instruments are histograms, for which low memory means delta.
            Temporality::Delta | Temporality::LowMemory => metrics::Temporality::Delta,
        },
        cardinality_limit: clamp(reader.cardinality_limit),
        ..defaults
    }
}

/// The network destinations of a configuration, with what they are for.
pub fn endpoints(config: &Config) -> Vec<(String, Signal, OtlpSettings)> {
    let named = &config.export.destinations;
    let traces = config.traces.iter().map(|processor| (None, processor));
    let named_traces = named
        .iter()
        .filter_map(|each| Some((Some(&each.name), each.traces.as_ref()?)));
    let metrics = config.metrics.iter().map(|reader| (None, reader));
    let named_metrics = named
        .iter()
        .filter_map(|each| Some((Some(&each.name), each.metrics.as_ref()?)));
    let traces = traces
        .chain(named_traces)
        .map(|(name, processor)| (name, Signal::Traces, &processor.exporter));
    let metrics = metrics
        .chain(named_metrics)
        .map(|(name, reader)| (name, Signal::Metrics, &reader.exporter));
    traces
        .chain(metrics)
        .filter_map(|(name, signal, exporter)| match exporter {
            Exporter::Otlp(settings) => {
                let what = match name {
                    Some(name) => format!("{name}, {}", signal.name()),
                    None => signal.name().to_owned(),
                };
                Some((what, signal, otlp(settings, &config.export, false)))
            }
            _ => None,
        })
        .collect()
}

/// Where the agent's own metrics go: where the metrics of the services go.
pub fn self_telemetry(config: &Config) -> Option<SelfTelemetrySettings> {
    let own = config.self_telemetry;
    let (_, _, endpoint) = endpoints(config)
        .into_iter()
        .find(|(_, signal, _)| *signal == Signal::Metrics)?;
    own.enabled.then(|| SelfTelemetrySettings {
        endpoint,
        interval: own.interval,
        attributes: resource_attributes(config),
    })
}

/// Which stream lines go to, if that is where they go.
fn stream(exporter: &Exporter) -> Option<&str> {
    match exporter {
        Exporter::Otlp(_) => None,
        Exporter::Console => Some("stdout"),
        Exporter::OtlpFile { output_stream } => Some(output_stream),
    }
}

fn target(exporter: &Exporter, common: &Export, resource_exhausted: bool) -> Target {
    let console = || {
        Target::Console(
            Box::new(io::stdout()),
            spandrel_exporter::ConsoleFormat::OtlpJson,
        )
    };
    match exporter {
        Exporter::Otlp(settings) => Target::Otlp(otlp(settings, common, resource_exhausted)),
        Exporter::Console => console(),
        Exporter::OtlpFile { output_stream } => match output_stream.strip_prefix("file://") {
            None => console(),
            Some(path) => Target::File(path.into()),
        },
    }
}

fn otlp(settings: &Otlp, common: &Export, resource_exhausted: bool) -> OtlpSettings {
    let path = |file: &Option<String>| file.as_ref().map(PathBuf::from);
    OtlpSettings {
        headers: settings
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
            .collect(),
        compression: match settings.compression {
            Compression::None => spandrel_exporter::Compression::None,
            Compression::Gzip => spandrel_exporter::Compression::Gzip,
            Compression::Zstd => spandrel_exporter::Compression::Zstd,
        },
        compression_level: settings.compression_level.or(common.compression_level),
        max_request_size: settings.max_request_size.map_or(usize::MAX, clamp),
        max_response_size: settings.max_response_size.map_or(usize::MAX, clamp),
        retry_resource_exhausted: resource_exhausted,
        proxy: match settings.proxy_url.as_ref().or(common.proxy_url.as_ref()) {
            None => ProxySettings::Environment,
            Some(none) if none.is_empty() => ProxySettings::Direct,
            Some(url) => ProxySettings::Url {
                url: url.clone(),
                no_proxy: String::new(),
            },
        },
        timeout: settings.timeout,
        tls: TlsSettings {
            insecure: settings.endpoint.starts_with("http://"),
            ca_file: path(&settings.tls.ca_file),
            cert_file: path(&settings.tls.cert_file),
            key_file: path(&settings.tls.key_file),
        },
        ..OtlpSettings::new(
            match settings.protocol {
                Protocol::Grpc => spandrel_exporter::Protocol::Grpc,
                Protocol::HttpProtobuf => spandrel_exporter::Protocol::HttpProtobuf,
                Protocol::HttpJson => spandrel_exporter::Protocol::HttpJson,
            },
            settings.endpoint.clone(),
        )
    }
}

/// What tells destinations apart: where they are. Never more of a URL, whose path may hold a key.
fn name_of(exporter: &Exporter) -> String {
    match exporter {
        Exporter::Otlp(settings) => {
            let endpoint = settings.endpoint.as_str();
            let rest = endpoint
                .split_once("://")
                .map_or(endpoint, |(_, rest)| rest);
            let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
            let host = authority.rsplit('@').next().unwrap_or(authority);
            host.to_owned()
        }
        Exporter::OtlpFile { output_stream } => output_stream.clone(),
        Exporter::Console => "console".to_owned(),
    }
}

fn clamp(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
