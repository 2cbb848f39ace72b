//! Any bytes as a sequence of events: the body of the fuzz target, which also runs as a plain test.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spandrel_model::{
    ConnectionClosed, ConnectionHalfClosed, ConnectionId, ConnectionOpened, Direction, Endpoint,
    Event, KernelTime, Ledger, Message, Origin, Passed, ProcessKey, Role, Stamp, Transport,
};
use spandrel_protocols::{Output, Settings, Tracker};

/// Pieces of HTTP that random bytes would not find.
const PIECES: [&[u8]; 16] = [
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"5\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"abcde",
    b"\r\n",
];

/// Limits small enough to be met.
fn settings() -> Settings {
    let mut settings = Settings {
        max_connections: 4,
        max_buffered_bytes_per_connection: 8 * 1024,
        max_buffered_bytes: 16 * 1024,
        idle_timeout: Duration::from_millis(500),
        ..Settings::default()
    };
    settings.http.max_head_bytes = 2048;
    settings.http.max_pipelined = 8;
    settings
}

/// Feeds the tracker with events made from `data`, and checks what must hold for any input.
pub(crate) fn drive(data: &[u8]) {
    let settings = settings();
    let most = settings.max_buffered_bytes;
    let max_connections = settings.max_connections;
    let ledger = Arc::new(Ledger::default());
    let mut tracker = Tracker::new(settings, 1, Arc::clone(&ledger));
    let mut output = Output::default();
    let mut data = data.iter().copied();
    let mut now = 1_000_000;
    let mut positions = [[0_u64; 2]; 6];
    while let Some(what) = data.next() {
        let mut byte = || data.next().unwrap_or(0);
        let id = byte() % 6;
        let side = usize::from(what >> 7);
        let direction = [Direction::Ingress, Direction::Egress][side];
        let connection = ConnectionId(u64::from(id));
        now += u64::from(byte()) * 1_000_000;
        let stamp = Stamp {
            time: KernelTime(now),
            cpu: 0,
            sequence: now,
        };
        let event = match what % 16 {
            0 => {
                let how = byte();
                Event::ConnectionOpened(ConnectionOpened {
                    stamp,
                    connection,
                    origin: match how % 2 {
                        0 => Origin::Observed,
                        _ => Origin::PreExisting,
                    },
                    transport: Transport::Tcp,
                    role: [None, Some(Role::Client), Some(Role::Server)][usize::from(byte() % 3)],
                    local: Endpoint::Unknown,
                    peer: Endpoint::Socket(([10, 0, 0, 1], 80).into()),
                    netns: 1,
                    connect_started: None,
                    process: None,
                    passed: (how & 2 == 0).then(|| Passed {
                        ingress: u64::from(how >> 2),
                        egress: u64::from(how >> 5),
                    }),
                })
            }
            1 => Event::ConnectionHalfClosed(ConnectionHalfClosed {
                stamp,
                connection,
                direction,
            }),
            2 => {
                let [ingress, egress] = positions[usize::from(id)];
                positions[usize::from(id)] = [0; 2];
                Event::ConnectionClosed(ConnectionClosed {
                    stamp,
                    connection,
                    reset: byte() % 2 == 0,
                    ingress_bytes: ingress + u64::from(byte() % 2),
                    egress_bytes: egress,
                })
            }
            3 => {
                tracker.tick(KernelTime(now), &mut output);
                assert!(tracker.buffered_bytes() <= most);
                continue;
            }
            kind => {
                let mut payload = match kind {
                    4 => (0..byte()).map(|_| byte()).collect(),
                    5 => vec![b'A' + byte() % 32; usize::from(byte()) * 16],
                    _ => PIECES[usize::from(byte() % 16)].to_vec(),
                };
                let length = payload.len() as u32;
                let mut tail = Vec::new();
                let mut hidden = 0;
                if kind == 7 {
                    payload.truncate(usize::from(byte()));
                    hidden = u32::from(byte());
                    tail = b"\r\n0\r\n\r\n".to_vec();
                }
                let position = &mut positions[usize::from(id)][side];
                let unseen = if kind == 11 { u32::from(byte()) } else { 0 };
                let at = match kind {
                    11 => *position + u64::from(unseen),
                    8 => position.saturating_sub(u64::from(byte())),
                    9 => *position + u64::from(byte()),
                    10 => u64::MAX - u64::from(byte()),
                    _ => *position,
                };
                if kind != 10 {
                    *position = (*position).max(at + u64::from(length + hidden));
                }
                ledger.messages.see(1);
                Event::Message(Message {
                    stamp,
                    connection,
                    direction,
                    position: at,
                    length: length.saturating_add(hidden),
                    unseen,
                    payload: Bytes::from(payload),
                    tail: Bytes::from(tail),
                    started: None,
                    arrived: Some(KernelTime(now / 2)),
                    process: ProcessKey {
                        tgid: 1,
                        started: 1,
                    },
                    tid: 1,
                    lineage: Default::default(),
                    cgroup: 0,
                    srtt_us: 1,
                    retransmits: 0,
                    flags: spandrel_model::MessageFlags::default(),
                })
            }
        };
        tracker.handle(&event, &mut output);
        assert!(tracker.connections() <= max_connections);
        let held = tracker.buffered_bytes();
        assert!(held <= most, "{held} bytes are held");
    }
    tracker.finish(&mut output);
    assert_eq!(tracker.buffered_bytes(), 0);
    assert!(ledger.messages.snapshot().is_closed());
    let exchanges = ledger.exchanges.snapshot();
    assert!(exchanges.is_closed(), "{exchanges:?}");
    assert_eq!(exchanges.settled, output.measured.len() as u64);
    for measured in &output.measured {
        assert!(measured.span.start <= measured.span.end);
        let keys = measured.metric_attributes.iter().map(|one| &one.key);
        assert!(keys.is_sorted());
    }
}
