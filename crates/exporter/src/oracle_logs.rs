//! Tests of the log encoder against opentelemetry-proto.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1 as pl;
use proptest::prelude::{Strategy, any, proptest};
use prost::Message;
use spandrel_model::{Resource, SpanId, TraceId, UnixTime};

use crate::logs::{LogRecord, ResourceLogs};
use crate::oracle::{
    attributes, proto_attributes, proto_resource, proto_scope, proto_value, text, value,
};
use crate::otlp::{Form, ResourceCache, SCHEMA_URL, encode_logs, logs_json};

fn record() -> impl Strategy<Value = LogRecord> {
    (
        // Zero would be left out by prost, and is no time.
        (proptest::option::of(1..=u64::MAX), 1..=u64::MAX),
        (0_u8..=24, text(), text()),
        proptest::option::of(value()),
        (attributes(), any::<u32>()),
        any::<Option<([u8; 16], [u8; 8])>>(),
        1..=u8::MAX,
    )
        .prop_map(
            |(times, (severity_number, severity, event), body, attributes, ids, flags)| LogRecord {
                time: times.0.map(UnixTime),
                observed: UnixTime(times.1),
                severity_number,
                severity_text: severity.into(),
                body,
                attributes: attributes.0,
                dropped_attributes: attributes.1,
                span: ids.map(|(trace, span)| (TraceId(trace), SpanId(span), flags)),
                event_name: event.into(),
            },
        )
}

fn batch() -> impl Strategy<Value = Vec<ResourceLogs>> {
    let records = proptest::collection::vec(record(), 0..8);
    let one = (attributes(), records).prop_map(|(resource, records)| ResourceLogs {
        resource: Arc::new(Resource::new(resource)),
        records,
    });
    proptest::collection::vec(one, 0..4)
}

fn expected(batch: &[ResourceLogs]) -> ExportLogsServiceRequest {
    let record = |log: &LogRecord| pl::LogRecord {
        time_unix_nano: log.time.map_or(0, |time| time.0),
        observed_time_unix_nano: log.observed.0,
        severity_number: log.severity_number.into(),
        severity_text: log.severity_text.to_string(),
        body: log.body.as_ref().map(proto_value),
        attributes: proto_attributes(&log.attributes),
        dropped_attributes_count: log.dropped_attributes,
        flags: log.span.map_or(0, |(_, _, flags)| flags.into()),
        trace_id: log
            .span
            .map_or(Vec::new(), |(trace, _, _)| trace.0.to_vec()),
        span_id: log.span.map_or(Vec::new(), |(_, span, _)| span.0.to_vec()),
        event_name: log.event_name.to_string(),
    };
    ExportLogsServiceRequest {
        resource_logs: batch
            .iter()
            .filter(|each| !each.records.is_empty())
            .map(|each| pl::ResourceLogs {
                resource: proto_resource(&each.resource),
                scope_logs: vec![pl::ScopeLogs {
                    scope: proto_scope(),
                    log_records: each.records.iter().map(record).collect(),
                    schema_url: SCHEMA_URL.into(),
                }],
                schema_url: SCHEMA_URL.into(),
            })
            .collect(),
    }
}

fn records_of(request: &ExportLogsServiceRequest) -> Vec<pl::LogRecord> {
    let scopes = request
        .resource_logs
        .iter()
        .flat_map(|each| &each.scope_logs);
    scopes.flat_map(|scope| scope.log_records.clone()).collect()
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    #[test]
    fn log_records_decode_to_what_prost_would_have_sent(batch in batch()) {
        let expected = expected(&batch);
        let mut cache = ResourceCache::new(Form::Protobuf, 8);
        let whole = encode_logs(&batch, &mut cache, 1 << 30);
        if expected.resource_logs.is_empty() {
            assert!(whole.is_empty(), "an empty request is never made");
            assert!(logs_json(&batch).is_empty());
        } else {
            let decoded = ExportLogsServiceRequest::decode(&*whole[0].body).unwrap();
            assert_eq!(decoded, expected);
            assert_eq!(decoded.encoded_len(), whole[0].body.len());
            let json: ExportLogsServiceRequest = serde_json::from_slice(&logs_json(&batch)).unwrap();
            assert_eq!(json, expected);
        }
    }

    #[test]
    fn requests_of_logs_stay_within_their_bytes_and_keep_their_order(
        batch in batch(),
        max in 500_usize..5000,
    ) {
        let mut cache = ResourceCache::new(Form::Protobuf, 8);
        let mut found = Vec::new();
        for part in encode_logs(&batch, &mut cache, max) {
            assert!(part.body.len() <= max, "{} > {max}", part.body.len());
            let records = records_of(&ExportLogsServiceRequest::decode(&*part.body).unwrap());
            assert_eq!(records.len() as u64, part.records);
            assert!(part.records > 0);
            found.extend(records);
        }
        let all = records_of(&expected(&batch));
        let mut rest = all.iter();
        for record in &found {
            assert!(rest.any(|one| one == record), "each in its order, none made up");
        }
    }
}
