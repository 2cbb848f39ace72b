//! Each kind of bad file gives its place, and all problems come at once.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
use spandrel_config::settings::{AttributeValue, Exporter};
use spandrel_config::{Diagnostic, Problems, Severity, load, load_str};

fn problems(text: &str) -> Problems {
    let env = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
    load_str("f.yaml", text, &env).expect_err("this text must be refused")
}

fn ours(text: &str) -> String {
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!("file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n{indented}")
}

/// The only error of a text.
fn only(text: &str) -> Diagnostic {
    let problems = problems(text);
    let errors: Vec<&Diagnostic> = problems.errors().collect();
    assert_eq!(errors.len(), 1, "{problems}");
    errors[0].clone()
}

fn place(found: &Diagnostic) -> (usize, usize) {
    found.position.map(|p| (p.line, p.column)).unwrap()
}

#[test]
fn an_unknown_key_is_shown_with_a_caret_its_path_and_the_nearest_known_key() {
    let text = ours("capture:\n  bakcend: socket");
    let shown = problems(&text).to_string();
    let expected = "\
f.yaml:6:7: error: unknown key `bakcend`
 6 |       bakcend: socket
   |       ^
   path: distribution.spandrel.capture
   expected: one of the keys backend, ring_buffer_bytes, copy_bytes, head_bytes, unix_sockets, \
cgroup_messages_per_second, selectors
   help: did you mean `backend`?
the configuration has 1 error";
    assert_eq!(shown, expected);
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = ours(
        "capture:\n  backend: magic\n  copy_bytes: many\n  unix_sockets: 3\n\
         shutdown_timeout: 5 parsecs\nexport:\n  retry_on_failure:\n    multiplier: fast\n\
         surprise: 1",
    );
    let problems = problems(&text);
    let lines: Vec<usize> = problems.errors().map(|d| place(d).0).collect();
    assert_eq!(lines, [6, 7, 8, 9, 12, 13], "{problems}");
}

#[test]
fn a_duplicate_key_points_at_the_second_one() {
    let found = only("file_format: \"1.1\"\nlog_level: info\nlog_level: warn\n");
    assert_eq!(place(&found), (3, 1));
    assert!(found.message.contains("log_level"));
    assert_eq!(found.hint.as_deref(), Some("it was first given in line 2"));
}

#[test]
fn a_bad_duration_says_what_a_duration_looks_like() {
    let found = only(&ours("self_telemetry:\n  interval: 60"));
    assert_eq!(place(&found), (6, 17));
    assert_eq!(found.path, "distribution.spandrel.self_telemetry.interval");
    assert!(found.message.contains("the integer 60"));
    assert!(found.expected.unwrap().contains("5s"));
}

#[test]
fn a_wrong_type_in_the_standard_part_is_an_error() {
    let found = only(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch:\n\
         \x20       schedule_delay: \"5000\"\n        exporter: {console: }\n",
    );
    assert_eq!(
        found.path,
        "tracer_provider.processors[0].batch.schedule_delay"
    );
    assert_eq!(found.expected.as_deref(), Some("an integer of at least 0"));
}

#[test]
fn an_unknown_key_of_a_closed_standard_type_is_an_error() {
    let text = "file_format: \"1.1\"\ntracer_provider:\n  procesors: []\n";
    let problems = problems(text);
    let shown: Vec<String> = problems.errors().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{problems}");
    assert!(problems.to_string().contains("did you mean `processors`?"));
    assert!(
        problems
            .to_string()
            .contains("the key `processors` is missing")
    );
}

#[test]
fn a_missing_file_an_empty_file_and_a_directory_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(&folder.path().join("none.yaml"), &|_| None).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("none.yaml: error: the file cannot be read")
    );
    assert!(load(folder.path(), &|_| None).is_err());
    for text in ["", "\n\n", "# only a comment\n", "---\n", "~\n", "\u{feff}"] {
        assert_eq!(only(text).message, "the file is empty", "{text:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_found_by_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.yaml");
    std::fs::write(&path, b"file_format: \"1.1\"\nlog_level: \xff\n").unwrap();
    let problems = load(&path, &|_| None).unwrap_err();
    assert!(
        problems
            .to_string()
            .contains("bad.yaml:2:12: error: the byte 0xff is not UTF-8")
    );
}

