//! What the agent itself costs, from `/proc/self`, and which program it is.

use std::fs;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::catalogue;

/// `USER_HZ`: part of the kernel's interface, and 100 on every architecture that the agent runs on.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn observe(meter: &Meter) {
    catalogue::CPU_TIME.seconds(meter, |observer| {
        if let Some((user, system)) = read("/proc/self/stat").as_deref().and_then(cpu_ticks) {
            for (mode, ticks) in [("user", user), ("system", system)] {
                let seconds = ticks as f64 / TICKS_PER_SECOND;
                observer.observe(seconds, &[KeyValue::new("cpu.mode", mode)]);
            }
        }
    });
    catalogue::MEMORY.up_down(meter, |observer| {
        let status = read("/proc/self/status");
        if let Some(kib) = status.as_deref().and_then(|text| field(text, "VmRSS:")) {
            observer.observe(kib.saturating_mul(1024), &[]);
        }
    });
    catalogue::THREADS.up_down(meter, |observer| {
        let status = read("/proc/self/status");
        if let Some(count) = status.as_deref().and_then(|text| field(text, "Threads:")) {
            observer.observe(count, &[]);
        }
    });
    catalogue::DESCRIPTORS.up_down(meter, |observer| {
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is that of this directory.
            let open = entries.count().saturating_sub(1);
            observer.observe(i64::try_from(open).unwrap_or(i64::MAX), &[]);
        }
    });
    catalogue::BUILD.gauge(meter, |observer| {
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        let attributes = [
            KeyValue::new("spandrel.build.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("spandrel.build.target", target),
            KeyValue::new("spandrel.build.debug", cfg!(debug_assertions)),
        ];
        observer.observe(1, &attributes);
    });
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Ticks in user and in kernel mode, of a `/proc/<pid>/stat`. Its second field may hold anything, also brackets.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    // After the name comes the third field; the times are the 14th and the 15th.
    let mut fields = fields.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The number of a line of `/proc/<pid>/status`.
fn field(status: &str, key: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_looks_like_fields_has_its_own_times() {
        let stat =
            "812 (a) 9 9 9 (b) S 1 812 812 0 -1 4194560 2290 0 3 0 117 45 0 0 20 0 4 0 8810 1 2 3";
        assert_eq!(cpu_ticks(stat), Some((117, 45)));
        assert_eq!(cpu_ticks("812 (a) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn a_status_is_read_by_its_keys() {
        let status = "Name:\tVmRSS: 1\nVmHWM:\t  9000 kB\nVmRSS:\t    8124 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(8124));
        assert_eq!(field(status, "Threads:"), Some(7));
        assert_eq!(field(status, "VmSwap:"), None);
    }
}
