//! HTTP/1 by cases: each sentence of the list in docs/protocols/http.md that can be got wrong.

mod script;

use script::{client, run, server};
use spandrel_model::{CapturePolicy, SpanStatus};

#[test]
fn a_request_that_is_read_makes_a_server_span_and_one_that_is_written_a_client_span() {
    let request = r#""GET /a HTTP/1.1\r\nHost: shop\r\n\r\n""#;
    let response = r#""HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok""#;
    let lines = format!("read 1 1000 {request}\nwrite 1 3000 {response}");
    assert_eq!(server(&lines).lines(), ["Server GET /a 200 1000..3000"]);
    let lines = format!("write 1 1000 {request} started=900\nread 1 3000 {response}");
    assert_eq!(client(&lines).lines(), ["Client GET 200 900..3000"]);
}

#[test]
fn keep_alive_gives_one_span_per_exchange() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
read 1 3000 "POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
write 1 4000 "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server GET /a 200 1000..2000",
            "Server POST /b 201 3000..4000"
        ]
    );
    assert_eq!(outcome.attribute(1, "http.request.body.size").unwrap(), "3");
    assert_eq!(
        outcome.attribute(0, "http.response.body.size").unwrap(),
        "2"
    );
}

#[test]
fn pipelined_requests_are_answered_in_their_order_and_ask_for_no_more_bytes() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
write 1 3000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server GET /a 200 1000..2000",
            "Server GET 404 1000..2000",
            "Server GET /c 204 1000..3000"
        ]
    );
    assert!(matches!(
        outcome.output.policies.last(),
        Some((_, CapturePolicy::Headers))
    ));
}

#[test]
fn more_bytes_are_asked_for_where_the_kernel_side_does_not_follow_heads() {
    let asks = |request: &str, answer: &str| {
        let outcome = server(&format!(
            "read 1 1000 \"GET /a HTTP/1.1\\r\\n\\r\\n{request}\nwrite 1 2000 \"HTTP/1.1 200 OK\\r\\n{answer}\n"
        ));
        let policies = &outcome.output.policies;
        policies.last().map(|(_, policy)| *policy) == Some(CapturePolicy::Full(8192))
    };
    let chunks = r#"Transfer-Encoding: chunked\r\n\r\n10\r\n" hidden=5000"#;
    let next = r#"GET /b HTTP/1.1\r\n\r\n""#;
    assert!(asks(next, chunks), "an answer may stand behind the chunks");
    assert!(!asks("\"", chunks), "there is no other answer");
    let cut = r#"Set-Cookie: a" hidden=5000"#;
    assert!(asks("\"", cut));
    let bound = r#"Set-Cookie: a" hidden=5000 head_cut=1"#;
    assert!(!asks("\"", bound), "more is never copied of a head");
}

#[test]
fn a_chunked_body_with_trailers_ends_where_the_trailers_end() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nabcd\r\n"
write 1 3000 "2\r\nef\r\n0\r\nExpires: never\r\n"
write 1 4000 "\r\n"
read 1 5000 "GET /b HTTP/1.1\r\n\r\n"
write 1 6000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server GET /a 200 1000..4000",
            "Server GET /b 204 5000..6000"
        ]
    );
    assert_eq!(
        outcome.attribute(0, "http.response.body.size").unwrap(),
        "6"
    );
}

#[test]
fn responses_without_a_body_end_with_their_head() {
    let outcome = server(
        r#"
read 1 1000 "HEAD /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
read 1 3000 "GET /a HTTP/1.1\r\n\r\n"
write 1 4000 "HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n"
read 1 5000 "DELETE /a HTTP/1.1\r\n\r\n"
write 1 6000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server HEAD /a 200 1000..2000",
            "Server GET /a 304 3000..4000",
            "Server DELETE /a 204 5000..6000"
        ]
    );
}

#[test]
fn interim_responses_are_not_the_answer() {
    let outcome = server(
        r#"
read 1 1000 "PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
write 1 2000 "HTTP/1.1 100 Continue\r\n\r\n"
read 1 3000 "abcd"
write 1 4000 "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
"#,
    );
    assert_eq!(outcome.lines(), ["Server PUT /a 200 1000..4000"]);
    assert_eq!(outcome.attribute(0, "http.request.body.size").unwrap(), "4");
}

