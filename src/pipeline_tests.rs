//! What the kernel side is told, and what becomes of messages by it.

use std::sync::Mutex;

use spandrel_model::recording::RecordedIdentity;
use spandrel_model::{Attribute, ProcessStarted, Stamp};

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

/// Writes down what the kernel side is told of processes.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<bool>>>);

impl Steering for Told {
    fn process(&mut self, process: ProcessKey, allow: bool) {
        assert_eq!(process, PROCESS);
        self.0.lock().unwrap().push(allow);
    }
    fn goroutines(&mut self, _: ProcessKey, _: Option<GoroutineLayout>) {}
    fn connection(&mut self, _: ConnectionId, _: CapturePolicy) {}
}

fn program(path: &str) -> RecordedIdentity {
    let path = Attribute::new("process.executable.path", path.to_owned());
    RecordedIdentity::of(PROCESS, vec![path])
}

fn started(time: u64) -> Event {
    Event::ProcessStarted(ProcessStarted {
        stamp: Stamp {
            time: KernelTime(time),
            ..Stamp::default()
        },
        process: PROCESS,
        parent: 1,
        comm: "x".to_owned(),
        filename: None,
        cgroup: 0,
    })
}

#[test]
fn the_kernel_side_hears_anew_of_each_program_that_a_process_executes() {
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
        pipeline.handle(&started(time));
    }
    assert_eq!(*told.0.lock().unwrap(), [false, true, false]);
}
