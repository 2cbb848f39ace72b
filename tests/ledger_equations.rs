//! The check that every whole-agent test ends with can itself fail.
#![allow(clippy::expect_used)]

mod support;

use support::ledger::Ledger;

const CLOSED: &str = r#"{
    "messages": {"seen": 10, "delivered": 7, "dropped": {"kernel.ring_full": 2, "handover.full": 1}},
    "exchanges": {"seen": 3, "completed": 3, "dropped": {}},
    "spans": {"made": 5, "exported": 3, "in_flight": 1, "dropped": {"queue.full": 1}},
    "metric_points": {"made": 0, "exported": 0, "in_flight": 0, "dropped": {}}
}"#;

fn ledger(text: &str) -> Ledger {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.json");
    std::fs::write(&path, text).expect("write it");
    Ledger::read(&path)
}

#[test]
fn a_ledger_whose_numbers_add_up_is_closed() {
    let ledger = ledger(CLOSED);
    ledger.assert_closed();
    assert_eq!(ledger.count("messages", "dropped"), 3);
    assert_eq!(ledger.dropped("messages", "kernel.ring_full"), 2);
    assert_eq!(ledger.dropped("messages", "kernel.unheard_of"), 0);
}

#[test]
#[should_panic(expected = "spans do not add up")]
fn a_span_without_an_end_is_noticed() {
    ledger(&CLOSED.replace("\"made\": 5", "\"made\": 6")).assert_closed();
}

#[test]
#[should_panic(expected = "messages do not add up")]
fn a_message_that_is_counted_twice_is_noticed() {
    ledger(&CLOSED.replace("\"delivered\": 7", "\"delivered\": 8")).assert_closed();
}

#[test]
#[should_panic(expected = "no exchanges")]
fn a_missing_account_is_noticed() {
    ledger(&CLOSED.replace("exchanges", "others")).assert_closed();
}
