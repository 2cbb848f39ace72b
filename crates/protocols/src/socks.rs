//! A SOCKS handshake in front of another protocol (RFC 1928 and 1929, and SOCKS4): passed over to the byte.

use spandrel_model::{Direction, Role};

use crate::stream::Item;

/// What may be held until both directions are through; what a client sends ahead of the reply counts as well.
const MAX_HELD: usize = 32 * 1024;

/// What some bytes are of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Not one.
    No,
    /// Its beginning.
    More,
    /// This many bytes at the front are one.
    Whole(usize),
}

/// Reads fields from the front of some bytes; `None` where they end too early.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn pass(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len()).then_some(())
    }

    /// Up to a byte that is 0, and that.
    fn pass_text(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        self.at += memchr::memchr(0, rest)? + 1;
        Some(())
    }

    /// Type, address and port.
    fn pass_address(&mut self) -> Option<bool> {
        let length = match self.byte()? {
            1 => 4,
            3 => usize::from(self.byte()?),
            4 => 16,
            _ => return Some(false),
        };
        self.pass(length + 2)?;
        Some(true)
    }
}

fn part(bytes: &[u8], read: impl FnOnce(&mut Fields<'_>) -> Option<bool>) -> Part {
    let mut fields = Fields { bytes, at: 0 };
    match read(&mut fields) {
        None => Part::More,
        Some(false) => Part::No,
        Some(true) => Part::Whole(fields.at),
    }
}

/// All that a client says: that it wants to be connected, after the methods and the password that SOCKS5 has.
fn client(fields: &mut Fields<'_>) -> Option<bool> {
    match fields.byte()? {
        4 => {
            if fields.byte()? != 1 {
                return Some(false);
            }
            fields.pass(2)?;
            let address = fields.bytes.get(fields.at..fields.at + 4)?;
            let named = matches!(address, [0, 0, 0, last] if *last > 0);
            fields.pass(4)?;
            fields.pass_text()?;
            if named {
                fields.pass_text()?;
            }
            Some(true)
        }
        5 => {
            let methods = fields.byte()?;
            if methods == 0 {
                return Some(false);
            }
            fields.pass(usize::from(methods))?;
            if fields.peek()? == 1 {
                fields.byte()?;
                let name = fields.byte()?;
                fields.pass(usize::from(name))?;
                let password = fields.byte()?;
                fields.pass(usize::from(password))?;
            }
            for expected in [5, 1, 0] {
                if fields.byte()? != expected {
                    return Some(false);
                }
            }
            fields.pass_address()
        }
        _ => Some(false),
    }
}

/// All that a server says that connects.
fn server(fields: &mut Fields<'_>) -> Option<bool> {
    let replies: &[u8] = match fields.byte()? {
        0 => {
            if fields.byte()? != 90 {
                return Some(false);
            }
            fields.pass(6)?;
            return Some(true);
        }
        5 => match fields.byte()? {
            0 => &[5, 0, 0],
            2 => &[1, 0, 5, 0, 0],
            _ => return Some(false),
        },
        _ => return Some(false),
    };
    for expected in replies {
        if fields.byte()? != *expected {
            return Some(false);
        }
    }
    fields.pass_address()
}

/// One direction.
struct Side {
    bytes: Vec<u8>,
    part: Part,
}

impl Side {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            part: Part::More,
        }
    }
}

/// A handshake under way.
pub(crate) struct Handshake {
    /// The direction in which the client speaks.
    requests: Direction,
    client: Side,
    server: Side,
    held: Vec<(Direction, Item)>,
    held_cost: usize,
}

/// What has become of a handshake.
pub(crate) enum Step {
    /// More is needed.
    Wait,
    /// It is over, or none: this comes next.
    Next(Vec<(Direction, Item)>),
}

impl Handshake {
    /// A handshake that these first bytes of a direction may begin.
    pub(crate) fn begin(role: Role, direction: Direction, bytes: &[u8]) -> Option<Self> {
        let requests = match role {
            Role::Client => Direction::Egress,
            Role::Server => Direction::Ingress,
        };
        let first = if direction == requests {
            part(bytes, client)
        } else {
            part(bytes, server)
        };
        (!bytes.is_empty() && first != Part::No).then(|| Self {
            requests,
            client: Side::new(),
            server: Side::new(),
            held: Vec::new(),
            held_cost: 0,
        })
    }

