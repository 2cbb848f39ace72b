//! Credentials that pass by, or stand in variables, are in nothing that the agent writes.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::agent::{Agent, command};
use support::backends::on_each_backend;
use support::traffic::{Client, Server};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

/// Makes requests that carry `canary` in every way, each way as often as asked for.
fn talk(port: u16, count: usize) {
    let count = count.to_string();
    let long = format!("Cookie: session={}canary", "c".repeat(6000));
    for header in [
        "Authorization: Bearer canary",
        "Proxy-Authorization: Basic canary",
        "X-Api-Key: canary",
        &long,
    ] {
        let path = "/a/{n}?token=canary&page=canary";
        Client::KeepAlive.run(
            port,
            &["--count", &count, "--path", path, "--header", header],
        );
    }
    let canary = "/a?Y2FuYXJ5Y2FuYXJ5Y2FuYQ==";
    Client::KeepAlive.run(port, &["--count", &count, "--path", canary]);
}

fn assert_clean(what: &str, text: &str) {
    for secret in ["canary", "Y2FuYXJ5"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what}: {}", line.unwrap_or_default());
    }
}

fn replayed(recording: &Path) -> usize {
    let path = recording.to_str().unwrap();
    let output = command(&["replay", path, "--output", "json"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert_clean("replay", &text);
    text.lines().count()
}

on_each_backend! {
    fn what_passes_by_is_in_no_output_log_or_recording(backend) {
        let server = Server::python(&[]);
        let directory = TempDir::new().unwrap();
        let configuration = directory.path().join("c.yaml");
        let text = format!(
            "file_format: \"1.1\"\nlog_level: trace\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      \
             backend: {backend}\n"
        );
        fs::write(&configuration, text).unwrap();
        let recording = directory.path().join("recording");
        // One of everybody that was there before.
        fs::write(&recording, "").unwrap();
        fs::set_permissions(&recording, fs::Permissions::from_mode(0o644)).unwrap();
        let port = server.port.to_string();
        let agent = Agent::start(&[
            "trace", "--output", "otlp-json", "--port", &port,
            "--config", configuration.to_str().unwrap(),
            "--record", recording.to_str().unwrap(),
        ]);
        talk(server.port, 3);
        agent.wait_for_spans(30, LIMIT);
        let outcome = agent.stop();
        assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
        assert_clean("standard output", &outcome.stdout.join("\n"));
        assert_clean("log", &outcome.stderr.join("\n"));
        let said = outcome.stderr.iter().find(|line| line.contains("recording to")).unwrap();
        assert!(said.contains("credentials in fields and queries are blanked"), "{said}");
        assert_eq!(fs::metadata(&recording).unwrap().permissions().mode() & 0o777, 0o600);
        assert_clean("recording", &fs::read_to_string(&recording).unwrap());
        assert_eq!(replayed(&recording), 30);
    }

    fn a_recording_has_credentials_only_where_they_were_asked_for(backend) {
        let server = Server::python(&[]);
        let directory = TempDir::new().unwrap();
        let recording = directory.path().join("recording");
        let configuration = directory.path().join("c.yaml");
        let text = format!(
            "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      backend: {backend}\n"
        );
        fs::write(&configuration, text).unwrap();
        let port = server.port.to_string();
        let agent = Agent::start(&[
            "trace", "--output", "otlp-json", "--port", &port, "--record-credentials",
            "--config", configuration.to_str().unwrap(),
            "--record", recording.to_str().unwrap(),
        ]);
        talk(server.port, 1);
        agent.wait_for_spans(10, LIMIT);
        let outcome = agent.stop();
        let said = outcome.stderr.iter().find(|line| line.contains("recording to")).unwrap();
        assert!(said.contains("it holds credentials"), "{said}");
        assert!(fs::read_to_string(&recording).unwrap().contains("Bearer canary"));
        assert_eq!(fs::metadata(&recording).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn no_command_shows_what_a_variable_holds() {
    let directory = TempDir::new().unwrap();
    let usable = directory.path().join("usable.yaml");
    fs::write(
        &usable,
        "file_format: \"1.1\"\nlog_level: trace\ntracer_provider:\n  processors:\n    - batch:\n        exporter:\n          \
         otlp_http:\n            endpoint: \"http://127.0.0.1:9/v1/traces?key=${KEY}\"\n            headers:\n              \
         - name: api-key\n                value: \"${KEY}\"\n",
    )
    .unwrap();
    let unusable = directory.path().join("unusable.yaml");
    fs::write(
        &unusable,
        "file_format: \"1.1\"\nlog_level: ${KEY}\ntracer_provider:\n  processors:\n    - batch:\n        exporter:\n          \
         otlp_http:\n            endpoint: \"http://user:${KEY}@127.0.0.1:9/v1/traces\"\n            timeout: ${KEY}\n",
    )
    .unwrap();
    for file in [&usable, &unusable] {
        let file = file.to_str().unwrap();
        for arguments in [
            &["check", "--config", file][..],
            &["check", "--output", "json", "--config", file],
            &["explain", "--config", file, "1"],
            &["config", "validate", file],
            &["config", "print", file],
            &["trace", "--duration", "100ms", "--config", file],
            &["replay", "/dev/null", "--config", file],
        ] {
            let output = with_key(command(arguments)).output().unwrap();
            let said = [&output.stdout[..], &output.stderr[..]].concat();
            assert_clean(&arguments.join(" "), &String::from_utf8_lossy(&said));
        }
    }
    let mut from_environment = with_key(command(&["check"]));
    from_environment
        .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary")
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://127.0.0.1:9?key=canary",
        )
        .env(
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "http://user:canary@127.0.0.1:9",
        )
        .env("OTEL_RESOURCE_ATTRIBUTES", "a=canary%zz");
    let output = from_environment.output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert_clean("check", &String::from_utf8_lossy(&said));
}

fn with_key(mut command: Command) -> Command {
    command.env("KEY", "canary");
    command
}
