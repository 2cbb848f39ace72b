//! The configuration in effect as YAML, with everything secret left out.
use serde_json::{Map, Value, json};
use spandrel_model::redaction;

use crate::sampler;
use crate::settings::{
    AttributeValue, Backend, Config, ConsoleFormat, Destination, Exporter, Fsync, Histogram,
    Kubernetes, LogLevel, MetricReader, Otlp, PodSelector, Protocol, QueryValues, RetryOnFailure,
    Secret, Selector, SendingQueue, SpanProcessor, Temporality,
};
use crate::units::write_duration;

/// A file that means `config`, in which the values of headers and passwords in URLs are redacted.
pub fn print(config: &Config) -> String {
    let mut root = Map::new();
    root.insert("file_format".into(), json!("1.1"));
    root.insert("disabled".into(), json!(config.disabled));
    root.insert("log_level".into(), json!(log_level(config.log_level)));
    if !config.resource.is_empty() {
        let attributes: Vec<Value> = config
            .resource
            .iter()
            .map(|(name, value)| attribute(name, value))
            .collect();
        root.insert("resource".into(), json!({"attributes": attributes}));
    }
    let limits = config.attribute_limits;
    let limits: Map<String, Value> = [
        ("attribute_value_length_limit", limits.value_length),
        ("attribute_count_limit", limits.count),
    ]
    .into_iter()
    .filter_map(|(key, limit)| Some((key.to_owned(), json!(limit?))))
    .collect();
    if !limits.is_empty() {
        root.insert("attribute_limits".into(), limits.into());
    }
    if !config.traces.is_empty() {
        let list: Vec<Value> = config.traces.iter().map(processor).collect();
        root.insert(
            "tracer_provider".into(),
            json!({"processors": list, "sampler": sampler::print(&config.sampler)}),
        );
    }
    if !config.metrics.is_empty() {
        let list: Vec<Value> = config.metrics.iter().map(reader).collect();
        root.insert("meter_provider".into(), json!({"readers": list}));
    }
    root.insert("distribution".into(), json!({"spandrel": spandrel(config)}));
    let mut root = Value::Object(root);
    escape(&mut root);
    serde_yaml::to_string(&root).unwrap_or_default()
}

/// Values have been substituted once; read again, a dollar sign must stay one.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Object(entries) => entries.values_mut().for_each(escape),
        _ => {}
    }
}

fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        // No severity of the schema is above it.
        LogLevel::Off => "fatal4",
    }
}

fn attribute(name: &str, value: &AttributeValue) -> Value {
    let (kind, value) = match value {
        AttributeValue::String(v) => ("string", json!(v)),
        AttributeValue::Bool(v) => ("bool", json!(v)),
        AttributeValue::Int(v) => ("int", json!(v)),
        AttributeValue::Double(v) => ("double", json!(v)),
        AttributeValue::Strings(v) => ("string_array", json!(v)),
        AttributeValue::Bools(v) => ("bool_array", json!(v)),
        AttributeValue::Ints(v) => ("int_array", json!(v)),
        AttributeValue::Doubles(v) => ("double_array", json!(v)),
    };
    json!({"name": name, "value": value, "type": kind})
}

fn processor(processor: &SpanProcessor) -> Value {
    let exporter = exporter(&processor.exporter, None);
    match processor.batch {
        None => json!({"simple": {"exporter": exporter}}),
        Some(batch) => json!({"batch": {
            "schedule_delay": millis(batch.schedule_delay),
            "max_export_batch_size": batch.max_export_batch_size,
            "exporter": exporter,
        }}),
    }
}

