//! HTTP/1 that few programs send and servers answer all the same.
#![allow(clippy::unwrap_used)]

mod script;

use script::{client, server};

#[test]
fn a_body_that_reads_like_a_request_is_a_body_once_it_was_asked_for() {
    // Whichever direction is reported first.
    for lines in [
        r#"
write 1 2000 "HTTP/1.1 100 Continue\r\n\r\n"
read 1 3000 "GET /x HTTP/1.1\r\n\r\n"
"#,
        r#"
read 1 3000 "GET /x HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 100 Continue\r\n\r\n"
"#,
        // The server says nothing, and the client is tired of waiting.
        r#"
read 1 3000 "GET /x HTTP/1.1\r\n\r\n"
tick 300000
"#,
    ] {
        for framing in [
            (r"Content-Length: 19\r\n", ""),
            (r"Transfer-Encoding: chunked\r\n", "chunked"),
        ] {
            let lines = if framing.1.is_empty() {
                lines.to_owned()
            } else {
                lines.replace("GET /x HTTP/1.1", r"13\r\nGET /x HTTP/1.1")
            };
            let end = if framing.1.is_empty() {
                ""
            } else {
                "read 1 350000 \"\\r\\n0\\r\\n\\r\\n\"\n"
            };
            let outcome = server(&format!(
                "read 1 1000 \"PUT /a HTTP/1.1\\r\\nExpect: 100-continue\\r\\n{}\\r\\n\"{lines}{end}\
                 write 1 400000 \"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n\"",
                framing.0
            ));
            assert_eq!(
                outcome.lines(),
                ["Server PUT /a 200 1000..400000"],
                "{lines}"
            );
            assert_eq!(
                outcome.attribute(0, "http.request.body.size").unwrap(),
                "19"
            );
        }
    }
}

#[test]
fn a_head_of_very_many_fields_keeps_its_framing() {
    let fields = "X: y\\r\\n".repeat(500);
    let outcome = server(&format!(
        r#"
read 1 1000 "POST /a HTTP/1.1\r\n{fields}Content-Length: 20\r\n\r\n"
read 1 1100 "GET /x HTTP/1.1\r\n\r\n "
write 1 2000 "HTTP/1.1 200 OK\r\n{fields}Content-Length: 26\r\n\r\n"
write 1 2100 "HTTP/1.1 500 Oops\r\nA: b\r\n\r\n"
read 1 3000 "GET /b HTTP/1.1\r\n\r\n"
write 1 4000 "HTTP/1.1 204 No Content\r\n\r\n"
"#
    ));
    let lines = outcome.lines();
    assert_eq!(lines.len(), 2, "{lines:?} {:?}", outcome.dropped());
    assert_eq!(lines[1], "Server GET /b 204 3000..4000");
    assert_eq!(
        outcome.attribute(0, "http.request.body.size").unwrap(),
        "20"
    );
}

#[test]
fn a_minor_version_above_one_is_read_as_one() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.2\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc"
write 1 2000 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
read 1 3000 "GET /b HTTP/1.9\r\n\r\n"
write 1 4000 "HTTP/1.2 201 Created\r\nContent-Length: 2\r\n\r\nok"
"#,
    );
    assert_eq!(
        outcome.lines(),
        [
            "Server GET /a 200 1000..2000",
            "Server GET /b 201 3000..4000"
        ]
    );
    let attribute = |index, key| outcome.attribute(index, key).unwrap();
    assert_eq!(attribute(0, "server.address"), "shop");
    assert_eq!(attribute(0, "http.request.body.size"), "3");
    assert_eq!(attribute(0, "network.protocol.version"), "1.1");
    assert_eq!(attribute(1, "network.protocol.version"), "1.2");
}

#[test]
fn a_host_with_an_empty_port_is_a_host() {
    let outcome = client(
        r#"
write 1 1000 "GET /a HTTP/1.1\r\nHost: shop.example:\r\n\r\n"
read 1 2000 "HTTP/1.1 204 No Content\r\n\r\n"
"#,
    );
    assert_eq!(
        outcome.attribute(0, "server.address").unwrap(),
        "shop.example"
    );
}

#[test]
fn request_lines_with_blanks_do_not_make_a_connection_ignored() {
    let lines: String = (0..8)
        .map(|round| {
            let at = 1000 + round * 1000;
            let target = ["  /a", " /b c", "\\t /d", " /e  "][round % 4];
            format!(
                "read 1 {at} \"GET{target} HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\nab\"\n\
                 write 1 {} \"HTTP/1.1 40{} Bad\\r\\nContent-Length: 0\\r\\n\\r\\n\"\n",
                at + 500,
                round
            )
        })
        .collect();
    let outcome = server(&format!("{lines}tick 300000"));
    let told = outcome.lines();
    assert!(told.len() >= 6, "{told:?} {:?}", outcome.dropped());
    assert_eq!(outcome.attribute(1, "url.path").unwrap(), "/b c");
    assert_eq!(outcome.attribute(0, "url.path").unwrap(), "/a");
    assert_eq!(outcome.attribute(0, "http.request.body.size").unwrap(), "2");
}

#[test]
fn a_refusal_of_what_is_no_request_line_is_seen() {
    for bad in [
        "GET /a\\r\\n\\r\\n",
        "GET /a HTTP/2.5\\r\\n\\r\\n",
        "\\x16\\x03\\x01\\x02\\x00\\x01\\x00\\x01\\xfc",
        "nonsense\\r\\n\\r\\n",
    ] {
        let outcome = server(&format!(
            "read 1 1000 \"{bad}\"\n\
             write 1 2000 \"HTTP/1.1 400 Bad Request\\r\\nConnection: close\\r\\n\\r\\nno\"\n\
             shut 1 write 2100\nclose 1 3000\ntick 400000"
        ));
        assert_eq!(outcome.lines(), ["Server HTTP 400 1000..2000"], "{bad}");
        assert_eq!(
            outcome.attribute(0, "http.request.method").unwrap(),
            "_OTHER"
        );
        assert_eq!(outcome.attribute(0, "http.request.method_original"), None);
        assert_eq!(outcome.attribute(0, "url.path"), None);
    }
}

#[test]
fn what_is_no_request_line_and_has_no_answer_is_no_exchange() {
    let outcome = server(
        r#"
read 1 1000 "GET /a HTTP/1.1\r\n\r\n"
write 1 2000 "HTTP/1.1 204 No Content\r\n\r\n"
read 1 3000 "\x01\x02\x03\x04 something else\r\n\r\n"
close 1 4000
"#,
    );
    assert_eq!(outcome.lines(), ["Server GET /a 204 1000..2000"]);
    assert_eq!(outcome.dropped(), [("exchange.parse_failed", 1)]);
}
