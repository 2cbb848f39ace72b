//! From a checked document to the typed configuration, with the checks across several keys.
use std::path::PathBuf;
use std::time::Duration;

use crate::diagnostic::{Findings, NOTHING_IS_EXPORTED};
use crate::list;
use crate::node::{Node, Value};
use crate::settings::{
    AttributeLimits, AttributeValue, Backend, Capture, Config, ConsoleFormat, Fsync, Http,
    Kubernetes, LogLevel, PodSelector, QueryValues, RetryOnFailure, Selector, SendingQueue,
};
use crate::{destinations, pipeline, sampler, units};

/// Reads a document that has been validated.
pub(crate) fn extract(root: &Node, to: &mut Findings) -> Config {
    let mut config = Config::silent();
    set(&mut config.disabled, boolean(root.get("disabled")));
    if let Some(level) = text(root.get("log_level")) {
        config.log_level = log_level(&level);
    }
    config.resource = resource(root, to);
    // Those of the tracer provider go before those of all signals.
    let limit = |key: &str| {
        let own = root.at_path(&["tracer_provider", "limits", key]);
        unsigned(own.or_else(|| root.at_path(&["attribute_limits", key])))
    };
    config.attribute_limits = AttributeLimits {
        value_length: limit("attribute_value_length_limit"),
        count: limit("attribute_count_limit"),
    };
    if let Some(provider) = root.get("tracer_provider") {
        config.traces = pipeline::spans(provider, to);
        set(
            &mut config.sampler,
            sampler::sampler(provider.get("sampler")),
        );
    }
    if let Some(provider) = root.get("meter_provider") {
        config.metrics = pipeline::metrics(provider, to);
    }
    if let Some(ours) = root.at_path(&["distribution", "spandrel"]) {
        spandrel(ours, &mut config, to);
    }
    let filter = root.at_path(&["meter_provider", "exemplar_filter"]);
    if text(filter).as_deref() == Some("always_off") {
        config.aggregation.exemplars = false;
    }
    if config.traces.is_empty()
        && config.metrics.is_empty()
        && config.export.destinations.is_empty()
        && !config.disabled
        && !to.has_errors()
    {
        let found = to.warning(NOTHING_IS_EXPORTED);
        to.push(
            found
                .at(root.at)
                .hint("add a tracer_provider with a processor"),
        );
    }
    config
}

fn log_level(word: &str) -> LogLevel {
    match word.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "trace" => LogLevel::Trace,
        "debug" => LogLevel::Debug,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "fatal" => LogLevel::Off,
        _ => LogLevel::Info,
    }
}

fn resource(root: &Node, to: &mut Findings) -> Vec<(String, AttributeValue)> {
    let Some(resource) = root.get("resource") else {
        return Vec::new();
    };
    let mut attributes: Vec<(String, AttributeValue)> = Vec::new();
    let mut put = |name: String, value: AttributeValue| match attributes
        .iter_mut()
        .find(|(known, _)| *known == name)
    {
        Some(known) => known.1 = value,
        None => attributes.push((name, value)),
    };
    if let Some(node) = resource.get("attributes_list") {
        match list::attributes(&text(Some(node)).unwrap_or_default()) {
            Ok(found) => {
                for (name, value) in found {
                    put(name, AttributeValue::String(value));
                }
            }
            Err(bad) => {
                let found = to
                    .warning(format!("the list is ignored: {bad}"))
                    .at(node.at);
                to.push(
                    found
                        .path("resource.attributes_list")
                        .expected("key=value,key=value, percent-encoded"),
                );
            }
        }
    }
    let list = resource.get("attributes").map_or(&[][..], Node::items);
    for (index, attribute) in list.iter().enumerate() {
        let name = text(attribute.get("name")).unwrap_or_default();
        let kind = text(attribute.get("type")).unwrap_or_else(|| "string".to_owned());
        let Some(value) = attribute.get("value") else {
            continue;
        };
        match attribute_value(value, &kind) {
            Some(value) => put(name, value),
            None => {
                let message = format!("found {}, but the type is {kind}", value.describe());
                let path = format!("resource.attributes[{index}].value");
                let found = to.error(message).at(value.at).path(path);
                to.push(found.expected(format!("a value of type {kind}")));
            }
        }
    }
    attributes
}

