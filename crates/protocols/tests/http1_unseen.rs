//! HTTP/1 where bytes are missing, not copied, or split at odd places: what can be told, and what is left open.
#![allow(clippy::unwrap_used)]

mod script;

use script::{client, server};

#[test]
fn requests_hidden_behind_a_cut_head_do_not_shift_the_answers() {
    // Two requests in one write, of which the first one's head is cut; then one at each answer.
    type Run = fn(&str) -> script::Outcome;
    let ends: [(Run, _, _); 2] = [(client, "write", "read"), (server, "read", "write")];
    for (run, ask, answer) in ends {
        let outcome = run(&format!(
            r#"
{ask} 1 1000 "GET /0 HTTP/1.1\r\nHost: x\r\nCookie: aaaaaaaaaaa" hidden=8000 tail="aaaaaaa\r\n\r\n"
{answer} 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
{ask} 1 3000 "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
{answer} 1 4000 "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
{ask} 1 5000 "GET /3 HTTP/1.1\r\nHost: x\r\n\r\n"
{answer} 1 6000 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
{answer} 1 7000 "HTTP/1.1 503 Oops\r\nContent-Length: 0\r\n\r\n"
tick 300000
{ask} 1 400000 "GET /4 HTTP/1.1\r\nHost: x\r\n\r\n"
{answer} 1 410000 "HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n"
tick 600000
"#
        ));
        let lines = outcome.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].ends_with("200 1000..2000"), "{lines:?}");
        assert!(lines[1].ends_with("202 400000..410000"), "{lines:?}");
        assert_eq!(
            outcome.dropped(),
            [("exchange.no_request", 1), ("exchange.pairing_broken", 2)]
        );
        // The rest of the first message, at one place.
        assert_eq!(outcome.ledger.unsearched(), (8011, 1));
    }
}

#[test]
fn a_lost_answer_of_a_client_that_waits_costs_no_answer_of_another() {
    let mut lines = String::new();
    for round in 0..10 {
        let at = 1000 + round * 1000;
        lines += &format!("read 1 {at} \"GET /{round} HTTP/1.1\\r\\n\\r\\n\"\n");
        if round == 8 {
            lines += "skip 1 write 38\n";
        } else {
            let status = 200 + round;
            let end = at + 500;
            lines += &format!(
                "write 1 {end} \"HTTP/1.1 {status} OK\\r\\nContent-Length: 0\\r\\n\\r\\n\"\n"
            );
        }
    }
    let outcome = server(&format!(
        "{lines}tick 300000\nread 1 400000 \"GET /l HTTP/1.1\\r\\n\\r\\n\"\nwrite 1 401000 \"HTTP/1.1 299 OK\\r\\nContent-Length: 0\\r\\n\\r\\n\"\ntick 600000"
    ));
    let told = outcome.lines();
    assert_eq!(told.len(), 9, "{told:?}");
    assert!(
        told[7].contains(" 207 ") && told[8].contains(" 299 "),
        "{told:?}"
    );
    // Which of the two requests the next answer was to cannot be told: both may have been answered among what was lost.
    let lost: u64 = outcome.dropped().iter().map(|(_, count)| count).sum();
    assert_eq!(lost, 3, "{:?}", outcome.dropped());
}

#[test]
fn of_two_pipelined_requests_neither_gets_the_one_answer_that_was_not_lost() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"
skip 1 write 38
write 1 3000 "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
tick 300000
read 1 400000 "GET /c HTTP/1.1\r\n\r\n"
write 1 401000 "HTTP/1.1 204 No Content\r\n\r\n"
tick 700000
"#,
    );
    assert_eq!(outcome.lines(), ["Server GET /c 204 400000..401000"]);
}

#[test]
fn a_method_without_its_first_byte_is_no_method() {
    for torn in ["OST", "ET", "T", "EAD", "ELETE", "UT"] {
        let outcome = server(&format!(
            r#"
read 1 1000 "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" hidden=5000
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
skip 1 read 1
read 1 400000 "{torn} /b HTTP/1.1\r\n\r\n"
write 1 401000 "HTTP/1.1 204 No Content\r\n\r\n"
tick 700000
"#
        ));
        assert_eq!(outcome.lines(), ["Server POST /a 200 1000..2000"], "{torn}");
    }
}

