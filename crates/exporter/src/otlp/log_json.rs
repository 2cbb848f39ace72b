//! Log records as OTLP/JSON.

use super::json::{Out, resource_json, scope_json};
use crate::logs::{LogRecord, ResourceLogs};

impl Out<'_> {
    fn log(&mut self, log: &LogRecord) {
        self.raw("{");
        if let Some(time) = log.time {
            self.fmt(format_args!("\"timeUnixNano\":\"{}\",", time.0));
        }
        self.fmt(format_args!(
            "\"observedTimeUnixNano\":\"{}\",",
            log.observed.0
        ));
        if log.severity_number > 0 {
            self.fmt(format_args!("\"severityNumber\":{},", log.severity_number));
        }
        for (key, text) in [
            ("severityText", &log.severity_text),
            ("eventName", &log.event_name),
        ] {
            if !text.is_empty() {
                self.fmt(format_args!("\"{key}\":"));
                self.string(text);
                self.raw(",");
            }
        }
        if let Some(body) = &log.body {
            self.raw("\"body\":");
            self.value(body);
            self.raw(",");
        }
        self.attributes(&log.attributes);
        if log.dropped_attributes > 0 {
            let dropped = log.dropped_attributes;
            self.fmt(format_args!(",\"droppedAttributesCount\":{dropped}"));
        }
        if let Some((trace, span, flags)) = &log.span {
            self.fmt(format_args!(
                ",\"flags\":{flags},\"traceId\":\"{trace}\",\"spanId\":\"{span}\""
            ));
        }
        self.raw("}");
    }
}

/// One `ExportLogsServiceRequest` as a line without its end; empty if there is nothing to tell.
pub fn logs_json(batch: &[ResourceLogs]) -> Vec<u8> {
    let mut body = Vec::new();
    for each in batch.iter().filter(|each| !each.records.is_empty()) {
        let start: &[u8] = if body.is_empty() {
            b"{\"resourceLogs\":["
        } else {
            b","
        };
        body.extend_from_slice(start);
        body.extend_from_slice(b"{\"resource\":");
        resource_json(&each.resource, &mut body);
        let mut items = Vec::new();
        for record in &each.records {
            if !items.is_empty() {
                items.push(b',');
            }
            Out(&mut items).log(record);
        }
        scope_json("scopeLogs", "logRecords", &items, &mut body);
        body.push(b'}');
    }
    if !body.is_empty() {
        body.extend_from_slice(b"]}");
    }
    body
}