fn attribute_value(node: &Node, kind: &str) -> Option<AttributeValue> {
    fn all<T>(node: &Node, one: fn(&Node) -> Option<T>) -> Option<Vec<T>> {
        match &node.value {
            Value::List(items) => items.iter().map(one).collect(),
            _ => None,
        }
    }
    let string = |n: &Node| text(Some(n));
    match kind {
        "string" => string(node).map(AttributeValue::String),
        "bool" => boolean(Some(node)).map(AttributeValue::Bool),
        "int" => int64(node).map(AttributeValue::Int),
        "double" => number(Some(node)).map(AttributeValue::Double),
        "string_array" => all(node, string).map(AttributeValue::Strings),
        "bool_array" => all(node, |n| boolean(Some(n))).map(AttributeValue::Bools),
        "int_array" => all(node, int64).map(AttributeValue::Ints),
        "double_array" => all(node, |n| number(Some(n))).map(AttributeValue::Doubles),
        _ => None,
    }
}

fn spandrel(ours: &Node, config: &mut Config, to: &mut Findings) {
    if let Some(capture) = ours.get("capture") {
        self::capture(capture, &mut config.capture, to);
    }
    if let Some(http) = ours.at_path(&["protocols", "http"]) {
        self::http(http, &mut config.http);
    }
    if let Some(metrics) = ours.get("metrics") {
        set(
            &mut config.aggregation.exemplars,
            boolean(metrics.get("exemplars")),
        );
        set(
            &mut config.aggregation.per_process,
            boolean(metrics.get("per_process")),
        );
        if let Some(list) = metrics.get("explicit_bucket_boundaries") {
            let bounds: Vec<f64> = list
                .items()
                .iter()
                .filter_map(|n| number(Some(n)))
                .collect();
            if !bounds.is_sorted_by(|a, b| a < b) {
                let found = to.error("the boundaries do not ascend").at(list.at);
                let found = found.path("distribution.spandrel.metrics.explicit_bucket_boundaries");
                to.push(found.expected("numbers of which each is greater than the one before"));
            }
            config.aggregation.explicit_bucket_boundaries = bounds;
        }
    }
    if let Some(sampling) = ours.get("sampling") {
        sampler::sampling(sampling, &mut config.sampling, to);
    }
    if let Some(export) = ours.get("export") {
        self::export(export, config, to);
    }
    if let Some(node) = ours.get("kubernetes") {
        kubernetes(node, &mut config.kubernetes);
    }
    if let Some(node) = ours.get("containers") {
        let containers = &mut config.containers;
        set(&mut containers.enabled, boolean(node.get("enabled")));
        set(&mut containers.sockets, texts(node.get("sockets")));
        set(&mut containers.hold, duration(node.get("hold")));
    }
    if let Some(own) = ours.get("self_telemetry") {
        set(
            &mut config.self_telemetry.enabled,
            boolean(own.get("enabled")),
        );
        set(
            &mut config.self_telemetry.interval,
            duration(own.get("interval")),
        );
        let zero = config.self_telemetry.interval.is_zero();
        if let Some(interval) = own.get("interval").filter(|_| zero) {
            let found = to
                .error("an interval of 0 would never rest")
                .at(interval.at);
            let found = found.path("distribution.spandrel.self_telemetry.interval");
            to.push(found.expected("a longer time, such as \"60s\""));
        }
    }
    set(
        &mut config.shutdown_timeout,
        duration(ours.get("shutdown_timeout")),
    );
}

fn capture(node: &Node, capture: &mut Capture, to: &mut Findings) {
    capture.backend = match text(node.get("backend")).as_deref() {
        Some("socket") => Backend::Socket,
        Some("fexit") => Backend::Fexit,
        Some("syscall") => Backend::Syscall,
        _ => Backend::Auto,
    };
    set(
        &mut capture.ring_buffer_bytes,
        size(node.get("ring_buffer_bytes")),
    );
    set(&mut capture.copy_bytes, size(node.get("copy_bytes")));
    set(&mut capture.head_bytes, size(node.get("head_bytes")));
    set(&mut capture.unix_sockets, boolean(node.get("unix_sockets")));
    set(
        &mut capture.cgroup_messages_per_second,
        unsigned(node.get("cgroup_messages_per_second")),
    );
    for (key, list) in [
        ("include", &mut capture.include),
        ("exclude", &mut capture.exclude),
    ] {
        let entries = node
            .at_path(&["selectors", key])
            .map_or(&[][..], Node::items);
        for (index, entry) in entries.iter().enumerate() {
            let selector = selector(entry);
            if selector == Selector::default() {
                let path = format!("distribution.spandrel.capture.selectors.{key}[{index}]");
                let found = to
                    .error("this selector says nothing")
                    .at(entry.at)
                    .path(path);
                to.push(
                    found.expected(
                        "at least one of pid, executable, port, container_id, kubernetes",
                    ),
                );
            }
            list.push(selector);
        }
    }
}