    /// Takes the next item of a direction.
    pub(crate) fn take(&mut self, direction: Direction, item: Item) -> Step {
        let of_client = direction == self.requests;
        let side = if of_client {
            &mut self.client
        } else {
            &mut self.server
        };
        if side.part == Part::More {
            side.part = match &item {
                Item::Lost(_) => Part::No,
                Item::Chunk(chunk) => {
                    side.bytes.extend_from_slice(chunk.head());
                    let part = if of_client {
                        part(&side.bytes, client)
                    } else {
                        part(&side.bytes, server)
                    };
                    match part {
                        Part::More if !chunk.is_captured() => Part::No,
                        part => part,
                    }
                }
            };
        }
        self.held_cost += item.cost();
        self.held.push((direction, item));
        match (self.client.part, self.server.part) {
            (Part::Whole(client), Part::Whole(server)) => Step::Next(self.behind(client, server)),
            (Part::No, _) | (_, Part::No) => Step::Next(std::mem::take(&mut self.held)),
            _ if self.held_cost > MAX_HELD => Step::Next(std::mem::take(&mut self.held)),
            _ => Step::Wait,
        }
    }

    /// What was sent behind the handshake, of which so many bytes are the client's and the server's.
    fn behind(&mut self, mut client: usize, mut server: usize) -> Vec<(Direction, Item)> {
        let mut rest = Vec::new();
        for (direction, item) in std::mem::take(&mut self.held) {
            let left = if direction == self.requests {
                &mut client
            } else {
                &mut server
            };
            match item {
                Item::Chunk(mut chunk) => {
                    let passed = chunk.length.min(*left as u64);
                    *left -= passed as usize;
                    if passed < chunk.length {
                        chunk.trim(passed);
                        rest.push((direction, Item::Chunk(chunk)));
                    }
                }
                lost @ Item::Lost(_) => rest.push((direction, lost)),
            }
        }
        rest
    }

    /// Bytes held.
    pub(crate) fn cost(&self) -> usize {
        self.held_cost + self.client.bytes.capacity() + self.server.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_handshake_is_read_to_its_last_byte_and_no_further() {
        let clients: [&[u8]; 7] = [
            b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
            b"\x05\x02\x00\x02\x05\x01\x00\x03\x04shop\x00\x50",
            b"\x05\x01\x02\x01\x01u\x01p\x05\x01\x00\x03\x01a\x00\x50",
            b"\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50",
            b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
            b"\x04\x01\x00\x50\x7f\x00\x00\x01me\x00",
            b"\x04\x01\x00\x50\x00\x00\x00\x01\x00shop\x00",
        ];
        for bytes in clients {
            check(bytes, client);
        }
        let servers: [&[u8]; 4] = [
            b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
            b"\x05\x02\x01\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50",
            b"\x05\x00\x05\x00\x00\x03\x01a\x00\x50",
            b"\x00\x5a\x00\x00\x00\x00\x00\x00",
        ];
        for bytes in servers {
            check(bytes, server);
        }
    }

    fn check(bytes: &[u8], read: fn(&mut Fields<'_>) -> Option<bool>) {
        for length in 0..bytes.len() {
            assert_eq!(part(&bytes[..length], read), Part::More, "{bytes:?}");
        }
        let more = [bytes, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(part(&more, read), Part::Whole(bytes.len()));
    }

    #[test]
    fn what_is_no_handshake_or_connects_nothing_is_none() {
        let clients: [&[u8]; 6] = [
            b"GET / HTTP/1.1",
            b"\x05\x00",
            b"\x05\x01\x00\x05\x02",
            b"\x05\x01\x00\x05\x01\x00\x02",
            b"\x04\x02",
            b"\x16\x03\x01",
        ];
        for bytes in clients {
            assert_eq!(part(bytes, client), Part::No, "{bytes:?}");
        }
        let servers: [&[u8]; 5] = [
            b"\x05\xff",
            b"\x05\x01",
            b"\x05\x02\x01\x01",
            b"\x05\x00\x05\x05",
            b"\x00\x5b",
        ];
        for bytes in servers {
            assert_eq!(part(bytes, server), Part::No, "{bytes:?}");
        }
    }
}