#[test]
fn a_body_withheld_after_a_refused_expectation_is_not_waited_for() {
    let outcome = server(
        r#"
read 1 1000 "PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4000\r\n\r\n"
write 1 2000 "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"
read 1 3000 "GET /b HTTP/1.1\r\n\r\n"
write 1 4000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        ["Server PUT 417 1000..2000", "Server GET /b 204 3000..4000"]
    );
}

#[test]
fn after_connect_and_upgrade_the_bytes_are_not_parsed() {
    for (request, response, line) in [
        (
            "CONNECT db:5432 HTTP/1.1\\r\\nHost: db:5432\\r\\n\\r\\n",
            "HTTP/1.1 200 Established\\r\\n\\r\\n",
            "Server CONNECT 200 1000..2000",
        ),
        (
            "GET /ws HTTP/1.1\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n",
            "HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\n\\r\\n",
            "Server GET /ws 101 1000..2000",
        ),
    ] {
        let outcome = server(&format!(
            "read 1 1000 \"{request}\"\nwrite 1 2000 \"{response}\"\n\
             read 1 3000 \"GET /no HTTP/1.1\\r\\n\\r\\n\"\nwrite 1 4000 \"\\x81\\x00\""
        ));
        assert_eq!(outcome.lines(), [line]);
        assert!(outcome.dropped().is_empty());
        assert!(matches!(
            outcome.output.policies.last(),
            Some((_, CapturePolicy::Ignore))
        ));
    }
}

#[test]
fn a_refused_upgrade_leaves_the_connection_to_http() {
    let outcome = server(
        r#"
read 1 1000 "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
read 1 1500 "GET /b HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"
write 1 3000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        ["Server GET 400 1000..2000", "Server GET /b 204 1500..3000"]
    );
}

#[test]
fn an_absolute_target_names_the_server() {
    let outcome = client(
        r#"
write 1 1000 "GET http://user:pw@[2001:db8::1]/p?q=1 HTTP/1.1\r\nHost: other\r\n\r\n"
read 1 2000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    let attribute = |key| outcome.attribute(0, key).unwrap();
    assert_eq!(attribute("url.full"), "http://[2001:db8::1]/p?q=REDACTED");
    assert_eq!(attribute("server.address"), "2001:db8::1");
    assert_eq!(attribute("server.port"), "80");
    assert_eq!(attribute("network.peer.address"), "10.0.0.1");
}

#[test]
fn a_head_with_folded_fields_is_rejected_but_its_request_line_counts() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\nX: a\r\n b\r\nUser-Agent: folded\r\n\r\n"
write 1 2000 "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
read 1 3000 "GET /b HTTP/1.1\r\n\r\n"
write 1 4000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        ["Server GET 400 1000..2000", "Server GET /b 204 3000..4000"]
    );
    assert_eq!(outcome.attribute(0, "user_agent.original"), None);
}

#[test]
fn equal_content_lengths_count_once_and_conflicting_ones_not_at_all() {
    let outcome = server(
        r#"
read 1 1000 "POST /a HTTP/1.1\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\nabc"
write 1 2000 "HTTP/1.1 204 No Content\r\n\r\n"
read 1 3000 "POST /b HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"
write 1 4000 "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"
read 1 5000 "POST /c HTTP/1.1\r\nContent-Length: -1\r\n\r\n"
write 1 6000 "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"
tick 300000
"#,
    );
    let sizes = [0, 1, 2].map(|index| outcome.attribute(index, "http.request.body.size"));
    assert_eq!(sizes, [Some("3".to_owned()), None, None]);
}

#[test]
fn transfer_encoding_overrides_content_length() {
    let outcome = server(
        r#"
read 1 1000 "POST /a HTTP/1.1\r\nContent-Length: 100\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
write 1 2000 "HTTP/1.1 204 No Content\r\n\r\n"
read 1 3000 "GET /b HTTP/1.1\r\n\r\n"
write 1 4000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server POST /a 204 1000..2000",
            "Server GET /b 204 3000..4000"
        ]
    );
    assert_eq!(outcome.attribute(0, "http.request.body.size").unwrap(), "2");
}

