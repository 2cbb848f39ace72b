//! Which response answers which request, where the number of either is not known.
#![allow(clippy::unwrap_used)]

mod script;

use std::fmt::Write as _;

use script::{Outcome, client, server};

const CUT: &str = r#"read 1 1000 "GET /0 HTTP/1.1\r\nCookie: aaaaaaaaaaa" hidden=8000
write 1 1500 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
"#;

/// Exchanges of a client that waits for each answer and asks again at once, from `at` microseconds on.
fn rounds(count: usize, at: usize) -> String {
    let mut lines = String::new();
    for round in 0..count {
        let at = at + round * 1000;
        writeln!(lines, r#"read 1 {at} "GET /{round} HTTP/1.1\r\n\r\n""#).unwrap();
        let end = at + 500;
        writeln!(lines, r#"write 1 {end} "HTTP/1.1 204 No Content\r\n\r\n""#).unwrap();
        writeln!(lines, "tick {end}").unwrap();
    }
    lines
}

fn dropped(outcome: &Outcome, reason: &str) -> u64 {
    let found = outcome
        .dropped()
        .into_iter()
        .find(|(key, _)| *key == reason);
    found.map_or(0, |(_, count)| count)
}

#[test]
fn a_client_that_always_waits_is_told_although_an_older_connection_is_never_silent() {
    let text = format!(
        "open 1 server 10.0.0.1:80 10.0.0.9:4000 preexisting\n{}",
        rounds(200, 1000)
    );
    // What is told at the end is what 100 ms without a look have left.
    let told = script::run(&text).lines().len();
    assert!(told > 90, "{told} of 200");
}

#[test]
fn behind_a_cut_head_no_number_of_rounds_is_evidence() {
    let outcome = server(&format!("{CUT}{}", rounds(200, 2000)));
    assert_eq!(outcome.lines(), ["Server GET /{id} 200 1000..1500"]);
    let outcome = server(&format!("{CUT}{}close 1 300000", rounds(200, 2000)));
    assert_eq!(outcome.lines().len(), 1);
    assert_eq!(dropped(&outcome, "exchange.pairing_broken"), 200);
}

#[test]
fn rounds_before_a_cut_head_are_evidence() {
    let before = rounds(12, 1000);
    let cut = r#"read 1 20000 "GET /x HTTP/1.1\r\nCookie: aaaaaaaaaaa" hidden=8000
write 1 20500 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
"#;
    let after = rounds(3, 21000);
    let outcome = server(&format!("{before}{cut}{after}tick 140000"));
    assert_eq!(outcome.lines().len(), 16, "{:?}", outcome.dropped());
}

#[test]
fn what_waits_for_silence_is_bounded_and_the_oldest_goes() {
    let outcome = server(&format!("{CUT}{}tick 900000", rounds(200, 2000)));
    let lines = outcome.lines();
    assert_eq!(lines.len(), 1 + 64);
    assert_eq!(lines[64], "Server GET /{id} 204 201000..201500");
    assert_eq!(dropped(&outcome, "exchange.pairing_broken"), 200 - 64);
}

#[test]
fn a_response_too_many_shows_that_rounds_are_no_evidence() {
    let orphan = r#"write 1 3600 "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
"#;
    let lost = "skip 1 read 30\n";
    let outcome = server(&format!(
        "{}{lost}{}{orphan}{}tick 150000",
        rounds(1, 1000),
        rounds(1, 3000),
        rounds(40, 4000),
    ));
    assert_eq!(outcome.lines(), ["Server GET /{id} 204 1000..1500"]);
}

#[test]
fn silence_that_is_no_longer_than_an_answer_took_is_no_evidence() {
    let slow = r#"read 1 2000 "GET /b HTTP/1.1\r\n\r\n"
write 1 302000 "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
tick 552000
"#;
    // The answer to the hidden request was slow, and so is the next one.
    let wrong = r#"write 1 602000 "HTTP/1.1 503 Oops\r\nContent-Length: 0\r\n\r\n"
tick 3000000
"#;
    let outcome = server(&format!("{CUT}{slow}{wrong}"));
    assert_eq!(outcome.lines(), ["Server GET /{id} 200 1000..1500"]);
    let outcome = server(&format!("{CUT}{slow}tick 3000000"));
    assert_eq!(outcome.lines().len(), 2);
}

#[test]
fn an_end_in_order_is_evidence_but_not_behind_a_cut_head() {
    let one = rounds(1, 2000);
    let lost = format!("{}skip 1 read 30\n{one}", rounds(1, 1000));
    assert_eq!(server(&format!("{lost}close 1 3000")).lines().len(), 2);
    assert_eq!(
        server(&format!("{lost}close 1 3000 reset")).lines().len(),
        1
    );
    assert_eq!(server(&format!("{CUT}{one}close 1 3000")).lines().len(), 1);
}

#[test]
fn a_response_without_the_body_that_its_request_would_have_had_is_another_ones() {
    // The hidden request was HEAD.
    for framing in ["Content-Length: 500", "Transfer-Encoding: chunked"] {
        let outcome = server(&format!(
            r#"{CUT}read 1 1600 "GET /a HTTP/1.1\r\n\r\n"
write 1 1700 "HTTP/1.1 204 No Content\r\n\r\n"
read 1 2000 "GET /b HTTP/1.1\r\n\r\nGET /d HTTP/1.1\r\n\r\n"
write 1 2500 "HTTP/1.1 404 No\r\n{framing}\r\n\r\n"
write 1 2600 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
tick 6000000
read 1 6000000 "GET /c HTTP/1.1\r\n\r\n"
write 1 6001000 "HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n"
tick 12000000
"#
        ));
        // The client pipelines: that all is quiet does not show that its last request was answered.
        assert_eq!(
            outcome.lines(),
            [
                "Server GET /{id} 200 1000..1500",
                "Server GET /c 202 6000000..6001000"
            ],
            "{framing}"
        );
    }
}

#[test]
fn the_end_of_a_body_is_not_put_together_across_bytes_that_are_not_known() {
    let outcome = client(
        r#"
write 1 1000 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
read 1 2000 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" hidden=5000 tail="b\r\n0"
read 1 3000 "" hidden=100 tail="\r\n\r\n"
tick 300000
read 1 400000 "abc\r\n0\r\n\r\n"
tick 700000
"#,
    );
    assert_eq!(outcome.lines(), ["Client GET 200 1000..400000"]);
}

#[test]
fn the_body_of_an_answer_to_an_unknown_request_may_be_another_answer() {
    // The hidden request was HEAD, and what is taken for its body answers the next one.
    let outcome = client(
        r#"
write 1 1000 "" hidden=30
read 1 1500 "HTTP/1.1 503 Oops\r\nContent-Length: 34\r\n\r\n"
write 1 2000 "GET /a HTTP/1.1\r\n" hidden=11
read 1 2500 "" hidden=30 tail="\r\n\r\n"
write 1 3000 "" hidden=29
read 1 3500 "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
tick 500000
close 1 500000
"#,
    );
    assert!(outcome.lines().is_empty(), "{:?}", outcome.lines());
}

#[test]
fn on_an_older_connection_silence_behind_a_cut_answer_is_no_evidence() {
    // Both answers are under way; that to `/a` is among what is not copied behind the head of the other.
    let outcome = script::run(
        r#"
open 1 client 10.0.0.1:80 10.0.0.9:4000 preexisting
write 1 1000 "GET /a HTTP/1.1\r\n\r\n"
read 1 2000 "HTTP/1.1 503 Oops\r\n" hidden=60
tick 500000
close 1 500000
"#,
    );
    assert!(outcome.lines().is_empty(), "{:?}", outcome.lines());
}

#[test]
fn an_answer_before_the_end_of_its_requests_head_is_not_followed_by_answers_of_others() {
    // The server leaves the last byte of the head unread, answers, and reads that byte together with the next request.
    let early = r#"read 1 1000 "DELETE /a HTTP/1.1\r\nHost: x\r\n\r"
write 1 1500 "HTTP/1.1 204 No Content\r\n\r\n"
tick 200000
read 1 201000 "\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
write 1 202000 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
close 1 203000
"#;
    let outcome = server(early);
    assert_eq!(outcome.lines(), ["Server POST /b 200 201000..202000"]);
    assert_eq!(dropped(&outcome, "exchange.no_request"), 1);
    assert_eq!(dropped(&outcome, "exchange.pairing_broken"), 1);
}

#[test]
fn the_request_that_was_answered_before_it_was_read_gets_no_other_answer() {
    let next = r#"read 1 301000 "GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
write 1 302000 "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
close 1 303000
"#;
    // Read at once, and after everything until the answer had been reported.
    for read in [1600, 201_000] {
        let early = format!(
            r#"write 1 1500 "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
tick {}
read 1 {read} "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
"#,
            read - 1
        );
        let outcome = server(&format!("{early}{next}"));
        assert_eq!(outcome.lines(), ["Server GET 404 301000..302000"], "{read}");
        assert_eq!(outcome.dropped().len(), 2, "{:?}", outcome.dropped());
        let outcome = server(&format!("{early}close 1 290000"));
        assert!(outcome.lines().is_empty(), "{:?}", outcome.lines());
        assert_eq!(dropped(&outcome, "exchange.pairing_broken"), 1, "{read}");
    }
}
