//! The agent's ledger as a test reads it.

use std::path::Path;

use serde_json::{Map, Value};

/// Each account and the name of what came in.
const ACCOUNTS: [(&str, &str); 4] = [
    ("messages", "seen"),
    ("exchanges", "seen"),
    ("spans", "made"),
    ("metric_points", "made"),
];

/// What `--ledger FILE` wrote.
#[derive(Debug)]
pub(crate) struct Ledger(Value);

impl Ledger {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("no ledger at {}: {error}", path.display()));
        Self(serde_json::from_str(&text).expect("the ledger is one JSON object"))
    }

    /// Asserts the four equations: what came in is the sum of everything else, whatever that is called.
    pub(crate) fn assert_closed(&self) {
        for (account, first) in ACCOUNTS {
            let object = self.account(account);
            let seen = object
                .get(first)
                .and_then(Value::as_u64)
                .unwrap_or_else(|| panic!("no {account}.{first} in {}", self.0));
            let rest: u64 = object
                .iter()
                .filter(|(key, _)| *key != first)
                .map(|(_, value)| sum(value))
                .sum();
            assert_eq!(seen, rest, "{account} do not add up: {}", self.0);
        }
        if self.0.get("measurements").is_some() {
            let count = |key| self.count("measurements", key);
            let rest = count("aggregated") + count("dropped");
            assert_eq!(
                count("seen"),
                rest,
                "measurements do not add up: {}",
                self.0
            );
        }
    }

    /// A number, for example `count("spans", "exported")`; 0 where it is not named.
    pub(crate) fn count(&self, account: &str, key: &str) -> u64 {
        self.account(account).get(key).map_or(0, sum)
    }

    /// How many were dropped for a reason; 0 where it is not named.
    pub(crate) fn dropped(&self, account: &str, reason: &str) -> u64 {
        self.account(account)
            .get("dropped")
            .and_then(|dropped| dropped.get(reason))
            .map_or(0, sum)
    }

    fn account(&self, name: &str) -> &Map<String, Value> {
        self.0
            .get(name)
            .and_then(Value::as_object)
            .unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }
}

fn sum(value: &Value) -> u64 {
    match value {
        Value::Object(members) => members.values().map(sum).sum(),
        other => other
            .as_u64()
            .unwrap_or_else(|| panic!("{other} is not a count")),
    }
}
