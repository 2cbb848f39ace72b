//! What went wrong with a request, in words that say what to do.

use std::fmt;

use kube::core::Status;
use kube_runtime::watcher;

use super::change::Object;

/// Why a watch or a list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 400 or 422: the API server does not know what was asked, first of all a list as a stream.
    Unsupported,
    /// 401: the token is not, or no longer, good.
    Unauthorized,
    /// 403: a rule of RBAC is missing.
    Forbidden,
    /// 410: too long without news; a new list is needed.
    Gone,
    /// 429: the API server wants fewer requests.
    Throttled,
    /// 5xx.
    Server,
    /// Another status.
    Status,
    /// No connection, or it broke.
    Unreachable,
    /// A list went too long without news.
    Timeout,
    /// An answer, or one object of it, that is not what the API says.
    Malformed,
    /// An answer, or one object of it, that is longer than allowed.
    TooLarge,
    /// Own side: no token, no CA, no address.
    Configuration,
}

impl Reason {
    /// All, in the order of their counters.
    pub const ALL: [Self; 12] = [
        Self::Unsupported,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Gone,
        Self::Throttled,
        Self::Server,
        Self::Status,
        Self::Unreachable,
        Self::Timeout,
        Self::Malformed,
        Self::TooLarge,
        Self::Configuration,
    ];

    /// Value of the attribute `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsupported => "unsupported",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::Throttled => "throttled",
            Self::Server => "server_error",
            Self::Status => "status",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Configuration => "configuration",
        }
    }

    fn of_status(code: u16) -> Self {
        match code {
            400 | 422 => Self::Unsupported,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            410 => Self::Gone,
            429 => Self::Throttled,
            500..=599 => Self::Server,
            _ => Self::Status,
        }
    }
}

/// A failure that the watch goes on after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which kind.
    pub reason: Reason,
    /// For the log.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Failure {
    pub(super) fn of_watcher<K: Object>(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::WatchError(status) => Self::of_status::<K>(status),
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::of_client::<K>(error),
            watcher::Error::NoResourceVersion => Self {
                reason: Reason::Malformed,
                message: format!("{} without metadata.resourceVersion", K::PLURAL),
            },
        }
    }

    pub(super) fn of_client<K: Object>(error: &kube::Error) -> Self {
        let about = K::PLURAL;
        match error {
            kube::Error::Api(status) => Self::of_status::<K>(status),
            kube::Error::SerdeError(error) => Self {
                reason: Reason::Malformed,
                message: format!("an answer about {about} cannot be read: {error}"),
            },
            error if mentions_limit(error) => Self {
                reason: Reason::TooLarge,
                message: format!(
                    "an answer about {about} was not read to its end: {}",
                    chain(error)
                ),
            },
            error => Self {
                reason: Reason::Unreachable,
                message: format!(
                    "the API server cannot be reached for {about}: {}",
                    chain(error)
                ),
            },
        }
    }

    pub(super) fn of_status<K: Object>(status: &Status) -> Self {
        if status.code == 0 {
            // kube takes each JSON object that is no event for a status, all of whose fields are optional.
            return Self {
                reason: Reason::Malformed,
                message: format!("a change of {} cannot be read", K::PLURAL),
            };
        }
        let reason = Reason::of_status(status.code);
        let said = shortened(&status.message);
        let message = match reason {
            Reason::Forbidden => forbidden(K::GROUP, K::PLURAL, "[list, watch]", said),
            Reason::Unauthorized => format!(
                "the API server does not accept the token (401: {said}); it is read again before the next try"
            ),
            _ => format!("{} about {}: {said}", status.code, K::PLURAL),
        };
        Self { reason, message }
    }
}

/// Which rule is missing, for whom, and where it is shipped.
pub(super) fn forbidden(group: &str, resource: &str, verbs: &str, said: &str) -> String {
    let user = quoted_after(said, "User ").unwrap_or("this user");
    let verb = said
        .split_once("cannot ")
        .and_then(|(_, rest)| rest.split(' ').next());
    let account = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|name| name.split_once(':'));
    let subject = match account {
        Some((namespace, name)) => format!("ServiceAccount {name} in namespace {namespace}"),
        None => user.to_owned(),
    };
    let cannot = verb.map_or_else(String::new, |verb| format!(", it may not {verb} them"));
    let manifest = match resource {
        "pods" | "namespaces" => "rbac.yaml",
        _ => "peers-rbac.yaml",
    };
    format!(
        "403 for {resource}{cannot}: {subject} needs a ClusterRole with apiGroups [\"{group}\"], resources \
         [{resource}], verbs {verbs}, and a ClusterRoleBinding to it (deploy/kubernetes/{manifest} has both); the API \
         server says: {said}"
    )
}

fn quoted_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.split_once(before)?
        .1
        .strip_prefix('"')?
        .split('"')
        .next()
}

/// A proxy may answer with a page.
fn shortened(message: &str) -> &str {
    let end = message
        .char_indices()
        .nth(300)
        .map_or(message.len(), |(at, _)| at);
    message.get(..end).unwrap_or(message)
}

fn mentions_limit(error: &kube::Error) -> bool {
    chain(error).contains(super::counters::OVER_LIMIT)
}

/// The error and its causes, of which only the last says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..8 {
        let Some(error) = cause else { break };
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    shortened(&text).to_owned()
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
