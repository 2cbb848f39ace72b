//! Any bytes as the two directions of one connection: the body of a fuzz target and of a plain test.

use bytes::Bytes;
use spandrel_model::{Event, KernelTime, Message};
use spandrel_protocols::Settings;

use crate::script::{self, Step};

/// Stands between what the client and what the server sends, so that an input is text where its content is.
const TURN: &[u8] = b"\n====\n";

/// Feeds `data` in whole messages and in pieces, seen from either end; `script::run_steps` checks what must hold.
///
/// The first byte says where to cut. Without a `TURN` all is request. Whole and cut need not give the same here: behind
/// bytes that are not HTTP, parsing begins again where a message begins. tests/properties.rs compares them where all is.
pub(crate) fn drive(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let turn = data.windows(TURN.len()).position(|window| window == TURN);
    let (request, response) = match turn {
        Some(at) => (&data[..at], &data[at + TURN.len()..]),
        None => (data, &[][..]),
    };
    for role in ["server", "client"] {
        for size in [usize::MAX, usize::from(cut) + 1] {
            feed(role, request, response, size);
        }
    }
}

fn feed(role: &str, request: &[u8], response: &[u8], size: usize) {
    let (first, second) = match role {
        "server" => ("read", "write"),
        _ => ("write", "read"),
    };
    let text = format!(
        "open 1 {role} 10.0.0.1:80 10.0.0.2:4000\n{first} 1 1000 \"\"\n{second} 1 2000 \"\"\nclose 1 3000"
    );
    let mut steps = Vec::new();
    for step in script::parse(&text) {
        match step {
            Step::Event(Event::Message(template)) => {
                let bytes = match template.stamp.time {
                    KernelTime(1_000_000) => request,
                    _ => response,
                };
                pieces(&template, bytes, size, &mut steps);
            }
            Step::Event(Event::ConnectionClosed(mut closed)) => {
                let total = |here: &str| match (here == first, here == second) {
                    (true, _) => request.len() as u64,
                    _ => response.len() as u64,
                };
                closed.ingress_bytes = total("read");
                closed.egress_bytes = total("write");
                steps.push(Step::Event(Event::ConnectionClosed(closed)));
            }
            other => steps.push(other),
        }
    }
    let settings = Settings {
        max_buffered_bytes_per_connection: 16 << 20,
        ..Settings::default()
    };
    script::run_steps(&steps, settings);
}

fn pieces(template: &Message, bytes: &[u8], size: usize, steps: &mut Vec<Step>) {
    let mut position = 0;
    for piece in bytes.chunks(size) {
        let mut message = template.clone();
        message.position = position;
        message.length = piece.len() as u32;
        message.payload = Bytes::copy_from_slice(piece);
        position += piece.len() as u64;
        steps.push(Step::Event(Event::Message(message)));
    }
}