#[test]
fn bodies_that_are_not_copied_are_passed_over_by_their_length() {
    let outcome = server(
        r#"
read 1 1000 "POST /up HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" hidden=500000
read 1 1500 "xx" hidden=499998
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" hidden=1000
write 1 3000 "" hidden=968 tail="-------the last bytes of it-----"
read 1 4000 "GET /b HTTP/1.1\r\n\r\n"
write 1 5000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server POST /up 200 1000..3000",
            "Server GET /b 204 4000..5000"
        ]
    );
    assert_eq!(
        outcome.attribute(0, "http.request.body.size").unwrap(),
        "1000000"
    );
}

#[test]
fn a_chunked_body_whose_chunk_heads_are_not_copied_ends_with_the_last_chunk_in_a_tail() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" hidden=5000 tail="abc"
write 1 3000 "zzzz" hidden=900 tail="abc\r\n0\r\n\r\n"
tick 200000
write 1 300000 "late"
tick 500000
read 1 600000 "GET /b HTTP/1.1\r\n\r\n"
write 1 700000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server GET /a 200 1000..3000",
            "Server GET /b 204 600000..700000"
        ]
    );
}

#[test]
fn a_likely_end_of_a_body_is_revised_by_more_of_the_body() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" hidden=5000 tail="\r\n0\r\n\r\n"
write 1 3000 "zzzz" hidden=900 tail="abc\r\n0\r\n\r\n"
read 1 4000 "GET /b HTTP/1.1\r\n\r\n"
write 1 5000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server GET /a 200 1000..3000",
            "Server GET /b 204 4000..5000"
        ]
    );
}

#[test]
fn a_body_delimited_by_the_close_ends_with_its_last_byte() {
    let outcome = client(
        r#"
write 1 1000 "GET / HTTP/1.0\r\n\r\n"
read 1 2000 "HTTP/1.0 200 OK\r\n\r\nabc"
shut 1 read 2500
read 1 3000 "def"
close 1 9000
"#,
    );
    assert_eq!(outcome.lines(), ["Client GET 200 1000..3000"]);
    assert_eq!(
        outcome.attribute(0, "http.response.body.size").unwrap(),
        "6"
    );
    assert_eq!(
        outcome.attribute(0, "network.protocol.version").unwrap(),
        "1.0"
    );
}

#[test]
fn a_close_before_the_response_is_an_error_without_a_status() {
    for (close, error) in [
        ("close 1 5000", "connection_closed"),
        ("close 1 5000 reset", "connection_reset"),
    ] {
        let outcome = server(&format!(
            "read 1 1000 \"GET /a HTTP/1.1\\r\\n\\r\\n\"\n{close}"
        ));
        assert_eq!(outcome.lines(), [format!("Server GET {error} 1000..5000")]);
        assert!(matches!(
            outcome.output.measured[0].span.status,
            SpanStatus::Error(_)
        ));
    }
}

#[test]
fn a_close_in_the_middle_of_the_response_keeps_the_status() {
    let outcome = client(
        r#"
write 1 1000 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
read 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"
close 1 5000 reset
"#,
    );
    assert_eq!(
        outcome.lines(),
        ["Client GET 200 connection_reset 1000..5000"]
    );
    assert_eq!(outcome.attribute(0, "http.response.body.size"), None);
}

#[test]
fn a_response_whose_end_was_lost_is_counted_and_not_made_up() {
    let outcome = client(
        r#"
write 1 1000 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
read 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"
skip 1 read 97
close 1 5000
"#,
    );
    assert!(outcome.lines().is_empty());
    assert_eq!(outcome.dropped(), [("exchange.lost_bytes", 1)]);
}

