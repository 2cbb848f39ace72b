//! Spans of many resources, encoded as they come into one request that is bounded in spans and in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use spandrel_model::{Ledger, Resource, SpanRecord};

use crate::carried::{Carried, Signal};
use crate::otlp::Form;
use crate::otlp::{
    ResourceBlock, ResourceCache, Sink, Span, envelope_overhead, field_len, length_of,
    resource_envelope, scope_json, span_json,
};
use crate::queue::Request;
use crate::reason;
use crate::settings::BatchSettings;

/// Room for the punctuation of JSON and for scope and schema, which stand there in other words than in protobuf.
const JSON_MARGIN: usize = 512;

#[derive(Debug)]
struct Group {
    resource_id: u64,
    block: ResourceBlock,
    spans: Vec<u8>,
}

/// A batcher's numbers, for other threads.
#[derive(Debug, Default)]
pub(crate) struct BatchStats {
    capacity: u64,
    pending: AtomicU64,
    processed: AtomicU64,
    too_large: AtomicU64,
}

impl BatchStats {
    /// Most spans of a batch.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Spans in the batch that is being filled.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Spans that went on.
    pub(crate) fn processed(&self) -> u64 {
        self.processed.load(Ordering::Relaxed)
    }

    /// Spans that no batch has room for.
    pub(crate) fn too_large(&self) -> u64 {
        self.too_large.load(Ordering::Relaxed)
    }
}

/// Fills one request at a time. Time comes in with [`SpanBatcher::due`] only, so equal calls give equal requests.
#[derive(Debug)]
pub(crate) struct SpanBatcher {
    settings: BatchSettings,
    ledger: Arc<Ledger>,
    cache: ResourceCache,
    groups: Vec<Group>,
    by_resource: HashMap<u64, usize, RandomState>,
    /// Buffers of earlier batches, to be filled again.
    spare: Vec<Vec<u8>>,
    /// One span as JSON, whose length is known only once it is written.
    scratch: Vec<u8>,
    bytes: usize,
    spans: usize,
    carried: Carried,
    stats: Arc<BatchStats>,
    now: Option<Instant>,
    pending_since: Option<Instant>,
    last_export: Option<Instant>,
}

/// Most buffers that are kept, and the largest that is.
const SPARE: usize = 64;
const SPARE_BYTES: usize = 1024 * 1024;

impl SpanBatcher {
    pub(crate) fn new(settings: BatchSettings, form: Form, ledger: Arc<Ledger>) -> Self {
        Self {
            cache: ResourceCache::new(form, settings.resource_cache_size),
            stats: Arc::new(BatchStats {
                capacity: settings.max_export_batch_size.max(1) as u64,
                ..BatchStats::default()
            }),
            settings,
            carried: Carried::new(Arc::clone(&ledger), Signal::Traces),
            ledger,
            groups: Vec::new(),
            by_resource: HashMap::default(),
            spare: Vec::new(),
            scratch: Vec::new(),
            bytes: 0,
            spans: 0,
            now: None,
            pending_since: None,
            last_export: None,
        }
    }

    pub(crate) fn form(&self) -> Form {
        self.cache.form()
    }

    pub(crate) fn stats(&self) -> &Arc<BatchStats> {
        &self.stats
    }

