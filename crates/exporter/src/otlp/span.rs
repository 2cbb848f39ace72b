//! Attributes, scope and spans as protobuf.

use spandrel_model::{Attribute, SpanRecord, SpanStatus, Value};

use super::wire::{Message, Sink, length_of};
use super::{SCOPE_NAME, SCOPE_VERSION};

/// `span_flags` bit: it is known whether the parent is remote.
const HAS_IS_REMOTE: u32 = 0x100;
/// `span_flags` bit: the parent is remote.
const IS_REMOTE: u32 = 0x200;

pub(crate) struct KeyValue<'a>(pub(crate) &'a Attribute);

impl Message for KeyValue<'_> {
    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.text(1, &self.0.key);
        sink.message(2, &AnyValue(&self.0.value));
    }
}

pub(crate) struct AnyValue<'a>(pub(crate) &'a Value);

impl Message for AnyValue<'_> {
    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        // The value is a oneof: it is written even where it is zero or empty.
        match self.0 {
            Value::Str(text) => sink.bytes(1, text.as_bytes()),
            Value::Bool(value) => {
                sink.tag(2, 0);
                sink.varint(u64::from(*value));
            }
            Value::I64(value) => {
                sink.tag(3, 0);
                sink.varint(*value as u64);
            }
            Value::F64(value) => sink.double(4, *value),
            Value::StrArray(texts) => sink.message(5, &Texts(texts)),
        }
    }
}

struct Texts<'a>(&'a [spandrel_model::Text]);

impl Message for Texts<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        for text in self.0 {
            sink.message(1, &TextValue(text));
        }
    }
}

struct TextValue<'a>(&'a str);

impl Message for TextValue<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.bytes(1, self.0.as_bytes());
    }
}

/// `opentelemetry.proto.resource.v1.Resource`
pub(crate) struct Resource<'a>(pub(crate) &'a [Attribute]);

impl Message for Resource<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        for attribute in self.0 {
            sink.message(1, &KeyValue(attribute));
        }
    }
}

/// Our `opentelemetry.proto.common.v1.InstrumentationScope`
pub(crate) struct Scope;

impl Message for Scope {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.text(1, SCOPE_NAME);
        sink.text(2, SCOPE_VERSION);
    }
}

/// `opentelemetry.proto.trace.v1.Span`
pub(crate) struct Span<'a>(pub(crate) &'a SpanRecord);

impl Message for Span<'_> {
    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        let span = self.0;
        sink.bytes(1, &span.trace_id.0);
        sink.bytes(2, &span.span_id.0);
        sink.text(3, &span.trace_state);
        if let Some(parent) = &span.parent_span_id {
            sink.bytes(4, &parent.0);
        }
        sink.text(5, &span.name);
        sink.number(6, span.kind as u64);
        sink.fixed64(7, span.start.0);
        sink.fixed64(8, span.end.0);
        for attribute in &span.attributes {
            sink.message(9, &KeyValue(attribute));
        }
        sink.number(10, span.dropped_attributes.into());
        if let SpanStatus::Error(text) = &span.status {
            sink.message(15, &ErrorStatus(text));
        }
        sink.fixed32(16, flags(span));
    }
}

struct ErrorStatus<'a>(&'a str);

impl Message for ErrorStatus<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.text(2, self.0);
        sink.number(3, 2);
    }
}

/// The flags of a span as OTLP lays them out.
pub(crate) fn flags(span: &SpanRecord) -> u32 {
    let remote = if span.parent_is_remote { IS_REMOTE } else { 0 };
    u32::from(span.trace_flags) | HAS_IS_REMOTE | remote
}

/// Appends one `Span` message (without tag and length) and returns its length.
pub fn encode_span(span: &SpanRecord, out: &mut Vec<u8>) -> usize {
    let message = Span(span);
    let length = length_of(&message);
    out.reserve(length);
    message.write(out);
    length
}
