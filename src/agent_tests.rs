//! The pipeline's thread, fed by hand.

use std::sync::Mutex;
use std::{io, iter};

use spandrel_model::{
    ConnectionOpened, Direction, Endpoint, Event, Lineage, Measured, Message, Origin, Resource,
    Role, Stamp, Transport, Value,
};
use spandrel_protocols::Tracker;

use super::*;
use crate::identity::{Identities, Settings};
use crate::pipeline::NoSteering;
use crate::selection::Selection;
use crate::selectors::Selectors;
use crate::sink::Sink;

const SECOND: u64 = 1_000_000_000;

/// Keeps the status of each exchange.
#[derive(Clone, Default)]
struct Statuses(Arc<Mutex<Vec<Option<i64>>>>);

impl Sink for Statuses {
    fn accept(&mut self, _: &Arc<Resource>, measured: Measured) -> io::Result<()> {
        let status = match measured.span.attribute("http.response.status_code") {
            Some(Value::I64(status)) => Some(*status),
            _ => None,
        };
        self.0.lock().unwrap().push(status);
        Ok(())
    }

    fn tick(&mut self, _: KernelTime, _: UnixTime) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: UnixTime) -> io::Result<()> {
        Ok(())
    }
}

fn pipeline(sink: impl Sink + 'static, ledger: &Arc<Ledger>) -> Pipeline {
    Pipeline::new(
        Tracker::new(
            spandrel_protocols::Settings::default(),
            1,
            Arc::clone(ledger),
        ),
        Identities::new(Settings::replay()),
        Selection::new(Selectors::default(), 16),
        Box::new(sink),
        Box::new(NoSteering),
        Arc::clone(ledger),
    )
}

fn stamp(time: u64) -> Stamp {
    Stamp {
        time: KernelTime(time),
        ..Stamp::default()
    }
}

fn opened(time: u64) -> Event {
    Event::ConnectionOpened(ConnectionOpened {
        stamp: stamp(time),
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
    })
}

fn message(time: u64, direction: Direction, text: &'static str) -> Event {
    Event::Message(Message {
        stamp: stamp(time),
        connection: ConnectionId(1),
        direction,
        position: 0,
        length: text.len().try_into().unwrap(),
        unseen: 0,
        payload: text.as_bytes().into(),
        tail: Default::default(),
        started: None,
        arrived: None,
        process: ProcessKey {
            tgid: 1,
            started: 1,
        },
        tid: 1,
        lineage: Lineage::Thread(1),
        cgroup: 0,
        srtt_us: 0,
        retransmits: 0,
        flags: Default::default(),
    })
}

#[test]
fn a_request_that_waits_in_the_ring_still_gets_its_response() {
    let begin = 100 * SECOND;
    let (sender, receiver) = sync_channel(BATCHES);
    let batch = |events, until| Batch {
        groups: Vec::new(),
        events,
        until: KernelTime(until),
    };
    // The agent was paused: the response was taken out of the ring before the request, a long time after both.
    let answer = message(
        begin + 2,
        Direction::Egress,
        "HTTP/1.1 204 No Content\r\n\r\n",
    );
    sender
        .send(batch(vec![opened(begin), answer], begin + 2))
        .unwrap();
    sender.send(batch(Vec::new(), begin + SECOND / 20)).unwrap();
    let request = message(
        begin + 1,
        Direction::Ingress,
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    sender
        .send(batch(vec![request], begin + 60 * SECOND))
        .unwrap();
    drop(sender);
    let ledger = Arc::new(Ledger::default());
    let statuses = Statuses::default();
    let mut pipeline = pipeline(statuses.clone(), &ledger);
    consume(&mut pipeline, &receiver, iter::empty(), &Stop::default());
    assert_eq!(*statuses.0.lock().unwrap(), [Some(204)]);
    assert_eq!(ledger.exchanges.snapshot().dropped.len(), 0);
}

#[test]
fn time_passes_without_an_event() {
    let begin = 100 * SECOND;
    let (sender, receiver) = sync_channel(BATCHES);
    let answer = message(begin, Direction::Egress, "HTTP/1.1 204 No Content\r\n\r\n");
    for (events, until) in [
        (vec![opened(begin), answer], begin),
        (Vec::new(), begin + SECOND),
    ] {
        sender
            .send(Batch {
                groups: Vec::new(),
                events,
                until: KernelTime(until),
            })
            .unwrap();
    }
    drop(sender);
    let ledger = Arc::new(Ledger::default());
    let mut pipeline = pipeline(Statuses::default(), &ledger);
    consume(&mut pipeline, &receiver, iter::empty(), &Stop::default());
    let dropped = ledger.exchanges.snapshot().dropped;
    assert_eq!(dropped.get("exchange.no_request"), Some(&1), "{dropped:?}");
}

#[test]
fn a_capture_that_ends_unasked_ends_the_run() {
    let (sender, receiver) = sync_channel(BATCHES);
    let ledger = Arc::new(Ledger::default());
    let (stop, pipeline) = (Stop::default(), pipeline(Statuses::default(), &ledger));
    let life = Life {
        stop: &stop.clone(),
        duration: None,
        shutdown_timeout: Duration::from_secs(1),
        ledger: &ledger,
    };
    let worker = thread::spawn(move || work(pipeline, receiver, iter::empty(), &stop));
    drop(sender);
    let error = live(&life, &worker, Counters::default).unwrap_err();
    assert!(error.to_string().contains("capture"), "{error}");
}

#[test]
fn a_pipeline_that_stands_still_is_left_behind() {
    let (release, held) = sync_channel::<()>(0);
    let worker: Worker = thread::spawn(move || {
        held.recv().unwrap_err();
        Ok(())
    });
    let error = join(worker, Duration::ZERO, Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("shutdown_timeout"), "{error}");
    drop(release);
}

#[test]
fn kernel_time_with_the_offset_is_the_time_of_day() {
    let unix = clock_offset().to_unix(now()).0;
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let apart = before.as_nanos().abs_diff(u128::from(unix));
    assert!(apart < 5_000_000_000, "{apart} ns apart");
}
