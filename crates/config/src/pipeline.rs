//! `tracer_provider` and `meter_provider`: where data goes.
use crate::diagnostic::Findings;
use crate::extract::{boolean, millis, set, text, unsigned};
use crate::list;
use crate::node::Node;
use crate::profile::Profile;
use crate::settings::{
    Batch, Compression, Exporter, Histogram, MetricReader, Otlp, Protocol, Secret, SpanProcessor,
    Temporality,
};

pub(crate) fn spans(provider: &Node, to: &mut Findings) -> Vec<SpanProcessor> {
    let list = provider.get("processors").map_or(&[][..], Node::items);
    let mut processors = Vec::new();
    for (index, item) in list.iter().enumerate() {
        for kind in ["batch", "simple"] {
            let Some(node) = item.get(kind) else { continue };
            let path = format!("tracer_provider.processors[{index}].{kind}.exporter");
            let Some(exporter) = exporter(node, "v1/traces", &path, to) else {
                continue;
            };
            let batch = (kind == "batch").then(|| batch(node));
            processors.push(SpanProcessor { batch, exporter });
        }
    }
    processors
}

fn batch(node: &Node) -> Batch {
    let mut batch = Batch::default();
    set(
        &mut batch.schedule_delay,
        millis(node.get("schedule_delay")),
    );
    set(
        &mut batch.max_export_batch_size,
        unsigned(node.get("max_export_batch_size")),
    );
    batch
}

pub(crate) fn metrics(provider: &Node, to: &mut Findings) -> Vec<MetricReader> {
    let list = provider.get("readers").map_or(&[][..], Node::items);
    let mut readers = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let Some(node) = item.get("periodic") else {
            continue;
        };
        let path = format!("meter_provider.readers[{index}].periodic.exporter");
        let Some(exporter) = exporter(node, "v1/metrics", &path, to) else {
            continue;
        };
        let mut reader = MetricReader::new(exporter);
        set(&mut reader.interval, millis(node.get("interval")));
        if let Some(interval) = node.get("interval").filter(|_| reader.interval.is_zero()) {
            let found = to
                .error("an interval of 0 would never rest")
                .at(interval.at);
            let path = format!("meter_provider.readers[{index}].periodic.interval");
            to.push(found.path(path).expected("at least 1 (millisecond)"));
        }
        let limits = node.get("cardinality_limits");
        set(
            &mut reader.cardinality_limit,
            unsigned(limits.and_then(|l| l.get("default"))),
        );
        set(
            &mut reader.cardinality_limit,
            unsigned(limits.and_then(|l| l.get("histogram"))),
        );
        let chosen = node
            .get("exporter")
            .and_then(|e| e.entries().first())
            .map(|e| &e.value);
        if let Some(exporter) = chosen {
            points(exporter, &mut reader, &format!("{path}.*"), to);
        }
        readers.push(reader);
    }
    readers
}

/// Temporality and histograms as they are given; not what the backend would refuse.
pub(crate) fn points(node: &Node, reader: &mut MetricReader, path: &str, to: &mut Findings) {
    let demands = match &reader.exporter {
        Exporter::Otlp(otlp) => otlp.profile.demands(),
        _ => Profile::Collector.demands(),
    };
    let given = |key: &str, fits: bool, to: &mut Findings| {
        if !fits && let Some(node) = node.get(key) {
            let found = to.error(format!(
                "{} does not take {}",
                demands.name,
                node.describe()
            ));
            let found = found
                .at(node.at)
                .path(format!("{}.{key}", path.trim_end_matches(".*")));
            to.push(found.hint("leave the key out: the backend's own choice is taken"));
        }
    };
    let temporality = text(node.get("temporality_preference"));
    if let Some(word) = temporality.as_deref().and_then(temporality_of) {
        let delta = |word| matches!(word, Temporality::Delta | Temporality::LowMemory);
        let same = delta(word) == delta(demands.temporality);
        given(
            "temporality_preference",
            same || !demands.only_this_temporality,
            to,
        );
        reader.temporality = word;
    }
    let histogram = text(node.get("default_histogram_aggregation"));
    if let Some(word) = histogram.as_deref().and_then(histogram_of) {
        let same = word == demands.histogram;
        given(
            "default_histogram_aggregation",
            same || !demands.only_this_histogram,
            to,
        );
        reader.histogram = word;
    }
}

pub(crate) fn temporality_of(word: &str) -> Option<Temporality> {
    match word {
        "cumulative" => Some(Temporality::Cumulative),
        "delta" => Some(Temporality::Delta),
        "low_memory" => Some(Temporality::LowMemory),
        _ => None,
    }
}

pub(crate) fn histogram_of(word: &str) -> Option<Histogram> {
    match word {
        "explicit_bucket_histogram" => Some(Histogram::Explicit),
        "base2_exponential_bucket_histogram" => Some(Histogram::Exponential),
        _ => None,
    }
}

