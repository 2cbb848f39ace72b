//! What each command prints where, and the code that it ends with.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::fs;
use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::agent::command;
use support::machine::{is_root, repository};
use support::process::Process;
use tempfile::TempDir;

fn run(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Ends with 2, says nothing on the standard output; returns what it says on the other one.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = text(&output.stderr).to_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// Ends with 0; returns the standard output.
fn accepted(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout).to_owned()
}

/// A file with this content and its path.
fn file(content: impl AsRef<[u8]>) -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

fn recording() -> String {
    let path = repository().join("tests/data/two_requests.jsonl");
    path.to_str().unwrap().to_owned()
}

/// What `config validate` says of a file with this content.
fn invalid(content: impl AsRef<[u8]>) -> String {
    let (_directory, path) = file(content);
    refused(&["config", "validate", &path]).replace(&path, "FILE")
}

fn ours(text: &str) -> String {
    format!("file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n{text}")
}

#[test]
fn help_and_versions_are_printed_and_are_no_failure() {
    for arguments in [&["--help"][..], &["trace", "--help"], &["help", "config"]] {
        assert!(
            accepted(arguments).contains("Usage: spandrel"),
            "{arguments:?}"
        );
    }
    let version = format!("spandrel {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(accepted(&["--version"]), version);
}

#[test]
fn arguments_that_mean_nothing_are_refused_with_what_would_be_right() {
    assert!(refused(&["trace", "--duration", "nonsense"]).contains("write 500ms, 10s, 2m or 1h"));
    assert!(refused(&["trace", "--port", "70000"]).contains("70000"));
    assert!(refused(&["trace", "--output", "xml"]).contains("otlp-json"));
    assert!(refused(&["tarce"]).contains("trace"));
    assert!(refused(&[]).contains("Usage"));
}

#[test]
fn an_unknown_key_is_shown_in_its_line_with_a_caret() {
    let said = invalid(ours("    capture:\n      bakcend: socket\n"));
    assert!(
        said.contains("FILE:6:7: error: unknown key `bakcend`"),
        "{said}"
    );
    assert!(
        said.contains(" 6 |       bakcend: socket\n   |       ^\n"),
        "{said}"
    );
    assert!(said.contains("did you mean `backend`?"), "{said}");
}

#[test]
fn each_kind_of_bad_file_has_a_place_and_a_caret() {
    let bomb: String = (1..30)
        .map(|n| {
            format!(
                "a{n}: &a{n} [{0}, {0}, {0}, {0}, {0}, {0}]\n",
                format_args!("*a{}", n - 1)
            )
        })
        .collect();
    let cases: [(&str, Vec<u8>, &str); 8] = [
        (
            "duplicate key",
            b"file_format: \"1.1\"\nlog_level: info\nlog_level: warn\n".into(),
            "FILE:3:1: error",
        ),
        (
            "bad duration",
            ours("    shutdown_timeout: 5 parsecs\n").into(),
            "FILE:5:23: error",
        ),
        (
            "not UTF-8",
            b"file_format: \"1.1\"\nlog_level: \xff\n".into(),
            "FILE:2:12: error",
        ),
        ("deep nesting", "[".repeat(100_000).into(), "FILE:1:"),
        (
            "alias bomb",
            format!("a0: &a0 [x, x, x, x, x, x]\n{bomb}").into(),
            "FILE:",
        ),
        (
            "a bracket open at the end",
            b"file_format: \"1.1\"\nresource: {attributes: [\n\n".into(),
            "FILE:2:25: error",
        ),
        (
            "a quote open at the end",
            b"file_format: \"1.1\"\nlog_level: \"info".into(),
            "FILE:2:12: error",
        ),
        (
            "bad YAML",
            b"file_format: \"1.1\"\nlog_level: a: b\n".into(),
            "FILE:",
        ),
    ];
    for (case, content, place) in cases {
        let said = invalid(content);
        assert!(said.contains(place), "{case}: {said}");
        assert!(said.contains('^'), "{case}: {said}");
        assert!(said.len() < 2000, "{case}: {} bytes of message", said.len());
    }
}

#[test]
fn files_that_are_not_there_or_empty_say_so() {
    assert!(invalid("").contains("the file is empty"));
    let said = refused(&["config", "validate", "/nowhere/spandrel.yaml"]);
    assert!(
        said.contains("/nowhere/spandrel.yaml: error: the file cannot be read"),
        "{said}"
    );
    let said = refused(&["run", "--config", "/nowhere/spandrel.yaml"]);
    assert!(said.contains("/nowhere/spandrel.yaml"), "{said}");
}

#[test]
fn all_problems_of_a_file_are_shown_at_once() {
    let said = invalid(ours(
        "    capture:\n      backend: magic\n      copy_bytes: many\n    shutdown_timeout: soon\n    surprise: 1\n",
    ));
    for place in ["FILE:6:", "FILE:7:", "FILE:8:", "FILE:9:"] {
        assert!(said.contains(place), "{place}: {said}");
    }
    assert!(said.contains("the configuration has 4 errors"), "{said}");
}

#[test]
fn a_file_that_prints_is_valid_again_and_keeps_no_secret() {
    let (_directory, path) = file(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch:\n        exporter:\n          otlp_http:\n\
         \x20           endpoint: https://backend.test/v1/traces?key=hunter2\n            headers:\n\
         \x20             - name: api-key\n                value: ${TEST_KEY}\n",
    );
    let output = command(&["config", "print", &path])
        .env("TEST_KEY", "hunter3")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(
        printed.contains("api-key") && printed.contains("backend.test"),
        "{printed}"
    );
    for stream in [printed, text(&output.stderr)] {
        assert!(!stream.contains("hunter"), "{stream}");
    }
    let (_directory, printed) = file(printed);
    accepted(&["config", "validate", &printed]);
}

#[test]
fn the_schema_is_the_one_that_is_shipped() {
    let shipped = fs::read_to_string(repository().join("config/schema.json")).unwrap();
    assert_eq!(accepted(&["config", "schema"]), shipped);
}

#[test]
fn every_shipped_file_is_valid() {
    let mut files: Vec<_> = fs::read_dir(repository().join("config/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.push(repository().join("config/spandrel.yaml"));
    assert!(files.len() > 1);
    for path in files {
        let output = command(&["config", "validate", path.to_str().unwrap()])
            .env("NEW_RELIC_LICENSE_KEY", "key")
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(
            said.ends_with(": valid\n") && !said.contains("error"),
            "{said}"
        );
    }
}

#[test]
fn recordings_that_cannot_be_read_are_named_with_their_line() {
    let whole = fs::read_to_string(recording()).unwrap();
    let header = whole.lines().next().unwrap();
    let newer = "{\"spandrel_recording\":99,\"other\":1}\n";
    let cases = [
        (String::new(), "line 1 "),
        ("not JSON\n".to_owned(), "line 1 "),
        (
            format!("{header}\n\n{{\"event\":\"nonsense\"}}\n"),
            "line 3 ",
        ),
        (format!("{header}\n{}", "x".repeat(2 << 20)), "line 2 "),
        (
            newer.to_owned(),
            "line 1 of the recording names version 99 of the format, this program reads version 1 and older ones",
        ),
    ];
    for (content, expected) in cases {
        let (_directory, path) = file(&content);
        let said = refused(&["replay", &path]);
        assert!(
            said.contains(&path) && said.contains(expected),
            "{expected}: {said}"
        );
        assert!(said.len() < 1000, "{} bytes of message", said.len());
    }
    let said = refused(&["replay", "/nowhere/recording.jsonl"]);
    assert!(
        said.contains("cannot open /nowhere/recording.jsonl"),
        "{said}"
    );
}

#[test]
fn a_queue_on_disk_of_a_newer_program_is_refused_and_left_as_it_is() {
    if !is_root("a_queue_on_disk_of_a_newer_program_is_refused_and_left_as_it_is") {
        return;
    }
    let storage = TempDir::new().unwrap();
    let (_directory, configuration) = file(format!(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch: {{exporter: {{otlp_http: {{endpoint: \
         http://127.0.0.1:9/v1/traces}}}}}}\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    export:\n      \
         sending_queue: {{storage: {{directory: {}}}}}\n",
        storage.path().display()
    ));
    let name = format!("{:020}.seg", 0);
    let written = repository().join("crates/disk-queue/tests/data/version-1");
    let mut bytes = fs::read(written.join(&name)).unwrap();
    for copy in bytes[..64].chunks_mut(32) {
        copy[4] = 9;
        let sum = crc32c::crc32c(&copy[..28]);
        copy[28..].copy_from_slice(&sum.to_le_bytes());
    }
    let queue = storage.path().join("127.0.0.1%3a9%2ftraces");
    fs::create_dir(&queue).unwrap();
    let segment = queue.join(&name);
    fs::write(&segment, &bytes).unwrap();
    let output = run(&["run", "--config", &configuration]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let sentence = format!("{} has version 9 of the queue's format", segment.display());
    assert!(said.contains(&sentence), "{said}");
    assert_eq!(fs::read(&segment).unwrap(), bytes);
}

/// `BLESS=1 cargo test --test command_line` rewrites the expected files; review the difference.
fn assert_golden(name: &str, actual: &str) {
    let path = repository().join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        actual,
        expected,
        "{} is not what was printed",
        path.display()
    );
}

#[test]
fn a_replay_prints_what_it_is_known_to_print() {
    for (format, golden) in [
        ("text", "two_requests.txt"),
        ("json", "two_requests.jsonl"),
        ("otlp-json", "two_requests.otlp.jsonl"),
    ] {
        assert_golden(
            golden,
            &accepted(&["replay", &recording(), "--output", format]),
        );
    }
}

/// A file whose spans go to this console, and the metrics with them if `metrics` says so.
fn to_console(format: &str, metrics: bool) -> String {
    let reader = "meter_provider: {readers: [{periodic: {exporter: {console: }}}]}\n";
    format!(
        "file_format: \"1.1\"\n{}tracer_provider: {{processors: [{{batch: {{exporter: {{console: }}}}}}]}}\n\
         distribution: {{spandrel: {{version: \"1.0\", export: {{console: {{format: {format}}}}}}}}}\n",
        if metrics { reader } else { "" }
    )
}

#[test]
fn the_console_exporter_prints_text_where_the_file_says_so() {
    let golden = |name| fs::read_to_string(repository().join("tests/golden").join(name)).unwrap();
    for metrics in [false, true] {
        let (_directory, path) = file(to_console("text", metrics));
        let ledger = TempDir::new().unwrap();
        let ledger = ledger.path().join("ledger.json");
        let printed = accepted(&[
            "replay",
            &recording(),
            "--config",
            &path,
            "--ledger",
            ledger.to_str().unwrap(),
        ]);
        assert_eq!(printed, golden("two_requests.txt"), "metrics: {metrics}");
        support::ledger::Ledger::read(&ledger).assert_closed();
    }
    let (_directory, path) = file(to_console("otlp-json", true));
    for _ in 0..5 {
        let printed = accepted(&["replay", &recording(), "--config", &path]);
        assert_eq!(printed, golden("two_requests.otlp.jsonl"));
    }
}

#[test]
fn spans_have_no_more_and_no_longer_attributes_than_the_file_allows() {
    let (_held, path) = file(
        "file_format: \"1.1\"\nattribute_limits: {attribute_count_limit: 4, attribute_value_length_limit: 3}\n\
         tracer_provider: {processors: [{simple: {exporter: {console: {}}}}]}\n",
    );
    let output = run(&["replay", &recording(), "--config", &path]);
    let spans: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["resourceSpans"][0]["scopeSpans"][0]["spans"][0].clone())
        .collect();
    assert!(!spans.is_empty());
    for span in spans {
        let attributes = span["attributes"].as_array().unwrap();
        assert_eq!(attributes.len(), 4, "{span}");
        assert!(
            span["droppedAttributesCount"].as_u64().unwrap() > 0,
            "{span}"
        );
        for attribute in attributes {
            let text = attribute["value"]["stringValue"].as_str().unwrap_or("");
            assert!(text.chars().count() <= 3, "{attribute}");
        }
    }
}

#[test]
fn text_on_the_console_takes_no_span_from_another_destination() {
    let directory = TempDir::new().unwrap();
    let [lines, ledger] = ["lines.jsonl", "ledger.json"].map(|name| directory.path().join(name));
    let both = format!(
        "{{console: }}}}}}, {{batch: {{exporter: {{otlp_file: {{output_stream: \"file://{}\"}}}}",
        lines.display()
    );
    let (_directory, path) = file(to_console("text", false).replace("{console: }", &both));
    let printed = accepted(&[
        "replay",
        &recording(),
        "--config",
        &path,
        "--ledger",
        ledger.to_str().unwrap(),
    ]);
    let golden = |name| fs::read_to_string(repository().join("tests/golden").join(name)).unwrap();
    assert_eq!(printed, golden("two_requests.txt"));
    let otlp = golden("two_requests.otlp.jsonl");
    let spans = otlp.lines().filter(|line| line.contains("resourceSpans"));
    let written = fs::read_to_string(&lines).unwrap();
    assert_eq!(
        written.lines().collect::<Vec<_>>(),
        spans.collect::<Vec<_>>()
    );
    support::ledger::Ledger::read(&ledger).assert_closed();
}

#[test]
fn variables_that_a_file_turns_off_are_named_once_without_their_values() {
    let (_directory, path) = file("file_format: \"1.1\"\nlog_level: ${OTEL_LOG_LEVEL}\n");
    let validate = |file: Option<&str>| {
        let arguments = ["config", "validate"];
        let output = command(&arguments)
            .args(file)
            .env("OTEL_LOG_LEVEL", "warn")
            .env("OTEL_SERVICE_NAME", "")
            .env("OTEL_TRACES_SAMPLER", "always_off")
            .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2")
            .output()
            .unwrap();
        assert!(!text(&output.stderr).contains("hunter2"));
        text(&output.stderr).to_owned()
    };
    let said = validate(Some(&path));
    let warning = format!(
        "{path}: warning: with a file these variables have no effect: \
         OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER\n"
    );
    assert_eq!(said.matches(&warning).count(), 1, "{said}");
    assert!(!said.contains("OTEL_SERVICE_NAME"), "{said}");
    let without = command(&["config", "print"])
        .env("OTEL_PROPAGATORS", "b3")
        .output()
        .unwrap();
    let said = text(&without.stderr);
    assert!(
        !said.contains("with a file") && said.contains("OTEL_PROPAGATORS"),
        "{said}"
    );
}

#[test]
fn an_empty_variable_names_no_file_and_an_empty_argument_is_a_mistake() {
    let print = |variable: &str, arguments: &[&str]| {
        let mut command = command(arguments);
        command.env("OTEL_CONFIG_FILE", variable).output().unwrap()
    };
    let (_directory, path) = file("file_format: \"1.1\"\nlog_level: error\n");
    let chosen = print(&path, &["config", "print"]);
    assert!(
        text(&chosen.stdout).contains("log_level: error"),
        "{chosen:?}"
    );
    let none = print("", &["config", "print"]);
    assert!(none.status.success(), "{none:?}");
    assert!(text(&none.stdout).contains("log_level: info"), "{none:?}");
    let mistake = run(&["explain", "--config", "", "1"]);
    assert_eq!(mistake.status.code(), Some(2), "{mistake:?}");
    assert!(
        text(&mistake.stderr).contains("cannot be read"),
        "{mistake:?}"
    );
}

#[test]
fn a_slip_in_the_name_of_a_variable_is_named() {
    let mut command = command(&["config", "print"]);
    let output = command
        .env("OTEL_EXPORTER_OTLP_ENDPIONT", "http://c:1")
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(
        said.contains("did you mean `OTEL_EXPORTER_OTLP_ENDPOINT`?"),
        "{said}"
    );
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    // More than a pipe holds, so that the rest is written after the reader has gone.
    let whole = fs::read_to_string(recording()).unwrap();
    let (header, events) = whole.split_once('\n').unwrap();
    let mut many = format!("{header}\n");
    for connection in 100..1100 {
        let events = events.replace(
            "\"connection\":7,",
            &format!("\"connection\":{connection},"),
        );
        many.push_str(&events);
    }
    let (_directory, path) = file(many);
    for format in ["text", "json", "otlp-json"] {
        let mut child = command(&["replay", &path, "--output", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert!(!said.contains("panicked"), "{format}: {said}");
        assert_eq!(output.status.code(), Some(0), "{format}: {said}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure_that_says_why() {
    let (_file, to_file) = file(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch:\n        exporter:\n          \
         otlp_file/development: {output_stream: \"file:///dev/full\"}\n",
    );
    let (_console, to_console) = file(to_console("otlp-json", true));
    let recording = recording();
    for (arguments, what) in [
        (["--output", "text"], "standard output"),
        (["--output", "json"], "standard output"),
        (["--output", "otlp-json"], "standard output"),
        (["--config", &to_console], "standard output"),
        (["--config", &to_file], "`file:///dev/full`"),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command(&["replay", &recording])
            .args(arguments)
            .stdout(full)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("No space left on device"), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains(what), "{arguments:?}: {said}");
    }
}

#[test]
fn files_that_cannot_be_written_are_told_by_name_before_anything_is_done() {
    let recording = recording();
    let (_file, inside) = file("");
    let no_directory = format!("{inside}/ledger");
    let said = refused(&["replay", &recording, "--ledger", &no_directory]);
    assert!(
        said.contains(&no_directory) && said.contains("--ledger"),
        "{said}"
    );
    assert!(!said.contains("ledger: messages"), "{said}");
    if !is_root("files_that_cannot_be_written_are_told_by_name_before_anything_is_done") {
        return;
    }
    let output = run(&["trace", "--record", "/dev/full", "--duration", "60s"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.contains("/dev/full") && last.contains("No space left"),
        "{said}"
    );
    assert_eq!(last.matches("No space left").count(), 1, "{said}");
}

#[test]
fn a_reader_of_check_that_has_gone_changes_nothing_of_its_answer() {
    for format in ["text", "json"] {
        let arguments = ["check", "--output", format];
        let answer = run(&arguments).status.code();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&arguments).stdout(writer).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), answer, "{format}: {said}");
        assert_eq!(said, "", "{format}");
    }
}

#[test]
fn only_a_command_that_exports_warns_that_nothing_is_exported() {
    let (_directory, path) = file("file_format: \"1.1\"\n");
    let recording = recording();
    let warns = |arguments: &[&str]| {
        let output = run(arguments);
        text(&output.stderr).contains("nothing is exported")
    };
    assert!(warns(&["replay", &recording, "--config", &path]));
    assert!(warns(&["config", "validate", &path]));
    let printed = ["replay", &recording, "--config", &path, "--output", "text"];
    assert!(!warns(&printed));
    assert!(!warns(&["trace", "--config", &path, "--duration", "1ms"]));
    let own = std::process::id().to_string();
    assert!(!warns(&["explain", &own, "--config", &path]));
}

#[test]
fn the_log_has_no_colours_where_nobody_would_see_them() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(&["replay", &recording(), "--output", "otlp-json"])
        .stdout(full)
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(said.contains(" WARN "), "{said}");
    assert!(!said.contains('\x1b'), "{said}");
}

#[test]
fn check_gives_findings_as_json_whoever_asks() {
    let output = run(&["check", "--output", "json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = value["findings"].as_array().unwrap();
    assert!(!findings.is_empty());
    for finding in findings {
        let state = finding["state"].as_str().unwrap();
        assert!(["ok", "missing", "fails"].contains(&state), "{finding}");
        assert!(!finding["what"].as_str().unwrap().is_empty(), "{finding}");
    }
    let fails = findings.iter().any(|finding| finding["state"] == "fails");
    assert_eq!(output.status.code(), Some(if fails { 3 } else { 0 }));
}

#[test]
fn explain_names_the_service_of_a_process() {
    let child = Process::start(Command::new("sleep").arg("60"));
    let pid = child.pid();
    // Until it has executed `sleep` the process is still this program.
    let executable = format!("/proc/{pid}/exe");
    support::machine::wait_until("sleep", Duration::from_secs(10), || {
        fs::read_link(&executable).is_ok_and(|path| path.ends_with("sleep"))
    });
    let said = accepted(&["explain", &pid.to_string()]);
    assert!(
        said.starts_with(&format!("process {pid} is seen: ")),
        "{said}"
    );
    let name = said
        .lines()
        .find(|line| line.trim_start().starts_with("service.name "))
        .unwrap();
    assert!(name.ends_with("\"sleep\""), "{name}");
}

#[test]
fn explain_says_when_there_is_no_such_process() {
    // Above the largest number that Linux ever gives to a process.
    let output = run(&["explain", "4194305"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no process 4194305"));
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_file_that_switches_all_off_leaves_no_command_anything_to_do() {
    let (_recording, recording) = file(recording());
    for (content, why) in [
        (
            "file_format: \"1.1\"\ndisabled: true\n",
            "disabled: true is set",
        ),
        (
            "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    protocols: {http: {enabled: false}}\n",
            "protocols.http.enabled is false",
        ),
    ] {
        let (_config, config) = file(content);
        for arguments in [
            &["run", "--config", &config][..],
            &["trace", "--config", &config, "--duration", "1m"],
            &["replay", &recording, "--config", &config],
            &[
                "replay", &recording, "--config", &config, "--output", "json",
            ],
        ] {
            let output = run(arguments);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
            assert_eq!(text(&output.stdout), "", "{arguments:?}");
            assert!(
                said.contains(why) && said.contains("nothing to do"),
                "{said}"
            );
        }
        let own = std::process::id().to_string();
        let said = accepted(&["explain", &own, "--config", &config]);
        let answer = format!("process {own} is not seen: {why}");
        assert!(said.starts_with(&answer), "{said}");
    }
}

#[test]
fn a_backend_that_does_not_work_is_not_all_backends() {
    if !is_root("a_backend_that_does_not_work_is_not_all_backends") {
        return;
    }
    let output = run(&["check", "--output", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = report["findings"].as_array().unwrap();
    let works = |line: &&Value| line["section"] == "capture" && line["state"] == "ok";
    assert!(lines.iter().find(works).is_some(), "{report}");
    let backends: Vec<_> = lines
        .iter()
        .filter(|line| {
            line["section"] == "machine" && line["what"].as_str().unwrap().starts_with("backend ")
        })
        .collect();
    assert_eq!(backends.len(), 3, "{report}");
    for line in backends {
        let detail = line["detail"].as_str().unwrap();
        assert!(!detail.contains("no capture backend works"), "{line}");
        if line["state"] == "ok" {
            continue;
        }
        // Asked for alone it is named, and what else there is.
        let name = line["what"]
            .as_str()
            .unwrap()
            .trim_start_matches("backend ");
        let (_config, config) = file(format!(
            "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture: {{backend: {name}}}\n"
        ));
        let output = run(&["check", "--config", &config]);
        let said = text(&output.stdout);
        assert!(
            said.contains("the backend that `capture.backend` names does not work"),
            "{said}"
        );
        assert!(said.contains("set capture.backend to auto"), "{said}");
    }
}
