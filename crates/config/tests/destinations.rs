//! Destinations with names, and what the profiles of backends demand.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
use spandrel_config::settings::{
    Compression, Exporter, Fsync, Histogram, Otlp, Protocol, Storage, Temporality,
};
use spandrel_config::{Config, Profile, load_str};

fn load(text: &str) -> Result<Config, String> {
    let env = |name: &str| (name == "KEY").then(|| "s3cret".to_owned());
    load_str("f.yaml", text, &env)
        .map(|loaded| loaded.config)
        .map_err(|problems| problems.to_string())
}

fn with_destination(lines: &str) -> Result<Config, String> {
    let lines: String = lines
        .lines()
        .map(|line| format!("          {line}\n"))
        .collect();
    load(&format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    export:\n      destinations:\n        - name: one\n{lines}"
    ))
}

fn otlp(exporter: &Exporter) -> &Otlp {
    match exporter {
        Exporter::Otlp(otlp) => otlp,
        other => panic!("not OTLP: {other:?}"),
    }
}

#[test]
fn a_destination_takes_what_it_does_not_say_from_its_profile_and_from_the_common_settings() {
    let config = with_destination(
        "endpoint: https://otlp.nr-data.net/\nheaders: [{name: api-key, value: \"${KEY}\"}]\nsending_queue: {queue_size: 2MB}",
    )
    .unwrap();
    let one = &config.export.destinations[0];
    assert_eq!(one.name, "one");
    assert_eq!(one.max_request_bytes, 1_000_000, "its documented limit");
    assert_eq!(one.sending_queue.queue_size, 2_000_000);
    assert_eq!(one.sending_queue.num_consumers, 4, "the common value");
    assert_eq!(one.retry_on_failure, config.export.retry_on_failure);
    let traces = otlp(&one.traces.as_ref().unwrap().exporter);
    assert_eq!(traces.profile, Profile::NewRelic);
    assert_eq!(traces.endpoint, "https://otlp.nr-data.net/v1/traces");
    assert_eq!(traces.protocol, Protocol::HttpProtobuf);
    assert_eq!(traces.compression, Compression::Gzip);
    let metrics = one.metrics.as_ref().unwrap();
    assert_eq!(
        otlp(&metrics.exporter).endpoint,
        "https://otlp.nr-data.net/v1/metrics"
    );
    assert_eq!(metrics.temporality, Temporality::Delta);
    assert_eq!(metrics.histogram, Histogram::Exponential);
}

#[test]
fn a_queue_on_disk_is_read_with_its_defaults_and_printed() {
    let config = with_destination(
        "endpoint: http://c:4318\nsending_queue: {storage: {directory: /q, max_size: 2GiB, fsync: always}}",
    )
    .unwrap();
    assert_eq!(config.export.sending_queue.storage, None);
    let storage = config.export.destinations[0].sending_queue.storage.clone();
    let expected = Storage {
        directory: "/q".into(),
        max_size: 2 << 30,
        fsync: Fsync::Always,
        ..Storage::default()
    };
    assert_eq!(storage, Some(expected));
    let printed = spandrel_config::print(&config);
    assert_eq!(load(&printed).unwrap(), config);
    let missing = with_destination("endpoint: http://c:4318\nsending_queue: {storage: {}}");
    assert!(missing.unwrap_err().contains("directory"));
}

#[test]
fn signals_are_routed_and_may_have_endpoints_of_their_own() {
    let config = with_destination(
        "endpoint: http://collector:4317\nprotocol: grpc\nsignals: [metrics]\nmetrics: {interval: 5s, cardinality_limit: 7}",
    )
    .unwrap();
    let one = &config.export.destinations[0];
    assert_eq!(one.traces, None);
    let metrics = one.metrics.as_ref().unwrap();
    assert_eq!(otlp(&metrics.exporter).endpoint, "http://collector:4317");
    assert_eq!(
        (metrics.interval.as_secs(), metrics.cardinality_limit),
        (5, 7)
    );

    let config = with_destination(
        "endpoint: http://collector:4318/base\ntraces: {endpoint: \"http://other/x?y=1\"}",
    )
    .unwrap();
    let one = &config.export.destinations[0];
    assert_eq!(
        otlp(&one.traces.as_ref().unwrap().exporter).endpoint,
        "http://other/x?y=1"
    );
    assert_eq!(
        otlp(&one.metrics.as_ref().unwrap().exporter).endpoint,
        "http://collector:4318/base/v1/metrics"
    );
}

