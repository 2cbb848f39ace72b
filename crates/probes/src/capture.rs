//! A running capture: one thread owns the loaded programs, empties the ring and hands events over.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use libbpf_rs::{MapCore as _, MapFlags, MapHandle, RingBufferBuilder};

use crate::asked::Asks;
use crate::batch::Batch;
use crate::control::{Control, Epochs, Maps};
use crate::counters::Counters;
use crate::handover::Handover;
use crate::kept::Kept;
use crate::load::{self, CaptureError, Loaded, Status};
use crate::misses::Programs;
use crate::ring::Emptied;
use crate::settings::CaptureSettings;

/// Longest time between two looks into the ring.
const POLL: Duration = Duration::from_millis(10);

/// A running capture. Dropping it stops it without waiting for the receiver.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    status: Status,
    thread: Option<JoinHandle<()>>,
}

/// What the capture's thread and its owner share.
#[derive(Debug)]
pub(crate) struct Shared {
    maps: Arc<Maps>,
    asked: MapHandle,
    /// The counters at the end of capture, when every message that they count had been taken.
    last: OnceLock<Counters>,
    pub(crate) stop: AtomicBool,
    /// Give up handing over: nobody waits for it.
    pub(crate) abandon: AtomicBool,
    pub(crate) delivered: AtomicU64,
    pub(crate) receiver_gone: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) undecodable: AtomicU64,
    forgotten_said: AtomicBool,
    programs: Programs,
}

impl Shared {
    fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        let read = counters
            .add_losses(&self.maps.cgroup_losses)
            .and_then(|()| counters.add_kernel(&self.maps.counters))
            .and_then(|()| counters.add_forgotten(&self.maps));
        if let Err(error) = read {
            tracing::warn!(%error, "cannot read the kernel side's counters");
        }
        if !counters.forgotten.is_empty() && !self.forgotten_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                forgotten = ?counters.forgotten,
                "tables of the kernel side are full: the longest idle entries make room for new ones"
            );
        }
        counters.add_misses(self.programs.recursion_misses());
        counters.delivered = self.delivered.load(Ordering::Acquire);
        for (reason, count) in [
            ("probes.receiver_gone", &self.receiver_gone),
            ("probes.stop_timeout", &self.abandoned),
            ("probes.undecodable", &self.undecodable),
        ] {
            let count = count.load(Ordering::Acquire);
            if count > 0 {
                counters.undelivered.insert(reason, count);
            }
        }
        counters
    }

    fn taken(&self) -> u64 {
        [
            &self.delivered,
            &self.receiver_gone,
            &self.abandoned,
            &self.undecodable,
        ]
        .into_iter()
        .map(|counter| counter.load(Ordering::Acquire))
        .sum()
    }
}

impl Capture {
    /// Loads and attaches the programs; events go to `sink` in batches. While `sink` is full the ring fills, and what
    /// it has no room for is counted as `kernel.ring_full`: overload loses in that one place only.
    pub fn start(settings: CaptureSettings, sink: SyncSender<Batch>) -> Result<Self, CaptureError> {
        let (ready, started) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || {
                let mut places = [const { MaybeUninit::uninit() }; load::ATTEMPTS];
                match prepare(&settings, &mut places) {
                    Ok((loaded, shared)) => run(&settings, loaded, &shared, sink, &ready),
                    // Nobody waiting for the answer is nobody to tell.
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .map_err(|error| CaptureError::kernel("start the capture thread", error))?;
        let ended = |error| CaptureError::kernel("start the capture thread", error);
        let (shared, status) = started.recv().map_err(ended)??;
        Ok(Self {
            shared,
            status,
            thread: Some(thread),
        })
    }

    /// The backend in use, why, and what works.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What the kernel side asks: whoever takes it has it alone.
    pub fn asks(&self) -> Result<Asks, CaptureError> {
        let handle = MapHandle::try_from(&self.shared.asked);
        let handle = handle.map_err(|error| CaptureError::kernel("share a map", error))?;
        Ok(Asks(handle))
    }

    /// The handle for decisions.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.shared.maps))
    }

    /// The counters now.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// Detaches, hands over everything that was submitted (bounded in time, and only if the receiver goes on
    /// receiving), and returns the final counters.
    pub fn stop(mut self) -> Counters {
        self.shared.stop.store(true, Ordering::Release);
        self.join();
        let last = self.shared.last.get().cloned();
        let counters = last.unwrap_or_else(|| self.shared.counters());
        if counters.lost_control > 0 {
            tracing::warn!(
                lost = counters.lost_control,
                "ends of connections, or starts and ends of processes, are lost: there was no room for them"
            );
        }
        if counters.copy_faults > 0 {
            tracing::warn!(
                messages = counters.copy_faults,
                "of these messages only the lengths are known: their bytes could not be read"
            );
        }
        counters
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the capture thread panicked");
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.abandon.store(true, Ordering::Release);
        self.shared.stop.store(true, Ordering::Release);
        self.join();
    }
}

fn prepare<'obj>(
    settings: &CaptureSettings,
    places: &'obj mut load::Places,
) -> Result<(Loaded<'obj>, Arc<Shared>), CaptureError> {
    let loaded = load::load(settings, places)?;
    let maps = &loaded.skeleton.maps;
    if maps.rodata_data.is_some_and(|data| data.pid_namespace != 0) {
        tracing::info!(
            "/proc shows a pid namespace below the machine's: only the processes in it are seen"
        );
    }
    let rules = settings.ports_include.iter().map(|port| (port, 1u8));
    for (port, rule) in rules.chain(settings.ports_exclude.iter().map(|port| (port, 2u8))) {
        maps.ports
            .update(&u32::from(*port).to_ne_bytes(), &[rule], MapFlags::ANY)
            .map_err(|error| CaptureError::kernel("set the selected ports", error))?;
    }
    let handle = |map: &libbpf_rs::MapImpl<'_>| {
        MapHandle::try_from(map).map_err(|error| CaptureError::kernel("share a map", error))
    };
    let shared = Shared {
        maps: Arc::new(Maps {
            connections: handle(&maps.connections)?,
            processes: handle(&maps.processes)?,
            processes_told: 0.into(),
            decisions_told: 0.into(),
            decisions: handle(&maps.decisions)?,
            epoch: handle(&maps.epoch)?,
            counters: handle(&maps.counters)?,
            cgroup_losses: handle(&maps.cgroup_losses)?,
            epochs: Epochs::default(),
            rules: Mutex::default(),
        }),
        asked: handle(&maps.asked)?,
        last: OnceLock::new(),
        stop: false.into(),
        abandon: false.into(),
        delivered: 0.into(),
        receiver_gone: 0.into(),
        abandoned: 0.into(),
        undecodable: 0.into(),
        forgotten_said: false.into(),
        programs: Programs::of(&loaded)?,
    };
    Ok((loaded, Arc::new(shared)))
}