#[test]
fn nesting_of_100_000_levels_is_refused_where_it_becomes_too_deep() {
    let block: String = (0..1000)
        .map(|i| format!("{}k:\n", " ".repeat(i)))
        .collect();
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        format!("file_format: {}", "[".repeat(100_000)),
        block,
    ] {
        let found = only(&text);
        assert_eq!(found.message, "nested deeper than 64 levels");
        assert!(found.to_string().len() < 600);
    }
}

#[test]
fn an_alias_bomb_is_refused_before_it_grows() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let before = format!("*a{}", i - 1);
        text.push_str(&format!(
            "a{i}: &a{i} [{}]\n",
            [before.as_str(); 10].join(", ")
        ));
    }
    let found = only(&text);
    assert!(
        found.message.contains("after all aliases are followed"),
        "{found}"
    );
}

#[test]
fn a_merge_bomb_is_refused_before_it_grows() {
    let mut text = String::from("a0: &a0 {k: v}\n");
    for i in 1..40 {
        text.push_str(&format!(
            "a{i}: &a{i} {{<<: *a{0}, x: *a{0}, y: *a{0}}}\n",
            i - 1
        ));
    }
    assert!(only(&text).message.contains("aliases"));
}

#[test]
fn a_tab_is_named_as_the_cause() {
    let found = only("file_format: \"1.1\"\nresource:\n\tschema_url: x\n");
    assert_eq!(place(&found), (3, 1));
    assert!(found.message.contains("tab"));
}

#[test]
fn a_second_document_is_refused() {
    let found = only("file_format: \"1.1\"\n---\nfile_format: \"1.1\"\n");
    assert!(found.message.contains("second YAML document"));
    assert_eq!(place(&found).0, 2);
}

#[test]
fn syntax_errors_and_unknown_aliases_have_a_place() {
    for text in [
        "a: [1, 2\nb: 3\n",
        "a: *nowhere\n",
        "a: \"open\n",
        "a: b: c\n",
        "- a\nb: c\n",
    ] {
        let problems = problems(text);
        assert!(
            problems.errors().all(|d| d.position.is_some()),
            "{problems}"
        );
    }
}

#[test]
fn what_is_still_open_at_the_end_of_the_file_is_shown_with_a_caret() {
    let head = "file_format: \"1.1\"\n";
    let cases = [
        ("log_level: [a, b", (2, 17)),
        ("log_level: [a, b\n", (2, 17)),
        ("resource: {a: 1,\n\n  \n", (2, 17)),
        ("log_level: \"open\n", (2, 12)),
        ("log_level: 'open", (2, 12)),
    ];
    for (end, expected) in cases {
        let found = only(&format!("{head}{end}"));
        assert_eq!(place(&found), expected, "{end:?}: {found}");
        let caret = format!("\n   | {}^", " ".repeat(expected.1 - 1));
        assert!(found.to_string().contains(&caret), "{end:?}: {found}");
    }
}

#[test]
fn an_invalid_reference_is_an_error_with_its_path() {
    let found = only("file_format: \"1.1\"\nlog_level: ${1A}\n");
    assert_eq!(place(&found), (2, 12));
    assert_eq!(found.path, "log_level");
    assert!(
        only("file_format: \"1.1\"\nlog_level: ${X:?err}\n")
            .message
            .contains("X:?err")
    );
}

#[test]
fn versions_of_another_major_are_refused_and_later_minors_are_warned_of() {
    assert!(
        only("file_format: \"2.0\"\n")
            .message
            .contains("2.0 is not supported")
    );
    assert!(
        only("file_format: \"0.4\"\n")
            .message
            .contains("0.4 is not supported")
    );
    assert!(
        only("file_format: latest\n")
            .message
            .contains("not a version")
    );
    assert!(
        only("file_format: 1.1\n")
            .expected
            .unwrap()
            .contains("quote")
    );
    let text = "file_format: \"1.7\"\ntracer_provider:\n  new_key: 1\n  processors: \
                [{simple: {exporter: {console: }}}]\n";
    let loaded = load_str("f", text, &|_| None).unwrap();
    let lines: Vec<_> = loaded.warnings.iter().map(|d| place(d).0).collect();
    assert_eq!(lines, [1, 3]);
}