#[test]
fn where_the_place_was_lost_a_head_is_put_together_from_any_two_messages() {
    let head = "POST /b HTTP/1.1\\r\\nContent-Length: 0\\r\\n\\r\\n";
    let answer = "HTTP/1.1 404 No\\r\\nContent-Length: 0\\r\\n\\r\\n";
    for split in 1..16 {
        let ((first, rest), (status, fields)) =
            (head.split_at(split), answer.split_at(split.min(15)));
        let outcome = server(&format!(
            r#"
read 1 1000 "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" hidden=5000 tail="\r\n0\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" hidden=5000 tail="\r\n0\r\n\r\n"
tick 250000
read 1 300000 "{first}"
read 1 400000 "{rest}"
write 1 401000 "{status}"
write 1 402000 "{fields}"
tick 900000
"#
        ));
        assert_eq!(
            outcome.lines(),
            [
                "Server POST /a 200 1000..2000",
                "Server POST 404 300000..402000"
            ],
            "split at {split}"
        );
    }
}

#[test]
fn the_last_chunk_is_found_in_a_tail_with_zeros_extensions_and_trailers() {
    for last in [
        r"\r\n0\r\n\r\n",
        r"\r\n000\r\n\r\n",
        r"\r\n0;x=y\r\n\r\n",
        r"\r\n00 ; a\r\nDigest: x\r\n\r\n",
    ] {
        let outcome = server(&format!(
            r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" hidden=5000 tail="{last}"
tick 250000
close 1 9000000 reset
"#
        ));
        assert_eq!(outcome.lines(), ["Server GET /a 200 1000..2000"], "{last}");
        assert_eq!(outcome.attribute(0, "spandrel.response.end.unknown"), None);
    }
}

#[test]
fn the_last_chunk_is_found_when_it_is_read_byte_by_byte() {
    let mut lines = r#"
write 1 1000 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
read 1 2000 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" hidden=5000 tail="bbb"
"#
    .to_owned();
    for (at, byte) in ["\\r", "\\n", "0", "\\r", "\\n", "\\r", "\\n"]
        .iter()
        .enumerate()
    {
        lines += &format!("read 1 {} \"{byte}\"\n", 2001 + at);
    }
    let outcome = client(&format!("{lines}tick 250000\nclose 1 9000000 reset"));
    assert_eq!(outcome.lines(), ["Client GET 200 1000..2007"]);
}

#[test]
fn the_reset_of_an_idle_connection_makes_no_error_of_an_answer_whose_end_is_not_known() {
    let steps = r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nSet-Cookie: aaaaaaa" hidden=3000
"#;
    let outcome = server(&format!("{steps}close 1 4000000 reset"));
    assert_eq!(outcome.lines(), ["Server GET /a 200 1000..2000"]);
    assert_eq!(
        outcome
            .attribute(0, "spandrel.response.end.unknown")
            .unwrap(),
        "true"
    );
    // Right behind the last bytes it has cut something off.
    let outcome = server(&format!("{steps}close 1 3000 reset"));
    assert_eq!(
        outcome.lines(),
        ["Server GET 200 connection_reset 1000..3000"]
    );
    // A body of known length was not whole, however long ago.
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc"
close 1 4000000 reset
"#,
    );
    assert_eq!(
        outcome.lines(),
        ["Server GET 200 connection_reset 1000..4000000"]
    );
}