fn reader(reader: &MetricReader) -> Value {
    json!({"periodic": {
        "interval": millis(reader.interval),
        "exporter": exporter(&reader.exporter, Some(reader)),
        "cardinality_limits": {"default": reader.cardinality_limit},
    }})
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn exporter(exporter: &Exporter, metrics: Option<&MetricReader>) -> Value {
    let (key, mut settings) = match exporter {
        Exporter::Otlp(otlp) if otlp.protocol == Protocol::Grpc => ("otlp_grpc", self::otlp(otlp)),
        Exporter::Otlp(otlp) => {
            let mut settings = self::otlp(otlp);
            let json = otlp.protocol == Protocol::HttpJson;
            settings.insert(
                "encoding".into(),
                json!(if json { "json" } else { "protobuf" }),
            );
            ("otlp_http", settings)
        }
        Exporter::OtlpFile { output_stream } => {
            let mut settings = Map::new();
            settings.insert("output_stream".into(), json!(output_stream));
            ("otlp_file/development", settings)
        }
        Exporter::Console => ("console", Map::new()),
    };
    if let Some(reader) = metrics {
        views(reader, &mut settings);
    }
    json!({key: settings})
}

fn views(reader: &MetricReader, settings: &mut Map<String, Value>) {
    let temporality = match reader.temporality {
        Temporality::Cumulative => "cumulative",
        Temporality::Delta => "delta",
        Temporality::LowMemory => "low_memory",
    };
    let histogram = match reader.histogram {
        Histogram::Explicit => "explicit_bucket_histogram",
        Histogram::Exponential => "base2_exponential_bucket_histogram",
    };
    settings.insert("temporality_preference".into(), json!(temporality));
    settings.insert("default_histogram_aggregation".into(), json!(histogram));
}

fn otlp(otlp: &Otlp) -> Map<String, Value> {
    let mut settings = Map::new();
    settings.insert("endpoint".into(), json!(redaction::url(&otlp.endpoint)));
    if !otlp.headers.is_empty() {
        let headers: Vec<Value> = otlp
            .headers
            .iter()
            .map(|(name, _)| json!({"name": name, "value": Secret::REDACTED}))
            .collect();
        settings.insert("headers".into(), json!(headers));
    }
    settings.insert("compression".into(), json!(otlp.compression.name()));
    settings.insert("timeout".into(), json!(millis(otlp.timeout)));
    for (key, size) in [
        ("max_request_size", otlp.max_request_size),
        ("max_response_size", otlp.max_response_size),
    ] {
        settings.insert(key.into(), json!(size.unwrap_or(0)));
    }
    let tls = &otlp.tls;
    let files = [
        ("ca_file", &tls.ca_file),
        ("key_file", &tls.key_file),
        ("cert_file", &tls.cert_file),
    ];
    let tls: Map<String, Value> = files
        .into_iter()
        .filter_map(|(key, file)| file.as_ref().map(|file| (key.to_owned(), json!(file))))
        .collect();
    if !tls.is_empty() {
        settings.insert("tls".into(), Value::Object(tls));
    }
    settings
}

fn spandrel(config: &Config) -> Value {
    let capture = &config.capture;
    let http = &config.http;
    let export = &config.export;
    json!({
        "version": "1.0",
        "capture": {
            "backend": match capture.backend {
                Backend::Auto => "auto",
                Backend::Socket => "socket",
                Backend::Fexit => "fexit",
                Backend::Syscall => "syscall",
            },
            "ring_buffer_bytes": capture.ring_buffer_bytes,
            "copy_bytes": capture.copy_bytes,
            "head_bytes": capture.head_bytes,
            "unix_sockets": capture.unix_sockets,
            "cgroup_messages_per_second": capture.cgroup_messages_per_second,
            "selectors": {
                "include": capture.include.iter().map(selector).collect::<Vec<_>>(),
                "exclude": capture.exclude.iter().map(selector).collect::<Vec<_>>(),
            },
        },
        "protocols": {"http": {
            "enabled": http.enabled,
            "query_values": match http.query_values {
                QueryValues::Redacted => "redacted",
                QueryValues::Allowed => "allowed",
            },
            "allowed_query_parameters": http.allowed_query_parameters,
            "route_patterns": http.route_patterns,
            "max_routes_per_service": http.max_routes_per_service,
            "max_connections": http.max_connections,
        }},
        "metrics": {
            "explicit_bucket_boundaries": config.aggregation.explicit_bucket_boundaries,
            "exemplars": config.aggregation.exemplars,
            "per_process": config.aggregation.per_process,
        },
        "sampling": sampler::print_block(&config.sampling),
        "export": {
            "console": {"format": match export.console {
                ConsoleFormat::OtlpJson => "otlp-json",
                ConsoleFormat::Text => "text",
            }},
            "sending_queue": queue(&export.sending_queue),
            "retry_on_failure": retry(&export.retry_on_failure),
            "max_request_bytes": export.max_request_bytes,
            "compression_params": compression_params(export.compression_level),
            "proxy_url": export.proxy_url.as_deref().map(redaction::url),
            "destinations": export.destinations.iter().map(destination).collect::<Vec<_>>(),
        },
        "kubernetes": kubernetes(&config.kubernetes),
        "containers": {
            "enabled": config.containers.enabled,
            "sockets": config.containers.sockets,
            "hold": write_duration(config.containers.hold),
        },
        "self_telemetry": {
            "enabled": config.self_telemetry.enabled,
            "interval": write_duration(config.self_telemetry.interval),
        },
        "shutdown_timeout": write_duration(config.shutdown_timeout),
    })
}

fn queue(queue: &SendingQueue) -> Value {
    let mut value = json!({
        "enabled": queue.enabled,
        "queue_size": queue.queue_size,
        "num_consumers": queue.num_consumers,
    });
    if let (Some(storage), Some(keys)) = (&queue.storage, value.as_object_mut()) {
        let fsync = match storage.fsync {
            Fsync::Always => "always",
            Fsync::Interval => "interval",
            Fsync::Never => "never",
        };
        let storage = json!({
            "directory": storage.directory,
            "max_size": storage.max_size,
            "max_age": write_duration(storage.max_age),
            "fsync": fsync,
            "fsync_interval": write_duration(storage.fsync_interval),
        });
        keys.insert("storage".into(), storage);
    }
    value
}

fn compression_params(level: Option<i32>) -> Value {
    json!({ "level": level })
}

fn retry(retry: &RetryOnFailure) -> Value {
    json!({
        "enabled": retry.enabled,
        "initial_interval": write_duration(retry.initial_interval),
        "multiplier": retry.multiplier,
        "max_interval": write_duration(retry.max_interval),
        "max_elapsed_time": write_duration(retry.max_elapsed_time),
        "resource_exhausted": retry.resource_exhausted,
    })
}

fn destination(to: &Destination) -> Value {
    let mut entry = Map::new();
    entry.insert("name".into(), json!(to.name));
    let mut signals = Vec::new();
    let mut common = |signal: &str, exporter: &Exporter, settings: &mut Map<String, Value>| {
        signals.push(signal.to_owned());
        let Exporter::Otlp(otlp) = exporter else {
            return;
        };
        entry.insert(
            "compression_params".into(),
            compression_params(otlp.compression_level),
        );
        let proxy = otlp.proxy_url.as_deref().map(redaction::url);
        entry.insert("proxy_url".into(), json!(proxy));
        for (key, value) in self::otlp(otlp) {
            if key.ends_with("_size") {
                continue;
            }
            if key == "endpoint" {
                settings.insert(key.clone(), value.clone());
            }
            entry.entry(key).or_insert(value);
        }
        entry.insert("profile".into(), json!(otlp.profile.demands().name));
        entry.insert("protocol".into(), json!(otlp.protocol.name()));
    };
    let mut sections = Map::new();
    if let Some(processor) = &to.traces {
        let mut settings = Map::new();
        common("traces", &processor.exporter, &mut settings);
        if let Some(batch) = processor.batch {
            let delay = write_duration(batch.schedule_delay);
            settings.insert("schedule_delay".into(), json!(delay));
            let most = batch.max_export_batch_size;
            settings.insert("max_export_batch_size".into(), json!(most));
        }
        sections.insert("traces".into(), Value::Object(settings));
    }
    if let Some(reader) = &to.metrics {
        let mut settings = Map::new();
        common("metrics", &reader.exporter, &mut settings);
        settings.insert("interval".into(), json!(write_duration(reader.interval)));
        views(reader, &mut settings);
        let most = reader.cardinality_limit;
        settings.insert("cardinality_limit".into(), json!(most));
        sections.insert("metrics".into(), Value::Object(settings));
    }
    entry.insert("signals".into(), json!(signals));
    entry.extend(sections);
    entry.insert("sending_queue".into(), queue(&to.sending_queue));
    entry.insert("retry_on_failure".into(), retry(&to.retry_on_failure));
    entry.insert("max_request_bytes".into(), json!(to.max_request_bytes));
    Value::Object(entry)
}

fn kubernetes(kubernetes: &Kubernetes) -> Value {
    json!({
        "enabled": match kubernetes.enabled {
            None => "auto",
            Some(true) => "always",
            Some(false) => "never",
        },
        "node_name": kubernetes.node_name,
        "kubeconfig": kubernetes.kubeconfig,
        "cluster_name": kubernetes.cluster_name,
        "pod_labels": kubernetes.pod_labels,
        "pod_annotations": kubernetes.pod_annotations,
        "service_from_labels": kubernetes.service_from_labels,
        "hold": write_duration(kubernetes.hold),
        "hold_bytes": kubernetes.hold_bytes,
        "grace": write_duration(kubernetes.grace),
        "max_pods": kubernetes.max_pods,
        "peers": {
            "enabled": kubernetes.peers.enabled,
            "max_objects": kubernetes.peers.max_objects,
            "service_graph": kubernetes.peers.service_graph,
        },
    })
}

fn pod_selector(pod: &PodSelector) -> Option<Value> {
    let mut entry = Map::new();
    for (key, value) in [
        ("namespace", &pod.namespace),
        ("workload_kind", &pod.workload_kind),
        ("workload_name", &pod.workload_name),
        ("container_name", &pod.container_name),
    ] {
        if let Some(value) = value {
            entry.insert(key.into(), json!(value));
        }
    }
    for (key, pairs) in [
        ("pod_labels", &pod.labels),
        ("pod_annotations", &pod.annotations),
    ] {
        if !pairs.is_empty() {
            let pairs = pairs.iter().map(|(key, value)| (key.clone(), json!(value)));
            entry.insert(key.into(), Value::Object(pairs.collect()));
        }
    }
    (!entry.is_empty()).then_some(Value::Object(entry))
}

fn selector(selector: &Selector) -> Value {
    let mut entry = Map::new();
    if let Some(pid) = selector.pid {
        entry.insert("pid".into(), json!(pid));
    }
    if let Some(executable) = &selector.executable {
        entry.insert("executable".into(), json!(executable));
    }
    if let Some((from, to)) = selector.port {
        let port = if from == to {
            json!(from)
        } else {
            json!(format!("{from}-{to}"))
        };
        entry.insert("port".into(), port);
    }
    if let Some(container) = &selector.container_id {
        entry.insert("container_id".into(), json!(container));
    }
    if let Some(pod) = pod_selector(&selector.pod) {
        entry.insert("kubernetes".into(), pod);
    }
    Value::Object(entry)
}
