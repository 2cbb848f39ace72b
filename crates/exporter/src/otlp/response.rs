//! What a backend answers: partial success, status and retry information.

use std::time::Duration;

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

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Walks the fields of a message; ends at the first byte that is not protobuf.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, field))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads an `Export*ServiceResponse`. What cannot be read counts as full success: the backend has the data, and to
/// send it again would double it.
pub fn partial_success(body: &[u8]) -> PartialSuccess {
    let mut out = PartialSuccess::default();
    for (number, field) in Fields(body) {
        let (1, Field::Bytes(message)) = (number, field) else {
            continue;
        };
        for field in Fields(message) {
            match field {
                (1, Field::Number(rejected)) => out.rejected = rejected,
                (2, Field::Bytes(message)) => out.message = text(message),
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

/// Reads a `google.rpc.Status`.
pub fn rpc_status(body: &[u8]) -> RpcStatus {
    let mut out = RpcStatus::default();
    for field in Fields(body) {
        match field {
            (2, Field::Bytes(message)) => out.message = text(message),
            (3, Field::Bytes(any)) => {
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
    for field in Fields(any) {
        match field {
            (1, Field::Bytes(url)) => is_retry_info = url.ends_with(b"/google.rpc.RetryInfo"),
            (2, Field::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    if !is_retry_info {
        return None;
    }
    // RetryInfo without a delay still says: try again.
    let mut delay = Duration::ZERO;
    for field in Fields(value) {
        let (1, Field::Bytes(duration)) = field else {
            continue;
        };
        let (mut seconds, mut nanos) = (0, 0);
        for field in Fields(duration) {
            match field {
                (1, Field::Number(value)) => seconds = value,
                (2, Field::Number(value)) => nanos = value,
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
}
