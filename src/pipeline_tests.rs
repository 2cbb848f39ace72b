//! What the kernel side is told, and what becomes of messages by it.

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use spandrel_model::recording::RecordedIdentity;
use spandrel_model::{
    Attribute, ConnectionClosed, ConnectionOpened, Direction, Endpoint, Lineage, Message, Origin,
    ProcessStarted, Role, Stamp, Transport,
};

use super::*;
use crate::identity::Settings;
use crate::selectors::{Pattern, Selector, Selectors};

const PROCESS: ProcessKey = ProcessKey {
    tgid: 7,
    started: 1,
};

struct Nowhere;

impl Sink for Nowhere {
    fn accept(&mut self, _: &Arc<Resource>, _: Measured) -> io::Result<()> {
        Ok(())
    }
    fn tick(&mut self, _: KernelTime, _: UnixTime) -> io::Result<()> {
        Ok(())
    }
    fn finish(&mut self, _: UnixTime) -> io::Result<()> {
        Ok(())
    }
}

/// Writes down what the kernel side is told of processes, and which connections have ended.
#[derive(Clone, Default)]
struct Told(
    Arc<Mutex<Vec<(ProcessKey, bool)>>>,
    Arc<Mutex<Vec<ConnectionId>>>,
);

impl Steering for Told {
    fn process(&mut self, process: ProcessKey, allow: bool) {
        self.0.lock().unwrap().push((process, allow));
    }
    fn goroutines(&mut self, _: ProcessKey, _: Option<GoroutineLayout>) {}
    fn connection(&mut self, _: ConnectionId, _: CapturePolicy) {}
    fn closed(&mut self, connection: ConnectionId) {
        self.1.lock().unwrap().push(connection);
    }
}

fn program(path: &str) -> RecordedIdentity {
    let path = Attribute::new("process.executable.path", path.to_owned());
    RecordedIdentity::of(PROCESS, vec![path])
}

fn start(time: u64) -> ProcessStarted {
    ProcessStarted {
        stamp: Stamp {
            time: KernelTime(time),
            ..Stamp::default()
        },
        process: PROCESS,
        parent: 1,
        comm: "x".to_owned(),
        filename: None,
        executable: None,
        cgroup: 0,
    }
}

#[test]
fn the_kernel_side_hears_anew_of_each_program_that_a_process_executes_and_of_ended_connections() {
    let mut identities = Identities::new(Settings::replay());
    for path in ["/bin/sh", "/usr/sbin/nginx", "/bin/sh"] {
        identities.seed(program(path));
    }
    let ledger = Arc::new(Ledger::default());
    let told = Told::default();
    let selectors = Selectors {
        include: vec![Selector {
            executable: Some(Pattern::new("*/nginx").unwrap()),
            ..Selector::default()
        }],
        exclude: Vec::new(),
    };
    let mut pipeline = Pipeline::new(
        Tracker::new(
            spandrel_protocols::Settings::default(),
            1,
            Arc::clone(&ledger),
        ),
        identities,
        Selection::new(selectors, 16),
        Box::new(Nowhere),
        Box::new(told.clone()),
        ledger,
    );
    for time in 1..=3 {
        pipeline.handle(&Event::ProcessStarted(start(time)));
    }
    pipeline.handle(&Event::ConnectionClosed(ConnectionClosed {
        stamp: Stamp::default(),
        connection: ConnectionId(7),
        reset: false,
        ingress_bytes: 0,
        egress_bytes: 0,
    }));
    let heard = [false, true, false].map(|allow| (PROCESS, allow));
    assert_eq!(*told.0.lock().unwrap(), heard);
    assert_eq!(*told.1.lock().unwrap(), [ConnectionId(7)]);
}

/// Keeps the program of each exchange.
#[derive(Clone, Default)]
struct Programs(Arc<Mutex<Vec<bool>>>);

