//! From the configuration to the settings of the exporter.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use spandrel_config::Config;
use spandrel_config::settings::{
    self, Batch, Compression, ConsoleFormat, Export, Exporter, Fsync, Histogram, MetricReader,
    Otlp, Protocol, RetryOnFailure, SendingQueue, SpanProcessor, Storage, Temporality,
};
use spandrel_exporter::metrics::{self, AggregatorSettings, ExplicitBounds, HistogramSettings};
use spandrel_exporter::self_telemetry::SelfTelemetrySettings;
use spandrel_exporter::{
    AttributeLimits, BatchSettings, DestinationSettings, ExporterSettings, OtlpSettings,
    ProxySettings, QueueSettings, RetrySettings, Signal, StorageSettings, SyncPolicy, Target,
    TlsSettings,
};
use spandrel_model::Attribute;
use spandrel_sampling::SamplingSettings;

use super::{clamp, resource_attributes};
use crate::sampling;
use crate::sink::{MetricsView, OtlpSinkSettings};

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
            name: self.own_name(&to.name, traces.is_some(), metrics.is_some()),
            traces: traces.map(|processor| target(&processor.exporter, common, exhausted)),
            metrics: metrics.map(|reader| target(&reader.exporter, common, exhausted)),
            logs: None,
            limits: limits(exporter, self.config.attribute_limits),
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

    /// A name that no other destination of the same signal has: a queue on the disk is one destination's.
    fn own_name(&self, name: &str, traces: bool, metrics: bool) -> String {
        let is_taken = |name: &str| {
            self.list.iter().any(|other| {
                other.name == name
                    && (traces && other.traces.is_some() || metrics && other.metrics.is_some())
            })
        };
        let numbered = (2..).map(|number| format!("{name}#{number}"));
        std::iter::once(name.to_owned())
            .chain(numbered)
            .find(|name| !is_taken(name))
            .unwrap_or_default()
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

/// The narrower one of what the backend takes and what the file asks for, which is for spans alone.
fn limits(exporter: Option<&Exporter>, asked: settings::AttributeLimits) -> AttributeLimits {
    let taken = match exporter {
        Some(Exporter::Otlp(otlp)) => {
            let limits = otlp.profile.demands().limits;
            AttributeLimits {
                resource_attributes: limits.resource_attributes,
                span_attributes: limits.span_attributes,
                point_attributes: limits.point_attributes,
                key_length: limits.key_length,
                value_length: limits.value_length,
                span_value_length: limits.value_length,
                point_value_length: limits.point_value_length,
                array_length: limits.array_length,
            }
        }
        _ => AttributeLimits::default(),
    };
    let narrower = |taken: usize, asked: Option<u64>| taken.min(asked.map_or(taken, clamp));
    AttributeLimits {
        span_attributes: narrower(taken.span_attributes, asked.count),
        span_value_length: narrower(taken.span_value_length, asked.value_length),
        ..taken
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
        limits: limits(None, config.attribute_limits),
        queue: QueueSettings {
            block_on_overflow: !timed,
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
            // Low memory means delta for histograms and for counters that are told when they count: we have no others.
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

/// Where the agent's own metrics go: where the metrics of the services go. What the file says of every resource goes
/// before what is known of this agent.
pub fn self_telemetry(
    config: &Config,
    mut of_agent: Vec<Attribute>,
) -> Option<SelfTelemetrySettings> {
    let own = config.self_telemetry;
    let (_, _, endpoint) = endpoints(config)
        .into_iter()
        .find(|(_, signal, _)| *signal == Signal::Metrics)?;
    let said = resource_attributes(config);
    of_agent.retain(|own| said.iter().all(|said| said.key != own.key));
    of_agent.extend(said);
    own.enabled.then_some(SelfTelemetrySettings {
        endpoint,
        interval: own.interval,
        attributes: of_agent,
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
