//! Variables whose names are almost those that are read.

use crate::diagnostic::Diagnostic;
use crate::suggest::within;

/// Options of the OTLP exporter, each for all signals, for traces and for metrics.
const OTLP: &[&str] = &[
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "COMPRESSION",
    "TIMEOUT",
    "INSECURE",
    "CERTIFICATE",
    "CLIENT_KEY",
    "CLIENT_CERTIFICATE",
];
/// What the names of signals that are not sent begin with.
const OTHER_SIGNALS: &[&str] = &["OTEL_EXPORTER_OTLP_LOGS_", "OTEL_EXPORTER_OTLP_PROFILES_"];
/// The other variables that are read.
const READ: &[&str] = &[
    "OTEL_CONFIG_FILE",
    "OTEL_SDK_DISABLED",
    "OTEL_LOG_LEVEL",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
];
/// Edits that are a slip of the keyboard.
const SLIP: usize = 2;

/// A warning for each of these names that is a slip away from a variable that is read, in their order.
pub fn misspelt(names: impl Iterator<Item = String>) -> Vec<Diagnostic> {
    let signals = ["", "TRACES_", "METRICS_"];
    let mut read: Vec<String> = READ.iter().map(|name| (*name).to_owned()).collect();
    for signal in signals {
        for option in OTLP {
            read.push(format!("OTEL_EXPORTER_OTLP_{signal}{option}"));
        }
    }
    let ours = |name: &String| {
        name.starts_with("OTEL_") && !OTHER_SIGNALS.iter().any(|start| name.starts_with(start))
    };
    names
        .filter(ours)
        .filter(|name| name.len() <= 64 && !read.contains(name))
        .filter_map(|name| {
            let meant = within(&name, read.iter().map(String::as_str), SLIP)?;
            let warning = Diagnostic::warning(&name, "this variable is not read");
            Some(warning.hint(format!("did you mean `{meant}`?")))
        })
        .collect()
}
