//! The OpenTelemetry schema: everything in it is valid, and what has no effect is named.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
use std::time::Duration;

use spandrel_config::settings::{AttributeValue, Exporter, Histogram, Protocol, Temporality};
use spandrel_config::{Loaded, load_str};

const EVERY_KEY: &str = include_str!("files/every_standard_key.yaml");

fn load(text: &str, env: &[(&str, &str)]) -> Loaded {
    let env = |wanted: &str| {
        env.iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| (*value).to_owned())
    };
    load_str("f.yaml", text, &env).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn every_key_of_the_schema_is_valid_and_each_one_without_effect_is_named_once() {
    let loaded = load(EVERY_KEY, &[]);
    let mut named: Vec<String> = Vec::new();
    for warning in &loaded.warnings {
        assert!(warning.position.is_some(), "{warning}");
        named.push(warning.message.split('`').nth(1).unwrap_or("").to_owned());
    }
    let expected = [
        "schema_url",
        "detection/development",
        "attribute_value_depth_limit",
        "propagator",
        "unset",
        "export_timeout",
        "max_queue_size",
        "timeout",
        "zipkin",
        "my_exporter",
        "my_processor",
        "event_count_limit",
        "link_count_limit",
        "jaeger_remote/development",
        "composite/development",
        "my_sampler",
        "id_generator",
        "tracer_configurator/development",
        "pull",
        "producers",
        "counter",
        "views",
        "view_matching_mode/development",
        "meter_configurator/development",
        "logger_provider",
        "instrumentation/development",
        "another_vendor",
        "my_root_key",
    ];
    for name in expected {
        assert!(
            named.iter().any(|n| n == name),
            "{name} is not named: {named:?}"
        );
    }
    // Parts of what has no effect are not named again.
    for name in [
        "composite",
        "always_on",
        "prometheus/development",
        "loggers",
    ] {
        assert!(!named.iter().any(|n| n == name), "{name} is named");
    }
}

#[test]
fn no_key_of_the_schema_is_unknown_under_its_name_in_development_or_its_stable_one() {
    let stable = EVERY_KEY.replace("/development", "");
    for text in [EVERY_KEY, &stable] {
        let unknown: Vec<_> = load(text, &[])
            .warnings
            .into_iter()
            .filter(|w| w.message.contains("unknown key"))
            .collect();
        assert_eq!(unknown, []);
    }
}

#[test]
fn what_has_an_effect_arrives_in_the_typed_configuration() {
    let config = load(EVERY_KEY, &[]).config;
    let limits = config.attribute_limits;
    assert_eq!((limits.value_length, limits.count), (Some(4096), Some(128)));
    assert_eq!(config.traces.len(), 5);
    let batch = config.traces[0].batch.unwrap();
    assert_eq!(batch.schedule_delay, Duration::from_secs(5));
    assert_eq!(config.traces[4].batch, None);
    assert_eq!(config.traces[4].exporter, Exporter::Console);
    let Exporter::Otlp(http) = &config.traces[0].exporter else {
        panic!()
    };
    let headers: Vec<_> = http
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.reveal()))
        .collect();
    assert_eq!(headers, [("api-key", "1234"), ("other", "5678")]);
    let Exporter::Otlp(grpc) = &config.traces[1].exporter else {
        panic!()
    };
    assert_eq!(
        (grpc.protocol, grpc.endpoint.as_str()),
        (Protocol::Grpc, "http://collector:4317")
    );
    assert_eq!(config.metrics.len(), 4);
    assert_eq!(config.metrics[0].temporality, Temporality::Delta);
    assert_eq!(config.metrics[0].histogram, Histogram::Explicit);
    assert_eq!(config.metrics[0].cardinality_limit, 1500);
    let Exporter::Otlp(merged) = &config.metrics[0].exporter else {
        panic!()
    };
    assert_eq!(merged.endpoint, "http://localhost:4318/v1/metrics");
    assert_eq!(merged.tls, http.tls);
    let value = |name: &str| {
        config
            .resource
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v)
    };
    assert_eq!(
        value("service.name"),
        Some(&AttributeValue::String("shop".into()))
    );
    assert_eq!(value("enc"), Some(&AttributeValue::String("a b".into())));
    assert_eq!(value("count"), Some(&AttributeValue::Int(255)));
    assert_eq!(value("share"), Some(&AttributeValue::Double(1.0)));
    assert_eq!(
        value("shares"),
        Some(&AttributeValue::Doubles(vec![1.5, 2.0]))
    );
}

#[test]
fn a_file_for_a_later_schema_with_keys_that_became_stable_is_valid() {
    let text = "file_format: \"1.2\"\nstability: development\n\
                instrumentation: {general: {stability_opt_in_list: }}\n\
                tracer_provider:\n  processors: [{batch: {exporter: {otlp_http: }}}]\n\
                \x20 sampler: {composite: {rule_based: {rules: [{sampler: {always_off: }}]}}}\n";
    let loaded = load(text, &[]);
    assert_eq!(loaded.config.traces.len(), 1);
    assert!(loaded.warnings[0].message.contains("1.2 is later"));
}

