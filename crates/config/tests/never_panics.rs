//! Whatever the text, the answer is a configuration or problems, never a panic.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
use proptest::prelude::{ProptestConfig, any, prop};
use proptest::{prop_assert, proptest};
use spandrel_config::{load_str, print};

const VALID: &str = include_str!("../../../config/spandrel.yaml");
const STANDARD: &str = include_str!("files/every_standard_key.yaml");

fn check(text: &str) {
    match load_str("f", text, &|name| {
        (name.len() % 2 == 0).then(|| format!("[{name}"))
    }) {
        Ok(loaded) => assert!(!print(&loaded.config).is_empty()),
        Err(problems) => assert!(problems.errors().count() > 0 && !problems.to_string().is_empty()),
    }
}

fn mutate(base: &str, edits: &[(prop::sample::Index, usize, String)]) -> String {
    let mut text: Vec<char> = base.chars().collect();
    for (at, cut, insert) in edits {
        let start = at.index(text.len() + 1);
        let end = (start + cut).min(text.len());
        text.splice(start..end, insert.chars());
    }
    text.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn random_yaml_like_text(text in "[-a-z0-9:\\[\\]{}&*!|>'\"%@`,?~# \t\n$<.]{0,200}") {
        check(&text);
    }

    #[test]
    fn mutated_valid_files(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..30, "[-a-z0-9:\\[\\]{}&*!|>'\" \t\n$~]{0,8}"),
            1..5,
        ),
        standard in any::<bool>(),
    ) {
        let base = if standard { STANDARD } else { VALID };
        let text = mutate(base, &edits);
        check(&text);
        prop_assert!(!text.is_empty() || base.is_empty() || edits.len() < 5);
    }

    #[test]
    fn truncated_valid_files(at in any::<prop::sample::Index>()) {
        let text: String = STANDARD.chars().take(at.index(STANDARD.len())).collect();
        check(&text);
    }
}
