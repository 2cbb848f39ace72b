//! The rules of the OTLP exporter's variables that have a number in docs/export.md, one test for each.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
use std::time::Duration;

use spandrel_config::settings::{Compression, Exporter, Histogram, Otlp, Protocol, Temporality};
use spandrel_config::{Loaded, from_env};

fn with(env: &[(&str, &str)]) -> Loaded {
    from_env(&|wanted| {
        let found = env.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn otlp(exporter: &Exporter) -> &Otlp {
    match exporter {
        Exporter::Otlp(otlp) => otlp,
        other => panic!("{other:?}"),
    }
}

fn both(env: &[(&str, &str)]) -> [Otlp; 2] {
    let config = with(env).config;
    let traces = otlp(&config.traces[0].exporter).clone();
    [traces, otlp(&config.metrics[0].exporter).clone()]
}

fn endpoints(env: &[(&str, &str)]) -> [String; 2] {
    both(env).map(|otlp| otlp.endpoint)
}

const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");

#[test]
fn rule_23_and_24_defaults_are_http_protobuf_on_4318_with_the_paths_and_4317_for_grpc() {
    let [traces, metrics] = both(&[]);
    assert_eq!(traces.protocol, Protocol::HttpProtobuf);
    assert_eq!(traces.endpoint, "http://localhost:4318/v1/traces");
    assert_eq!(metrics.endpoint, "http://localhost:4318/v1/metrics");
    assert_eq!(endpoints(&[GRPC]), ["http://localhost:4317"; 2]);
}

#[test]
fn rule_25_a_general_endpoint_is_a_base_and_that_of_a_signal_is_used_as_it_is() {
    for (base, traces) in [
        ("http://c:1", "http://c:1/v1/traces"),
        ("http://c:1/", "http://c:1/v1/traces"),
        ("https://c/a/b", "https://c/a/b/v1/traces"),
        ("https://c/a/b/", "https://c/a/b/v1/traces"),
    ] {
        assert_eq!(endpoints(&[(BASE, base)])[0], traces);
    }
    for (own, used) in [
        ("http://t:2", "http://t:2/"),
        ("http://t:2/", "http://t:2/"),
        ("http://t/x/y?q=1", "http://t/x/y?q=1"),
        (
            "https://T.example/v1/traces/",
            "https://T.example/v1/traces/",
        ),
    ] {
        let expected = [used.to_owned(), "http://c/v1/metrics".to_owned()];
        assert_eq!(endpoints(&[(TRACES, own), (BASE, "http://c")]), expected);
    }
}

#[test]
fn rule_26_the_scheme_of_a_grpc_endpoint_wins_and_without_one_it_is_tls_unless_insecure() {
    let insecure = |value| ("OTEL_EXPORTER_OTLP_INSECURE", value);
    for (endpoint, value, used) in [
        ("http://c:4317", "false", "http://c:4317"),
        ("https://c:4317", "true", "https://c:4317"),
        ("c:4317", "false", "https://c:4317"),
        ("c:4317", "true", "http://c:4317"),
        ("c:4317", "", "https://c:4317"),
    ] {
        let found = endpoints(&[GRPC, (BASE, endpoint), insecure(value)]);
        assert_eq!(found[0], used, "{endpoint} {value:?}");
    }
}

#[test]
fn rule_27_each_option_has_a_general_form_and_one_for_a_signal_that_wins() {
    let general = [
        ("HEADERS", "a=1"),
        ("COMPRESSION", "gzip"),
        ("TIMEOUT", "2500"),
        ("PROTOCOL", "grpc"),
        ("CERTIFICATE", "/ca"),
        ("CLIENT_KEY", "/key"),
        ("CLIENT_CERTIFICATE", "/cert"),
        ("ENDPOINT", "https://general"),
    ];
    let own = [
        ("HEADERS", "b=2"),
        ("COMPRESSION", "none"),
        ("TIMEOUT", "100"),
        ("PROTOCOL", "http/json"),
        ("CERTIFICATE", "/ca-t"),
        ("CLIENT_KEY", "/key-t"),
        ("CLIENT_CERTIFICATE", "/cert-t"),
        ("ENDPOINT", "https://own/t"),
    ];
    let general = general.map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_{name}"), value));
    let own = own.map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), value));
    let all: Vec<(&str, &str)> = general
        .iter()
        .chain(&own)
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let loaded = with(&all);
    assert_eq!(loaded.warnings, []);
    let [traces, metrics] = both(&all);
    for (otlp, protocol, compression, millis, suffix, endpoint) in [
        (
            &traces,
            Protocol::HttpJson,
            Compression::None,
            100,
            "-t",
            "https://own/t",
        ),
        (
            &metrics,
            Protocol::Grpc,
            Compression::Gzip,
            2500,
            "",
            "https://general",
        ),
    ] {
        assert_eq!((otlp.protocol, otlp.compression), (protocol, compression));
        assert_eq!(otlp.timeout, Duration::from_millis(millis));
        assert_eq!(otlp.tls.ca_file, Some(format!("/ca{suffix}")));
        assert_eq!(otlp.tls.key_file, Some(format!("/key{suffix}")));
        assert_eq!(otlp.tls.cert_file, Some(format!("/cert{suffix}")));
        assert_eq!(otlp.endpoint, endpoint);
    }
    assert_eq!(both(&[])[0].timeout, Duration::from_secs(10));
}

