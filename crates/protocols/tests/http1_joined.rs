//! HTTP/1 on connections that are announced after they began.
#![allow(clippy::unwrap_used)]

mod script;

use script::run;

/// The announcement of a connection that was forgotten says where it is: what passed before is not lost.
#[test]
fn a_connection_that_was_announced_again_closes_without_losses() {
    let outcome = run(r#"
open 1 client 10.0.0.9:40000 10.0.0.1:80 preexisting passed=70000,500
write 1 1000 "GET /a HTTP/1.1\r\n\r\n"
close 1 2000 reset
tick 600000
"#);
    assert_eq!(outcome.dropped(), []);
    assert!(
        outcome.lines()[0].contains("connection_reset"),
        "{:?}",
        outcome.lines()
    );
}
