//! Spans for tests: of services that differ in rate, latency and errors, from a generator with a seed.

use spandrel_model::{
    Attribute, ProcessKey, Resource, SpanId, SpanKind, SpanRecord, SpanStatus, TraceId, UnixTime,
};

/// Numbers that look random and repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn trace_id(&mut self) -> TraceId {
        TraceId((u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes())
    }
}

pub(crate) fn resource(name: &str) -> Resource {
    Resource::new(vec![Attribute::new("service.name", name.to_owned())])
}

/// The first span of a trace that was begun here: 1 ms, without an error.
pub(crate) fn root(trace_id: TraceId) -> SpanRecord {
    SpanRecord {
        trace_id,
        span_id: SpanId([1; 8]),
        parent_span_id: None,
        parent_is_remote: false,
        trace_begun_here: true,
        trace_flags: 1,
        trace_state: "".into(),
        name: "GET".into(),
        kind: SpanKind::Client,
        start: UnixTime(1_000_000_000),
        end: UnixTime(1_001_000_000),
        attributes: Vec::new(),
        dropped_attributes: 0,
        status: SpanStatus::Unset,
        process: ProcessKey {
            tgid: 1,
            started: 1,
        },
        cgroup: 0,
    }
}

/// A span whose parent came in with a request.
pub(crate) fn child(trace_id: TraceId, flags: u8, trace_state: &str) -> SpanRecord {
    SpanRecord {
        parent_span_id: Some(SpanId([2; 8])),
        parent_is_remote: true,
        trace_begun_here: false,
        trace_flags: flags,
        trace_state: trace_state.to_owned().into(),
        kind: SpanKind::Server,
        ..root(trace_id)
    }
}

pub(crate) fn failed(span: SpanRecord) -> SpanRecord {
    SpanRecord {
        status: SpanStatus::Error("".into()),
        ..span
    }
}

pub(crate) fn lasting(span: SpanRecord, nanos: u64) -> SpanRecord {
    SpanRecord {
        end: UnixTime(span.start.0 + nanos),
        ..span
    }
}
