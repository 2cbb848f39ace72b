//! What is remembered from one exchange to the next changes nothing of what is told.
#![allow(clippy::unwrap_used)]

mod script;

use std::sync::Arc;

use script::{Outcome, Step, client, parse, run, server};
use spandrel_model::{AttributeSet, Ledger};
use spandrel_protocols::{Output, Settings, Tracker};

fn ok(version: &str) -> String {
    format!(r#""HTTP/{version} 200 OK\r\nContent-Length: 0\r\n\r\n""#)
}

fn series(outcome: &Outcome) -> Vec<AttributeSet> {
    let measured = outcome.output.measured.iter();
    measured.map(|one| one.metric_attributes.clone()).collect()
}

/// Each exchange behind all others has the attributes that it has alone.
fn assert_independent(exchanges: &[String], run: impl Fn(&str) -> Outcome) {
    let alone: Vec<_> = exchanges.iter().flat_map(|one| series(&run(one))).collect();
    assert_eq!(alone.len(), exchanges.len());
    for (index, one) in alone.iter().enumerate() {
        assert!(
            !alone[index + 1..].contains(one),
            "two that differ: {one:?}"
        );
    }
    let twice = exchanges.join("").repeat(2);
    assert_eq!(series(&run(&twice)), [&alone[..], &alone[..]].concat());
}

#[test]
fn calls_that_differ_in_one_attribute_are_different_series() {
    let call = |target: &str, host: &str, version: &str, answer: &str| {
        format!(
            "write 1 1000 \"GET {target} HTTP/{version}\\r\\nHost: {host}\\r\\n\\r\\n\"\nread 1 1100 {answer}\n"
        )
    };
    let failed = r#""HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n""#;
    let all = [
        call("/", "shop:81", "1.1", &ok("1.1")),
        call("/", "store:81", "1.1", &ok("1.1")),
        call("/", "shop:82", "1.1", &ok("1.1")),
        call("/", "shop:81", "1.1", failed),
        call("https://shop:81/", "shop:81", "1.1", &ok("1.1")),
        call(
            "/",
            "shop:81",
            "1.1",
            &ok("1.0").replace("OK\\r\\n", "OK\\r\\nConnection: keep-alive\\r\\n"),
        ),
    ];
    assert_independent(&all, client);
}

#[test]
fn served_requests_that_differ_in_one_attribute_are_different_series() {
    let served = |method: &str, path: &str, version: &str| {
        format!(
            "read 1 1000 \"{method} {path} HTTP/1.1\\r\\nHost: shop\\r\\n\\r\\n\"\nwrite 1 1100 {}\n",
            ok(version).replace("OK\\r\\n", "OK\\r\\nConnection: keep-alive\\r\\n")
        )
    };
    let all = [
        served("GET", "/orders", "1.1"),
        served("GET", "/items", "1.1"),
        served("PUT", "/items", "1.1"),
        served("GET", "/items", "1.0"),
    ];
    assert_independent(&all, server);
}

#[test]
fn each_of_thousands_of_servers_that_are_called_has_a_series_of_its_own() {
    let count = 3000;
    let calls: String = (0..count)
        .map(|number| {
            format!(
                "write 1 1000 \"GET / HTTP/1.1\\r\\nHost: h{number}:80\\r\\n\\r\\n\"\nread 1 1100 {}\n",
                ok("1.1")
            )
        })
        .collect();
    let outcome = client(&calls);
    for (number, attributes) in series(&outcome).iter().enumerate() {
        let address = attributes.iter().find(|one| one.key == "server.address");
        let address = address.map(|one| one.value.clone());
        assert_eq!(address, Some(format!("h{number}").into()));
    }
    assert_eq!(outcome.output.measured.len(), count);
}

#[test]
fn an_event_whose_bytes_are_taken_says_the_same_as_one_that_is_kept() {
    let script = format!(
        "open 1 server 10.0.0.1:8080 10.0.0.9:40000
read 1 1000 \"POST /a HTTP/1.1\\r\\nContent-Length: 40\\r\\n\\r\\n\" hidden=40
write 1 1100 {}
close 1 2000
",
        ok("1.1")
    );
    let mut tracker = Tracker::new(Settings::default(), 42, Arc::new(Ledger::default()));
    let mut output = Output::default();
    for step in parse(&script) {
        if let Step::Event(mut event) = step {
            tracker.take(&mut event, &mut output);
        }
    }
    assert_eq!(output.measured, run(&script).output.measured);
    assert_eq!(output.measured.len(), 1);
}
