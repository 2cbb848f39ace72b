//! Kernel time and Unix time, converted in one place.

use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` gives them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct KernelTime(pub u64);

impl KernelTime {
    /// Nanoseconds from `earlier` to `self`, 0 where `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Nanoseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

/// What to add to kernel time to get Unix time; measured at start and again as clocks drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClockOffset(pub u64);

impl ClockOffset {
    /// The offset from two readings taken together.
    pub fn from_readings(kernel: KernelTime, unix: UnixTime) -> Self {
        Self(unix.0.saturating_sub(kernel.0))
    }

    /// Kernel time as Unix time.
    pub fn to_unix(self, time: KernelTime) -> UnixTime {
        UnixTime(time.0.saturating_add(self.0))
    }
}
