//! Runs a capture beside a child's traffic and gives back what was seen of that child.
#![allow(clippy::print_stderr, dead_code, missing_docs, unreachable_pub)]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use spandrel_model::{ConnectionClosed, ConnectionId, ConnectionOpened, Direction, Event, Message};
use spandrel_probes::{
    BackendChoice, Batch, Capture, CaptureSettings, Control, Counters, Group, Status,
};

mod backends;
pub mod cgroup;
pub use backends::backends;

pub fn settings(backend: BackendChoice) -> CaptureSettings {
    CaptureSettings {
        backend,
        ..CaptureSettings::default()
    }
}

const PYTHON: &str = "/usr/bin/python3";

/// A child that makes traffic.
pub struct Traffic {
    pub child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub said: Vec<Value>,
}

impl Traffic {
    pub fn start(scenario: &str, argument: &str) -> Self {
        Self::start_by(Command::new(PYTHON), scenario, argument)
    }

    /// In a network namespace.
    pub fn start_in(netns: &str, scenario: &str, argument: &str) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", netns, PYTHON]);
        Self::start_by(command, scenario, argument)
    }

    fn start_by(mut command: Command, scenario: &str, argument: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traffic.py");
        let mut child = command
            .args([script, scenario, argument])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 makes the traffic of these tests");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
            said: Vec::new(),
        }
    }

    /// Reads until the child waits.
    pub fn until_ready(&mut self) {
        loop {
            let value = self.line().expect("the child ended early");
            let ready = value.get("ready").is_some();
            self.said.push(value);
            if ready {
                return;
            }
        }
    }

    pub fn go(&mut self) {
        self.input.write_all(b"go\n").unwrap();
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap();
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    pub fn finish(mut self) -> (u32, Vec<Value>) {
        while let Some(value) = self.line() {
            self.said.push(value);
        }
        assert!(self.child.wait().unwrap().success(), "the child failed");
        (self.child.id(), self.said)
    }
}

/// Everything that a capture has seen, and the ports of the child.
pub struct Seen {
    pub events: Vec<Event>,
    pub counters: Counters,
    pub status: Status,
    pub pid: u32,
    pub said: Vec<Value>,
    pub groups: Vec<Group>,
}

pub struct Running {
    pub capture: Capture,
    receiver: Receiver<Batch>,
    events: Vec<Event>,
    groups: Vec<Group>,
}

impl Running {
    pub fn start(settings: CaptureSettings) -> Self {
        Self::with_sink(settings, 4096)
    }

    /// With room for so many batches until they are received.
    pub fn with_sink(settings: CaptureSettings, batches: usize) -> Self {
        let (sink, receiver) = sync_channel(batches);
        let capture = Capture::start(settings, sink).expect("these tests need root and BPF");
        Self {
            capture,
            receiver,
            events: Vec::new(),
            groups: Vec::new(),
        }
    }

    pub fn control(&self) -> Control {
        self.capture.control()
    }

    /// Waits for an event.
    pub fn await_event(&mut self, wanted: impl Fn(&Event) -> bool) {
        let deadline = Instant::now() + backends::patience(Duration::from_secs(20));
        while !self.events.iter().any(&wanted) {
            let left = deadline.saturating_duration_since(Instant::now());
            let batch = self.receiver.recv_timeout(left);
            let batch = batch.expect("the awaited event did not come");
            self.groups.extend(batch.groups);
            self.events.extend(batch.events);
        }
    }

    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub fn finish(mut self, traffic: Traffic) -> Seen {
        let (pid, said) = traffic.finish();
        let receiver = self.receiver;
        let rest = std::thread::spawn(move || receiver.iter().collect::<Vec<_>>());
        let status = self.capture.status().clone();
        let counters = self.capture.stop();
        for batch in rest.join().unwrap() {
            self.groups.extend(batch.groups);
            self.events.extend(batch.events);
        }
        assert!(counters.is_closed(), "{counters:?}");
        let undelivered: u64 = counters.undelivered.values().sum();
        assert_eq!(
            counters.submitted,
            counters.delivered + undelivered,
            "{counters:?}"
        );
        let messages = self
            .events
            .iter()
            .filter(|event| matches!(event, Event::Message(_)));
        assert_eq!(messages.count() as u64, counters.delivered);
        Seen {
            events: self.events,
            counters,
            status,
            pid,
            said,
            groups: self.groups,
        }
    }
}

/// Captures a scenario from its start to its end.
/// The path of a Unix socket in a folder of its own, which goes with it.
pub struct SocketPath(PathBuf);

impl SocketPath {
    /// For a test on a backend.
    pub fn new(test: &str, backend: BackendChoice) -> Self {
        let folder = format!("spandrel-{test}-{}-{backend:?}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// The path.
    pub fn text(&self) -> String {
        self.0.join("socket").to_str().unwrap().to_owned()
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub fn observe(settings: CaptureSettings, scenario: &str) -> Seen {
    let running = Running::start(settings);
    running.finish(Traffic::start(scenario, ""))
}

impl Seen {
    /// Whether the capture says that it can do this here.
    pub fn has(&self, feature: &str) -> bool {
        let mut features = self.status.features.iter();
        features.any(|known| known.feature == feature && known.available)
    }

    /// The n-th pair of connections: the client's end and the server's.
    pub fn pair(&self, n: usize) -> (&ConnectionOpened, &ConnectionOpened) {
        let ports = self
            .said
            .iter()
            .filter(|said| said.get("port").is_some())
            .nth(n)
            .unwrap();
        let server = ports["port"].as_u64().unwrap() as u16;
        let client = ports["client_port"].as_u64().unwrap() as u16;
        let end = |local, peer| {
            let found: Vec<_> = self
                .events
                .iter()
                .filter_map(|event| match event {
                    Event::ConnectionOpened(opened)
                        if opened.local.port() == Some(local)
                            && opened.peer.port() == Some(peer) =>
                    {
                        Some(opened)
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(
                found.len(),
                1,
                "connections from port {local} to {peer}: {found:?}"
            );
            found[0]
        };
        (end(client, server), end(server, client))
    }

    /// The close of a connection.
    pub fn closed(&self, id: ConnectionId) -> &ConnectionClosed {
        let mut found = self.events.iter().filter_map(|event| match event {
            Event::ConnectionClosed(closed) if closed.connection == id => Some(closed),
            _ => None,
        });
        let closed = found.next().expect("the close of a connection");
        assert!(found.next().is_none(), "closed twice");
        closed
    }

    pub fn messages(&self, connection: ConnectionId, direction: Direction) -> Vec<&Message> {
        let mut found: Vec<_> = self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Message(message)
                    if message.connection == connection && message.direction == direction =>
                {
                    Some(message)
                }
                _ => None,
            })
            .collect();
        found.sort_by_key(|message| message.position);
        found
    }

    /// The child's messages of one end, each right behind the last one but for what was not seen: `<` that many bytes `>`.
    pub fn texts(&self, connection: ConnectionId, direction: Direction) -> Vec<String> {
        let messages = self.messages(connection, direction);
        let mut position = 0;
        let mut texts = Vec::new();
        for message in messages {
            let unseen = u64::from(message.unseen);
            assert_eq!(message.position, position + unseen, "{message:?}");
            if unseen > 0 {
                texts.push(format!("<{unseen}>"));
            }
            position = message.end();
            if message.payload.len() == message.length as usize {
                texts.push(String::from_utf8_lossy(&message.payload).into_owned());
            } else {
                texts.push(format!("{} bytes", message.length));
            }
        }
        texts
    }
}
