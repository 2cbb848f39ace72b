//! The words of failures.

use kube::core::Status;

use super::{Failure, Reason, forbidden};
use crate::pod::Pod;

#[test]
fn forbidden_names_the_rule_and_the_service_account() {
    let said = r#"pods is forbidden: User "system:serviceaccount:spandrel:agent" cannot watch resource "pods" in API group "" at the cluster scope"#;
    let status = Status::failure(said, "Forbidden").with_code(403);
    let failure = Failure::of_status::<Pod>(&status);
    assert_eq!(failure.reason, Reason::Forbidden);
    for part in [
        "may not watch",
        "ServiceAccount agent in namespace spandrel",
        "resources [pods]",
        "verbs [list, watch]",
        r#"apiGroups [""]"#,
        "ClusterRoleBinding",
    ] {
        assert!(failure.message.contains(part), "no {part} in {failure}");
    }
}

#[test]
fn forbidden_without_the_usual_words_still_names_the_rule() {
    let message = forbidden("", "pods", "[list, watch]", "no");
    assert!(
        message.contains("this user needs a ClusterRole"),
        "{message}"
    );
}

#[test]
fn a_page_of_a_proxy_is_shortened_between_characters() {
    let status = Status::failure(&"ü".repeat(100_000), "").with_code(502);
    let failure = Failure::of_status::<Pod>(&status);
    assert_eq!(failure.reason, Reason::Server);
    assert!(failure.message.len() < 700);
}

#[test]
fn every_reason_has_its_own_name() {
    let names: std::collections::BTreeSet<_> = Reason::ALL.map(Reason::as_str).into();
    assert_eq!(names.len(), Reason::ALL.len());
}