#[test]
fn a_request_without_an_answer_at_the_end_of_input_is_unfinished() {
    let outcome = server(r#"read 1 1000 "GET /a HTTP/1.1\r\n\r\n""#);
    assert!(outcome.lines().is_empty());
    assert_eq!(outcome.dropped(), [("exchange.unfinished", 1)]);
}

#[test]
fn a_response_without_a_request_is_counted() {
    let outcome = server(
        r#"
write 1 1000 "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
close 1 2000
"#,
    );
    assert!(outcome.lines().is_empty());
    assert_eq!(outcome.dropped(), [("exchange.no_request", 1)]);
}

#[test]
fn a_connection_found_in_the_middle_is_followed_from_its_next_request() {
    let outcome = run(r#"
open 1 client 10.0.0.9:40000 10.0.0.1:8080 preexisting
read 1 1000 "rest of a body that was there before"
read 1 2000 "more of it"
write 1 3000 "GET /b HTTP/1.1\r\nHost: x\r\n\r\n" started=2900
read 1 4000 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
tick 200000
write 1 300000 "GET /c HTTP/1.1\r\nHost: x\r\n\r\n" started=299900
read 1 400000 "HTTP/1.1 204 No Content\r\n\r\n"
"#);
    assert_eq!(
        outcome.lines(),
        ["Client GET 200 2900..4000", "Client GET 204 299900..400000"]
    );
}

#[test]
fn an_answer_to_a_request_from_before_is_not_given_to_the_next_request() {
    let outcome = run(r#"
open 1 client 10.0.0.9:40000 10.0.0.1:8080 preexisting
read 1 1000 "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
write 1 3000 "GET /b HTTP/1.1\r\nHost: x\r\n\r\n" started=2900
read 1 4000 "HTTP/1.1 204 No Content\r\n\r\n"
tick 300000
"#);
    assert_eq!(outcome.lines(), ["Client GET 204 2900..4000"]);
    assert_eq!(outcome.dropped(), [("exchange.no_request", 1)]);
}

#[test]
fn lost_messages_do_not_shift_answers_to_other_requests() {
    // The answer to /a and the whole of /b are lost: 201 may belong to either. 202 belongs to /c for certain.
    let outcome = client(
        r#"
write 1 1000 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
skip 1 read 60
skip 1 write 30
read 1 2500 "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
tick 200000
write 1 300000 "GET /c HTTP/1.1\r\nHost: x\r\n\r\n"
read 1 310000 "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
tick 600000
"#,
    );
    assert_eq!(outcome.lines(), ["Client GET 202 300000..310000"]);
    assert_eq!(
        outcome.dropped(),
        [("exchange.no_request", 1), ("exchange.pairing_broken", 1)]
    );
}

#[test]
fn the_end_of_a_send_may_be_reported_after_the_answer() {
    let write = r#"write 1 2100 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n" started=1000"#;
    let read = r#"read 1 2000 "HTTP/1.1 204 No Content\r\n\r\n""#;
    let after = client(&format!("{read}\n{write}"));
    let before = client(&format!("{write}\n{read}"));
    assert_eq!(after.lines(), ["Client GET 204 1000..2000"]);
    assert_eq!(after.output.measured, before.output.measured);
}

#[test]
fn a_request_head_longer_than_the_copy_still_makes_an_exchange() {
    let outcome = server(
        r#"
read 1 1000 "GET /a?x=1 HTTP/1.1\r\nHost: shop\r\nCookie: aaaaaaa" hidden=3000 tail="bbb\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
read 1 3000 "GET /b HTTP/1.1\r\n\r\n"
write 1 4000 "HTTP/1.1 204 No Content\r\n\r\n"
tick 300000
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server GET /a 200 1000..2000",
            "Server GET /b 204 3000..4000"
        ]
    );
    assert_eq!(outcome.attribute(0, "server.address").unwrap(), "shop");
    assert_eq!(outcome.attribute(0, "http.request.body.size"), None);
}

#[test]
fn a_response_head_longer_than_the_copy_ends_before_the_next_response() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nSet-Cookie: aaaaaaa" hidden=3000
write 1 2500 "body" hidden=3000
read 1 3000 "GET /b HTTP/1.1\r\n\r\n"
write 1 4000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server GET /a 200 1000..2500",
            "Server GET /b 204 3000..4000"
        ]
    );
}