#[test]
fn rule_28_headers_are_pairs_whose_values_are_percent_decoded() {
    let text = "api-key=a%3Db%2Cc, x = y%20z ,empty=";
    let [traces, _] = both(&[("OTEL_EXPORTER_OTLP_HEADERS", text)]);
    let found: Vec<(&str, &str)> = traces
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.reveal()))
        .collect();
    assert_eq!(found[..2], [("api-key", "a=b,c"), ("x", "y z")]);
}

#[test]
fn rule_29_empty_is_unset_and_what_cannot_be_used_is_warned_of_and_ignored() {
    let names = ["PROTOCOL", "COMPRESSION", "TIMEOUT", "INSECURE", "ENDPOINT"];
    let names = names.map(|name| format!("OTEL_EXPORTER_OTLP_{name}"));
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let loaded = with(&empty);
    assert_eq!(
        (loaded.warnings, loaded.config),
        (Vec::new(), with(&[]).config)
    );
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_SDK_DISABLED", "yes"),
    ] {
        let loaded = with(&[(name, value)]);
        assert_eq!(loaded.config, with(&[]).config, "{name}={value}");
        assert!(
            loaded.warnings.iter().any(|warning| warning.origin == name),
            "{name}"
        );
    }
    // Only "true", in any case, is true.
    assert!(with(&[("OTEL_SDK_DISABLED", "TrUe")]).config.disabled);
}

#[test]
fn rule_30_temporality_and_histograms_have_variables() {
    let temporality = |value| {
        let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        with(&[(name, value)]).config.metrics[0].temporality
    };
    assert_eq!(temporality("cumulative"), Temporality::Cumulative);
    assert_eq!(temporality("Delta"), Temporality::Delta);
    assert_eq!(temporality("lowmemory"), Temporality::LowMemory);
    let histogram = |value| {
        let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
        with(&[(name, value)]).config.metrics[0].histogram
    };
    assert_eq!(histogram("explicit_bucket_histogram"), Histogram::Explicit);
    assert_eq!(
        histogram("base2_exponential_bucket_histogram"),
        Histogram::Exponential
    );
}

#[test]
fn rule_31_the_batch_has_its_variables_and_what_is_not_used_of_them_is_named() {
    let variables = [
        ("OTEL_BSP_SCHEDULE_DELAY", "1000"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "40"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "7000"),
    ];
    let loaded = with(&variables);
    assert_eq!(loaded.warnings, []);
    let batch = loaded.config.traces[0].batch.unwrap();
    assert_eq!(batch.schedule_delay, Duration::from_secs(1));
    assert_eq!(batch.max_export_batch_size, 40);
    assert_eq!(loaded.config.metrics[0].interval, Duration::from_secs(7));
    let usual = with(&[]).config;
    // The one default that is not the specification's, on purpose: docs/configuration.md.
    let batch = usual.traces[0].batch.unwrap();
    assert_eq!(batch.schedule_delay, Duration::from_millis(200));
    assert_eq!(batch.max_export_batch_size, 512);
    assert_eq!(usual.metrics[0].interval, Duration::from_secs(60));
    // The queue is bounded in bytes, and an attempt by the exporter's own timeout.
    for name in ["OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE"] {
        let warnings = with(&[(name, "2000")]).warnings;
        assert!(warnings.iter().any(|one| one.origin == name), "{name}");
    }
}
