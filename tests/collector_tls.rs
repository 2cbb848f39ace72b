//! A real Collector that asks for certificates gets all from who has the right one, and nothing from anyone else.

#![allow(clippy::unwrap_used, clippy::panic)] // a failure in a test is a panic
#![allow(clippy::print_stdout)] // what was measured, for who reads a failure

mod support;

use std::path::Path;
use std::time::Duration;

use spandrel_exporter::metrics::MetricsBatch;
use spandrel_exporter::{Exporter, OtlpSettings, Protocol, Signal, TlsSettings, reason};
use support::agent::command;
use support::certificates;
use support::collector::Collector;
use support::machine::is_root;
use support::process::Process;
use support::proto::{log_items, logs_of, metric_items, metrics_of, span_item, spans_of};
use support::sending::{Sending, destination, logs, metrics, resource, span};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);
/// What the Collector says of clients.
const NO_CERTIFICATE: &str = "CertificateRequired (the server refuses our certificate";
const NOT_OURS: &str = "(the server refuses our certificate";
const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];

fn directory(server: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    certificates::write(directory.path(), server);
    directory
}

fn endpoint(collector: &Collector, protocol: Protocol, host: &str) -> String {
    let port = match protocol {
        Protocol::Grpc => collector.grpc_port,
        _ => collector.http_port,
    };
    format!("https://{host}:{port}")
}

#[test]
fn with_the_right_certificate_all_three_signals_arrive() {
    const TEST: &str = "with_the_right_certificate_all_three_signals_arrive";
    let keys = directory("localhost");
    for protocol in PROTOCOLS {
        let Some(collector) = Collector::start_with_tls(TEST, keys.path()) else {
            return;
        };
        let endpoint = endpoint(&collector, protocol, "localhost");
        let mut sending = Sending::start(destination(protocol, &endpoint, |settings| {
            settings.tls = certificates::settings(keys.path(), Some(keys.path()));
        }));
        let till = resource("till");
        let (metrics, logs) = ([metrics(&till, 3)], [logs(&till, 9)]);
        sending.send((0..50).map(|number| (till.clone(), span(number))));
        let batch = MetricsBatch::new(metrics.to_vec(), sending.ledger.clone());
        sending.exporter.export_metrics(batch);
        sending.exporter.export_logs(&logs);
        sending.drain();
        let spans: Vec<_> = (0..50)
            .map(|number| span_item(&till, &span(number)))
            .collect();
        assert_eq!(spans_of(collector.requests("traces")), spans);
        assert_eq!(
            metrics_of(collector.requests("metrics")),
            metric_items(&metrics)
        );
        assert_eq!(logs_of(collector.requests("logs")), log_items(&logs));
    }
}

/// What a sender that is let in by nobody is told, over each protocol. Nothing arrives, and the ledger says why.
fn refusals(collector: &Collector, host: &str, tls: &TlsSettings) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut said = Vec::new();
    for protocol in PROTOCOLS {
        let endpoint = endpoint(collector, protocol, host);
        let mut destination =
            destination(protocol, &endpoint, |settings| settings.tls = tls.clone());
        // A handshake that fails is tried again, as a certificate can be renewed; here not for ever.
        destination.retry.max_elapsed_time = Duration::from_millis(100);
        let mut sending = Sending::start(destination);
        sending.send((0..10).map(|number| (resource("till"), span(number))));
        let spans = sending.drain().spans.snapshot();
        assert_eq!((spans.seen, spans.settled), (10, 0), "{protocol:?}");
        assert_eq!(
            spans.dropped[reason::RETRY_EXHAUSTED],
            10,
            "{protocol:?}: {spans:?}"
        );

        let settings = OtlpSettings {
            tls: tls.clone(),
            ..OtlpSettings::new(protocol, format!("{endpoint}/v1/traces"))
        };
        let probed = runtime.block_on(Exporter::probe(&settings, Signal::Traces));
        said.push(probed.unwrap_err().to_string());
    }
    assert_eq!(spans_of(collector.requests("traces")), []);
    println!("{said:#?}");
    said
}