fn exporter(node: &Node, signal: &str, path: &str, to: &mut Findings) -> Option<Exporter> {
    let entry = node.get("exporter")?.entries().first()?;
    let settings = &entry.value;
    let path = format!("{path}.{}", entry.key);
    match crate::node::stable(&entry.key) {
        "otlp_http" => {
            let mut otlp = Otlp::http(signal);
            if text(settings.get("encoding")).as_deref() == Some("json") {
                otlp.protocol = Protocol::HttpJson;
            }
            Some(Exporter::Otlp(otlp_of(settings, otlp, &path, to)))
        }
        "otlp_grpc" => Some(Exporter::Otlp(otlp_of(settings, Otlp::grpc(), &path, to))),
        "otlp_file" => {
            let stream = text(settings.get("output_stream")).unwrap_or_else(|| "stdout".to_owned());
            if stream != "stdout"
                && !stream.starts_with("file:///")
                && let Some(node) = settings.get("output_stream")
            {
                let found = to.error(format!("found {}", node.describe())).at(node.at);
                let found = found.path(format!("{path}.output_stream"));
                to.push(found.expected("stdout, or file:///path/to/file.jsonl"));
            }
            Some(Exporter::OtlpFile {
                output_stream: stream,
            })
        }
        "console" => Some(Exporter::Console),
        _ => None,
    }
}

/// An exporter of the standard's: what backend it is for is told by its host.
fn otlp_of(node: &Node, otlp: Otlp, path: &str, to: &mut Findings) -> Otlp {
    let mut otlp = otlp_settings(node, otlp, path, to);
    otlp.profile = Profile::of_endpoint(&otlp.endpoint);
    meets_demands(node, &mut otlp, path, to);
    otlp
}

/// Refuses what the backend is known to refuse, and fills in what it likes best.
pub(crate) fn meets_demands(node: &Node, otlp: &mut Otlp, path: &str, to: &mut Findings) {
    let demands = otlp.profile.demands();
    let mut wrong = |message: String, hint: String| {
        let found = to.error(message).at(node.at).path(path);
        to.push(found.hint(hint));
    };
    if !demands.protocols.contains(&otlp.protocol) {
        wrong(
            format!("{} does not speak {}", demands.name, otlp.protocol.name()),
            format!(
                "it speaks {}",
                demands
                    .protocols
                    .iter()
                    .map(|protocol| protocol.name())
                    .collect::<Vec<_>>()
                    .join(" and ")
            ),
        );
    }
    if demands.tls && otlp.endpoint.starts_with("http://") && !is_local(&otlp.endpoint) {
        wrong(
            format!("{} takes connections with TLS only", demands.name),
            "the endpoint must start with https://".to_owned(),
        );
    }
    if let Some(header) = demands.header {
        let named = |name: &str| name.eq_ignore_ascii_case(header);
        // A header without a value, because its variable is not set, has been warned of already.
        let without_value = node
            .get("headers")
            .map_or(&[][..], Node::items)
            .iter()
            .any(|item| text(item.get("name")).is_some_and(|name| named(&name)));
        match otlp.headers.iter().find(|(name, _)| named(name)) {
            None if without_value => {}
            None => wrong(
                format!("{} needs the header `{header}`", demands.name),
                format!(
                    "add to headers: {{name: {header}, value: \"{}${{env:...}}\"}}",
                    demands.header_prefix
                ),
            ),
            Some((_, value)) if !value.reveal().starts_with(demands.header_prefix) => wrong(
                format!(
                    "the header `{header}` of {} does not start with `{}`",
                    demands.name,
                    demands.header_prefix.trim_end()
                ),
                format!("value: \"{}${{env:...}}\"", demands.header_prefix),
            ),
            Some(_) => {}
        }
    }
    if node.get("compression").is_none_or(Node::is_null)
        && let Some(best) = demands.compressions.first()
    {
        otlp.compression = *best;
    } else if !demands.compressions.contains(&otlp.compression) {
        wrong(
            format!("{} does not take this compression", demands.name),
            "leave the key out".to_owned(),
        );
    }
}

/// Tests and forwarders stand in for a backend without its certificate.
fn is_local(endpoint: &str) -> bool {
    ["http://localhost", "http://127.", "http://[::1]"]
        .iter()
        .any(|start| endpoint.starts_with(start))
}

