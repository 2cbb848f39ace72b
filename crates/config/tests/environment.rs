//! The OTEL_* variables, as the OpenTelemetry specification has them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
use std::time::Duration;

use spandrel_config::settings::{
    AttributeValue, Compression, Exporter, Histogram, LogLevel, Otlp, Protocol, Temporality,
};
use spandrel_config::{Loaded, from_env};

fn with(env: &[(&str, &str)]) -> Loaded {
    from_env(&|wanted| {
        env.iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn otlp(exporter: &Exporter) -> &Otlp {
    match exporter {
        Exporter::Otlp(otlp) => otlp,
        other => panic!("{other:?}"),
    }
}

fn endpoints(env: &[(&str, &str)]) -> (String, String) {
    let loaded = with(env);
    let traces = otlp(&loaded.config.traces[0].exporter).endpoint.clone();
    (
        traces,
        otlp(&loaded.config.metrics[0].exporter).endpoint.clone(),
    )
}

#[test]
fn endpoints_follow_the_rules_of_the_specification() {
    let both = |traces: &str, metrics: &str| (traces.to_owned(), metrics.to_owned());
    let all = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert_eq!(
        endpoints(&[]),
        both(
            "http://localhost:4318/v1/traces",
            "http://localhost:4318/v1/metrics"
        )
    );
    assert_eq!(
        endpoints(&[(all, "http://c:1")]),
        both("http://c:1/v1/traces", "http://c:1/v1/metrics")
    );
    assert_eq!(
        endpoints(&[(all, "https://c/base/")]),
        both("https://c/base/v1/traces", "https://c/base/v1/metrics")
    );
    assert_eq!(
        endpoints(&[(all, "http://c"), (own, "http://t:2")]),
        both("http://t:2/", "http://c/v1/metrics")
    );
    assert_eq!(endpoints(&[(own, "http://t/x?q=1")]).0, "http://t/x?q=1");
    assert_eq!(
        endpoints(&[protocol]),
        both("http://localhost:4317", "http://localhost:4317")
    );
    assert_eq!(endpoints(&[protocol, (all, "c:4317")]).0, "https://c:4317");
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    assert_eq!(
        endpoints(&[protocol, insecure, (all, "c:4317")]).0,
        "http://c:4317"
    );
    assert_eq!(
        endpoints(&[protocol, insecure, (all, "https://c:4317")]).0,
        "https://c:4317"
    );
}

#[test]
fn an_unusable_endpoint_is_warned_of_without_its_value_and_the_next_one_is_used() {
    let loaded = with(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "key:password@host"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
    ]);
    assert_eq!(
        otlp(&loaded.config.traces[0].exporter).endpoint,
        "http://c/v1/traces"
    );
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(
        loaded.warnings[0].origin,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    );
    assert!(!loaded.warnings[0].to_string().contains("password"));
}

#[test]
fn options_of_a_signal_win_over_the_general_ones() {
    let loaded = with(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b=x%20y"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "c=3"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "100"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/key.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/cert.pem"),
    ]);
    assert_eq!(loaded.warnings, []);
    let traces = otlp(&loaded.config.traces[0].exporter);
    let metrics = otlp(&loaded.config.metrics[0].exporter);
    let headers = |otlp: &Otlp| -> Vec<String> {
        otlp.headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.reveal()))
            .collect()
    };
    assert_eq!(headers(traces), ["a=1", "b=x y"]);
    assert_eq!(headers(metrics), ["c=3"]);
    assert_eq!(traces.timeout, Duration::from_millis(100));
    assert_eq!(metrics.timeout, Duration::from_millis(2500));
    assert_eq!(
        (traces.compression, metrics.compression),
        (Compression::Gzip, Compression::None)
    );
    assert_eq!(
        (traces.protocol, metrics.protocol),
        (Protocol::HttpJson, Protocol::HttpProtobuf)
    );
    assert_eq!(traces.tls.ca_file.as_deref(), Some("/ca.pem"));
    assert_eq!(traces.tls.key_file.as_deref(), Some("/key.pem"));
    assert_eq!(metrics.tls.key_file, None);
}

#[test]
fn unknown_values_are_warned_of_and_ignored() {
    let loaded = with(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
        ("OTEL_SDK_DISABLED", "1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-3"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "sideways",
        ),
        ("OTEL_TRACES_EXPORTER", "otlp,zipkin"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", ""),
    ]);
    let mut named: Vec<&str> = loaded.warnings.iter().map(|d| d.origin.as_str()).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(
        named,
        [
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "OTEL_BSP_SCHEDULE_DELAY",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_SDK_DISABLED",
            "OTEL_TRACES_EXPORTER",
            "OTEL_TRACES_SAMPLER",
        ]
    );
    assert_eq!(loaded.config, with(&[]).config);
}

#[test]
fn the_general_variables_are_read() {
    let loaded = with(&[
        ("OTEL_SDK_DISABLED", "TRUE"),
        ("OTEL_LOG_LEVEL", "debug"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=x,team=a%2Cb"),
        ("OTEL_SERVICE_NAME", "agent"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "always_off"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "LowMemory",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "explicit_bucket_histogram",
        ),
        ("OTEL_TRACES_EXPORTER", "console"),
    ]);
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert!(config.disabled && !config.aggregation.exemplars);
    assert_eq!(config.log_level, LogLevel::Debug);
    let text = |v: &str| AttributeValue::String(v.to_owned());
    let expected = [
        ("team".to_owned(), text("a,b")),
        ("service.name".to_owned(), text("agent")),
    ];
    assert_eq!(config.resource, expected);
    assert_eq!(config.traces[0].exporter, Exporter::Console);
    assert_eq!(
        config.traces[0].batch.unwrap().schedule_delay,
        Duration::from_secs(1)
    );
    assert_eq!(config.metrics[0].interval, Duration::from_secs(5));
    assert_eq!(config.metrics[0].temporality, Temporality::LowMemory);
    assert_eq!(config.metrics[0].histogram, Histogram::Explicit);
}
