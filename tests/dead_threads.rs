//! A thread or task that panics ends the agent, with an error, a closed ledger and exit code 1.

#![allow(clippy::unwrap_used, clippy::panic)] // a failure in a test is a panic

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use spandrel::agent::{Life, Stop, attach, capture};
use spandrel::exit::{Exit, report};
use spandrel::identity::{Identities, Settings};
use spandrel::pipeline::{NoSteering, Pipeline};
use spandrel::selection::Selection;
use spandrel::selectors::Selectors;
use spandrel::sink::Sink;
use spandrel_model::{KernelTime, Ledger, Measured, Resource, UnixTime};
use spandrel_probes::CaptureSettings;
use spandrel_protocols::Tracker;
use support::machine::is_root;

/// Does something at its first tick, and notes that it was asked to write what it has.
struct AtFirstTick<F> {
    act: Option<F>,
    finished: Arc<AtomicBool>,
}

impl<F: FnOnce() + Send> Sink for AtFirstTick<F> {
    fn accept(&mut self, _: &Arc<Resource>, _: Measured) -> io::Result<()> {
        Ok(())
    }

    fn tick(&mut self, _: KernelTime, _: UnixTime) -> io::Result<()> {
        if let Some(act) = self.act.take() {
            act();
        }
        Ok(())
    }

    fn finish(&mut self, _: UnixTime) -> io::Result<()> {
        self.finished.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs an agent that lives until something dies.
fn dies(named: &str, act: impl FnOnce() + Send + 'static) {
    let ledger = Arc::new(Ledger::default());
    let finished = Arc::new(AtomicBool::new(false));
    let sink = AtFirstTick {
        act: Some(act),
        finished: Arc::clone(&finished),
    };
    let life = Life {
        stop: &Stop::default(),
        duration: Some(Duration::from_secs(60)),
        shutdown_timeout: Duration::from_secs(1),
        ledger: &ledger,
    };
    let attached = attach(CaptureSettings::default()).unwrap();
    let result = capture(attached, &life, |_| {
        Ok(Pipeline::new(
            Tracker::new(
                spandrel_protocols::Settings::default(),
                1,
                Arc::clone(&ledger),
            ),
            Identities::new(Settings::replay()),
            Selection::new(Selectors::default(), 1024),
            Box::new(sink),
            Box::new(NoSteering),
            Arc::clone(&ledger),
        ))
    });
    let error = result.unwrap_err();
    assert!(error.to_string().contains(named), "{error}");
    assert_eq!(report(&error), Exit::Failed);
    assert!(
        finished.load(Ordering::Relaxed),
        "what was exported is sent"
    );
    assert!(ledger.is_closed(), "{}", ledger.to_json());
}

/// One after the other: a panic is noticed by whoever runs in this process.
#[test]
fn whatever_dies_ends_the_agent() {
    if !is_root("dead threads") {
        return;
    }
    dies("pipeline", || panic!("of the pipeline"));
    dies("somebody", || {
        let died = thread::Builder::new()
            .name("somebody".to_owned())
            .spawn(|| panic!("of any thread"));
        drop(died.unwrap());
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("export")
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    dies("export", move || {
        drop(handle.spawn(async { panic!("of a task") }));
    });
}
