//! `distribution.spandrel.export.destinations`: destinations with a name and settings of their own.
use std::collections::HashSet;

use crate::defaults::TIMEOUT;
use crate::diagnostic::Findings;
use crate::extract::{
    compression_level, duration, proxy_url, queue, queue_holds_a_request, retry, set, size, text,
    texts, unsigned,
};
use crate::node::Node;
use crate::pipeline::{meets_demands, otlp_settings, points};
use crate::profile::Profile;
use crate::settings::{
    Batch, Destination, Export, Exporter, MetricReader, Otlp, Protocol, SpanProcessor,
};

/// Reads the list; what a destination does not say is as `common` has it.
pub(crate) fn destinations(node: &Node, common: &Export, to: &mut Findings) -> Vec<Destination> {
    let list = node.get("destinations").map_or(&[][..], Node::items);
    let mut names = HashSet::new();
    let mut found = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let path = format!("distribution.spandrel.export.destinations[{index}]");
        let name = text(item.get("name")).unwrap_or_default();
        if !names.insert(name.clone()) {
            let twice = format!("the name `{}` is given twice", crate::node::cut(&name));
            let twice = to.error(twice).at(item.at).path(format!("{path}.name"));
            to.push(twice.expected("a name of its own for each destination"));
        }
        found.push(destination(item, name, common, &path, to));
    }
    found
}

fn destination(
    node: &Node,
    name: String,
    common: &Export,
    path: &str,
    to: &mut Findings,
) -> Destination {
    let profile = profile_of(node);
    let signals = texts(node.get("signals"));
    let wants = |signal: &str| {
        signals
            .as_ref()
            .is_none_or(|all| all.iter().any(|one| one == signal))
    };
    let base = otlp(node, profile, path, to);
    let at = |signal: &str, to: &mut Findings| {
        let own = node.at_path(&[signal, "endpoint"]);
        let mut otlp = base.clone();
        match own.and_then(|own| text(Some(own))) {
            Some(endpoint) => otlp.endpoint = endpoint,
            None if otlp.protocol != Protocol::Grpc => {
                otlp.endpoint = format!("{}/v1/{signal}", base.endpoint.trim_end_matches('/'));
            }
            None => {}
        }
        if let Some(own) = own
            && !(otlp.endpoint.starts_with("http://") || otlp.endpoint.starts_with("https://"))
        {
            let found = to.error("this endpoint is not usable").at(own.at);
            let found = found.path(format!("{path}.{signal}.endpoint"));
            to.push(found.expected("a complete URL, such as https://host/v1/traces"));
        }
        Exporter::Otlp(otlp)
    };
    let traces = wants("traces").then(|| SpanProcessor {
        batch: Some(batch(node)),
        exporter: at("traces", to),
    });
    let metrics = wants("metrics").then(|| {
        let exporter = at("metrics", to);
        reader(node, exporter, path, to)
    });
    let mut destination = Destination {
        name,
        traces,
        metrics,
        sending_queue: common.sending_queue.clone(),
        retry_on_failure: common.retry_on_failure,
        max_request_bytes: common.max_request_bytes,
    };
    queue(node, &mut destination.sending_queue);
    retry(node, &mut destination.retry_on_failure, path, to);
    set(
        &mut destination.max_request_bytes,
        size(node.get("max_request_bytes")),
    );
    destination.max_request_bytes = destination
        .max_request_bytes
        .min(profile.demands().max_request_bytes);
    queue_holds_a_request(
        node,
        destination.sending_queue.queue_size,
        destination.max_request_bytes,
        path,
        to,
    );
    destination
}

fn profile_of(node: &Node) -> Profile {
    let word = text(node.get("profile"));
    word.as_deref().and_then(Profile::named).unwrap_or_else(|| {
        let endpoint = text(node.get("endpoint")).unwrap_or_default();
        Profile::of_endpoint(&endpoint)
    })
}

fn otlp(node: &Node, profile: Profile, path: &str, to: &mut Findings) -> Otlp {
    let mut otlp = match text(node.get("protocol")).as_deref() {
        Some("grpc") => Otlp::grpc(),
        _ => Otlp::http(""),
    };
    otlp.protocol = match text(node.get("protocol")).as_deref() {
        Some("grpc") => Protocol::Grpc,
        Some("http/json") => Protocol::HttpJson,
        Some("http/protobuf") => Protocol::HttpProtobuf,
        _ => *profile
            .demands()
            .protocols
            .first()
            .unwrap_or(&Protocol::HttpProtobuf),
    };
    otlp.timeout = TIMEOUT;
    otlp.compression_level = compression_level(node);
    otlp.proxy_url = proxy_url(node, path, to);
    let mut otlp = otlp_settings(node, otlp, path, to);
    otlp.profile = profile;
    meets_demands(node, &mut otlp, path, to);
    otlp
}

fn batch(node: &Node) -> Batch {
    let mut batch = Batch::default();
    let traces = node.get("traces");
    let key = |key| traces.and_then(|traces| traces.get(key));
    set(&mut batch.schedule_delay, duration(key("schedule_delay")));
    set(
        &mut batch.max_export_batch_size,
        unsigned(key("max_export_batch_size")),
    );
    batch
}

fn reader(node: &Node, exporter: Exporter, path: &str, to: &mut Findings) -> MetricReader {
    let mut reader = MetricReader::new(exporter);
    let Some(metrics) = node.get("metrics") else {
        return reader;
    };
    points(metrics, &mut reader, &format!("{path}.metrics"), to);
    set(&mut reader.interval, duration(metrics.get("interval")));
    if let Some(interval) = metrics
        .get("interval")
        .filter(|_| reader.interval.is_zero())
    {
        let found = to
            .error("an interval of 0 would never rest")
            .at(interval.at);
        let found = found.path(format!("{path}.metrics.interval"));
        to.push(found.expected("a longer time, such as \"60s\""));
    }
    set(
        &mut reader.cardinality_limit,
        unsigned(metrics.get("cardinality_limit")),
    );
    reader
}
