//! How values of the environment are read: the specification's section "Environment Variable Specification".
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
use spandrel_config::settings::{AttributeValue, Compression, Exporter, LogLevel, Otlp, Protocol};
use spandrel_config::{Loaded, from_env, misspelt};

fn with(env: &[(&str, &str)]) -> Loaded {
    from_env(&|wanted| {
        let found = env.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn traces(loaded: &Loaded) -> &Otlp {
    match &loaded.config.traces[0].exporter {
        Exporter::Otlp(otlp) => otlp,
        other => panic!("{other:?}"),
    }
}

fn warnings(loaded: &Loaded) -> String {
    let all = loaded.warnings.iter().map(ToString::to_string);
    all.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_case_of_an_enumeration_does_not_matter() {
    let loaded = with(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZip"),
        ("OTEL_METRICS_EXPORTER", "NONE"),
        ("OTEL_TRACES_EXPORTER", "Otlp"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "Always_Off"),
        ("OTEL_LOG_LEVEL", "WARNING"),
        ("OTEL_LOGS_EXPORTER", "None"),
    ]);
    assert_eq!(warnings(&loaded), "");
    let otlp = traces(&loaded);
    assert_eq!(
        (otlp.protocol, otlp.compression),
        (Protocol::Grpc, Compression::Gzip)
    );
    assert_eq!(loaded.config.metrics, []);
    assert!(!loaded.config.aggregation.exemplars);
    assert_eq!(loaded.config.log_level, LogLevel::Warn);
}

#[test]
fn the_scheme_of_an_endpoint_may_be_written_large() {
    let loaded = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "HTTP://Collector:4318")]);
    assert_eq!(warnings(&loaded), "");
    assert_eq!(traces(&loaded).endpoint, "http://Collector:4318/v1/traces");
}

#[test]
fn an_exporter_that_is_not_known_is_named_and_the_setting_is_as_if_it_were_not_there() {
    let loaded = with(&[("OTEL_TRACES_EXPORTER", "zipkin")]);
    assert!(warnings(&loaded).contains("\"zipkin\" is ignored"));
    assert_eq!(loaded.config, with(&[]).config);
    let loaded = with(&[("OTEL_TRACES_EXPORTER", "zipkin,console")]);
    assert_eq!(loaded.config.traces.len(), 1);
    assert_eq!(loaded.config.traces[0].exporter, Exporter::Console);
}

#[test]
fn log_levels_reach_from_everything_to_nothing() {
    for (text, level) in [
        ("trace", LogLevel::Trace),
        ("warning", LogLevel::Warn),
        ("error", LogLevel::Error),
        ("fatal", LogLevel::Off),
        ("none", LogLevel::Off),
    ] {
        let loaded = with(&[("OTEL_LOG_LEVEL", text)]);
        assert_eq!(
            (warnings(&loaded).as_str(), loaded.config.log_level),
            ("", level)
        );
    }
}

#[test]
fn attributes_are_decoded_keys_too_and_the_last_of_one_name_counts() {
    let loaded = with(&[("OTEL_RESOURCE_ATTRIBUTES", "te%61m=a%2Cb, zone=1,zone=2 ,")]);
    assert_eq!(warnings(&loaded), "");
    let text = |value: &str| AttributeValue::String(value.to_owned());
    let expected = [("team", text("a,b")), ("zone", text("2"))];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(loaded.config.resource, expected);
}

#[test]
fn one_wrong_attribute_discards_all_with_a_warning_that_shows_no_value() {
    for bad in [
        "a=1,secret",
        "a=1,=secret",
        "a=1,b=secret%zz",
        "a=1,b=secret%ff",
        "a=1,b=secret%4",
    ] {
        let loaded = with(&[("OTEL_RESOURCE_ATTRIBUTES", bad)]);
        assert_eq!(loaded.config.resource, [], "{bad}");
        assert_eq!(loaded.warnings.len(), 1, "{bad}");
        assert!(!warnings(&loaded).contains("secret"), "{bad}");
    }
}

#[test]
fn a_header_whose_value_has_a_line_break_is_refused() {
    for bad in ["a=1,authorization=x%0d%0aevil: 1", "a=1,authorization=x\ny"] {
        let loaded = with(&[("OTEL_EXPORTER_OTLP_TRACES_HEADERS", bad)]);
        let names: Vec<&str> = traces(&loaded)
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["a"]);
        assert!(
            warnings(&loaded).contains("`authorization`"),
            "{}",
            warnings(&loaded)
        );
        assert!(!warnings(&loaded).contains("evil"));
    }
}

#[test]
fn credentials_in_an_endpoint_are_refused_and_headers_are_named_instead() {
    for endpoint in [
        "http://user:canary@c:4318",
        "http://canary@c:4318",
        "https://:canary@c",
    ] {
        let loaded = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
        let said = warnings(&loaded);
        assert!(
            said.contains("OTEL_EXPORTER_OTLP_HEADERS") && !said.contains("canary"),
            "{said}"
        );
        assert_eq!(traces(&loaded).endpoint, "http://localhost:4318/v1/traces");
    }
}

#[test]
fn what_is_wrong_for_both_signals_is_said_once() {
    let loaded = with(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "nothing"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
    ]);
    assert_eq!(loaded.warnings.len(), 5, "{}", warnings(&loaded));
}

#[test]
fn a_slip_in_the_name_of_a_variable_is_answered_with_the_right_one() {
    let names = [
        "OTEL_EXPORTER_OTLP_ENDPIONT",
        "OTEL_EXPORTER_OTLP_TRACES_HEADER",
        "OTEL_TRACE_EXPORTER",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_SOMETHING_OF_ANOTHER_PROGRAM",
        "PATH",
    ];
    let said: Vec<String> = misspelt(names.iter().map(|name| (*name).to_owned()))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].contains("did you mean `OTEL_EXPORTER_OTLP_ENDPOINT`?"),
        "{said:?}"
    );
    assert!(
        said[1].contains("did you mean `OTEL_EXPORTER_OTLP_TRACES_HEADERS`?"),
        "{said:?}"
    );
    assert!(
        said[2].contains("did you mean `OTEL_TRACES_EXPORTER`?"),
        "{said:?}"
    );
}
