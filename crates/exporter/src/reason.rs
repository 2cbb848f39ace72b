//! Why telemetry was not delivered: every reason that this crate writes into the ledger.

use spandrel_model::ledger::Reason;

/// The sending queue was full and this was the oldest in it.
pub const QUEUE_FULL: Reason = "queue.full";
/// It waited on disk for longer than `max_age`.
pub const QUEUE_EXPIRED: Reason = "queue.expired";
/// Its bytes on the disk were damaged.
pub const QUEUE_CORRUPT: Reason = "queue.corrupt";
/// A partial success: the backend took the request and rejected these; they are not sent again.
pub const REJECTED: Reason = "export.rejected";
/// The backend refused the credentials (401, 403, UNAUTHENTICATED, PERMISSION_DENIED).
pub const PERMANENT_AUTH: Reason = "export.permanent_auth";
/// The backend found a single item too large (413, or a status that speaks of the message's size); larger
/// requests are split.
pub const PERMANENT_SIZE: Reason = "export.permanent_size";
/// The backend has run out of something other than room for a message, and does not say when it will have it again
/// (RESOURCE_EXHAUSTED without RetryInfo): by the specification not to be sent again.
pub const PERMANENT_EXHAUSTED: Reason = "export.permanent_exhausted";
/// The backend found the request wrong (400, 404, other 4xx, INVALID_ARGUMENT, NOT_FOUND, ...).
pub const PERMANENT_REQUEST: Reason = "export.permanent_request";
/// The backend failed in a way that must not be retried (500, INTERNAL, UNIMPLEMENTED, UNKNOWN, ...).
pub const PERMANENT_SERVER: Reason = "export.permanent_server";
/// The endpoint answered with a redirect, which is not followed: the headers may hold credentials.
pub const PERMANENT_REDIRECT: Reason = "export.permanent_redirect";
/// The answer was larger than the response limit.
pub const PERMANENT_RESPONSE: Reason = "export.permanent_response";
/// Retried for `retry_on_failure.max_elapsed_time` without success, or retrying is switched off.
pub const RETRY_EXHAUSTED: Reason = "export.retry_exhausted";
/// One span or point alone is larger than a request may be.
pub const TOO_LARGE: Reason = "export.too_large";
/// A request could not be turned into the form of its destination.
pub const ENCODE_FAILED: Reason = "export.encode_failed";
/// There is no destination for this signal.
pub const NO_DESTINATION: Reason = "export.no_destination";
/// The file or stream could not be written.
pub const WRITE_FAILED: Reason = "export.write_failed";
/// An exporter of the OpenTelemetry SDK failed; it does not say why in a way that could be counted.
pub const SDK_FAILED: Reason = "export.sdk_failed";
/// Made, and given up before it came to the exporter.
pub const ABANDONED: Reason = "export.abandoned";
/// Not acknowledged when the time to shut down was over.
pub const SHUTDOWN_DEADLINE: Reason = "shutdown.deadline";

/// All of them, in the order of the documentation.
pub const ALL: [Reason; 19] = [
    QUEUE_FULL,
    QUEUE_EXPIRED,
    QUEUE_CORRUPT,
    REJECTED,
    PERMANENT_AUTH,
    PERMANENT_SIZE,
    PERMANENT_EXHAUSTED,
    PERMANENT_REQUEST,
    PERMANENT_SERVER,
    PERMANENT_REDIRECT,
    PERMANENT_RESPONSE,
    RETRY_EXHAUSTED,
    TOO_LARGE,
    ENCODE_FAILED,
    NO_DESTINATION,
    WRITE_FAILED,
    SDK_FAILED,
    ABANDONED,
    SHUTDOWN_DEADLINE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_reason_in_this_order() {
        let text = include_str!("../../../docs/export.md");
        let documented: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.starts_with("| reason"))
            .skip(2)
            .take_while(|line| line.starts_with("| `"))
            .filter_map(|line| line.split('`').nth(1))
            .collect();
        assert_eq!(documented, ALL);
    }
}
