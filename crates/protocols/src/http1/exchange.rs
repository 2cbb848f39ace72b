//! A request with what has become of it so far.

use spandrel_model::{Direction, KernelTime};

use super::head::{RequestHead, ResponseHead};
use super::pairing::Passed;
use crate::forwarding::Request;
use crate::protocol::Facts;
use crate::stream::Meta;

/// What holding an exchange costs besides its texts.
const OVERHEAD: usize = 512;

/// Why an exchange ended without a whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Closed,
    Reset,
}

impl Broken {
    /// The value of `error.type`.
    pub(crate) fn error_type(self) -> &'static str {
        match self {
            Self::Closed => "connection_closed",
            Self::Reset => "connection_reset",
        }
    }
}

/// The request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestBody {
    /// Still coming: the exchange waits for it.
    Coming,
    /// So many bytes.
    Whole(u64),
    /// Its size cannot be told.
    Unknown,
}

/// How the response ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// Not yet.
    Open,
    /// With its last byte, in this message; and the body's size where it can be told.
    Whole {
        last: Meta,
        body: Option<u64>,
        /// That it was the last byte of the response is certain, and not only that no more came.
        end_known: bool,
    },
    /// With the connection.
    Broken { time: KernelTime, cause: Broken },
    /// It cannot be told: the exchange is counted under a reason.
    Dropped(&'static str),
}

/// One exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) request: RequestHead,
    /// Position of the request's first byte.
    pub(crate) position: u64,
    /// The message of the request's first byte.
    pub(crate) first: Meta,
    /// That message begins with the request: its arrival is the request's.
    pub(crate) arrival_known: bool,
    pub(crate) request_body: RequestBody,
    /// The time of the message before, in the direction of the requests.
    pub(crate) request_before: KernelTime,
    /// Requests may have stood before this one that were not seen.
    pub(super) gap: Option<Passed>,
    /// Its response may be another's: it waits for evidence.
    pub(super) doubtful: bool,
    /// `100 Continue` was sent: the body comes.
    pub(crate) continued: bool,
    /// Its first line is none of a request: it is one if it is answered.
    pub(crate) malformed: bool,
    pub(crate) response: Option<ResponseHead>,
    pub(crate) ending: Ending,
}

impl Exchange {
    /// When the request began, as far as this end can tell.
    pub(crate) fn began(&self) -> KernelTime {
        self.first.started().unwrap_or(self.first.time)
    }

    pub(crate) fn is_complete(&self) -> bool {
        match self.ending {
            Ending::Whole { .. } if self.doubtful => false,
            Ending::Open => false,
            Ending::Whole { .. } => self.request_body != RequestBody::Coming,
            Ending::Broken { .. } | Ending::Dropped(_) => true,
        }
    }

    /// What of it is passed on, where its trace context is.
    pub(super) fn carried<'a>(&'a self, facts: &'a Facts, requests: Direction) -> Request<'a> {
        Request {
            facts,
            requests,
            position: self.position,
            process: self.first.process,
            time: match requests {
                Direction::Ingress => self.first.time,
                Direction::Egress => self.began(),
            },
            trace_parent: self.request.fields.trace_parent.as_ref(),
            cut: self.request.cut,
        }
    }

    pub(crate) fn cost(&self) -> usize {
        OVERHEAD + self.request.cost()
    }
}
