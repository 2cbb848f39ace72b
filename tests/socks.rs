//! HTTP through real SOCKS servers is seen at both ends of both connections.

#![allow(clippy::unwrap_used)] // a failure in a test is a panic

mod support;

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use support::agent::Agent;
use support::backends::on_each_backend;
use support::machine::{find, free_port, has, is_root, wait_until};
use support::otlp::Span;
use support::process::Process;
use support::traffic::Server;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// What one client asked for.
const PATHS: [&str; 2] = ["/orders", "/orders/17"];

fn dante(directory: &TempDir, port: u16) -> Process {
    let file = directory.path().join("danted.conf");
    let text = format!(
        "logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: lo\nsocksmethod: none\n\
         clientmethod: none\nclient pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(find("danted").unwrap());
    Process::start(command.arg("-f").arg(file))
}

fn microsocks(port: u16) -> Process {
    let mut command = Command::new(find("microsocks").unwrap());
    command.args(["-i", "127.0.0.1", "-u", "me", "-P", "you"]);
    Process::start(command.args(["-p", &port.to_string()]))
}

fn through_socks(test: &str, backend: &str) {
    if !is_root(test) || !has(test, &["danted", "microsocks", "curl", "python3"]) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let server = Server::python(&[]);
    let [first, second] = [free_port(), free_port()];
    let servers = [dante(&directory, first), microsocks(second)];
    for port in [first, second] {
        wait_until("a SOCKS server", LIMIT, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }
    let configuration = directory.path().join("spandrel.yaml");
    let text = format!(
        "file_format: \"1.1\"\ndistribution:\n  spandrel:\n    version: \"1.0\"\n    capture:\n      backend: {backend}\n"
    );
    std::fs::write(&configuration, text).unwrap();
    let mut arguments = vec!["trace".to_owned(), "--output".into(), "otlp-json".into()];
    for port in [first, second, server.port] {
        arguments.extend(["--port".to_owned(), port.to_string()]);
    }
    arguments.extend(["--config".into(), configuration.to_str().unwrap().into()]);
    let agent = Agent::start(&arguments);
    let ways = [
        ("--socks4", format!("127.0.0.1:{first}")),
        ("--socks5", format!("127.0.0.1:{first}")),
        ("--socks5-hostname", format!("me:you@127.0.0.1:{second}")),
    ];
    for (option, address) in &ways {
        let urls = PATHS.map(|path| format!("http://127.0.0.1:{}{path}", server.port));
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", option, address]);
        let output = curl.args(urls).output().unwrap();
        assert!(output.status.success(), "{option}: {output:?}");
    }
    // Each request is written and read on the client's connection and on that of the SOCKS server.
    let count = ways.len() * PATHS.len();
    agent.wait_for_spans(4 * count, LIMIT);
    let outcome = agent.stop();
    assert!(outcome.status.success(), "{}", outcome.stderr.join("\n"));
    let spans = outcome.spans();
    let of = |kind: &str, port: u16| -> Vec<&Span> {
        let key = if kind == "server" {
            "server.port"
        } else {
            "network.peer.port"
        };
        let is = |span: &&Span| span.kind == kind && span.integer(key) == Some(i64::from(port));
        spans.iter().filter(is).collect()
    };
    for (port, ways) in [(first, 2), (second, 1)] {
        // What curl writes to the SOCKS server.
        let written = of("client", port);
        assert_eq!(written.len(), ways * PATHS.len(), "{spans:#?}");
        for span in written {
            assert_eq!(span.integer("http.response.status_code"), Some(200));
            let url = span.text("url.full");
            let server = format!("http://127.0.0.1:{}/orders", server.port);
            assert!(url.starts_with(&server), "{span:?}");
        }
    }
    assert_eq!(of("client", server.port).len(), count, "{spans:#?}");
    let read = of("server", server.port);
    assert_eq!(read.len(), 2 * count, "{spans:#?}");
    for span in read {
        let path = span.text("url.path");
        assert!(PATHS.contains(&path), "{span:?}");
        assert_eq!(span.integer("http.response.status_code"), Some(200));
    }
    for server in servers {
        server.terminate(LIMIT);
    }
}

on_each_backend! {
    fn http_through_a_socks_server_is_seen_at_both_ends(backend) {
        through_socks("http_through_a_socks_server_is_seen_at_both_ends", backend);
    }
}
