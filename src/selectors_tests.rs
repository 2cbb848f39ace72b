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
        unread: false,
        gone: false,
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
    let decision = Selectors::default().decide(&process(1, "", None), None);
    assert_eq!(decision.verdict, Verdict::Allow);
    let reason = "no include selector is set and no exclude selector holds";
    assert_eq!(decision.reason, reason);
}

#[test]
fn a_process_that_nothing_includes_is_told_how_many_selectors_were_asked() {
    let selectors = including(vec![executable("/opt/**"), executable("/srv/**")]);
    let decision = selectors.decide(&process(7, "/usr/sbin/nginx", None), None);
    assert_eq!(decision.verdict, Verdict::Deny);
    assert_eq!(decision.reason, "none of the 2 include selectors holds");
}

#[test]
fn only_what_a_selector_names_is_waited_for() {
    let by_pid = || Selector {
        pid: Some(7),
        ..Selector::default()
    };
    let unread = |pid| Candidate {
        unread: true,
        ..process(pid, "", None)
    };
    let selectors = including(vec![by_pid()]);
    assert!(!selectors.depend_on_programs());
    assert!(!selectors.depend_on_pods());
    assert_eq!(selectors.decide(&unread(7), None).verdict, Verdict::Allow);
    assert_eq!(selectors.decide(&unread(8), None).verdict, Verdict::Deny);
    for one in [
        executable("/opt/**"),
        Selector {
            container_id: Some(Pattern::new("4f*").unwrap()),
            ..Selector::default()
        },
    ] {
        let selectors = Selectors {
            include: vec![by_pid()],
            exclude: vec![one],
        };
        assert!(selectors.depend_on_programs());
        assert_eq!(selectors.decide(&unread(7), None).verdict, Verdict::Wait);
        assert_eq!(selectors.decide(&unread(8), None).verdict, Verdict::Deny);
    }
}

#[test]
fn a_path_is_one_string_in_which_a_star_stands_for_anything() {
    let nginx = process(7, "/usr/sbin/nginx", None);
    for (glob, verdict) in [
        ("/usr/sbin/*", Verdict::Allow),
        ("**/nginx", Verdict::Allow),
        ("*/nginx", Verdict::Allow),
        ("*nginx", Verdict::Allow),
        ("/usr/*", Verdict::Allow),
        ("/usr/*/nginx", Verdict::Allow),
        ("/usr/*n", Verdict::Deny),
        ("nginx", Verdict::Deny),
    ] {
        let decision = including(vec![executable(glob)]).decide(&nginx, None);
        assert_eq!(decision.verdict, verdict, "{glob}");
    }
}

#[test]
fn all_conditions_of_a_selector_must_hold() {
    let selectors = including(vec![Selector {
        pid: Some(7),
        ports: Some(80..=443),
        ..Selector::default()
    }]);
    let decide = |pid, ports: Option<&[u16]>| selectors.decide(&process(pid, "", None), ports);
    assert_eq!(decide(7, Some(&[8080, 443])).verdict, Verdict::Allow);
    assert_eq!(decide(7, Some(&[8080])).verdict, Verdict::Deny);
    assert_eq!(
        decide(7, Some(&[])).verdict,
        Verdict::Deny,
        "it has no port"
    );
    assert_eq!(decide(8, Some(&[443])).verdict, Verdict::Deny);
    assert_eq!(decide(8, None).verdict, Verdict::Deny, "whatever the port");
    let open = decide(7, None);
    assert_eq!(open.verdict, Verdict::ByPort);
    assert_eq!(
        open.reason,
        "include[0] holds at some ports: pid 7, port 80-443"
    );
    assert!(selectors.depend_on_ports());
}

#[test]
fn what_is_unknown_stays_open_only_where_it_can_decide() {
    let by_port = |ports| Selector {
        ports: Some(ports),
        ..Selector::default()
    };
    let in_shop = || Selector {
        pod: PodSelector {
            namespace: Some(Pattern::new("shop").unwrap()),
            ..PodSelector::default()
        },
        ..Selector::default()
    };
    let unknown = Candidate {
        pod: PodOf::NotYet,
        ..process(7, "/usr/sbin/nginx", None)
    };
    let decide = |include: Vec<Selector>, exclude: Vec<Selector>, ports: Option<&[u16]>| {
        Selectors { include, exclude }
            .decide(&unknown, ports)
            .verdict
    };
    let at_80 = Some(&[80, 5000][..]);
    for (include, exclude, ports, verdict) in [
        (vec![], vec![by_port(80..=80)], None, Verdict::ByPort),
        (vec![], vec![by_port(80..=80)], at_80, Verdict::Deny),
        (vec![], vec![by_port(81..=90)], at_80, Verdict::Allow),
        (
            vec![],
            vec![in_shop(), by_port(80..=80)],
            None,
            Verdict::Wait,
        ),
        (
            vec![],
            vec![in_shop(), by_port(80..=80)],
            at_80,
            Verdict::Deny,
        ),
        (vec![in_shop()], vec![by_port(80..=80)], None, Verdict::Wait),
        (
            vec![in_shop()],
            vec![by_port(80..=80)],
            at_80,
            Verdict::Deny,
        ),
        (
            vec![in_shop(), executable("*/nginx")],
            vec![],
            None,
            Verdict::Allow,
        ),
        (
            vec![by_port(80..=80), executable("*/nginx")],
            vec![],
            None,
            Verdict::Allow,
        ),
        (
            vec![by_port(80..=80)],
            vec![executable("*/nginx")],
            None,
            Verdict::Deny,
        ),
        // Nobody that it may be is excluded, but nobody is included either.
        (
            vec![executable("*/redis")],
            vec![in_shop()],
            None,
            Verdict::Deny,
        ),
        (
            vec![executable("*/redis")],
            vec![by_port(80..=80)],
            None,
            Verdict::Deny,
        ),
    ] {
        let found = decide(include.clone(), exclude.clone(), ports);
        assert_eq!(found, verdict, "{include:?} {exclude:?} {ports:?}");
    }
}

#[test]
fn exclude_is_stronger_than_include_and_says_which_selector_it_was() {
    let selectors = Selectors {
        include: vec![executable("/usr/**")],
        exclude: vec![executable("/opt/**"), executable("**/nginx")],
    };
    let decision = selectors.decide(&process(7, "/usr/sbin/nginx", None), None);
    assert_eq!(decision.verdict, Verdict::Deny);
    assert_eq!(decision.reason, "exclude[1] holds: executable **/nginx");
    let other = selectors.decide(&process(7, "/usr/bin/redis", None), None);
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
    let verdict = |candidate| selectors.decide(&candidate, None).verdict;
    assert_eq!(verdict(process(1, "", None)), Verdict::Deny);
    assert_eq!(verdict(process(1, "", Some("4f2a"))), Verdict::Allow);
}

#[test]
fn a_selector_without_conditions_holds_for_nothing() {
    let selectors = including(vec![Selector::default()]);
    let decision = selectors.decide(&process(1, "/bin/a", None), Some(&[1]));
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
