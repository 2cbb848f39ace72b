//! From records to batches of events, and to whoever receives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use spandrel_model::{Event, KernelTime, Stamp};

use crate::abi;
use crate::batch::{Batch, Group};
use crate::capture::Shared;
use crate::clock;
use crate::decode::{self, Place, decode};

/// Most events of one batch, and most bytes: a batch's bytes are freed together.
const BATCH_EVENTS: usize = 512;
const BATCH_BYTES: usize = 64 << 10;

/// How much time passes until it is handed over without an event.
const IDLE: Duration = Duration::from_millis(20);

/// Longest time for what is in the ring to be handed over at the end.
const STOP: Duration = Duration::from_secs(5);

/// How often the clocks are compared.
const CLOCK: Duration = Duration::from_secs(10);

/// The CPU number of events that user space makes.
const USER_CPU: u16 = u16::MAX;

pub(crate) struct Handover {
    sink: SyncSender<Batch>,
    shared: Arc<Shared>,
    arena: BytesMut,
    groups: Vec<Group>,
    pending: Vec<Event>,
    /// For each pending event, where its bytes are in the arena.
    places: Vec<Place>,
    /// Next sequence number of each CPU.
    sequences: Vec<u64>,
    clock_due: Instant,
    /// Up to when everything is pending or handed over, and what was said of that last.
    until: KernelTime,
    told: KernelTime,
    /// When the end began to be waited for.
    stopping: Option<Instant>,
}

impl Handover {
    pub(crate) fn new(sink: SyncSender<Batch>, shared: Arc<Shared>) -> Self {
        Self {
            sink,
            shared,
            arena: BytesMut::with_capacity(BATCH_BYTES),
            groups: Vec::new(),
            pending: Vec::with_capacity(BATCH_EVENTS),
            places: Vec::with_capacity(BATCH_EVENTS),
            sequences: Vec::new(),
            clock_due: Instant::now() + CLOCK,
            until: KernelTime::default(),
            told: KernelTime::default(),
            stopping: None,
        }
    }

    /// Takes one record of the ring. Whether there is room for another one before the next [`Self::flush`].
    pub(crate) fn take(&mut self, record: &[u8]) -> bool {
        if let Some(group) = decode::group(record) {
            self.groups.push(group);
            return self.groups.len() < BATCH_EVENTS;
        }
        let sequences = &mut self.sequences;
        let decoded = decode(record, &mut self.arena, |cpu| next(sequences, cpu));
        match decoded {
            Ok((event, place)) => {
                self.pending.push(event);
                self.places.push(place);
            }
            Err(error) => {
                tracing::warn!(%error, "a record of the kernel side was not understood");
                if record.get(10) == Some(&abi::kind::MESSAGE) {
                    self.shared.undecodable.fetch_add(1, Ordering::Release);
                }
            }
        }
        self.pending.len() < BATCH_EVENTS && self.arena.len() < BATCH_BYTES
    }

    /// Everything submitted before this time has been taken.
    pub(crate) fn reached(&mut self, until: KernelTime) {
        self.until = self.until.max(until);
    }

    /// Puts the relation of the clocks among the events.
    pub(crate) fn sync_clock(&mut self) {
        let event = Event::ClockSynced {
            stamp: Stamp {
                time: clock::now(),
                cpu: USER_CPU,
                sequence: next(&mut self.sequences, USER_CPU),
            },
            offset: clock::offset(),
        };
        self.pending.push(event);
        self.places.push(Place::default());
        self.clock_due = Instant::now() + CLOCK;
    }

    pub(crate) fn sync_clock_if_due(&mut self) {
        if Instant::now() >= self.clock_due {
            self.sync_clock();
        }
    }

    /// Hands over what there is, and waits for room.
    pub(crate) fn flush(&mut self) {
        let until = self.until;
        if self.pending.is_empty() && self.groups.is_empty() {
            if Duration::from_nanos(until.since(self.told)) >= IDLE {
                let idle = Batch {
                    groups: Vec::new(),
                    events: Vec::new(),
                    until,
                };
                // Who has batches to work on hears of the time with the next one.
                if self.sink.try_send(idle).is_ok() {
                    self.told = until;
                }
            }
            return;
        }
        self.told = until;
        let groups = std::mem::take(&mut self.groups);
        let arena = self.arena.split().freeze();
        let mut messages = 0;
        for (event, place) in self.pending.iter_mut().zip(self.places.drain(..)) {
            if let Event::Message(message) = event {
                place.cut(&arena, message);
                messages += 1;
            }
        }
        // As large as this one: batches of the same load are of one size.
        let next = Vec::with_capacity(self.pending.len().next_multiple_of(64).min(BATCH_EVENTS));
        let events = std::mem::replace(&mut self.pending, next);
        self.arena.reserve(BATCH_BYTES);
        let counter = self.send(Batch {
            groups,
            events,
            until,
        });
        counter.fetch_add(messages, Ordering::Release);
    }

    /// Whether the time to hand over has run out: capture has stopped, and a receiver that takes nothing is not waited
    /// for longer than that.
    pub(crate) fn gives_up(&mut self) -> bool {
        if self.shared.abandon.load(Ordering::Acquire) {
            return true;
        }
        if !self.shared.stop.load(Ordering::Acquire) {
            return false;
        }
        self.stopping.get_or_insert_with(Instant::now).elapsed() >= STOP
    }

    /// Which counter the batch ends in.
    fn send(&mut self, mut batch: Batch) -> &AtomicU64 {
        loop {
            match self.sink.try_send(batch) {
                Ok(()) => return &self.shared.delivered,
                Err(TrySendError::Disconnected(_)) => return &self.shared.receiver_gone,
                Err(TrySendError::Full(back)) => {
                    if self.gives_up() {
                        return &self.shared.abandoned;
                    }
                    batch = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}

fn next(sequences: &mut Vec<u64>, cpu: u16) -> u64 {
    let index = usize::from(cpu);
    if index >= sequences.len() {
        sequences.resize(index + 1, 0);
    }
    let sequence = sequences[index];
    sequences[index] += 1;
    sequence
}
