//! A `traceparent` that is passed through unchanged: whose child each span is along the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod script;

use std::fmt::Write as _;

use script::{Outcome, run};
use spandrel_model::{Measured, SpanKind};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The parent that the header names.
const CALLER: &str = "b7ad6b7169203331";

const OK: &str = r#""HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n""#;

/// A proxy's connections: 1 is served by process 10, 2 is its call, 3 the other end of that in process 20.
const PROXY: &str = "open 1 server 10.0.0.1:80 10.0.0.9:40000
open 2 client 10.0.0.1:50000 10.0.0.2:8080
open 3 server 10.0.0.2:8080 10.0.0.1:50000 netns=2
";

fn get(path: &str) -> String {
    format!(r#""GET {path} HTTP/1.1\r\nHost: shop\r\ntraceparent: 00-{TRACE}-{CALLER}-01\r\n\r\n""#)
}

/// The exchange of one request through the proxy.
fn through(first: u64) -> String {
    let (one, two, three) = (get("/one"), get("/two"), get("/tri"));
    let at = |more: u64| first + more;
    format!(
        "read 1 {} {one} pid=10
write 2 {} {two} pid=10
read 3 {} {three} pid=20
write 3 {} {OK} pid=20
read 2 {} {OK} pid=10
write 1 {} {OK} pid=10
",
        at(0),
        at(10),
        at(20),
        at(30),
        at(40),
        at(50),
    )
}

fn span<'a>(outcome: &'a Outcome, kind: SpanKind, path: &str) -> &'a Measured {
    let found = outcome.output.measured.iter().find(|one| {
        let shown = match kind {
            SpanKind::Server => "url.path",
            _ => "url.full",
        };
        let value = one.span.attribute(shown).map(|value| format!("{value:?}"));
        one.span.kind == kind && value.is_some_and(|value| value.contains(path))
    });
    found.unwrap_or_else(|| panic!("no {kind:?} span of {path}: {:?}", outcome.lines()))
}

fn id(one: &Measured) -> String {
    one.span.span_id.to_string()
}

fn parent(one: &Measured) -> String {
    let parent = one.span.parent_span_id;
    parent.expect("a parent").to_string()
}

fn assert_chain(outcome: &Outcome) {
    let served = span(outcome, SpanKind::Server, "/one");
    let call = span(outcome, SpanKind::Client, "/two");
    let answered = span(outcome, SpanKind::Server, "/tri");
    assert_eq!(parent(served), CALLER);
    assert_eq!(parent(call), id(served), "the call is made for the request");
    assert!(!call.span.parent_is_remote, "both are of one process");
    assert_eq!(parent(answered), id(call), "the upstream serves the call");
    assert!(answered.span.parent_is_remote);
    for one in [served, call, answered] {
        assert_eq!(one.span.trace_id.to_string(), TRACE);
        assert_eq!(one.span.trace_flags, 1);
    }
}

/// No span but the first has another parent than the header's.
fn assert_unlinked(outcome: &Outcome) {
    for one in &outcome.output.measured {
        assert_eq!(parent(one), CALLER, "{:?}", one.span);
    }
}

#[test]
fn a_call_is_the_child_of_the_request_it_is_made_for_and_the_parent_of_the_one_it_becomes() {
    assert_chain(&run(&format!("{PROXY}{}", through(1000))));
}

#[test]
fn each_of_several_requests_in_turn_with_one_header_gets_its_own_call() {
    let outcome = run(&format!("{PROXY}{}{}", through(1000), through(2000)));
    let measured = &outcome.output.measured;
    assert_eq!(measured.len(), 6);
    let mut parents: Vec<_> = measured.iter().map(parent).collect();
    parents.retain(|parent| parent != CALLER);
    parents.sort();
    parents.dedup();
    assert_eq!(parents.len(), 4, "no span has two calls");
}

#[test]
fn the_address_of_a_service_in_between_hides_no_link() {
    let script = PROXY.replace(
        "10.0.0.1:50000 10.0.0.2:8080\n",
        "10.0.0.1:50000 10.96.0.7:80\n",
    );
    assert_ne!(script, PROXY);
    assert_chain(&run(&format!("{script}{}", through(1000))));
}

#[test]
fn connections_that_were_open_before_the_agent_are_linked_too() {
    let script = PROXY
        .replace(
            "10.0.0.2:8080\n",
            "10.0.0.2:8080 preexisting passed=700,900\n",
        )
        .replace("netns=2", "netns=2 preexisting passed=0,0");
    assert_chain(&run(&format!("{script}{}tick 9000000\n", through(1000))));
}

#[test]
fn a_unix_socket_between_proxy_and_server_is_followed() {
    let script = "open 1 server 10.0.0.1:80 10.0.0.9:40000
open 2 client ? /run/app.sock
open 3 server /run/app.sock /
";
    assert_chain(&run(&format!("{script}{}", through(1000))));
}

