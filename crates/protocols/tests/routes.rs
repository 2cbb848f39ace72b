//! `http.route` as a span shows it.

mod script;

use script::run;

#[test]
fn a_scanner_does_not_hide_the_routes_of_a_service() {
    for status in ["401 Unauthorized", "403 Forbidden", "302 Found", "200 OK"] {
        let mut text = String::from("open 1 server 10.0.0.1:80 10.0.0.2:4000\n");
        let mut time = 1000;
        let mut exchange = |path: &str, status: &str| {
            text += &format!("read 1 {time} \"GET {path} HTTP/1.1\\r\\nHost: shop\\r\\n\\r\\n\"\n");
            let head = format!("HTTP/1.1 {status}\\r\\nContent-Length: 0\\r\\n\\r\\n");
            text += &format!("write 1 {} \"{head}\"\n", time + 500);
            // A second: ten seconds are one piece of evidence.
            time += 1_000_000;
        };
        for _ in 0..40 {
            exchange("/orders/17", "200 OK");
            exchange("/health", "204 No Content");
        }
        for word in 0..40 {
            exchange(
                &format!("/w{}", "abcdefghij".repeat(2) + &"x".repeat(word % 20)),
                status,
            );
            exchange(&format!("/{}", "y".repeat(1 + word)), status);
        }
        exchange("/orders/18", "200 OK");
        exchange("/health", "204 No Content");
        let outcome = run(&text);
        let lines = outcome.lines();
        assert_eq!(lines.len(), 162);
        assert!(
            lines[160].starts_with("Server GET /orders/{id} 200"),
            "{status}: {}",
            lines[160]
        );
        assert!(
            lines[161].starts_with("Server GET /health 204"),
            "{status}: {}",
            lines[161]
        );
        if status != "200 OK" {
            assert!(lines[80].starts_with("Server GET "), "{}", lines[80]);
            assert!(
                !lines[80..160].iter().any(|line| line.contains("GET /")),
                "{status}"
            );
        }
    }
}
