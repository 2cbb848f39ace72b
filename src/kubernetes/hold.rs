//! What waits for its pod: measured exchanges of processes whose pod the API server has not told of yet.

use std::collections::VecDeque;

use spandrel_model::{Attribute, KernelTime, Measured, Value};

/// One that waits.
#[derive(Debug)]
pub struct Held {
    /// Since when.
    pub since: KernelTime,
    /// What was measured.
    pub measured: Measured,
    bytes: usize,
}

/// Bounded in time and bytes; the first to come is the first to go.
#[derive(Debug)]
pub struct Hold {
    waiting: VecDeque<Held>,
    bytes: usize,
    nanos: u64,
    max_bytes: usize,
}

impl Hold {
    /// An empty one.
    pub fn new(limit: std::time::Duration, max_bytes: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            nanos: u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
            max_bytes,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes one in.
    pub fn push(&mut self, since: KernelTime, measured: Measured) {
        let bytes = size_of_measured(&measured);
        self.bytes += bytes;
        self.waiting.push_back(Held {
            since,
            measured,
            bytes,
        });
    }

    /// The oldest, if its time is over or there are too many bytes.
    pub fn overdue(&mut self, now: KernelTime) -> Option<Held> {
        let oldest = self.waiting.front()?;
        if now.since(oldest.since) < self.nanos && self.bytes <= self.max_bytes {
            return None;
        }
        let held = self.waiting.pop_front()?;
        self.bytes -= held.bytes;
        Some(held)
    }

    /// All of them; those that still wait are given back with [`Self::keep`].
    pub fn take_all(&mut self) -> VecDeque<Held> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Gives one back, in the order in which they were taken.
    pub fn keep(&mut self, held: Held) {
        self.bytes += held.bytes;
        self.waiting.push_back(held);
    }
}

/// About what it takes in memory.
fn size_of_measured(measured: &Measured) -> usize {
    let span = &measured.span;
    let attributes = span.attributes.iter().map(size_of_attribute).sum::<usize>();
    size_of::<Held>() + span.name.len() + span.trace_state.len() + attributes
}

fn size_of_attribute(attribute: &Attribute) -> usize {
    let value = match &attribute.value {
        Value::Str(text) => text.len(),
        Value::StrArray(list) => list.iter().map(|text| text.len() + 24).sum(),
        Value::Bool(_) | Value::I64(_) | Value::F64(_) => 0,
    };
    size_of::<Attribute>() + attribute.key.len() + value
}
