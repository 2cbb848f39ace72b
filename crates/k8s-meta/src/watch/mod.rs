//! What the API server tells: one watch per kind of object, that survives whatever the API server does.
//!
//! A [`Watch`] asks for the objects of its [`Scope`] and sends each [`Change`] through a bounded channel: it waits when
//! the channel is full, it drops nothing. Where it can, it reads the first list as a stream (WatchList), which costs the
//! API server no memory per object; where the API server does not know that, it lists from the API server's cache and
//! watches from there. Whatever fails is tried again with growing pauses, what is known is kept, and [`State`] says since
//! when it may be out of date.

mod access;
mod backoff;
mod change;
mod cluster;
mod counters;
mod failure;
mod gate;
mod run;
mod settings;

pub use access::Access;
pub use change::{Change, Item, Object};
pub use cluster::cluster_uid;
pub use counters::{Counters, Figures};
pub use failure::{Failure, Reason};
pub use run::{State, Watch};
pub use settings::{Scope, Settings};