pub(crate) fn otlp_settings(node: &Node, mut otlp: Otlp, path: &str, to: &mut Findings) -> Otlp {
    if let Some(endpoint) = node.get("endpoint") {
        let given = text(Some(endpoint)).unwrap_or_default();
        let insecure = boolean(node.at_path(&["tls", "insecure"])).unwrap_or(false);
        match endpoint_of(&given, otlp.protocol, insecure) {
            Ok(url) => otlp.endpoint = url,
            Err(why) => {
                let (message, expected) = match why {
                    Unusable::Credentials => (
                        "a user or a password in an endpoint is not sent",
                        "the endpoint alone, and `authorization` among its headers",
                    ),
                    Unusable::Form(expected) => ("this endpoint is not usable", expected),
                };
                let found = to.error(message).at(endpoint.at);
                to.push(found.path(format!("{path}.endpoint")).expected(expected));
            }
        }
    }
    if let Some(list) = node.get("headers_list") {
        let (found, bad) = list::headers(&text(Some(list)).unwrap_or_default());
        for (name, value) in found {
            if !header_name(&name) {
                let found = to
                    .error("a name in the list is not a header name")
                    .at(node.at);
                to.push(found.path(format!("{path}.headers_list")));
            }
            put_header(&mut otlp.headers, name, value);
        }
        if let Some(bad) = bad {
            let found = to
                .warning(format!("headers are ignored: {bad}"))
                .at(list.at);
            to.push(
                found
                    .path(format!("{path}.headers_list"))
                    .expected("key=value,key=value"),
            );
        }
    }
    for (index, header) in node
        .get("headers")
        .map_or(&[][..], Node::items)
        .iter()
        .enumerate()
    {
        let name = text(header.get("name")).unwrap_or_default();
        let path = format!("{path}.headers[{index}]");
        // In quotes, a variable that is not set leaves an empty string.
        match text(header.get("value")).filter(|value| !value.is_empty()) {
            Some(value) if !list::header_value(&value) => {
                let message = "the value has a line break or another control character";
                let found = to.error(message).at(header.at);
                to.push(found.path(format!("{path}.value")));
            }
            Some(value) => put_header(&mut otlp.headers, name.clone(), value),
            None => {
                let known = header
                    .get("name")
                    .is_some_and(|name| name.substituted.is_none());
                let shown = if known {
                    crate::node::cut(&name)
                } else {
                    "...".to_owned()
                };
                let message = format!("the header `{shown}` has no value and is not sent");
                let found = to.warning(message).at(header.at);
                to.push(found.path(format!("{path}.value")));
            }
        }
        if let Some(given) = header.get("name")
            && !header_name(&name)
        {
            let message = format!("found {}, which is not a header name", given.describe());
            let found = to.error(message).at(given.at);
            to.push(found.path(format!("{path}.name")));
        }
    }
    match text(node.get("compression")).as_deref() {
        None => {}
        Some(known) if Compression::named(known).is_some() => {
            set(&mut otlp.compression, Compression::named(known));
        }
        Some(_) => {
            let given = node.get("compression").unwrap_or(node);
            let message = format!("found {}: none is used", given.describe());
            let found = to.warning(message).path(format!("{path}.compression"));
            to.push(found.at(given.at).expected("gzip, zstd or none"));
        }
    }
    set(&mut otlp.timeout, millis(node.get("timeout")));
    let size = |key| unsigned(node.get(key)).map(|size| (size > 0).then_some(size));
    set(&mut otlp.max_request_size, size("max_request_size"));
    set(&mut otlp.max_response_size, size("max_response_size"));
    if let Some(tls) = node.get("tls") {
        otlp.tls.ca_file = text(tls.get("ca_file"));
        otlp.tls.key_file = text(tls.get("key_file"));
        otlp.tls.cert_file = text(tls.get("cert_file"));
        if otlp.tls.key_file.is_some() != otlp.tls.cert_file.is_some() {
            let found = to.error("key_file and cert_file go together").at(tls.at);
            to.push(
                found
                    .path(format!("{path}.tls"))
                    .expected("both of them, or none"),
            );
        }
    }
    otlp
}

/// HTTP header names are compared without regard to case; the later one wins.
pub(crate) fn put_header(headers: &mut Vec<(String, Secret)>, name: String, value: String) {
    match headers
        .iter_mut()
        .find(|(known, _)| known.eq_ignore_ascii_case(&name))
    {
        Some(known) => known.1 = Secret::new(value),
        None => headers.push((name, Secret::new(value))),
    }
}

pub(crate) fn header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Why an endpoint is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It names a user or a password.
    Credentials,
    /// It is no URL with a host; this was expected.
    Form(&'static str),
}

/// The endpoint with a scheme in lower case. Only gRPC endpoints may go without a scheme.
///
/// # Errors
/// Why it is not usable; never its text, which may hold a password.
pub(crate) fn endpoint_of(
    given: &str,
    protocol: Protocol,
    insecure: bool,
) -> Result<String, Unusable> {
    const URL: &str = "a URL such as http://localhost:4318/v1/traces or https://otlp.example.com";
    const GRPC: &str = "a URL such as http://localhost:4317, or host:port";
    let expected = if protocol == Protocol::Grpc {
        GRPC
    } else {
        URL
    };
    let url = match given.split_once("://") {
        Some((scheme, rest)) => {
            let scheme = scheme.to_ascii_lowercase();
            if scheme != "http" && scheme != "https" {
                return Err(Unusable::Form(expected));
            }
            format!("{scheme}://{rest}")
        }
        None if protocol == Protocol::Grpc => {
            format!("{}://{given}", if insecure { "http" } else { "https" })
        }
        None => return Err(Unusable::Form(expected)),
    };
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    if authority.contains('@') {
        return Err(Unusable::Credentials);
    }
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    };
    let port_fits = port.is_none_or(|p| p.is_empty() || p.parse::<u16>().is_ok_and(|p| p > 0));
    let clean = !url.chars().any(|c| c.is_whitespace() || c.is_control());
    if name.is_empty() || !port_fits || !clean {
        return Err(Unusable::Form(expected));
    }
    Ok(url)
}