fn assert_refused(test: &str, server: &str, tls: impl Fn(&Path) -> TlsSettings, because: &str) {
    let keys = directory(server);
    let Some(collector) = Collector::start_with_tls(test, keys.path()) else {
        return;
    };
    for said in refusals(&collector, "localhost", &tls(keys.path())) {
        assert!(said.contains(because), "{said:?} does not say {because:?}");
    }
}

#[test]
fn without_a_certificate_of_its_own_nothing_arrives() {
    const TEST: &str = "without_a_certificate_of_its_own_nothing_arrives";
    let tls = |keys: &Path| certificates::settings(keys, None);
    assert_refused(TEST, "localhost", tls, NO_CERTIFICATE);
}

#[test]
fn with_a_certificate_of_another_authority_nothing_arrives() {
    const TEST: &str = "with_a_certificate_of_another_authority_nothing_arrives";
    let stranger = directory("localhost");
    let tls = |keys: &Path| certificates::settings(keys, Some(stranger.path()));
    assert_refused(TEST, "localhost", tls, NOT_OURS);
}

#[test]
fn a_collector_of_another_authority_gets_nothing() {
    const TEST: &str = "a_collector_of_another_authority_gets_nothing";
    let stranger = directory("localhost");
    let tls = |keys: &Path| certificates::settings(stranger.path(), Some(keys));
    assert_refused(
        TEST,
        "localhost",
        tls,
        "signed by no authority that is trusted here",
    );
}

#[test]
fn a_collector_of_another_name_gets_nothing() {
    const TEST: &str = "a_collector_of_another_name_gets_nothing";
    let tls = |keys: &Path| certificates::settings(keys, Some(keys));
    assert_refused(TEST, "collector.example", tls, "not valid for name");
}

/// `spandrel check` with these keys and a header that is secret: whether backends are well, and all that it says.
fn check(collector: &Collector, trusted: &Path, own: Option<&Path>) -> (bool, String) {
    let secret = "s3cr3t-of-the-till";
    let mut text = format!(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch:\n        exporter:\n          otlp_grpc:\n            \
         endpoint: {}\n            headers:\n              - name: api-key\n                value: {secret}\n            \
         tls:\n              ca_file: {}/ca.pem\n",
        endpoint(collector, Protocol::Grpc, "localhost"),
        trusted.display()
    );
    if let Some(own) = own {
        let own = own.display();
        text += &format!(
            "              cert_file: {own}/client.pem\n              key_file: {own}/client.key\n"
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let mut command = command(&["check", "--config", path]);
    command.env("RUST_LOG", "trace");
    let finished = Process::start(&mut command).wait(LIMIT);
    let said = [finished.stdout, finished.stderr].concat().join("\n");
    assert!(
        !said.contains(secret),
        "a header's value is printed: {said}"
    );
    assert!(!said.contains("PRIVATE KEY"), "a key is printed: {said}");
    let line = said
        .lines()
        .skip_while(|line| *line != "backend")
        .find(|line| line.contains("https://localhost"))
        .unwrap_or_else(|| panic!("nothing of the backend: {said}"));
    (finished.status.success(), line.trim().to_owned())
}

#[test]
fn check_says_what_is_wrong_with_certificates_and_prints_no_secret() {
    const TEST: &str = "check_says_what_is_wrong_with_certificates_and_prints_no_secret";
    let (keys, stranger) = (directory("localhost"), directory("localhost"));
    let Some(collector) = is_root(TEST)
        .then(|| Collector::start_with_tls(TEST, keys.path()))
        .flatten()
    else {
        return;
    };
    let (keys, stranger) = (keys.path(), stranger.path());
    let (well, said) = check(&collector, keys, Some(keys));
    assert!(well && said.starts_with("ok"), "{said}");
    for (trusted, own, because) in [
        (keys, None, NO_CERTIFICATE),
        (keys, Some(stranger), NOT_OURS),
        (
            stranger,
            Some(keys),
            "signed by no authority that is trusted here",
        ),
    ] {
        let (well, said) = check(&collector, trusted, own);
        assert!(!well && said.starts_with("fails"), "{said}");
        assert!(said.contains(because), "{said:?} does not say {because:?}");
    }
    // The probe's request is empty, and has to stay so.
    assert_eq!(spans_of(collector.requests("traces")), []);
}