impl Sink for Programs {
    fn accept(&mut self, resource: &Arc<Resource>, _: Measured) -> io::Result<()> {
        let mut attributes = resource.attributes().iter();
        let is_read = attributes.any(|it| it.key == "process.executable.path");
        self.0.lock().unwrap().push(is_read);
        Ok(())
    }
    fn tick(&mut self, _: KernelTime, _: UnixTime) -> io::Result<()> {
        Ok(())
    }
    fn finish(&mut self, _: UnixTime) -> io::Result<()> {
        Ok(())
    }
}

fn message(process: ProcessKey, direction: Direction, text: &'static str) -> Event {
    Event::Message(Message {
        stamp: Stamp::default(),
        connection: ConnectionId(1),
        direction,
        position: 0,
        length: text.len().try_into().unwrap(),
        unseen: 0,
        payload: text.as_bytes().into(),
        tail: Default::default(),
        started: None,
        arrived: None,
        process,
        tid: 1,
        lineage: Lineage::Thread(1),
        cgroup: 0,
        srtt_us: 0,
        retransmits: 0,
        flags: Default::default(),
    })
}

#[test]
fn what_a_process_has_done_waits_until_it_is_read_where_nothing_waits_for_pods() {
    let identities = Identities::new(Settings {
        beside: true,
        ..Settings::default()
    });
    let process = identities.find(std::process::id()).unwrap();
    let ledger = Arc::new(Ledger::default());
    let programs = Programs::default();
    let mut pipeline = Pipeline::new(
        Tracker::new(
            spandrel_protocols::Settings::default(),
            1,
            Arc::clone(&ledger),
        ),
        identities,
        Selection::new(Selectors::default(), 16),
        Box::new(programs.clone()),
        Box::new(NoSteering),
        ledger,
    );
    pipeline.handle(&Event::ConnectionOpened(ConnectionOpened {
        stamp: Stamp::default(),
        connection: ConnectionId(1),
        origin: Origin::Observed,
        transport: Transport::Tcp,
        role: Some(Role::Server),
        local: Endpoint::Unknown,
        peer: Endpoint::Unknown,
        netns: 0,
        connect_started: None,
        process: None,
        passed: None,
    }));
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    pipeline.handle(&message(process, Direction::Ingress, request));
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    pipeline.handle(&message(process, Direction::Egress, answer));
    // Whether the exchange is told by now or at the end: by then the process is read.
    pipeline.finish().unwrap();
    assert_eq!(*programs.0.lock().unwrap(), [true]);
}

#[test]
fn the_kernel_side_hears_of_a_process_before_its_events_are_read_and_again_when_it_asks() {
    let identities = Identities::new(Settings {
        beside: true,
        ..Settings::default()
    });
    let process = identities.find(std::process::id()).unwrap();
    let ledger = Arc::new(Ledger::default());
    let told = Told::default();
    let selectors = Selectors {
        exclude: vec![Selector {
            executable: Some(Pattern::new("*").unwrap()),
            ..Selector::default()
        }],
        ..Selectors::default()
    };
    let mut pipeline = Pipeline::new(
        Tracker::new(
            spandrel_protocols::Settings::default(),
            1,
            Arc::clone(&ledger),
        ),
        identities,
        Selection::new(selectors, 16),
        Box::new(Nowhere),
        Box::new(told.clone()),
        ledger,
    );
    let hears = |pipeline: &mut Pipeline, count| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while told.0.lock().unwrap().len() < count {
            assert!(Instant::now() < deadline, "the kernel side hears nothing");
            pipeline.hear();
            thread::yield_now();
        }
        assert_eq!(*told.0.lock().unwrap(), vec![(process, false); count]);
    };
    let mut asked = Asked {
        process,
        time: KernelTime(1),
        executed: true,
        cgroup: 0,
    };
    pipeline.asked(&asked);
    hears(&mut pipeline, 1);
    // It comes to the event, and decides by what it knows.
    pipeline.handle(&Event::ProcessStarted(ProcessStarted {
        process,
        ..start(1)
    }));
    hears(&mut pipeline, 2);
    // The kernel side has forgotten it.
    asked.executed = false;
    pipeline.asked(&asked);
    hears(&mut pipeline, 3);
}
