//! The life of a live run: attach, say `ready`, run the pipeline, stop in order.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use spandrel_model::ledger::Reason;
use spandrel_model::{
    CapturePolicy, ClockOffset, ConnectionId, KernelTime, Ledger, LossesByCgroup, ProcessKey,
    UnixTime,
};
use spandrel_probes::{
    Asked, Batch, Capture, CaptureSettings, Control, Counters, GoroutineLayout, Verdict,
};

use crate::alarm;
use crate::exit::Failure;
use crate::notify;
use crate::pipeline::{Pipeline, Steering};

/// Batches between the poll thread and the pipeline. When all are full the poll thread waits, the ring fills, and the
/// kernel side counts what it cannot place: overload is lost in one place only.
const BATCHES: usize = 16;
/// How often the pipeline ticks, and how often the main thread looks whether all threads live.
const TICK: Duration = Duration::from_millis(20);
/// How often the kernel side's counters are read into the ledger, in ticks.
const ACCOUNT_TICKS: u32 = 5;
/// Questions that are answered between two batches at most.
const MAX_ASKED: usize = 1024;
/// The time that the pipeline has beyond its own deadline.
const LEFT_BEHIND: Duration = Duration::from_secs(5);

/// Asks the run to end: set by SIGTERM, SIGINT or the end of its duration.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A stop that SIGTERM and SIGINT set; a second signal ends the program at once.
    pub fn on_signals() -> anyhow::Result<Self> {
        let stop = Self::default();
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop.0))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop.0)))
                .context("cannot handle signals")?;
        }
        Ok(stop)
    }

    /// Asks for the end.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Steering for Control {
    fn process(&mut self, process: ProcessKey, allow: bool) {
        let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
        if let Err(error) = self.set_process(process.tgid, verdict) {
            tracing::debug!("{error}");
        }
    }

    fn goroutines(&mut self, process: ProcessKey, layout: Option<GoroutineLayout>) {
        if let Err(error) = self.set_goroutines(process.tgid, layout) {
            tracing::debug!("{error}");
        }
    }

    fn connection(&mut self, connection: ConnectionId, policy: CapturePolicy) {
        if let Err(error) = self.set_connection(connection, policy) {
            tracing::debug!("{error}");
        }
    }

    fn closed(&mut self, connection: ConnectionId) {
        self.end_connection(connection);
    }
}

/// When a run ends, and what it leaves.
pub struct Life<'a> {
    /// Ends it.
    pub stop: &'a Stop,
    /// Ends it after this time.
    pub duration: Option<Duration>,
    /// How long the pipeline may take to write and send what it has.
    pub shutdown_timeout: Duration,
    /// Where everything that was seen ends.
    pub ledger: &'a Arc<Ledger>,
}

/// A capture that has begun; its events wait to be run.
pub struct Attached {
    capture: Capture,
    receiver: Receiver<Batch>,
}

/// Begins to capture. Do it before anything opens a connection: the agent's own connections are surely known as such only
/// from then on.
pub fn attach(settings: CaptureSettings) -> anyhow::Result<Attached> {
    alarm::arm();
    let (sender, receiver) = sync_channel(BATCHES);
    let capture = Capture::start(settings, sender).map_err(|error| {
        Failure::machine(format!(
            "cannot capture on this machine: {error}\n`spandrel check` says what is missing"
        ))
    })?;
    Ok(Attached { capture, receiver })
}

/// Captures until the end of `life`; returns when everything captured has gone through the pipeline. A thread that dies
/// ends it as well, with an error and a closed ledger.
pub fn capture(
    attached: Attached,
    life: &Life<'_>,
    build: impl FnOnce(Control) -> anyhow::Result<Pipeline>,
) -> anyhow::Result<()> {
    let Attached { capture, receiver } = attached;
    let pipeline = build(capture.control())?;
    let asks = capture.asks()?;
    let worker = thread::Builder::new().name("pipeline".to_owned()).spawn({
        let stop = life.stop.clone();
        move || work(pipeline, receiver, asks, &stop)
    })?;
    let status = capture.status();
    notify::ready(&format!("backend={} ({})", status.backend, status.why));

    let lived = live(life, &worker, || capture.counters());
    let counters = capture.stop();
    let ended = join(worker, life.shutdown_timeout, LEFT_BEHIND);
    account(life.ledger, &counters);
    let result = lived.and(ended).and_then(|()| all_lived());
    let died = result.as_ref().err().and_then(|error| error.downcast_ref());
    if let Some(Died { reason, .. }) = died {
        life.ledger.drop_rest(reason);
    }
    result
}

