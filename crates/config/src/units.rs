//! Durations, sizes and port ranges as people write them.
use std::time::Duration;

pub(crate) const DURATION: &str = "a duration with a unit, such as \"5s\", \"200ms\" or \"1m30s\"";
pub(crate) const SIZE: &str = "bytes, such as 8388608 or \"8MiB\"";
pub(crate) const PORTS: &str = "a port from 1 to 65535, or a range such as \"8000-8999\"";

/// Longest duration that makes sense: a year.
const MAX: Duration = Duration::from_secs(366 * 24 * 3600);

pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut total = 0.0_f64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * seconds;
        rest = tail;
    }
    // Rounded, because 0.2 seconds is not exact in binary.
    let nanos = (total * 1e9).round();
    let duration = Duration::try_from_secs_f64(total)
        .ok()
        .filter(|d| *d <= MAX)?;
    if nanos < 9e15 {
        Some(Duration::from_nanos(nanos as u64))
    } else {
        Some(duration)
    }
}

/// The shortest exact way to write a duration.
pub(crate) fn write_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, size) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)] {
        if nanos.is_multiple_of(size) {
            return format!("{}{unit}", nanos / size);
        }
    }
    format!("{nanos}ns")
}

pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

pub(crate) fn ports(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|p| *p > 0);
    match text.split_once('-') {
        None => port(text).map(|p| (p, p)),
        Some((from, to)) => {
            let (from, to) = (port(from)?, port(to)?);
            (from <= to).then_some((from, to))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, ports, size, write_duration};
    use std::time::Duration;

    #[test]
    fn durations_need_a_unit_and_may_be_compound() {
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("0.2s"), Some(Duration::from_millis(200)));
        for bad in [
            "",
            "5",
            "5 parsecs",
            "s",
            "-5s",
            "5s5",
            "1.2.3s",
            "99999999999h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(write_duration(Duration::from_millis(1500)), "1500ms");
    }

    #[test]
    fn sizes_and_ports_are_read_exactly() {
        assert_eq!(size("8MiB"), Some(8 << 20));
        assert_eq!(size("1 MB"), Some(1_000_000));
        assert_eq!(size("8 apples"), None);
        assert_eq!(size("99999999999GiB"), None);
        assert_eq!(ports("80"), Some((80, 80)));
        assert_eq!(ports("8000-8999"), Some((8000, 8999)));
        assert_eq!(ports("90-80"), None);
        assert_eq!(ports("0"), None);
    }
}