#[test]
fn what_the_upstream_read_may_be_reported_and_be_over_before_the_call_is() {
    let (one, two, three) = (get("/one"), get("/two"), get("/tri"));
    for close in ["", "close 3 1250\n"] {
        assert_chain(&run(&format!(
            "{PROXY}read 1 1000 {one} pid=10
read 3 1200 {three} pid=20
write 3 1240 {OK} pid=20
{close}write 2 1300 {two} pid=10 started=1100
read 2 1400 {OK} pid=10
write 1 1500 {OK} pid=10
"
        )));
    }
}

#[test]
fn a_span_waits_for_its_call_only_until_all_messages_have_been_reported() {
    let (one, three) = (get("/one"), get("/tri"));
    let began = format!(
        "{PROXY}read 1 1000 {one} pid=10
read 3 1200 {three} pid=20
write 3 1240 {OK} pid=20
"
    );
    let rest = format!("write 1 200000 {OK} pid=10\n");
    let first = |script: String| run(&script).lines().first().cloned().unwrap_or_default();
    let early = first(format!("{began}tick 101000\n{rest}"));
    assert!(early.contains("1000"), "it waits: {early}");
    let late = first(format!("{began}tick 101300\n{rest}"));
    assert!(late.contains("1240"), "it was told with the tick: {late}");
    assert_unlinked(&run(&format!("{began}tick 101300\n{rest}")));
}

#[test]
fn a_header_of_the_programs_own_or_of_another_process_is_left_alone() {
    let two = get("/two");
    let own = two.replace(CALLER, "00000000000000aa");
    let outcome = run(&format!("{PROXY}{}", through(1000).replace(&two, &own)));
    let call = span(&outcome, SpanKind::Client, "/two");
    assert_eq!(parent(call), "00000000000000aa");
    let answered = span(&outcome, SpanKind::Server, "/tri");
    assert_eq!(parent(answered), CALLER, "the header decides");
    let other = through(1000).replace(&format!("{two} pid=10"), &format!("{two} pid=11"));
    assert_unlinked(&run(&format!("{PROXY}{other}")));
}

#[test]
fn of_two_requests_with_one_header_under_way_in_a_process_neither_gets_the_call() {
    let other = get("/other");
    let second = format!("open 5 server 10.0.0.1:80 10.0.0.9:40001\nread 5 900 {other} pid=10\n");
    let outcome = run(&format!(
        "{PROXY}{second}{}write 5 3000 {OK} pid=10\n",
        through(1000)
    ));
    assert_eq!(outcome.output.measured.len(), 4);
    assert_unlinked(&outcome);
    // Of another process it says nothing.
    let apart = second.replace("pid=10", "pid=12");
    assert_chain(&run(&format!(
        "{PROXY}{apart}{}write 5 3000 {OK} pid=12\n",
        through(1000)
    )));
    // Nor when it is over.
    let over = format!("{second}write 5 950 {OK} pid=10\n");
    assert_chain(&run(&format!("{PROXY}{over}{}", through(1000))));
}

#[test]
fn a_request_whose_header_may_have_been_cut_off_leaves_the_call_alone() {
    let cut = "open 5 server 10.0.0.1:80 10.0.0.9:40001
read 5 900 \"GET /cut HTTP/1.1\\r\\nHost: shop\\r\\nCookie: a\" hidden=9000 head_cut=1 pid=10
";
    let outcome = run(&format!("{PROXY}{cut}{}", through(1000)));
    let call = span(&outcome, SpanKind::Client, "/two");
    assert_eq!(parent(call), CALLER);
    let over = format!("{cut}write 5 950 {OK} pid=10\ntick 7000000\n");
    let outcome = run(&format!("{PROXY}{over}{}", through(8_000_000)));
    let call = span(&outcome, SpanKind::Client, "/two");
    assert_eq!(parent(call), id(span(&outcome, SpanKind::Server, "/one")));
}

#[test]
fn what_a_program_asks_of_itself_causes_none_of_its_calls() {
    let (two, three) = (get("/two"), get("/tri"));
    // It tries again while its own first call is being served.
    let outcome = run(&format!(
        "open 2 client 10.0.0.1:50000 10.0.0.1:8080
open 3 server 10.0.0.1:8080 10.0.0.1:50000
open 4 client 10.0.0.1:50001 10.0.0.1:8080
write 2 1000 {two} pid=10
read 3 1010 {three} pid=10
write 4 1100 {two} pid=10
read 4 1200 {OK} pid=10
write 3 1300 {OK} pid=10
read 2 1310 {OK} pid=10
"
    ));
    assert_eq!(outcome.output.measured.len(), 3);
    assert_unlinked(&outcome);
    // Reported the other way round, nothing is its own cause.
    let outcome = run(&format!(
        "open 2 client 10.0.0.1:50000 10.0.0.1:8080
open 3 server 10.0.0.1:8080 10.0.0.1:50000
read 3 1010 {three} pid=10
write 2 1020 {two} pid=10 started=1000
write 3 1300 {OK} pid=10
read 2 1310 {OK} pid=10
"
    ));
    assert_unlinked(&outcome);
}

