//! The one list of protocols.

use crate::http1::Http1Protocol;
use crate::protocol::Protocol;

/// All protocols. Order does not matter: the highest score is tried first.
pub(crate) static PROTOCOLS: &[&dyn Protocol] = &[&Http1Protocol];
