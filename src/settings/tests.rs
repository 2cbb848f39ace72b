//! What of the selectors the kernel side enforces, and what user space is left with.

use spandrel_model::ProcessKey;

use super::*;
use crate::identity::{Candidate, PodOf};
use crate::selectors::Verdict;

fn config(selectors: &str) -> Config {
    let text = format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      selectors: {selectors}\n"
    );
    spandrel_config::load_str("test", &text, &|_| None)
        .unwrap()
        .config
}

fn kernel_ports(selectors: &str) -> (Vec<u16>, Vec<u16>) {
    let settings = capture(&config(selectors)).unwrap();
    (settings.ports_include, settings.ports_exclude)
}

#[test]
fn the_kernel_side_enforces_what_ports_decide_alone() {
    for (selectors, include, exclude) in [
        (
            "{include: [{port: 80}, {port: 8000-8002}]}",
            &[80, 8000, 8001, 8002][..],
            &[][..],
        ),
        // At another port no process is captured.
        (
            "{include: [{port: 80, pid: 7}, {port: 81}]}",
            &[80, 81],
            &[],
        ),
        ("{include: [{port: 80}, {pid: 7}]}", &[], &[]),
        (
            "{exclude: [{port: 80}, {port: 81, pid: 7}, {pid: 8}]}",
            &[],
            &[80],
        ),
        (
            "{include: [{port: 80-81}], exclude: [{port: 81}]}",
            &[80, 81],
            &[81],
        ),
    ] {
        let expected = (include.to_vec(), exclude.to_vec());
        assert_eq!(kernel_ports(selectors), expected, "{selectors}");
    }
}

#[test]
fn a_range_of_ports_is_not_cut() {
    let (include, exclude) =
        kernel_ports("{include: [{port: 1-65535}], exclude: [{port: 1024-65535}]}");
    assert_eq!(include.len(), 65_535);
    assert_eq!(exclude, (1024..=65535).collect::<Vec<u16>>());
}

#[test]
fn several_processes_and_ports_of_a_command_line_go_together() {
    let mut config = config("{}");
    let arguments = Trace {
        pid: vec![7],
        exe: vec!["*/nginx".to_owned()],
        port: vec![80, 443],
        ..Trace::default()
    };
    narrow(&mut config, &arguments);
    let selectors = selectors(&config).unwrap();
    let verdict = |tgid, path: &str, port| {
        let candidate = Candidate {
            process: ProcessKey { tgid, started: 1 },
            executable: Some(path.into()),
            container_id: None,
            pod: PodOf::Nobody,
            unread: false,
            gone: false,
        };
        selectors.decide(&candidate, Some(&[port])).verdict
    };
    assert_eq!(verdict(7, "/bin/other", 80), Verdict::Allow);
    assert_eq!(verdict(8, "/usr/sbin/nginx", 443), Verdict::Allow);
    assert_eq!(verdict(7, "/bin/other", 81), Verdict::Deny);
    assert_eq!(verdict(8, "/bin/other", 80), Verdict::Deny);
    assert_eq!(capture(&config).unwrap().ports_include, [80, 443]);
}

#[test]
fn destinations_at_one_place_have_names_and_queues_of_their_own() {
    let exporter = |signal: &str, tenant: &str| {
        format!("{{otlp_http: {{endpoint: \"http://c:4318/{tenant}/v1/{signal}\"}}}}")
    };
    let text = format!(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch: {{exporter: {}}}\n    - batch: {{exporter: {}}}\n\
         meter_provider:\n  readers:\n    - periodic: {{exporter: {}}}\n    - periodic: {{exporter: {}}}\n",
        exporter("traces", "a"),
        exporter("traces", "b"),
        exporter("metrics", "a"),
        exporter("metrics", "b"),
    );
    let config = spandrel_config::load_str("test", &text, &|_| None)
        .unwrap()
        .config;
    let names: Vec<String> = export(&config, true)
        .exporter
        .destinations
        .into_iter()
        .map(|destination| destination.name)
        .collect();
    assert_eq!(names, ["c:4318", "c:4318#2", "c:4318", "c:4318#2"]);
}