    /// Adds a span. Returns the request that had no room for it, or that it filled; never both.
    pub(crate) fn push(&mut self, resource: &Arc<Resource>, span: &SpanRecord) -> Option<Request> {
        let (content, length) = match self.cache.form() {
            Form::Protobuf => {
                let content = length_of(&Span(span));
                (content, field_len(2, content))
            }
            Form::Json => {
                self.scratch.clear();
                span_json(span, &mut self.scratch);
                (0, self.scratch.len() + 1)
            }
        };
        let mut group = self.group_of(resource.id());
        let mut block = None;
        let mut extra = 0;
        if group.is_none() {
            let found = self.cache.get(resource);
            extra = self.overhead(&found);
            block = Some(found);
        }
        let mut full = None;
        if self.bytes + extra + length > self.settings.max_request_bytes {
            full = self.flush();
            let found = block.take().unwrap_or_else(|| self.cache.get(resource));
            extra = self.overhead(&found);
            if extra + length > self.settings.max_request_bytes {
                let mut lost = Carried::new(Arc::clone(&self.ledger), Signal::Traces);
                lost.see(1);
                lost.drop_for(reason::TOO_LARGE);
                self.stats.too_large.fetch_add(1, Ordering::Relaxed);
                return full;
            }
            (group, block) = (None, Some(found));
        }
        let at = match (group, block) {
            (Some(at), _) => at,
            (None, block) => self.open(resource, block),
        };
        if let Some(group) = self.groups.get_mut(at) {
            match self.cache.form() {
                Form::Protobuf => group.spans.message_of(2, content, &Span(span)),
                Form::Json => {
                    if !group.spans.is_empty() {
                        group.spans.push(b',');
                    }
                    group.spans.extend_from_slice(&self.scratch);
                }
            }
        }
        self.bytes += extra + length;
        self.spans += 1;
        self.carried.see(1);
        let pending = self.spans as u64;
        self.stats.pending.store(pending, Ordering::Relaxed);
        if full.is_none() && self.spans >= self.settings.max_export_batch_size.max(1) {
            full = self.flush();
        }
        full
    }

    fn group_of(&self, resource_id: u64) -> Option<usize> {
        // Spans of one service come in runs.
        let last = self.groups.len().checked_sub(1)?;
        if self.groups.get(last)?.resource_id == resource_id {
            return Some(last);
        }
        self.by_resource.get(&resource_id).copied()
    }

    fn overhead(&self, block: &ResourceBlock) -> usize {
        match self.cache.form() {
            Form::Protobuf => envelope_overhead(&block.0),
            Form::Json => block.len() + JSON_MARGIN,
        }
    }

    fn open(&mut self, resource: &Arc<Resource>, block: Option<ResourceBlock>) -> usize {
        let block = block.unwrap_or_else(|| self.cache.get(resource));
        let at = self.groups.len();
        self.groups.push(Group {
            resource_id: resource.id(),
            block,
            spans: self.spare.pop().unwrap_or_default(),
        });
        self.by_resource.insert(resource.id(), at);
        at
    }

    /// The request as it is now, if there is anything in it.
    pub(crate) fn flush(&mut self) -> Option<Request> {
        if self.spans == 0 {
            return None;
        }
        let mut body = Vec::with_capacity(self.bytes);
        match self.cache.form() {
            Form::Protobuf => {
                for group in &self.groups {
                    resource_envelope(&group.block.0, &group.spans, &mut body);
                }
            }
            Form::Json => {
                body.extend_from_slice(b"{\"resourceSpans\":[");
                for (at, group) in self.groups.iter().enumerate() {
                    if at > 0 {
                        body.push(b',');
                    }
                    body.extend_from_slice(b"{\"resource\":");
                    body.extend_from_slice(&group.block.0);
                    scope_json("scopeSpans", "spans", &group.spans, &mut body);
                    body.push(b'}');
                }
                body.extend_from_slice(b"]}\n");
            }
        }
        for mut group in self.groups.drain(..) {
            if self.spare.len() < SPARE && group.spans.capacity() <= SPARE_BYTES {
                group.spans.clear();
                self.spare.push(group.spans);
            }
        }
        self.by_resource.clear();
        let processed = &self.stats.processed;
        processed.fetch_add(self.spans as u64, Ordering::Relaxed);
        self.stats.pending.store(0, Ordering::Relaxed);
        self.bytes = 0;
        self.spans = 0;
        self.pending_since = None;
        self.last_export = self.now;
        let empty = Carried::new(Arc::clone(&self.ledger), Signal::Traces);
        Some(Request {
            signal: Signal::Traces,
            body: body.into(),
            carried: std::mem::replace(&mut self.carried, empty),
        })
    }

    /// When the spans that wait are to be sent; `None` if there are none.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Instant> {
        self.now = Some(now);
        if self.spans == 0 {
            return None;
        }
        let since = *self.pending_since.get_or_insert(now);
        let next = self
            .last_export
            .map(|last| last + self.settings.schedule_delay);
        Some(match next {
            Some(next) if since < next => next,
            // After a quiet time nobody gains from a long wait: only what comes along at once is taken along.
            _ => since + self.settings.linger.min(self.settings.schedule_delay),
        })
    }
}
