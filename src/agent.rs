//! The life of a live run: attach, say `ready`, run the pipeline, stop in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use spandrel_model::{
    CapturePolicy, ClockOffset, ConnectionId, Event, KernelTime, Ledger, LossesByCgroup,
    ProcessKey, UnixTime,
};
use spandrel_probes::{Capture, CaptureSettings, Control, Counters, GoroutineLayout, Verdict};

use crate::exit::Failure;
use crate::notify;
use crate::pipeline::{Pipeline, Steering};

/// Batches between the poll thread and the pipeline. When all are full the poll thread waits, the ring fills, and the
/// kernel side counts what it cannot place: overload is lost in one place only.
const BATCHES: usize = 16;
/// Longest time without a tick.
const TICK: Duration = Duration::from_millis(20);
/// How often the kernel side's counters are read into the ledger, in ticks.
const ACCOUNT_TICKS: u32 = 5;

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
}

/// Captures until `stop`, or for `duration`; returns when everything captured has gone through the pipeline.
pub fn capture(
    settings: CaptureSettings,
    duration: Option<Duration>,
    stop: &Stop,
    ledger: &Arc<Ledger>,
    build: impl FnOnce(Control) -> anyhow::Result<Pipeline>,
) -> anyhow::Result<()> {
    let (sender, receiver) = sync_channel(BATCHES);
    let capture = Capture::start(settings, sender).map_err(|error| {
        Failure::machine(format!(
            "cannot capture on this machine: {error}\n`spandrel check` says what is missing"
        ))
    })?;
    let pipeline = build(capture.control())?;
    let worker = thread::Builder::new().name("pipeline".to_owned()).spawn({
        let stop = stop.clone();
        move || consume(pipeline, &receiver, &stop)
    })?;
    let status = capture.status();
    notify::ready(&format!("backend={} ({})", status.backend, status.why));

    let deadline = duration.map(|duration| Instant::now() + duration);
    let mut ticks = 0_u32;
    while !stop.requested() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
        if ticks.is_multiple_of(ACCOUNT_TICKS) {
            account(ledger, &capture.counters());
        }
        ticks = ticks.wrapping_add(1);
        thread::sleep(TICK);
    }
    let counters = capture.stop();
    let result = worker.join();
    account(ledger, &counters);
    match result {
        Ok(result) => result,
        Err(_) => anyhow::bail!("the pipeline thread panicked: please report this"),
    }
}

/// Runs until the poll thread has ended and its last batch is through.
fn consume(
    mut pipeline: Pipeline,
    receiver: &Receiver<Vec<Event>>,
    stop: &Stop,
) -> anyhow::Result<()> {
    let mut ticked = Instant::now();
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(mut batch) => batch.iter_mut().for_each(|event| pipeline.take(event)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            pipeline.tick(now());
        }
        if pipeline.has_failed() {
            // Go on taking batches, so that the poll thread can end and every message is accounted for.
            stop.request();
        }
    }
    Ok(pipeline.finish()?)
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
mod tests {
    use super::*;

    #[test]
    fn kernel_time_with_the_offset_is_the_time_of_day() {
        let unix = clock_offset().to_unix(now()).0;
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let apart = before.as_nanos().abs_diff(u128::from(unix));
        assert!(apart < 5_000_000_000, "{apart} ns apart");
    }
}