#[test]
fn a_close_delimited_answer_is_whole_when_the_other_end_has_said_so() {
    let steps = r#"
write 1 1000 "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
read 1 2000 "HTTP/1.1 200 OK\r\n\r\nabc"
"#;
    let whole = client(&format!("{steps}shut 1 read 2500\nclose 1 3000"));
    assert_eq!(whole.lines(), ["Client GET 200 1000..2000"]);
    assert_eq!(whole.attribute(0, "spandrel.response.end.unknown"), None);
    let stopped = client(&format!("{steps}close 1 3000"));
    assert_eq!(
        stopped.lines(),
        ["Client GET 200 connection_closed 1000..3000"]
    );
    assert_eq!(stopped.attribute(0, "http.response.body.size"), None);
    // What was said was not all read, or the reset came behind it: nothing tells which.
    let unread = client(&format!("{steps}shut 1 read 2500\nclose 1 3000 reset"));
    assert_eq!(unread.lines(), ["Client GET 200 1000..2000"]);
    assert_eq!(
        unread
            .attribute(0, "spandrel.response.end.unknown")
            .unwrap(),
        "true"
    );
}

#[test]
fn an_upload_that_is_answered_before_it_is_read_hides_no_request() {
    let outcome = server(
        r#"
read 1 1000 "POST /up HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" hidden=900
write 1 2000 "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
read 1 3000 "" hidden=299000
read 1 4000 "" hidden=80 tail="xxxxxxxxxxxxxxxxxxxx"
read 1 5000 "GET /b HTTP/1.1\r\n\r\n"
write 1 6000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.lines(),
        ["Server POST 413 1000..2000", "Server GET /b 204 5000..6000"]
    );
}

#[test]
fn a_head_that_stays_cut_says_so_and_has_no_made_up_parent() {
    let cut = |fields: &str| {
        script::run(&format!(
            r#"
open 1 client 127.0.0.1:40000 127.0.0.1:80
open 2 server 127.0.0.1:80 127.0.0.1:40000
read 2 1100 "GET /a HTTP/1.1\r\nHost: x\r\n{fields}Cookie: aaaaaa" hidden=30000 tail="\r\n\r\n"
write 2 1900 "HTTP/1.1 204 No Content\r\n\r\n"
"#
        ))
    };
    let without = cut("");
    let span = &without.output.measured[0].span;
    assert_eq!(
        without
            .attribute(0, "spandrel.request.head.truncated")
            .unwrap(),
        "true"
    );
    assert_eq!(span.parent_span_id, None);
    assert!(!span.trace_begun_here, "who began it is not known");
    let with = cut("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\\r\\n");
    let span = &with.output.measured[0].span;
    assert_eq!(span.parent_span_id.unwrap().to_string(), "b7ad6b7169203331");
}

#[test]
fn uploads_whose_chunk_heads_are_not_copied_are_told_when_the_connection_ends_in_order() {
    let exchanges: String = (0..4)
        .map(|round| {
            let at = 1000 + round * 1000;
            format!(
                "read 1 {at} \"POST /a HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n\" hidden=9000\n\
                 write 1 {} \"HTTP/1.1 20{round} OK\\r\\nContent-Length: 0\\r\\n\\r\\n\"\n",
                at + 500
            )
        })
        .collect();
    let outcome = server(&format!("{exchanges}close 1 5000"));
    let lines = outcome.lines();
    assert_eq!(lines.len(), 4, "{lines:?} {:?}", outcome.dropped());
    assert_eq!(lines[3], "Server POST /a 203 4000..4500");
    // One answer too many shows that a request was hidden.
    let contradicted = format!(
        "{exchanges}write 1 4600 \"HTTP/1.1 500 Oops\\r\\nContent-Length: 0\\r\\n\\r\\n\"\nclose 1 5000"
    );
    assert_eq!(server(&contradicted).lines().len(), 1);
}

