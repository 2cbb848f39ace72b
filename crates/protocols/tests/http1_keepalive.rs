//! Ordinary keep-alive traffic of a client that waits for its answers: nothing of it is lost for want of evidence.
#![allow(clippy::unwrap_used)]

mod script;

use std::fmt::Write as _;

use script::{client, server};

/// Requests and answers that follow each other at once, with a look at the clock every 20 ms as the agent has it.
fn traffic(count: usize, every: usize, request: &str) -> String {
    let mut lines = String::new();
    let mut ticked = 0;
    for round in 0..count {
        let at = 1000 + round * every;
        writeln!(lines, "read 1 {at} {request}").unwrap();
        let end = at + every / 2;
        writeln!(
            lines,
            r#"write 1 {end} "HTTP/1.1 {} OK\r\nContent-Length: 0\r\n\r\n""#,
            200 + round % 300
        )
        .unwrap();
        if end - ticked > 20_000 {
            ticked = end;
            writeln!(lines, "tick {end}").unwrap();
        }
    }
    lines
}

#[test]
fn an_older_connection_that_is_never_silent_is_told_whatever_its_rate() {
    for every in [50, 200, 1000, 5000] {
        let lines = traffic(4000, every, r#""GET /a HTTP/1.1\r\nHost: x\r\n\r\n""#);
        let outcome = script::run(&format!(
            "open 1 server 10.0.0.1:80 10.0.0.9:4000 preexisting\n{lines}tick 99000000"
        ));
        let told = outcome.lines();
        assert_eq!(told.len(), 4000, "every {every}: {:?}", outcome.dropped());
    }
}

#[test]
fn uploads_whose_chunk_heads_are_not_copied_are_told_whatever_their_rate() {
    let upload = r#""POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" hidden=4000 tail="\r\n0\r\n\r\n""#;
    for every in [50, 200, 1000, 5000] {
        let outcome = server(&format!("{}tick 99000000", traffic(4000, every, upload)));
        let told = outcome.lines();
        assert_eq!(told.len(), 4000, "every {every}: {:?}", outcome.dropped());
    }
}

#[test]
fn line_ends_behind_an_answer_are_none_and_shift_nothing() {
    let lines = |pause: usize| {
        let mut lines = String::new();
        let mut at = 1000;
        for (path, status) in [("/a", 200), ("/b", 404), ("/c", 503)] {
            writeln!(
                lines,
                r#"write 1 {at} "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n""#
            )
            .unwrap();
            at += 500;
            writeln!(
                lines,
                r#"read 1 {at} "HTTP/1.1 {status} OK\r\nContent-Length: 2\r\n\r\nok\r\n""#
            )
            .unwrap();
            at += pause;
            writeln!(lines, "tick {at}").unwrap();
        }
        lines
    };
    for pause in [500, 500_000] {
        let outcome = client(&format!("{}tick 9000000", lines(pause)));
        let told = outcome.lines();
        assert_eq!(told.len(), 3, "{told:?} {:?}", outcome.dropped());
        for (line, status) in told.iter().zip(["200", "404", "503"]) {
            assert!(line.contains(status), "{told:?}");
        }
    }
}
