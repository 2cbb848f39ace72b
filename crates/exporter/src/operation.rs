//! One export with all its attempts and waits, for the agent's own metrics.

use opentelemetry::KeyValue;
use spandrel_model::ledger::Reason;
use tokio::time::Instant;
use tonic::Code;

use crate::observed::Timings;
use crate::reason;
use crate::self_telemetry::error_type;

/// How a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseStatus {
    Http(u16),
    Grpc(Code),
}

impl ResponseStatus {
    fn attribute(self) -> KeyValue {
        match self {
            Self::Http(status) => KeyValue::new("http.response.status_code", i64::from(status)),
            Self::Grpc(code) => {
                let name = NAMES.get(code as usize).copied().unwrap_or("UNKNOWN");
                KeyValue::new("rpc.response.status_code", name)
            }
        }
    }
}

/// gRPC's names of its codes, in their order.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Tells of an export when it is let go of: one that nobody ended was cut off by the shutdown.
#[derive(Debug)]
pub(crate) struct Operation<'a> {
    timings: &'a Timings,
    began: Option<Instant>,
    status: Option<ResponseStatus>,
    error: Option<Reason>,
}

impl<'a> Operation<'a> {
    pub(crate) fn new(timings: &'a Timings) -> Self {
        Self {
            timings,
            began: None,
            status: None,
            error: Some(reason::SHUTDOWN_DEADLINE),
        }
    }

    /// An attempt begins; the operation does with the first one.
    pub(crate) fn attempt(&mut self) {
        self.began.get_or_insert_with(Instant::now);
        self.status = None;
    }

    /// The server's answer to the last attempt, if there was any.
    pub(crate) fn answered(&mut self, status: Option<ResponseStatus>) {
        self.status = status;
    }

    pub(crate) fn succeeded(mut self) {
        self.error = None;
    }

    pub(crate) fn failed(mut self, reason: Reason) {
        self.error = Some(reason);
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            let status = self.status.map(ResponseStatus::attribute);
            let error = self
                .error
                .map(|reason| KeyValue::new("error.type", error_type(reason)));
            self.timings
                .record(began.elapsed(), status.into_iter().chain(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_grpcs_names() {
        for (code, name) in [
            (Code::Ok, "OK"),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (Code::Unavailable, "UNAVAILABLE"),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
        ] {
            let attribute = ResponseStatus::Grpc(code).attribute();
            assert_eq!(attribute, KeyValue::new("rpc.response.status_code", name));
        }
    }
}
