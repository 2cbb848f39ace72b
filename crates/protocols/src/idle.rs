//! Which connection has been idle for the longest.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use spandrel_model::{ConnectionId, KernelTime};

use crate::connection::Connection;

/// Connections in the order of their last events, as they were at some time. Costs nothing until it is asked.
///
/// A connection that is not in it had an event after that time, so the first that has had none is idle for the
/// longest of all. Each entry that is passed over is paid for by an event or an end, so that asking takes O(log n)
/// on average, whatever comes.
#[derive(Debug, Default)]
pub(crate) struct Idle(VecDeque<(KernelTime, ConnectionId)>);

impl Idle {
    /// The one that is idle for the longest, and no longer in the order.
    pub(crate) fn pop(
        &mut self,
        connections: &HashMap<ConnectionId, Connection, FixedState>,
    ) -> Option<ConnectionId> {
        for _ in 0..2 {
            while let Some((time, id)) = self.0.pop_front() {
                if connections
                    .get(&id)
                    .is_some_and(|connection| connection.last_event == time)
                {
                    return Some(id);
                }
            }
            let mut order: Vec<_> = connections
                .iter()
                .map(|(id, connection)| (connection.last_event, *id))
                .collect();
            order.sort_unstable();
            self.0 = order.into();
        }
        None
    }
}
