//! What the capture thread hands over.

use spandrel_model::{Event, KernelTime};

/// A control group that events name by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The id.
    pub id: u64,
    /// From the root of its hierarchy, as the kernel knows it: no namespace changes that.
    pub path: String,
    /// What is above the path is not known: it has too many levels.
    pub cut: bool,
}

/// Events in the order in which the kernel side submitted them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Groups that have become known, of events in this batch or in a later one.
    pub groups: Vec<Group>,
    /// The events; there may be none where only time has passed.
    pub events: Vec<Event>,
    /// Everything submitted before this time is in this batch or in an earlier one. A receiver that takes this for the
    /// present never gives up on an event that still waits in the ring or in a batch.
    pub until: KernelTime,
}

impl IntoIterator for Batch {
    type Item = Event;
    type IntoIter = std::vec::IntoIter<Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}
