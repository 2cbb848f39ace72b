//! Why a span has its peer's name, or why not: one counter for each reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spandrel_k8s_meta::watch::{Counters, Figures};

use crate::by_reason::ByReason;

/// How look-ups of peers ended, and what their watches count.
#[derive(Debug, Default)]
pub struct PeerOutcomes {
    by_reason: ByReason,
    objects: AtomicUsize,
    refused: AtomicU64,
    watch: Arc<Counters>,
}

/// The numbers at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSnapshot {
    /// Spans by the outcome of the look-up of their peer.
    pub by_reason: BTreeMap<&'static str, u64>,
    /// Pods, Services and nodes that are kept.
    pub objects: usize,
    /// How often one was refused, because there were too many.
    pub refused: u64,
}

impl PeerOutcomes {
    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.watch)
    }

    pub(super) fn count(&self, outcome: &'static str) {
        self.by_reason.count(outcome);
    }

    pub(super) fn keeps(&self, objects: usize, refused: u64) {
        self.objects.store(objects, Ordering::Relaxed);
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// The numbers now.
    pub fn snapshot(&self) -> PeerSnapshot {
        PeerSnapshot {
            by_reason: self.by_reason.snapshot(),
            objects: self.objects.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// What the three watches count together.
    pub fn figures(&self) -> Figures {
        self.watch.figures()
    }
}
