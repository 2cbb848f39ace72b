//! How far the ring has been emptied, as a time.

use libbpf_rs::{AsRawLibbpf, RingBuffer, libbpf_sys};
use spandrel_model::KernelTime;

use crate::clock;

/// A time, and where the ring's producers were right after it: once the consumer is there, everything submitted before
/// that time has been taken. A record that is still being written holds back the consumer, and with it the time.
#[derive(Debug, Default)]
pub(crate) struct Emptied(Option<(KernelTime, u64)>);

impl Emptied {
    /// Whether the last mark has been reached.
    pub(crate) fn needs_mark(&self) -> bool {
        self.0.is_none()
    }

    /// Marks the present, before the ring is looked into.
    pub(crate) fn mark(&mut self, ring: &RingBuffer<'_>) {
        // The clock first: what is submitted between the two readings then lies behind the time, and is not missing
        // before it.
        let now = clock::now();
        self.0 = Some((now, positions(ring).0));
    }

    /// The time of the mark, once everything before it has been taken.
    pub(crate) fn reached(&mut self, ring: &RingBuffer<'_>) -> Option<KernelTime> {
        self.consumed(positions(ring).1)
    }

    fn consumed(&mut self, consumer: u64) -> Option<KernelTime> {
        self.0
            .take_if(|(_, producer)| consumer >= *producer)
            .map(|(time, _)| time)
    }
}

/// Bytes that were ever reserved in the ring, and bytes that were ever consumed.
fn positions(ring: &RingBuffer<'_>) -> (u64, u64) {
    // SAFETY: `ring` keeps its libbpf object alive for the time of the call, and index 0 is the ring that it was built
    // with (libbpf answers null for an index that does not exist, which is not followed). Both functions only load
    // from the pages that libbpf has mapped for that ring.
    unsafe {
        let first = libbpf_sys::ring_buffer__ring(ring.as_libbpf_object().as_ptr(), 0);
        if first.is_null() {
            return (0, 0);
        }
        (
            libbpf_sys::ring__producer_pos(first),
            libbpf_sys::ring__consumer_pos(first),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_reached_when_the_consumer_has_passed_where_the_producers_were() {
        let mut emptied = Emptied(Some((KernelTime(9), 4096)));
        assert_eq!(emptied.consumed(4095), None);
        assert!(
            !emptied.needs_mark(),
            "a new mark would push the time further away"
        );
        assert_eq!(emptied.consumed(4096), Some(KernelTime(9)));
        assert!(emptied.needs_mark());
    }
}
