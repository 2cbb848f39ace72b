//! HTTP/1 bodies of which bytes are lost: what the place behind them is, and where it is not known any more.
#![allow(clippy::unwrap_used)]

mod script;

use script::server;

/// The statuses that were told.
fn statuses(outcome: &script::Outcome) -> Vec<String> {
    let told = 0..outcome.output.measured.len();
    let status = |at| outcome.attribute(at, "http.response.status_code");
    told.filter_map(status).collect()
}

#[test]
fn bytes_lost_in_the_body_of_a_request_hide_no_request_behind_it() {
    let sixty = "x".repeat(60);
    for (field, before, behind) in [
        ("Content-Length: 100", "", sixty.clone()),
        (
            "Transfer-Encoding: chunked",
            "64\\r\\n",
            format!("{sixty}\\r\\n0\\r\\n\\r\\n"),
        ),
    ] {
        let outcome = server(&format!(
            r#"
read 1 1000 "POST /a HTTP/1.1\r\n{field}\r\n\r\n{before}"
skip 1 read 40
read 1 2000 "{behind}GET /b HTTP/1.1\r\n\r\n"
tick 3000000
write 1 3001000 "HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n"
write 1 3002000 "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
tick 9000000
"#
        ));
        assert_eq!(
            statuses(&outcome),
            ["201", "404"],
            "{field}: {:?}",
            outcome.dropped()
        );
        assert_eq!(outcome.ledger.unsearched(), (0, 0));
    }
}

#[test]
fn bytes_lost_in_the_body_of_an_answer_shift_no_answer_behind_it() {
    let sixty = "x".repeat(60);
    for (field, before, behind) in [
        ("Content-Length: 100", "", sixty.clone()),
        (
            "Transfer-Encoding: chunked",
            "64\\r\\n",
            format!("{sixty}\\r\\n0\\r\\n\\r\\n"),
        ),
    ] {
        let outcome = server(&format!(
            r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\n{field}\r\n\r\n{before}"
skip 1 write 40
write 1 3000 "{behind}HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
tick 9000000
"#
        ));
        assert_eq!(
            statuses(&outcome),
            ["200", "404"],
            "{field}: {:?}",
            outcome.dropped()
        );
        assert_eq!(outcome.ledger.unsearched(), (0, 0));
    }
}

#[test]
fn an_answer_lost_with_the_end_of_the_one_before_is_nobody_elses() {
    for (field, before) in [
        ("Content-Length: 100", ""),
        ("Transfer-Encoding: chunked", "64\\r\\n"),
    ] {
        let outcome = server(&format!(
            r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\n{field}\r\n\r\n{before}"
skip 1 write 138
write 1 3000 "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
tick 9000000
"#
        ));
        assert!(
            statuses(&outcome).iter().all(|status| status != "404"),
            "{:?}",
            outcome.lines()
        );
        assert_eq!(outcome.ledger.unsearched().0, 138, "{field}");
    }
}

#[test]
fn the_end_of_a_body_that_is_lost_with_it_leaves_the_next_answer_in_its_place() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
skip 1 write 100
read 1 3000 "GET /b HTTP/1.1\r\n\r\n"
write 1 4000 "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
tick 9000000
"#,
    );
    assert_eq!(statuses(&outcome), ["404"], "{:?}", outcome.dropped());
}

#[test]
fn bytes_lost_in_a_tunnel_do_not_lead_out_of_it() {
    for lost in ["read", "write"] {
        let outcome = server(&format!(
            r#"
read 1 1000 "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
write 1 2000 "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
skip 1 {lost} 10
read 1 3000 "GET /phantom HTTP/1.1\r\nHost: x\r\n\r\n"
write 1 4000 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
tick 9000000
"#
        ));
        assert_eq!(statuses(&outcome), ["101"], "{:?}", outcome.lines());
        assert_eq!(outcome.dropped(), []);
        assert_eq!(outcome.ledger.unsearched(), (0, 0));
    }
}

#[test]
fn what_a_client_sends_behind_an_upgrade_waits_for_the_answer() {
    // The answer decides whether it is a request.
    for (answer, expected) in [
        ("101 Switching Protocols", vec!["101"]),
        ("200 OK", vec!["200", "404"]),
    ] {
        let outcome = server(&format!(
            r#"
read 1 1000 "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /next HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n"
write 1 3000 "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
tick 9000000
"#
        ));
        assert_eq!(statuses(&outcome), expected, "{:?}", outcome.dropped());
    }
}

#[test]
fn a_close_delimited_answer_whose_last_bytes_are_missing_is_not_told_as_whole() {
    let answer = |lost: &str, end: &str| {
        server(&format!(
            r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.0 200 OK\r\n\r\nabc"
{lost}
{end}
tick 9000000
"#
        ))
    };
    let whole = answer("", "close 1 3000");
    assert_eq!(whole.lines(), ["Server GET /a 200 1000..2000"]);
    let cut = answer("", "close 1 3000 reset");
    assert!(
        cut.lines()[0].contains("connection_reset"),
        "{:?}",
        cut.lines()
    );
    let missing = answer("skip 1 write 10", "close 1 3000");
    assert_eq!(missing.lines(), [""; 0]);
    assert_eq!(missing.dropped(), [("exchange.lost_bytes", 1)]);
    // In the middle of it nothing but bytes is missing.
    let within = answer(
        "skip 1 write 10\nwrite 1 2500 \"xyz\"\ntick 2900000",
        "close 1 3000000",
    );
    assert_eq!(within.lines(), ["Server GET /a 200 1000..2500"]);
}
