//! Which backends the tests use on this kernel, and how patient they are. The tests of the whole agent include this file.
#![allow(clippy::print_stderr, clippy::unwrap_used, dead_code, unreachable_pub)]

use std::env;
use std::sync::OnceLock;
use std::time::Duration;

use spandrel_probes::{BackendChoice, preflight};

const ALL: [(BackendChoice, &str); 3] = [
    (BackendChoice::Socket, "socket"),
    (BackendChoice::Fexit, "fexit"),
    (BackendChoice::Syscall, "syscall"),
];

/// The backends to test.
///
/// `SPANDREL_TEST_BACKENDS=fexit,syscall` names them: then each is tested, and fails where the kernel refuses it. Otherwise
/// they are those that this kernel takes; one that it must take and does not is tried all the same, and fails.
pub fn backends() -> Vec<BackendChoice> {
    ALL.iter()
        .filter(|(_, name)| reason_against(name).is_none())
        .map(|(backend, _)| *backend)
        .collect()
}

/// Why this backend is not tested here; `None` when it is.
pub fn reason_against(backend: &str) -> Option<&'static str> {
    static REASONS: OnceLock<Vec<Option<String>>> = OnceLock::new();
    let reasons = REASONS.get_or_init(|| match env::var("SPANDREL_TEST_BACKENDS") {
        Ok(named) => not_named(&named),
        Err(_) => not_taken(),
    });
    let place = ALL.iter().position(|(_, name)| *name == backend).unwrap();
    reasons[place].as_deref()
}

fn not_named(named: &str) -> Vec<Option<String>> {
    let named: Vec<&str> = named.split(',').collect();
    for name in &named {
        assert!(
            ALL.iter().any(|(_, known)| known == name),
            "SPANDREL_TEST_BACKENDS: no backend {name:?}"
        );
    }
    ALL.iter()
        .map(|(_, name)| {
            (!named.contains(name)).then(|| "not in SPANDREL_TEST_BACKENDS".to_owned())
        })
        .collect()
}

fn not_taken() -> Vec<Option<String>> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    let findings = preflight();
    // A kernel that forbids fexit altogether says so; its verifier says something else.
    let forbidden = "Operation not permitted";
    ALL.iter()
        .map(|(backend, name)| {
            let what = format!("backend {name}");
            let finding = findings
                .iter()
                .find(|finding| finding.what == what)
                .unwrap();
            let required = match backend {
                BackendChoice::Socket => version >= (6, 3),
                BackendChoice::Fexit => !finding.detail.contains(forbidden),
                _ => true,
            };
            if finding.ok || required {
                return None;
            }
            eprintln!("not tested here: {what}: {}", finding.detail);
            Some(finding.detail.clone())
        })
        .collect()
}

/// A test's limit of time, as many times longer as `SPANDREL_TEST_PATIENCE` says: an emulated processor is slow.
pub fn patience(limit: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| match env::var("SPANDREL_TEST_PATIENCE") {
        Ok(text) => text
            .parse()
            .expect("SPANDREL_TEST_PATIENCE is a whole number"),
        Err(_) => 1,
    });
    limit * *factor
}
