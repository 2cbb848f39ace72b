//! What a backend answers: partial success, status and retry information.

use std::time::Duration;

use super::fields::{Fields, Wire};

/// `partial_success` of an `Export*ServiceResponse`; trace and metrics responses have the same shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Rejected spans or points.
    pub rejected: u64,
    /// Why, or a warning if none was rejected.
    pub message: String,
}

/// `google.rpc.Status`, which both transports use for errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcStatus {
    /// For people.
    pub message: String,
    /// `google.rpc.RetryInfo`, where there is one.
    pub retry_after: Option<Duration>,
}

fn fields(message: &[u8]) -> impl Iterator<Item = (u64, Wire<'_>)> {
    Fields::new(message).map(|field| (field.number, field.wire))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads an `Export*ServiceResponse`. What cannot be read counts as full success: the backend has the data, and to
/// send it again would double it.
pub fn partial_success(body: &[u8]) -> PartialSuccess {
    let mut out = PartialSuccess::default();
    for field in fields(body) {
        let (1, Wire::Bytes(message)) = field else {
            continue;
        };
        for field in fields(message) {
            match field {
                (1, Wire::Varint(rejected)) => out.rejected = rejected,
                (2, Wire::Bytes(message)) => out.message = text(message),
                _ => {}
            }
        }
    }
    // A negative count of int64 is nonsense, and must not look like a great many.
    if out.rejected > i64::MAX as u64 {
        out.rejected = 0;
    }
    out
}

/// The same as OTLP/JSON. Fields that are not known are ignored, counts are numbers or strings.
pub fn json_partial_success(body: &[u8]) -> PartialSuccess {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else {
        return PartialSuccess::default();
    };
    let Some(partial) = answer.get("partialSuccess") else {
        return PartialSuccess::default();
    };
    let rejected = ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"]
        .iter()
        .find_map(|name| partial.get(name));
    PartialSuccess {
        rejected: rejected
            .and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok()))
            .filter(|count| *count <= i64::MAX as u64)
            .unwrap_or(0),
        message: string_of(partial, "errorMessage").unwrap_or_default(),
    }
}

/// The message of a `google.rpc.Status` as JSON.
pub fn json_message(body: &[u8]) -> Option<String> {
    string_of(&serde_json::from_slice(body).ok()?, "message")
}

fn string_of(object: &serde_json::Value, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_owned)
}

/// Reads a `google.rpc.Status`.
pub fn rpc_status(body: &[u8]) -> RpcStatus {
    let mut out = RpcStatus::default();
    for field in fields(body) {
        match field {
            (2, Wire::Bytes(message)) => out.message = text(message),
            (3, Wire::Bytes(any)) => {
                if let Some(delay) = retry_info(any) {
                    out.retry_after = Some(delay);
                }
            }
            _ => {}
        }
    }
    out
}

fn retry_info(any: &[u8]) -> Option<Duration> {
    let mut is_retry_info = false;
    let mut value: &[u8] = &[];
    for field in fields(any) {
        match field {
            (1, Wire::Bytes(url)) => is_retry_info = url.ends_with(b"/google.rpc.RetryInfo"),
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    if !is_retry_info {
        return None;
    }
    // RetryInfo without a delay still says: try again.
    let mut delay = Duration::ZERO;
    for field in fields(value) {
        let (1, Wire::Bytes(duration)) = field else {
            continue;
        };
        let (mut seconds, mut nanos) = (0, 0);
        for field in fields(duration) {
            match field {
                (1, Wire::Varint(value)) => seconds = value,
                (2, Wire::Varint(value)) => nanos = value,
                _ => {}
            }
        }
        if seconds <= i64::MAX as u64 && nanos < 1_000_000_000 {
            delay = Duration::new(seconds, nanos as u32);
        }
    }
    Some(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_answer(bytes: Vec<u8>) {
            partial_success(&bytes);
            json_partial_success(&bytes);
            json_message(&bytes);
            rpc_status(&bytes);
        }
    }

    #[test]
    fn a_partial_success_is_read_as_prost_writes_it() {
        use opentelemetry_proto::tonic::collector::trace::v1 as proto;
        use prost::Message;
        let body = proto::ExportTraceServiceResponse {
            partial_success: Some(proto::ExportTracePartialSuccess {
                rejected_spans: 300,
                error_message: "too old".into(),
            }),
        }
        .encode_to_vec();
        let read = partial_success(&body);
        assert_eq!((read.rejected, read.message.as_str()), (300, "too old"));
        assert_eq!(partial_success(&[]), PartialSuccess::default());
    }

    #[test]
    fn rule_36_and_37_counts_in_json_are_numbers_or_strings_and_unknown_fields_are_ignored() {
        for (body, rejected) in [
            (
                r#"{"partialSuccess":{"rejectedSpans":"7","errorMessage":"no"}}"#,
                7,
            ),
            (
                r#"{"partialSuccess":{"rejectedDataPoints":7,"errorMessage":"no","new":{}},"x":[]}"#,
                7,
            ),
            (
                r#"{"partialSuccess":{"rejectedSpans":-7,"errorMessage":"no"}}"#,
                0,
            ),
            (
                r#"{"partialSuccess":{"rejectedSpans":"many","errorMessage":"no"}}"#,
                0,
            ),
        ] {
            let read = json_partial_success(body.as_bytes());
            assert_eq!(
                (read.rejected, read.message.as_str()),
                (rejected, "no"),
                "{body}"
            );
        }
        // Keys are lowerCamelCase and nothing else.
        let snake = br#"{"partial_success":{"rejected_spans":7}}"#;
        for body in [&b"{}"[..], b"[]", b"7", snake, b"{\"partialSuccess\":null}"] {
            assert_eq!(json_partial_success(body), PartialSuccess::default());
        }
    }
}