#[test]
fn what_a_backend_would_refuse_is_refused_with_the_place_and_the_remedy() {
    let key = "headers: [{name: api-key, value: x}]";
    for (lines, complaint, remedy) in [
        (
            "endpoint: https://otlp.nr-data.net",
            "new-relic needs the header `api-key`",
            "{name: api-key, value: \"${env:...}\"}",
        ),
        (
            &format!("endpoint: http://otlp.nr-data.net\n{key}"),
            "new-relic takes connections with TLS only",
            "https://",
        ),
        (
            "endpoint: https://x.live.dynatrace.com/api/v2/otlp\nheaders: [{name: Authorization, value: \"Bearer x\"}]",
            "does not start with `Api-Token`",
            "Api-Token ${env:...}",
        ),
        (
            "endpoint: https://otlp.datadoghq.com\nprotocol: grpc\nheaders: [{name: dd-api-key, value: x}]",
            "datadog does not speak grpc",
            "http/protobuf and http/json",
        ),
        (
            "endpoint: https://otlp.datadoghq.com\nheaders: [{name: dd-api-key, value: x}]\nmetrics: {temporality_preference: cumulative}",
            "datadog does not take",
            "leave the key out",
        ),
        (
            "endpoint: https://g.grafana.net/otlp\nheaders: [{name: Authorization, value: Basic x}]\nmetrics: {temporality_preference: delta}",
            "grafana-cloud does not take",
            "leave the key out",
        ),
        (
            "endpoint: https://x.dynatrace.com\nheaders: [{name: Authorization, value: Api-Token x}]\nmetrics: {default_histogram_aggregation: base2_exponential_bucket_histogram}",
            "dynatrace does not take",
            "leave the key out",
        ),
        (
            "endpoint: http://c:4318\nsending_queue: {queue_size: 1MiB}",
            "is smaller than one request",
            "queue_size",
        ),
        (
            "endpoint: http://c:4318\nprofile: newrelic",
            "found",
            "did you mean `new-relic`?",
        ),
        ("endpoint: c:4318", "not usable", "http"),
    ] {
        let problems = with_destination(lines).expect_err(lines);
        assert!(problems.contains(complaint), "{lines}\n{problems}");
        assert!(problems.contains(remedy), "{lines}\n{problems}");
        assert!(problems.contains("f.yaml:"), "{problems}");
        assert!(problems.contains('^'), "{problems}");
        assert!(
            !problems.contains("Bearer x"),
            "a secret is shown: {problems}"
        );
    }
}

#[test]
fn two_destinations_of_one_name_are_refused() {
    let problems = with_destination("endpoint: http://a:4318\n").unwrap();
    assert_eq!(problems.export.destinations.len(), 1);
    let twice = load(
        "file_format: \"1.1\"\ndistribution: {spandrel: {version: \"1.0\", export: {destinations: [{name: a, endpoint: \"http://a\"}, {name: a, endpoint: \"http://b\"}]}}}\n",
    );
    assert!(twice.unwrap_err().contains("the name `a` is given twice"));
}

#[test]
fn exporters_of_the_standard_are_known_by_their_host() {
    let config = load(
        "file_format: \"1.1\"\nmeter_provider:\n  readers:\n    - periodic:\n        exporter:\n          otlp_http:\n            endpoint: https://x.live.dynatrace.com/api/v2/otlp/v1/metrics\n            headers: [{name: Authorization, value: \"Api-Token ${KEY}\"}]\n",
    )
    .unwrap();
    let reader = &config.metrics[0];
    assert_eq!(reader.temporality, Temporality::Delta);
    assert_eq!(reader.histogram, Histogram::Explicit, "it keeps no others");
    assert_eq!(otlp(&reader.exporter).profile, Profile::Dynatrace);
}

#[test]
fn what_is_printed_means_the_same_and_shows_no_secret() {
    let text = |lines: &str| with_destination(lines).unwrap();
    for config in [
        text(
            "endpoint: https://otlp.nr-data.net\nheaders: [{name: api-key, value: \"${KEY}\"}]\nmetrics: {interval: 7s}\nretry_on_failure: {max_elapsed_time: 9s}",
        ),
        text(
            "endpoint: http://collector:4317\nprotocol: grpc\nsignals: [traces]\ntraces: {schedule_delay: 1s}\ntls: {ca_file: /ca.pem}",
        ),
        text(
            "endpoint: https://proxy.local\nprofile: datadog\nheaders_list: dd-api-key=s3cret\ntraces: {endpoint: \"https://t.local/v1/traces\"}",
        ),
    ] {
        let printed = spandrel_config::print(&config);
        assert!(!printed.contains("s3cret"), "{printed}");
        let mut again = load(&printed).unwrap();
        let mut wanted = config.clone();
        for config in [&mut again, &mut wanted] {
            for each in &mut config.export.destinations {
                for exporter in [
                    each.traces.as_mut().map(|traces| &mut traces.exporter),
                    each.metrics.as_mut().map(|metrics| &mut metrics.exporter),
                ] {
                    if let Some(Exporter::Otlp(otlp)) = exporter {
                        // The values are redacted, the names stay.
                        otlp.headers.truncate(1);
                        for (_, value) in &mut otlp.headers {
                            *value = spandrel_config::settings::Secret::new("x");
                        }
                    }
                }
            }
        }
        assert_eq!(again.export, wanted.export, "{printed}");
    }
}
