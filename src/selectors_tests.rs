//! Decisions of selectors about processes.

use std::path::PathBuf;

use spandrel_model::ProcessKey;

use super::*;

fn process(pid: u32, executable: &str, container: Option<&str>) -> Candidate {
    Candidate {
        process: ProcessKey {
            tgid: pid,
            started: 1,
        },
        executable: (!executable.is_empty()).then(|| PathBuf::from(executable)),
        container_id: container.map(str::to_owned),
        pod: PodOf::Nobody,
    }
}

fn executable(glob: &str) -> Selector {
    Selector {
        executable: Some(Pattern::new(glob).unwrap()),
        ..Selector::default()
    }
}

fn including(selectors: Vec<Selector>) -> Selectors {
    Selectors {
        include: selectors,
        exclude: Vec::new(),
    }
}

#[test]
fn without_selectors_every_process_is_seen() {
    let decision = Selectors::default().decide(&process(1, "", None), &[]);
    assert_eq!(decision.verdict, Verdict::Allow);
}

#[test]
fn a_star_stays_within_one_directory() {
    let nginx = process(7, "/usr/sbin/nginx", None);
    for (glob, verdict) in [
        ("/usr/sbin/*", Verdict::Allow),
        ("**/nginx", Verdict::Allow),
        ("/usr/*", Verdict::Deny),
        ("nginx", Verdict::Deny),
    ] {
        let decision = including(vec![executable(glob)]).decide(&nginx, &[]);
        assert_eq!(decision.verdict, verdict, "{glob}");
    }
}

#[test]
fn all_conditions_of_a_selector_must_hold() {
    let selectors = including(vec![Selector {
        pid: Some(7),
        ports: vec![80, 443],
        ..Selector::default()
    }]);
    let verdict = |pid, ports: &[u16]| selectors.decide(&process(pid, "", None), ports).verdict;
    assert_eq!(verdict(7, &[8080, 443]), Verdict::Allow);
    assert_eq!(verdict(7, &[8080]), Verdict::Deny);
    assert_eq!(verdict(8, &[443]), Verdict::Deny);
    assert!(selectors.depend_on_ports());
}

#[test]
fn exclude_is_stronger_than_include_and_says_which_selector_it_was() {
    let selectors = Selectors {
        include: vec![executable("/usr/**")],
        exclude: vec![executable("/opt/**"), executable("**/nginx")],
    };
    let decision = selectors.decide(&process(7, "/usr/sbin/nginx", None), &[]);
    assert_eq!(decision.verdict, Verdict::Deny);
    assert_eq!(decision.reason, "exclude[1] holds: executable **/nginx");
    let other = selectors.decide(&process(7, "/usr/bin/redis", None), &[]);
    assert_eq!(other.reason, "include[0] holds: executable /usr/**");
    assert!(!selectors.depend_on_ports());
}

#[test]
fn what_is_unknown_matches_no_pattern() {
    let any = Selector {
        container_id: Some(Pattern::new("*").unwrap()),
        ..Selector::default()
    };
    let selectors = including(vec![any, executable("**")]);
    let verdict = |candidate| selectors.decide(&candidate, &[]).verdict;
    assert_eq!(verdict(process(1, "", None)), Verdict::Deny);
    assert_eq!(verdict(process(1, "", Some("4f2a"))), Verdict::Allow);
}

#[test]
fn a_selector_without_conditions_holds_for_nothing() {
    let selectors = including(vec![Selector::default()]);
    let decision = selectors.decide(&process(1, "/bin/a", None), &[1]);
    assert_eq!(decision.verdict, Verdict::Deny);
}

#[test]
fn a_broken_glob_is_named_in_the_error() {
    let error = Pattern::new("/usr/[a").unwrap_err().to_string();
    assert!(
        error.starts_with("the glob `/usr/[a` is not valid: "),
        "{error}"
    );
}