/// An error if a thread has panicked, also while the agent ended.
pub fn all_lived() -> anyhow::Result<()> {
    match alarm::raised() {
        Some(name) => Err(Died::panicked(&name).into()),
        None => Ok(()),
    }
}

/// Waits for the end of `life`, or for a thread that dies.
fn live(life: &Life<'_>, worker: &Worker, counters: impl Fn() -> Counters) -> anyhow::Result<()> {
    let deadline = life.duration.map(|duration| Instant::now() + duration);
    let mut ticks = 0_u32;
    while !life.stop.requested() {
        all_lived()?;
        if worker.is_finished() && !life.stop.requested() {
            return Err(Died::ended().into());
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
        if ticks.is_multiple_of(ACCOUNT_TICKS) {
            account(life.ledger, &counters());
        }
        ticks = ticks.wrapping_add(1);
        thread::sleep(TICK);
    }
    Ok(())
}

type Worker = JoinHandle<anyhow::Result<()>>;

/// Waits for the pipeline's end, which has its own deadline; what stands still for longer than that is left behind.
fn join(worker: Worker, shutdown_timeout: Duration, more: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + shutdown_timeout + more;
    while !worker.is_finished() {
        if Instant::now() >= deadline {
            return Err(Died::stalled(shutdown_timeout).into());
        }
        thread::sleep(TICK);
    }
    match worker.join() {
        Ok(result) => result,
        Err(_) => Err(Died::panicked("pipeline").into()),
    }
}

/// Why a run ended before it was asked to, or without all of its parts.
#[derive(Debug)]
struct Died {
    message: String,
    reason: Reason,
}

impl Died {
    fn panicked(thread: &str) -> Self {
        Self {
            message: format!(
                "the thread `{thread}` panicked, and the agent ends, so that it can be started again: please report this"
            ),
            reason: "agent.panicked",
        }
    }

    fn ended() -> Self {
        Self {
            message: "the capture thread has ended unasked, and so the agent ends, so that it can be started again: please report this".to_owned(),
            reason: "agent.panicked",
        }
    }

    fn stalled(timeout: Duration) -> Self {
        Self {
            message: format!(
                "the pipeline did not end within {timeout:?} (shutdown_timeout): what it held is lost; is a disk or a reader of the output stalled?"
            ),
            reason: "agent.stalled",
        }
    }
}

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Died {}

/// The pipeline's thread. After a panic what has been handed to the sink is still written and sent.
fn work(
    mut pipeline: Pipeline,
    receiver: Receiver<Batch>,
    asks: impl Iterator<Item = Asked>,
    stop: &Stop,
) -> anyhow::Result<()> {
    let consumed = AssertUnwindSafe(|| consume(&mut pipeline, &receiver, asks, stop));
    match panic::catch_unwind(consumed) {
        Ok(()) => Ok(pipeline.finish()?),
        Err(panicked) => {
            drop(receiver);
            pipeline.finish_sink()?;
            panic::resume_unwind(panicked)
        }
    }
}

/// Runs until the capture thread has ended and its last batch is through.
fn consume(
    pipeline: &mut Pipeline,
    receiver: &Receiver<Batch>,
    mut asks: impl Iterator<Item = Asked>,
    stop: &Stop,
) {
    let mut ticked = KernelTime::default();
    for mut batch in receiver {
        asks.by_ref()
            .take(MAX_ASKED)
            .for_each(|asked| pipeline.asked(&asked));
        for group in batch.groups.drain(..) {
            pipeline.name_group(&group);
        }
        pipeline.hear();
        batch
            .events
            .iter_mut()
            .for_each(|event| pipeline.take(event));
        // Not the time of day: what was submitted before this moment may still wait behind this batch.
        if Duration::from_nanos(batch.until.since(ticked)) >= TICK {
            ticked = batch.until;
            pipeline.tick(ticked);
        }
        if pipeline.has_failed() {
            // Go on taking batches, so that the capture thread can end and every message is accounted for.
            stop.request();
        }
    }
}

/// The kernel's clock, the one that stamps events.
pub fn now() -> KernelTime {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    KernelTime(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The relation of the kernel's clock to Unix time, now.
pub fn clock_offset() -> ClockOffset {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = unix.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    ClockOffset::from_readings(now(), UnixTime(nanos))
}

fn account(ledger: &Ledger, counters: &Counters) {
    ledger.messages.set_seen(counters.seen);
    let losses = counters.lost_by_cgroup.iter();
    ledger.set_lost(LossesByCgroup::new(
        losses.map(|(cgroup, lost)| (*cgroup, *lost)),
        counters.lost_under_overload(),
    ));
    for (reason, count) in counters.drops.iter().chain(&counters.undelivered) {
        ledger.messages.set_dropped(reason, *count);
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