fn selector(node: &Node) -> Selector {
    Selector {
        pid: unsigned(node.get("pid")).and_then(|pid| u32::try_from(pid).ok()),
        executable: text(node.get("executable")),
        port: node.get("port").and_then(|port| match &port.value {
            Value::Int(i) => u16::try_from(*i).ok().map(|p| (p, p)),
            Value::Str(text) => units::ports(text),
            _ => None,
        }),
        container_id: text(node.get("container_id")),
        pod: node.get("kubernetes").map(pod_selector).unwrap_or_default(),
    }
}

fn pod_selector(node: &Node) -> PodSelector {
    let pairs = |key| {
        let entries = node.get(key).map_or(&[][..], Node::entries);
        entries
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), text(Some(&entry.value))?)))
            .collect()
    };
    PodSelector {
        namespace: text(node.get("namespace")),
        labels: pairs("pod_labels"),
        annotations: pairs("pod_annotations"),
        workload_kind: text(node.get("workload_kind")),
        workload_name: text(node.get("workload_name")),
        container_name: text(node.get("container_name")),
    }
}

fn kubernetes(node: &Node, kubernetes: &mut Kubernetes) {
    kubernetes.enabled = match text(node.get("enabled")).as_deref() {
        Some("always") => Some(true),
        Some("never") => Some(false),
        _ => None,
    };
    kubernetes.node_name = text(node.get("node_name"));
    kubernetes.kubeconfig = text(node.get("kubeconfig"));
    kubernetes.cluster_name = text(node.get("cluster_name"));
    set(&mut kubernetes.pod_labels, texts(node.get("pod_labels")));
    set(
        &mut kubernetes.pod_annotations,
        texts(node.get("pod_annotations")),
    );
    set(
        &mut kubernetes.service_from_labels,
        boolean(node.get("service_from_labels")),
    );
    set(&mut kubernetes.hold, duration(node.get("hold")));
    set(&mut kubernetes.hold_bytes, size(node.get("hold_bytes")));
    set(&mut kubernetes.grace, duration(node.get("grace")));
    set(&mut kubernetes.max_pods, unsigned(node.get("max_pods")));
    if let Some(node) = node.get("peers") {
        let peers = &mut kubernetes.peers;
        set(&mut peers.enabled, boolean(node.get("enabled")));
        set(&mut peers.max_objects, unsigned(node.get("max_objects")));
        set(&mut peers.service_graph, boolean(node.get("service_graph")));
    }
}

fn http(node: &Node, http: &mut Http) {
    set(&mut http.enabled, boolean(node.get("enabled")));
    if text(node.get("query_values")).as_deref() == Some("allowed") {
        http.query_values = QueryValues::Allowed;
    }
    set(
        &mut http.allowed_query_parameters,
        texts(node.get("allowed_query_parameters")),
    );
    set(&mut http.route_patterns, texts(node.get("route_patterns")));
    set(
        &mut http.max_routes_per_service,
        count(node.get("max_routes_per_service")),
    );
    set(
        &mut http.max_connections,
        count(node.get("max_connections")),
    );
}

fn export(node: &Node, config: &mut Config, to: &mut Findings) {
    const PATH: &str = "distribution.spandrel.export";
    let export = &mut config.export;
    set(
        &mut export.max_request_bytes,
        size(node.get("max_request_bytes")),
    );
    if text(node.at_path(&["console", "format"])).as_deref() == Some("text") {
        export.console = ConsoleFormat::Text;
    }
    export.compression_level = compression_level(node);
    export.proxy_url = proxy_url(node, PATH, to);
    queue(node, &mut export.sending_queue);
    retry(node, &mut export.retry_on_failure, PATH, to);
    queue_holds_a_request(
        node,
        export.sending_queue.queue_size,
        export.max_request_bytes,
        PATH,
        to,
    );
    export.destinations = destinations::destinations(node, export, to);
}

/// Reads `compression_params.level` of a node.
pub(crate) fn compression_level(node: &Node) -> Option<i32> {
    let level = node.at_path(&["compression_params", "level"])?;
    int64(level).and_then(|level| i32::try_from(level).ok())
}

/// Reads `proxy_url` of a node that is at `path`. Its value may hold a password and is not shown.
pub(crate) fn proxy_url(node: &Node, path: &str, to: &mut Findings) -> Option<String> {
    let given = node.get("proxy_url")?;
    let url = text(Some(given))?;
    if !url.is_empty() && !url.starts_with("http://") {
        let found = to.error("this proxy is not usable").at(given.at);
        let found = found.path(format!("{path}.proxy_url"));
        to.push(found.expected("http://host:port, or an empty text for none"));
    }
    Some(url)
}