#[test]
fn a_request_hidden_behind_an_upload_costs_a_client_that_waits_no_other_span() {
    let mut events = String::new();
    for round in 0..30 {
        let at = 1000 + round * 1000;
        // The upload is answered before it is read, and its last read brings the next request.
        if round == 2 || round == 5 {
            events += &format!(
                "read 1 {at} \"POST /a HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n\" hidden=9000\n"
            );
        } else if round == 3 || round == 6 {
            events += &format!("read 1 {at} \"bbbb\" hidden=4000\n");
        } else {
            events += &format!("read 1 {at} \"GET /{round} HTTP/1.1\\r\\n\\r\\n\"\n");
        }
        events += &format!(
            "write 1 {} \"HTTP/1.1 {} OK\\r\\nContent-Length: 0\\r\\n\\r\\n\"\n",
            at + 500,
            200 + round
        );
    }
    let outcome = server(&events);
    let lines = outcome.lines();
    assert_eq!(lines.len(), 28, "{lines:?} {:?}", outcome.dropped());
    assert_eq!(lines[3], "Server GET /{id} 204 5000..5500");
    assert_eq!(lines[5], "Server GET /{id} 207 8000..8500");
}

#[test]
fn a_head_in_pieces_at_the_beginning_of_an_older_connection_is_seen() {
    for pieces in [
        &["GET ", "/a", " HTTP/1.1\\r\\n", "Host: x\\r\\n\\r\\n"][..],
        &["G", "E", "T /a HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"],
        &["GET /a HTTP/1.1\\r\\n", "Host: x\\r\\n", "\\r\\n"],
    ] {
        let writes: String = pieces
            .iter()
            .enumerate()
            .map(|(at, piece)| format!("write 1 {} \"{piece}\"\n", 1000 + at))
            .collect();
        let outcome = script::run(&format!(
            "open 1 client /run/client.sock /run/app.sock preexisting\n{writes}\
             read 1 2000 \"HTTP/1.1 204 No\"\nread 1 2001 \" Content\\r\\n\\r\\n\"\ntick 300000"
        ));
        assert_eq!(outcome.lines(), ["Client GET 204 1000..2001"], "{pieces:?}");
    }
}

#[test]
fn a_message_that_only_looks_like_the_beginning_of_a_head_hides_none_behind_it() {
    let outcome = server(
        r#"
read 1 1000 "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" hidden=5000
read 1 1100 "G"
read 1 1200 "P"
read 1 1300 "\r\n0\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
read 1 200000 "P"
read 1 200100 "GET /b HTTP/1.1\r\n\r\n"
write 1 201000 "HTTP/1.1 204 No Content\r\n\r\n"
tick 500000
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server POST /a 200 1000..2000",
            "Server GET /b 204 200100..201000"
        ]
    );
}

#[test]
fn an_answer_behind_one_whose_end_was_not_copied_is_told_at_once() {
    let steps = script::parse(
        r#"
open 1 server 10.0.0.1:80 10.0.0.9:4000
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" hidden=5000
write 1 2100 "" hidden=5000 tail="\r\n0\r\n\r\n"
read 1 3000 "GET /b HTTP/1.1\r\n\r\n"
write 1 4000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    let mut tracker = spandrel_protocols::Tracker::new(
        spandrel_protocols::Settings::default(),
        1,
        Default::default(),
    );
    let mut output = spandrel_protocols::Output::default();
    for step in &steps {
        if let script::Step::Event(event) = step {
            tracker.handle(event, &mut output);
        }
    }
    assert_eq!(output.measured.len(), 2);
}

#[test]
fn an_answer_without_a_known_end_does_not_get_the_end_of_the_next_one() {
    // Two requests in one write; of the first answer's chunks the heads are not copied, and the second one is slow.
    let both = r#"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"#;
    let outcome = client(&format!(
        r#"
write 1 1000 "{both}"
read 1 2000 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" hidden=2948
read 1 3000 hidden=2968 tail="bbbbbbbbbbbbbbbbbbbbbbbbb\r\n0\r\n\r\n"
read 1 70000 hidden=3000 tail="bbbbbbbbbbbbbbbbbbbbbbbbb\r\n0\r\n\r\n"
close 1 400000
tick 900000
"#
    ));
    let lines = outcome.lines();
    assert!(
        lines.iter().all(|line| !line.contains("..70000")),
        "{lines:?}"
    );
    let span = &outcome.output.measured[0].span;
    assert!(span.attribute("spandrel.response.end.unknown").is_some());
    assert!(lines[0].ends_with("200 1000..2000"), "{lines:?}");
}
