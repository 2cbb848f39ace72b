//! A server of files that Python comes with, and requests to it without a client's program.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::machine::wait_until;

/// Its command, on a port of 127.0.0.1.
pub(crate) fn server(port: u16) -> Vec<String> {
    let port = port.to_string();
    [
        "/usr/bin/python3",
        "-u",
        "-m",
        "http.server",
        &port,
        "--bind",
        "127.0.0.1",
        "-d",
        "/tmp",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// One request on a connection of its own, as soon as the server is there.
pub(crate) fn get(port: u16, path: &str) {
    let mut stream = None;
    wait_until("a server", Duration::from_secs(60), || {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    });
    let mut stream = stream.expect("it was waited for");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: shop\r\n\r\n").expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    assert!(answer.starts_with("HTTP/1."), "{answer}");
}
