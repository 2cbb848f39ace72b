//! Events that the kernel side could not put into the full ring and kept elsewhere until it is empty again.

use libbpf_rs::{MapCore as _, MapHandle};

use crate::load::{CaptureError, Loaded};

/// How many events were ever put into each queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Put {
    starts: u64,
    others: u64,
}

/// Both queues, and what was taken from them.
#[derive(Debug)]
pub(crate) struct Kept {
    starts: MapHandle,
    others: MapHandle,
    taken: Put,
}

impl Kept {
    pub(crate) fn of(loaded: &Loaded<'_>) -> Result<Self, CaptureError> {
        let handle = |map: &libbpf_rs::MapImpl<'_>| {
            MapHandle::try_from(map).map_err(|error| CaptureError::kernel("share a map", error))
        };
        Ok(Self {
            starts: handle(&loaded.skeleton.maps.kept_starts)?,
            others: handle(&loaded.skeleton.maps.kept)?,
            taken: Put::default(),
        })
    }

    /// How many there are now. To be asked before the ring is emptied: then all that came before them is told first.
    pub(crate) fn put(loaded: &Loaded<'_>) -> Put {
        loaded
            .skeleton
            .maps
            .bss_data
            .as_deref()
            .map_or_else(Put::default, |data| Put {
                // SAFETY: both are references to aligned integers; the kernel side writes them at any time, in one piece.
                starts: unsafe { std::ptr::read_volatile(&raw const data.kept_process_starts) },
                // SAFETY: as above.
                others: unsafe { std::ptr::read_volatile(&raw const data.kept_events) },
            })
    }

    /// Hands on what was put until then.
    pub(crate) fn take(&mut self, put: Put, mut tell: impl FnMut(&[u8])) {
        if put == self.taken {
            return;
        }
        // A process starts before it ends.
        let queues = [
            (&self.starts, put.starts.wrapping_sub(self.taken.starts)),
            (&self.others, put.others.wrapping_sub(self.taken.others)),
        ];
        for (queue, count) in queues {
            for _ in 0..count {
                // Fewer where the oldest were lost.
                let Ok(Some(record)) = queue.lookup_and_delete(&[]) else {
                    break;
                };
                tell(&record);
            }
        }
        self.taken = put;
    }
}