#[test]
fn unknown_methods_are_other_and_known_ones_are_themselves() {
    for method in ["PATCH", "OPTIONS", "QUERY", "TRACE"] {
        let outcome = server(&format!(
            "read 1 1000 \"{method} /a HTTP/1.1\\r\\n\\r\\n\"\nwrite 1 2000 \"HTTP/1.1 204 No Content\\r\\n\\r\\n\""
        ));
        assert_eq!(
            outcome.lines(),
            [format!("Server {method} /a 204 1000..2000")]
        );
    }
    let outcome = client(
        r#"
write 1 1000 "PURGE /a HTTP/1.1\r\nHost: x\r\n\r\n"
read 1 2000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(outcome.lines(), ["Client HTTP 204 1000..2000"]);
    assert_eq!(
        outcome.attribute(0, "http.request.method").unwrap(),
        "_OTHER"
    );
    assert_eq!(
        outcome
            .attribute(0, "http.request.method_original")
            .unwrap(),
        "PURGE"
    );
}

#[test]
fn four_hundreds_are_errors_for_clients_only() {
    let request = r#""GET /a HTTP/1.1\r\nHost: x\r\n\r\n""#;
    let response = r#""HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n""#;
    let seen = server(&format!("read 1 1000 {request}\nwrite 1 2000 {response}"));
    assert_eq!(seen.output.measured[0].span.status, SpanStatus::Unset);
    assert_eq!(seen.attribute(0, "error.type"), None);
    assert_eq!(seen.attribute(0, "http.route"), None);
    let made = client(&format!("write 1 1000 {request}\nread 1 2000 {response}"));
    assert!(matches!(
        made.output.measured[0].span.status,
        SpanStatus::Error(_)
    ));
    assert_eq!(made.attribute(0, "error.type").unwrap(), "404");
}

#[test]
fn nobody_is_taken_for_the_agent_by_its_user_agent() {
    let outcome = client(
        r#"
write 1 1000 "POST /v1/traces HTTP/1.1\r\nUser-Agent: spandrel/0.1\r\nContent-Length: 0\r\n\r\n"
read 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
"#,
    );
    assert_eq!(outcome.lines().len(), 1);
    assert_eq!(outcome.dropped(), []);
}

#[test]
fn both_ends_of_a_loopback_connection_share_a_trace() {
    let outcome = run(r#"
open 1 client 127.0.0.1:40000 127.0.0.1:80
open 2 server 127.0.0.1:80 127.0.0.1:40000
write 1 1000 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
read 2 1100 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
write 2 1900 "HTTP/1.1 204 No Content\r\n\r\n"
read 1 2000 "HTTP/1.1 204 No Content\r\n\r\n"
"#);
    let [server, client] = &outcome.output.measured[..] else {
        panic!("{:?}", outcome.lines());
    };
    assert_eq!(server.span.trace_id, client.span.trace_id);
    assert_eq!(server.span.parent_span_id, Some(client.span.span_id));
    assert_eq!(client.span.parent_span_id, None);
    assert!(client.span.trace_begun_here && server.span.trace_begun_here);
}

#[test]
fn a_trace_that_came_with_the_request_was_not_begun_here() {
    let outcome = run(r#"
open 1 server 127.0.0.1:80 127.0.0.1:40000
read 1 1000 "GET /a HTTP/1.1\r\nHost: x\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
write 1 1900 "HTTP/1.1 204 No Content\r\n\r\n"
"#);
    let [server] = &outcome.output.measured[..] else {
        panic!("{:?}", outcome.lines());
    };
    assert!(server.span.parent_span_id.is_some() && !server.span.trace_begun_here);
}

#[test]
fn other_protocols_are_ignored_and_their_messages_counted() {
    let outcome = run(r#"
open 1 server 10.0.0.1:5432 10.0.0.9:40000
read 1 1000 "\x00\x00\x00\x08\x04\xd2\x16\x2f"
write 1 1100 "N"
read 1 1200 "\x00\x00\x00\x09\x00\x03\x00\x00"
write 1 1300 "R\x00\x00\x00\x08"
read 1 1400 "Q\x00\x00\x00\x08"
read 1 1500 "Q\x00\x00\x00\x08"
read 1 1600 "Q\x00\x00\x00\x08"
"#);
    assert!(outcome.lines().is_empty());
    assert!(matches!(
        outcome.output.policies[..],
        [(_, CapturePolicy::Ignore)]
    ));
    assert!(outcome.ledger.messages.snapshot().dropped["stream.ignored"] == 1);
}

#[test]
fn queue_time_round_trip_and_retransmits_are_told() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n" arrived=400 srtt=250 retransmits=3
write 1 2000 "HTTP/1.1 204 No Content\r\n\r\n" srtt=300 retransmits=5
"#,
    );
    assert_eq!(
        outcome.attribute(0, "spandrel.queue.duration").unwrap(),
        "0.0006"
    );
    assert_eq!(outcome.attribute(0, "spandrel.tcp.rtt").unwrap(), "0.0003");
    assert_eq!(
        outcome.attribute(0, "spandrel.tcp.retransmits").unwrap(),
        "2"
    );
}

#[test]
fn a_proxy_protocol_header_before_the_first_request_is_passed_over() {
    for header in [
        r"PROXY TCP4 192.0.2.1 10.0.0.1 5555 80\r\n",
        r"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\x0a\x00\x00\x01\x15\xb3\x00\x50",
    ] {
        for separate in ["", "\"\nread 1 1000 \""] {
            let outcome = server(&format!(
                "read 1 1000 \"{header}{separate}GET /a HTTP/1.1\\r\\n\\r\\n\"\n\
                 write 1 2000 \"HTTP/1.1 204 No Content\\r\\n\\r\\n\""
            ));
            assert_eq!(
                outcome.lines(),
                ["Server GET /a 204 1000..2000"],
                "{header}"
            );
        }
    }
}

#[test]
fn a_close_delimited_body_that_was_shut_is_whole_although_the_peer_resets() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.0\r\n\r\n"
write 1 2000 "HTTP/1.0 200 OK\r\n\r\nabc"
shut 1 write 2100
close 1 2200 reset
"#,
    );
    assert_eq!(outcome.lines(), ["Server GET /a 200 1000..2000"]);
}

