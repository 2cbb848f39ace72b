//! Log records as protobuf, cut into requests that are not larger than they may be.

use bytes::Bytes;

use super::metric::{envelope_overhead, resource_envelope};
use super::resource::ResourceCache;
use super::span::{AnyValue, KeyValue};
use super::wire::{Message, Sink, field_len, length_of};
use crate::logs::{LogRecord, ResourceLogs};

/// `opentelemetry.proto.logs.v1.LogRecord`
struct Log<'a>(&'a LogRecord);

impl Message for Log<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        let log = self.0;
        if let Some(time) = log.time {
            sink.fixed64(1, time.0);
        }
        sink.number(2, log.severity_number.into());
        sink.text(3, &log.severity_text);
        if let Some(body) = &log.body {
            sink.message(5, &AnyValue(body));
        }
        for attribute in &log.attributes {
            sink.message(6, &KeyValue(attribute));
        }
        sink.number(7, log.dropped_attributes.into());
        if let Some((trace, span, flags)) = &log.span {
            sink.fixed32(8, u32::from(*flags));
            sink.bytes(9, &trace.0);
            sink.bytes(10, &span.0);
        }
        sink.fixed64(11, log.observed.0);
        sink.text(12, &log.event_name);
    }
}

/// One `ExportLogsServiceRequest` and how many records are in it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedLogs {
    /// The request.
    pub body: Bytes,
    /// Records in it.
    pub records: u64,
}

/// Encodes log records into requests of at most `max_bytes`. A record that does not fit into one is left out: the sum
/// of the requests' records is then less than what was given.
pub fn encode_logs(
    batch: &[ResourceLogs],
    cache: &mut ResourceCache,
    max_bytes: usize,
) -> Vec<EncodedLogs> {
    let mut done = Vec::new();
    let mut body = Vec::new();
    let mut records = 0;
    for each in batch {
        let block = cache.get(&each.resource).0;
        let overhead = envelope_overhead(&block);
        let mut items: Vec<u8> = Vec::new();
        for record in &each.records {
            let message = Log(record);
            let length = field_len(2, length_of(&message));
            if overhead + length > max_bytes {
                continue;
            }
            if body.len() + overhead + items.len() + length > max_bytes {
                if !items.is_empty() {
                    resource_envelope(&block, &items, &mut body);
                    items.clear();
                }
                done.push(EncodedLogs {
                    body: std::mem::take(&mut body).into(),
                    records: std::mem::take(&mut records),
                });
            }
            items.message(2, &message);
            records += 1;
        }
        if !items.is_empty() {
            resource_envelope(&block, &items, &mut body);
        }
    }
    if !body.is_empty() {
        done.push(EncodedLogs {
            body: body.into(),
            records,
        });
    }
    done
}
