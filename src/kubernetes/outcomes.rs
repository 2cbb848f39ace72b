//! Why a span has its pod's attributes, or why not: one counter for each reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spandrel_k8s_meta::store;
use spandrel_k8s_meta::watch::{Counters, Figures};

use crate::by_reason::ByReason;

/// How look-ups ended, and what the watch counts.
#[derive(Debug)]
pub struct Outcomes {
    by_reason: ByReason,
    pods: AtomicUsize,
    refused: AtomicU64,
    oversized: AtomicU64,
    held: AtomicU64,
    watch: Option<Arc<Counters>>,
}

/// The numbers at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Spans by the outcome of the look-up of their pod.
    pub by_reason: BTreeMap<&'static str, u64>,
    /// Pods that are kept.
    pub pods: usize,
    /// Changes of pods beyond the most that are kept.
    pub refused: u64,
    /// Labels and annotations left out for their size or number.
    pub oversized: u64,
    /// Spans that wait for their pod.
    pub held: u64,
}

impl Outcomes {
    pub(super) fn new(watch: Option<Arc<Counters>>) -> Self {
        Self {
            by_reason: ByReason::default(),
            pods: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            oversized: AtomicU64::new(0),
            held: AtomicU64::new(0),
            watch,
        }
    }

    pub(super) fn count(&self, outcome: &'static str) {
        self.by_reason.count(outcome);
    }

    pub(super) fn keeps(&self, pods: usize, counters: &store::Counters) {
        self.pods.store(pods, Ordering::Relaxed);
        self.refused.store(counters.refused, Ordering::Relaxed);
        self.oversized.store(counters.oversized, Ordering::Relaxed);
    }

    /// Says how many spans wait.
    pub(crate) fn holds(&self, spans: usize) {
        self.held.store(spans as u64, Ordering::Relaxed);
    }

    /// The numbers now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            by_reason: self.by_reason.snapshot(),
            pods: self.pods.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            oversized: self.oversized.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
        }
    }

    /// What the watch counts, where there is one.
    pub fn figures(&self) -> Option<Figures> {
        self.watch.as_ref().map(|counters| counters.figures())
    }
}