/// Reads `sending_queue` of a node.
pub(crate) fn queue(node: &Node, queue: &mut SendingQueue) {
    if let Some(node) = node.get("sending_queue") {
        set(&mut queue.enabled, boolean(node.get("enabled")));
        set(&mut queue.queue_size, size(node.get("queue_size")));
        set(&mut queue.num_consumers, count(node.get("num_consumers")));
        if let Some(node) = node.get("storage") {
            let storage = queue.storage.get_or_insert_default();
            let directory = text(node.get("directory")).map(PathBuf::from);
            set(&mut storage.directory, directory);
            set(&mut storage.max_size, size(node.get("max_size")));
            set(&mut storage.max_age, duration(node.get("max_age")));
            set(
                &mut storage.fsync_interval,
                duration(node.get("fsync_interval")),
            );
            storage.fsync = match text(node.get("fsync")).as_deref() {
                Some("always") => Fsync::Always,
                Some("interval") => Fsync::Interval,
                Some("never") => Fsync::Never,
                _ => storage.fsync,
            };
        }
    }
}

/// Reads `retry_on_failure` of a node that is at `path`.
pub(crate) fn retry(node: &Node, retry: &mut RetryOnFailure, path: &str, to: &mut Findings) {
    let Some(node) = node.get("retry_on_failure") else {
        return;
    };
    set(&mut retry.enabled, boolean(node.get("enabled")));
    set(
        &mut retry.initial_interval,
        duration(node.get("initial_interval")),
    );
    set(&mut retry.multiplier, number(node.get("multiplier")));
    set(&mut retry.max_interval, duration(node.get("max_interval")));
    set(
        &mut retry.max_elapsed_time,
        duration(node.get("max_elapsed_time")),
    );
    set(
        &mut retry.resource_exhausted,
        boolean(node.get("resource_exhausted")),
    );
    if retry.initial_interval > retry.max_interval {
        let found = to
            .error("initial_interval is longer than max_interval")
            .at(node.at);
        to.push(found.path(format!("{path}.retry_on_failure")));
    }
}

/// A queue must hold one request at least.
pub(crate) fn queue_holds_a_request(
    node: &Node,
    queue_size: u64,
    max_request_bytes: u64,
    path: &str,
    to: &mut Findings,
) {
    if queue_size < max_request_bytes {
        let message = format!(
            "the queue ({queue_size} bytes) is smaller than one request ({max_request_bytes} bytes)"
        );
        let found = to.error(message).at(node.at).path(path);
        to.push(found.expected("sending_queue.queue_size of at least max_request_bytes"));
    }
}

pub(crate) fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

pub(crate) fn text(node: Option<&Node>) -> Option<String> {
    node?.text().map(str::to_owned)
}

pub(crate) fn texts(node: Option<&Node>) -> Option<Vec<String>> {
    Some(
        node?
            .items()
            .iter()
            .filter_map(|item| text(Some(item)))
            .collect(),
    )
}

pub(crate) fn boolean(node: Option<&Node>) -> Option<bool> {
    match node?.value {
        Value::Bool(b) => Some(b),
        _ => None,
    }
}

fn int64(node: &Node) -> Option<i64> {
    match node.value {
        Value::Int(i) => i64::try_from(i).ok(),
        _ => None,
    }
}

pub(crate) fn unsigned(node: Option<&Node>) -> Option<u64> {
    match node?.value {
        Value::Int(i) => u64::try_from(i).ok(),
        _ => None,
    }
}

pub(crate) fn count(node: Option<&Node>) -> Option<usize> {
    unsigned(node).and_then(|n| usize::try_from(n).ok())
}

pub(crate) fn number(node: Option<&Node>) -> Option<f64> {
    match node?.value {
        Value::Int(i) => Some(i as f64),
        Value::Float(x) => Some(x),
        _ => None,
    }
}

pub(crate) fn millis(node: Option<&Node>) -> Option<Duration> {
    unsigned(node).map(Duration::from_millis)
}

pub(crate) fn duration(node: Option<&Node>) -> Option<Duration> {
    text(node).and_then(|text| units::duration(&text))
}

pub(crate) fn size(node: Option<&Node>) -> Option<u64> {
    match &node?.value {
        Value::Int(i) => u64::try_from(*i).ok(),
        Value::Str(text) => units::size(text),
        _ => None,
    }
}
