//! The documentation and the catalogue say the same.

use super::catalogue::{ALL, Entry};

#[test]
fn the_documentation_lists_every_metric_as_it_is() {
    let text = include_str!("../../../../docs/self-telemetry.md");
    let documented: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("| metric"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let expected: Vec<String> = ALL.iter().map(Entry::row).collect();
    assert_eq!(
        documented,
        expected,
        "the table should be:\n{}",
        expected.join("\n")
    );
}

#[test]
fn names_are_the_conventions_or_our_own_and_each_is_there_once() {
    let mut names: Vec<&str> = ALL.iter().map(|entry| entry.name).collect();
    for entry in ALL {
        // What is neither comes from the conventions' constants, or it does not compile.
        let ours = entry.name.starts_with("spandrel.");
        let theirs = ["otel.sdk.", "process."]
            .iter()
            .any(|prefix| entry.name.starts_with(prefix));
        assert!(ours != theirs, "{}", entry.name);
        assert!(!entry.description.is_empty(), "{}", entry.name);
        let units = ["s", "By", "1"];
        let annotated = entry.unit.starts_with('{') && entry.unit.ends_with('}');
        assert!(
            units.contains(&entry.unit) || annotated,
            "{}: {}",
            entry.name,
            entry.unit
        );
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len());
}