type Ready = SyncSender<Result<(Arc<Shared>, Status), CaptureError>>;

fn run(
    settings: &CaptureSettings,
    mut loaded: Loaded<'_>,
    shared: &Arc<Shared>,
    sink: SyncSender<Batch>,
    ready: &Ready,
) {
    let handover = std::cell::RefCell::new(Handover::new(sink, Arc::clone(shared)));
    handover.borrow_mut().sync_clock();
    if let Err(error) = load::attach(&mut loaded) {
        drop(ready.send(Err(error)));
        return;
    }
    let existing = &loaded.skeleton.progs.existing_tcp;
    let iterator =
        (settings.existing_connections && existing.autoload()).then(|| existing.attach());
    let mut ring = RingBufferBuilder::new();
    let added = ring.add(&loaded.skeleton.maps.events, |record| {
        // libbpf goes on with the ring while the callback answers 0: what it does not get, the next look does.
        if handover.borrow_mut().take(record) {
            0
        } else {
            -1
        }
    });
    let ring = match added.map(|_| ()).and_then(|()| ring.build()) {
        Ok(ring) => ring,
        Err(error) => {
            drop(ready.send(Err(CaptureError::kernel("open the ring", error))));
            return;
        }
    };
    let mut kept = match Kept::of(&loaded) {
        Ok(kept) => kept,
        Err(error) => {
            drop(ready.send(Err(error)));
            return;
        }
    };
    let scan = match iterator {
        Some(Ok(link)) => std::thread::Builder::new()
            .name("capture-scan".to_owned())
            .spawn(move || crate::existing::announce(&link))
            .ok(),
        _ => None,
    };
    // Ready means that older connections are known too. Nothing is handed over before: who waits for the start may
    // not receive yet. What the ring has no room for is announced with its first message.
    if let Some(Ok(failed)) = scan.map(JoinHandle::join)
        && failed > 0
    {
        tracing::warn!(
            failed,
            "network namespaces whose older connections are not known"
        );
    }
    drop(ready.send(Ok((Arc::clone(shared), loaded.status.clone()))));
    let mut emptied = Emptied::default();
    let mut put = Kept::put(&loaded);
    while !shared.stop.load(Ordering::Acquire) {
        // Records below the wake-up threshold make no wake-up: the timer fetches them.
        if ring.poll_raw(POLL) < 0 {
            handover.borrow_mut().flush();
        }
        if emptied.needs_mark() {
            put = Kept::put(&loaded);
            emptied.mark(&ring);
        }
        ring.consume_raw();
        let mut handover = handover.borrow_mut();
        if let Some(until) = emptied.reached(&ring) {
            kept.take(put, |record| _ = handover.take(record));
            handover.reached(until);
        }
        handover.sync_clock_if_due();
        handover.flush();
    }
    loaded.links.clear();
    settle();
    loop {
        let put = Kept::put(&loaded);
        while ring.consume_raw() < 0 {
            handover.borrow_mut().flush();
        }
        kept.take(put, |record| _ = handover.borrow_mut().take(record));
        handover.borrow_mut().flush();
        let counters = shared.counters();
        // A program that was preempted before it was detached may still submit one message after the counters agree,
        // which nobody would take any more.
        let all = counters.is_closed() && counters.submitted == shared.taken();
        if all || handover.borrow_mut().gives_up() {
            drop(shared.last.set(counters));
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until no program that was running when it was detached still runs.
fn settle() {
    // An expedited grace period is not needed for correctness: the counters are compared until they agree.
    std::thread::sleep(Duration::from_millis(2));
}