#[test]
fn a_close_delimited_body_that_was_shut_is_told_before_the_connection_is_gone() {
    let steps = r#"
read 1 1000 "GET /a HTTP/1.0\r\n\r\n"
write 1 2000 "HTTP/1.0 200 OK\r\n\r\nabc"
shut 1 write 2100
tick 200000
"#;
    assert_eq!(server(steps).lines(), ["Server GET /a 200 1000..2000"]);
}

#[test]
fn a_close_that_is_reported_before_the_last_bytes_waits_for_them() {
    let mut steps = script::parse(
        r#"
open 1 client 10.0.0.9:40000 10.0.0.1:80
write 1 1000 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
read 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
read 1 2500 "ok"
close 1 3000
"#,
    );
    let last = steps.len() - 1;
    steps.swap(last - 1, last);
    let outcome = script::run_steps(&steps, spandrel_protocols::Settings::default());
    assert_eq!(outcome.lines(), ["Client GET 200 1000..2500"]);
}

#[test]
fn a_peer_of_unknown_address_is_left_out_and_not_guessed() {
    let outcome = run(r#"
write 7 1000 "GET /a HTTP/1.1\r\n\r\n"
read 7 2000 "HTTP/1.1 204 No Content\r\n\r\n"
tick 300000
"#);
    assert_eq!(outcome.lines(), ["Client GET 204 1000..2000"]);
    for key in ["server.address", "network.peer.address", "url.full"] {
        assert_eq!(outcome.attribute(0, key), None, "{key}");
    }
}

#[test]
fn a_unix_socket_is_named_by_its_path() {
    let outcome = run(r#"
open 1 client /run/client.sock /run/app.sock
write 1 1000 "GET /a HTTP/1.1\r\nHost: app\r\n\r\n"
read 1 2000 "HTTP/1.1 204 No Content\r\n\r\n"
"#);
    let attribute = |key| outcome.attribute(0, key);
    assert_eq!(attribute("network.peer.address").unwrap(), "/run/app.sock");
    assert_eq!(attribute("network.transport").unwrap(), "unix");
    assert_eq!(attribute("server.address").unwrap(), "app");
    assert_eq!(attribute("spandrel.tcp.retransmits"), None);
}
