//! Times of the API: RFC 3339 text to nanoseconds since the Unix epoch, and back.

const DAY: i64 = 86_400;
const NANOS: u64 = 1_000_000_000;

/// `None` for what is no time, and for times before 1970 (the API's zero time is in the year 1).
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let mut fields = date.splitn(3, '-');
    let year = number(fields.next()?, 4)?;
    let month = number(fields.next()?, 2).filter(|month| (1..=12).contains(month))?;
    let day = number(fields.next()?, 2).filter(|day| (1..=31).contains(day))?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at_checked(zone_at)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut fields = clock.splitn(3, ':');
    let hour = number(fields.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = number(fields.next()?, 2).filter(|minute| *minute < 60)?;
    let second = number(fields.next()?, 2).filter(|second| *second <= 60)?;
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset(zone)?;
    let nanos = nanoseconds(fraction)?;
    u64::try_from(seconds)
        .ok()?
        .checked_mul(NANOS)?
        .checked_add(nanos)
}

/// To the second, in UTC, as the API server writes it.
pub(crate) fn format(nanos: u64) -> String {
    let seconds = nanos / NANOS;
    let (of_day, days) = (seconds % 86_400, seconds / 86_400);
    let (year, month, day) = date(i64::try_from(days).unwrap_or(0));
    let (hour, minute, second) = (of_day / 3600, of_day % 3600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (number(hours, 2)? * 3600 + number(minutes, 2)? * 60))
}

fn nanoseconds(fraction: &str) -> Option<u64> {
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. Years are counted from March, so that the leap day is
/// the last of them; 719 468 days lie between the first of March of year 0 and the epoch.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

fn date(days: i64) -> (i64, i64, i64) {
    // At most one year off, as no year has more than 366 days or fewer than 365.25 on average.
    let mut year = 1970 + days / 366;
    while self::days(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 12;
    while self::days(year, month, 1) > days {
        month -= 1;
    }
    (year, month, days - self::days(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_date_prints_them() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2025-11-23T10:00:00Z", 1_763_892_000),
            ("2025-11-23T11:00:00+01:00", 1_763_892_000),
            ("2026-12-31T23:59:59Z", 1_798_761_599),
            ("2024-03-01T00:00:00-00:30", 1_709_253_000),
        ] {
            assert_eq!(parse(text), Some(seconds * NANOS), "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00:01.25Z"), Some(1_250_000_000));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "0001-01-01T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-11-23",
            "2025-11-23T10:00:00",
            "2025-11-23T10:00:00.xZ",
            "2025-11-23T10:00:00+é1:00",
            "99999-11-23T10:00:00Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_is_written_as_it_was_read() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2024-02-29T23:59:59Z",
            "2025-12-31T00:00:00Z",
            "2100-03-01T00:00:00Z",
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Some(text));
        }
    }
}
