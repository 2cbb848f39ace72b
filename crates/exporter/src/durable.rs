//! What waits to be sent, on disk: what the process leaves there is sent by the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spandrel_disk_queue::{DiskQueue, DropReason, Position, PushError, Settings};

use crate::carried::{Carried, Signal};
use crate::error::ExporterError;
use crate::queue::{QueueStats, Request, Ticket};
use crate::reason;
use crate::settings::StorageSettings;

/// How long the disk may take at the end.
const CLOSE: Duration = Duration::from_secs(5);

/// The queue on disk of one signal of one destination.
#[derive(Debug)]
pub(crate) struct DurableQueue {
    queue: DiskQueue,
    signal: Signal,
    max_bytes: u64,
    kept: Arc<Kept>,
}

/// What the ledger says is in flight, for as long as the queue has it.
#[derive(Debug)]
struct Kept(Mutex<Carried>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Carried> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DurableQueue {
    /// Opens the queue; what is found in it is seen by the ledger, as `kept` tells whose it is.
    pub(crate) fn open(
        storage: &StorageSettings,
        memory_bytes: usize,
        destination: &str,
        signal: Signal,
        mut kept: Carried,
    ) -> Result<Self, ExporterError> {
        kept.stays_if_lost();
        let kept = Arc::new(Kept(Mutex::new(kept)));
        let name = format!("{destination}/{}", signal.name());
        let mut settings = Settings::new(&storage.directory, name);
        settings.max_bytes = storage.max_size;
        settings.max_age = storage.max_age;
        settings.sync = storage.fsync;
        settings.push_wait = storage.push_wait;
        settings.memory_bytes = memory_bytes;
        let dropping = Arc::clone(&kept);
        settings.on_drop = Some(Arc::new(move |why, _, count| {
            let reason = match why {
                DropReason::Full => reason::QUEUE_FULL,
                DropReason::Expired => reason::QUEUE_EXPIRED,
                DropReason::Corrupt => reason::QUEUE_CORRUPT,
            };
            let lost = dropping.lock().split(count.items);
            lost.drop_for(reason);
        }));
        // What is dropped meanwhile waits until the ledger has seen it.
        let mut seen = kept.lock();
        let queue = DiskQueue::open(settings)?;
        let found = queue.recovered().total();
        seen.see(found.items);
        drop(seen);
        if found.records > 0 {
            tracing::info!(
                destination,
                requests = found.records,
                items = found.items,
                "{} that an earlier run left on disk are sent now",
                signal.item()
            );
        }
        Ok(Self {
            queue,
            signal,
            max_bytes: storage.max_size,
            kept,
        })
    }

    /// Takes a request in; returns when it is written, or after a short time if the disk says nothing.
    pub(crate) fn push(&self, request: Request) {
        let items = request.carried.count();
        // Before it can be handed out or dropped.
        self.kept.lock().join(request.carried);
        let count = u32::try_from(items).unwrap_or(u32::MAX);
        if let Err(error) = self.queue.push(0, count, request.body) {
            let lost = self.kept.lock().split(items);
            lost.drop_for(match error {
                PushError::TooLarge { .. } => reason::TOO_LARGE,
                PushError::Closed => reason::SHUTDOWN_DEADLINE,
            });
        }
    }

    pub(crate) async fn pop(&self) -> Option<(Request, Ticket)> {
        let delivery = self.queue.next().await?;
        let mut carried = self.kept.lock().split(u64::from(delivery.items));
        if matches!(delivery.position, Position::Memory(_)) {
            carried.lost_as(reason::SHUTDOWN_DEADLINE);
        }
        let request = Request {
            signal: self.signal,
            body: delivery.body,
            carried,
        };
        Some((request, Some(delivery.position)))
    }

    /// It is not sent again once this returns.
    pub(crate) async fn done(&self, ticket: Ticket) {
        if let Some(position) = ticket {
            self.queue.ack(position);
            self.queue.acks_written().await;
        }
    }

    pub(crate) fn close(&self) {
        self.queue.finish();
    }

    /// Writes what is left to the disk; what cannot be written is lost.
    pub(crate) fn clear(&self) {
        let report = self.queue.close(CLOSE);
        let orphaned = report.orphaned.total().items;
        let mut kept = self.kept.lock();
        // Their workers are gone, and took them to be on the disk.
        kept.regain(orphaned);
        let lost = kept.split(report.in_memory.total().items + orphaned);
        drop(kept);
        lost.drop_for(reason::SHUTDOWN_DEADLINE);
        let left = report.on_disk.total();
        if left.records > 0 {
            tracing::info!(
                requests = left.records,
                items = left.items,
                "{} are left on disk for the next start",
                self.signal.item()
            );
        }
    }

    pub(crate) fn wait_until_done(&self, timeout: Duration) -> bool {
        self.queue.wait_until_empty(timeout)
    }

    pub(crate) fn bytes(&self) -> usize {
        let stats = self.queue.stats();
        let bytes = stats.disk.total().bytes + stats.memory.total().bytes;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    pub(crate) fn stats(&self) -> QueueStats {
        let stats = self.queue.stats();
        let (disk, memory) = (stats.disk.total(), stats.memory.total());
        QueueStats {
            bytes: disk.bytes + memory.bytes,
            capacity: self.max_bytes,
            requests: disk.records + memory.records,
            oldest_age: stats.oldest_age,
            disk: Some(stats),
        }
    }
}