#[test]
fn each_network_namespace_has_its_own_loopback() {
    let script = PROXY
        .replace("10.0.0.2", "127.0.0.1")
        .replace("10.0.0.1:5", "127.0.0.1:5");
    let outcome = run(&format!("{script}{}", through(1000)));
    assert_eq!(parent(span(&outcome, SpanKind::Server, "/tri")), CALLER);
    let together = script.replace(" netns=2", "");
    assert_chain(&run(&format!("{together}{}", through(1000))));
}

#[test]
fn two_calls_that_may_have_become_one_request_are_not_guessed_between() {
    let (one, two) = (get("/one"), get("/two"));
    // Two networks on the node use the same addresses.
    let twin = format!(
        "open 6 server 10.0.0.1:80 10.0.0.9:40002 netns=7
open 7 client 10.0.0.1:50000 10.0.0.2:8080 netns=7
read 6 900 {} pid=30
write 7 910 {} pid=30
",
        one.replace("/one", "/six"),
        two.replace("/two", "/seven"),
    );
    let outcome = run(&format!("{PROXY}{twin}{}", through(1000)));
    assert_eq!(parent(span(&outcome, SpanKind::Server, "/tri")), CALLER);
    assert_eq!(
        parent(span(&outcome, SpanKind::Client, "/two")),
        id(span(&outcome, SpanKind::Server, "/one"))
    );
}

#[test]
fn a_load_with_one_header_links_nothing_while_it_lasts_and_loses_nothing() {
    let many = 100;
    let mut load = String::new();
    for number in 0..many {
        let (connection, port) = (100 + number, 41_000 + number);
        let request = get(&format!("/load/{number}"));
        write!(
            load,
            "open {connection} server 10.0.0.1:80 10.0.0.9:{port}\nread {connection} 900 {request} pid=1{number:02}\n"
        )
        .unwrap();
    }
    let end: String = (0..many)
        .map(|number| format!("write {} 3000 {OK} pid=1{number:02}\n", 100 + number))
        .collect();
    let outcome = run(&format!("{PROXY}{load}{}{end}", through(1000)));
    assert_eq!(outcome.output.measured.len(), many + 3);
    assert_unlinked(&outcome);
    let outcome = run(&format!("{PROXY}{load}{end}{}", through(4000)));
    assert_chain(&outcome);
}

const LOOPBACK: &str = "open 1 client 127.0.0.1:40000 127.0.0.1:8080
open 2 server 127.0.0.1:8080 127.0.0.1:40000
";
const PLAIN: &str = r#""GET /plain HTTP/1.1\r\nHost: shop\r\n\r\n""#;

#[test]
fn a_caller_of_whom_nothing_but_the_opening_is_reported_is_nobodys_parent() {
    // Selectors leave its messages out.
    let script =
        format!("{LOOPBACK}read 2 1000 {PLAIN} pid=20\nwrite 2 1100 {OK} pid=20\ntick 101200\n");
    let outcome = run(&script);
    let served = &span(&outcome, SpanKind::Server, "/plain").span;
    assert_eq!(served.parent_span_id, None);
    assert!(served.trace_begun_here && !served.parent_is_remote);
}

#[test]
fn a_caller_may_be_heard_after_its_request_was_served() {
    let served = format!("read 2 1000 {PLAIN} pid=20\nwrite 2 1100 {OK} pid=20\n");
    let call = format!("write 1 1200 {PLAIN} pid=10 started=900\nread 1 1300 {OK} pid=10\n");
    let outcome = run(&format!("{LOOPBACK}{served}close 2 1150\n{call}"));
    let served = span(&outcome, SpanKind::Server, "/plain");
    let call = span(&outcome, SpanKind::Client, "/plain");
    assert_eq!(parent(served), id(call));
    assert_eq!(served.span.trace_id, call.span.trace_id);
    assert_eq!(served.caller.map(|caller| caller.process.tgid), Some(10));
}

#[test]
fn so_many_spans_wait_for_their_calls_and_the_oldest_are_told_first() {
    let one = get("/one");
    let mut script = format!("{PROXY}read 1 1000 {one} pid=10\n");
    for number in 0..1500 {
        let connection = 100 + number;
        let request = get(&format!("/wait/{number}"));
        write!(
            script,
            "open {connection} server 10.0.0.3:80 10.0.0.9:{}\nread {connection} {} {request} pid=20\nwrite {connection} {} {OK} pid=20\n",
            41_000 + number,
            2000 + number,
            2000 + number,
        )
        .unwrap();
    }
    let outcome = run(&script);
    assert_eq!(outcome.output.measured.len(), 1500);
    assert_unlinked(&outcome);
    let first = &outcome.output.measured[0].span;
    assert!(format!("{:?}", first.attribute("url.path")).contains("/wait/0"));
}