#[test]
fn values_of_headers_stay_out_of_messages() {
    let text = "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - simple:\n        exporter:\n\
                \x20         otlp_http:\n            headers:\n              - name: k\n\
                \x20               value: [\"${SECRET}\"]\n              - \"${SECRET}\"\n\
                \x20           headers_list: [\"${SECRET}\"]\n";
    let problems = problems(text);
    assert_eq!(problems.errors().count(), 3, "{problems}");
    assert!(!problems.to_string().contains("hunter2"));
}

#[test]
fn checks_across_keys_name_both_sides() {
    let found = only(&ours(
        "export:\n  max_request_bytes: 2MiB\n  sending_queue: {queue_size: 1MiB}",
    ));
    assert!(found.message.contains("smaller than one request"));
    let found = only(&ours("metrics:\n  explicit_bucket_boundaries: [1, 1]"));
    assert!(found.message.contains("ascend"));
    let found = only(&ours("capture: {selectors: {include: [{}]}}"));
    assert!(found.message.contains("says nothing"));
    assert!(
        only(&ours("self_telemetry: {interval: 0s}"))
            .message
            .contains("never rest")
    );
    let found = only(&ours("capture: {ring_buffer_bytes: 5000}"));
    assert!(found.expected.unwrap().contains("power of two"));
}

#[test]
fn errors_and_warnings_are_told_apart() {
    let text = "file_format: \"1.1\"\nlogger_provider: {processors: [{simple: {exporter: {console: }}}]}\nlog_level: 3\n";
    let found = problems(text);
    assert_eq!(found.diagnostics[0].severity, Severity::Warning);
    assert_eq!(found.errors().count(), 1);
}

/// Where the values of keys stand in a text: line and byte range.
fn values(text: &str) -> Vec<(usize, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let start = line.find(": ").map(|at| at + 2).or_else(|| {
            let item = line.trim_start().starts_with("- ") && !line.contains(':');
            item.then(|| line.find("- ").unwrap_or_default() + 2)
        });
        if let Some(start) = start.filter(|start| *start < line.len()) {
            found.push((index, start..line.len()));
        }
    }
    found
}

#[test]
fn no_message_shows_the_value_of_a_variable_wherever_it_stands() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config");
    let mut files = vec![format!("{directory}/spandrel.yaml")];
    for entry in std::fs::read_dir(format!("{directory}/examples")).unwrap() {
        files.push(entry.unwrap().path().display().to_string());
    }
    let mut tried = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (index, place) in values(&text) {
            let lines = text.lines().enumerate().map(|(at, line)| {
                let mut line = line.to_owned();
                if at == index {
                    line.replace_range(place.clone(), "${env:KEY}");
                }
                line
            });
            let text = lines.collect::<Vec<_>>().join("\n");
            for canary in ["canary", "canary%zz=,canary@canary:canary", "40404.5", "-1"] {
                let env = |name: &str| (name == "KEY").then(|| canary.to_owned());
                let said = match load_str("f.yaml", &text, &env) {
                    Ok(loaded) => {
                        let all = loaded.warnings.iter().map(ToString::to_string);
                        all.collect::<Vec<_>>().join("\n")
                    }
                    Err(problems) => problems.to_string(),
                };
                let shown = said.contains("canary") || said.contains("40404");
                assert!(!shown, "{file}:{}: {said}", index + 1);
                tried += 1;
            }
        }
    }
    assert!(tried > 400, "{tried}");
}

#[test]
fn a_variable_that_reads_like_a_number_is_a_string_where_one_is_expected() {
    let text = "file_format: \"1.1\"\nresource:\n  attributes:\n    - name: team\n      value: ${KEY}\n\
                tracer_provider:\n  processors:\n    - batch:\n        exporter:\n          otlp_http:\n            \
                endpoint: http://c:4318/v1/traces\n            headers:\n              - name: api-key\n                \
                value: ${env:KEY}\n";
    for key in ["0123456789", "true", "1e5", "0x1f", ".5"] {
        let env = |name: &str| (name == "KEY").then(|| key.to_owned());
        let loaded = load_str("f.yaml", text, &env).unwrap();
        assert_eq!(loaded.warnings, []);
        let team = &loaded.config.resource[0].1;
        assert_eq!(*team, AttributeValue::String(key.to_owned()));
        let Exporter::Otlp(otlp) = &loaded.config.traces[0].exporter else {
            panic!("no OTLP exporter");
        };
        assert_eq!(otlp.headers[0].1.reveal(), key);
    }
}
