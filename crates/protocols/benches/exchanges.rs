//! Exchanges per second on one core: decoded events in, spans and measurements out.
//!
//! `cargo bench -p spandrel-protocols`; it prints and asserts nothing about time.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use bytes::Bytes;
use spandrel_model::{
    ConnectionId, ConnectionOpened, Direction, Endpoint, Event, KernelTime, Ledger, Message,
    Origin, ProcessKey, Role, Stamp, Transport,
};
use spandrel_protocols::{Output, Settings, Tracker};

const CONNECTIONS: u64 = 1000;
const PER_CONNECTION: u64 = 200;

const REQUEST: &[u8] = b"GET /api/v1/orders/4711?expand=items HTTP/1.1\r\n\
    Host: shop.example:8080\r\nUser-Agent: python-requests/2.32.3\r\n\
    Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.26.2\r\n\
    Date: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n\
    Content-Length: 64\r\nConnection: keep-alive\r\nETag: \"6562-40\"\r\n\r\n\
    0123456789012345678901234567890123456789012345678901234567890123";

fn message(connection: u64, round: u64, direction: Direction, bytes: &'static [u8]) -> Event {
    let answer = u64::from(direction == Direction::Egress);
    Event::Message(Message {
        stamp: Stamp {
            time: KernelTime(1_000_000 + round * 1_000_000 + answer * 500_000),
            cpu: 0,
            sequence: 0,
        },
        connection: ConnectionId(connection),
        direction,
        position: round * bytes.len() as u64,
        length: bytes.len() as u32,
        unseen: 0,
        payload: Bytes::from_static(bytes),
        tail: Bytes::new(),
        started: None,
        arrived: Some(KernelTime(900_000 + round * 1_000_000)),
        process: ProcessKey {
            tgid: 1,
            started: 1,
        },
        tid: 1,
        lineage: Default::default(),
        cgroup: 1,
        srtt_us: 100,
        retransmits: 0,
        flags: spandrel_model::MessageFlags::default(),
    })
}

/// Time this thread has spent on a CPU: a busy machine changes it less than the clock on the wall.
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn main() {
    let mut events = Vec::new();
    for connection in 0..CONNECTIONS {
        events.push(Event::ConnectionOpened(ConnectionOpened {
            stamp: Stamp::default(),
            connection: ConnectionId(connection),
            origin: Origin::Observed,
            transport: Transport::Tcp,
            role: Some(Role::Server),
            local: Endpoint::Socket(([10, 0, 0, 1], 8080).into()),
            peer: Endpoint::Socket(([10, 0, 0, 2], connection as u16).into()),
            netns: 1,
            connect_started: None,
            process: None,
            passed: None,
        }));
    }
    for round in 0..PER_CONNECTION {
        for connection in 0..CONNECTIONS {
            events.push(message(connection, round, Direction::Ingress, REQUEST));
            events.push(message(connection, round, Direction::Egress, RESPONSE));
        }
    }
    for _ in 0..5 {
        let mut tracker = Tracker::new(Settings::default(), 1, Arc::new(Ledger::default()));
        let mut output = Output::default();
        let mut made = 0;
        let begin = cpu_nanos();
        for event in &events {
            tracker.handle(event, &mut output);
            if output.measured.len() >= 64 {
                made += output.measured.len();
                output.measured.clear();
            }
        }
        made += output.measured.len();
        let each = (cpu_nanos() - begin) as f64 / made as f64;
        println!(
            "{made} exchanges, {each:.0} ns each, {:.0} per second",
            1e9 / each
        );
    }
}
