//! Stands before a server and counts what its clients send.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A port that leads to another one. Its threads end with their connections, the listening one with the test.
pub(crate) struct Relay {
    pub(crate) port: u16,
    sent: Arc<AtomicUsize>,
}

impl Relay {
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind any port");
        let port = listener.local_addr().expect("its address").port();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                let back = [server.try_clone(), client.try_clone()].map(Result::unwrap);
                let counted = Arc::clone(&counted);
                thread::spawn(move || copy(client, server, &counted));
                let [server, client] = back;
                thread::spawn(move || copy(server, client, &AtomicUsize::new(0)));
            }
        });
        Self { port, sent }
    }

    /// How many bytes the clients have sent.
    pub(crate) fn bytes(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicUsize) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count.fetch_add(read, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
