//! The relation of kernel time to Unix time, from paired readings.

use rustix::time::{ClockId, clock_gettime};
use spandrel_model::{ClockOffset, KernelTime, UnixTime};

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as u64)
}

/// Kernel time now.
pub(crate) fn now() -> KernelTime {
    KernelTime(nanos(ClockId::Monotonic))
}

/// The offset of the tightest of a few pairs: being scheduled away between two readings spoils one.
pub(crate) fn offset() -> ClockOffset {
    let mut best = (u64::MAX, ClockOffset::default());
    for _ in 0..5 {
        let before = nanos(ClockId::Monotonic);
        let unix = nanos(ClockId::Realtime);
        let width = nanos(ClockId::Monotonic).saturating_sub(before);
        if width < best.0 {
            let middle = KernelTime(before + width / 2);
            best = (width, ClockOffset::from_readings(middle, UnixTime(unix)));
        }
    }
    best.1
}

/// Nanoseconds since the boot, as the kernel counts starts of tasks.
pub(crate) fn since_boot() -> u64 {
    nanos(ClockId::Boottime)
}
