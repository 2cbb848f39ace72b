//! An HTTP server on monoio, a runtime on io_uring: answers each request with the status that its path begins with, or
//! 200, and prints one JSON line for each.

use std::time::{SystemTime, UNIX_EPOCH};

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};

fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time after 1970")
        .as_nanos()
}

/// The value of `content-length` in a head.
fn body_length(head: &str) -> usize {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut held: Vec<u8> = Vec::new();
    loop {
        let mut begun = 0;
        let (head, body) = loop {
            if let Some(at) = held.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&held[..at]).into_owned();
                let body = body_length(&head);
                if held.len() >= at + 4 + body {
                    held.drain(..at + 4 + body);
                    break (head, body);
                }
            }
            let (read, buffer) = stream.read(Vec::with_capacity(16 << 10)).await;
            if read? == 0 {
                return Ok(());
            }
            if held.is_empty() {
                begun = now();
            }
            held.extend(buffer);
        };
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let status: u16 = path.get(1..4).and_then(|text| text.parse().ok()).unwrap_or(200);
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 6\r\n\r\nmonoio");
        let (written, _) = stream.write_all(answer.into_bytes()).await;
        written?;
        println!(
            "{{\"method\":\"{method}\",\"path\":\"{path}\",\"status\":{status},\"start_ns\":{begun},\"end_ns\":{},\
             \"request_body\":{body},\"response_body\":6}}",
            now()
        );
    }
}

#[monoio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{{\"listening\": {}}}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        monoio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}