#[test]
fn mistakes_in_what_has_no_effect_are_warnings() {
    let text = "file_format: \"1.1\"\nlogger_provider:\n  procesors: 3\n  limits: [x]\n";
    let loaded = load(text, &[]);
    let shown: String = loaded.warnings.iter().map(|w| format!("{w}\n")).collect();
    for expected in [
        "`logger_provider` has no effect",
        "did you mean `processors`?",
        "f.yaml:4:11",
    ] {
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn a_provider_that_is_absent_sends_nothing_and_says_so() {
    let loaded = load("file_format: \"1.0\"\n", &[]);
    assert!(loaded.config.traces.is_empty() && loaded.config.metrics.is_empty());
    assert!(loaded.warnings[0].message.contains("nothing is exported"));
}

/// The value of a resource attribute written as `yaml`, with its type.
fn resolved(yaml: &str, kind: &str) -> Option<AttributeValue> {
    let env = [
        ("STRING", "value"),
        ("BOOL", "true"),
        ("INT", "1"),
        ("FLOAT", "1.1"),
        ("HEX", "0xdeadbeef"),
        ("INJECT", "value\nkey: value # not a comment"),
        ("LIST", "[a, b]"),
        ("RECURSE", "${STRING}"),
        ("EMPTY", ""),
    ];
    let text = format!(
        "file_format: \"1.1\"\nresource:\n  attributes:\n    - name: a\n      \
         type: {kind}\n      value: {yaml}\n"
    );
    load(&text, &env)
        .config
        .resource
        .into_iter()
        .next()
        .map(|(_, value)| value)
}

#[test]
fn the_type_is_resolved_after_substitution_unless_the_scalar_is_quoted() {
    let text = |v: &str| Some(AttributeValue::String(v.to_owned()));
    assert_eq!(resolved("${STRING}", "string"), text("value"));
    assert_eq!(
        resolved("${BOOL}", "bool"),
        Some(AttributeValue::Bool(true))
    );
    assert_eq!(resolved("\"${BOOL}\"", "string"), text("true"));
    assert_eq!(resolved("${INT}", "int"), Some(AttributeValue::Int(1)));
    assert_eq!(
        resolved("${INT}${INT}", "int"),
        Some(AttributeValue::Int(11))
    );
    assert_eq!(
        resolved("${FLOAT}", "double"),
        Some(AttributeValue::Double(1.1))
    );
    assert_eq!(
        resolved("${HEX}", "int"),
        Some(AttributeValue::Int(0xdead_beef))
    );
    assert_eq!(resolved("'${HEX}'", "string"), text("0xdeadbeef"));
    assert_eq!(
        resolved("${INJECT}", "string"),
        text("value\nkey: value # not a comment")
    );
    assert_eq!(resolved("${LIST}", "string"), text("[a, b]"));
    assert_eq!(resolved("${RECURSE}", "string"), text("${STRING}"));
    assert_eq!(resolved("${NONE}", "string"), None);
    assert_eq!(resolved("\"${NONE}\"", "string"), text(""));
    assert_eq!(resolved("${EMPTY:-fallback}", "string"), text("fallback"));
    assert_eq!(resolved("${NONE:-7}", "int"), Some(AttributeValue::Int(7)));
    assert_eq!(resolved("$${STRING}", "string"), text("${STRING}"));
    assert_eq!(resolved("!!str ${INT}", "string"), text("1"));
}

#[test]
fn keys_are_not_substituted() {
    let text = "file_format: \"1.1\"\n${STRING}: 1\n";
    let loaded = load(text, &[("STRING", "log_level")]);
    assert!(
        loaded
            .warnings
            .iter()
            .any(|w| w.message.contains("`${STRING}`"))
    );
}

#[test]
fn only_variables_that_the_file_names_are_asked_for() {
    let asked = std::cell::RefCell::new(Vec::new());
    let env = |name: &str| {
        asked.borrow_mut().push(name.to_owned());
        None
    };
    load_str(
        "f",
        "file_format: \"1.1\"\nlog_level: ${LEVEL:-warn}\n",
        &env,
    )
    .unwrap();
    assert_eq!(*asked.borrow(), ["LEVEL"]);
}

#[test]
fn limits_of_spans_go_before_those_of_all_signals() {
    let text = "file_format: \"1.1\"\nattribute_limits: {attribute_count_limit: 9, attribute_value_length_limit: 8}\n\
                tracer_provider: {processors: [{simple: {exporter: {console: {}}}}], limits: {attribute_count_limit: 7}}\n";
    let limits = load(text, &[]).config.attribute_limits;
    assert_eq!((limits.count, limits.value_length), (Some(7), Some(8)));
    let variables = |name: &str| match name {
        "OTEL_ATTRIBUTE_COUNT_LIMIT" => Some("9".to_owned()),
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" => Some("7".to_owned()),
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT" => Some("8".to_owned()),
        _ => None,
    };
    let limits = spandrel_config::from_env(&variables)
        .config
        .attribute_limits;
    assert_eq!((limits.count, limits.value_length), (Some(7), Some(8)));
}
